"""From a score to the probability of a purchase, by logistic regression.

p = sigmoid(slope * score + intercept), Platt (1999), fitted on the validation period: over pairs
of a customer with a purchase in it and an item that their list may hold, whether the item is among
what they bought. One slope above 0 keeps every ranking as it is. The probability is that of a
purchase within a period as long as validation.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from c2rec.train.metrics import Ranker, Wanted

_CELLS = 4_000_000
"""Scores held at most."""
_AT_ONCE = 256
"""Customers scored at a time."""
_STEPS = 50
_RIDGE = 1e-6
"""Keeps the slope finite where scores separate the bought from the rest."""


@dataclass(frozen=True, slots=True)
class Platt:
    """What the regression found."""

    slope: float
    """Above 0."""
    intercept: float


def fit_platt(ranker: Ranker, wanted: Wanted) -> Platt | None:
    """Fit a channel's scores; None where nothing was bought, or greater scores were bought less.

    Args:
        ranker: whose scores.
        wanted: the customers, what they bought, and what their lists leave out.
    """
    wanted = wanted.sample(max(50, _CELLS // wanted.index.items))
    scores: list[npt.NDArray[np.float64]] = []
    bought: list[npt.NDArray[np.float64]] = []
    for start in range(0, len(wanted.customers), _AT_ONCE):
        batch = wanted.customers[start : start + _AT_ONCE]
        found = wanted.masked(ranker.scores(batch, wanted.channel), batch)  # (b, items)
        hits = np.zeros(found.shape)
        here = wanted.pairs[np.isin(wanted.pairs // wanted.index.items, batch)]
        rows = np.searchsorted(batch, here // wanted.index.items)
        hits[rows, here % wanted.index.items] = 1
        listed = np.isfinite(found)
        scores.append(found[listed].astype(np.float64))
        bought.append(hits[listed])
    if not scores:
        return None
    x, y = np.concatenate(scores), np.concatenate(bought)
    if not y.any() or y.all() or x.std() == 0:
        return None
    slope, intercept = _logistic((x - x.mean()) / x.std(), y)
    slope, intercept = slope / x.std(), intercept - slope * x.mean() / x.std()
    return Platt(float(f"{slope:.6g}"), float(f"{intercept:.6g}")) if slope > 0 else None


def _logistic(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of the greatest likelihood, by Newton's method."""
    mean = y.mean()
    slope, intercept = 0.0, float(np.log(mean / (1 - mean)))
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-(slope * x + intercept)))
        weight = p * (1 - p)
        gradient = np.array([((y - p) * x).sum() - _RIDGE * slope, (y - p).sum()])
        cross = (weight * x).sum()
        curvature = np.array([[(weight * x * x).sum() + _RIDGE, cross], [cross, weight.sum()]])
        step = np.linalg.solve(curvature, gradient)
        slope, intercept = slope + float(step[0]), intercept + float(step[1])
        if np.abs(step).max() < 1e-9:
            break
    return slope, intercept
