"""Events of a kiosk: what was shown, tapped, bought or dismissed, and how one is written.

An event on the wire is a JSON object in one line. Its id, random and given once, is what makes it
count once, however often and in whatever batch it arrives. Whoever makes an ``Event`` has it
checked, so that the same rules hold at the kiosk and at head office, where it is outside input.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from c2rec.runtime.errors import EventError
from c2rec.runtime.records import CHANNELS, TIERS, Channel, Tier

if TYPE_CHECKING:
    from c2rec.runtime.answer import Answer

Kind: TypeAlias = Literal["shown", "tapped", "bought", "dismissed"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_ITEMS = 200
"""Items that one event may have."""
MAX_BYTES = 1 << 15
"""Of one event as a line of UTF-8."""
MAX_QUANTITY = 10_000
MAX_PRICE = 1e7
_ID_LENGTH = 256
_NAME_LENGTH = 100
_NAMED = ("session", "release", "tier", "path", "arm", "model")
_HEX = frozenset("0123456789abcdef")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 4_102_444_800_000
"""2100, in milliseconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventItem:
    """One item of an event; making one checks every field.

    Raises:
        EventError: a field can't be so.
    """

    item: str
    """Its id: 1 to 256 characters, as in the transactions."""
    position: int | None = None
    """Where it was shown, 1 is first."""
    quantity: int | None = None
    """How many were bought; of a purchase alone."""
    price: float | None = None
    """Of one, in the retailer's currency; of a purchase alone."""

    def __post_init__(self) -> None:
        if not _is_id(self.item):
            raise _refused(
                "item",
                self.item,
                f"text of 1 to {_ID_LENGTH} characters, without control characters or spaces "
                "around it",
            )
        _check_integer("position", self.position, 1, 1000)
        _check_integer("quantity", self.quantity, 1, MAX_QUANTITY)
        if self.price is not None and not _is_price(self.price):
            raise _refused("price", self.price, f"a number from 0 to {MAX_PRICE:.0f}, or nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened at a kiosk; making one checks every field.

    Raises:
        EventError: a field can't be so; the message names it, its value and what is allowed.
    """

    kind: Kind
    items: tuple[EventItem, ...]
    """One to ``MAX_ITEMS``, in the order shown or scanned."""
    channel: Channel = "offline"
    customer: str | None = None
    """A pseudonym, 32 hex digits, see ``identity.pseudonym``; never the id."""
    session: str | None = None
    """One visit's own name, so that what was shown can be matched with what was bought."""
    release: str | None = None
    """What answered."""
    tier: Tier | None = None
    """Which tier of the release answered."""
    path: str | None = None
    """Which path answered: the release alone, or joined with online scores in some way."""
    arm: str | None = None
    """Arm of an experiment, as ``experiment/arm``."""
    model: str | None = None
    """Which model of the release ranked; None where none did."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise _refused("kind", self.kind, " | ".join(KINDS))
        if not 1 <= len(self.items) <= MAX_ITEMS:
            raise _refused("number of items", len(self.items), f"1 to {MAX_ITEMS}")
        if self.channel not in CHANNELS:
            raise _refused("channel", self.channel, " | ".join(CHANNELS))
        if self.customer is not None and not is_hex(self.customer, 32):
            # perhaps an id: no message tells it
            raise EventError("customer is no pseudonym; allowed: 32 hex digits, or nothing")
        if self.tier is not None and self.tier not in TIERS:
            raise _refused("tier", self.tier, " | ".join(TIERS))
        for name in ("session", "release", "path", "arm", "model"):
            value = getattr(self, name)
            if value is not None and not _is_name(value):
                raise _refused(name, value, f"1 to {_NAME_LENGTH} printable characters, or nothing")
        if self.kind != "bought":
            for each in self.items:
                if each.quantity is not None or each.price is not None:
                    raise EventError(
                        f"item {each.item!r:.90} of an event '{self.kind}' has a quantity or a "
                        "price; allowed: with 'bought' alone"
                    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Where and when an event was recorded; the outbox makes it.

    Raises:
        EventError: a field can't be so.
    """

    event_id: str
    """32 hex digits, random: no other event ever has it."""
    store: str
    device: str
    boot: str
    """The kiosk's start during which it was recorded, 32 hex digits."""
    at: int
    """Milliseconds since 1970, UTC, by the kiosk's clock."""
    clock: int
    """Milliseconds since the kiosk started, by the clock that nobody sets."""

    def __post_init__(self) -> None:
        for name in ("event_id", "boot"):
            if not is_hex(getattr(self, name), 32):
                raise _refused(name, getattr(self, name), "32 hex digits")
        for name in ("store", "device"):
            if not _is_name(getattr(self, name)):
                raise _refused(
                    name, getattr(self, name), f"1 to {_NAME_LENGTH} printable characters"
                )
        _check_integer("clock", self.clock, 0, 1 << 53)
        if self.clock is None:
            raise _refused("clock", None, "milliseconds")


@dataclass(frozen=True, slots=True)
class Record:
    """An event as it was recorded."""

    event: Event
    stamp: Stamp
    sequence: int
    """Its number in the epoch, from 1."""


def event_body(event: Event, stamp: Stamp) -> str:
    """Write all of an event but its customer and sequence: these may change until it is sent.

    Raises:
        EventError: it is larger than ``MAX_BYTES``, or has text that is no Unicode.
    """
    items = [
        {
            k: v
            for k in ("item", "position", "quantity", "price")
            if (v := getattr(i, k)) is not None
        }
        for i in event.items
    ]
    named = {n: getattr(event, n) for n in _NAMED}
    document = {
        "id": stamp.event_id,
        "kind": event.kind,
        "at": moment_text(stamp.at),
        "clock": stamp.clock,
        "boot": stamp.boot,
        "store": stamp.store,
        "device": stamp.device,
        "channel": event.channel,
        **{name: value for name, value in named.items() if value is not None},
        "items": items,
    }
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        size = len(body.encode())
    except UnicodeEncodeError as error:
        raise EventError(f"an event has text that is no Unicode: {error}") from error
    if size > MAX_BYTES - 100:  # room for customer and sequence
        raise EventError(f"an event has {size} bytes; allowed: {MAX_BYTES - 100}; give fewer items")
    return body


def record_line(body: str, customer: str | None, sequence: int) -> bytes:
    """Write an event's line of a batch."""
    who = "null" if customer is None else f'"{customer}"'
    return f'{{"sequence":{sequence},"customer":{who},{body[1:]}\n'.encode()


def parse_record(line: bytes) -> Record:
    """Read an event's line of a batch; fields that this version doesn't know are left.

    Raises:
        EventError: it is no event.
    """
    if len(line) > MAX_BYTES:
        raise EventError(f"an event has {len(line)} bytes; allowed: {MAX_BYTES}")
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EventError(f"an event is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise EventError("an event is no JSON object")
    given = found.get("items")
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise _refused("items", given, "a list of objects")
    sequence = found.get("sequence")
    if type(sequence) is not int or not 1 <= sequence < 1 << 53:
        raise _refused("sequence", sequence, "a whole number from 1")
    return Record(
        Event(
            kind=found.get("kind"),  # type: ignore[arg-type] # checked by Event, as all of these
            items=tuple(_item(each) for each in given),
            channel=found.get("channel"),  # type: ignore[arg-type]
            customer=found.get("customer"),
            session=found.get("session"),
            release=found.get("release"),
            tier=found.get("tier"),
            path=found.get("path"),
            arm=found.get("arm"),
            model=found.get("model"),
        ),
        Stamp(
            event_id=found.get("id"),  # type: ignore[arg-type]
            store=found.get("store"),  # type: ignore[arg-type]
            device=found.get("device"),  # type: ignore[arg-type]
            boot=found.get("boot"),  # type: ignore[arg-type]
            at=moment(found.get("at")),
            clock=found.get("clock"),  # type: ignore[arg-type]
        ),
        sequence,
    )


def shown_event(
    answer: "Answer",
    *,
    customer: str | None = None,
    session: str | None = None,
) -> Event:
    """Make the event that says an answer was shown, with the arm that the answer has.

    Args:
        answer: what the kiosk answered; of more than ``MAX_ITEMS`` items, the first.
        customer: the pseudonym of whom it was for, where that is known.
        session: the visit.

    Raises:
        EventError: the answer has no items, or an argument can't be so.
    """
    return Event(
        kind="shown",
        items=tuple(
            EventItem(item=each.item_id, position=position)
            for position, each in enumerate(answer.items[:MAX_ITEMS], start=1)
        ),
        channel=answer.channel,
        customer=customer,
        session=session,
        release=answer.release,
        tier=answer.tier,
        path=answer.path,
        arm=answer.arm,
        model=answer.model,
    )


def moment_text(at: int) -> str:
    """Write milliseconds since 1970 as ``2026-01-31T09:30:00.123Z``.

    Raises:
        EventError: it is before 1970 or after 2099.
    """
    if not 0 <= at < _LATEST:
        raise EventError(f"the clock says {at} ms since 1970; allowed: 1970 to 2099; set it")
    text = (_EPOCH + timedelta(milliseconds=at)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{at % 1000:03}Z"


def moment(text: object) -> int:
    """Read what ``moment_text`` wrote.

    Raises:
        EventError: it is something else.
    """
    try:
        found = datetime.fromisoformat(text)  # type: ignore[arg-type] # TypeError is caught
        at = (found - _EPOCH) // timedelta(milliseconds=1)
        if moment_text(at) == text:
            return at
    except (TypeError, ValueError, OverflowError):
        pass
    raise _refused("time", text, "a time in UTC, as in 2026-01-31T09:30:00.123Z")


def is_hex(value: object, digits: int) -> bool:
    """Whether a value is so many lower-case hex digits."""
    return isinstance(value, str) and len(value) == digits and set(value) <= _HEX


def _item(found: Mapping[str, Any]) -> EventItem:
    return EventItem(
        item=found.get("item"),  # type: ignore[arg-type] # checked by EventItem, as all of these
        position=found.get("position"),
        quantity=found.get("quantity"),
        price=found.get("price"),
    )


def _is_id(value: object) -> bool:
    if not isinstance(value, str) or not 1 <= len(value) <= _ID_LENGTH or value != value.strip():
        return False
    # C0, DEL and C1, as ``train.columns`` has it; half a surrogate pair is no text
    return not any(c < " " or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" for c in value)


def _is_price(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value <= MAX_PRICE  # NaN is refused here


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= _NAME_LENGTH and value.isprintable()


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    if value is not None and (type(value) is not int or not low <= value <= high):
        raise _refused(name, value, f"a whole number from {low} to {high}")


def _refused(name: str, value: object, allowed: str) -> EventError:
    text = repr(value)
    shown = text if len(text) <= 80 else text[:79] + "…"
    return EventError(f"{name} is {shown}; allowed: {allowed}")
