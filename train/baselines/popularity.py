"""Popularity in a channel, over all of training or its last days: the same list for everyone."""

import numpy as np
import numpy.typing as npt

from c2rec.runtime.records import CHANNELS
from c2rec.train.batches import Rows
from c2rec.train.split import Purchases


class Popularity:
    """Items by the number of customers who bought them in the channel.

    Args:
        purchases: distinct training purchases; ``days`` is the last day of each.
        items: items in the vocabulary.
        days: count only purchases of the last so many days of training; None counts all.
            Items that were bought equally often then come in order of their popularity over
            all of training.
    """

    def __init__(self, purchases: Purchases, *, items: int, days: int | None = None) -> None:
        every = _counts(purchases, items, np.ones(len(purchases.items), dtype=bool))
        self._scores = every
        if days is not None and len(purchases.days):
            recent = _counts(purchases, items, purchases.days > purchases.days.max() - days)
            self._scores = recent + every / (every.max() + 1)

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item: float32 (batch, items), equal rows."""
        row = self._scores[channel].astype(np.float32)
        return np.broadcast_to(row, (len(customers), len(row)))


def _counts(
    purchases: Purchases, items: int, chosen: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    counts = np.zeros((len(CHANNELS), items))
    np.add.at(counts, (purchases.channels[chosen], purchases.items[chosen]), 1.0)
    return counts
