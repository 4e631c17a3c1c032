"""Erasing a customer from a home, for good, and saying so in a receipt.

1. A tombstone is on disk first: whatever is built from then on leaves the customer out.
2. What must be gone is noted in ``HOME/erasing/<mark>.json``, or nobody could look for it later.
3. Each generation and the online scores are copied without the customer, and the copy takes the
   file's place in one transaction of the state. Who reads the old file goes on reading it, and
   opens the new one at the next request (``Recommender``).
4. What waits in events.db loses the name, and what was bought here is forgotten (``outbox.py``).
   What was downloaded is deleted.
5. Every byte of the home is searched (``residue.py``). What was found to be gone takes the place of
   what to look for in the note.
6. The receipt is written, then the note is deleted.

Cut anywhere, the same command ends it: each step leaves alone what is done. The old files'
blocks are free then, and a disk may keep what was in them until it writes there again.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from c2rec.runtime.erasure.residue import Searched, Traces, pieces, search, written
from c2rec.runtime.erasure.rewrite import copy_without, customers_to_go
from c2rec.runtime.erasure.tombstones import Tombstones, bury, read_tombstones, salted
from c2rec.runtime.errors import HomeError, IdentityError, RequestError
from c2rec.runtime.events.bought_file import bought_path
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.outbox_file import OutboxFile
from c2rec.runtime.home.disk import (
    generation_path,
    home_errors,
    make_folder,
    only_one,
    sha256_of,
    sync_to_disk,
    write_whole,
)
from c2rec.runtime.home.identity import Identity, check_customer_id, find_identity, pseudonym
from c2rec.runtime.home.readers import readers_of_deleted
from c2rec.runtime.home.state import changing_state, now_text, read_tables
from c2rec.runtime.release.flip import check_space
from c2rec.runtime.release.whole import forget_whole, note_whole
from c2rec.runtime.sync.download import keep_blobs

_ADVICE = "where a file is damaged, sync or install a release first; then erase again"
_VECTORS = ("components", "probabilities")
"""Columns by whose content a customer could be recognised."""


@dataclass(slots=True)
class _Note:
    """``HOME/erasing/<mark>.json``: an erasure that has not ended."""

    path: Path
    began: str
    vectors: set[bytes] = field(default_factory=set)
    """What to search for; empty once it was searched for in vain."""
    rewritten: list[dict[str, str]] = field(default_factory=list)
    verified: dict[str, Any] | None = None
    """What the search covered; None until it found nothing."""

    def save(self) -> None:
        """Write it, on disk whole or not at all."""
        document = {
            "format": 1,
            "began": self.began,
            "vectors": sorted(each.hex() for each in self.vectors),
            "rewritten": self.rewritten,
            "verified": self.verified,
        }
        make_folder(self.path.parent)
        write_whole(self.path, json.dumps(document).encode())

    def add(self, file: str, old: str, new: str) -> None:
        """Note that a file takes another's place."""
        entry = {"file": file, "old_sha256": old, "new_sha256": new}
        if entry not in self.rewritten:
            self.rewritten.append(entry)
            self.save()


def erase(
    home: Path, customer_id: str, receipt: Path, *, report: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Erase a customer, and write a receipt.

    Args:
        home: the kiosk's home folder.
        customer_id: as in the transactions.
        receipt: the file to write, outside the home.
        report: called with what is being done.

    Returns:
        What the receipt says; ``docs/privacy.md`` lists it.

    Raises:
        RequestError: the id is empty or no text, or the receipt is there or would lie in the home.
        IdentityError: the kiosk has customers by pseudonym, and lost its identity.
        HomeError: the home can't be read or written, another install or sync is running, or the
            customer was still found; run it again.
    """
    _check_request(home, customer_id, receipt)
    with only_one(home), home_errors(f"can't erase in {home}", _ADVICE):
        identity = find_identity(home)
        if identity is None and _has_pseudonyms(home):
            raise IdentityError(
                f"{home} has customers by pseudonym, and no identity.json, whose key tells which "
                "one it is; enrol the kiosk again, and erase then: c2rec-kiosk enrol KIT"
            )
        report("leaving a tombstone")
        with changing_state(home) as db:
            tombstones = salted(db, identity)
            marks = tombstones.marks_of(customer_id)
            bury(db, marks, "kiosk")
        tombstones = read_tombstones(home, identity)
        note = _note(home, marks[0])
        if receipt.exists() and not note.path.exists():
            raise RequestError(
                f"receipt is {receipt}, which is there already: an erasure has written it; name "
                "another file"
            )
        if note.verified is None:
            gone = frozenset(marks)

            def is_gone(name: str) -> bool:
                return tombstones.mark(name) in gone

            _remove_downloads(home)
            _drop_damaged(home)
            found = _vectors(home, is_gone)
            note.vectors |= found
            note.save()
            report("rewriting")
            _rewrite(home, is_gone, note.add)
            events = 0
            if identity is not None:
                hidden = pseudonym(identity.customer_key, customer_id)
                events = _anonymise(home, identity, [hidden], add=note.add)
            report("searching every file")
            searched = _verify(home, customer_id, identity, note)
            note.verified = {
                "files": searched.files,
                "bytes": searched.bytes,
                "vectors": len(note.vectors),
                "shared": searched.shared,
                "events_made_nameless": events,
            }
            note.vectors = set()
            note.save()
        document = _receipt(home, customer_id, identity, tombstones, note)
        make_folder(receipt.parent)
        write_whole(receipt, (json.dumps(document, indent=2) + "\n").encode())
        note.path.unlink()
        sync_to_disk(note.path.parent)
        with suppress(OSError):  # another erasure has not ended
            note.path.parent.rmdir()
    return document


def take_tombstones(home: Path, pseudonyms: frozenset[bytes], identity: Identity) -> int:
    """Erase whom head office says is to be erased; costs next to nothing where nobody is new.

    The files are rewritten first, and the marks noted then: cut in between, the next sync, which
    reads the same list, does it again. A damaged file is removed; the active release's stays, and
    the sync builds it anew.

    Args:
        home: the home folder, whose lock the caller holds.
        pseudonyms: all that head office lists, 16 bytes each.
        identity: the kiosk's.

    Returns:
        How many were not known before.

    Raises:
        HomeError: the home can't be read or written.
    """
    known = read_tombstones(home, identity)
    if not pseudonyms or (
        known.salt and {known.mark(each.hex()) for each in pseudonyms} <= known.marks
    ):
        return 0
    with home_errors(f"can't erase in {home}", "sync again"):
        with changing_state(home) as db:  # the salt is what marks are compared by
            known = salted(db, identity)
        marks = {known.mark(each.hex()): each for each in pseudonyms}
        new = {mark: each for mark, each in marks.items() if mark not in known.marks}
        coming = Tombstones(known.salt, {*known.marks, *new}, identity)
        _rewrite(home, coming.covers, lambda *_: None)

        def note() -> None:
            with changing_state(home) as db:
                bury(db, new, "head office")

        # while nobody can record: what came in between would keep its name for good
        _anonymise(home, identity, list(new.values()), then=note)
    return len(new)


def unfinished(home: Path) -> int:
    """How many erasures were begun and have not ended."""
    folder = home / "erasing"
    return len(list(folder.glob("*.json"))) if folder.is_dir() else 0


def _check_request(home: Path, customer_id: str, receipt: Path) -> None:
    check_customer_id(customer_id)
    if receipt.absolute().resolve().is_relative_to(home.absolute().resolve()):
        raise RequestError(f"receipt is {receipt}; allowed: a file outside the home {home}")
    if not home.is_dir():
        raise HomeError(f"there is no home folder {home}; see --home")


def _note(home: Path, mark: str) -> _Note:
    path = home / "erasing" / f"{mark}.json"
    try:
        document = json.loads(path.read_bytes())
        return _Note(
            path,
            document["began"],
            {bytes.fromhex(each) for each in document["vectors"]},
            document["rewritten"],
            document["verified"],
        )
    except FileNotFoundError:
        return _Note(path, now_text())
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HomeError(f"{path} is damaged: {error}; delete it and erase again") from error


def _has_pseudonyms(home: Path) -> bool:
    """Whether a file that came from head office, or the outbox, names customers by pseudonym."""
    tables = read_tables(home, ("generations", "scores"))
    synced = any(row.get("seq") is not None for row in tables.get("generations", []))
    return synced or bool(tables.get("scores")) or _has_events(home)


def _has_events(home: Path) -> bool:
    """Whether anything was recorded here; a file that is being recovered counts."""
    return any(home.glob("events.db*")) or any(home.glob(f"{bought_path(home).name}*"))


def _held(home: Path) -> Iterator[tuple[Path, str, str]]:
    """Files that the state names and that hold customers: path, name in the state, sha256."""
    tables = read_tables(home, ("generations", "scores"))
    for row in tables.get("generations", []):
        name = row.get("name") or row["release"]
        yield generation_path(home, name), name, row["sha256"]
    for row in tables.get("scores", []):
        yield home / "scores" / row["file"], row["file"], row["sha256"]


def _vectors(home: Path, is_gone: Callable[[str], bool]) -> set[bytes]:
    """Pieces of what the home's files hold of a customer."""
    found: set[bytes] = set()
    for path in _databases(home):
        rowids = customers_to_go(path, is_gone)
        with closing(sqlite3.connect(_immutable(path), uri=True)) as db:
            columns = [row[1] for row in db.execute("PRAGMA table_info(customers)")]
            for column in set(columns) & set(_VECTORS):
                query = f"SELECT {column} FROM customers WHERE rowid = ?"  # noqa: S608 - ours
                for rowid in rowids:
                    found |= pieces(db.execute(query, [rowid]).fetchone()[0])
    return found


def _databases(home: Path) -> list[Path]:
    """Complete generations and scores that are there, whether the state names them or not."""
    folders = (home / "gen", home / "scores")
    return sorted(path for folder in folders if folder.is_dir() for path in folder.glob("*.db"))


def _remove_downloads(home: Path) -> None:
    """Delete downloads, what was being built, and files that the state doesn't name."""
    keep_blobs(home, ())
    held = {path for path, _, _ in _held(home)}
    for path in _databases(home):
        if path not in held:
            path.unlink()
    for folder in (home / "gen", home / "scores"):
        if folder.is_dir():
            for path in folder.glob("*.tmp*"):
                path.unlink()


def _rewrite(
    home: Path,
    is_gone: Callable[[str], bool],
    add: Callable[[str, str, str], None],
) -> None:
    """Put copies without some customers in the place of all whole files that hold them."""
    for path, name, sha256 in list(_held(home)):
        if not path.is_file():
            continue
        if sha256_of(path) != sha256:  # a copy would pass for whole
            _dropped(home, path, name)
            continue
        rowids = customers_to_go(path, is_gone)
        if not rowids:
            continue
        check_space(home, path.stat().st_size, "a copy without an erased customer")
        unfinished = path.with_name(f"{path.name}.tmp")
        unfinished.unlink(missing_ok=True)
        copy_without(path, unfinished, rowids)
        digest = sha256_of(unfinished)
        sync_to_disk(unfinished)
        # Named by its content: nothing that serves is ever replaced under its name.
        final = path.with_name(f"{path.stem.partition('~')[0]}~{digest[:16]}.db")
        unfinished.replace(final)
        sync_to_disk(final.parent)
        add(path.relative_to(home).as_posix(), sha256, digest)
        with changing_state(home) as db:
            if path.parent.name == "gen":
                row = [final.stem, digest, name]
                db.execute("UPDATE generations SET name = ?, sha256 = ? WHERE name = ?", row)
                db.execute("UPDATE trial SET name = ? WHERE name = ?", [final.stem, name])
            else:
                row = [final.name, digest, name]
                db.execute("UPDATE scores SET file = ?, sha256 = ? WHERE file = ?", row)
        if path.parent.name == "gen":
            note_whole(home, final, digest)
        path.unlink()
        sync_to_disk(path.parent)


def _drop_damaged(home: Path) -> None:
    """Remove damaged files: nobody knows whom they hold.

    Raises:
        HomeError: one is the active release's, which has to be repaired first.
    """
    for path, name, sha256 in list(_held(home)):
        if path.is_file() and sha256_of(path) != sha256 and not _dropped(home, path, name):
            raise HomeError(f"{path} is damaged; {_ADVICE}")


def _dropped(home: Path, path: Path, name: str) -> bool:
    """Remove a damaged file, customers and all, unless it is the active release's.

    That one is read anew by the next sync, which then builds it anew.
    """
    with changing_state(home) as db:
        if path.parent.name == "scores":
            db.execute("DELETE FROM scores WHERE file = ?", [name])
        else:
            db.execute("DELETE FROM generations WHERE role = 'previous' AND name = ?", [name])
        active = db.execute("SELECT 1 FROM generations WHERE name = ?", [name]).fetchone()
    if path.parent.name == "gen" and active:
        forget_whole(home)
        return False
    path.unlink()
    sync_to_disk(path.parent)
    return True


def _anonymise(
    home: Path,
    identity: Identity,
    pseudonyms: Collection[bytes],
    *,
    then: Callable[[], None] = lambda: None,
    add: Callable[[str, str, str], None] = lambda *_: None,
) -> int:
    """Take names from what was recorded, do something, and tell how many events had one."""
    file = OutboxFile(home)
    try:
        with file.locked():
            if not _has_events(home):
                then()
                return 0
    finally:
        file.unlock()
    with closing(Outbox(home, identity)) as outbox:
        return outbox.anonymise(pseudonyms, then=then, add=add).events


def _verify(home: Path, customer_id: str, identity: Identity | None, note: _Note) -> Searched:
    hidden = None if identity is None else pseudonym(identity.customer_key, customer_id)
    spelled = (
        set()
        if hidden is None
        else {hidden, *(written(hidden.hex()) | written(hidden.hex().upper()))}
    )
    traces = Traces(frozenset(written(customer_id)), frozenset(spelled), frozenset(note.vectors))
    searched = search(home, traces, skip=[note.path, *_told_by_head_office(home)])
    if searched.findings:
        first = searched.findings[0]
        raise HomeError(
            f"{len(searched.findings)} traces of the customer are still there, the first at byte "
            f"{first.offset} of {first.file}, a {first.what}; stop what uses this home, and erase "
            "again"
        )
    return searched


def _told_by_head_office(home: Path) -> list[Path]:
    """Signed lists of pseudonyms to be erased, which name nothing but these."""
    return [path for path in home.rglob("*tombstones.json") if path.is_file()]


def _receipt(
    home: Path,
    customer_id: str,
    identity: Identity | None,
    tombstones: Tombstones,
    note: _Note,
) -> dict[str, Any]:
    if identity is None:
        who = {"mark": tombstones.mark(customer_id), "salt": tombstones.salt.hex()}
    else:
        who = {"pseudonym": pseudonym(identity.customer_key, customer_id).hex()}
    return {
        "schema": 1,
        "customer": who,
        "kiosk": None if identity is None else {"store": identity.store, "device": identity.device},
        "began_at": note.began,
        "erased_at": now_text(),
        "found": bool(note.rewritten) or bool((note.verified or {}).get("events_made_nameless")),
        "rewritten": note.rewritten,
        "searched": note.verified,
        "still_open_in": readers_of_deleted(home),
    }


def _immutable(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro&immutable=1"
