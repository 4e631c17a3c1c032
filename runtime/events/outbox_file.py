"""``HOME/events.db``: opened, locked, and set aside when it is damaged.

The file has a write-ahead log and ``synchronous=FULL``: a commit waits for one flush, where a
rollback journal needs four. SQLite before 3.51.3 may damage such a file when one connection
commits while another runs a checkpoint, and Python's own is often older. Here that can't happen:
every connection works, reads too, only while it holds ``HOME/events.lock``, alone among threads and
processes. For the same reason no other program should open the file for writing.

A damaged file is never thrown away: its rows go into a new file, and it moves to
``HOME/set-aside/``, with its log.
"""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from c2rec.runtime.errors import HomeError
from c2rec.runtime.events.carve import PAGE
from c2rec.runtime.home.disk import home_errors, make_folder, sync_to_disk

VERSION = 1
"""``user_version`` of the schema that this version writes."""
LOCK_SECONDS = 20.0
"""How long another process may work before waiting for it is given up."""
KEPT_ASIDE = 3
"""Damaged files that are kept; older ones make room."""
FIXED = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
"""Versions of SQLite from which on, in their line, the write-ahead log's bug is gone."""


class DamageError(sqlite3.DatabaseError):
    """What the file holds can't be right."""


def events_path(home: Path) -> Path:
    """Where the events wait."""
    return home / "events.db"


def has_wal_bug(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Whether a version of SQLite has the bug that the lock keeps from happening."""
    return version < FIXED[-1] and not any(
        version[:2] == fixed[:2] and version >= fixed for fixed in FIXED
    )


def is_damage(error: Exception) -> bool:
    """Whether an error of SQLite says that the file is damaged, rather than that the disk is."""
    if isinstance(error, DamageError):
        return True
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # Python's own: a text that is no UTF-8, a value of another type
        return "decode" in str(error).lower()
    if code == sqlite3.SQLITE_ERROR:
        return "no such table" in str(error) or "no such column" in str(error)
    damaged = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    # a constraint can't fail, a read can't be short, unless the file is not what was written
    return code & 0xFF in (*damaged, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH) or (
        code == sqlite3.SQLITE_IOERR_SHORT_READ
    )


class OutboxFile:
    """The file, its lock, and one connection.

    Args:
        home: the kiosk's home folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = events_path(home)
        self._threads = threading.RLock()
        self._lock: int | None = None
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._process = os.getpid()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Work on the file alone among all threads and processes.

        Raises:
            HomeError: the lock can't be had, or the home folder not be written.
        """
        with self._threads:
            if self._process != os.getpid():  # a fork shares lock and connection: make our own
                self._lock, self._db, self._process = None, None, os.getpid()
            with home_errors(f"can't write to the home folder {self.home}"):
                if self._lock is None:
                    make_folder(self.home)
                    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                    self._lock = os.open(self.home / "events.lock", flags, 0o644)
                self._wait(self._lock)
            try:
                yield
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _wait(self, lock: int) -> None:
        until, pause = time.monotonic() + LOCK_SECONDS, 0.0005
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise HomeError(
                        f"{self.home / 'events.lock'} has been held for {LOCK_SECONDS:.0f} s; "
                        "a process that uses this home hangs: find it with fuser, and end it"
                    ) from error
                time.sleep(pause)
                pause = min(pause * 1.5, 0.02)
            else:
                return

    def connection(self) -> sqlite3.Connection:
        """Give the connection, opened where it has to be; the caller holds the lock.

        Raises:
            HomeError: the schema is of a newer version.
            OSError, sqlite3.Error, DamageError: it can't be opened.
        """
        recovered = self._recovered()
        if recovered.exists():  # an earlier process was cut off while it put a file aside
            self._swap(recovered)
        if self._db is not None and self._inode == self._find_inode():
            return self._db
        self.close()
        if _size(self.path) == 0 and _size(self.path.with_name("events.db-wal")) > 0:
            # SQLite would take the log for nobody's, and delete it with the events in it
            raise DamageError("the file is gone, and its log is not")
        new = not self.path.exists()
        self._db = _connect(self.path)
        if new:
            sync_to_disk(self.home)
        self._inode = self._find_inode()
        try:
            _check_schema(self._db, self.path)
        except BaseException:
            self.close()
            raise
        return self._db

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        db, self._db = self._db, None
        if db is not None and self._process == os.getpid():
            db.close()

    def unlock(self) -> None:
        """Close the lock's file."""
        if self._lock is not None and self._process == os.getpid():
            os.close(self._lock)
        self._lock = None

    def replace(self, fill: Callable[[sqlite3.Connection], None]) -> None:
        """Put the damaged file aside and a new one in its place; the caller holds the lock.

        Cut off at any moment, the damaged file is still there, or the new one is whole.

        Args:
            fill: writes what was recovered into the new one.
        """
        self.close()
        building, recovered = self.home / "events.db.new", self._recovered()
        building.unlink(missing_ok=True)
        with closing(sqlite3.connect(building, isolation_level=None)) as db:
            _set_up(db)
            db.execute("PRAGMA journal_mode = DELETE")
            _migrate(db)
            fill(db)
        sync_to_disk(building)
        building.rename(recovered)
        sync_to_disk(self.home)
        self._swap(recovered)

    def aside(self) -> list[Path]:
        """Files that were set aside, oldest first."""
        folder = self.home / "set-aside"
        return sorted(folder.glob("events-*")) if folder.is_dir() else []

    def _recovered(self) -> Path:
        return self.home / "events.db.recovered"

    def _swap(self, recovered: Path) -> None:
        self.close()
        folder = self.home / "set-aside"
        make_folder(folder)
        # one name however often this is cut off and done again
        target = folder / f"events-{recovered.stat().st_mtime_ns:020}.db"
        wal = self.path.with_name("events.db-wal")
        for old, new in ((wal, target.with_name(target.name + "-wal")), (self.path, target)):
            if old.exists():
                old.rename(new)
        sync_to_disk(folder)
        self.path.with_name("events.db-shm").unlink(missing_ok=True)
        recovered.replace(self.path)
        sync_to_disk(self.home)
        databases = [path for path in self.aside() if path.suffix == ".db"]
        for old in databases[:-KEPT_ASIDE]:
            old.with_name(old.name + "-wal").unlink(missing_ok=True)
            old.unlink(missing_ok=True)

    def _find_inode(self) -> int:
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Do all or nothing, on disk when it ends."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        _set_up(db)
        db.execute("PRAGMA journal_mode = WAL")
    except BaseException:
        db.close()
        raise
    return db


def _set_up(db: sqlite3.Connection) -> None:
    db.execute(f"PRAGMA page_size = {PAGE}")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")  # an erased customer leaves no trace in freed space


def _check_schema(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        _migrate(db)
    elif version != VERSION:
        raise HomeError(
            f"{path} has schema {version}, this version of c2rec writes {VERSION}; "
            "upgrade it: pip install --upgrade c2rec"
        )


def _migrate(db: sqlite3.Connection) -> None:
    from sqlite_utils import Database  # a quarter of a second, paid once in a home's life

    from c2rec.runtime.events.outbox_schema import EVENTS

    EVENTS.apply(Database(db, execute_plugins=False))
