"""From a signed release to a generation that serves: fetch, put together, build, try, flip."""

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from c2rec.runtime.erasure.tombstones import read_tombstones
from c2rec.runtime.errors import HomeError, NetworkError, ReleaseError, SyncError, TooNewError
from c2rec.runtime.home.disk import (
    home_errors,
    kept_path,
    sha256_of,
    sync_to_disk,
)
from c2rec.runtime.home.identity import Identity
from c2rec.runtime.home.state import State, changing_state, mark_bad
from c2rec.runtime.release.build import build_cache
from c2rec.runtime.release.bundle import Bundle, check_item_side
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.flip import check_space, put_in_service
from c2rec.runtime.release.whole import whole_cache
from c2rec.runtime.sync.documents import BlobRef, PublishedRelease
from c2rec.runtime.sync.download import fetch_blobs, has_blob, keep_blobs, read_blob, take_pieces
from c2rec.runtime.sync.generation import Part, make_filler, plan, stores_of
from c2rec.runtime.sync.source import Source


def install_release(
    home: Path,
    release: PublishedRelease,
    identity: Identity,
    source: Source,
    state: State | None,
    *,
    unfinished: Path,
    report: Callable[[str], None],
) -> State:
    """Fetch a release, build it, try it, and make it the active one.

    Args:
        home: the home folder, whose lock the caller holds.
        release: signed, and to be installed.
        identity: the kiosk's.
        source: the repository.
        state: what is installed.
        unfinished: the file that is built; the caller removes what an error leaves of it.
        report: called with what is being done.

    Raises:
        SyncError: a file is missing or damaged, or the repository can't be reached.
        ReleaseError: the release is bad; that is noted, and it is not taken again.
        IdentityError: the kiosk's keys don't open its store's customers.
        HomeError: the home can't be written, or is full.
    """
    with ExitStack() as stack:
        installed = _base(home, state, report)
        if installed is not None:
            stack.callback(installed.close)
        indexes = [(release.index_of(s), f"the index of store {s!r}") for s in stores_of(identity)]
        fetch_blobs(source, home, indexes, report=report)
        try:
            parts = plan(home, release, identity, installed)
            wanted = _files_to_fetch(home, release, installed) + [
                (part.blob, part.what) for part in parts if part.blob is not None
            ]
            # what another release, or an earlier state of the home, asked for is no longer needed
            keep_blobs(home, [blob for blob, _ in [*indexes, *wanted]])
            _check_space(home, release, parts, wanted)
            _fetch(source, home, wanted, parts, report)
            bundle = _bundle(home, release, report)
            check_item_side(bundle, report=report)
            # the shares of a disk may be others by now
            _check_space(home, release, parts, [])
            fill = make_filler(
                home,
                release,
                parts,
                identity,
                installed=installed,
                gone=read_tombstones(home, identity).covers,
                fetch=lambda blob, what: fetch_blobs(source, home, [(blob, what)]),
                report=report,
            )
            about = {"seq": str(release.seq), "space": release.space, "store": identity.store}
            if release.visitors is not None:
                about["visitors"] = _listed(release.visitors)
            with home_errors(f"can't write to the home folder {home}"):
                unfinished.unlink(missing_ok=True)
                build_cache(bundle, unfinished, fill=fill, about=about, report=report)
            return put_in_service(
                home,
                unfinished,
                release=release.manifest.release,
                seq=release.seq,
                report=report,
            )
        except TooNewError:
            raise  # an upgraded kiosk takes it
        except ReleaseError as error:
            with changing_state(home) as db:
                mark_bad(db, release.seq, release.manifest.release, str(error))
            raise ReleaseError(f"seq {release.seq} is bad, and not taken again: {error}") from error


def _fetch(
    source: Source,
    home: Path,
    wanted: list[tuple[BlobRef, str]],
    parts: list[Part],
    report: Callable[[str], None],
) -> None:
    """Fetch blobs; of a delta that is missing or damaged the whole shard comes later."""
    deltas = {part.delta.blob for part in parts if part.delta is not None}
    fetch_blobs(source, home, [each for each in wanted if each[0] not in deltas], report=report)
    for blob, what in wanted:
        if blob in deltas:
            try:
                fetch_blobs(source, home, [(blob, what)], report=report)
            except NetworkError:
                raise
            except SyncError:
                report(f"{what} has no good delta: it is fetched whole")


def _base(home: Path, state: State | None, report: Callable[[str], None]) -> Cache | None:
    """A generation to begin from: one whose every byte has been read."""
    report("checking what is installed")
    for generation in (state.active, state.previous) if state else ():
        if generation is not None and generation.seq is not None:
            try:
                return whole_cache(home, generation, thorough=True)
            except HomeError:
                continue
    return None


def _files_to_fetch(
    home: Path, release: PublishedRelease, installed: Cache | None
) -> list[tuple[BlobRef, str]]:
    """Blobs of the files that aren't kept already, with their names.

    What an installed file has of a changed one is taken from there.
    """
    wanted = []
    before = {} if installed is None else installed.manifest().files
    for name, blobs in release.files.items():
        digest = release.manifest.files[name].sha256
        path = kept_path(home / "gen", name, digest)
        with home_errors(f"can't read {path}"):
            if not path.is_file() or sha256_of(path) != digest:
                path.unlink(missing_ok=True)
                if name in before:
                    take_pieces(home, kept_path(home / "gen", name, before[name].sha256), blobs)
                wanted += [(blob, f"a part of {name}") for blob in blobs]
    return wanted


def _check_space(
    home: Path,
    release: PublishedRelease,
    parts: list[Part],
    wanted: list[tuple[BlobRef, str]],
) -> None:
    """Make sure that there is room for what is fetched, put together and built."""
    fetched = sum(blob.bytes for blob, _ in wanted if not has_blob(home, blob))
    put_together = sum(
        release.manifest.files[name].bytes
        for name in release.files
        if not kept_path(home / "gen", name, release.manifest.files[name].sha256).exists()
    )
    # ids have an index, pages have gaps; graphs, golden answers and what is scanned come besides
    built = sum(part.shard.blob.bytes for part in parts) * 3 // 2 + release.bytes
    check_space(home, fetched + put_together + built, f"seq {release.seq}")


def _bundle(home: Path, release: PublishedRelease, report: Callable[[str], None]) -> Bundle:
    """Put the files of a release together of their blobs, where they are kept."""
    folder = home / "gen"
    for name, blobs in release.files.items():
        digest = release.manifest.files[name].sha256
        path = kept_path(folder, name, digest)
        if path.exists():
            continue
        report(f"storing {name}")
        unfinished, found = path.with_name(path.name + ".tmp"), hashlib.sha256()
        with home_errors(f"can't write {path}"):
            try:
                with unfinished.open("wb") as file:
                    for blob in blobs:
                        content = read_blob(home, blob, f"a part of {name}")
                        found.update(content)
                        file.write(content)
                if found.hexdigest() != digest:
                    raise ReleaseError(
                        f"{name} has the sha256 {found.hexdigest()}; the manifest says {digest}"
                    )
                sync_to_disk(unfinished)
                unfinished.replace(path)
                sync_to_disk(folder)
            finally:
                unfinished.unlink(missing_ok=True)
    return Bundle(folder, release.manifest, kept=True)


def _listed(blobs: tuple[BlobRef, ...]) -> str:
    return json.dumps([blob.document() for blob in blobs])
