"""Which part of the catalogue lists show, and how popular it is."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from c2rec.train.batches import Rows


@dataclass(frozen=True, slots=True)
class Exposure:
    """How the places of a channel's lists are spread over the catalogue."""

    items: int
    """In the catalogue."""
    shown: int
    """In anybody's list."""
    coverage: float
    """``shown`` over ``items``."""
    possible: float
    """The coverage if no two places held the same item."""
    gini: float
    """0 where all items have as many places, near 1 where few have all."""
    shown_popularity: float | None
    """Mean over places of the item's percentile by purchases in the channel in training: 1 for
    the most bought, 0.5 in the middle."""
    bought_popularity: float | None
    """The same over the purchases of the test period."""


def exposure(lists: Rows, bought: Rows, purchases: npt.NDArray[np.float64]) -> Exposure:
    """Measure a channel's lists.

    Args:
        lists: int64 (n, k) items, -1 for none.
        bought: int64 (targets,) items of the test purchases in the channel.
        purchases: float64 (items,), of each item in the channel in training.
    """
    items = len(purchases)
    places = lists[lists >= 0]
    counts = np.bincount(places, minlength=items)
    percentile = popularity_percentiles(purchases)
    return Exposure(
        items=items,
        shown=int((counts > 0).sum()),
        coverage=float((counts > 0).mean()),
        possible=min(1.0, len(places) / items),
        gini=gini(counts),
        shown_popularity=float(percentile[places].mean()) if len(places) else None,
        bought_popularity=float(percentile[bought].mean()) if len(bought) else None,
    )


def popularity_percentiles(purchases: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rank items by purchases: float64 (items,) in (0, 1]; equal ones get their mean rank."""
    percentiles: npt.NDArray[np.float64] = rankdata(purchases) / len(purchases)
    return percentiles


def gini(counts: npt.NDArray[np.int64]) -> float:
    """Gini coefficient of counts, int64 (items,): half the mean difference over the mean."""
    n, total = len(counts), counts.sum()
    if total == 0:
        return 0.0
    ranks = np.arange(1, n + 1)
    return float((2 * ranks - n - 1) @ np.sort(counts) / (n * total))
