"""How many customers an experiment needs, and by which of them it is decided.

Without a known baseline the size follows from the share of all arms together, of those customers
in order that there were until then. It does not tell the arms apart, which keeps the rate of false
alarms (Friede and Kieser, Sample size recalculation in internal pilot study designs, Biometrical
Journal, 2006), and it is settled by the same customers whenever somebody looks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from c2rec.train.experiment_statistics import control_size

Hits = npt.NDArray[np.bool_]

MIN_CUSTOMERS = 100
"""Of each arm, before anything is said, however large the effect."""
MIN_HITS = 10
"""Customers who did it, and customers who did not, over all arms."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked."""

    control: str = "main"
    """The arm that others are compared with."""
    shares: Mapping[str, float] | None = None
    """Of customers, by arm; None: equal ones."""
    primary: str = "conversion"
    effect: float = 0.1
    """The smallest change of the primary metric worth finding, relative to the control."""
    power: float = 0.8
    """Chance to find it if it is there."""
    alpha: float = 0.05
    """Chance to find one where none is, over all arms."""
    baseline: float | None = None
    """The control's share of customers, where it is known beforehand."""


def settle(
    hits: Sequence[Hits], ratios: Sequence[float], plan: Plan
) -> tuple[int | None, int | None, float | None]:
    """Find by how many customers, in order, the primary metric is decided.

    Args:
        hits: bool (customers,) for each arm, the control first, in order.
        ratios: customers of each arm over those of the control, 1 for the control.
        plan: what is asked.

    Returns:
        Customers of the control that decide, or None while there are too few; customers of the
        control that are needed, or None where that can't be told; and the share of the control
        that it follows from.
    """
    alpha = plan.alpha / (len(ratios) - 1)
    least = np.ceil(MIN_CUSTOMERS / min(ratios))
    n = min(int(len(each) / ratio + 1e-9) for each, ratio in zip(hits, ratios, strict=True))
    if n == 0:
        if plan.baseline is None:
            return None, None, None
        known = np.array([plan.baseline])
        known = control_size(known, plan.effect, ratios[1:], power=plan.power, alpha=alpha)
        return None, int(max(known[0], least)), plan.baseline
    controls = np.arange(1, n + 1)
    counts = [
        np.minimum(np.ceil(controls * ratio - 1e-9).astype(np.int64), len(each))
        for each, ratio in zip(hits, ratios, strict=True)
    ]
    total = np.sum(counts, axis=0)  # (n,)
    done = np.sum([np.cumsum(h)[c - 1] for h, c in zip(hits, counts, strict=True)], axis=0)
    if plan.baseline is not None:
        baselines = np.full(n, plan.baseline)
    else:  # with the effect in the others, the control's share is that of all by this much less
        baselines = done / total / (1 + plan.effect * (1 - 1 / sum(ratios)))
    needed = control_size(baselines, plan.effect, ratios[1:], power=plan.power, alpha=alpha)
    rarer = np.minimum(done, total - done)
    few = np.divide(MIN_HITS, rarer, out=np.full(n, np.inf), where=rarer > 0)
    needed = np.maximum(np.maximum(needed, least), np.ceil(controls * few))
    enough = controls >= needed
    if enough.any():
        stop = int(np.argmax(enough))
        return stop + 1, stop + 1, float(baselines[stop])
    last = float(needed[-1])
    return None, int(last) if np.isfinite(last) else None, float(baselines[-1])


def arm_sizes(control: int, ratios: Sequence[float]) -> list[int]:
    """Give each arm its number of customers for so many of the control."""
    return [int(np.ceil(control * ratio - 1e-9)) for ratio in ratios]
