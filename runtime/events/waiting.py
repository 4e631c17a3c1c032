"""What waits in the outbox, counted: for the command ``queue``, and for who watches kiosks."""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from c2rec.runtime.errors import HomeError
from c2rec.runtime.events.events import KINDS, moment
from c2rec.runtime.events.outbox import QUOTA, Outbox
from c2rec.runtime.events.outbox_file import OutboxFile, events_path, has_wal_bug
from c2rec.runtime.events.outbox_rows import read_state
from c2rec.runtime.home.disk import home_errors


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A batch that head office refuses for good."""

    key: str
    events: int
    reason: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A batch under whose name lay another content: a restored disk, or a copy of this kiosk."""

    key: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits in an outbox."""

    epoch: str
    reason: str
    """Why the epoch began, see ``batches.REASONS``."""
    kinds: dict[str, dict[str, int]]
    """Events by kind and state: ``new``, ``frozen`` or ``dead``."""
    oldest: int | None
    """When the oldest event that waits was recorded, milliseconds since 1970."""
    bytes: int
    quota: int
    dead: tuple[DeadLetter, ...]
    conflicts: tuple[Conflict, ...]
    dropped: dict[str, int]
    """Events dropped for want of room, by kind, ever."""
    refused: dict[str, int]
    """Events that were not recorded for want of room, by kind, ever."""
    recorded: int
    """Events ever recorded in this file."""
    sent: int
    """Events that ever arrived from this file."""
    recovered: int
    """Events taken out of a damaged file."""
    set_aside: int
    """Damaged files that are kept."""
    failures: int
    """Failed attempts since the last success."""
    error: str | None
    """What the last failed attempt ended with."""
    sent_at: float | None
    """When a batch arrived last, seconds since 1970."""
    sqlite: str
    wal_bug: bool
    """Whether this SQLite may damage a file that is used without the outbox's lock."""

    @property
    def events(self) -> int:
        """How many events wait, dead letters included."""
        return sum(sum(states.values()) for states in self.kinds.values())


def count_waiting(outbox: Outbox) -> Waiting:
    """Count what waits.

    Raises:
        HomeError: the outbox can't be read.
    """
    return outbox.work(lambda db: _count(db, outbox.quota, outbox.aside()))


def peek(home: Path) -> Waiting | None:
    """Count what waits without writing anything, lock included; None where there is no outbox.

    A connection that only reads runs no checkpoint, so it needs no lock (``outbox_file.py``). Where
    there is no log, nobody has the file open, and not even a log's empty files are made.

    Raises:
        HomeError: the file can't be read, or is damaged.
    """
    path = events_path(home)
    if not path.exists():
        return None
    in_use = path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'' if in_use else '&immutable=1'}"
    with home_errors(f"can't read {path}"):
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=2)) as db:
                db.execute("BEGIN")  # all of one moment
                return _count(db, QUOTA, OutboxFile(home).aside())
        except (TypeError, ValueError, KeyError) as error:
            raise HomeError(f"{path} is damaged: {error}") from error


def _count(db: sqlite3.Connection, quota: int, aside: list[Path]) -> Waiting:
    state = read_state(db)
    counters = dict(db.execute("SELECT name, value FROM counters").fetchall())
    rows = db.execute(
        "SELECT kind, coalesce(state, 'new'), count(*) FROM events"
        " LEFT JOIN batches ON batches.id = batch GROUP BY 1, 2"
    ).fetchall()
    names = {"new": "new", "ready": "frozen", "dead": "dead"}
    kinds: dict[str, dict[str, int]] = {k: dict.fromkeys(names.values(), 0) for k in KINDS}
    for kind, found, number in rows:
        kinds[kind][names[found]] += number
    first = db.execute("SELECT body FROM events ORDER BY id LIMIT 1").fetchone()
    dead = "SELECT key, count, reason FROM batches WHERE state = 'dead' ORDER BY id"
    delivery = db.execute("SELECT failures, error, sent_at FROM delivery").fetchone()
    failures, error, sent_at = delivery
    return Waiting(
        epoch=state.epoch.name,
        reason=state.epoch.reason,
        kinds=kinds,
        oldest=None if first is None else moment(json.loads(first[0])["at"]),
        bytes=state.bytes,
        quota=quota,
        dead=tuple(DeadLetter(*row) for row in db.execute(dead)),
        conflicts=tuple(
            Conflict(*row) for row in db.execute("SELECT key, at FROM conflicts ORDER BY rowid")
        ),
        dropped=_by_kind(counters, "dropped "),
        refused=_by_kind(counters, "refused "),
        recorded=counters.get("recorded", 0),
        sent=counters.get("sent", 0),
        recovered=counters.get("recovered", 0),
        set_aside=sum(path.suffix == ".db" for path in aside),
        failures=failures,
        error=error,
        sent_at=sent_at,
        sqlite=sqlite3.sqlite_version,
        wal_bug=has_wal_bug(),
    )


def _by_kind(counters: dict[str, int], prefix: str) -> dict[str, int]:
    return {kind: counters[prefix + kind] for kind in KINDS if prefix + kind in counters}
