"""LightGCN and CMF on data whose answer is known."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp
import torch

from c2rec.train.baselines.cmf import CMF
from c2rec.train.baselines.lightgcn import LightGCN, normalised_adjacency, propagate
from c2rec.train.baselines.pairwise import TripleSampler
from c2rec.train.metrics import Ranker
from c2rec.train.split import Purchases

CUSTOMERS, ITEMS = 40, 30
OFFLINE_ONLY = 3
"""The customer who never bought online."""


def purchases_of(rows: list[tuple[int, int, int]]) -> Purchases:
    """(customer, item, channel), all on day 0."""
    rows = sorted(set(rows), key=lambda row: (row[0], row[2], row[1]))
    customers, items, channels = zip(*rows, strict=True)
    return Purchases(
        np.array(customers, np.int32),
        np.array(items, np.int32),
        np.array(channels, np.int8),
        np.zeros(len(rows), np.int32),
        np.ones(len(rows), np.int64),
    )


def checkerboard() -> tuple[Purchases, npt.NDArray[np.bool_]]:
    """Customers buy items of their own parity; a third of those pairs is left out.

    Returns:
        The purchases, and bool (customers, items), the pairs left out in both channels.
    """
    rng = np.random.default_rng(0)
    same = (np.arange(CUSTOMERS)[:, None] + np.arange(ITEMS)) % 2 == 0
    held_out = same & (rng.random(same.shape) < 1 / 3)
    rows = [
        (int(customer), int(item), channel)
        for customer, item in np.argwhere(same & ~held_out)
        for channel in (0, 1)
        if rng.random() < 0.7 and not (customer == OFFLINE_ONLY and channel == 1)
    ]
    return purchases_of(rows), held_out


PURCHASES, HELD_OUT = checkerboard()
OTHER_PARITY = (np.arange(CUSTOMERS)[:, None] + np.arange(ITEMS)) % 2 == 1


def lightgcn(purchases: Purchases, *, channel: int | None = None, seed: int = 1) -> LightGCN:
    return LightGCN(
        purchases,
        customers=CUSTOMERS,
        items=ITEMS,
        channel=channel,
        factors=8,
        layers=2,
        learning_rate=0.02,
        epochs=30,
        seed=seed,
    )


def cmf(purchases: Purchases, *, seed: int = 1) -> CMF:
    return CMF(
        purchases,
        customers=CUSTOMERS,
        items=ITEMS,
        factors=8,
        learning_rate=0.02,
        epochs=60,
        seed=seed,
    )


def right_order(scores: npt.NDArray[np.float32], customer: int) -> float:
    """The share of pairs in which a held-out item of the right parity beats one of the wrong."""
    held_out = scores[customer, HELD_OUT[customer]]
    others = scores[customer, OTHER_PARITY[customer]]
    return float((held_out[:, None] > others).mean())


@pytest.mark.parametrize("model", [lightgcn(PURCHASES), cmf(PURCHASES)], ids=["lightgcn", "cmf"])
@pytest.mark.parametrize("channel", [0, 1])
def test_what_was_held_out_is_ranked_above_what_is_never_bought(
    model: Ranker, channel: int
) -> None:
    scores = model.scores(np.arange(CUSTOMERS), channel)
    assert scores.shape == (CUSTOMERS, ITEMS)
    assert scores.dtype == np.float32
    assert np.mean([right_order(scores, customer) for customer in range(CUSTOMERS)]) > 0.95
    # by what was bought in the other channel
    assert right_order(scores, OFFLINE_ONLY) > 0.9


def test_a_model_of_one_channel_ignores_and_refuses_the_other() -> None:
    changed = PURCHASES.where((PURCHASES.channels == 0) | (PURCHASES.items % 3 == 0))
    one, other = (lightgcn(purchases, channel=0) for purchases in (PURCHASES, changed))
    customers = np.arange(CUSTOMERS)
    np.testing.assert_array_equal(one.scores(customers, 0), other.scores(customers, 0))
    with pytest.raises(ValueError, match="trained on offline, asked for online"):
        one.scores(customers, 1)


@pytest.mark.parametrize("make", [lightgcn, cmf])
def test_the_seed_decides(make: Callable[..., Ranker]) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first, again, other = (make(PURCHASES, seed=seed) for seed in (1, 1, 2))
    customers = np.arange(CUSTOMERS)
    np.testing.assert_array_equal(first.scores(customers, 1), again.scores(customers, 1))
    assert not np.array_equal(first.scores(customers, 1), other.scores(customers, 1))
    assert torch.equal(torch.random.get_rng_state(), state), "nobody else's generator is touched"


def test_propagation_worked_out_by_hand() -> None:
    """Customer 0 bought items 0 and 1, customer 1 item 1: degrees 2, 1 and 1, 2."""
    graph = normalised_adjacency(sp.csr_matrix(np.array([[1, 1], [0, 1]], np.float32)))
    start = torch.tensor([[1.0], [2.0], [3.0], [4.0]])  # customers 0, 1, items 0, 1
    first = [3 / 2**0.5 + 4 / 2, 4 / 2**0.5, 1 / 2**0.5, 1 / 2 + 2 / 2**0.5]
    expected = [(a + b) / 2 for a, b in zip([1.0, 2.0, 3.0, 4.0], first, strict=True)]
    assert propagate(graph, start, layers=1)[:, 0].tolist() == pytest.approx(expected)


def test_negatives_are_items_bought_in_neither_channel_and_all_of_them_come() -> None:
    sampler = TripleSampler(PURCHASES, items=ITEMS)
    bought = set(zip(PURCHASES.customers.tolist(), PURCHASES.items.tolist(), strict=True))
    seen = set()
    for epoch in range(60):
        for triples in sampler.epoch(seed=0, epoch=epoch, batch_size=100):
            pairs = zip(triples.customers.tolist(), triples.other.tolist(), strict=True)
            seen |= set(pairs)
    assert not seen & bought
    assert len(seen) > 0.95 * (CUSTOMERS * ITEMS - len(bought))
