"""Batches of events: how one is written, named and proved to come from its kiosk.

A batch is lines of UTF-8. The first is a header, a JSON object whose last field is the
HMAC-SHA256, by the kiosk's device key, of all before it; it has the sha256 of the other lines, each
of which is an event. A batch covers the sequences ``first`` to ``last`` of an epoch, whether it
holds them all or some were dropped for want of room: what no batch covers is lost.

An epoch is one life of one outbox. A new one begins where the old can't be trusted to be told
apart: its file was damaged, or under a batch's name lay another content already.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from c2rec.runtime.errors import EventError
from c2rec.runtime.events.events import KINDS, Kind, Record, is_hex, moment, parse_record
from c2rec.runtime.home.identity import path_part

FORMAT = 1
MAX_EVENTS = 500
"""Events of one batch."""
MAX_CONTENT = 1 << 18
"""Bytes at which a batch is closed; one event more may be in it."""
LONGEST = MAX_CONTENT + (1 << 16)
"""Bytes of a batch that head office reads."""
_MAC_TEXT = b"c2rec events\n"
_SIGNED = re.compile(rb'(\{.*),"hmac":"([0-9a-f]{64})"\}', re.DOTALL)
_MAX_HEADER = 1 << 14

Reason: TypeAlias = Literal["first", "damaged", "conflict", "moved", "erasure"]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""Why an epoch began: with the outbox itself; its file was damaged; another content lay under a
batch's name; the kiosk got another identity; a customer was erased from a frozen batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One life of one outbox."""

    name: str
    """32 hex digits, random."""
    reason: Reason
    previous: str | None
    """The epoch before it, where that is known."""
    previous_arrived: int | None
    """How many events of the epoch before are known to have arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """First line of a batch."""

    store: str
    device: str
    epoch: Epoch
    first: int
    last: int
    count: int
    """Events in it."""
    dropped: dict[Kind, int]
    """How many were dropped in this epoch so far, in this and earlier batches."""
    made_at: int
    """When it was frozen, milliseconds since 1970, by the kiosk's clock."""
    sha256: str
    """Of the other lines."""

    @property
    def key(self) -> str:
        """Where it goes."""
        return batch_key(self.store, self.device, self.epoch.name, self.first, self.last)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that was proved and read."""

    header: Header
    records: tuple[Record, ...]


def batch_key(store: str, device: str, epoch: str, first: int, last: int) -> str:
    """Name a batch, a path of parts that lead nowhere else."""
    return f"events/{path_part(store)}/{path_part(device)}/{epoch}/{first}-{last}"


def write_batch(
    store: str,
    device: str,
    epoch: Epoch,
    *,
    first: int,
    lines: Sequence[bytes],
    last: int,
    dropped: dict[Kind, int],
    made_at: str,
    device_key: bytes,
) -> bytes:
    """Write a batch.

    Args:
        store: of the kiosk, with its ``device`` and ``device_key``.
        device: the kiosk's name.
        epoch: whose sequences it covers.
        first: the first of them.
        lines: its events, each a line.
        last: the last sequence covered.
        dropped: how many events of the epoch were dropped so far.
        made_at: when, as ``events.moment_text`` writes it.
        device_key: 32 bytes.
    """
    rest = b"".join(lines)
    fields = {
        "format": FORMAT,
        "store": store,
        "device": device,
        "epoch": epoch.name,
        "reason": epoch.reason,
        "previous": epoch.previous,
        "previous_arrived": epoch.previous_arrived,
        "first": first,
        "last": last,
        "count": len(lines),
        "dropped": dropped,
        "made_at": made_at,
        "sha256": hashlib.sha256(rest).hexdigest(),
    }
    signed = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()[:-1]
    mac = hmac.digest(device_key, _MAC_TEXT + signed, hashlib.sha256).hex()
    return signed + f',"hmac":"{mac}"}}\n'.encode() + rest


def claimed_kiosk(content: bytes) -> tuple[str, str]:
    """Read who says to have written a batch: store and device, to find the key that proves it.

    Raises:
        EventError: it is no batch.
    """
    fields = _header_fields(content)
    return _text(fields, "store"), _text(fields, "device")


def parse_batch(content: bytes, device_key: bytes) -> Batch:
    """Prove and read a batch.

    Raises:
        EventError: it was not written with this key, is damaged, or says what can't be.
    """
    header = parse_header(content, device_key)
    rest = content.split(b"\n", 1)[1]
    if hashlib.sha256(rest).hexdigest() != header.sha256:
        raise EventError("its events are not what the header says; it was cut off or altered")
    lines = rest.split(b"\n")
    if lines.pop() != b"" or len(lines) != header.count:
        raise EventError(f"it has {len(lines)} events; its header says {header.count}")
    records = []
    for number, line in enumerate(lines, start=2):
        try:
            records.append(parse_record(line))
        except EventError as error:
            raise EventError(f"line {number}: {error}") from error
    _check_records(header, records)
    return Batch(header, tuple(records))


def parse_header(content: bytes, device_key: bytes) -> Header:
    """Prove and read a batch's first line.

    Raises:
        EventError: it is no batch, was not written with this key, or says what can't be.
    """
    fields = _header_fields(content)
    signed = _SIGNED.fullmatch(content.split(b"\n", 1)[0])
    if signed is None:
        raise EventError("its header doesn't end with an HMAC of 64 hex digits")
    mac = hmac.digest(device_key, _MAC_TEXT + signed[1], hashlib.sha256).hex()
    if not hmac.compare_digest(mac, signed[2].decode()):
        raise EventError("its HMAC is wrong: it was altered, or written with another kiosk's key")
    numbers = {
        name: _integer(fields, name, low, high)
        for name, low, high in (
            ("first", 1, 1 << 53),
            ("last", 1, 1 << 53),
            ("count", 1, MAX_EVENTS),
        )
    }
    if numbers["last"] - numbers["first"] + 1 < numbers["count"]:
        raise EventError("it has more events than sequences from first to last")
    for name, length in (("epoch", 32), ("sha256", 64)):
        if not is_hex(fields.get(name), length):
            raise EventError(
                f"its {name} is {fields.get(name)!r:.80}; allowed: {length} hex digits"
            )
    dropped = fields.get("dropped")
    if not isinstance(dropped, dict) or not set(dropped) <= set(KINDS):
        raise EventError(f"its dropped is {dropped!r:.80}; allowed: kinds with counts")
    return Header(
        store=_text(fields, "store"),
        device=_text(fields, "device"),
        epoch=_epoch(fields),
        dropped={kind: _integer(dropped, kind, 0, 1 << 53) for kind in dropped},
        made_at=moment(fields.get("made_at")),
        sha256=fields["sha256"],
        **numbers,
    )


def _header_fields(content: bytes) -> dict[str, Any]:
    if len(content) > LONGEST:
        raise EventError(f"it has {len(content)} bytes; allowed: {LONGEST}")
    end = content.find(b"\n", 0, _MAX_HEADER)
    if end < 0:
        raise EventError("it is no batch: its first line is no header")
    try:
        fields = json.loads(content[:end])
    except (ValueError, RecursionError) as error:
        raise EventError(f"its header is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise EventError("its header is no JSON object")
    if fields.get("format") != FORMAT:
        found = fields.get("format")
        raise EventError(f"its format is {found!r:.20}; this version reads {FORMAT}; upgrade it")
    return fields


def _epoch(fields: dict[str, Any]) -> Epoch:
    if fields.get("reason") not in REASONS:
        raise EventError(f"its reason is {fields.get('reason')!r:.80}; allowed: {REASONS}")
    previous, last = fields.get("previous"), fields.get("previous_arrived")
    if previous is not None and not is_hex(previous, 32):
        raise EventError(f"its previous is {previous!r:.80}; allowed: 32 hex digits or null")
    if last is not None:
        last = _integer(fields, "previous_arrived", 0, 1 << 53)
    return Epoch(
        name=fields["epoch"], reason=fields["reason"], previous=previous, previous_arrived=last
    )


def _check_records(header: Header, records: Sequence[Record]) -> None:
    sequence = header.first - 1
    for record in records:
        if not sequence < record.sequence <= header.last:
            raise EventError(f"its sequences don't ascend from {header.first} to {header.last}")
        sequence, stamp = record.sequence, record.stamp
        moved = (stamp.store, stamp.device) != (header.store, header.device)
        # what waited when the kiosk got another identity may go into any later epoch
        if moved and header.epoch.reason == "first":
            raise EventError(
                f"event {stamp.event_id} was recorded as {stamp.store}/{stamp.device}, "
                f"and the batch is of {header.store}/{header.device}"
            )
    if sequence != header.last:
        raise EventError(f"its last event has sequence {sequence}; its header says {header.last}")


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= 100 or not value.isprintable():
        raise EventError(f"its {name} is {value!r:.80}; allowed: 1 to 100 printable characters")
    return value


def _integer(fields: dict[str, Any], name: str, low: int, high: int) -> int:
    value = fields.get(name)
    if type(value) is not int or not low <= value <= high:
        raise EventError(f"its {name} is {value!r:.80}; allowed: a whole number {low} to {high}")
    return value
