"""What the outbox writes into ``events.db``, row by row, inside its caller's transaction."""

import hashlib
import secrets
import sqlite3
from dataclasses import dataclass
from typing import cast

from c2rec.runtime.events.batches import (
    MAX_CONTENT,
    MAX_EVENTS,
    Epoch,
    Reason,
    batch_key,
    write_batch,
)
from c2rec.runtime.events.carve import row_checksum
from c2rec.runtime.events.events import KINDS, Kind, record_line
from c2rec.runtime.events.outbox_file import DamageError
from c2rec.runtime.home.identity import Identity

GIVE_WAY: tuple[Kind, ...] = ("shown", "dismissed", "tapped")
"""What is dropped when room is needed, first to last, never for an event that comes before it
here. A purchase never is."""
ROW_OVERHEAD = 64
"""Bytes that a row takes besides its body."""
SIZE = f"length(CAST(body AS BLOB)) + {ROW_OVERHEAD}"
"""Bytes that a row of ``events`` counts for, in SQL."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """A batch that waits to be sent; its bytes never change."""

    number: int
    """Its row."""
    key: str
    """Where it goes, see ``batches.batch_key``."""
    content: bytes
    sha256: str
    """Of ``content``."""
    count: int
    """Events in it."""


@dataclass(frozen=True, slots=True)
class State:
    """The row of ``outbox``."""

    epoch: Epoch
    next: int
    covered: int
    arrived: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """How sending goes; times in seconds since 1970."""

    failures: int
    """Failed attempts since the last success."""
    not_before: float
    """When to try again."""
    error: str | None
    """How the last attempt failed, if it did."""
    sent_at: float | None
    """When a batch arrived last."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What erasing customers did."""

    events: int
    """Events that lost their customer; they are still sent."""
    batches: int
    """Frozen batches that were made anew."""
    set_aside: int
    """Damaged files set aside earlier that were deleted."""


def read_state(db: sqlite3.Connection) -> State:
    """Read where the outbox stands.

    Raises:
        DamageError: that can't be so.
    """
    name, reason, previous, previous_arrived, *numbers = db.execute(
        "SELECT epoch, reason, previous, previous_arrived, next, covered, arrived, bytes"
        " FROM outbox"
    ).fetchone()
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise DamageError("the row of outbox is not what was written")
    epoch = Epoch(name=name, reason=reason, previous=previous, previous_arrived=previous_arrived)
    return State(epoch, *numbers)


def insert_epoch(
    db: sqlite3.Connection,
    identity: Identity,
    reason: Reason,
    *,
    previous: str | None = None,
    previous_arrived: int | None = None,
    waiting: int = 0,
    size: int = 0,
) -> None:
    """Write the row of ``outbox``, which must not be there.

    Args:
        db: the file.
        identity: whose it is.
        reason: why the epoch begins.
        previous: the epoch before, if known.
        previous_arrived: how many events of it arrived, if known.
        waiting: events that are there already, numbered from 1.
        size: their bytes.
    """
    db.execute(
        "INSERT INTO outbox VALUES (1, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?)",
        [
            *(identity.store, identity.device, secrets.token_hex(16), reason),
            *(previous, previous_arrived, waiting + 1, size),
        ],
    )


def begin_epoch(db: sqlite3.Connection, identity: Identity, reason: Reason) -> None:
    """Begin an epoch, into which all that waits goes, in no batch and numbered from 1."""
    (size,) = db.execute("SELECT bytes FROM outbox").fetchone()
    previous, arrived = last_sent(db)
    db.execute("DELETE FROM batches")
    waiting = db.execute(
        "UPDATE events SET batch = NULL, sequence = place FROM"
        " (SELECT id AS old, row_number() OVER (ORDER BY id) AS place FROM events) WHERE id = old"
    ).rowcount
    db.execute("DELETE FROM counters WHERE name LIKE 'epoch dropped %'")
    db.execute("DELETE FROM outbox")
    insert_epoch(
        db,
        identity,
        reason,
        previous=previous,
        previous_arrived=arrived,
        waiting=waiting,
        size=size,
    )


def last_sent(db: sqlite3.Connection) -> tuple[str | None, int | None]:
    """The last epoch that head office may have heard of, and how many events of it arrived.

    An epoch of which nothing was frozen is known to nobody: the one before it comes in its place,
    or head office would wait for ever for what that one left behind.
    """
    columns = "epoch, arrived, covered, previous, previous_arrived"
    epoch, arrived, covered, *before = db.execute(f"SELECT {columns} FROM outbox").fetchone()  # noqa: S608 - a constant
    return (epoch, arrived) if covered or before[0] is None else (before[0], before[1])


def insert_event(
    db: sqlite3.Connection, customer: str | None, kind: str, body: str, sequence: int
) -> None:
    """Write an event."""
    db.execute(
        "INSERT INTO events (customer, kind, body, crc, sequence) VALUES (?, ?, ?, ?, ?)",
        [customer, kind, body, row_checksum(customer, body), sequence],
    )


def make_room(db: sqlite3.Connection, kind: Kind, excess: int) -> bool:
    """Drop events of no more worth than one of this kind, until so many bytes are free.

    Returns:
        Whether that could be; where not, the caller rolls back.
    """
    last = len(GIVE_WAY) if kind == "bought" else GIVE_WAY.index(kind) + 1
    query = f"SELECT id, {SIZE} FROM events WHERE kind = ? AND batch IS NULL ORDER BY id"  # noqa: S608 - a constant
    for victim in GIVE_WAY[:last]:
        doomed = []
        for row_id, size in db.execute(query, [victim]):
            doomed.append([row_id])
            excess -= size
            db.execute("UPDATE outbox SET bytes = bytes - ?", [size])
            if excess <= 0:
                break
        db.executemany("DELETE FROM events WHERE id = ?", doomed)
        count(db, f"dropped {victim}", len(doomed))
        if excess <= 0:
            return True
    return False


def freeze_rows(db: sqlite3.Connection, identity: Identity, made_at: str) -> Frozen | None:
    """Make a batch of the events that waited longest and are in none; None: there are none.

    Raises:
        DamageError: an event is not what was recorded.
    """
    rows = _take(db)
    if not rows:
        return None
    state = read_state(db)
    first, last = state.covered + 1, rows[-1][4]
    key = batch_key(identity.store, identity.device, state.epoch.name, first, last)
    content = write_batch(
        identity.store,
        identity.device,
        state.epoch,
        first=first,
        last=last,
        lines=[record_line(body, who, sequence) for _, who, body, _, sequence in rows],
        dropped=_dropped(db),
        made_at=made_at,
        device_key=identity.device_key,
    )
    sha256 = hashlib.sha256(content).hexdigest()
    number = db.execute(
        "INSERT INTO batches (key, sha256, content, count, first_id, last_id, state)"
        " VALUES (?, ?, ?, ?, ?, ?, 'ready')",
        [key, sha256, content, len(rows), rows[0][0], rows[-1][0]],
    ).lastrowid
    db.execute(
        "UPDATE events SET batch = ? WHERE id BETWEEN ? AND ? AND batch IS NULL",
        [number, rows[0][0], rows[-1][0]],
    )
    db.execute("UPDATE outbox SET covered = ?", [last])
    return Frozen(cast("int", number), key, content, sha256, len(rows))


def count(db: sqlite3.Connection, name: str, by: int) -> None:
    """Add to a counter; what was dropped is counted for the epoch as well."""
    names = [name, f"epoch {name}"] if name.startswith("dropped ") else [name]
    for each in names if by else []:
        db.execute(
            "INSERT INTO counters VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            [each, by],
        )


def _take(db: sqlite3.Connection) -> list[tuple[int, str | None, str, int, int]]:
    """Read the events of the next batch: id, customer, body, checksum and sequence."""
    rows, size = [], 0
    query = "SELECT id, customer, body, crc, sequence FROM events WHERE batch IS NULL ORDER BY id"
    for row in db.execute(f"{query} LIMIT {MAX_EVENTS}"):
        if row_checksum(row[1], row[2]) != row[3]:
            raise DamageError(f"the event in row {row[0]} is not what was recorded")
        rows.append(row)
        size += len(row[2].encode())
        if size >= MAX_CONTENT:
            break
    return rows


def _dropped(db: sqlite3.Connection) -> dict[Kind, int]:
    """How many events of this epoch were dropped, by kind."""
    query = "SELECT name, value FROM counters WHERE name LIKE 'epoch dropped %'"
    counts = {name.removeprefix("epoch dropped "): value for name, value in db.execute(query)}
    return {kind: counts[kind] for kind in KINDS if kind in counts}
