"""``OUT/collected.db``: every batch that head office has taken, and every event in it, once.

A batch is taken in one transaction with the note that its file was read, so that a run that was
cut off is gone on with by the next one. An event is known by its id: it may come in any number of
batches. Of two versions of one that differ in the customer alone, the one without counts, for the
customer was erased in between. Who is in ``erased`` is nobody in every event, whenever it comes.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database, Migrations

from c2rec.export.storage import Entry
from c2rec.runtime.errors import PublishError
from c2rec.runtime.events.batches import Batch
from c2rec.runtime.events.events import Record

COLLECTED = Migrations("c2rec-collected")


@COLLECTED()
def m001_collected(db: Database) -> None:
    """Files that were read, batches, and events.

    - ``files``: ``reason`` is null where the batch was taken, else why it was refused;
      ``contents`` counts the different contents seen under the name.
    - ``batches``: ``runs`` is JSON, ``[[boot, first clock, last clock], …]`` in the order of the
      sequences; ``backwards`` says that a clock went back in it; ``repeated`` events were known
      already, ``altered`` ones were known with another content.
    - ``events``: ``body`` is JSON of all of an event but what the other columns hold.
    """
    db.execute(
        "CREATE TABLE files (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL, modified REAL NOT NULL,"
        " sha256 TEXT NOT NULL, reason TEXT, contents INTEGER NOT NULL)"
    )
    db.execute(
        "CREATE TABLE batches (id INTEGER PRIMARY KEY, name TEXT NOT NULL, store TEXT NOT NULL,"
        " device TEXT NOT NULL, epoch TEXT NOT NULL, reason TEXT NOT NULL, previous TEXT,"
        " previous_arrived INTEGER, first INTEGER NOT NULL, last INTEGER NOT NULL,"
        " count INTEGER NOT NULL, dropped INTEGER NOT NULL, made_at INTEGER NOT NULL,"
        " arrived INTEGER NOT NULL, runs TEXT NOT NULL, backwards INTEGER NOT NULL,"
        " repeated INTEGER NOT NULL, altered INTEGER NOT NULL)"
    )
    db.execute(
        "CREATE TABLE events (event_id TEXT PRIMARY KEY, batch INTEGER NOT NULL,"
        " kind TEXT NOT NULL, at INTEGER NOT NULL, clock INTEGER NOT NULL, boot TEXT NOT NULL,"
        " store TEXT NOT NULL, device TEXT NOT NULL, customer TEXT, body TEXT NOT NULL)"
    )


@COLLECTED()
def m002_erased(db: Database) -> None:
    """Pseudonyms of customers who asked to be erased, as the repository lists them."""
    db.execute("CREATE TABLE erased (customer TEXT PRIMARY KEY) WITHOUT ROWID")


@dataclass(frozen=True, slots=True)
class Known:
    """A file that was read before."""

    bytes: int
    modified: float
    sha256: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Taken:
    """What a batch brought."""

    new: int
    repeated: int


def written_name(entry: Entry) -> str:
    """A file's name as it is kept and told: anybody may PUT one that is no text, or moves a cursor.

    No batch has a name that is written otherwise.
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in entry.name
    )


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Tell a database that can't be read or written now from one that is damaged.

    Raises:
        PublishError: it is one of the two.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise PublishError(
            f"{path} can't be read or written: {error}; free space on its disk, or look at it, "
            "and run the command again: nothing is lost"
        ) from error
    except sqlite3.DatabaseError as error:
        raise PublishError(
            f"{path} can't be used: {error}; restore it from a backup or, while the inbox "
            "still has every batch, move it away: all of them are read anew then"
        ) from error


class Collected:
    """The database.

    Args:
        path: the file; it is made where it isn't there.

    Raises:
        PublishError: it is damaged, no database, or can't be written.
    """

    def __init__(self, path: Path) -> None:
        with database_errors(path):
            self.db = sqlite3.connect(path, isolation_level=None)
            try:
                self.db.execute("PRAGMA journal_mode = DELETE")
                self.db.execute("PRAGMA synchronous = FULL")
                self.db.execute("PRAGMA secure_delete = ON")
                COLLECTED.apply(Database(self.db, execute_plugins=False))
            except BaseException:
                self.db.close()
                raise

    def close(self) -> None:
        """Close it."""
        self.db.close()

    def known(self) -> dict[str, Known]:
        """All files that were read before, by name as ``written_name`` has it."""
        query = "SELECT name, bytes, modified, sha256, reason FROM files"
        return {name: Known(*rest) for name, *rest in self.db.execute(query)}

    def note(self, entry: Entry, sha256: str, reason: str | None) -> None:
        """Note that a file was read."""
        self.db.execute(
            "INSERT INTO files VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT (name) DO UPDATE SET"
            " bytes = excluded.bytes, modified = excluded.modified, reason = excluded.reason,"
            " contents = contents + (files.reason IS NULL AND sha256 <> excluded.sha256),"
            " sha256 = excluded.sha256",
            [written_name(entry), entry.bytes, entry.modified.timestamp(), sha256, reason],
        )

    def erase(self, customers: Collection[str]) -> int:
        """Make customers nobody in what is here; the caller has begun a transaction.

        Args:
            customers: pseudonyms, 32 hex digits each, besides those that were erased before.

        Returns:
            How many events lost a name.
        """
        self.db.executemany(
            "INSERT OR IGNORE INTO erased VALUES (?)", ([each] for each in customers)
        )
        return self.db.execute(
            "UPDATE events SET customer = NULL WHERE customer IN (SELECT customer FROM erased)"
        ).rowcount

    def erased(self) -> frozenset[str]:
        """Pseudonyms of all who were erased."""
        return frozenset(each for (each,) in self.db.execute("SELECT customer FROM erased"))

    def take(self, name: str, batch: Batch, arrived: int) -> Taken:
        """Take a batch's events; the caller has begun a transaction.

        Args:
            name: of its file.
            batch: the batch, proved.
            arrived: when, milliseconds since 1970.
        """
        header, records = batch.header, batch.records
        before = self._bodies(records)
        repeated = altered = 0
        runs, backwards = _runs(records)
        number = self.db.execute(
            "INSERT INTO batches VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
            [
                *(name, header.store, header.device, header.epoch.name, header.epoch.reason),
                *(header.epoch.previous, header.epoch.previous_arrived, header.first, header.last),
                *(header.count, sum(header.dropped.values()), header.made_at, arrived),
                *(json.dumps(runs), backwards),
            ],
        ).lastrowid
        for record in records:
            event, stamp, body = record.event, record.stamp, _body(record)
            if stamp.event_id in before:
                repeated += 1
                altered += before[stamp.event_id] != body
                if event.customer is None and before[stamp.event_id] == body:
                    query = "UPDATE events SET customer = NULL WHERE event_id = ?"
                    self.db.execute(query, [stamp.event_id])
                continue
            before[stamp.event_id] = body
            self.db.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    *(stamp.event_id, number, event.kind, stamp.at, stamp.clock, stamp.boot),
                    *(stamp.store, stamp.device, event.customer, body),
                ],
            )
        self.db.execute(
            "UPDATE batches SET repeated = ?, altered = ? WHERE id = ?", [repeated, altered, number]
        )
        return Taken(len(records) - repeated, repeated)

    def _bodies(self, records: Sequence[Record]) -> dict[str, str]:
        """Bodies of those events that are known already."""
        query = "SELECT event_id, body FROM events WHERE event_id = ?"
        found = (self.db.execute(query, [record.stamp.event_id]).fetchone() for record in records)
        return {row[0]: row[1] for row in found if row is not None}


def _runs(records: Sequence[Record]) -> tuple[list[list[str | int]], bool]:
    """Sum up by which starts of the machine, one after the other, a batch was recorded."""
    runs, backwards = list[list[str | int]](), False
    for record in records:
        boot, clock = record.stamp.boot, record.stamp.clock
        if not runs or runs[-1][0] != boot:
            runs.append([boot, clock, clock])
        else:
            backwards |= clock < int(runs[-1][2])
            runs[-1][2] = clock
    return runs, backwards


def _body(record: Record) -> str:
    event = record.event
    fields: Mapping[str, object] = {
        "channel": event.channel,
        "session": event.session,
        "release": event.release,
        "tier": event.tier,
        "path": event.path,
        "arm": event.arm,
        # left out where there is none, so that events of earlier versions stay the same
        **({} if event.model is None else {"model": event.model}),
        "items": [[i.item, i.position, i.quantity, i.price] for i in event.items],
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
