"""Whether the files of a generation are still those that were built.

SQLite's own checks miss most flipped bits, so the digest of the whole file is compared. What was
found whole is noted with inode, size and time of change in ``HOME/whole.json``: a command that
answers one request believes the note, a process that serves, and ``doctor``, read every byte. So a
file that was replaced or written to is always found, a bit that the disk lost at the next start of
a serving process.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from c2rec.runtime.errors import HomeError
from c2rec.runtime.home.disk import (
    ITEMS,
    generation_path,
    home_errors,
    install_command,
    kept_path,
    sha256_of,
)
from c2rec.runtime.home.state import Generation
from c2rec.runtime.release.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from c2rec.runtime.release.manifest import ListedFile

_NOTES = "whole.json"


def check_whole(home: Path, path: Path, sha256: str, *, thorough: bool) -> None:
    """Compare a file's digest.

    Args:
        home: the home folder, where what was found is noted.
        path: the file.
        sha256: what it must be.
        thorough: read every byte, whatever was noted.

    Raises:
        HomeError: it is missing, can't be read, or is another.
    """
    advice = f"sync, or install the release again: {install_command(home)}"
    with home_errors(f"can't read {path}", advice):
        note: list[str | int] = [sha256, *_marks(path)]
        notes = _read(home)
        if not thorough and notes.get(path.name) == note:
            return
        found = sha256_of(path)
    if found != sha256:
        # without its note, every command reads it again: the next sync repairs it
        _write(home, {name: each for name, each in notes.items() if name != path.name})
        raise HomeError(
            f"{path} is damaged: its sha256 is {found[:16]}…, it was built with {sha256[:16]}…; "
            f"{advice}"
        )
    if notes.get(path.name) != note:
        _write(home, notes | {path.name: note})


def whole_cache(home: Path, generation: Generation, *, thorough: bool) -> Cache:
    """Open a generation whose files are those that were built.

    Args:
        home: the home folder.
        generation: one of the state's.
        thorough: read every byte, see ``check_whole``.

    Raises:
        HomeError: they are not, or can't be read.
    """
    path = generation_path(home, generation.name)
    check_whole(home, path, generation.sha256, thorough=thorough)
    cache = Cache(path)
    try:
        listed = cache.manifest_document()["files"][ITEMS]["sha256"]
        check_whole(home, cache.items_path, listed, thorough=thorough)
    except BaseException:
        cache.close()
        raise
    return cache


def damaged_arms(home: Path, cache: Cache, *, thorough: bool) -> dict[str, HomeError]:
    """Tell which arms of an open generation can't use their own model, and why.

    The release itself is none the worse for it: its main model answers for them.

    Args:
        home: the home folder.
        cache: the generation, of which ``whole_cache`` has checked the rest.
        thorough: read every byte, see ``check_whole``.

    Raises:
        HomeError: the generation can't be read.
    """
    if "experiment" not in cache.manifest_document():
        return {}
    found = {}
    manifest = cache.manifest()
    for arm in manifest.own_arms:
        name = f"{arm.name}.{ITEMS}"
        sha256 = manifest.files[name].sha256
        try:
            path = kept_path(cache.path.parent, name, sha256)
            check_whole(home, path, sha256, thorough=thorough)
        except HomeError as error:
            found[arm.name] = error
    return found


def item_sides(folder: Path, files: Mapping[str, ListedFile]) -> dict[Path, str]:
    """Where the item sides of a release's models are kept, with the sha256 of each."""
    return {
        kept_path(folder, name, listed.sha256): listed.sha256
        for name, listed in files.items()
        if name == ITEMS or name.endswith(f".{ITEMS}")
    }


def note_whole(home: Path, path: Path, sha256: str) -> None:
    """Note that a file was just written, and has a digest."""
    with contextlib.suppress(OSError):
        _write(home, _read(home) | {path.name: [sha256, *_marks(path)]})


def forget_whole(home: Path) -> None:
    """Read every release anew before it is believed."""
    with contextlib.suppress(OSError):
        (home / _NOTES).unlink(missing_ok=True)


def _marks(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def _read(home: Path) -> dict[str, list[str | int]]:
    try:
        notes = json.loads((home / _NOTES).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _write(home: Path, notes: dict[str, list[str | int]]) -> None:
    """Write the notes; what can't be noted is checked again, that is all."""
    with contextlib.suppress(OSError):
        kept = {name: note for name, note in notes.items() if (home / "gen" / name).exists()}
        unfinished = home / f"{_NOTES}.tmp"
        unfinished.write_text(json.dumps(kept))
        unfinished.replace(home / _NOTES)
