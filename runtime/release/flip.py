"""From a built file to the active release, and what may be removed, for install and sync alike."""

import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import date
from pathlib import Path

from c2rec.runtime.errors import HomeError
from c2rec.runtime.events.bought_file import forget_before
from c2rec.runtime.home.disk import (
    generation_path,
    home_errors,
    kept_path,
    sha256_of,
    sync_to_disk,
)
from c2rec.runtime.home.state import State, activate, find_state
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.item_side import ArmSide, told_of
from c2rec.runtime.release.whole import item_sides, note_whole

SPARE_BYTES = 16 << 20
"""Stays free on the disk whatever is installed: events go on being written."""


def put_in_service(
    home: Path,
    unfinished: Path,
    *,
    release: str,
    seq: int | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> State:
    """Try a generation's golden inputs, and make it the active one, on trial.

    Args:
        home: the home folder, whose lock the caller holds.
        unfinished: the file that was built, in ``gen/``; it gets its name here.
        release: what it holds.
        seq: its number in the repository; None for a bundle installed by hand.
        report: called with what is being done.

    Raises:
        ReleaseError: it answers otherwise here than where it was made.
        HomeError: the home can't be written.
    """
    from c2rec.runtime.release.golden import check_golden  # onnxruntime, which this alone needs

    report("trying the release's golden inputs")
    cache = Cache(unfinished)
    try:
        check_golden(cache)
        manifest = cache.manifest()
        for arm in manifest.own_arms:
            report(f"trying the golden inputs of arm {arm.name}")
            with closing(ArmSide(cache, arm)) as side, told_of(f"arm {arm.name}"):
                check_golden(side)
    finally:
        cache.close()
    report("activating")
    with home_errors(f"can't write to the home folder {home}"):
        digest = sha256_of(unfinished)
        # Named by its content, a generation that is built again never replaces one that serves.
        name = release if seq is None else f"{seq}.{digest[:16]}"
        final = generation_path(home, name)
        sync_to_disk(unfinished)
        unfinished.replace(final)
        sync_to_disk(final.parent)
    note_whole(home, final, digest)
    for items, sha256 in item_sides(final.parent, manifest.files).items():
        note_whole(home, items, sha256)
    state = activate(home, release, digest, name=name, seq=seq)
    with suppress(HomeError):  # the next release does this too, and answers leave it alone already
        _forget_bought(home, state)
    return state


def _forget_bought(home: Path, state: State) -> None:
    """Forget what was bought here on days that both releases cover: one may be gone back to."""
    last = []
    for generation in (state.active, state.previous):
        if generation is not None:
            cache = Cache(generation_path(home, generation.name))
            try:
                last.append(date.fromisoformat(cache.manifest().data_to))
            finally:
                cache.close()
    # of the last day itself, data may have a part
    forget_before(home, (min(last) - date(1970, 1, 1)).days)


def check_space(home: Path, needed: int, what: str) -> None:
    """Make sure that the disk has room.

    Args:
        home: the home folder.
        needed: bytes, to which what stays free is added.
        what: is to be stored, for the message.

    Raises:
        HomeError: it has not.
    """
    free = free_bytes(home)
    needed += SPARE_BYTES
    if free < needed:
        raise HomeError(
            f"{home} has {free >> 20} MiB free; {what} needs {-(-needed >> 20)} MiB; "
            "free some space and try again"
        )


def free_bytes(home: Path) -> int:
    """Free space on the home's disk.

    Raises:
        HomeError: it can't be told.
    """
    with home_errors(f"can't read the home folder {home}"):
        return shutil.disk_usage(home).free


def remove_unused(home: Path) -> None:
    """Remove every generation, whole or not, but the active and the previous one.

    Args:
        home: the home folder, whose lock the caller holds.

    Raises:
        HomeError, OSError: something can't be read or removed.
    """
    state = find_state(home)  # read anew: an error may have come after the flip
    names: set[str] = set()
    whole = True
    for generation in (state and state.active, state and state.previous):
        if generation:
            path = generation_path(home, generation.name)
            names.add(path.name)
            try:
                names |= kept_by(path)
            except HomeError:
                whole = False  # it can't tell which files it needs: all of them stay
    for path in (home / "gen").iterdir():
        if path.is_dir() or path.name in names:  # a folder is not ours
            continue
        if path.suffix in (".db", ".tmp") or whole:
            path.unlink()


def kept_by(path: Path) -> set[str]:
    """Names of the files in ``gen/`` that a generation has besides its own.

    Raises:
        HomeError: it can't be read.
    """
    cache = Cache(path)
    try:
        files = cache.manifest().files
    finally:
        cache.close()
    return {kept_path(path.parent, name, listed.sha256).name for name, listed in files.items()}


def remove_leftovers(home: Path, unfinished: Path) -> None:
    """After an error: remove what it left. What can't be removed now, the next run removes."""
    with suppress(OSError, HomeError):
        unfinished.unlink(missing_ok=True)
        remove_unused(home)
