"""How often ``c2rec-train experiment`` finds an effect that is there, and one that is not.

``python -m benchmarks.experiments`` simulates thousands of experiments by chance alone, has each of
them judged as the command does, and beside it by somebody who tests every day and stops once
p < 0.05. It prints the shares with their Wilson intervals. About five minutes.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from c2rec.train.experiment_size import Hits, Plan, arm_sizes, settle
from c2rec.train.experiment_statistics import (
    Floats,
    Ints,
    Share,
    control_size,
    score_test,
    wilson,
)

PER_DAY = 200
"""Customers of the control on each day, for somebody who looks daily."""


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of experiment."""

    name: str
    baseline: float
    effect: float
    """That ``Plan`` looks for."""
    true_effect: float
    """Of every arm but the control."""
    shares: Sequence[float] = (0.5, 0.5)
    """The control's first."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one experiment."""

    found: bool
    """Whether any arm was told to be better or worse."""
    better: bool
    """Whether the last arm was told to be better."""
    customers: int
    """Of the control, by whom it was decided."""
    daily: bool
    """Whether somebody who tests every day until then would have stopped and told of an effect."""


def run(case: Case, count: int, seed: int) -> list[Outcome]:
    """Simulate experiments.

    Raises:
        RuntimeError: one was not decided by three times the customers that it needs.
    """
    rng = np.random.default_rng(seed)
    plan = Plan(effect=case.effect)
    ratios = [share / case.shares[0] for share in case.shares]
    alpha = plan.alpha / (len(ratios) - 1)
    rates = [case.baseline, *[case.baseline * (1 + case.true_effect)] * (len(ratios) - 1)]
    enough = 3 * _needed(case, plan, ratios)
    outcomes = []
    for _ in range(count):
        hits = [
            rng.random(n) < rate for n, rate in zip(arm_sizes(enough, ratios), rates, strict=True)
        ]
        stop, _, _ = settle(hits, ratios, plan)
        if stop is None:
            raise RuntimeError(f"{case}: not decided by {enough} customers")
        looks = np.array([*range(PER_DAY, stop, PER_DAY), stop])  # of the control's customers
        p, ahead = _tests(hits, looks, ratios)  # (arms, looks)
        outcomes.append(
            Outcome(
                found=bool((p[:, -1] <= alpha).any()),
                better=bool(p[-1, -1] <= alpha and ahead[-1, -1]),
                customers=stop,
                daily=bool((p <= alpha).any()),
            )
        )
    return outcomes


def looked_at_daily(count: int, seed: int, *, slow: float) -> tuple[list[bool], list[bool]]:
    """A/A tests that somebody runs the command on every day, while some kiosks send seldom.

    Late events put customers among the first, so that others decide than did the day before.

    Args:
        count: how many experiments.
        seed: of chance.
        slow: share of the kiosks that send once in 1 to 14 days; the others do daily.

    Returns:
        For each, whether an effect was told on the first day that anything was, and on any day
        of the next 30.
    """
    rng = np.random.default_rng(seed)
    plan, kiosks, days = Plan(effect=0.3), 100, 60
    at_first, ever = [], []
    for _ in range(count):
        per_arm = []
        every = np.where(rng.random(kiosks) < slow, rng.integers(1, 15, kiosks), 1)  # (kiosks,)
        began = rng.integers(0, every)
        for _ in range(2):
            first = np.sort(rng.random(days * 60) * days)
            per_arm.append(
                (first, rng.integers(0, kiosks, len(first)), rng.random(len(first)) < 0.1)
            )
        told: list[bool] = []
        for day in range(2, days):
            until = day - (day + began) % every  # (kiosks,), when each has sent
            hits = [hit[first + 1 <= until[kiosk]] for first, kiosk, hit in per_arm]
            stop, _, _ = settle(hits, (1.0, 1.0), plan)
            if stop is not None:
                p, _ = _tests(hits, np.array([stop]), (1.0, 1.0))
                told.append(bool(p[0, 0] <= plan.alpha))
        at_first.append(told[0])
        ever.append(any(told[:30]))
    return at_first, ever


def _tests(
    hits: Sequence[Hits], looks: Ints, ratios: Sequence[float]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Test each arm at each look: p-values and whether it is ahead, (arms, looks) both."""
    sizes = [np.ceil(looks * ratio - 1e-9).astype(np.int64) for ratio in ratios]
    done = [
        np.cumsum(each, dtype=np.int64)[size - 1] for each, size in zip(hits, sizes, strict=True)
    ]
    others = range(1, len(ratios))
    p = [score_test(done[arm], sizes[arm], done[0], sizes[0]) for arm in others]
    ahead = [done[arm] / sizes[arm] > done[0] / sizes[0] for arm in others]
    return np.array(p), np.array(ahead)


def _needed(case: Case, plan: Plan, ratios: Sequence[float]) -> int:
    """Customers of the control that the case needs by its true baseline."""
    size = control_size(
        np.array([case.baseline]),
        plan.effect,
        ratios[1:],
        power=plan.power,
        alpha=plan.alpha / (len(ratios) - 1),
    )
    return int(max(size[0], 200))


CASES = (
    Case("A/A, 10 %", 0.1, 0.2, 0.0),
    Case("A/A, 2 %", 0.02, 0.5, 0.0),
    Case("A/A, 40 %", 0.4, 0.1, 0.0),
    Case("A/A, 9 : 1", 0.1, 0.3, 0.0, (0.9, 0.1)),
    Case("A/A/A", 0.1, 0.2, 0.0, (1 / 3, 1 / 3, 1 / 3)),
    Case("10 % + 20 %", 0.1, 0.2, 0.2),
    Case("2 % + 50 %", 0.02, 0.5, 0.5),
    Case("40 % + 10 %", 0.4, 0.1, 0.1),
    Case("10 % + 30 %, 9 : 1", 0.1, 0.3, 0.3, (0.9, 0.1)),
    Case("10 % + 20 %, two arms", 0.1, 0.2, 0.2, (1 / 3, 1 / 3, 1 / 3)),
    Case("10 % − 20 %", 0.1, 0.2, -0.2),
)


def main() -> None:
    """Run all cases and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="Experiments of each kind.")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("| | customers of the control | an effect told | the last arm better | tested daily |")
    print("| --- | --- | --- | --- | --- |")
    for case in CASES:
        found = run(case, options.count, options.seed)
        cells = [
            _share([each.found for each in found]),
            _share([each.better for each in found]),
            _share([each.daily for each in found]),
        ]
        size = int(np.median([each.customers for each in found]))
        print(f"| {case.name} | {size:,} | {' | '.join(cells)} |", flush=True)
    print("\n| kiosks that send seldom | an effect told at first | on any of 30 days |")
    print("| --- | --- | --- |")
    for slow in (0.0, 0.1, 0.5):
        at_first, ever = looked_at_daily(options.count // 5, options.seed + 1, slow=slow)
        print(f"| {slow:.0%} | {_share(at_first)} | {_share(ever)} |", flush=True)


def _share(values: Sequence[bool]) -> str:
    interval = wilson(Share(sum(values), len(values)), alpha=0.05)
    return f"{100 * interval.mean:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


if __name__ == "__main__":
    main()
