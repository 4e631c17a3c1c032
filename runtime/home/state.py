"""``HOME/state.db``: which release answers, which answered before it, and what is believed no more.

The file is small and seldom written, so it keeps a rollback journal and full fsyncs rather than
a write-ahead log. ``HOME/state.json`` is a copy of all but counters, written before each commit:
where ``state.db`` is lost, or is an old one, releases, floors and tombstones are not. Reading
imports neither numpy nor sqlite_utils, and makes no dataclass, which takes most of a millisecond
each: ``status`` has to be quick.
"""

import contextlib
import hashlib
import json
import re
import shlex
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from c2rec.runtime.errors import HomeError, NotInstalledError
from c2rec.runtime.home.disk import home_errors, install_command, sync_to_disk, write_whole
from c2rec.runtime.home.settings import settings_path

_COPIED = ("generations", "trial", "floors", "bad", "tombstones", "salt", "scores")
_ERASED = {"tombstones": "id", "salt": "value"}
"""Tables that tell who was erased, with the column that does."""
_COLUMNS: dict[str, dict[str, type]] = {
    "generations": {"role": str, "release": str, "installed_at": str, "sha256": str},
    "trial": {"name": str, "starts": int, "answers": int},
    "floors": {"name": str, "value": int},
    "bad": {"seq": int, "release": str, "reason": str},
    "tombstones": {"id": str},
    "salt": {"value": str},
    "scores": {"seq": int, "file": str, "sha256": str, "as_of": str},
    "outcomes": {"what": str, "at": str, "ok": int, "text": str},
}
"""What is read of each table; anything else is damage."""


class Generation(NamedTuple):
    """A release in the local cache."""

    release: str
    installed_at: str
    """UTC, as in ``2026-01-31T09:30:00Z``."""
    sha256: str
    """Of its cache file, 64 hex digits."""
    name: str
    """Of its cache file in ``gen/``, without ``.db``."""
    seq: int | None = None
    """Its number in the repository; None for a bundle installed by hand."""


class Trial(NamedTuple):
    """The active generation has not proved itself yet."""

    name: str
    starts: int
    """Starts so far that neither answered nor ended in good order."""
    answers: int
    """Good answers so far."""


class State(NamedTuple):
    """What answers, and what would if the active generation couldn't."""

    active: Generation
    previous: Generation | None
    trial: Trial | None = None
    """None once the active generation is confirmed."""


def state_path(home: Path) -> Path:
    """Where the state lies."""
    return home / "state.db"


def copy_path(home: Path) -> Path:
    """Where the copy of the state lies."""
    return home / "state.json"


def find_state(home: Path) -> State | None:
    """Read the state; None where no release has been installed.

    Raises:
        HomeError: the file can't be read, or is not an SQLite database, and there is no copy.
    """
    tables = read_tables(home, ("generations", "trial"))
    generations = {row["role"]: _generation(row) for row in tables.get("generations", [])}
    active = generations.get("active")
    if active is None:
        return None
    trials = [Trial(row["name"], row["starts"], row["answers"]) for row in tables.get("trial", [])]
    trial = next((each for each in trials if each.name == active.name), None)
    return State(active, generations.get("previous"), trial)


def read_state(home: Path) -> State:
    """Read the state.

    Raises:
        NotInstalledError: no release has been installed here.
        HomeError: as in ``find_state``.
    """
    state = find_state(home)
    if state is None:
        advice = f"install one: {install_command(home)}"
        if settings_path(home).exists():
            advice = f"take one: c2rec-kiosk --home {shlex.quote(str(home))} sync"
        raise NotInstalledError(f"no release is installed in {home}; {advice}")
    return state


def find_floors(home: Path) -> dict[str, int]:
    """Read the floors: nothing below them is believed. The greater of the file's and the copy's."""
    rows = read_tables(home, ("floors",)).get("floors", [])
    rows = rows + (_copy(home) or {}).get("floors", [])
    floors: dict[str, int] = {}
    for row in rows:
        floors[row["name"]] = max(row["value"], floors.get(row["name"], 0))
    return floors


def read_tables(home: Path, names: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    """Read whole tables, as a list of rows each; one that isn't there yet is left out.

    Where ``state.db`` is missing or damaged, its copy is read.

    Raises:
        HomeError: as in ``find_state``.
    """
    path = state_path(home)
    try:
        with home_errors(f"can't read {path}", _advice(home)):
            if path.exists():
                # Not mode=ro: after a cut in the middle of a flip, the reader rolls the journal
                # back.
                found = _tables(f"{path.absolute().as_uri()}?mode=rw", names)
                # An install that was cut before its first flip leaves a file without tables, and so
                # does who empties it.
                if found:
                    return _with_erased(home, found)
    except HomeError:
        if _copy(home) is None:
            raise
    copied = _copy(home) or {}
    return {name: copied[name] for name in names if name in copied}


def _with_erased(
    home: Path, found: dict[str, list[dict[str, Any]]]
) -> dict[str, list[dict[str, Any]]]:
    """Add what the copy knows of erased customers: the file may be an old one, put back."""
    copied = _copy(home) or {} if found.keys() & {"tombstones", "salt"} else {}
    for name in found.keys() & {"tombstones", "salt"} & copied.keys():
        known = {row[_ERASED[name]] for row in found[name]}
        found[name] = found[name] + [r for r in copied[name] if r[_ERASED[name]] not in known]
    return found


def _keep_erased(db: sqlite3.Connection, copied: Mapping[str, list[dict[str, Any]]]) -> None:
    """Take over from the copy who was erased, in ``changing_state``."""
    if not db.execute("SELECT 1 FROM salt").fetchone():
        values = [(row["value"],) for row in copied.get("salt", [])]
        db.executemany("INSERT INTO salt (value) VALUES (?)", values)
    db.executemany(
        "INSERT OR IGNORE INTO tombstones (id, at, origin) VALUES (:id, :at, :origin)",
        copied.get("tombstones", []),
    )


@contextmanager
def changing_state(home: Path) -> Iterator[sqlite3.Connection]:
    """One transaction on the state, on disk when the block ends; an error in it changes nothing.

    A damaged file is set aside, and made anew from the copy.

    Raises:
        HomeError: the file can't be written; the state is then as it was.
    """
    path = state_path(home)
    with home_errors(f"can't write {path}", _advice(home)):
        _restore(home)
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA secure_delete = ON")
            _migrate(db)
            db.isolation_level = None
            db.execute("BEGIN IMMEDIATE")
            try:
                _keep_erased(db, _copy(home) or {})
                yield db
                _write_copy(home, db)
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # it may have rolled back by itself
                    db.execute("ROLLBACK")
                raise
        sync_to_disk(home)


def activate(
    home: Path, release: str, sha256: str, *, name: str | None = None, seq: int | None = None
) -> State:
    """Make a release the active one, on trial, and the active one the previous, at one go.

    Args:
        home: the home folder, whose lock the caller holds.
        release: the release, whose generation is complete and on disk.
        sha256: of its cache file.
        name: of that file in ``gen/``, without ``.db``; None: the release's.
        seq: its number in the repository.

    Raises:
        HomeError: the file can't be written; the state is then as it was.
    """
    name = name or release
    with changing_state(home) as db:
        # A release that is installed again, to repair it, keeps its predecessor.
        db.execute(
            "INSERT OR REPLACE INTO generations (role, release, installed_at, sha256, seq, name)"
            " SELECT 'previous', release, installed_at, sha256, seq, name FROM generations"
            " WHERE role = 'active' AND (release <> ? OR seq IS NOT ?)",
            [release, seq],
        )
        db.execute(
            "INSERT OR REPLACE INTO generations (role, release, installed_at, sha256, seq, name)"
            " VALUES ('active', ?, ?, ?, ?, ?)",
            [release, now_text(), sha256, seq, name],
        )
        db.execute("DELETE FROM trial")
        db.execute("INSERT INTO trial (name, starts, answers) VALUES (?, 0, 0)", [name])
    return read_state(home)


def go_back(home: Path, reason: str, *, name: str | None = None) -> State:
    """Make the previous release the active one, and mark the active one bad, at one go.

    Args:
        home: the home folder.
        reason: why, for an operator to read.
        name: of the generation to leave; where another is active by now, nothing is done. None:
            whichever is active.

    Raises:
        NotInstalledError: there is no previous release.
        HomeError: the file can't be written; the state is then as it was.
    """
    with changing_state(home) as db:
        query = "SELECT role, seq, release, name FROM generations"
        roles = {role: rest for role, *rest in db.execute(query)}
        if name is not None and roles["active"][2] != name:
            return read_state(home)
        if "previous" not in roles:
            raise NotInstalledError(
                f"{home} holds no release but the active one; "
                f"sync, or install another: {install_command(home)}"
            )
        seq, release, _ = roles["active"]
        if seq is not None:
            mark_bad(db, seq, release, reason)
        db.execute("DELETE FROM generations WHERE role = 'active'")
        db.execute("UPDATE generations SET role = 'active' WHERE role = 'previous'")
        db.execute("DELETE FROM trial")
    return read_state(home)


def mark_bad(db: sqlite3.Connection, seq: int, release: str, reason: str) -> None:
    """Note that a release is not to be taken again, in ``changing_state``."""
    db.execute(
        "INSERT OR REPLACE INTO bad (seq, release, reason, at) VALUES (?, ?, ?, ?)",
        [seq, release, reason, now_text()],
    )


def note_outcome(home: Path, what: str, *, ok: bool, text: str) -> None:
    """Note what came of a sync; what can't be written down is not worth an error.

    Args:
        home: the home folder.
        what: ``sync``; a good one is noted as ``good sync`` besides.
        ok: whether it went well.
        text: what came of it, in one line.
    """
    query = "INSERT OR REPLACE INTO outcomes (what, at, ok, text) VALUES (?, ?, ?, ?)"
    with contextlib.suppress(HomeError), changing_state(home) as db:
        for name in (what, f"good {what}") if ok else (what,):
            db.execute(query, [name, now_text(), int(ok), text])


def raise_floors(db: sqlite3.Connection, floors: Mapping[str, int]) -> None:
    """Raise floors, in ``changing_state``; one that is higher stays."""
    db.executemany(
        "INSERT INTO floors (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        floors.items(),
    )


def now_text() -> str:
    """The time by the system's clock, as the state keeps it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _generation(row: Mapping[str, Any]) -> Generation:
    name = row.get("name") or row["release"]  # before the second migration there was no other name
    return Generation(row["release"], row["installed_at"], row["sha256"], name, row.get("seq"))


def _tables(uri: str, names: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    with closing(sqlite3.connect(uri, uri=True)) as db:
        db.row_factory = sqlite3.Row
        try:
            db.execute("BEGIN")  # all of one moment
            made = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
            found = {
                name: [dict(row) for row in db.execute(f"SELECT * FROM {name}")]  # noqa: S608 - ours
                for name in names
                if name in made
            }
        except sqlite3.OperationalError as error:
            if "decode" in str(error):  # a text that is no UTF-8 was not written so
                raise sqlite3.DatabaseError(str(error)) from error
            raise
    for name, rows in found.items():
        for row in rows:
            for column, kind in _COLUMNS[name].items():
                if not isinstance(row.get(column), kind):
                    raise sqlite3.DatabaseError(f"table {name} is damaged: {column} is not as made")
    for row in found.get("salt", []):
        if not re.fullmatch("[0-9a-f]+", row["value"]):
            raise sqlite3.DatabaseError("table salt is damaged")
    return found


def _migrate(db: sqlite3.Connection) -> None:
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'outcomes'").fetchone():
        return  # as it is now: sqlite_utils takes a quarter of a second to import
    from sqlite_utils import Database

    from c2rec.runtime.home.migrations import STATE

    STATE.apply(Database(db, execute_plugins=False))


def mend_state(home: Path) -> None:
    """Make a state.db that is lost, damaged or an old one anew, before it is gone by.

    Raises:
        HomeError: it can't be written.
    """
    with home_errors(f"can't write {state_path(home)}", _advice(home)):
        _restore(home)


def _is_old(found: Mapping[str, list[dict[str, Any]]], copied: Mapping[str, Any]) -> bool:
    """Whether a state is of before an erasure, and would have the files of before answer again."""
    erased, known = ({row["id"] for row in each.get("tombstones", [])} for each in (copied, found))
    return not erased <= known and any(
        sorted(found.get(name, []), key=str) != sorted(copied.get(name, []), key=str)
        for name in ("generations", "scores")
    )


def _restore(home: Path) -> None:
    """Make a lost, damaged or old state.db anew from its copy."""
    path, copied = state_path(home), _copy(home)
    if copied is None:
        return
    try:
        if path.exists():
            found = _tables(path.absolute().as_uri(), _COPIED)
            if "generations" in found and not _is_old(found, copied):
                return
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise  # it is locked, or can't be read: that is no damage
    for suffix in ("", "-journal"):
        broken = path.with_name(path.name + suffix)
        if broken.exists():
            broken.replace(broken.with_name(f"damaged.{broken.name}"))
    made = path.with_name("state.db.tmp")
    made.unlink(missing_ok=True)
    with closing(sqlite3.connect(made)) as db:
        _migrate(db)
        with db:
            for name in _COPIED:
                for row in copied.get(name, []):
                    columns, places = ", ".join(row), ", ".join("?" * len(row))
                    query = f"INSERT INTO {name} ({columns}) VALUES ({places})"  # noqa: S608 - ours
                    db.execute(query, list(row.values()))
    sync_to_disk(made)
    made.replace(path)


def _write_copy(home: Path, db: sqlite3.Connection) -> None:
    tables = {}
    for name in _COPIED:
        found = db.execute(f"SELECT * FROM {name} ORDER BY 1")  # noqa: S608 - our own names
        columns = [column for column, *_ in found.description]
        tables[name] = [dict(zip(columns, row, strict=True)) for row in found]
    text = json.dumps(tables, sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    content = json.dumps({"format": 1, "sha256": digest, "tables": text}).encode()
    path = copy_path(home)
    if not path.is_file() or path.read_bytes() != content:
        write_whole(path, content)


def _copy(home: Path) -> dict[str, list[dict[str, Any]]] | None:
    """Read the copy; None where there is none, or it is damaged."""
    try:
        document = json.loads(copy_path(home).read_bytes())
        text: str = document["tables"]
        if hashlib.sha256(text.encode()).hexdigest() != document["sha256"]:
            return None
        tables: dict[str, list[dict[str, Any]]] = json.loads(text)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return {name: tables[name] for name in _COPIED if name in tables}


def _advice(home: Path) -> str:
    return f"if it is damaged, move it away and install again: {install_command(home)}"
