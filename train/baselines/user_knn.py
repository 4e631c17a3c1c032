"""What customers with similar purchases bought: the cosine of their items."""

import numpy as np
import numpy.typing as npt

from c2rec.train.baselines.interactions import interactions
from c2rec.train.baselines.item_knn import cosine_neighbours
from c2rec.train.batches import Rows
from c2rec.train.split import Purchases

_BLOCK = 256
"""Customers compared with all others at a time, which bounds memory."""


class UserKNN:
    """Customer neighbours: an item's score is the sum of the similarities of those who bought it.

    Args:
        purchases: distinct training purchases.
        customers: customers in the vocabulary.
        items: items in the vocabulary.
        channel: learn from and answer for this channel alone; None merges both.
        neighbours: how many of the most similar customers vote, at least 1; of equally similar
            ones those of the lower row. None lets all vote. The customer never does.

    Raises:
        ValueError: ``neighbours`` is too small.
    """

    def __init__(
        self,
        purchases: Purchases,
        *,
        customers: int,
        items: int,
        channel: int | None,
        neighbours: int | None,
    ) -> None:
        if neighbours is not None and neighbours < 1:
            raise ValueError(f"neighbours is {neighbours}; it has to be at least 1")
        self._channel = channel
        self._neighbours = neighbours
        self._bought = interactions(purchases, customers=customers, items=items, channel=channel)
        self._buyers = self._bought.T.tocsr()  # (items, customers)

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item: float32 (batch, items).

        Raises:
            ValueError: ``channel`` is not the one learnt from.
        """
        if self._channel not in (None, channel):
            raise ValueError(f"learnt from channel {self._channel} alone; asked for {channel}")
        scores = np.zeros((len(customers), self._bought.shape[1]), np.float32)
        for start in range(0, len(customers), _BLOCK):
            block = slice(start, start + _BLOCK)
            similarity = cosine_neighbours(
                customers[block],
                self._bought,
                self._buyers,
                neighbours=self._neighbours,
                shrinkage=0.0,
            )  # (block, customers)
            scores[block] = (similarity @ self._bought).toarray()
        return scores
