"""What is asked of a release, and the histories and rankings that take no model."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from c2rec.runtime.ranking import top_k
from c2rec.runtime.records import CHANNELS, Channel
from c2rec.runtime.release.cache import Customer
from c2rec.runtime.rules.assortment import Assortment

Rows = npt.NDArray[np.int64]
NO_ROWS: Rows = np.empty(0, np.int64)
_MOST_SOLD = np.float32(1e12)


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Which items may be shown; made by ``Recommender.shown``, for many requests."""

    release: str
    """Whose items they are."""
    rows: npt.NDArray[np.bool_]
    """bool (items,)"""
    unknown: int
    """Ids given that the release doesn't know."""


class Asked(NamedTuple):
    """What a tier is asked for."""

    left_out: Rows
    k: int
    channel: Channel
    assortment: Assortment
    listed: Rows
    """Rows of the customer's online list that may be shown."""

    @property
    def depth(self) -> int:
        """How much of the offline ranking merging needs."""
        return self.k + len(self.listed)


def history_of(customer: Customer | None, in_basket: Rows, channel: Channel) -> tuple[Rows, Rows]:
    """Items (length,) and channels (length,) of what was bought and what is in the basket."""
    here = CHANNELS.index(channel)
    items, channels = NO_ROWS, NO_ROWS
    if customer is not None:
        items = customer.history_items.astype(np.int64)
        channels = customer.history_channels.astype(np.int64)
    if not len(in_basket):
        return items, channels
    # A history holds an item once per channel, as it did in training.
    new = np.setdiff1d(in_basket, items[channels == here])
    return np.concatenate([items, new]), np.concatenate([channels, np.full(len(new), here)])


def units_sold(popularity: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Units sold (items,), of an array that may be damaged: what can't be so counts as 0."""
    units: npt.NDArray[np.float32] = np.fmin(np.fmax(popularity, np.float32(0)), _MOST_SOLD)
    return units


def best_of(values: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_], k: int) -> Rows:
    """Rows of the k best of ``values`` (items,), all at least 0, of those kept (items,)."""
    left = int(np.count_nonzero(kept))
    if left == 0:
        return NO_ROWS
    best: Rows = top_k(np.where(kept, values, np.float32(-1))[None], min(k, left))[0]
    return best
