"""From a store's shards to what an index lists: sealed blobs, and deltas from earlier releases."""

from collections.abc import Sequence
from functools import lru_cache

from c2rec.export.blobs import Blobs
from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.sync.documents import (
    DeltaRef,
    PublishedRelease,
    ShardRef,
    index_number,
    parse_index,
)
from c2rec.runtime.sync.sealed import seal, unseal
from c2rec.runtime.sync.shards import (
    Shard,
    decode_shard,
    encode_delta,
    encode_shard,
    make_delta,
)

BASES = 3
"""Deltas lead from so many earlier releases."""


class Earlier:
    """What earlier releases of the same space say of each store.

    Args:
        blobs: of the repository.
        releases: the newest first.
    """

    def __init__(self, blobs: Blobs, releases: Sequence[PublishedRelease]) -> None:
        self._blobs, self._releases = blobs, releases
        self._index = lru_cache(maxsize=64)(self._read_index)

    def shards(self, store: str) -> list[tuple[ShardRef, ...]]:
        """A store's shards in each release that has it, the newest first."""
        found = []
        for release in self._releases:
            number = index_number(store, len(release.indexes))
            shards = self._index(release.seq, number).get(store)
            found += [shards] if shards else []
        return found

    def _read_index(self, seq: int, number: int) -> dict[str, tuple[ShardRef, ...]]:
        release = next(each for each in self._releases if each.seq == seq)
        content = self._blobs.find(release.indexes[number])
        if content is None:
            return {}  # gone: the full shard does as well
        try:
            return parse_index(content, space=release.space)
        except ReleaseError:
            return {}


def publish_shard(
    shard: Shard, earlier: Sequence[tuple[ShardRef, ...]], key: bytes, blobs: Blobs, items: int
) -> ShardRef:
    """Write a shard, and deltas from its earlier states; what is there already is kept.

    Args:
        shard: what the store's bucket holds now.
        earlier: the store's shards in earlier releases, the newest first.
        key: of the store.
        blobs: of the repository.
        items: how many items the release has.
    """
    content = shard.content()
    before = [shards[shard.bucket] for shards in earlier if len(shards) == shard.buckets]
    same = next(
        (i for i, old in enumerate(before) if old.content == content and blobs.has(old.blob)), None
    )
    if same is None:
        blob = blobs.put(seal(key, encode_shard(shard)))
        inherited: tuple[DeltaRef, ...] = ()
    else:
        blob, inherited = before[same].blob, before[same].deltas
    known = {content, *(delta.base for delta in inherited)}
    made: list[DeltaRef] = []
    for old in before[:same]:
        if old.content not in known:
            known.add(old.content)
            delta = _delta(old, shard, key, blobs, items, smaller_than=blob.bytes)
            made += [delta] if delta is not None else []
    deltas = tuple([*made, *inherited][:BASES])
    return ShardRef(shard.bucket, shard.buckets, len(shard.ids), content, blob, deltas)


def _delta(
    old: ShardRef, new: Shard, key: bytes, blobs: Blobs, items: int, *, smaller_than: int
) -> DeltaRef | None:
    """Write a delta, if the old shard can still be read and the delta is worth its while."""
    sealed = blobs.find(old.blob)
    if sealed is None:
        return None
    name = f"blob/{old.blob.sha256}"
    size = new.components.shape[2]
    try:
        base = decode_shard(unseal(key, sealed, name=name), name=name, size=size, items=items)
    except ReleaseError:  # made with other keys: nobody who has the new one could use it
        return None
    delta = seal(key, encode_delta(make_delta(base, new)))
    return DeltaRef(old.content, blobs.put(delta)) if len(delta) < smaller_than else None
