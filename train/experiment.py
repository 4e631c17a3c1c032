"""What an experiment shows, and whether it shows anything yet.

The question is asked once. How many customers each arm needs follows from the smallest effect that
is worth finding; the first so many of each arm, in the order in which they were first shown
something, decide, and no others. So whoever looks every day sees "too little" until then and one
and the same answer after: there is nothing to be gained, and no luck to be had, by looking often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from c2rec.runtime.errors import DataError
from c2rec.train.experiment_metrics import METRICS, Windows, describe
from c2rec.train.experiment_outcomes import Customers, switched_within
from c2rec.train.experiment_size import Plan, arm_sizes, settle
from c2rec.train.experiment_statistics import (
    Compared,
    Share,
    always_valid,
    compare_shares,
    holm,
    share_mismatch,
    wilson,
)
from c2rec.train.significance import Interval

MISMATCH = 0.001
"""Arms that differ from their shares by less than this chance lose customers somewhere."""
MAX_ARMS = 20
PACE_DAYS = 14
"""Days that the pace is taken from."""


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
