"""The statistics of experiments whose outcome is a share of customers.

- Sizes: Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions (2003), section 4.3,
  without continuity correction, for arms of any shares.
- Comparing two shares: the score test of Miettinen and Nurminen, Comparative analysis of two
  rates (Statistics in Medicine, 1985), and its interval, the values that it doesn't reject. For
  equal shares it is the "N - 1" chi-square test of Campbell (Statistics in Medicine, 2007), so
  an interval leaves out "no difference" exactly where the test rejects it.
- One share: the interval of Wilson (JASA, 1927) where customers are counted once, and where they
  are counted again and again the confidence sequence of Robbins (Annals of Mathematical
  Statistics, 1970): the shares against which the mixture likelihood ratio never reached 1/α. By
  Ville's inequality it holds the truth at all looks together with a chance of 1 - α.
- Several comparisons: Holm, A simple sequentially rejective multiple test procedure (Scandinavian
  Journal of Statistics, 1979).
- Arms that lose customers: Fabijan et al., Diagnosing sample ratio mismatch (KDD 2019).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import betaln
from scipy.stats import chisquare, norm

from c2rec.train.significance import Interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_EDGE = 1e-12
"""How near to an open end a root is looked for."""
_NEAREST = 1e-15
"""How near to 0 or 1 a share may be without a division by 0."""
_WIDEST = 1e6
"""Ratios beyond are not told from infinity."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many customers of an arm there are, and how many of them did something."""

    hits: int
    customers: int

    @property
    def rate(self) -> float:
        """The share."""
        return self.hits / self.customers


@dataclass(frozen=True, slots=True)
class Compared:
    """An arm against the control."""

    p: float
    """Two-sided: how often chance alone makes a difference at least so large."""
    difference: Interval
    """Of shares, the arm's less the control's."""
    ratio: Interval | None
    """Of shares; None where the control's is 0, or no ratio however large can be excluded."""


def compare_shares(arm: Share, control: Share, *, alpha: float) -> Compared:
    """Compare an arm with the control, with intervals of 1 - alpha."""
    counts = [np.array([n]) for n in (arm.hits, arm.customers, control.hits, control.customers)]
    return Compared(
        p=float(score_test(*counts)[0]),
        difference=_difference(arm, control, alpha),
        ratio=_ratio(arm, control, alpha),
    )


def score_test(arm_hits: Ints, arm: Ints, control_hits: Ints, control: Ints) -> Floats:
    """Test whether two shares are equal.

    Args:
        arm_hits: int64 (n,), customers of an arm who did something.
        arm: int64 (n,), all of its customers.
        control_hits: int64 (n,), the same of the control.
        control: int64 (n,).

    Returns:
        float64 (n,), two-sided p-values; 1 where all or none of both did it.
    """
    total = arm + control
    pooled = (arm_hits + control_hits) / total
    variance = pooled * (1 - pooled) * (1 / arm + 1 / control) * total / (total - 1)
    gap = arm_hits / arm - control_hits / control
    z = np.divide(gap, np.sqrt(variance), out=np.zeros(len(gap)), where=variance > 0)
    p: Floats = 2 * norm.sf(np.abs(z))
    return p


def wilson(share: Share, *, alpha: float) -> Interval:
    """Give a share that is looked at once its interval."""
    z2 = float(norm.isf(alpha / 2)) ** 2
    n, rate = share.customers, share.rate
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = float(np.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n)))) / (1 + z2 / n)
    return Interval(rate, max(middle - half, 0.0), min(middle + half, 1.0))


def always_valid(share: Share, *, alpha: float) -> Interval:
    """Give a share that is looked at as often as somebody likes its interval."""
    hits, misses = share.hits, share.customers - share.hits

    def evidence(rate: float) -> float:
        """Logarithm of the mixture's likelihood over that of a rate, less that of 1/α."""
        own = hits * np.log(rate) + misses * np.log1p(-rate)
        return float(betaln(1 + hits, 1 + misses) - own + np.log(alpha))

    low, high = 0.0, 1.0
    inside = min(max(share.rate, _EDGE), 1 - _EDGE)
    if hits:
        low = _root(evidence, _EDGE, inside)
    if misses:
        high = _root(evidence, inside, 1 - _EDGE)
    return Interval(share.rate, low, high)


def control_size(
    baseline: Floats, effect: float, ratios: Sequence[float], *, power: float, alpha: float
) -> Floats:
    """Customers that the control needs, for an effect on any one arm to be found with ``power``.

    Args:
        baseline: float64 (n,), the control's share.
        effect: the arm's share over the control's, less 1.
        ratios: customers of each other arm over those of the control.
        power: chance to find the effect.
        alpha: of each comparison, two-sided.

    Returns:
        float64 (n,), whole numbers; infinite where the share is 0 or the arm's would pass 1.
    """
    other = baseline * (1 + effect)
    possible = (baseline > 0) & (other < 1)
    p, q = np.where(possible, baseline, 0.5), np.where(possible, other, 0.4)
    sizes = np.zeros(len(baseline))
    for r in ratios:
        mean = (p + r * q) / (1 + r)
        root = norm.isf(alpha / 2) * np.sqrt((1 + r) * mean * (1 - mean))
        root = root + norm.isf(1 - power) * np.sqrt(r * p * (1 - p) + q * (1 - q))
        sizes = np.maximum(sizes, np.ceil(root**2 / (r * (q - p) ** 2)))
    return np.where(possible, sizes, np.inf)


def share_mismatch(customers: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """p-value of arms having as many customers as their shares say; shares sum to 1."""
    total = sum(customers.values())
    expected = [shares[arm] * total for arm in customers]
    return float(chisquare(list(customers.values()), expected).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for there being several: at most α is at most α for all together."""
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        worst = max(worst, min((len(p_values) - rank) * p_values[place], 1.0))
        adjusted[place] = worst
    return adjusted


def _difference(arm: Share, control: Share, alpha: float) -> Interval:
    limit, mean = float(norm.isf(alpha / 2)), arm.rate - control.rate
    low, high = -1.0, 1.0
    if mean > low:
        low = _root(lambda d: _score(arm, control, d, 1.0) - limit, low + 1e-9, mean)
    if mean < high:
        high = _root(lambda d: _score(arm, control, d, 1.0) + limit, mean, high - 1e-9)
    return Interval(mean, low, high)


def _ratio(arm: Share, control: Share, alpha: float) -> Interval | None:
    if control.hits == 0:
        return None
    limit, mean = float(norm.isf(alpha / 2)), arm.rate / control.rate

    def score(logarithm: float) -> float:
        return _score(arm, control, 0.0, float(np.exp(logarithm)))

    widest = float(np.log(_WIDEST))
    middle = float(np.log(mean)) if mean > 0 else -widest
    low = 0.0
    if mean > 0:
        low = float(np.exp(_root(lambda x: score(x) - limit, -widest, middle)))
    high = float(np.exp(_root(lambda x: score(x) + limit, middle, widest)))
    return Interval(mean, low, high) if high < _WIDEST else None


def _score(arm: Share, control: Share, added: float, times: float) -> float:
    """Test the hypothesis that the arm's share is ``added + times *`` the control's; z."""
    gap = arm.rate - added - times * control.rate
    p = _likeliest(arm, control, added, times)
    q = min(max(added + times * p, 0.0), 1.0)
    n = arm.customers + control.customers
    variance = q * (1 - q) / arm.customers + times**2 * p * (1 - p) / control.customers
    variance *= n / (n - 1)
    if variance <= 0:
        return 0.0 if abs(gap) < _EDGE else float(np.copysign(np.inf, gap))
    return float(gap / np.sqrt(variance))


def _likeliest(arm: Share, control: Share, added: float, times: float) -> float:
    """The control's share of greatest likelihood, where the arm's is bound to it."""
    low, high = max(0.0, -added / times), min(1.0, (1 - added) / times)

    def slope(p: float) -> float:
        q = added + times * p
        return _slope(control, p) + times * _slope(arm, q)

    return _root(slope, low, high)


def _slope(share: Share, rate: float) -> float:
    """Of the logarithm of the likelihood of a rate."""
    rate = min(max(rate, _NEAREST), 1 - _NEAREST)
    return share.hits / rate - (share.customers - share.hits) / (1 - rate)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Find where a monotonic function passes 0; the nearer end where it doesn't between them."""
    at_low, at_high = function(low), function(high)
    if (at_low > 0) == (at_high > 0):
        return low if abs(at_low) < abs(at_high) else high
    return float(brentq(function, low, high, xtol=1e-12))
