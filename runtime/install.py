"""Installing a bundle: until the last step, what was there serves on."""

import glob
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from c2rec.runtime.build import build_cache
from c2rec.runtime.bundle import Bundle, read_bundle
from c2rec.runtime.cache import Cache
from c2rec.runtime.disk import (
    ITEMS,
    generation_path,
    home_errors,
    items_path,
    only_one,
    sha256_of,
    sync_to_disk,
)
from c2rec.runtime.errors import HomeError
from c2rec.runtime.golden import check_golden
from c2rec.runtime.state import State, activate, find_state

_SPARE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Installed:
    """What an install did."""

    release: str
    previous: str | None
    """The release that would answer if this one couldn't."""
    changed: bool
    """False where this release was active already, and whole."""


def install(
    bundle_folder: Path, home: Path, *, report: Callable[[str], None] = lambda _: None
) -> Installed:
    """Check a bundle, build its cache, try it, and make it the active release.

    Whatever goes wrong, the release that was active stays so, and nothing half-built stays
    behind; a process killed in the middle leaves a file that the next install removes.

    Args:
        bundle_folder: the bundle.
        home: the kiosk's folder, made if need be.
        report: called with what is being done, for a person to read.

    Raises:
        ReleaseError: the bundle is bad, or answers otherwise here than where it was made.
        HomeError: the home can't be written, is full, or another install is running.
    """
    bundle = read_bundle(bundle_folder, report=report)
    release = bundle.manifest.release
    with only_one(home):
        state = find_state(home)
        if state and _is_whole(home, state, bundle):
            return _installed(state, changed=False)
        final = generation_path(home, release)
        unfinished = final.with_name(final.name + ".tmp")
        try:
            with home_errors(f"can't write to the home folder {home}"):
                final.parent.mkdir(exist_ok=True)
                _remove_unused(home)
                _check_space(home, bundle)
                build_cache(bundle, unfinished, report=report)
                report("trying the release's golden inputs")
                _try_golden(unfinished)
                report("activating")
                digest = sha256_of(unfinished)
                sync_to_disk(unfinished)
                unfinished.replace(final)
                sync_to_disk(final.parent)
            state = activate(home, release, digest)
        finally:
            # What can't be removed now, the next install removes: no reason to hide an error.
            with suppress(OSError, HomeError):
                unfinished.unlink(missing_ok=True)
                _remove_unused(home)
    return _installed(state, changed=True)


def _installed(state: State, *, changed: bool) -> Installed:
    previous = state.previous.release if state.previous else None
    return Installed(state.active.release, previous, changed)


def _is_whole(home: Path, state: State, bundle: Bundle) -> bool:
    """Whether the bundle's release is active, made of the same files, and undamaged."""
    release = state.active.release
    if release != bundle.manifest.release:
        return False
    path, items_sha256 = generation_path(home, release), bundle.manifest.files[ITEMS].sha256
    for file, expected in (
        (path, state.active.sha256),
        (items_path(path.parent, release, items_sha256), items_sha256),
    ):
        with home_errors(f"can't read {file}"):
            if not file.is_file() or sha256_of(file) != expected:
                return False
    cache = Cache(path)
    try:
        return cache.manifest().files == bundle.manifest.files
    finally:
        cache.close()


def _check_space(home: Path, bundle: Bundle) -> None:
    needed = bundle.manifest.bytes * 3 // 2 + _SPARE_BYTES  # ids have an index, pages have gaps
    free = shutil.disk_usage(home).free
    if free < needed:
        raise HomeError(
            f"{home} has {free >> 20} MiB free; release {bundle.manifest.release} needs "
            f"{needed >> 20} MiB; free some space and install again"
        )


def _try_golden(path: Path) -> None:
    cache = Cache(path)
    try:
        check_golden(cache)
    finally:
        cache.close()


def _remove_unused(home: Path) -> None:
    """Remove every generation, whole or not, but the active and the previous one."""
    state = find_state(home)  # read anew: an error may have come after the flip
    kept = {g.release for g in (state and state.active, state and state.previous) if g}
    names = {name for release in kept for name in _files_of(home, release)}
    for path in (home / "gen").iterdir():
        if path.name not in names and not path.is_dir():  # a folder is not ours
            path.unlink()


def _files_of(home: Path, release: str) -> set[str]:
    """Names of a release's files; of its item files all, where the cache can't tell which."""
    path = generation_path(home, release)
    try:
        cache = Cache(path)
    except HomeError:
        return {path.name, *(each.name for each in path.parent.glob(f"{glob.escape(release)}.*"))}
    cache.close()
    return {path.name, cache.items_path.name}
