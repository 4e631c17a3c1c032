"""Building a generation from what a kiosk has fetched, and from the generation before it.

Customers come as shards. One that has not changed is taken from the generation that is installed;
of one that has changed a little, a delta. Whatever way, its content is compared with what the
signed index says, and where a delta leads elsewhere, the whole shard is fetched.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from c2rec.runtime.errors import HomeError, IdentityError, ReleaseError, SyncError
from c2rec.runtime.home.identity import EVERY_STORE, PSEUDONYM_BYTES, Identity
from c2rec.runtime.release.build import INSERT_CUSTOMER
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.sync.documents import BlobRef, DeltaRef, PublishedRelease, ShardRef, parse_index
from c2rec.runtime.sync.download import read_blob
from c2rec.runtime.sync.sealed import unseal
from c2rec.runtime.sync.shards import Shard, apply_delta, decode_delta, decode_shard

Row = tuple[str, bytes, bytes, bytes, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Part:
    """A shard that a kiosk takes, and how it gets it."""

    store: str
    shard: ShardRef
    base: str | None
    """Content of the installed shard that it is made from; None: the whole shard is fetched."""
    delta: DeltaRef | None
    """None where the installed shard is the same."""

    @property
    def blob(self) -> BlobRef | None:
        """What has to be fetched."""
        if self.base is None:
            return self.shard.blob
        return None if self.delta is None else self.delta.blob

    @property
    def what(self) -> str:
        """Its name, for messages."""
        return _name(self.store, self.shard)


def plan(
    home: Path, release: PublishedRelease, identity: Identity, installed: Cache | None
) -> list[Part]:
    """Say how to get each shard of a kiosk's store.

    Args:
        home: with the release's indexes fetched.
        release: the release.
        identity: whose store it is.
        installed: a whole generation to begin from.

    Raises:
        ReleaseError: an index is not what the format allows.
    """
    there: Mapping[tuple[str, int], tuple[int, str]] = {}
    if installed is not None and installed.about("space") == release.space:
        there = installed.shards()
    parts = []
    for store in stores_of(identity):
        content = read_blob(home, release.index_of(store), f"the index of store {store!r}")
        listed = parse_index(content, space=release.space).get(store, ())
        for shard in listed:
            buckets, base = there.get((store, shard.bucket), (0, ""))
            fitting = [delta for delta in shard.deltas if delta.base == base]
            if buckets != shard.buckets:
                parts.append(Part(store, shard, None, None))
            elif base == shard.content:
                parts.append(Part(store, shard, base, None))
            elif fitting and fitting[0].blob.bytes < shard.blob.bytes:
                parts.append(Part(store, shard, base, fitting[0]))
            else:
                parts.append(Part(store, shard, None, None))
    return parts


def stores_of(identity: Identity) -> list[str]:
    """Stores whose customers a kiosk takes: its own, and the one of everybody."""
    return sorted({identity.store, EVERY_STORE})


def make_filler(
    home: Path,
    release: PublishedRelease,
    parts: Sequence[Part],
    identity: Identity,
    *,
    installed: Cache | None,
    gone: Callable[[str], bool],
    fetch: Callable[[BlobRef, str], None],
    report: Callable[[str], None],
) -> Callable[[sqlite3.Connection], None]:
    """Make what writes the customers into a cache that is being built, see ``build_cache``.

    Args:
        home: with the blobs of ``parts`` fetched.
        release: the release.
        parts: made by ``plan``.
        identity: whose keys open the shards.
        installed: the generation that ``plan`` was made for.
        gone: whether a customer, by pseudonym as hex digits, is erased.
        fetch: fetches a blob, where a delta has led elsewhere.
        report: called with what is being done.

    Returns:
        A function that raises ReleaseError where a shard is not what the index says.
    """
    reader = _Reader(home, release, identity, installed, fetch)

    def fill(db: sqlite3.Connection) -> None:
        with ThreadPoolExecutor(1) as ahead:
            rows_before = 0
            for number, (part, shard) in enumerate(_ahead(ahead, reader, parts), start=1):
                report(f"storing customers: shard {number} of {len(parts)}")
                rows = (row for row in _rows(shard) if not gone(row[0]))
                # a customer of the own store and of `all` is stored once
                db.executemany(INSERT_CUSTOMER.replace("INSERT", "INSERT OR IGNORE"), rows)
                (last,) = db.execute("SELECT ifnull(max(rowid), 0) FROM customers").fetchone()
                db.execute(
                    "INSERT INTO shards VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        part.store,
                        part.shard.bucket,
                        part.shard.buckets,
                        part.shard.content,
                        rows_before + 1,
                        last,
                    ],
                )
                rows_before = last

    return fill


def _ahead(
    pool: ThreadPoolExecutor, reader: "_Reader", parts: Sequence[Part]
) -> Iterator[tuple[Part, Shard]]:
    """Yield each shard, the next one being opened in the meantime.

    What is read from the installed generation is read here: its file belongs to this thread.
    """
    waiting = None
    for part in parts:
        base = reader.base(part)
        job = pool.submit(reader.shard, part, base)
        if waiting is not None:
            yield reader.settled(waiting[0], waiting[1].result())
        waiting = part, job
    if waiting is not None:
        yield reader.settled(waiting[0], waiting[1].result())


class _Reader:
    """Opens shards."""

    def __init__(
        self,
        home: Path,
        release: PublishedRelease,
        identity: Identity,
        installed: Cache | None,
        fetch: Callable[[BlobRef, str], None],
    ) -> None:
        self._home, self._release, self._identity = home, release, identity
        self._installed, self._fetch = installed, fetch

    def base(self, part: Part) -> list[Row]:
        """Rows of the installed shard that a part is made from."""
        if part.base is None or self._installed is None:
            return []
        return self._installed.shard_rows(part.store, part.shard.bucket)

    def shard(self, part: Part, base: list[Row]) -> Shard | None:
        """Open a shard; None where what is installed, or the delta, leads elsewhere."""
        if part.base is None:
            shard = self._whole(part)
            if shard.content() != part.shard.content:
                raise ReleaseError(f"{part.what}: its content is not what the index says")
            return self._fits(part, shard)
        try:
            old = _installed_shard(self._release, part, base)
            shard = old
            if part.delta is not None:
                content = self._opened(part, part.delta.blob)
                manifest = self._release.manifest
                size, items = manifest.embedding_size, manifest.counts.items
                delta = decode_delta(content, name=part.what, size=size, items=items)
                shard = apply_delta(old, delta)
            if shard.content() != part.shard.content:
                return None
        except (ReleaseError, SyncError, HomeError, ValueError, IndexError):
            return None
        return self._fits(part, shard)

    def settled(self, part: Part, shard: Shard | None) -> tuple[Part, Shard]:
        """A part and its shard, which is fetched whole where a shorter way has failed."""
        if shard is None:
            self._fetch(part.shard.blob, part.what)
            part = Part(part.store, part.shard, None, None)
            shard = self.shard(part, [])
        if shard is None:
            raise ReleaseError(f"{part.what}: its content is not what the index says")
        return part, shard

    def _whole(self, part: Part) -> Shard:
        manifest = self._release.manifest
        content = self._opened(part, part.shard.blob)
        size, items = manifest.embedding_size, manifest.counts.items
        return decode_shard(content, name=part.what, size=size, items=items)

    def _opened(self, part: Part, blob: BlobRef) -> bytes:
        key = self._identity.key_of(part.store)
        content = read_blob(self._home, blob, part.what)
        try:
            return unseal(key, content, name=part.what)
        except (
            ReleaseError
        ) as error:  # its digest is right: the key is not, and the release is good
            raise IdentityError(str(error)) from error

    def _fits(self, part: Part, shard: Shard) -> Shard:
        said = (self._release.space, part.store, part.shard.bucket, part.shard.buckets)
        for name, found, expected in zip(
            ("space", "store", "bucket", "buckets"),
            (shard.space, shard.store, shard.bucket, shard.buckets),
            said,
            strict=True,
        ):
            if found != expected:
                raise ReleaseError(f"{part.what} is of {name} {found!r}; allowed: {expected!r}")
        if len(shard.ids) != part.shard.rows:
            raise ReleaseError(
                f"{part.what} has {len(shard.ids)} rows; the index says {part.shard.rows}"
            )
        return shard


def _installed_shard(release: PublishedRelease, part: Part, rows: list[Row]) -> Shard:
    columns = zip(*rows, strict=True) if rows else ((),) * 6
    ids, components, has, items, channels, days = columns
    offsets = np.cumsum([0, *(len(each) for each in channels)], dtype=np.int64)  # (n + 1,)
    size = release.manifest.embedding_size
    return Shard(
        space=release.space,
        store=part.store,
        bucket=part.shard.bucket,
        buckets=part.shard.buckets,
        ids=np.frombuffer(bytes.fromhex("".join(ids)), np.uint8).reshape(-1, PSEUDONYM_BYTES),
        components=np.frombuffer(b"".join(components), np.float32).reshape(-1, 3, size),
        has=np.frombuffer(b"".join(has), np.uint8).reshape(-1, 3),
        history_offsets=offsets,
        history_items=np.frombuffer(b"".join(items), np.int32),
        history_channels=np.frombuffer(b"".join(channels), np.uint8),
        history_days=np.frombuffer(b"".join(days), np.int32),
    )


def _rows(shard: Shard) -> Iterator[Row]:
    """Yield the rows of ``customers``; slices of a few large objects, for speed."""
    ids, width = shard.ids.tobytes().hex(), 2 * PSEUDONYM_BYTES
    components = shard.components.tobytes()
    size = len(components) // max(1, len(shard.ids))
    has, items = shard.has.tobytes(), shard.history_items.tobytes()
    channels, days = shard.history_channels.tobytes(), shard.history_days.tobytes()
    ends = shard.history_offsets.tolist()
    for i in range(len(shard.ids)):
        first, last = ends[i], ends[i + 1]
        yield (
            ids[width * i : width * (i + 1)],
            components[size * i : size * (i + 1)],
            has[3 * i : 3 * (i + 1)],
            items[4 * first : 4 * last],
            channels[first:last],
            days[4 * first : 4 * last],
        )


def _name(store: str, shard: ShardRef) -> str:
    return f"shard {shard.bucket} of {shard.buckets} of store {store!r}"
