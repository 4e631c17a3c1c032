"""Weights of several scores, chosen by a smooth stand-in for NDCG.

The place of a target is how many items score more than it does. With σ((s_j − s_i) / τ) for the
step "j scores more than i" the place, and so NDCG, has a gradient (ApproxNDCG: Qin, Liu and Li, A
General Approximation Framework for Direct Optimization of Information Retrieval Measures, 2010).
A few hundred customers say little about single steps of a grid, which jumps between lucky ones;
the smooth figure uses the places of all targets.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import fmin_l_bfgs_b

from c2rec.train.metrics import Wanted, ideal_dcg
from c2rec.train.neighbours import Floats

TEMPERATURE = 0.1
"""τ, in units of the spread of the first score over the items."""
PRIOR_CUSTOMERS = 1.5
"""How much the start counts: a weight that is off by 1 costs as much as NDCG lower by 1 for so
many customers."""
_AT_ONCE = 4_000_000
"""Pairs of a target and an item that are compared at once."""
_STEPS = 40
_ENOUGH = 1e10
"""Ends the search where a step gains less than so many times the precision of a float64."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What is weighed, for the customers and items of a ``Wanted``."""

    personal: list[Floats]
    """float32 (n, items) each."""
    common: Floats
    """float32 (terms, items): the same for every customer."""


def weigh(
    scores: Scores,
    wanted: Wanted,
    start: npt.NDArray[np.float64],
    least: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Find the weights with the greatest smooth NDCG, not far from a start.

    Args:
        scores: personal ones first; (p,) of them and (c,) common ones.
        wanted: targets.
        start: float64 (p + c,).
        least: float64 (p + c,), lower bounds, −∞ for none.

    Returns:
        float64 (p + c,).
    """
    listed = np.flatnonzero(wanted.listed)
    personal = torch.from_numpy(np.stack([each[:, listed] for each in scores.personal]))
    common = torch.from_numpy(np.ascontiguousarray(scores.common[:, listed]))
    left_out = torch.from_numpy(wanted.left_out(wanted.customers)[:, listed])
    column = np.cumsum(wanted.listed) - 1
    columns = torch.from_numpy(column[wanted.pairs % wanted.index.items])  # (targets,)
    owners = np.repeat(np.arange(len(wanted.customers)), wanted.targets)
    worth = torch.from_numpy(1 / ideal_dcg(wanted.targets, len(listed))[owners]).float()
    rows = torch.from_numpy(owners)
    step = max(1, _AT_ONCE // len(listed))

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        variable = torch.from_numpy(weights).float().requires_grad_()
        total = 0.0
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            # targets are sorted by customer, so a part's customers lie side by side
            low, high = int(rows[part][0]), int(rows[part][-1]) + 1
            found = torch.tensordot(variable[: len(personal)], personal[:, low:high], 1)
            found = found + variable[len(personal) :] @ common
            found = found.masked_fill(left_out[low:high], -1e9)[rows[part] - low]  # (t, items)
            own = found.gather(1, columns[part, None])  # (t, 1)
            place = ((found - own) / TEMPERATURE).sigmoid().sum(1) - 0.5  # without itself
            ndcg = (worth[part] / torch.log2(place + 2)).sum()
            (-ndcg).backward()  # type: ignore[no-untyped-call]  # torch has no types here
            total -= float(ndcg.detach())
        gradient = variable.grad.double().numpy() if variable.grad is not None else 0 * weights
        away = weights - start
        value = total + PRIOR_CUSTOMERS * float(away @ away)
        gradient = gradient + 2 * PRIOR_CUSTOMERS * away
        return value / len(wanted.customers), gradient / len(wanted.customers)

    bounds = [(low if np.isfinite(low) else None, None) for low in least]
    weights, _, _ = fmin_l_bfgs_b(loss, start, bounds=bounds, maxiter=_STEPS, factr=_ENOUGH)
    found: npt.NDArray[np.float64] = weights
    return found
