"""Customers who asked to be erased: remembered, and gone from what is installed."""

import shutil
import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path

from c2rec.runtime.cache import Cache
from c2rec.runtime.disk import generation_path, home_errors, sha256_of, sync_to_disk
from c2rec.runtime.errors import HomeError
from c2rec.runtime.identity import Identity, pseudonym
from c2rec.runtime.state import Generation, changing_state, find_state, now_text, read_tables
from c2rec.runtime.whole import note_whole


def add_tombstones(home: Path, ids: Collection[str], *, origin: str) -> int:
    """Remember customers who are erased.

    Args:
        home: the home folder.
        ids: pseudonyms as hex digits, or plain ids.
        origin: ``head office`` or ``kiosk``.

    Returns:
        How many were not known before.

    Raises:
        HomeError: the state can't be written.
    """
    new = sorted(set(ids) - erased_ids(home))
    if new:
        with changing_state(home) as db:
            rows = [(each, now_text(), origin) for each in new]
            db.executemany(
                "INSERT OR IGNORE INTO tombstones (id, at, origin) VALUES (?, ?, ?)", rows
            )
    return len(new)


def erased_ids(home: Path) -> frozenset[str]:
    """Read who is erased: pseudonyms as hex digits, and plain ids."""
    return frozenset(row["id"] for row in read_tables(home, ("tombstones",)).get("tombstones", []))


def is_erased(home: Path) -> Callable[[str], bool]:
    """Make what says whether a customer is erased: by pseudonym as hex digits, or plain id."""
    return erased_ids(home).__contains__


def erase_from_generations(
    home: Path, identity: Identity | None, *, report: Callable[[str], None] = lambda _: None
) -> None:
    """Rewrite generations that hold a customer who is erased.

    A generation is never changed in place, for others may be reading it: a copy takes its place.

    Args:
        home: the home folder, whose lock the caller holds.
        identity: finds erased pseudonyms among plain ids.
        report: called with what is being done.

    Raises:
        HomeError: a file can't be written.
    """
    erased, state = erased_ids(home), find_state(home)
    if not erased or state is None:
        return
    for generation in (state.active, state.previous):
        if generation is not None:
            _erase(home, generation, erased, identity, report)


def _erase(
    home: Path,
    generation: Generation,
    erased: frozenset[str],
    identity: Identity | None,
    report: Callable[[str], None],
) -> None:
    path = generation_path(home, generation.name)
    try:
        cache = Cache(path)
    except HomeError:
        return  # damaged: nobody is served from it, and it is built anew
    try:
        found = erased.intersection(cache.customer_ids())
        if cache.about("customers") != "pseudonyms" and identity is not None:
            key = identity.customer_key
            pseudonyms = {pseudonym(key, each).hex(): each for each in cache.customer_ids()}
            found |= {each for name, each in pseudonyms.items() if name in erased}
    finally:
        cache.close()
    if not found:
        return
    report("erasing customers")
    unfinished = path.with_suffix(".db.tmp")
    try:
        with home_errors(f"can't write {unfinished}"):
            shutil.copyfile(path, unfinished)
            with closing(sqlite3.connect(unfinished)) as db:
                db.execute("PRAGMA journal_mode = MEMORY")
                db.execute("PRAGMA secure_delete = ON")
                db.execute("PRAGMA synchronous = OFF")
                with db:
                    rows = [(each,) for each in found]
                    db.executemany("DELETE FROM customers WHERE customer_id = ?", rows)
            digest = sha256_of(unfinished)
            sync_to_disk(unfinished)
            final = generation_path(home, f"{generation.name.split('.')[0]}.{digest[:16]}")
            unfinished.replace(final)
            sync_to_disk(final.parent)
        note_whole(home, final, digest)
        with changing_state(home) as db:
            db.execute(
                "UPDATE generations SET sha256 = ?, name = ? WHERE name = ?",
                [digest, final.stem, generation.name],
            )
            db.execute("UPDATE trial SET name = ? WHERE name = ?", [final.stem, generation.name])
        with home_errors(f"can't remove {path}"):
            path.unlink()  # its bytes held who is erased
    finally:
        unfinished.unlink(missing_ok=True)
