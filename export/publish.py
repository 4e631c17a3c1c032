"""Publishing a release: a bundle becomes blobs, indexes, a document, and a ring that takes it."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from c2rec.export.blobs import Blobs
from c2rec.export.customers import Customers, power_of_two
from c2rec.export.deltas import BASES, Earlier, publish_shard
from c2rec.export.keys import Keys
from c2rec.export.rings import Moved, check_floor, find_ring, point_ring, ring_target, rings
from c2rec.export.signed import SignedRepository, open_repository
from c2rec.export.storage import Storage
from c2rec.export.tombstones import erased
from c2rec.runtime.errors import PublishError, ReleaseError
from c2rec.runtime.release.bundle import Bundle, read_bundle
from c2rec.runtime.sync.documents import (
    LARGEST_SEQ,
    BlobRef,
    PublishedRelease,
    ShardRef,
    Wave,
    index_json,
    index_number,
    parse_release,
    travelling,
)
from c2rec.runtime.sync.visitors import encode_visitors, seal_row

KEPT = 4
"""Releases that stay published, besides those that a ring takes."""
OLDEST_RUNTIME = "0.1.0"
"""The first version that reads a repository."""
_STORES_IN_AN_INDEX = (8, 20, 40)
_VISITORS_BYTES = (250_000, 1_000_000, 2_000_000)
"""A kiosk fetches one bucket for a customer that its store doesn't have."""
_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){0,3}")


@dataclass(frozen=True, slots=True)
class Published:
    """What publishing did."""

    seq: int
    release: str
    ring: str
    customers: int
    """Those in shards and visitors' rows: everybody who isn't erased."""
    stores: int
    shards: int
    deltas: int
    blobs_written: int
    bytes_written: int


def publish(
    bundle_folder: Path,
    repo: str | Path | Storage,
    keys: Keys,
    *,
    ring: str = "stable",
    waves: Sequence[Wave] = (),
    floor: int | None = None,
    min_runtime: str = OLDEST_RUNTIME,
    seq: int | None = None,
    visitors: bool = True,
    again: bool = False,
    keep: int = KEPT,
    report: Callable[[str], None] = lambda _: None,
) -> Published:
    """Publish a bundle, and let a ring take it.

    Ended at any moment, it leaves what kiosks read as it was; run again, it completes.

    Args:
        bundle_folder: the bundle.
        repo: folder or URL of the repository, or its files; a new one is made.
        keys: head office's.
        ring: which kiosks take it.
        waves: when which share of them may install; none: everybody at once.
        floor: the least seq that the ring's kiosks may still install; None leaves it.
        min_runtime: the least version of c2rec that can serve it.
        seq: its number; None takes the next one.
        visitors: publish rows for customers who stand in a store that doesn't have them.
        again: publish a bundle that is published already, as after new tombstones.
        keep: how many releases stay published, besides those that a ring takes.
        report: called with what is being done.

    Raises:
        ReleaseError: the bundle is bad.
        PublishError: the repository or the keys can't be used, or an option is wrong.
    """
    ring_target(ring)
    check_version(min_runtime)
    with open_repository(repo, keys) as repository:
        # what is quick to check comes first: a bundle may take minutes
        releases = published_releases(repository)
        number = _next_seq(repository, releases, seq)
        check_floor(find_ring(repository, ring), ring, number, floor)
        bundle = read_bundle(bundle_folder, report=report)
        if not again:
            _refuse_published(bundle, releases, ring)
        report("reading customers")
        customers = Customers(bundle, keys.customer_key, erased(repository))
        with Blobs(repository.storage, mend=again) as blobs:
            cut = _Cut(bundle, customers, blobs, releases, report)
            files = cut.files()
            indexes, shards = cut.stores(keys)
            rows = cut.visitors() if visitors else None
        release = PublishedRelease(
            seq=number,
            issued_at=datetime.now(UTC).replace(microsecond=0),
            min_runtime=min_runtime,
            space=bundle.manifest.space,
            manifest=bundle.manifest,
            files=files,
            indexes=indexes,
            visitors=rows,
        )
        report("signing")
        repository.write_target(f"rel/{number}.json", release.to_json().encode())
        moved = point_ring(repository, ring, number, waves=waves, floor=floor)
        _tell_an_end(moved, releases, bundle, report)
        _prune(repository, [number, *(each.seq for each in releases)], keep)
        repository.commit()
    return Published(
        seq=number,
        release=bundle.manifest.release,
        ring=ring,
        customers=len(customers),
        stores=len(customers.stores),
        shards=len(shards),
        deltas=sum(len(shard.deltas) for shard in shards),
        blobs_written=blobs.written,
        bytes_written=blobs.bytes_written,
    )


def check_version(min_runtime: str) -> None:
    """Check what is asked for as the least version.

    Raises:
        PublishError: it is no version.
    """
    if not _VERSION.fullmatch(min_runtime):
        raise PublishError(f"--min-runtime {min_runtime!r}; allowed: a version, as in 0.1.0")


def promote_release(
    repository: SignedRepository,
    seq: int,
    ring: str,
    *,
    waves: Sequence[Wave] = (),
    floor: int | None = None,
    forget_floor: bool = False,
) -> Moved:
    """Let a ring take a release that is published; seen after ``commit``.

    Raises:
        PublishError: it is not published, or below the ring's floor.
    """
    known = [release.seq for release in published_releases(repository)]
    if seq not in known:
        listed = ", ".join(map(str, known)) or "none"
        raise PublishError(f"there is no release {seq}; the repository has: {listed}")
    return point_ring(repository, ring, seq, waves=waves, floor=floor, forget_floor=forget_floor)


def published_releases(repository: SignedRepository) -> list[PublishedRelease]:
    """Read all releases that are published, the newest first.

    Raises:
        PublishError: a document is damaged, or of a newer format.
    """
    found = []
    for target in repository.target_names("release"):
        content = repository.read_target(target)
        try:
            number = int(target.removeprefix("rel/").removesuffix(".json"))
            found += [parse_release(content, number)] if content is not None else []
        except (ReleaseError, ValueError) as error:
            raise PublishError(f"the repository's {target}: {error}") from error
    return sorted(found, key=lambda release: -release.seq)


def _tell_an_end(
    moved: Moved,
    releases: Sequence[PublishedRelease],
    bundle: Bundle,
    report: Callable[[str], None],
) -> None:
    """Warn where a ring's release carries an experiment that the next one doesn't."""
    before = [each for each in releases if moved.before and each.seq == moved.before.seq]
    running = before[0].manifest.experiment if before else None
    following = bundle.manifest.experiment
    if running is not None and (following is None or following.name != running.name):
        report(
            f"Warning: release {before[0].seq} carries the experiment {running.name!r}, and this "
            f"one doesn't: it ends where ring {moved.ring.ring} takes this one; to go on with it, "
            "bundle with --experiment"
        )


def _refuse_published(bundle: Bundle, releases: Sequence[PublishedRelease], ring: str) -> None:
    manifest = bundle.manifest
    for release in releases:
        there = release.manifest
        if (there.release, there.files) == (manifest.release, manifest.files):
            raise PublishError(
                f"{bundle.folder} is published already, as {release.seq}; let a ring take it "
                f"with: c2rec-export promote REPO {release.seq} --ring {ring}; or publish it once "
                "more with --again, as after new tombstones"
            )


def _next_seq(
    repository: SignedRepository, releases: Sequence[PublishedRelease], asked: int | None
) -> int:
    last = max([0, *(r.seq for r in releases), *(ring.seq for ring in rings(repository))])
    if asked is not None and not last < asked <= LARGEST_SEQ:
        raise PublishError(
            f"--seq {asked}; the repository is at {last}; allowed: a greater number, or none for "
            "the next one"
        )
    return last + 1 if asked is None else asked


@dataclass(frozen=True, slots=True)
class _Cut:
    """A bundle as it is cut into blobs; of its customers, one shard is in memory at a time."""

    bundle: Bundle
    customers: Customers
    blobs: Blobs
    releases: Sequence[PublishedRelease]
    """Those that are published, the newest first."""
    report: Callable[[str], None]

    def files(self) -> dict[str, tuple[BlobRef, ...]]:
        """Write the files that travel as they are."""
        found = {}
        for name in travelling(self.bundle.manifest):
            self.report(f"publishing {name}")
            listed = self.bundle.manifest.files[name]
            found[name] = self.blobs.put_file(self.bundle.folder / name, listed)
        return found

    def stores(self, keys: Keys) -> tuple[tuple[BlobRef, ...], list[ShardRef]]:
        """Write shards and indexes; the shards of all stores come back too."""
        names, manifest = self.customers.stores, self.bundle.manifest
        self.report(f"publishing shards of {len(names)} stores")
        same_space = [each for each in self.releases if each.space == manifest.space]
        past = Earlier(self.blobs, same_space[:BASES])
        before = len(self.releases[0].indexes) if self.releases else None
        count = power_of_two(len(names), before, *_STORES_IN_AN_INDEX)
        of_index: list[list[str]] = [[] for _ in range(count)]
        for store in names:
            of_index[index_number(store, count)].append(store)
        indexes, every = [], []
        for stores in of_index:
            listed: dict[str, list[ShardRef]] = {}
            for store in stores:
                there, key = past.shards(store), keys.store_key(store)
                listed[store] = [
                    publish_shard(shard, there, key, self.blobs, manifest.counts.items)
                    for shard in self.customers.shards(store, len(there[0]) if there else None)
                ]
                every += listed[store]
            indexes.append(self.blobs.put(index_json(manifest.space, listed).encode()))
        return tuple(indexes), every

    def visitors(self) -> tuple[BlobRef, ...]:
        """Write the rows of all customers, each under its own key."""
        self.report("publishing visitors' rows")
        last = self.releases[0].visitors if self.releases else None
        before = None if last is None else len(last)
        buckets = power_of_two(self.customers.total_bytes(), before, *_VISITORS_BYTES)
        return tuple(self._visitors(buckets))

    def _visitors(self, buckets: int) -> Iterator[BlobRef]:
        for rows in self.customers.visitors(buckets):
            ids = [customer for customer, _, _ in rows]
            sealed = [seal_row(key, row) for _, key, row in rows]
            yield self.blobs.put(encode_visitors(ids, sealed))


def _prune(repository: SignedRepository, numbers: Sequence[int], keep: int) -> None:
    """Name no longer what is old and taken by no ring: metadata stays small."""
    taken = {ring.seq for ring in rings(repository)}
    for number in sorted(numbers)[: -max(keep, 1)]:
        if number not in taken:
            repository.drop_target(f"rel/{number}.json")
