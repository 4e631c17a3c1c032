"""Each baseline against answers worked out by hand or by brute force, and what all promise."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped]

from c2rec.runtime.errors import RunError
from c2rec.train.baselines.ease import Ease
from c2rec.train.baselines.factors import ALS, BPR
from c2rec.train.baselines.item_knn import ItemKNN
from c2rec.train.baselines.repeat import Repeat
from c2rec.train.baselines.user_knn import UserKNN
from c2rec.train.metrics import Ranker
from c2rec.train.split import Purchases

CUSTOMERS, ITEMS = 300, 270
"""More than a block of either, so that a brute force sees where blocks meet."""
EVERYONE = np.arange(CUSTOMERS)


def bought(*rows: tuple[int, int, int]) -> Purchases:
    """Rows of (customer, item, channel), in any order."""
    table = np.array(sorted(set(rows), key=lambda row: (row[0], row[2], row[1]))).reshape(-1, 3)
    return Purchases(
        customers=table[:, 0].astype(np.int32),
        items=table[:, 1].astype(np.int32),
        channels=table[:, 2].astype(np.int8),
        days=np.zeros(len(table), np.int32),
        quantities=np.ones(len(table), np.int64),
    )


def random_rows(seed: int, channels: tuple[int, ...] = (0, 1)) -> list[tuple[int, int, int]]:
    """Popular and unpopular items; the last ten customers and items have no purchase."""
    rng = np.random.default_rng(seed)
    customers = rng.integers(0, CUSTOMERS - 10, 2500)
    items = (ITEMS - 10) * rng.random(2500) ** 2
    return list(
        zip(
            customers.tolist(),
            items.astype(int).tolist(),
            rng.choice(channels, 2500).tolist(),
            strict=True,
        )
    )


def dense(purchases: Purchases) -> npt.NDArray[np.float64]:
    """Both channels merged: 1 where bought, float64 (customers, items)."""
    matrix = np.zeros((CUSTOMERS, ITEMS))
    matrix[purchases.customers, purchases.items] = 1
    return matrix


def similarities(
    vectors: npt.NDArray[np.float64], neighbours: int | None, shrinkage: float
) -> npt.NDArray[np.float64]:
    """Row i holds what i's nearest rows are like to i, one pair at a time."""
    similar = np.zeros((len(vectors), len(vectors)))
    sizes = vectors.sum(1)
    common = vectors @ vectors.T
    for i in range(len(vectors)):
        ranked = sorted(
            (-common[i, j] / (math.sqrt(sizes[i] * sizes[j]) + shrinkage), j)
            for j in range(len(vectors))
            if j != i and common[i, j]
        )
        for similarity, j in ranked[:neighbours]:
            similar[i, j] = -similarity
    return similar


Maker = Callable[[Purchases, int | None], Ranker]


def item_knn(purchases: Purchases, channel: int | None) -> Ranker:
    return ItemKNN(
        purchases, customers=CUSTOMERS, items=ITEMS, channel=channel, neighbours=20, shrinkage=2.0
    )


def user_knn(purchases: Purchases, channel: int | None) -> Ranker:
    return UserKNN(purchases, customers=CUSTOMERS, items=ITEMS, channel=channel, neighbours=20)


def ease(purchases: Purchases, channel: int | None) -> Ranker:
    return Ease(purchases, customers=CUSTOMERS, items=ITEMS, channel=channel, regularisation=5.0)


def als(
    purchases: Purchases,
    channel: int | None,
    *,
    customers: int = CUSTOMERS,
    items: int = ITEMS,
    factors: int = 3,
    seed: int = 1,
    threads: int = 1,
) -> ALS:
    return ALS(
        purchases,
        customers=customers,
        items=items,
        channel=channel,
        factors=factors,
        regularisation=0.1,
        alpha=5.0,
        iterations=10,
        seed=seed,
        threads=threads,
    )


def bpr(
    purchases: Purchases,
    channel: int | None,
    *,
    customers: int = CUSTOMERS,
    items: int = ITEMS,
    seed: int = 1,
    learning_rate: float = 0.1,
) -> BPR:
    return BPR(
        purchases,
        customers=customers,
        items=items,
        channel=channel,
        factors=3,
        learning_rate=learning_rate,
        regularisation=0.01,
        iterations=60,
        seed=seed,
    )


every_model = pytest.mark.parametrize("make", [item_knn, user_knn, ease, als, bpr])


@every_model
def test_scores_are_finite_float32_of_the_whole_catalogue(make: Maker) -> None:
    scores = make(bought(*random_rows(0)), None).scores(EVERYONE[:7], 1)
    assert scores.dtype == np.float32
    assert scores.shape == (7, ITEMS)
    assert np.isfinite(scores).all()
    assert (scores != 0).any(1).all()


@every_model
def test_a_batch_is_scored_as_one_by_one_in_any_order(make: Maker) -> None:
    model = make(bought(*random_rows(0)), None)
    whole = model.scores(EVERYONE, 0)
    for customer in (0, 255, 256, 289):
        alone = model.scores(np.array([customer]), 0)[0]
        np.testing.assert_allclose(whole[customer], alone, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.scores(EVERYONE[::-1], 0), whole[::-1], rtol=1e-5, atol=1e-6)


@every_model
def test_a_model_of_one_channel_does_not_see_the_other(make: Maker) -> None:
    offline = random_rows(0, (0,))
    one = make(bought(*offline, *random_rows(1, (1,))), 0).scores(EVERYONE, 0)
    other = make(bought(*offline, *random_rows(2, (1,))), 0).scores(EVERYONE, 0)
    np.testing.assert_array_equal(one, other)
    merged = make(bought(*offline, *random_rows(1, (1,))), None).scores(EVERYONE, 0)
    assert (merged != one).any()


@every_model
def test_a_model_of_one_channel_does_not_answer_for_the_other(make: Maker) -> None:
    model = make(bought(*random_rows(0)), 1)
    with pytest.raises(ValueError, match="learnt from channel 1 alone; asked for 0"):
        model.scores(EVERYONE, 0)


@every_model
def test_merged_counts_what_was_bought_in_both_channels_once(make: Maker) -> None:
    offline = random_rows(0, (0,))
    again = [(customer, item, 1) for customer, item, _ in offline[:800]]
    once = make(bought(*offline), None).scores(EVERYONE, 0)
    both = make(bought(*offline, *again), None)
    np.testing.assert_array_equal(both.scores(EVERYONE, 0), once)
    np.testing.assert_array_equal(both.scores(EVERYONE, 1), once)


@every_model
def test_a_customer_without_purchases_in_the_channel_scores_zero(make: Maker) -> None:
    online_only = [(CUSTOMERS - 1, item, 1) for item in range(5)]
    purchases = bought(*random_rows(0), *online_only)
    none = np.arange(CUSTOMERS - 10, CUSTOMERS)
    assert not make(purchases, 0).scores(none, 0).any()
    assert make(purchases, None).scores(none, 0).any(1).tolist() == [False] * 9 + [True]


@every_model
def test_a_channel_without_purchases_scores_zero(make: Maker) -> None:
    scores = make(bought(*random_rows(0, (0,))), 1).scores(EVERYONE, 1)
    assert scores.shape == (CUSTOMERS, ITEMS)
    assert not scores.any()


@every_model
def test_fitting_again_gives_the_same_scores(make: Maker) -> None:
    purchases = bought(*random_rows(0))
    np.testing.assert_array_equal(
        make(purchases, None).scores(EVERYONE, 0), make(purchases, None).scores(EVERYONE, 0)
    )


@pytest.mark.parametrize("make", [als, bpr])
def test_another_seed_gives_other_scores(make: Callable[..., Ranker]) -> None:
    purchases = bought(*random_rows(0))
    one, other = (make(purchases, None, seed=seed).scores(EVERYONE, 0) for seed in (1, 2))
    assert (one != other).any()


def test_repeat_ranks_what_was_bought_anywhere_then_the_rest_by_popularity() -> None:
    purchases = bought(
        *((customer, 0, 0) for customer in range(5)),  # offline: 0 five times, 1 twice, 2 once
        *((customer, 1, 0) for customer in range(2)),
        (1, 2, 0),
        *((customer, 3, 1) for customer in range(6, 9)),  # online: 3 three times, 1 once
        (9, 1, 1),
        (9, 2, 0),  # now twice offline
        (9, 2, 1),  # and this is no second purchase of another item
    )
    offline = Repeat(purchases, items=5).scores(np.array([9, 0, 6, 50]), 0)
    assert offline.dtype == np.float32
    popularity = [5, 2, 2, 0, 0]
    assert offline.tolist() == [
        [5, 2 + 6, 2 + 6, 0, 0],  # 1 came from online alone
        [5 + 6, 2 + 6, 2, 0, 0],
        [5, 2, 2, 0 + 6, 0],  # never bought offline by anyone, and still above popularity
        popularity,  # outside training
    ]
    online = Repeat(purchases, items=5).scores(np.array([9]), 1)
    assert online.tolist() == [[0, 1 + 4, 1 + 4, 3, 0]]
    assert Repeat(purchases, items=5).scores(np.array([], np.int64), 0).shape == (0, 5)


def test_item_knn_by_hand() -> None:
    """Buyers: item 0 of 0, 1, 2; item 1 of 0, 1; item 2 of 2; item 3 of 3."""
    rows = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 2), (3, 3)]
    purchases = bought(*((customer, item, 0) for customer, item in rows))
    model = ItemKNN(purchases, customers=5, items=5, channel=0, neighbours=4, shrinkage=1.0)
    s01, s02 = 2 / (math.sqrt(3 * 2) + 1), 1 / (math.sqrt(3 * 1) + 1)
    expected = np.array(
        [
            [s01, s01, s02, 0, 0],
            [s01, s01, s02, 0, 0],
            [s02, s01, s02, 0, 0],
            [0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0],
        ]
    )
    np.testing.assert_allclose(model.scores(np.arange(5), 0), expected, rtol=1e-6)
    nearest = ItemKNN(purchases, customers=5, items=5, channel=0, neighbours=1, shrinkage=1.0)
    # what item 2 is like is judged by its own one neighbour, item 0, whose own is item 1
    expected = np.array([[0, s01, s02, 0, 0]])
    np.testing.assert_allclose(nearest.scores(np.array([2]), 0), expected, rtol=1e-6)


@pytest.mark.parametrize(("neighbours", "shrinkage"), [(1, 0.0), (7, 0.0), (7, 10.0), (1000, 3.0)])
def test_item_knn_is_what_brute_force_finds(neighbours: int, shrinkage: float) -> None:
    purchases = bought(*random_rows(3))
    matrix = dense(purchases)
    model = ItemKNN(
        purchases,
        customers=CUSTOMERS,
        items=ITEMS,
        channel=None,
        neighbours=neighbours,
        shrinkage=shrinkage,
    )
    expected = matrix @ similarities(matrix.T, neighbours, shrinkage).T
    np.testing.assert_allclose(model.scores(EVERYONE, 0), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("neighbours", [1, 7, None])
def test_user_knn_is_what_brute_force_finds(neighbours: int | None) -> None:
    purchases = bought(*random_rows(3))
    matrix = dense(purchases)
    model = UserKNN(
        purchases, customers=CUSTOMERS, items=ITEMS, channel=None, neighbours=neighbours
    )
    expected = similarities(matrix, neighbours, 0.0) @ matrix
    np.testing.assert_allclose(model.scores(EVERYONE, 1), expected, rtol=1e-5, atol=1e-6)


def test_user_knn_by_hand_the_customer_has_no_vote() -> None:
    """Customer 0 bought 0 and 1; customer 1 bought 1 and 2; customer 2 bought 3 alone."""
    rows = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 3)]
    purchases = bought(*((customer, item, 1) for customer, item in rows))
    model = UserKNN(purchases, customers=3, items=4, channel=1, neighbours=None)
    expected = np.array([[0, 0.5, 0.5, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(model.scores(np.arange(3), 1), expected, rtol=1e-6)


def test_ease_is_a_ridge_regression_of_each_item_on_the_others() -> None:
    # each seventh item has purchases, and those between them none
    rows = [(customer, item // 7 * 7, channel) for customer, item, channel in random_rows(4)]
    purchases = bought(*rows)
    matrix = dense(purchases)
    weights = np.zeros((ITEMS, ITEMS))
    for item in range(0, ITEMS, 7):
        others = np.setdiff1d(np.arange(0, ITEMS, 7), item)
        X = matrix[:, others]
        weights[others, item] = np.linalg.solve(
            X.T @ X + 5.0 * np.eye(len(others)), X.T @ matrix[:, item]
        )
    expected = matrix @ weights
    np.testing.assert_allclose(ease(purchases, None).scores(EVERYONE, 0), expected, atol=1e-6)


def test_ease_by_hand() -> None:
    """Two items bought by the same two customers: each is 2 / (2 + λ) of the other."""
    purchases = bought((0, 0, 0), (0, 2, 0), (1, 0, 0), (1, 2, 0))
    model = Ease(purchases, customers=2, items=3, channel=0, regularisation=0.5)
    np.testing.assert_allclose(model.scores(np.array([0]), 0), np.array([[0.8, 0, 0.8]]), rtol=1e-6)


def test_ease_refuses_more_items_than_memory_is_meant_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small limit: at the real one, a test of broken code would take all memory."""
    monkeypatch.setattr("c2rec.train.baselines.ease.MAX_ITEMS", 2)
    sizes = {"customers": 1, "items": 9, "channel": 0}
    Ease(bought((0, 3, 0), (0, 7, 0)), **sizes, regularisation=1.0)
    with pytest.raises(RunError, match="3 items have purchases, while at most 2 are allowed"):
        Ease(bought((0, 3, 0), (0, 7, 0), (0, 8, 0)), **sizes, regularisation=1.0)


def test_what_would_rank_nothing_is_refused() -> None:
    purchases = bought((0, 0, 0))
    sizes = {"customers": 1, "items": 1, "channel": 0}
    with pytest.raises(ValueError, match="neighbours is 0; it has to be at least 1"):
        ItemKNN(purchases, **sizes, neighbours=0, shrinkage=0.0)
    with pytest.raises(ValueError, match=r"shrinkage is -1\.0; it has to be at least 0"):
        ItemKNN(purchases, **sizes, neighbours=1, shrinkage=-1.0)
    with pytest.raises(ValueError, match="neighbours is 0; it has to be at least 1"):
        UserKNN(purchases, **sizes, neighbours=0)
    with pytest.raises(ValueError, match=r"regularisation is 0\.0; it has to be above 0"):
        Ease(purchases, **sizes, regularisation=0.0)


def checkerboard(size: int) -> Purchases:
    """Customers buy all items of their parity but the one with their own number.

    As in the tests of ``implicit``.
    """
    return bought(
        *(
            (customer, item, 0)
            for customer in range(size)
            for item in range(customer % 2, size, 2)
            if item != customer
        )
    )


# as many factors as the board has patterns: a third may fit one square by luck, which depends on
# how a processor rounds
@pytest.mark.parametrize("make", [partial(als, factors=2), bpr])
def test_the_square_left_out_of_a_checkerboard_comes_first(make: Callable[..., Ranker]) -> None:
    size = 30
    purchases = checkerboard(size)
    scores = make(purchases, 0, customers=size, items=size).scores(np.arange(size), 0)
    scores[purchases.customers, purchases.items] = -np.inf
    assert scores.argmax(1).tolist() == list(range(size))


def test_als_scores_the_same_on_any_number_of_threads() -> None:
    purchases = bought(*random_rows(0))
    one, two = (als(purchases, None, threads=threads).scores(EVERYONE, 0) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_als_keeps_the_blas_to_one_thread_and_gives_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library warns of more, once in a process; warnings are errors here."""
    monkeypatch.setattr("implicit.utils._checked_blas_config", False)
    with threadpool_limits(limits=2, user_api="blas"):
        before = threadpool_info()
        assert 2 in [pool["num_threads"] for pool in before if pool["user_api"] == "blas"]
        als(bought(*random_rows(0)), None)
        assert threadpool_info() == before


def test_factors_that_blow_up_are_an_error() -> None:
    with pytest.raises(RunError, match="did not stay finite; lower the learning rate"):
        bpr(bought(*random_rows(0)), None, learning_rate=1e20)
