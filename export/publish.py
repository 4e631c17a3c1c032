"""Publishing a release: a bundle becomes blobs, indexes, a document, and a ring that takes it."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from c2rec.export.blobs import Blobs
from c2rec.export.customers import Customers, power_of_two
from c2rec.export.deltas import BASES, Earlier, publish_shard
from c2rec.export.keys import Keys
from c2rec.export.rings import point_ring, ring_target, rings
from c2rec.export.signed import SignedRepository, open_repository
from c2rec.export.tombstones import erased
from c2rec.runtime.bundle import Bundle, read_bundle
from c2rec.runtime.documents import (
    LARGEST_SEQ,
    TRAVELLING,
    BlobRef,
    PublishedRelease,
    ShardRef,
    Wave,
    index_json,
    index_number,
    parse_release,
)
from c2rec.runtime.errors import PublishError, ReleaseError
from c2rec.runtime.visitors import encode_visitors, seal_row

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
    repo: str | Path,
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
        repo: folder or URL of the repository; a new one is made.
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
    if not _VERSION.fullmatch(min_runtime):
        raise PublishError(f"--min-runtime {min_runtime!r}; allowed: a version, as in 0.1.0")
    bundle = read_bundle(bundle_folder, report=report)
    with open_repository(repo, keys) as repository:
        releases = published_releases(repository)
        if not again:
            _refuse_published(bundle, releases, ring)
        number = _next_seq(repository, releases, seq)
        blobs = Blobs(repository.storage)
        space = bundle.manifest.space
        before = next(iter(releases), None)
        earlier = [each for each in releases if each.space == space][:BASES]

        report("reading customers")
        customers = Customers(bundle, keys.customer_key, erased(repository))
        files = {}
        for name in TRAVELLING:
            if name in bundle.manifest.files:
                report(f"publishing {name}")
                files[name] = blobs.put_file(bundle_folder / name, bundle.manifest.files[name])
        report(f"publishing shards of {len(customers.stores)} stores")
        indexes, shards = _publish_stores(bundle, customers, keys, blobs, before, earlier)
        rows = None
        if visitors:
            report("publishing visitors' rows")
            rows = _publish_visitors(customers, blobs, before)
        release = PublishedRelease(
            seq=number,
            issued_at=datetime.now(UTC).replace(microsecond=0),
            min_runtime=min_runtime,
            space=space,
            manifest=bundle.manifest,
            files=files,
            indexes=indexes,
            visitors=rows,
        )
        report("signing")
        repository.write_target(f"rel/{number}.json", release.to_json().encode())
        point_ring(repository, ring, number, waves=waves, floor=floor)
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


def _refuse_published(bundle: Bundle, releases: Sequence[PublishedRelease], ring: str) -> None:
    for release in releases:
        if release.manifest.files == bundle.manifest.files:
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


def _publish_stores(
    bundle: Bundle,
    customers: Customers,
    keys: Keys,
    blobs: Blobs,
    before: PublishedRelease | None,
    earlier: Sequence[PublishedRelease],
) -> tuple[tuple[BlobRef, ...], list[ShardRef]]:
    """Write shards and indexes; of the shards, one store's are in memory at a time."""
    stores, past = customers.stores, Earlier(blobs, earlier)
    previous = None if before is None else len(before.indexes)
    count = power_of_two(max(1, len(stores)), previous, *_STORES_IN_AN_INDEX)
    of_index = {
        number: list(group)
        for number, group in groupby(
            sorted(stores, key=lambda store: index_number(store, count)),
            key=lambda store: index_number(store, count),
        )
    }
    indexes, every = [], []
    for number in range(count):
        listed: dict[str, list[ShardRef]] = {}
        for store in of_index.get(number, []):
            there, key = past.shards(store), keys.store_key(store)
            listed[store] = [
                publish_shard(shard, there, key, blobs, bundle.manifest.counts.items)
                for shard in customers.shards(store, len(there[0]) if there else None)
            ]
            every += listed[store]
        indexes.append(blobs.put(index_json(bundle.manifest.space, listed).encode()))
    return tuple(indexes), every


def _publish_visitors(
    customers: Customers, blobs: Blobs, before: PublishedRelease | None
) -> tuple[BlobRef, ...]:
    previous = None if before is None or before.visitors is None else len(before.visitors)
    buckets = power_of_two(customers.total_bytes(), previous, *_VISITORS_BYTES)
    return tuple(blobs.put(content) for content in _buckets(customers, buckets))


def _buckets(customers: Customers, buckets: int) -> Iterator[bytes]:
    for rows in customers.visitors(buckets):
        ids = [customer for customer, _, _ in rows]
        yield encode_visitors(ids, [seal_row(key, row) for _, key, row in rows])


def _prune(repository: SignedRepository, numbers: Sequence[int], keep: int) -> None:
    """Name no longer what is old and taken by no ring: metadata stays small."""
    taken = {ring.seq for ring in rings(repository)}
    for number in sorted(numbers)[: -max(keep, BASES, 1)]:
        if number not in taken:
            repository.drop_target(f"rel/{number}.json")
