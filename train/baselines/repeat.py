"""What the customer bought before, in any channel, then what sells in the channel asked about."""

import numpy as np
import numpy.typing as npt

from c2rec.train.baselines.popularity import Popularity
from c2rec.train.batches import Rows
from c2rec.train.split import Purchases


class Repeat:
    """Items that the customer bought, then all others; both by popularity in the channel.

    Args:
        purchases: distinct training purchases, sorted by customer.
        items: items in the vocabulary.
    """

    def __init__(self, purchases: Purchases, *, items: int) -> None:
        self._purchases = purchases
        self._popularity = Popularity(purchases, items=items)

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item: float32 (batch, items).

        A customer without purchases gets the popularity of the channel.
        """
        scores = self._popularity.scores(customers, channel).copy()
        # lifts what was bought above all else; float32 counts exactly up to 2²⁴
        bonus = scores.max(initial=0) + 1
        starts = np.searchsorted(self._purchases.customers, customers, side="left")
        stops = np.searchsorted(self._purchases.customers, customers, side="right")
        for row, start, stop in zip(scores, starts, stops, strict=True):
            # what was bought in both channels stands here twice; NumPy adds to it once
            row[self._purchases.items[start:stop]] += bonus
        return scores
