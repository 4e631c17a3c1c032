"""``HOME/state.db``: which release answers, and which answered before it.

The file is small and seldom written, so it keeps a rollback journal and full fsyncs rather than
a write-ahead log. Reading imports neither numpy nor sqlite_utils, and makes no dataclass, which
takes most of a millisecond each: ``status`` has to be quick.
"""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from c2rec.runtime.disk import home_errors, install_command, sync_to_disk
from c2rec.runtime.errors import NotInstalledError


class Generation(NamedTuple):
    """A release in the local cache."""

    release: str
    installed_at: str
    """UTC, as in ``2026-01-31T09:30:00Z``."""
    sha256: str
    """Of its cache file, 64 hex digits."""


class State(NamedTuple):
    """What answers, and what would if the active generation couldn't."""

    active: Generation
    previous: Generation | None


def state_path(home: Path) -> Path:
    """Where the state lies."""
    return home / "state.db"


def find_state(home: Path) -> State | None:
    """Read the state; None where no release has been installed.

    Raises:
        HomeError: the file can't be read, or is not an SQLite database.
    """
    path = state_path(home)
    with home_errors(f"can't read {path}", _advice(home)):
        if not path.exists():
            return None
        # Not mode=ro: after a cut in the middle of a flip, the reader rolls the journal back.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as db:
            # An install that was cut before its first flip leaves a file without the table.
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'generations'").fetchone():
                return None
            rows = db.execute("SELECT role, release, installed_at, sha256 FROM generations")
            roles = {role: Generation(*rest) for role, *rest in rows}
    active = roles.get("active")
    return State(active, roles.get("previous")) if active else None


def read_state(home: Path) -> State:
    """Read the state.

    Raises:
        NotInstalledError: no release has been installed here.
        HomeError: as in ``find_state``.
    """
    state = find_state(home)
    if state is None:
        raise NotInstalledError(
            f"no release is installed in {home}; install one: {install_command(home)}"
        )
    return state


def activate(home: Path, release: str, sha256: str) -> State:
    """Make a release the active one, and the active one the previous, in one transaction.

    Args:
        home: the home folder, whose lock the caller holds.
        release: name of a generation that is complete and on disk.
        sha256: of its cache file.

    Raises:
        HomeError: the file can't be written; the state is then as it was.
    """
    from sqlite_utils import Database  # a quarter of a second, paid by installs alone

    from c2rec.runtime.migrations import STATE

    path, now = state_path(home), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with home_errors(f"can't write {path}", _advice(home)):
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("PRAGMA synchronous = FULL")
            STATE.apply(Database(db, execute_plugins=False))
            with db:
                db.execute("BEGIN IMMEDIATE")
                # A release that is installed again, to repair it, keeps its predecessor.
                db.execute(
                    "INSERT OR REPLACE INTO generations (role, release, installed_at, sha256, name)"
                    " SELECT 'previous', release, installed_at, sha256, name FROM generations"
                    " WHERE role = 'active' AND release <> ?",
                    [release],
                )
                db.execute(
                    "INSERT OR REPLACE INTO generations (role, release, installed_at, sha256, name)"
                    " VALUES ('active', ?, ?, ?, ?)",
                    [release, now, sha256, release],
                )
        sync_to_disk(home)
    return read_state(home)


def _advice(home: Path) -> str:
    return f"if it is damaged, move it away and install again: {install_command(home)}"
