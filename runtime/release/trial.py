"""A new release proves itself: it is confirmed after a few good answers, or gives way.

A start counts against a release on trial until it answers, or until it ends in good order; after
three that did neither, the previous release answers again. Once a release is confirmed, no start
counts any more: a kiosk whose power is cut every night keeps its release.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from c2rec.runtime.errors import HomeError
from c2rec.runtime.home.disk import home_errors
from c2rec.runtime.home.state import State, go_back, read_state, state_path

GOOD_ANSWERS = 5
"""So many good answers confirm a release."""
FAILED_STARTS = 3
"""After so many starts that came to nothing, the previous release answers."""


def begin(home: Path) -> tuple[State, str | None]:
    """Count a start of what answers, and go back where too many came to nothing.

    A home that can't be written counts nothing, and serves on.

    Returns:
        The state to answer from, and a warning where the release was changed.

    Raises:
        NotInstalledError, HomeError: as ``read_state``.
    """
    state = read_state(home)
    if state.trial is None:
        return state, None
    if state.trial.starts >= FAILED_STARTS and state.previous is not None:
        reason = f"{state.trial.starts} starts without an answer while it was on trial"
        release = state.active.release
        try:
            then = go_back(home, reason, name=state.active.name)
        except HomeError:  # where it can't be written down, it is so all the same
            then = State(state.previous, None)
        return then, (
            f"release {release} was given up after {reason}; answering from {then.active.release}"
        )
    _count(home, "UPDATE trial SET starts = starts + 1 WHERE name = ?", state.trial.name)
    return state, None


def answered(home: Path, name: str) -> bool:
    """Count a good answer of the generation ``name``.

    Returns:
        Whether it is still on trial.
    """
    return _count(home, "UPDATE trial SET starts = 0, answers = answers + 1 WHERE name = ?", name)


def ended(home: Path, name: str) -> None:
    """Take back a start that ended in good order before any answer."""
    _count(home, "UPDATE trial SET starts = max(starts - 1, 0) WHERE name = ?", name)


def _count(home: Path, query: str, name: str) -> bool:
    with contextlib.suppress(HomeError), _counting(home) as db:
        db.execute(query, [name])
        db.execute("DELETE FROM trial WHERE answers >= ?", [GOOD_ANSWERS])
        return bool(db.execute("SELECT 1 FROM trial WHERE name = ?", [name]).fetchone())
    return True


@contextmanager
def _counting(home: Path) -> Iterator[sqlite3.Connection]:
    """A transaction on state.db alone: counters are not worth a copy.

    Raises:
        HomeError: the file is missing, or can't be written.
    """
    path = state_path(home)
    with home_errors(f"can't write {path}"):
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=1)) as db, db:
            db.execute("PRAGMA synchronous = FULL")
            yield db
