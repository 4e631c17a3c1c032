"""Ranking metrics against figures worked out by hand and by brute force."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2rec.runtime.errors import RunError
from c2rec.runtime.ranking import top_k
from c2rec.train.batches import PurchaseIndex, Rows
from c2rec.train.metrics import Wanted, evaluate_channel
from c2rec.train.split import Purchases


def purchases(*triples: tuple[int, int, int]) -> Purchases:
    """Purchases of (customer, item, channel) on day 0."""
    table = np.array(sorted(triples, key=lambda t: (t[0], t[2], t[1])), dtype=np.int64)
    table = table.reshape(-1, 3)
    return Purchases(
        customers=table[:, 0].astype(np.int32),
        items=table[:, 1].astype(np.int32),
        channels=table[:, 2].astype(np.int8),
        days=np.zeros(len(table), np.int32),
        quantities=np.ones(len(table), np.int64),
    )


class FixedScores:
    def __init__(self, table: npt.NDArray[np.float32]) -> None:
        self.table = table

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        assert channel in (0, 1)
        return self.table[customers]


DESCENDING = FixedScores(np.tile(np.arange(6, 0, -1, dtype=np.float32), (2, 1)))
"""Two customers; items 0 to 5 in order of their number."""


def test_figures_worked_out_by_hand() -> None:
    index = PurchaseIndex(purchases((0, 0, 0), (0, 1, 1), (1, 5, 0)), customers=2, items=6)
    test = purchases((0, 2, 0), (0, 5, 0), (1, 0, 0))
    got = evaluate_channel(DESCENDING, index, test, 0, k=3, new_only=True)
    # customer 0 bought item 0 offline, so the list is 1, 2, 3: item 2 is hit at rank 2
    ideal = 1 + 1 / math.log2(3)
    assert got.customers.tolist() == [0, 1]
    assert got.hr.tolist() == [1, 1]
    assert got.recall.tolist() == [0.5, 1]
    assert got.ndcg.tolist() == pytest.approx([1 / math.log2(3) / ideal, 1])


def test_what_was_bought_in_the_channel_is_neither_ranked_nor_a_target() -> None:
    index = PurchaseIndex(purchases((0, 0, 0)), customers=2, items=6)
    test = purchases((0, 0, 0), (0, 1, 0))
    new = evaluate_channel(DESCENDING, index, test, 0, k=1, new_only=True)
    assert new.recall.tolist() == [1]  # item 1, first of the rest, is the only target
    repeats = evaluate_channel(DESCENDING, index, test, 0, k=1, new_only=False)
    assert repeats.recall.tolist() == [0.5]


def test_what_was_bought_in_the_other_channel_is_still_new_here() -> None:
    index = PurchaseIndex(purchases((0, 0, 1)), customers=2, items=6)
    got = evaluate_channel(DESCENDING, index, purchases((0, 0, 0)), 0, k=1, new_only=True)
    assert got.hr.tolist() == [1]


def test_a_customer_whose_targets_are_all_repeats_is_not_counted() -> None:
    index = PurchaseIndex(purchases((0, 0, 0)), customers=2, items=6)
    got = evaluate_channel(DESCENDING, index, purchases((0, 0, 0)), 0, k=1, new_only=True)
    assert got.means() == {"customers": 0, "hr": None, "ndcg": None, "recall": None}


def test_a_score_that_is_not_finite_is_an_error() -> None:
    index = PurchaseIndex(purchases((0, 0, 0)), customers=2, items=6)
    broken = FixedScores(np.full((2, 6), np.nan, np.float32))
    with pytest.raises(RunError, match="not finite"):
        evaluate_channel(broken, index, purchases((0, 1, 0)), 0, k=1, new_only=True)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.booleans())
def test_equals_a_plain_loop(seed: int, k: int, new_only: bool) -> None:
    """Batches, masks and ties give what a loop over customers and items gives."""
    rng = np.random.default_rng(seed)
    customers, items = 5, 9

    def draw(n: int) -> set[tuple[int, int, int]]:
        rows = rng.integers([customers, items, 2], size=(n, 3))
        return {(int(u), int(v), int(c)) for u, v, c in rows}

    train, test = draw(20), draw(15)
    table = rng.integers(0, 4, (customers, items)).astype(np.float32)  # full of ties
    index = PurchaseIndex(purchases(*train), customers=customers, items=items)
    got = evaluate_channel(
        FixedScores(table), index, purchases(*test), 1, k=k, new_only=new_only, batch_size=2
    )
    expected = []
    for u in range(customers):
        seen = {v for v in range(items) if new_only and (u, v, 1) in train}
        wanted = {v for v in range(items) if (u, v, 1) in test} - seen
        if not wanted:
            continue
        ranking = sorted(set(range(items)) - seen, key=lambda v: (-table[u, v], v))[:k]
        gain = sum(1 / math.log2(i + 2) for i, v in enumerate(ranking) if v in wanted)
        ideal = sum(1 / math.log2(i + 2) for i in range(min(k, len(wanted))))
        hits = len(wanted & set(ranking))
        expected.append((u, float(hits > 0), gain / ideal, hits / len(wanted)))
    assert got.customers.tolist() == [row[0] for row in expected]
    assert got.hr.tolist() == [row[1] for row in expected]
    assert got.ndcg.tolist() == pytest.approx([row[2] for row in expected])
    assert got.recall.tolist() == pytest.approx([row[3] for row in expected])
    searched = Wanted.of(index, purchases(*test), 1, new_only=new_only)
    if expected:  # the shortcut through the places of the targets
        assert searched.ndcg(table[searched.customers], k) == pytest.approx(got.ndcg.mean())


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_top_k_equals_a_full_stable_sort(seed: int, k: int) -> None:
    """Ties go to the lower column, −inf comes last."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 3, (4, 20)).astype(np.float32)
    scores[rng.random((4, 20)) < 0.2] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert top_k(scores, k).tolist() == expected.tolist()
