"""Customers who stand in a store that doesn't have them: one row each, under a key of its own.

``docs/repository-format.md`` is the contract. Everybody can fetch a bucket, but a row opens only
for who has the customer key and the customer's id, as read from a card.
"""

from collections.abc import Sequence

import numpy as np

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.home.identity import PSEUDONYM_BYTES, derived_key, pseudonym
from c2rec.runtime.release.item_file import tensors_in
from c2rec.runtime.release.tensors import TensorSpec, check_tensors, check_values
from c2rec.runtime.sync.sealed import seal, unseal
from c2rec.runtime.sync.shards import Shard, decode_shard, encode_shard

NO_STORE = ""
"""A visitor's row is a shard of this store, bucket 0 of 1."""


def row_key(customer_key: bytes, customer_id: str) -> bytes:
    """The key of a customer's row, 32 bytes."""
    return derived_key(customer_key, f"row:{customer_id}")


def seal_row(key: bytes, row: Shard) -> bytes:
    """Seal a shard of one row, of no store."""
    return seal(key, encode_shard(row))


def encode_visitors(ids: Sequence[bytes], rows: Sequence[bytes]) -> bytes:
    """Write a bucket.

    Args:
        ids: pseudonyms, ascending.
        rows: the sealed row of each.
    """
    from safetensors.numpy import save

    ends = np.cumsum([0, *map(len, rows)], dtype=np.int64)  # (n + 1,)
    joined = np.frombuffer(b"".join(rows), np.uint8)
    listed = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, PSEUDONYM_BYTES)
    return save({"ids": listed, "offsets": ends, "rows": joined})


def find_visitor(
    content: bytes, customer_id: str, customer_key: bytes, *, size: int, items: int, name: str
) -> Shard | None:
    """Find a customer in a bucket, and open their row.

    Args:
        content: the bucket.
        customer_id: as on the card.
        customer_key: the chain's.
        size: embedding size d of the release.
        items: how many items the release has.
        name: of the bucket, for messages.

    Returns:
        A shard of one row, or None where the bucket doesn't have the customer.

    Raises:
        ReleaseError: the bucket or the row is damaged, or doesn't fit the release.
    """
    try:
        tensors, _ = tensors_in(np.frombuffer(content, np.uint8), name)
    except ValueError as error:
        raise ReleaseError(f"{name} is no bucket of visitors: {error}") from error
    n = tensors["ids"].shape[0] if "ids" in tensors else 0
    specs = {
        "ids": TensorSpec("uint8", (n, PSEUDONYM_BYTES), high=255),
        "offsets": TensorSpec("int64", (n + 1,), high=len(content)),
        "rows": TensorSpec("uint8", ("bytes",), high=255),
    }
    found = {each: (array.dtype.name, array.shape) for each, array in tensors.items()}
    check_tensors(name, found, specs, least=0)
    check_values(f"{name}: tensor 'offsets'", tensors["offsets"], specs["offsets"])
    wanted = pseudonym(customer_key, customer_id)
    places = np.flatnonzero((tensors["ids"] == np.frombuffer(wanted, np.uint8)).all(1))
    if len(places) == 0:
        return None
    first, last = tensors["offsets"][places[0] : places[0] + 2]
    sealed = tensors["rows"][first:last].tobytes()
    opened = unseal(row_key(customer_key, customer_id), sealed, name=name)
    row = decode_shard(opened, name=name, size=size, items=items)
    if [each.tobytes() for each in row.ids] != [wanted]:
        raise ReleaseError(f"{name}: the row of a customer holds another; fetch it again")
    return row
