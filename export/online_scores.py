"""Publishing online scores: lists become sealed shards, indexes and a signed document."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from c2rec.export.blobs import Blobs
from c2rec.export.customers import power_of_two
from c2rec.export.keys import Keys
from c2rec.export.online_lists import OnlineLists, Rows
from c2rec.export.signed import SignedRepository
from c2rec.export.tombstones import erased
from c2rec.runtime.errors import PublishError, ReleaseError
from c2rec.runtime.home.identity import PSEUDONYM_BYTES, pseudonym
from c2rec.runtime.records import Channel
from c2rec.runtime.sync.documents import LARGEST_SEQ, BlobRef, index_number
from c2rec.runtime.sync.online_documents import (
    OnlineScores,
    ScoresRef,
    parse_online_scores,
    scores_index_json,
)
from c2rec.runtime.sync.online_shards import encode_scores
from c2rec.runtime.sync.sealed import seal

TARGET = "scores/index.json"
HALF_LIFE_HOURS, TTL_HOURS = 24.0, 72.0
_SHARD_BYTES = (500_000, 2_000_000, 3_500_000)
"""Least, best and most, as of customers' shards."""
_STORES_IN_AN_INDEX = (8, 20, 40)


@dataclass(frozen=True, slots=True)
class PublishedScores:
    """What publishing did."""

    seq: int
    customers: int
    """Those who are in a store's shard."""
    left_out: int
    """Those who are erased, or of no store."""
    stores: int
    shards: int
    blobs_written: int
    bytes_written: int


@dataclass(frozen=True, slots=True)
class About:
    """What is said of the scores."""

    model: str
    space: str | None
    channel: Channel
    as_of: datetime
    half_life_hours: float = HALF_LIFE_HOURS
    ttl_hours: float = TTL_HOURS


@dataclass(frozen=True, slots=True)
class MadeLists:
    """Lists, and what is said of them."""

    lists: OnlineLists
    about: About


def publish_scores(
    repository: SignedRepository,
    keys: Keys,
    made: MadeLists,
    *,
    report: Callable[[str], None] = lambda _: None,
) -> PublishedScores:
    """Put online scores into a repository, in the place of the last ones; seen after ``commit``.

    Args:
        repository: opened for change.
        keys: head office's.
        made: the customers' lists, and what is said of them.
        report: called with what is being done.

    Raises:
        PublishError: the scores there now can't be understood, or what is said can't be so.
    """
    lists, about = made.lists, made.about
    report("naming customers")
    gone = erased(repository)
    names = [pseudonym(keys.customer_key, each) for each in lists.customer_ids]
    kept = [i for i, name in enumerate(names) if name not in gone and lists.stores[i]]
    ids = np.frombuffer(b"".join(names), np.uint8).reshape(-1, PSEUDONYM_BYTES)  # (n, 16)
    seq = _next_seq(repository)
    of_store: dict[str, list[int]] = {}
    for row in sorted(kept, key=names.__getitem__):
        for store in lists.stores[row]:
            of_store.setdefault(store, []).append(row)
    with Blobs(repository.storage) as blobs:
        indexes, shards = _publish_stores(blobs, keys, lists, ids, of_store, seq, report)
    document = OnlineScores(
        seq=seq,
        model=about.model,
        space=about.space,
        channel=about.channel,
        as_of=about.as_of,
        issued_at=datetime.now(UTC).replace(microsecond=0),
        half_life_hours=about.half_life_hours,
        ttl_hours=about.ttl_hours,
        indexes=indexes,
    )
    content = document.to_json().encode()
    try:
        parse_online_scores(content)  # what a kiosk would refuse is not published
    except ReleaseError as error:
        raise PublishError(str(error)) from error
    repository.write_target(TARGET, content)
    return PublishedScores(
        seq=seq,
        customers=len(kept),
        left_out=len(names) - len(kept),
        stores=len(of_store),
        shards=shards,
        blobs_written=blobs.written,
        bytes_written=blobs.bytes_written,
    )


def _next_seq(repository: SignedRepository) -> int:
    """The next number; beyond the last that there is, which only a thief signs, from 1 anew.

    Kiosks follow once the key of the scores is another.
    """
    content = repository.read_target(TARGET)
    try:
        last = 0 if content is None else parse_online_scores(content).seq
        return last % LARGEST_SEQ + 1
    except ReleaseError as error:
        raise PublishError(f"the repository's {error}") from error


def _publish_stores(
    blobs: Blobs,
    keys: Keys,
    lists: OnlineLists,
    ids: npt.NDArray[np.uint8],
    of_store: Mapping[str, Sequence[int]],
    seq: int,
    report: Callable[[str], None],
) -> tuple[tuple[BlobRef, ...], int]:
    """Write all shards and indexes; the indexes and the number of shards come back."""
    count = power_of_two(len(of_store), None, *_STORES_IN_AN_INDEX)
    indexes, shards = [], 0
    for number in range(count):
        listed: dict[str, list[ScoresRef]] = {}
        for store in sorted(of_store):
            if index_number(store, count) == number:
                report(f"publishing store {store}")
                rows = np.array(of_store[store], np.int64)
                listed[store] = _publish_store(blobs, keys, lists, ids, rows, seq, store)
                shards += len(listed[store])
        indexes.append(blobs.put(scores_index_json(seq, listed).encode()))
    return tuple(indexes), shards


def _publish_store(
    blobs: Blobs,
    keys: Keys,
    lists: OnlineLists,
    ids: npt.NDArray[np.uint8],
    rows: Rows,
    seq: int,
    store: str,
) -> list[ScoresRef]:
    """Write a store's shards; ``rows`` are in the order of their pseudonyms."""
    buckets = power_of_two(int(lists.bytes()[rows].sum()), None, *_SHARD_BYTES)
    first = np.ascontiguousarray(ids[rows, :8]).view(">u8")[:, 0].astype(np.uint64)  # (r,)
    numbers = first % np.uint64(buckets)
    refs = []
    for bucket in range(buckets):
        part = rows[numbers == bucket]
        shard = lists.shard(part, ids[part], seq=seq, store=store, bucket=bucket, buckets=buckets)
        blob = blobs.put(seal(keys.store_key(store), encode_scores(shard)))
        refs.append(ScoresRef(bucket, buckets, len(part), blob))
    return refs
