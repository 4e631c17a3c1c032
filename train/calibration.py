"""Whether scores are probabilities: what was predicted against what was bought.

A score is turned into a probability by a softmax over the items that a list in the channel may
hold: the chance that a purchase of the customer there is this item. The training loss is such a
softmax, but the neighbour term and recent popularity are blended in afterwards by how they rank,
so nothing makes the sum a probability. What is observed of a customer and an item is the share of
the customer's test purchases that are this item, so that both sides sum to 1 for every customer.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from c2rec.train.metrics import Ranker, Wanted, slices
from c2rec.train.significance import ratio_intervals

EDGES: npt.NDArray[np.float64] = 10.0 ** np.arange(-6, 0.5, 0.5)
"""Between bins of predicted probability: two for each power of 10."""
_BINS = len(EDGES) + 1
_CELLS = 2_000_000
"""Scores held at a time."""
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs of a customer and an item that were given about the same probability."""

    pairs: int
    predicted: float
    """Mean probability."""
    observed: float
    """Mean share of the customer's purchases."""
    low: float | None
    """Of the 95 % interval over customers of ``observed``; None with a single customer."""
    high: float | None

    def document(self) -> Mapping[str, float | int | None]:
        """Arrange as JSON."""
        return asdict(self)


def calibrate(ranker: Ranker, wanted: Wanted) -> list[Bin]:
    """Put every pair of a customer with a target and an item of the lists into a bin.

    Args:
        ranker: whose scores.
        wanted: the customers, what they bought, and what their lists leave out.

    Returns:
        The bins with a pair in them, least probable first.
    """
    n, items = len(wanted.customers), wanted.index.items
    pairs, predicted, observed = (np.zeros((n, _BINS)) for _ in range(3))
    for rows in slices(n, max(1, min(256, _CELLS // items))):
        batch = wanted.customers[rows]
        scores = wanted.masked(ranker.scores(batch, wanted.channel), batch)  # (b, items)
        chances = _softmax(scores.astype(np.float64))
        places = np.digitize(chances, EDGES)  # (b, items)
        owners, listed = np.nonzero(np.isfinite(scores))
        cells = owners * _BINS + places[owners, listed]
        size = (len(batch), _BINS)
        pairs[rows] = np.bincount(cells, minlength=size[0] * size[1]).reshape(size)
        weights = chances[owners, listed]
        predicted[rows] = np.bincount(cells, weights, minlength=size[0] * size[1]).reshape(size)
        here = np.isin(wanted.pairs // items, batch)
        buyers = np.searchsorted(batch, wanted.pairs[here] // items)
        cells = buyers * _BINS + places[buyers, wanted.pairs[here] % items]
        shares = 1 / wanted.targets[rows][buyers]
        observed[rows] = np.bincount(cells, shares, minlength=size[0] * size[1]).reshape(size)
    intervals = ratio_intervals(observed, pairs, resamples=_RESAMPLES)
    return [
        Bin(
            int(pairs[:, each].sum()),
            float(predicted[:, each].sum() / pairs[:, each].sum()),
            float(observed[:, each].sum() / pairs[:, each].sum()),
            None if interval is None else interval.low,
            None if interval is None else interval.high,
        )
        for each, interval in enumerate(intervals)
        if pairs[:, each].any()
    ]


def _softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Over the last axis; -inf becomes 0."""
    raised = np.exp(scores - scores.max(1, keepdims=True))
    chances: npt.NDArray[np.float64] = raised / raised.sum(1, keepdims=True)
    return chances
