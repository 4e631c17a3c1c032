"""Customers' online lists at head office, whoever made them, before they are published."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from c2rec.runtime.home.identity import PSEUDONYM_BYTES
from c2rec.runtime.sync.online_shards import ScoresShard

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class OnlineLists:
    """Lists of n customers; arrays as in ``online_shards.ScoresShard``."""

    customer_ids: list[str]
    """(n,), each once"""
    stores: list[list[str]]
    """(n,), the stores whose kiosks get each list"""
    item_ids: list[str]
    """What ``items`` and ``bought_items`` are places in."""
    offsets: Rows
    """(n + 1,)"""
    items: npt.NDArray[np.int32]
    """(m,), each customer's best first"""
    probabilities: npt.NDArray[np.float32]
    """(m,), 0 where it is not known"""
    bought_offsets: Rows
    """(n + 1,)"""
    bought_items: npt.NDArray[np.int32]
    """(b,)"""
    bought_at: Rows
    """(b,), seconds since 1970, UTC"""

    def shard(
        self,
        rows: Rows,
        ids: npt.NDArray[np.uint8],
        *,
        seq: int,
        store: str,
        bucket: int,
        buckets: int,
    ) -> ScoresShard:
        """Make a shard of some customers.

        Args:
            rows: int64 (r,), which, in the order of their pseudonyms.
            ids: uint8 (r, 16), their pseudonyms.
            seq: number of the scores.
            store: whose shard it is.
            bucket: which of the store's shards.
            buckets: how many the store has.
        """
        offsets, places = _taken(self.offsets, rows)
        bought_offsets, bought = _taken(self.bought_offsets, rows)
        together = np.concatenate([self.items[places], self.bought_items[bought]])
        named, numbers = np.unique(together, return_inverse=True)  # of this shard's own table
        return ScoresShard(
            seq,
            store,
            bucket,
            buckets,
            tuple(self.item_ids[each] for each in named.tolist()),
            ids=ids.reshape(-1, PSEUDONYM_BYTES),
            offsets=offsets,
            items=numbers[: len(places)].astype(np.int32),
            probabilities=self.probabilities[places],
            bought_offsets=bought_offsets,
            bought_items=numbers[len(places) :].astype(np.int32),
            bought_at=self.bought_at[bought],
        )

    def bytes(self) -> Rows:
        """What each customer takes in a shard, about: int64 (n,)."""
        taken: Rows = 8 * np.diff(self.offsets) + 12 * np.diff(self.bought_offsets)
        return taken + PSEUDONYM_BYTES + 16


def _taken(offsets: Rows, rows: Rows) -> tuple[Rows, Rows]:
    """Offsets of some rows put one after the other, and the places that they had."""
    lengths = np.diff(offsets)[rows]  # (r,)
    new = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)  # (r + 1,)
    first = np.repeat(offsets[rows] - new[:-1], lengths)
    return new, first + np.arange(new[-1])
