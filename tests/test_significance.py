"""Intervals of means and of ratios."""

import numpy as np
import pytest

from c2rec.train.significance import intervals, ratio_intervals


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    """Half of 400 customers hit: 0.5 give or take 1.96 times 0.025."""
    values = np.repeat([[0.0], [1.0]], 200, axis=0)
    (found,) = intervals(values, np.arange(400))
    assert found is not None
    assert found.mean == 0.5
    assert found.low == pytest.approx(0.451, abs=0.004)
    assert found.high == pytest.approx(0.549, abs=0.004)


def test_all_rows_of_a_customer_are_drawn_together() -> None:
    """Ten rows each of 40 customers tell as much as one row each, not as 400 customers."""
    values = np.repeat([[0.0], [1.0]], 20, axis=0)
    (single,) = intervals(values, np.arange(40))
    (tenfold,) = intervals(np.repeat(values, 10, axis=0), np.repeat(np.arange(40), 10))
    assert single == tenfold
    assert single is not None
    assert single.high - single.low > 0.25


def test_customers_with_more_rows_weigh_more() -> None:
    values, owners = np.array([[1.0], [1.0], [1.0], [0.0]]), np.array([0, 0, 0, 1])
    (found,) = intervals(values, owners)
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.75, 0.0, 1.0)


def test_equal_figures_have_an_interval_without_width() -> None:
    (found,) = intervals(np.full((50, 1), 0.25), np.arange(50))
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))


@pytest.mark.parametrize("customers", [0, 1])
def test_fewer_than_two_customers_give_no_interval(customers: int) -> None:
    assert intervals(np.ones((customers, 2)), np.arange(customers)) == [None, None]


def test_a_ratio_without_a_denominator_is_none() -> None:
    numerators = np.array([[1.0, 0.0], [3.0, 0.0]])
    denominators = np.array([[4.0, 0.0], [4.0, 0.0]])
    first, second = ratio_intervals(numerators, denominators)
    assert second is None
    assert first is not None
    assert (first.mean, first.low, first.high) == (0.5, 0.25, 0.75)
