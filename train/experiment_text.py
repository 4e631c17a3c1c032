"""An experiment told to a person, and as JSON."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from c2rec.runtime.records import CHANNELS
from c2rec.train.experiment import MISMATCH, Comparison, Experiment, Metric
from c2rec.train.experiment_events import Events
from c2rec.train.significance import Interval

_SWITCHED = 0.05
"""Share of customers in several arms from which on it is warned of."""


def experiment_document(experiment: Experiment, events: Events, source: Path) -> dict[str, Any]:
    """Arrange as JSON."""
    size, plan, customers = experiment.size, experiment.plan, experiment.customers
    decided = experiment.decided and not experiment.mismatched
    return {
        "schema": 1,
        "collected": str(source),
        "experiment": events.name,
        "control": experiment.control,
        "arms": [
            {"arm": arm, "customers": count, "share": experiment.shares[arm]}
            for arm, count in experiment.arms.items()
        ],
        "share_mismatch": {
            "p": experiment.mismatch,
            "limit": MISMATCH,
            "mismatched": experiment.mismatched,
        },
        "plan": {
            "primary": plan.primary,
            "effect": plan.effect,
            "power": plan.power,
            "alpha": plan.alpha,
            "baseline": size.baseline,
            "needed": size.needed,
            "followed": size.followed,
            "days_left": size.days_left,
            "attribution_hours": experiment.windows.attribution.total_seconds() / 3600,
            "follow_days": experiment.windows.follow.days,
        },
        "conclusion": _conclusion(experiment) if decided else None,
        "metrics": [_metric_document(metric) for metric in experiment.metrics],
        "unavailable": dict(customers.unavailable),
        "left_out": {
            "customers_in_two_arms": customers.in_two_arms,
            "showings_to_nobody_known": customers.anonymous,
            "rows_with_an_impossible_time": events.impossible,
            "rows_in_the_future": events.future,
        },
        "last": customers.last.isoformat(),
        "sentences": sentences(experiment),
        "warnings": warnings(experiment, events),
    }


def experiment_text(experiment: Experiment, events: Events) -> str:
    """Write a report for a terminal."""
    customers = experiment.customers
    first = customers.table["first"][0]
    about = (
        f"Experiment {events.name}: {sum(experiment.arms.values()):,} customers in "
        f"{len(experiment.arms)} arms, first shown something from {first:%-d %b %Y} on; events "
        f"until {customers.last:%-d %b %Y}"
    )
    lines = [
        about,
        "",
        *sentences(experiment),
        "",
    ]
    for metric in experiment.metrics:
        kind = "decides" if metric.primary else "beside"
        lines += [f"{metric.name} ({kind}): {metric.description}"]
        if metric.pending:
            lines.append(
                f"  not decided: {metric.pending}; these intervals hold however often you look"
            )
        lines += [*_table(metric, experiment), ""]
    for name, why in customers.unavailable.items():
        lines.append(f"{name}: {why}")
    return "\n".join([*lines, *(f"! {each}" for each in warnings(experiment, events))]).rstrip()


def sentences(experiment: Experiment) -> list[str]:
    """Say what was found, or why nothing can be said and what to do."""
    if experiment.mismatched:
        return [_mismatch(experiment)]
    if not experiment.decided:
        return _too_little(experiment)
    primary = experiment.metrics[0]
    found = [_found(each, primary, experiment) for each in primary.comparisons]
    for metric in experiment.metrics[1:]:
        found += [
            f"Beside that, {_found(each, metric, experiment)}"
            for each in metric.comparisons
            if each.verdict != "no difference found"
        ]
    later = sum(experiment.size.followed.values()) - sum(
        each.share.customers for each in primary.arms
    )
    if later:
        found.append(
            f"{later:,} customers came later and change nothing: the question was asked once."
        )
    return found


def warnings(experiment: Experiment, events: Events) -> list[str]:
    """Tell what somebody has to look into."""
    customers, found = experiment.customers, []
    switched = customers.in_two_arms
    if switched:
        share = switched / customers.table.height
        line = (
            f"{switched:,} customers were shown another arm while they were followed, and are left "
            "out where that matters"
        )
        if share >= _SWITCHED:
            line += f": {_percent(share)} of all; did the shares change, or the customers' ids?"
        found.append(line)
    if customers.anonymous:
        found.append(f"showings to nobody known: {customers.anonymous:,}; they count nowhere")
    if events.impossible:
        found.append(
            f"{events.impossible:,} rows have an impossible time and are left out; set the "
            "kiosks' clocks"
        )
    if events.future:
        found.append(f"{events.future:,} rows are of the future and are left out; set the clocks")
    for channel, end in customers.behind.items():
        where = "in stores" if channel == CHANNELS[0] else "online"
        found.append(
            f"the dataset's purchases {where} end on {end:%-d %b %Y}, and kiosks tell of later "
            "days: customers are followed until then alone; give newer purchases with --data"
        )
    known, total = customers.with_purchases, customers.table.height
    if known is not None and known < total / 10:
        found.append(
            f"only {known:,} of {total:,} customers have a purchase in the dataset; are its "
            "customer ids those of collect?"
        )
    return found


def _conclusion(experiment: Experiment) -> list[dict[str, Any]]:
    primary = experiment.metrics[0]
    return [
        {
            "metric": primary.name,
            "arm": each.arm,
            "against": experiment.control,
            "verdict": each.verdict,
        }
        for each in primary.comparisons
    ]


def _metric_document(metric: Metric) -> dict[str, Any]:
    interval = "always-valid" if metric.pending else "wilson"
    return {
        "metric": metric.name,
        "description": metric.description,
        "primary": metric.primary,
        "pending": metric.pending,
        "interval": interval,
        "arms": [
            {
                "arm": arm.name,
                "customers": arm.share.customers,
                "hits": arm.share.hits,
                "rate": arm.share.rate if arm.share.customers else None,
                "low": arm.interval.low if arm.interval else None,
                "high": arm.interval.high if arm.interval else None,
            }
            for arm in metric.arms
        ],
        "comparisons": [
            {
                "arm": each.arm,
                "difference": _interval(each.compared.difference),
                "ratio": _interval(each.compared.ratio),
                "p": each.compared.p,
                "p_adjusted": each.p,
                "verdict": each.verdict,
            }
            for each in metric.comparisons
        ],
    }


def _interval(interval: Interval | None) -> dict[str, float] | None:
    if interval is None:
        return None
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def _mismatch(experiment: Experiment) -> str:
    total = sum(experiment.arms.values())
    counts = ", ".join(
        f"{arm} {count:,} of {experiment.shares[arm] * total:,.0f}"
        for arm, count in experiment.arms.items()
    )
    return (
        f"Nothing can be concluded: the arms don't have the customers that their shares say "
        f"({counts} expected; {_p(experiment.mismatch or 0.0)}). Customers of an arm get "
        "lost, or are told to the wrong one, and those who are left can't be compared. Find out "
        "why, say --share if the shares are others, and begin anew."
    )


def _too_little(experiment: Experiment) -> list[str]:
    size, plan = experiment.size, experiment.plan
    primary = experiment.metrics[0]
    if size.needed is None and any(arm.share.hits for arm in primary.arms):
        everybody = (
            "Too little to conclude: so many did it that an effect of "
            f"{_percent(plan.effect)} can't be told; choose a smaller --effect, or another "
            "--primary."
        )
        return [everybody]
    if size.needed is None:
        nobody = (
            f"Too little to conclude: of {sum(size.followed.values()):,} customers who were "
            "followed long enough nobody did it, so that it can't be told how many are needed. "
            "Wait, or say --baseline."
        )
        return [nobody]
    counts = ", ".join(
        f"{arm} {min(size.followed[arm], needed):,} of {needed:,}"
        for arm, needed in size.needed.items()
    )
    needs = (
        f"That many are needed to find {_percent(plan.effect)} more or less than "
        f"{_percent(size.baseline or 0.0)}, with a chance of {_percent(plan.power)} if it is "
        f"there and {_percent(plan.alpha)} if it is not."
    )
    lines = [f"Too little to conclude: {counts} customers.", needs]
    if size.days_left is not None:
        days = "day" if size.days_left == 1 else "days"
        lines.append(f"At the present pace that takes about {size.days_left:,} {days} more.")
    lines.append(
        "Wait until then, even if one arm looks better now: most of what looks so early is luck."
    )
    return lines


def _found(each: Comparison, metric: Metric, experiment: Experiment) -> str:
    control = metric.arms[0]
    arm = next(arm for arm in metric.arms if arm.name == each.arm)
    compared, plan = each.compared, experiment.plan
    difference = compared.difference
    rates = f"{_share(arm.share.rate)} against {_share(control.share.rate)}"
    points = (
        f"{_points(difference.mean)} points "
        f"({_points(difference.low)} to {_points(difference.high)})"
    )
    ratio = ""
    if compared.ratio is not None:
        mean, low, high = (
            _change(value)
            for value in (compared.ratio.mean, compared.ratio.low, compared.ratio.high)
        )
        ratio = f", {mean} ({low} to {high})"
    if each.verdict == "no difference found":
        return (
            f"No difference was found between {arm.name} and {control.name} in {metric.name}: "
            f"{rates}, {points}{ratio}; {_p(each.p)}. One of {_percent(plan.effect)} would "
            f"have been found with a chance of {_percent(plan.power)}; a smaller one may be there."
        )
    return (
        f"{arm.name} is {each.verdict} than {control.name} in {metric.name}: {rates}, "
        f"{points}{ratio}; {_p(each.p)}."
    )


def _table(metric: Metric, experiment: Experiment) -> list[str]:
    """Lay out a metric's figures, a line for each arm."""
    level = _percent(1 - experiment.plan.alpha)
    rows = [
        ["arm", "customers", "did it", "share", f"{level} interval", "difference", "ratio", "p"]
    ]
    compared = {each.arm: each for each in metric.comparisons}
    for arm in metric.arms:
        rate = _share(arm.share.rate) if arm.share.customers else ""
        span = ""
        if arm.interval:
            span = f"{_share(arm.interval.low)} to {_share(arm.interval.high)}"
        row = [arm.name, f"{arm.share.customers:,}", f"{arm.share.hits:,}", rate, span]
        each = compared.get(arm.name)
        if each:
            ratio = each.compared.ratio
            row += [
                _points(each.compared.difference.mean),
                "" if ratio is None else f"{ratio.mean:.3f}",
                _p(each.p).removeprefix("p = ").removeprefix("p "),
            ]
        rows.append(row + [""] * (len(rows[0]) - len(row)))
    if not compared:
        rows = [row[:5] for row in rows]
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(["", first, *rest]).rstrip())
    return lines


def _share(share: float) -> str:
    """Three digits, as 12.0 % and 0.0123 %."""
    percent = 100 * share
    digits = 1 if percent == 0 else max(2 - math.floor(math.log10(abs(percent))), 0)
    return f"{percent:.{min(digits, 6)}f} %"


def _percent(share: float) -> str:
    """The same without zeros at the end, for what was asked and not measured."""
    return f"{100 * share:.3g} %"


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}".replace("-", "−")


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %".replace("-", "−")


def _p(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"
