"""Customers of a store as they travel: shards, and deltas from one state of a shard to the next.

``docs/repository-format.md`` is the contract. Nothing read is believed before it is checked.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.home.identity import PSEUDONYM_BYTES
from c2rec.runtime.release.item_file import tensors_in
from c2rec.runtime.release.tensors import LAST_DAY, Array, TensorSpec, check_tensors, check_values

_METADATA = "c2rec"
_TENSORS = (
    "ids",
    "components",
    "has",
    "history_offsets",
    "history_items",
    "history_channels",
    "history_days",
)


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Some of a store's customers: n rows, in the order of their pseudonyms."""

    space: str
    store: str
    bucket: int
    buckets: int
    ids: npt.NDArray[np.uint8]
    """(n, 16), pseudonyms"""
    components: npt.NDArray[np.float32]
    """(n, 3, d)"""
    has: npt.NDArray[np.uint8]
    """(n, 3), 0 or 1"""
    history_offsets: npt.NDArray[np.int64]
    """(n + 1,), from 0, into the three below"""
    history_items: npt.NDArray[np.int32]
    history_channels: npt.NDArray[np.uint8]
    history_days: npt.NDArray[np.int32]
    """The last purchase of the item in the channel, days since 1970-01-01 UTC"""

    def content(self) -> str:
        """Digest of what it says, 64 hex digits; two shards are equal when theirs are."""
        n, _, size = self.components.shape
        head = [self.space, self.store, self.bucket, self.buckets, n, size]
        text = json.dumps(head, ensure_ascii=False, separators=(",", ":"))
        digest = hashlib.sha256(text.encode())
        for name in _TENSORS:
            values: Array = getattr(self, name)
            digest.update(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
        return digest.hexdigest()

    def customers(self) -> Iterator[tuple[bytes, tuple[bytes, bytes, bytes, bytes, bytes]]]:
        """Yield each pseudonym with its row: components, has, items, channels, days; as bytes."""
        ends = self.history_offsets.tolist()
        for i, customer in enumerate(self.ids):
            bought = slice(ends[i], ends[i + 1])
            yield (
                customer.tobytes(),
                (
                    self.components[i].tobytes(),
                    self.has[i].tobytes(),
                    self.history_items[bought].tobytes(),
                    self.history_channels[bought].tobytes(),
                    self.history_days[bought].tobytes(),
                ),
            )

    def take(self, rows: npt.NDArray[np.int64]) -> "Shard":
        """Keep rows, int64 (r,), in the order given."""
        lengths = self.history_offsets[rows + 1] - self.history_offsets[rows]  # (r,)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)  # (r + 1,)
        first = np.repeat(self.history_offsets[rows] - offsets[:-1], lengths)  # (m,)
        places = first + np.arange(offsets[-1])  # (m,)
        return replace(
            self,
            ids=self.ids[rows],
            components=self.components[rows],
            has=self.has[rows],
            history_offsets=offsets,
            history_items=self.history_items[places],
            history_channels=self.history_channels[places],
            history_days=self.history_days[places],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """What turns one state of a shard into the next."""

    base: str
    """Content of the shard that it changes."""
    changed: Shard
    """Rows that are new or differ."""
    removed: npt.NDArray[np.uint8]
    """(r, 16), pseudonyms that are gone, ascending"""


def bucket_of(pseudonym: bytes, buckets: int) -> int:
    """Which of a store's buckets holds a customer."""
    return int.from_bytes(pseudonym[:8], "big") % buckets


def make_delta(old: Shard, new: Shard) -> Delta:
    """Find what changed between two states of one shard."""
    before = dict(old.customers())
    after = dict(new.customers())
    changed = [i for i, (each, row) in enumerate(after.items()) if before.get(each) != row]
    gone = b"".join(each for each in before if each not in after)
    removed = np.frombuffer(gone, np.uint8).reshape(-1, PSEUDONYM_BYTES)
    return Delta(old.content(), new.take(np.array(changed, np.int64)), removed)


def apply_delta(old: Shard, delta: Delta) -> Shard:
    """Make the next state of a shard.

    Raises:
        ReleaseError: the delta is for another shard, or for another state of it.
    """
    new = delta.changed
    for name in ("space", "store", "bucket", "buckets"):
        if getattr(old, name) != getattr(new, name):
            raise ReleaseError(
                f"a delta is for {name} {getattr(new, name)!r}; allowed: {getattr(old, name)!r}"
            )
    if delta.base != old.content():
        raise ReleaseError(
            f"a delta is for the content {delta.base[:16]}…; allowed: {old.content()[:16]}…, "
            "which is installed"
        )
    together = _joined(old, new)
    place = {each.tobytes(): i for i, each in enumerate(old.ids)}
    place |= {each.tobytes(): i for i, each in enumerate(new.ids, start=len(old.ids))}
    for each in delta.removed:
        place.pop(each.tobytes(), None)
    return together.take(np.array([place[each] for each in sorted(place)], np.int64))


def encode_shard(shard: Shard, *, base: str | None = None, removed: Array | None = None) -> bytes:
    """Write a shard or, with ``base``, a delta, as a safetensors file."""
    from safetensors.numpy import save

    about = {"format": 1, "space": shard.space, "store": shard.store}
    about |= {"bucket": shard.bucket, "buckets": shard.buckets, "base": base}
    tensors: dict[str, Array] = {name: getattr(shard, name) for name in _TENSORS}
    if base is not None:
        tensors["removed"] = (
            np.empty((0, PSEUDONYM_BYTES), np.uint8) if removed is None else removed
        )
    contiguous = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    return save(contiguous, {_METADATA: json.dumps(about, sort_keys=True)})


def encode_delta(delta: Delta) -> bytes:
    """Write a delta."""
    return encode_shard(delta.changed, base=delta.base, removed=delta.removed)


def decode_shard(content: bytes, *, name: str, size: int, items: int) -> Shard:
    """Read a shard.

    Args:
        content: the file, unsealed.
        name: of the file, for messages.
        size: embedding size d of the release.
        items: how many items the release has.

    Raises:
        ReleaseError: it is damaged, no shard of format 1, or doesn't fit the release.
    """
    shard, base, _ = _decode(content, name, size, items)
    if base is not None:
        raise ReleaseError(f"{name} is a delta; allowed: a whole shard")
    return shard


def decode_delta(content: bytes, *, name: str, size: int, items: int) -> Delta:
    """Read a delta; arguments and errors as of ``decode_shard``."""
    changed, base, removed = _decode(content, name, size, items)
    if base is None:
        raise ReleaseError(f"{name} is a whole shard; allowed: a delta")
    return Delta(base, changed, removed)


def _decode(content: bytes, name: str, size: int, items: int) -> tuple[Shard, str | None, Array]:
    try:
        tensors, metadata = tensors_in(np.frombuffer(content, np.uint8), name)
        about = json.loads(metadata[_METADATA])
        space, store, base = about["space"], about["store"], about["base"]
        bucket, buckets = about["bucket"], about["buckets"]
        right = (
            about["format"] == 1
            and all(isinstance(each, str) for each in (space, store))
            and all(type(each) is int for each in (bucket, buckets))
            and (base is None or isinstance(base, str))
            and 0 <= bucket < buckets
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ReleaseError(f"{name} is no shard: {error}") from error
    if not right:
        raise ReleaseError(f"{name} is no shard of format 1: its metadata is {about!r:.200}")
    n, rows = tensors["ids"].shape[0] if "ids" in tensors else 0, "interactions"
    specs = {
        "ids": TensorSpec("uint8", (n, PSEUDONYM_BYTES), high=255),
        "components": TensorSpec("float32", (n, 3, size)),
        "has": TensorSpec("uint8", (n, 3), high=1),
        "history_offsets": TensorSpec("int64", (n + 1,), high=len(content)),
        "history_items": TensorSpec("int32", (rows,), high=items - 1),
        "history_channels": TensorSpec("uint8", (rows,), high=1),
        "history_days": TensorSpec("int32", (rows,), high=LAST_DAY),
    }
    if base is not None:
        specs["removed"] = TensorSpec("uint8", ("removed", PSEUDONYM_BYTES), high=255)
    found = {each: (array.dtype.name, array.shape) for each, array in tensors.items()}
    check_tensors(name, found, specs, least=0)
    for each, spec in specs.items():
        check_values(f"{name}: tensor {each!r}", tensors[each], spec)
    removed = tensors.pop("removed", np.empty((0, PSEUDONYM_BYTES), np.uint8))
    shard = Shard(space, store, bucket, buckets, **tensors)
    _check_rows(shard, name)
    return shard, base, removed


def _check_rows(shard: Shard, name: str) -> None:
    ids, offsets = shard.ids, shard.history_offsets
    words = np.ascontiguousarray(ids).view(">u8").astype(np.uint64)  # (n, 2)
    first, second = words[:, 0], words[:, 1]
    rises = (first[1:] > first[:-1]) | ((first[1:] == first[:-1]) & (second[1:] > second[:-1]))
    if not rises.all():
        at = int(np.argmin(rises))
        one, other = ids[at].tobytes(), ids[at + 1].tobytes()
        raise ReleaseError(
            f"{name}: pseudonym {other.hex()} after {one.hex()}; allowed: ascending, each once"
        )
    strangers = np.flatnonzero(first % np.uint64(shard.buckets) != np.uint64(shard.bucket))
    if len(strangers):
        stranger = ids[strangers[0]].tobytes()
        raise ReleaseError(f"{name}: pseudonym {stranger.hex()} is not of bucket {shard.bucket}")
    if offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != len(shard.history_items):
        raise ReleaseError(
            f"{name}: history_offsets don't rise from 0 to {len(shard.history_items)}, the length "
            "of history_items"
        )
    # one number for customer, channel and item, each below 2³¹
    keys = np.repeat(2 * np.arange(len(ids)), np.diff(offsets)) + shard.history_channels  # (m,)
    keys = np.sort(keys << np.int64(31) | shard.history_items)
    if (keys[1:] == keys[:-1]).any():
        raise ReleaseError(f"{name}: a customer has an item twice in one channel; allowed: once")


def _joined(one: Shard, other: Shard) -> Shard:
    """Put the rows of two shards one after the other, in no order."""
    pairs = {name: [getattr(one, name), getattr(other, name)] for name in _TENSORS}
    pairs["history_offsets"][1] = other.history_offsets[1:] + one.history_offsets[-1]
    tensors: dict[str, Array] = {name: np.concatenate(both) for name, both in pairs.items()}
    return Shard(one.space, one.store, one.bucket, one.buckets, **tensors)
