"""Experiments: what customers did, and when something can be concluded of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from benchmarks.experiments import Case, run
from c2rec.runtime.errors import DataError
from c2rec.train.experiment import Experiment, judge
from c2rec.train.experiment_events import read_both_channels, read_events, read_purchases
from c2rec.train.experiment_metrics import Windows
from c2rec.train.experiment_outcomes import Customers, outcomes
from c2rec.train.experiment_simulation import simulate_experiment
from c2rec.train.experiment_size import Plan, settle
from tests.experiment_stores import Stores

NOW = datetime(2026, 9, 1, tzinfo=UTC)
WINDOWS = Windows(timedelta(hours=24), timedelta(days=28))
LATE = 24.0 * 60
"""Hours after which everybody was followed long enough."""
COUNT = 1500
"""Simulated experiments of each kind."""


def told(stores: Stores, folder: Path, *, data: bool = True) -> Customers:
    """What is told of the customers of some stores."""
    collected, dataset = stores.write(folder)
    events = read_events(collected, NOW, None)
    both = read_both_channels(dataset, NOW) if data else None
    return outcomes(events, read_purchases(collected), both, WINDOWS)


def answers(found: Customers, metric: str) -> dict[str, bool | None]:
    return dict(found.table.select("customer_id", metric).iter_rows())


def closing(stores: Stores) -> None:
    """Nobody known is at the kiosk, and buys in both channels, long after."""
    stores.event(LATE, None, "Z", arm=None)
    stores.data += [stores.sale(LATE, "nobody"), stores.sale(LATE, "nobody", channel="online")]


def test_a_purchase_counts_for_an_item_shown_before_and_within_the_time(tmp_path: Path) -> None:
    stores = Stores()
    for customer in ("buys", "other item", "before", "late", "only online", "by the till", "edge"):
        stores.event(0, customer, "A", event_id=customer)
    stores.bought = [
        stores.sale(1, "buys"),
        stores.sale(1, "other item", "B"),
        stores.sale(-1, "before"),
        stores.sale(24.1, "late"),
        stores.sale(24, "edge"),
    ]
    stores.data = [stores.sale(1, "only online", channel="online"), stores.sale(2, "by the till")]
    closing(stores)
    found = told(stores, tmp_path)
    yes = {customer for customer, did in answers(found, "conversion").items() if did}
    assert yes == {"buys", "by the till", "edge"}
    assert not any(did is None for did in answers(found, "conversion").values())


def test_an_item_shown_on_a_later_visit_counts_from_then(tmp_path: Path) -> None:
    stores = Stores()
    for customer in ("after", "in between"):
        stores.event(0, customer, "A")
        stores.event(5, customer, "B")
    stores.bought = [stores.sale(6, "after", "B"), stores.sale(4, "in between", "B")]
    closing(stores)
    found = answers(told(stores, tmp_path), "conversion")
    assert found == {"after": True, "in between": False}


def test_purchases_online_are_told_apart_by_what_was_shown(tmp_path: Path) -> None:
    stores = Stores()
    for customer in ("same", "another", "late", "none"):
        stores.event(0, customer, "A")
    stores.data = [
        stores.sale(200, "same", "A", "online"),
        stores.sale(200, "another", "B", "online"),
        stores.sale(24 * 28 + 1, "late", "A", "online"),
        stores.sale(-1, "none", "A", "online"),
    ]
    closing(stores)
    found = told(stores, tmp_path)
    assert answers(found, "cross_channel") == {
        "another": False,
        "late": False,
        "none": False,
        "same": True,
    }
    assert {name for name, did in answers(found, "online").items() if did} == {"same", "another"}


def test_coming_back_is_another_day_in_any_way(tmp_path: Path) -> None:
    stores = Stores()
    for customer in ("kiosk", "till", "web", "same day", "late", "tapped"):
        stores.event(0, customer, "A")
    stores.event(100, "kiosk", "B", kind="dismissed", arm=None)
    stores.event(3, "same day", "B")
    stores.event(24 * 28 + 1, "late", "B")
    stores.event(30, "tapped", "A", kind="tapped")
    stores.data = [stores.sale(50, "till", "Q"), stores.sale(60, "web", "Q", "online")]
    closing(stores)
    found = answers(told(stores, tmp_path), "retention")
    assert {name for name, did in found.items() if did} == {"kiosk", "till", "web", "tapped"}


def test_nobody_counts_before_they_were_followed_long_enough(tmp_path: Path) -> None:
    """Their own kiosk, and the dataset, have to tell of the whole time."""
    stores = Stores()
    stores.event(0, "long ago", "A")
    stores.event(500, "lately", "A")
    stores.event(500, "silent", "A", device="k2")
    stores.event(560, None, "Z", arm=None)
    stores.bought = [stores.sale(501, "lately"), stores.sale(501, "silent")]
    alone = told(stores, tmp_path, data=False)
    assert answers(alone, "conversion") == {"long ago": False, "lately": True, "silent": None}
    assert set(answers(alone, "retention").values()) == {None}
    assert set(alone.unavailable) == {"cross_channel", "online"}
    stores.data = [stores.sale(510, "lately", "Q"), stores.sale(700, "lately", "Q", "online")]
    found = told(stores, tmp_path)
    assert answers(found, "conversion") == {"long ago": False, "lately": None, "silent": None}
    assert answers(found, "online") == {"long ago": False, "lately": None, "silent": None}
    stores.data = [stores.sale(900, "lately", "Q")]
    later = answers(told(stores, tmp_path), "conversion")
    assert later == {"long ago": False, "lately": True, "silent": None}, "of k2 nothing is known"


def test_who_was_shown_another_arm_meanwhile_is_left_out_where_that_matters(
    tmp_path: Path,
) -> None:
    """And not who was later, as everybody is who gets the winner in the end."""
    stores = Stores()
    for customer, hour in (("at once", 9), ("weeks later", 200), ("after", 24 * 28 + 1)):
        stores.event(0, customer, "A")
        stores.event(hour, customer, "A", arm="spring/b")
    stores.event(0, None, "A")
    stores.bought = [stores.sale(1, "after")]
    closing(stores)
    found = told(stores, tmp_path)
    assert set(found.table["arm"]) == {"main"}
    assert answers(found, "conversion") == {"after": True, "at once": None, "weeks later": False}
    assert answers(found, "retention") == {"after": False, "at once": None, "weeks later": None}
    assert (found.in_two_arms, found.anonymous) == (2, 1)


def test_another_experiment_is_another_matter(tmp_path: Path) -> None:
    stores = Stores()
    stores.event(0, "C1", arm="spring/main")
    stores.event(1, "C1", arm="summer/b")
    stores.bought = [stores.sale(1, "C1")]
    collected, _ = stores.write(tmp_path)
    with pytest.raises(DataError, match="has 2 experiments; say --name with one of: spring, summ"):
        read_events(collected, NOW, None)
    with pytest.raises(DataError, match="no experiment 'autumn'; it has: spring, summer"):
        read_events(collected, NOW, "autumn")
    found = outcomes(
        read_events(collected, NOW, "summer"), read_purchases(collected), None, WINDOWS
    )
    assert found.table["arm"].to_list() == ["b"]
    assert found.in_two_arms == 0


def test_times_that_cannot_be_are_left_out(tmp_path: Path) -> None:
    """A kiosk whose clock is wrong must not seem to have told of years to come."""
    stores = Stores()
    stores.event(0, "C1")
    stores.event(-24 * 365 * 20, "C1", impossible=True)
    stores.event(24 * 365 * 10, "C2")
    stores.bought = [stores.sale(1, "C1")]
    collected, _ = stores.write(tmp_path)
    events = read_events(collected, NOW, None)
    assert (events.impossible, events.future, events.rows.height) == (1, 1, 1)


def hits_of(rng: np.random.Generator, n: int, rate: float) -> "np.typing.NDArray[np.bool_]":
    return rng.random(n) < rate


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    rate=st.floats(0.02, 0.6),
    effect=st.floats(0.3, 1.0),
    ratio=st.sampled_from([1.0, 0.5, 1 / 3, 2.0]),
    known=st.booleans(),
)
def test_whoever_looks_every_day_sees_one_and_the_same_answer(
    seed: int, rate: float, effect: float, ratio: float, known: bool
) -> None:
    rng = np.random.default_rng(seed)
    plan = Plan(effect=effect, baseline=rate / 2 if known else None)
    hits = [hits_of(rng, 6000, rate), hits_of(rng, int(6000 * ratio), rate)]
    final = settle(hits, [1.0, ratio], plan)
    for n in rng.integers(0, 6001, 20).tolist():
        stop, needed, _ = settle(
            [hits[0][:n], hits[1][: int(n * ratio + 1e-9)]], [1.0, ratio], plan
        )
        if final[0] is not None and n >= final[0]:
            assert stop == final[0]
        else:
            assert stop is None
            assert needed is None or needed > n


@pytest.mark.parametrize(
    "case",
    [
        Case("A/A", 0.1, 0.3, 0.0),
        Case("A/A, unequal", 0.2, 0.3, 0.0, (0.75, 0.25)),
        Case("A/A/A", 0.2, 0.3, 0.0, (0.4, 0.3, 0.3)),
    ],
)
def test_an_a_a_test_is_told_an_effect_as_often_as_is_stated(case: Case) -> None:
    """At 5 %; the bounds are those that chance passes once in 10,000 tries.

    Somebody who tests every day with as many customers tells of one far more often.
    """
    found = run(case, COUNT, seed=11)
    wrong = sum(each.found for each in found)
    assert wrong <= binom.isf(1e-4, COUNT, 0.05)
    if len(case.shares) == 2:
        assert wrong >= binom.ppf(1e-4, COUNT, 0.05)
    assert sum(each.daily for each in found) > 2 * wrong


@pytest.mark.parametrize(
    "case",
    [
        Case("more", 0.1, 0.3, 0.3),
        Case("unequal", 0.2, 0.3, 0.3, (0.75, 0.25)),
        Case("three arms", 0.2, 0.3, 0.3, (0.4, 0.3, 0.3)),
    ],
)
def test_an_effect_that_is_there_is_found_with_the_stated_power(case: Case) -> None:
    """At 80 %; the bounds are those that chance passes once in 10,000 tries, and 2 % for what the
    formula of the size leaves out."""
    better = sum(each.better for each in run(case, COUNT, seed=12))
    assert binom.ppf(1e-4, COUNT, 0.78) <= better <= binom.isf(1e-4, COUNT, 0.82)


def of_simulation(folder: Path, until: float | None = None) -> Experiment:
    """Judge a simulated experiment, as of some days after its start."""
    collected, data = folder / "collected", folder / "data"
    now = NOW if until is None else datetime(2025, 1, 6, tzinfo=UTC) + timedelta(days=until)
    events = read_events(collected, now, None)
    purchases, both = read_purchases(collected), read_both_channels(data, NOW)
    if until is not None:
        before = pl.col("timestamp") <= now
        events = type(events)(events.rows.filter(before), events.name, 0, 0)
        purchases, both = purchases.filter(before), both.filter(before)
    return judge(outcomes(events, purchases, both, WINDOWS), WINDOWS, Plan(effect=0.3))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment whose effect of 40 % is there."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate_experiment(folder, customers=8000, days=80, effect=0.4, seed=3)
    return folder


def test_a_simulated_experiment_is_found_and_its_beside_metrics_are_not(simulated: Path) -> None:
    found = of_simulation(simulated)
    primary, *beside = found.metrics
    assert (primary.name, [each.verdict for each in primary.comparisons]) == (
        "conversion",
        ["better"],
    )
    ratio = primary.comparisons[0].compared.ratio
    assert ratio is not None
    assert 1 < ratio.low < 1.4 < ratio.high
    assert [each.comparisons[0].verdict for each in beside] == ["no difference found"] * 3
    assert {arm.share.customers for arm in primary.arms} == {found.size.needed["main"]}  # type: ignore[index] # it is known


def test_as_the_days_go_by_there_is_nothing_and_then_one_answer(simulated: Path) -> None:
    looks = [of_simulation(simulated, until) for until in (5, 15, 35, 45, 60, 80)]
    decided = [look.decided for look in looks]
    assert decided == sorted(decided)
    assert not decided[0]
    assert looks[0].metrics[0].comparisons == []
    shares = {
        tuple(arm.share for arm in look.metrics[0].arms) for look in looks[3:] if look.decided
    }
    assert len(shares) == 1, "the same customers decide"


def test_what_needs_weeks_is_decided_by_the_same_customers_weeks_later(simulated: Path) -> None:
    early = of_simulation(simulated, 40)
    assert early.decided
    pending = {each.name: each.pending for each in early.metrics}
    assert pending["conversion"] is None
    assert "more days" in (pending["retention"] or "")
    late = of_simulation(simulated, 80)
    assert {each.pending for each in late.metrics} == {None}


def test_an_arm_that_loses_customers_ends_in_no_conclusion(simulated: Path) -> None:
    events = read_events(simulated / "collected", NOW, None)
    lost = pl.col("customer_id").str.ends_with("7") & (pl.col("arm") == "main")
    kept = type(events)(events.rows.filter(~lost), events.name, 0, 0)
    both = read_both_channels(simulated / "data", NOW)
    customers = outcomes(kept, read_purchases(simulated / "collected"), both, WINDOWS)
    found = judge(customers, WINDOWS, Plan(effect=0.3))
    assert found.mismatched
    assert {each.pending for each in found.metrics} == {"arms lose customers"}
    assert all(each.comparisons == [] for each in found.metrics)
    right = judge(customers, WINDOWS, Plan(effect=0.3, shares={"main": 0.474, "challenger": 0.526}))
    assert not right.mismatched


def test_too_few_customers_never_conclude_however_large_the_effect() -> None:
    hits = [np.zeros(99, np.bool_), np.ones(99, np.bool_)]
    assert settle(hits, [1.0, 1.0], Plan(effect=5.0, baseline=0.1))[:2] == (None, 100)
    rare = [np.arange(5000) % 1000 == 0, np.arange(5000) % 1000 == 0]
    stop, needed, _ = settle(
        [each[:4000] for each in rare], [1.0, 1.0], Plan(effect=5.0, baseline=0.1)
    )
    assert stop is None, "8 customers of 8,000 are no ground"
    assert needed == 5000


def test_nobody_who_bought_gives_no_size() -> None:
    hits = [np.zeros(3000, np.bool_)] * 2
    assert settle(hits, [1.0, 1.0], Plan())[:2] == (None, None)


def test_the_same_seed_simulates_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        simulate_experiment(tmp_path / name, customers=300, days=20, seed=4)
    for file in ("collected/impressions.parquet", "data/transactions.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
