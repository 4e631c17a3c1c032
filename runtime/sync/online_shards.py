"""Online scores of a store's customers as they travel.

``docs/repository-format.md`` is the contract. Nothing read is believed before it is checked.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.home.identity import PSEUDONYM_BYTES
from c2rec.runtime.release.item_file import tensors_in
from c2rec.runtime.release.tensors import Array, TensorSpec, check_tensors, check_values
from c2rec.runtime.sync.online_documents import LONGEST_LIST
from c2rec.runtime.sync.shards import bucket_of

_METADATA = "c2rec"
_TENSORS = ("ids", "offsets", "items", "probabilities")
_BOUGHT = ("bought_offsets", "bought_items", "bought_at")
_LATEST = 2**40
"""Of a time, in seconds since 1970."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoresShard:
    """Lists of n customers, in the order of their pseudonyms."""

    seq: int
    store: str
    bucket: int
    buckets: int
    item_ids: tuple[str, ...]
    """The items named below, of the online shop's catalogue."""
    ids: npt.NDArray[np.uint8]
    """(n, 16), pseudonyms"""
    offsets: npt.NDArray[np.int64]
    """(n + 1,), from 0, into the two below"""
    items: npt.NDArray[np.int32]
    """(m,), places in ``item_ids``, each customer's best first"""
    probabilities: npt.NDArray[np.float32]
    """(m,), that the customer buys the item; 0 where it is not known"""
    bought_offsets: npt.NDArray[np.int64]
    """(n + 1,), from 0, into the two below"""
    bought_items: npt.NDArray[np.int32]
    """(b,), places in ``item_ids``: bought online since the release"""
    bought_at: npt.NDArray[np.int64]
    """(b,), seconds since 1970, UTC"""

    def customers(self) -> Iterator[tuple[bytes, Array, Array, Array, Array]]:
        """Yield each pseudonym with its items, probabilities, items bought and when."""
        ends, bought_ends = self.offsets.tolist(), self.bought_offsets.tolist()
        for i, customer in enumerate(self.ids):
            listed, bought = slice(*ends[i : i + 2]), slice(*bought_ends[i : i + 2])
            yield (
                customer.tobytes(),
                self.items[listed],
                self.probabilities[listed],
                self.bought_items[bought],
                self.bought_at[bought],
            )


def encode_scores(shard: ScoresShard) -> bytes:
    """Write a shard as a safetensors file."""
    from safetensors.numpy import save

    about: dict[str, object] = {"format": 1, "scores": shard.seq, "store": shard.store}
    about |= {"bucket": shard.bucket, "buckets": shard.buckets, "items": list(shard.item_ids)}
    tensors = {name: np.ascontiguousarray(getattr(shard, name)) for name in (*_TENSORS, *_BOUGHT)}
    return save(tensors, {_METADATA: json.dumps(about, sort_keys=True)})


def decode_scores(content: bytes, *, name: str) -> ScoresShard:
    """Read a shard.

    Args:
        content: the file, unsealed.
        name: of the file, for messages.

    Raises:
        ReleaseError: it is damaged, or not a shard of format 1.
    """
    try:
        tensors, metadata = tensors_in(np.frombuffer(content, np.uint8), name)
        about = json.loads(metadata[_METADATA])
        seq, store, item_ids = about["scores"], about["store"], about["items"]
        bucket, buckets = about["bucket"], about["buckets"]
        right = (
            about["format"] == 1
            and isinstance(store, str)
            and all(type(each) is int for each in (seq, bucket, buckets))
            and 0 <= bucket < buckets
            and isinstance(item_ids, list)
            and all(isinstance(each, str) and each for each in item_ids)
            and len(set(item_ids)) == len(item_ids)
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ReleaseError(f"{name} is no shard of online scores: {error}") from error
    if not right:
        raise ReleaseError(
            f"{name} is no shard of online scores of format 1: its metadata is {about!r:.200}"
        )
    n, last = tensors["ids"].shape[0] if "ids" in tensors else 0, len(item_ids) - 1
    specs = {
        "ids": TensorSpec("uint8", (n, PSEUDONYM_BYTES), high=255),
        "offsets": TensorSpec("int64", (n + 1,), high=len(content)),
        "items": TensorSpec("int32", ("listed",), high=last),
        "probabilities": TensorSpec("float32", ("listed",), low=0),
        "bought_offsets": TensorSpec("int64", (n + 1,), high=len(content)),
        "bought_items": TensorSpec("int32", ("bought",), high=last),
        "bought_at": TensorSpec("int64", ("bought",), high=_LATEST),
    }
    found = {each: (array.dtype.name, array.shape) for each, array in tensors.items()}
    check_tensors(name, found, specs, least=0)
    for each, spec in specs.items():
        check_values(f"{name}: tensor {each!r}", tensors[each], spec)
    shard = ScoresShard(seq, store, bucket, buckets, tuple(item_ids), **tensors)
    _check_rows(shard, name)
    return shard


def _check_rows(shard: ScoresShard, name: str) -> None:
    ids = [each.tobytes() for each in shard.ids]
    for one, other in pairwise(ids):
        if one >= other:
            raise ReleaseError(
                f"{name}: pseudonym {other.hex()} after {one.hex()}; allowed: ascending, each once"
            )
    for each in ids:
        if bucket_of(each, shard.buckets) != shard.bucket:
            raise ReleaseError(f"{name}: pseudonym {each.hex()} is not of bucket {shard.bucket}")
    _check_offsets(f"{name}: offsets", shard.offsets, len(shard.items))
    _check_offsets(f"{name}: bought_offsets", shard.bought_offsets, len(shard.bought_items))
    lengths = np.diff(shard.offsets)
    if len(lengths) and lengths.max() > LONGEST_LIST:
        raise ReleaseError(f"{name}: a list has {lengths.max()} items; allowed: {LONGEST_LIST}")
    if len(shard.probabilities) and shard.probabilities.max() > 1:
        raise ReleaseError(f"{name}: a probability is above 1; allowed: 0 to 1")
    owners = np.repeat(np.arange(len(ids)), lengths)  # (m,)
    if len(np.unique(np.stack([owners, shard.items]), axis=1).T) != len(shard.items):
        raise ReleaseError(f"{name}: a customer's list has an item twice; allowed: once")


def _check_offsets(where: str, offsets: npt.NDArray[np.int64], end: int) -> None:
    if offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != end:
        raise ReleaseError(f"{where} don't rise from 0 to {end}")
