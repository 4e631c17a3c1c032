"""The outbox: what happens at a kiosk waits in ``HOME/events.db`` until head office has it.

``record`` returns once the event is on disk. ``freeze`` makes a batch, whose bytes and name are
kept before anybody tries to send them, so that every attempt is the same. What head office has is
deleted in the transaction that notes it. A customer can be erased from what still waits.
"""

import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

from c2rec.runtime.erasure.tombstones import Tombstones, read_tombstones
from c2rec.runtime.errors import EventError
from c2rec.runtime.events.bought_file import forget_customers, note_bought
from c2rec.runtime.events.carve import carve, row_checksum
from c2rec.runtime.events.events import Event, Stamp, event_body, moment_text
from c2rec.runtime.events.outbox_file import DamageError, OutboxFile, is_damage, transaction
from c2rec.runtime.events.outbox_rows import (
    ROW_OVERHEAD,
    SIZE,
    Delivery,
    Erased,
    Frozen,
    begin_epoch,
    count,
    freeze_rows,
    insert_epoch,
    insert_event,
    last_sent,
    make_room,
    read_state,
)
from c2rec.runtime.home.boot import boot_clock, boot_id
from c2rec.runtime.home.disk import home_errors, sync_to_disk
from c2rec.runtime.home.identity import Identity
from c2rec.runtime.home.watch import Watch

QUOTA = 64 << 20
"""Bytes of events that may wait: some 200,000."""
T = TypeVar("T")


class Outbox:
    """The events of one kiosk that head office doesn't have yet.

    Threads may share one; processes open their own. Whatever is done, is done under a lock.

    Args:
        home: the kiosk's home folder.
        identity: who it is.
        quota: bytes of events that may wait.
        clock: seconds since 1970, for tests.

    Raises:
        HomeError: the file can't be used.
    """

    def __init__(
        self,
        home: Path,
        identity: Identity,
        *,
        quota: int = QUOTA,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.home, self.identity, self.quota = home, identity, quota
        self._clock = clock
        self._watch = Watch(home)
        self._erased: Tombstones | None = None
        self._file = OutboxFile(home)
        self.work(lambda _: None)

    def close(self) -> None:
        """Close files."""
        with self._file.locked():
            self._file.close()
        self._file.unlock()

    def record(self, event: Event) -> str:
        """Keep an event.

        Returns:
            Its id, once it is on disk.

        Raises:
            EventError: it is too large, the clock is not set, or the outbox is full of what may
                not be dropped for it.
            HomeError: it can't be written, as on a full disk; then it was not recorded.
        """
        # under the lock, or an erasure could end between the look and what is written
        return self.work(lambda db: self._record(db, self._nameless_where_erased(event)))

    def _nameless_where_erased(self, event: Event) -> Event:
        """Leave out who asked to be erased: a page may still have the customer open."""
        if event.customer is None:
            return event
        if self._watch.moved():
            self._erased = None
        if self._erased is None:
            self._erased = read_tombstones(self.home, self.identity)
        return replace(event, customer=None) if self._erased.covers(event.customer) else event

    def freeze(self) -> Frozen | None:
        """Make a batch of the events that waited longest and are in none; None: there are none.

        Raises:
            HomeError: it can't be written.
        """

        def make(db: sqlite3.Connection) -> Frozen | None:
            with transaction(db):
                return freeze_rows(db, self.identity, self._now())

        return self.work(make)

    def ready(self) -> list[tuple[int, int]]:
        """Tell which frozen batches are to be sent: number, and how often they were put off.

        Those put off least come first, of these the oldest.
        """
        query = "SELECT id, attempts FROM batches WHERE state = 'ready' ORDER BY attempts, id"
        return self.work(lambda db: db.execute(query).fetchall())

    def attempted(self, batch: Frozen) -> None:
        """Note that a batch was put off, so that others go first."""

        def mark(db: sqlite3.Connection) -> None:
            query = "UPDATE batches SET attempts = attempts + 1 WHERE id = ? AND sha256 = ?"
            db.execute(query, [batch.number, batch.sha256])

        self.work(mark)

    def frozen(self, number: int) -> Frozen | None:
        """Read a frozen batch; None where it is no more.

        Raises:
            HomeError: it can't be read.
        """

        def read(db: sqlite3.Connection) -> Frozen | None:
            query = "SELECT id, key, content, sha256, count FROM batches WHERE id = ?"
            row = db.execute(query, [number]).fetchone()
            if row is None:
                return None
            right = isinstance(row[2], bytes) and hashlib.sha256(row[2]).hexdigest() == row[3]
            if not right:
                raise DamageError(f"batch {row[1]} is not what was frozen")
            return Frozen(*row)

        return self.work(read)

    def arrived(self, batch: Frozen) -> None:
        """Note that head office has a batch, and delete its events.

        Raises:
            HomeError: that can't be written; the batch will be sent again.
        """

        def mark(db: sqlite3.Connection) -> None:
            with transaction(db):
                row = self._find(db, batch, "first_id, last_id, count")
                if row is not None:
                    first, last, events = row
                    inside = "WHERE id BETWEEN ? AND ? AND batch = ?"
                    where = [first, last, batch.number]
                    size = f"SELECT coalesce(sum({SIZE}), 0) FROM events {inside}"  # noqa: S608 - constants
                    freed = db.execute(size, where).fetchone()[0]
                    db.execute(f"DELETE FROM events {inside}", where)  # noqa: S608 - constants
                    db.execute("DELETE FROM batches WHERE id = ?", [batch.number])
                    db.execute(
                        "UPDATE outbox SET bytes = max(bytes - ?, 0), arrived = arrived + ?",
                        [freed, events],
                    )
                    count(db, "sent", events)
                db.execute(
                    "UPDATE delivery SET failures = 0, not_before = 0, error = NULL, sent_at = ?",
                    [self._clock()],
                )

        self.work(mark)

    def refused(self, batch: Frozen, reason: str) -> None:
        """Put a batch that head office refuses for good among the dead letters; it is kept."""

        def mark(db: sqlite3.Connection) -> None:
            with transaction(db):
                if self._find(db, batch, "id") is not None:
                    db.execute(
                        "UPDATE batches SET state = 'dead', reason = ? WHERE id = ?",
                        [reason[:500], batch.number],
                    )

        self.work(mark)

    def retry_dead(self) -> int:
        """Make all dead letters ready again; tells how many there were."""

        def mark(db: sqlite3.Connection) -> int:
            with transaction(db):
                query = "UPDATE batches SET state = 'ready', reason = NULL WHERE state = 'dead'"
                return db.execute(query).rowcount

        return self.work(mark)

    def conflict(self, batch: Frozen, theirs: str) -> None:
        """Note that another content lies under a batch's name, and begin a new epoch.

        The disk was restored from an old image, or another kiosk is a copy of this one. Its events
        are sent in a batch of the new epoch: head office knows by their ids which it has.

        Args:
            batch: the batch.
            theirs: sha256 of what lies there.
        """

        def mark(db: sqlite3.Connection) -> None:
            with transaction(db):
                if self._find(db, batch, "id") is not None:
                    row = [batch.key, batch.sha256, theirs, self._now()]
                    db.execute("INSERT INTO conflicts VALUES (?, ?, ?, ?)", row)
                    begin_epoch(db, self.identity, "conflict")

        self.work(mark)

    def postpone(self, seconds: float, error: str) -> None:
        """Note that an attempt failed, and that none is made for some time."""

        def mark(db: sqlite3.Connection) -> None:
            with transaction(db):
                db.execute(
                    "UPDATE delivery SET failures = failures + 1, not_before = ?, error = ?",
                    [self._clock() + seconds, error[:500]],
                )

        self.work(mark)

    def anonymise(
        self,
        pseudonyms: Collection[bytes],
        *,
        then: Callable[[], None] = lambda: None,
        add: Callable[[str, str, str], None] = lambda *_: None,
    ) -> Erased:
        """Take customers out of everything that waits; their purchases are still sent, as nobody's.

        What they bought here is forgotten (``bought_file.py``).

        Frozen batches that name one are made anew, in a new epoch and so under new names. None of
        their pseudonyms is in ``events.db`` or its log afterwards. Files set aside are deleted:
        what of them can be read is in ``events.db`` already.

        Args:
            pseudonyms: 16 bytes each, see ``identity.pseudonym``.
            then: called before anybody can record again.
            add: is told of a file that is written anew, before it is: name, old and new sha256.

        Raises:
            HomeError: it can't be done now, as on a full disk; do it again.
        """

        def do(db: sqlite3.Connection) -> Erased:
            names = {each.hex() for each in pseudonyms}
            done = self._anonymise(db, names)
            forget_customers(self.home, names, add)
            then()
            return done

        return self.work(do)

    def aside(self) -> list[Path]:
        """Damaged files that are kept, with their logs, oldest first."""
        return self._file.aside()

    def now(self) -> float:
        """Seconds since 1970, by this outbox's clock."""
        return self._clock()

    def delivery(self) -> Delivery:
        """Tell how sending goes."""
        query = "SELECT failures, not_before, error, sent_at FROM delivery"
        return self.work(lambda db: Delivery(*db.execute(query).fetchone()))

    def work(self, do: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the file, alone; where it is damaged, set it aside and do it anew.

        Raises:
            HomeError: it can't be read or written.
        """
        advice = "nothing more was recorded; free space, or look at the disk"
        with self._file.locked(), home_errors(f"can't use {self._file.path}", advice):
            try:
                return do(self._opened())
            except (sqlite3.Error, DamageError) as error:
                self._file.close()  # after an error of the disk, what it remembers may be wrong
                if not is_damage(error):
                    raise
            self._set_aside()
            return do(self._opened())

    def _opened(self) -> sqlite3.Connection:
        db = self._file.connection()
        row = db.execute("SELECT store, device FROM outbox").fetchone()
        if row is None:
            with transaction(db):
                insert_epoch(db, self.identity, "first")
        elif row != (self.identity.store, self.identity.device):
            with transaction(db):
                begin_epoch(db, self.identity, "moved")
        return db

    def _set_aside(self) -> None:
        """Begin a new file, and epoch, with what of the damaged one can be read."""
        path = self._file.path
        rows = carve(path, path.with_name(path.name + "-wal"))
        previous, arrived = self._last_known()  # after that: SQLite may empty the log

        def fill(db: sqlite3.Connection) -> None:
            with transaction(db):
                for sequence, row in enumerate(rows, start=1):
                    kind = json.loads(row.body)["kind"]
                    insert_event(db, row.customer, kind, row.body, sequence)
                size = sum(len(row.body.encode()) + ROW_OVERHEAD for row in rows)
                insert_epoch(
                    db,
                    self.identity,
                    "damaged",
                    previous=previous,
                    previous_arrived=arrived,
                    waiting=len(rows),
                    size=size,
                )
                count(db, "recovered", len(rows))

        self._file.replace(fill)

    def _last_known(self) -> tuple[str | None, int | None]:
        """The damaged file's epoch and how many events of it arrived, if they can be read."""
        try:
            row = last_sent(self._file.connection())
            if isinstance(row[0], str) and len(row[0]) == 32 and isinstance(row[1], int):
                return row[0], row[1]
        except (sqlite3.Error, DamageError, TypeError):
            pass
        finally:
            self._file.close()
        return None, None

    def _record(self, db: sqlite3.Connection, event: Event) -> str:
        stamp = Stamp(
            event_id=secrets.token_hex(16),
            store=self.identity.store,
            device=self.identity.device,
            boot=boot_id(),
            at=int(self._clock() * 1000),
            clock=boot_clock(),  # read under the lock, so that it ascends with the sequence
        )
        body = event_body(event, stamp)
        size = len(body.encode()) + ROW_OVERHEAD
        try:
            with transaction(db):
                state = read_state(db)
                excess = state.bytes + size - self.quota
                if excess > 0 and not make_room(db, event.kind, excess):
                    raise self._full(event.kind, state.bytes)
                insert_event(db, event.customer, event.kind, body, state.next)
                db.execute("UPDATE outbox SET next = next + 1, bytes = bytes + ?", [size])
                count(db, "recorded", 1)
        except EventError:
            count(db, f"refused {event.kind}", 1)
            raise
        with suppress(OSError):  # it is recorded: who hears otherwise does it again
            note_bought(self.home, event, stamp.at)
        return stamp.event_id

    def _full(self, kind: str, size: int) -> EventError:
        return EventError(
            f"an event '{kind}' was not recorded: {size} bytes wait, allowed are {self.quota}, and "
            "nothing of less worth is left to drop; let the kiosk reach head office: "
            "c2rec-kiosk queue --send"
        )

    def _find(self, db: sqlite3.Connection, batch: Frozen, columns: str) -> Sequence[int] | None:
        """Read columns of a batch; None where it is no more, or was made anew."""
        query = f"SELECT {columns} FROM batches WHERE id = ? AND sha256 = ?"  # noqa: S608 - ours
        found = db.execute(query, [batch.number, batch.sha256]).fetchone()
        return cast("Sequence[int] | None", found)

    def _now(self) -> str:
        return moment_text(int(self._clock() * 1000))

    def _anonymise(self, db: sqlite3.Connection, names: set[str]) -> Erased:
        with transaction(db):
            found = [
                (row_id, body, batch)
                for name in sorted(names)
                for row_id, body, batch in db.execute(
                    "SELECT id, body, batch FROM events WHERE customer = ?", [name]
                )
            ]
            batches = {batch for _, _, batch in found if batch is not None}
            for row_id, body, _ in found:
                crc = row_checksum(None, body)
                query = "UPDATE events SET customer = NULL, crc = ? WHERE id = ?"
                db.execute(query, [crc, row_id])
            if batches:
                begin_epoch(db, self.identity, "erasure")
            if found:
                count(db, "unwiped", 1)
        # rows are gone; now the bytes, also of an erasure that was cut off here
        if db.execute("SELECT 1 FROM counters WHERE name = 'unwiped'").fetchone():
            db.execute("VACUUM")
            _truncate_log(db, self._file.path)
            db.execute("DELETE FROM counters WHERE name = 'unwiped'")
        _truncate_log(db, self._file.path)
        aside = self._file.aside()
        for path in aside:
            path.unlink(missing_ok=True)
        return Erased(len(found), len(batches), len(aside))


def _truncate_log(db: sqlite3.Connection, path: Path) -> None:
    """Move the log into the file and empty it, so that a power cut doesn't bring it back."""
    busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise OSError(0, "another program has events.db open; close it")
    sync_to_disk(path.with_name(path.name + "-wal"))
