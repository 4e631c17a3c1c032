"""How sure a difference between two models is: a paired bootstrap over customers.

The percentile interval of Efron and Tibshirani, An Introduction to the Bootstrap (1993), section
13.3, with the resampling of Sakai, Evaluating Evaluation Metrics based on the Bootstrap (SIGIR
2006): both models keep the figures they have for the same customer. Customers are resampled and
not rows, since those of one customer in several test periods are not independent.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from c2rec.train.batches import Rows

RESAMPLES = 10_000
_SEED = 20_240_400
"""Fixed, so that the same figures always give the same interval."""
_TAIL = 0.025
"""Share of the resamples left out at either end: a 95 % interval."""
_CELLS = 4_000_000
"""Numbers held at a time, over resamples and customers, which bounds memory to about 150 MB."""


@dataclass(frozen=True, slots=True)
class Uplift:
    """A mean over another mean, minus 1, with its 95 % interval; None where it can't be told."""

    mean: float | None
    low: float | None
    high: float | None
    reason: str | None = None
    """Why the figures are None."""

    def document(self) -> dict[str, float | None]:
        """Arrange as JSON."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


def uplift(
    ours: npt.NDArray[np.float64],
    theirs: npt.NDArray[np.float64],
    customers: Rows,
    *,
    resamples: int = RESAMPLES,
) -> list[Uplift]:
    """Compare two models by figures of the same customers.

    Args:
        ours: float64 (rows, metrics), of the model in question; a row is a customer in a test
            period.
        theirs: float64 (rows, metrics), of the model that it is compared with.
        customers: int64 (rows,), whose row it is; all rows of a customer are drawn together.
        resamples: how often as many customers are drawn, with replacement, as there are.

    Returns:
        One per metric. A resample in which the other model's mean is 0 counts as infinitely
        large; an interval without an upper end is none.
    """
    _, owners = np.unique(customers, return_inverse=True)
    n, metrics = int(owners.max(initial=-1)) + 1, ours.shape[1]
    if n < 2:
        reason = "there is no customer to compare" if n == 0 else "there is only one customer"
        return [Uplift(None, None, None, reason)] * metrics
    # Sums do for means: a ratio of means over the same rows is a ratio of sums. The difference
    # is summed, not ours, so that equal figures give 0 to the bit.
    sums = np.zeros((n, 2 * metrics))
    np.add.at(sums, owners, np.concatenate([ours - theirs, theirs], axis=1))
    drawn = _resampled_sums(sums, resamples)
    results = []
    for metric in range(metrics):
        base = float(sums[:, metrics + metric].sum())
        if base == 0:
            results.append(Uplift(None, None, None, "the baseline's mean is 0"))
            continue
        bases = drawn[:, metrics + metric]  # (resamples,)
        ratios = np.full(resamples, np.inf)
        np.divide(drawn[:, metric], bases, out=ratios, where=bases > 0)
        ratios.sort()
        # with 10,000 resamples the 250th and the 9,750th in order
        left_out = max(round(_TAIL * resamples), 1)
        low, high = float(ratios[left_out - 1]), float(ratios[resamples - left_out - 1])
        if not np.isfinite(high):
            results.append(Uplift(None, None, None, "the baseline hits for too few customers"))
            continue
        results.append(Uplift(float(sums[:, metric].sum()) / base, low, high))
    return results


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def intervals(
    values: npt.NDArray[np.float64], customers: Rows, *, resamples: int = RESAMPLES
) -> list[Interval | None]:
    """Give means their intervals.

    Args:
        values: float64 (rows, columns); a row is a customer in a test period.
        customers: int64 (rows,), whose row it is; all rows of a customer are drawn together.
        resamples: how often as many customers are drawn, with replacement, as there are.

    Returns:
        One per column; None with fewer than two customers.
    """
    _, owners = np.unique(customers, return_inverse=True)
    rows = np.bincount(owners)  # (customers,)
    sums = np.zeros((len(rows), values.shape[1]))
    np.add.at(sums, owners, values)
    if len(rows) and (rows == rows[0]).all():  # the usual case: every resample is as long
        return _ratios(sums, None, len(values), resamples)
    return _ratios(sums, np.repeat(rows[:, None], values.shape[1], axis=1), 0, resamples)


def ratio_intervals(
    numerators: npt.NDArray[np.float64],
    denominators: npt.NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
) -> list[Interval | None]:
    """Give ratios of sums over customers their intervals.

    Args:
        numerators: float64 (customers, columns).
        denominators: float64 (customers, columns), none negative.
        resamples: as of ``intervals``.

    Returns:
        One per column; None where the denominators sum to 0, or with fewer than two customers.
    """
    return _ratios(numerators, denominators, 0, resamples)


def _ratios(
    numerators: npt.NDArray[np.float64],
    denominators: npt.NDArray[np.float64] | None,
    fixed: int,
    resamples: int,
) -> list[Interval | None]:
    """Divide resampled sums by each other or, without denominators, by a fixed number."""
    n, columns = numerators.shape
    if n < 2:
        return [None] * columns
    if denominators is None:
        drawn = _resampled_sums(numerators, resamples) / fixed  # (resamples, columns)
        means, bases = numerators.sum(0) / fixed, np.ones(columns)
    else:
        sums = _resampled_sums(np.concatenate([numerators, denominators], axis=1), resamples)
        some = sums[:, columns:] > 0
        drawn = np.divide(
            sums[:, :columns], sums[:, columns:], out=np.full(some.shape, np.nan), where=some
        )
        bases = denominators.sum(0)
        means = numerators.sum(0) / np.where(bases > 0, bases, 1)
    results: list[Interval | None] = []
    for column in range(columns):
        ratios = np.sort(drawn[~np.isnan(drawn[:, column]), column])
        left_out = max(round(_TAIL * len(ratios)), 1)
        if bases[column] == 0 or len(ratios) < 2:
            results.append(None)
            continue
        low, high = float(ratios[left_out - 1]), float(ratios[len(ratios) - left_out - 1])
        results.append(Interval(float(means[column]), low, high))
    return results


def _resampled_sums(values: npt.NDArray[np.float64], resamples: int) -> npt.NDArray[np.float64]:
    """Draw as many rows as there are, with replacement, and sum them: (resamples, columns).

    Most customers have no hit and add nothing, so only how many of the draws fall on the others
    is drawn (it is binomial), and then on which of them.
    """
    rng = np.random.default_rng(_SEED)
    some = values[values.any(1)]  # (m, columns)
    m, n = len(some), len(values)
    if m == 0:
        return np.zeros((resamples, values.shape[1]))
    chunk = max(_CELLS // m, 1)
    sums = []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        draws = rng.binomial(n, m / n, size=size)  # (size,)
        cells = rng.integers(m, size=int(draws.sum()))  # (draws,)
        cells += np.repeat(np.arange(size) * m, draws)
        times = np.bincount(cells, minlength=size * m).reshape(size, m)
        sums.append(times.astype(np.float64) @ some)  # (size, columns)
    return np.concatenate(sums)
