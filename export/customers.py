"""A bundle's customers, cut by store and hash, in the order of their pseudonyms.

Rows stay in the mapped file until a shard needs them; in memory are about 60 bytes a customer.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from c2rec.runtime.errors import PublishError
from c2rec.runtime.home.identity import PSEUDONYM_BYTES, pseudonym
from c2rec.runtime.release.bundle import Bundle
from c2rec.runtime.release.item_file import map_tensors
from c2rec.runtime.sync.shards import Shard
from c2rec.runtime.sync.visitors import NO_STORE, row_key

_SHARD_BYTES = (500_000, 2_000_000, 3_500_000)
"""Least, best and most; by their hashes customers fall unevenly, so that 4 MB are never reached."""

_Rows = npt.NDArray[np.int64]


class Customers:
    """Customers of a bundle who are not erased.

    Args:
        bundle: checked.
        customer_key: makes pseudonyms.
        erased: pseudonyms to leave out.

    Raises:
        ReleaseError: the bundle changed since it was checked.
        PublishError: it can't be read.
    """

    def __init__(self, bundle: Bundle, customer_key: bytes, erased: frozenset[bytes]) -> None:
        names: dict[str, int] = {}
        ids, row_keys = bytearray(), bytearray()
        kept: list[int] = []
        owners: list[npt.NDArray[np.int64]] = []
        where: list[npt.NDArray[np.int32]] = []
        row = 0
        for block in bundle.customers():
            in_block, stores = [], []
            for customer, listed in zip(block.customer_ids, block.stores, strict=True):
                each = pseudonym(customer_key, customer)
                ids += each
                row_keys += row_key(customer_key, customer)
                if each not in erased:
                    kept.append(row)
                    in_block += [row] * len(listed)
                    stores += [names.setdefault(store, len(names)) for store in listed]
                row += 1
            owners.append(np.array(in_block, np.int64))
            where.append(np.array(stores, np.int32))
        self._all = _mapped(bundle, np.frombuffer(ids, np.uint8).reshape(-1, PSEUDONYM_BYTES))
        self._row_keys = bytes(row_keys)
        words = np.frombuffer(ids, ">u8").reshape(-1, 2).astype(np.uint64)  # (n, 2)
        self._first_words = words[:, 0]
        lengths = np.diff(self._all.history_offsets)  # (n,)
        size = self._all.components.shape[2]
        self._bytes = PSEUDONYM_BYTES + 12 * size + 3 + 8 + 9 * lengths  # (n,)
        self._rows = np.array(kept, np.int64)
        self._rows = self._rows[np.lexsort(words[self._rows].T[::-1])]
        pairs, stores_of = np.concatenate(owners), np.concatenate(where)
        order = np.lexsort((words[pairs, 1], words[pairs, 0], stores_of))
        ends = np.cumsum(np.bincount(stores_of, minlength=len(names)))[:-1]
        self._of_store = dict(zip(names, np.split(pairs[order], ends), strict=bool(names)))

    @property
    def stores(self) -> list[str]:
        """Every store that somebody bought in, ascending."""
        return sorted(self._of_store)

    def __len__(self) -> int:
        return len(self._rows)

    def shards(self, store: str, previous: int | None) -> Iterator[Shard]:
        """Yield a store's shards.

        Args:
            store: its id.
            previous: the number of its shards in the release before, kept while it fits.
        """
        rows = self._of_store[store]
        buckets = power_of_two(int(self._bytes[rows].sum()), previous, *_SHARD_BYTES)
        for bucket, part in enumerate(self._cut(rows, buckets)):
            yield replace(self._all.take(part), store=store, bucket=bucket, buckets=buckets)

    def total_bytes(self) -> int:
        """Size of all rows."""
        return int(self._bytes[self._rows].sum())

    def visitors(self, buckets: int) -> Iterator[list[tuple[bytes, bytes, Shard]]]:
        """Yield for each bucket its customers: pseudonym, key of the row, and the row.

        Args:
            buckets: how many.
        """
        for part in self._cut(self._rows, buckets):
            yield [
                (
                    self._all.ids[row].tobytes(),
                    self._row_keys[32 * row : 32 * (row + 1)],
                    self._all.take(part[i : i + 1]),
                )
                for i, row in enumerate(part.tolist())
            ]

    def _cut(self, rows: _Rows, buckets: int) -> list[_Rows]:
        """Divide rows by hash; each part keeps their order."""
        numbers = (self._first_words[rows] % np.uint64(buckets)).astype(np.int64)
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(np.bincount(numbers, minlength=buckets))[:-1]
        return np.split(rows[order], ends)


def power_of_two(total: int, previous: int | None, least: int, best: int, most: int) -> int:
    """Into how many parts to cut: as before while that fits, otherwise a power of two.

    Args:
        total: what is cut.
        previous: the number of parts before, or None.
        least: a part may not be smaller on average, but for a single one.
        best: where the number is chosen anew, parts are at most so large, and over half of it.
        most: a part may not be larger on average.
    """
    large_enough = previous is not None and (previous == 1 or total / previous >= least)
    if previous is not None and large_enough and total / previous <= most:
        return previous
    parts = 1
    while total / parts > best:
        parts *= 2
    return parts


def _mapped(bundle: Bundle, ids: npt.NDArray[np.uint8]) -> Shard:
    """All customers as one shard of no store; its rows are read when they are taken."""
    try:
        with (bundle.folder / "customers.safetensors").open("rb") as file:
            tensors = map_tensors(file)
    except (OSError, ValueError) as error:
        raise PublishError(f"{bundle.folder}/customers.safetensors: {error}") from error
    return Shard(bundle.manifest.space, NO_STORE, 0, 1, ids, **tensors)
