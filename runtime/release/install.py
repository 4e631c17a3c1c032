"""Installing a bundle: until the last step, what was there serves on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from c2rec.runtime.erasure.tombstones import read_tombstones
from c2rec.runtime.home.disk import (
    generation_path,
    home_errors,
    make_folder,
    only_one,
    sha256_of,
)
from c2rec.runtime.home.identity import find_identity
from c2rec.runtime.home.state import State, find_state
from c2rec.runtime.release.build import build_cache
from c2rec.runtime.release.bundle import Bundle, read_bundle
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.flip import check_space, put_in_service, remove_leftovers, remove_unused
from c2rec.runtime.release.whole import item_sides


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
        IdentityError: the kiosk's identity is damaged, so that who is erased can't be told.
    """
    bundle = read_bundle(bundle_folder, report=report)
    release = bundle.manifest.release
    with only_one(home):
        state = find_state(home)
        if state and _is_whole(home, state, bundle):
            return _installed(state, changed=False)
        unfinished = generation_path(home, release).with_suffix(".db.tmp")
        try:
            with home_errors(f"can't write to the home folder {home}"):
                make_folder(unfinished.parent)
                remove_unused(home)
                # ids have an index, pages have gaps
                check_space(home, bundle.manifest.bytes * 3 // 2, f"release {release}")
                gone = read_tombstones(home, find_identity(home)).covers
                build_cache(bundle, unfinished, gone=gone, report=report)
            state = put_in_service(home, unfinished, release=release, report=report)
        finally:
            remove_leftovers(home, unfinished)
    return _installed(state, changed=True)


def _installed(state: State, *, changed: bool) -> Installed:
    previous = state.previous.release if state.previous else None
    return Installed(state.active.release, previous, changed)


def _is_whole(home: Path, state: State, bundle: Bundle) -> bool:
    """Whether the bundle's release is active, made of the same files, and undamaged."""
    active = state.active
    if active.release != bundle.manifest.release or active.seq is not None:
        return False
    path = generation_path(home, active.name)
    files = {path: active.sha256} | item_sides(path.parent, bundle.manifest.files)
    for file, expected in files.items():
        with home_errors(f"can't read {file}"):
            if not file.is_file() or sha256_of(file) != expected:
                return False
    cache = Cache(path)
    try:
        return cache.manifest().files == bundle.manifest.files
    finally:
        cache.close()
