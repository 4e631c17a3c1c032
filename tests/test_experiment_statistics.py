"""The statistics of experiments, against published figures and against chance itself."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2, chi2_contingency

from c2rec.train.experiment_statistics import (
    Share,
    always_valid,
    compare_shares,
    control_size,
    holm,
    score_test,
    share_mismatch,
    wilson,
)
from c2rec.train.significance import Interval


@pytest.mark.parametrize(
    ("share", "low", "high"),
    [
        (Share(81, 263), 0.2553, 0.3662),
        (Share(15, 148), 0.0624, 0.1605),
        (Share(0, 20), 0.0, 0.1611),
        (Share(1, 29), 0.0061, 0.1718),
    ],
)
def test_the_interval_of_a_share_is_the_published_one(
    share: Share, low: float, high: float
) -> None:
    """Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3."""
    found = wilson(share, alpha=0.05)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("arm", "control", "low", "high"),
    [
        (Share(56, 70), Share(48, 80), 0.0528, 0.3382),
        (Share(9, 10), Share(3, 10), 0.1700, 0.8406),
        (Share(5, 56), Share(0, 29), -0.0326, 0.1933),
        (Share(0, 10), Share(0, 20), -0.1658, 0.2844),
        (Share(10, 10), Share(0, 20), 0.7156, 1.0),
    ],
)
def test_the_interval_of_a_difference_is_the_published_one(
    arm: Share, control: Share, low: float, high: float
) -> None:
    """Newcombe, Statistics in Medicine 17 (1998) 873, table II, Miettinen and Nurminen's method."""
    found = compare_shares(arm, control, alpha=0.05).difference
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(deadline=None)
@given(arm=counts, control=counts, alpha=st.sampled_from([0.05, 0.01, 0.2]))
def test_intervals_leave_out_no_difference_just_where_the_test_rejects_it(
    arm: tuple[int, int], control: tuple[int, int], alpha: float
) -> None:
    found = compare_shares(Share(*arm), Share(*control), alpha=alpha)
    difference, ratio = found.difference, found.ratio
    assert -1 <= difference.low <= difference.mean <= difference.high <= 1
    if abs(found.p - alpha) < 1e-6:
        return
    assert (not difference.low <= 0 <= difference.high) == (found.p < alpha)
    if ratio is not None:
        assert 0 <= ratio.low <= ratio.mean * (1 + 1e-9)
        assert ratio.mean <= ratio.high * (1 + 1e-9)
        assert (not ratio.low <= 1 <= ratio.high) == (found.p < alpha)


def test_the_test_is_the_chi_square_with_one_customer_less() -> None:
    found = compare_shares(Share(9, 20), Share(3, 25), alpha=0.05).p
    chi_square = chi2_contingency([[9, 11], [3, 22]], correction=False).statistic
    assert found == pytest.approx(chi2.sf(chi_square * 44 / 45, 1))


def test_arms_that_change_places_change_the_sign() -> None:
    one, other = Share(56, 70), Share(48, 80)
    there, back = compare_shares(one, other, alpha=0.05), compare_shares(other, one, alpha=0.05)
    assert there.p == pytest.approx(back.p)
    assert there.difference.low == pytest.approx(-back.difference.high)
    assert there.ratio is not None
    assert back.ratio is not None
    assert there.ratio.low == pytest.approx(1 / back.ratio.high)


def test_there_is_no_ratio_to_a_control_of_nobody() -> None:
    assert compare_shares(Share(5, 50), Share(0, 50), alpha=0.05).ratio is None


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says() -> None:
    """Over all pairs of counts that there can be, each weighted by its chance."""
    n, p, q = 60, 0.15, 0.3
    weight_p, weight_q = binom.pmf(np.arange(n + 1), n, p), binom.pmf(np.arange(n + 1), n, q)
    covered = 0.0
    for x in range(30):
        for y in range(4, 34):
            found = compare_shares(Share(y, n), Share(x, n), alpha=0.05).difference
            covered += weight_p[x] * weight_q[y] * (found.low <= q - p <= found.high)
    assert covered == pytest.approx(0.95, abs=0.01)


def counts_that_hold(
    interval: Callable[..., Interval], looks: Sequence[int], rate: float
) -> tuple[list[int], list[int]]:
    """At each look, the least and the greatest number of hits whose interval holds the rate."""
    low, high = [], []
    for n in looks:
        reach = math.ceil(6 * math.sqrt(n * rate)) + 3
        near = range(max(0, int(n * rate) - reach), min(n, int(n * rate) + reach) + 1)
        found = [interval(Share(k, n), alpha=0.05) for k in near]
        inside = [k for k, each in zip(near, found, strict=True) if each.low <= rate <= each.high]
        low.append(inside[0])
        high.append(inside[-1])
    return low, high


def test_an_interval_for_all_looks_holds_the_truth_at_all_of_them() -> None:
    """Of 4,000 sequences of 2,000 customers at most 5 % ever miss it; one for one look does."""
    rng = np.random.default_rng(7)
    sequences, rate, looks = 4000, 0.1, range(40, 2001, 40)
    hits = np.cumsum(rng.random((sequences, 2000)) < rate, axis=1)[:, np.array(looks) - 1]
    missed = []
    for interval in (always_valid, wilson):
        low, high = counts_that_hold(interval, looks, rate)
        missed.append(((hits < low) | (hits > high)).any(axis=1).mean())
    # a millionth: what chance would make of 5 %
    assert missed[0] <= binom.isf(1e-6, sequences, 0.05) / sequences
    assert missed[0] > 0.001, "it is no interval of everything"
    assert missed[1] > 0.2


def test_sizes_are_those_of_the_textbook() -> None:
    """10 % against 11 %, 0.8 and 0.05: 14,751 each, as R's power.prop.test has it."""
    sizes = control_size(np.array([0.1, 0.5]), 0.1, [1.0], power=0.8, alpha=0.05)
    assert sizes.tolist() == [14_751, 1_565]


def test_a_size_is_infinite_where_there_is_no_share_to_go_by() -> None:
    sizes = control_size(np.array([0.0, 0.95]), 0.1, [1.0], power=0.8, alpha=0.05)
    assert np.isinf(sizes).all()


@pytest.mark.parametrize("ratio", [1.0, 0.25, 3.0])
def test_a_size_finds_the_effect_with_its_power(ratio: float) -> None:
    """For an arm of any share; the standard error of the sample is 0.003."""
    p, q = 0.2, 0.3
    n = int(control_size(np.array([p]), 0.5, [ratio], power=0.8, alpha=0.05)[0])
    m = math.ceil(n * ratio)
    rng, times = np.random.default_rng(1), 20_000
    x, y = rng.binomial(n, p, times), rng.binomial(m, q, times)
    found = score_test(y, np.full(times, m), x, np.full(times, n)) <= 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.015)


def test_holm_is_the_published_procedure() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_arms_that_lose_customers_are_told_from_those_that_do_not() -> None:
    equal = {"main": 0.5, "b": 0.5}
    assert share_mismatch({"main": 5_000, "b": 5_050}, equal) > 0.5
    assert share_mismatch({"main": 5_000, "b": 5_500}, equal) < 1e-5
    assert share_mismatch({"main": 9_000, "b": 1_000}, {"main": 0.9, "b": 0.1}) == 1.0
