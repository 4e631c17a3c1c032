"""What an experiment shows, and whether it shows anything yet.

The question is asked once. How many customers each arm needs follows from the smallest effect that
is worth finding; the first so many of each arm, in the order in which they were first shown
something, decide, and no others. So whoever looks every day sees "too little" until then and one
and the same answer after: there is nothing to be gained, and no luck to be had, by looking often.

Without a known baseline the size follows from the share of all arms together, of those customers
in order that there were until then. It does not tell the arms apart, which keeps the rate of false
alarms (Friede and Kieser, Sample size recalculation in internal pilot study designs, Biometrical
Journal, 2006), and it is settled by the same customers whenever somebody looks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from c2rec.runtime.errors import DataError
from c2rec.train.experiment_metrics import METRICS, Windows, describe
from c2rec.train.experiment_outcomes import Customers, switched_within
from c2rec.train.experiment_statistics import (
    Compared,
    Share,
    always_valid,
    compare_shares,
    control_size,
    holm,
    share_mismatch,
    wilson,
)
from c2rec.train.significance import Interval

Hits = npt.NDArray[np.bool_]

MISMATCH = 0.001
"""Arms that differ from their shares by less than this chance lose customers somewhere."""
MIN_CUSTOMERS = 100
"""Of each arm, before anything is said, however large the effect."""
MIN_HITS = 10
"""Customers who did it, and customers who did not, over all arms."""
MAX_ARMS = 20
PACE_DAYS = 14
"""Days that the pace is taken from."""


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


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm's figures of a metric."""

    name: str
    share: Share
    interval: Interval | None
    """95 % with the default alpha; None without customers. Good for one look where the metric is
    decided, and else for any number of looks."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm against the control, in a metric that is decided."""

    arm: str
    compared: Compared
    p: float
    """Adjusted for there being several comparisons."""
    verdict: str
    """``better``, ``worse`` or ``no difference found``."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's figures."""

    name: str
    description: str
    primary: bool
    arms: Sequence[Arm]
    """The control first."""
    comparisons: Sequence[Comparison]
    """None until the metric is decided."""
    pending: str | None
    """Why it is not decided."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many customers the primary metric needs, and has."""

    needed: Mapping[str, int] | None
    """By arm; None where nobody has done it yet, or too many for such an effect."""
    followed: Mapping[str, int]
    """Customers who were followed long enough, by arm."""
    baseline: float | None
    """The control's share that ``needed`` follows from."""
    days_left: int | None
    """At the pace of the last days; None where it can't be told, 0 where it is reached."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What an experiment shows."""

    arms: Mapping[str, int]
    """All customers who were not shown another arm meanwhile, the control first."""
    shares: Mapping[str, float]
    mismatch: float | None
    """p-value of there being as many customers as the shares say; None with too few to tell."""
    plan: Plan
    windows: Windows
    size: Size
    decided: bool
    """Whether the primary metric has its customers."""
    metrics: Sequence[Metric]
    """The primary one first."""
    customers: Customers

    @property
    def control(self) -> str:
        """The arm that others are compared with."""
        return next(iter(self.arms))

    @property
    def mismatched(self) -> bool:
        """Whether arms lose customers, so that nothing can be concluded."""
        return self.mismatch is not None and self.mismatch < MISMATCH


def judge(customers: Customers, windows: Windows, plan: Plan) -> Experiment:
    """Say what an experiment shows.

    Args:
        customers: of ``outcomes``.
        windows: that they were followed for.
        plan: what is asked.

    Raises:
        DataError: there are not two arms, the plan names one that isn't there, or the primary
            metric can't be told from the data.
    """
    if plan.primary in customers.unavailable:
        raise DataError(
            f"the metric {plan.primary} can't be told: {customers.unavailable[plan.primary]}; "
            "or choose another with --primary"
        )
    stayed = customers.table.filter(~switched_within(windows.of(plan.primary)))
    counts = dict(sorted(stayed["arm"].value_counts().iter_rows()))
    names = _arms(counts, plan)
    shares = _shares(names, plan)
    counts = {name: int(counts[name]) for name in names}
    mismatch = None
    if min(shares[name] * sum(counts.values()) for name in names) >= 5:
        mismatch = share_mismatch(counts, shares)
    followed = customers.table.drop_nulls(plan.primary)
    per_arm = [followed.filter(pl.col("arm") == name) for name in names]
    ratios = [shares[name] / shares[names[0]] for name in names]
    stop, needed, baseline = settle(
        [each[plan.primary].to_numpy() for each in per_arm], ratios, plan
    )
    size = Size(
        needed=None if needed is None else dict(zip(names, arm_sizes(needed, ratios), strict=True)),
        followed={name: each.height for name, each in zip(names, per_arm, strict=True)},
        baseline=baseline,
        days_left=0,
    )
    if stop is None:
        size = Size(
            size.needed, size.followed, baseline, _days_left(customers, size, windows, plan)
        )
        deciding = None
    else:
        deciding = [each.head(n) for each, n in zip(per_arm, arm_sizes(stop, ratios), strict=True)]
    mismatched = mismatch is not None and mismatch < MISMATCH
    return Experiment(
        arms=counts,
        shares=shares,
        mismatch=mismatch,
        plan=plan,
        windows=windows,
        size=size,
        decided=stop is not None,
        metrics=_metrics(customers, names, deciding, windows, plan, withheld=mismatched),
        customers=customers,
    )


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


def _arms(counts: Mapping[str, int], plan: Plan) -> list[str]:
    """Names of the arms, the control first."""
    there = ", ".join(list(counts)[:MAX_ARMS])
    if not 2 <= len(counts) <= MAX_ARMS:
        what = f"there is one arm, {there}" if len(counts) == 1 else f"there are {len(counts)} arms"
        raise DataError(f"{what}; allowed: 2 to {MAX_ARMS}")
    if plan.control not in counts:
        raise DataError(
            f"no customer has the arm {plan.control}; say --control with one of: {there}"
        )
    return [plan.control, *(name for name in counts if name != plan.control)]


def _shares(names: Sequence[str], plan: Plan) -> dict[str, float]:
    if plan.shares is None:
        return dict.fromkeys(names, 1 / len(names))
    there = ", ".join(names)
    for name, share in plan.shares.items():
        if name not in names:
            raise DataError(f"--share {name}={share:g}: no customer has this arm; arms: {there}")
    for name in names:
        if name not in plan.shares:
            raise DataError(f"arm {name} has no --share; say one for each of: {there}")
    total = sum(plan.shares.values())
    if abs(total - 1) > 0.01:
        raise DataError(f"the shares add up to {total:g}; allowed: 1")
    return {name: plan.shares[name] / total for name in names}


def _days_left(customers: Customers, size: Size, windows: Windows, plan: Plan) -> int | None:
    """Days until there are enough, at the pace at which customers came last."""
    if size.needed is None:
        return None
    window = windows.of(plan.primary)
    since = customers.last - timedelta(days=PACE_DAYS)
    table = customers.table
    began = table["first"].min()
    days = max((customers.last - max(began, since)) / timedelta(days=1), 1.0)  # type: ignore[type-var,operator] # a datetime
    left = window / timedelta(days=1)
    waiting = 0.0
    for name, needed in size.needed.items():
        own = table.filter(pl.col("arm") == name)
        pace = own.filter(pl.col("first") > since).height / days
        missing = needed - own.height
        if missing > 0 and pace == 0:
            return None
        waiting = max(waiting, missing / pace if missing > 0 else 0.0)
    return int(np.ceil(waiting + left))


def _metrics(
    customers: Customers,
    names: Sequence[str],
    deciding: Sequence[pl.DataFrame] | None,
    windows: Windows,
    plan: Plan,
    *,
    withheld: bool,
) -> list[Metric]:
    """Figures of all metrics that there are data for, the primary one first."""
    found = [plan.primary, *(each for each in METRICS if each != plan.primary)]
    found = [metric for metric in found if metric not in customers.unavailable]
    reasons = {
        metric: _pending(metric, customers, deciding, windows, plan, withheld=withheld)
        for metric in found
    }
    figures = {
        metric: _figures(
            metric, customers, names, deciding if reasons[metric] is None else None, plan
        )
        for metric in found
    }
    compared = {
        metric: []
        if reasons[metric] is not None
        else [
            compare_shares(
                arm.share,
                arms[0].share,
                # so that the interval of the primary metric leaves out 0 where it is decided
                alpha=plan.alpha / (len(names) - 1) if metric == plan.primary else plan.alpha,
            )
            for arm in arms[1:]
        ]
        for metric, arms in figures.items()
    }
    adjusted = _adjusted(compared, plan.primary, len(names) - 1)
    return [
        Metric(
            name=metric,
            description=describe(metric, windows),
            primary=metric == plan.primary,
            arms=figures[metric],
            comparisons=[
                Comparison(name, each, p, _verdict(each, p, plan.alpha))
                for name, each, p in zip(
                    names[1:] if compared[metric] else [],
                    compared[metric],
                    adjusted[metric] if compared[metric] else [],
                    strict=True,
                )
            ],
            pending=reasons[metric],
        )
        for metric in found
    ]


def _pending(
    metric: str,
    customers: Customers,
    deciding: Sequence[pl.DataFrame] | None,
    windows: Windows,
    plan: Plan,
    *,
    withheld: bool,
) -> str | None:
    if withheld:
        return "arms lose customers"
    if deciding is None:
        return "too few customers"
    if metric == plan.primary:
        return None
    last = max(each["first"][-1] for each in deciding)
    window = windows.of(metric)
    if last + window > customers.last:
        days = int(np.ceil((last + window - customers.last) / timedelta(days=1)))
        return f"the customers who decide are followed for {days} more days"
    if any(each[metric].drop_nulls().is_empty() for each in deciding):
        return "the customers who decide were not followed long enough"
    return None


def _figures(
    metric: str,
    customers: Customers,
    names: Sequence[str],
    deciding: Sequence[pl.DataFrame] | None,
    plan: Plan,
) -> list[Arm]:
    """Each arm's share: of the customers who decide, or of all so far."""
    arms = []
    for place, name in enumerate(names):
        table = deciding[place] if deciding else customers.table.filter(pl.col("arm") == name)
        values = table[metric].drop_nulls()
        share = Share(int(values.sum()), values.len())
        interval = None
        if share.customers:
            interval = (wilson if deciding else always_valid)(share, alpha=plan.alpha)
        arms.append(Arm(name, share, interval))
    return arms


def _adjusted(
    compared: Mapping[str, Sequence[Compared]], primary: str, others: int
) -> dict[str, list[float]]:
    """Adjust p-values: the primary metric's for its arms, all others' by Holm together.

    What is still to be decided takes its place among them, so that a difference that was found
    stays found when the next metric is decided.
    """
    own = [min(each.p * others, 1.0) for each in compared[primary]]
    secondary = [metric for metric in compared if metric != primary]
    values = [
        each.p
        for metric in secondary
        for each in compared[metric] or [Compared(1.0, Interval(0, 0, 0), None)] * others
    ]
    adjusted = holm(values)
    return {primary: own} | {
        metric: adjusted[place * others : (place + 1) * others]
        for place, metric in enumerate(secondary)
    }


def _verdict(compared: Compared, p: float, alpha: float) -> str:
    if p > alpha:
        return "no difference found"
    return "better" if compared.difference.mean > 0 else "worse"
