"""Popularity by age, worked out by hand, and who is shown it."""

from dataclasses import replace

import numpy as np
import torch

from c2rec.train.batches import PurchaseIndex
from c2rec.train.config import BlendConfig, ChannelBlend
from c2rec.train.loop import ModelRanker
from c2rec.train.split import Purchases
from c2rec.train.strangers import choose_half_lives, popularity
from tests.test_blend import untrained

BLEND = BlendConfig(offline=ChannelBlend(half_life=10), online=ChannelBlend(half_life=0))


def sales(*rows: tuple[int, int, int, int]) -> Purchases:
    """(item, channel, day, quantity), each to a customer of its own."""
    items, channels, days, quantities = zip(*rows, strict=True)
    return Purchases(
        np.arange(len(rows), dtype=np.int32),
        np.array(items, np.int32),
        np.array(channels, np.int8),
        np.array(days, np.int32),
        np.array(quantities, np.int64),
    )


SOLD = sales((0, 0, 100, 2), (1, 0, 90, 4), (1, 0, 80, 8), (2, 1, 50, 3), (2, 1, 100, 1))


def test_units_count_half_as_much_after_each_half_life() -> None:
    np.testing.assert_allclose(popularity(SOLD, 4, BLEND), [[2, 2 + 2, 0, 0], [0, 0, 4, 0]])


def test_the_half_life_is_the_one_by_which_later_purchases_come_first() -> None:
    rows = [(0, 0, day, 1) for day in range(100)]  # in fashion for long, and no more
    rows += [(1, 0, 100, 1)] * 5  # in fashion now
    later_old, later_new = sales((0, 0, 101, 1)), sales((1, 0, 101, 1))
    for later, slow in ((later_old, True), (later_new, False)):
        chosen = choose_half_lives(sales(*rows), later, 3, BlendConfig())
        assert (chosen.offline.half_life == 0) == slow
        assert chosen.online == ChannelBlend(), "nothing to choose by"


def test_fixed_half_lives_are_not_chosen_anew() -> None:
    later = sales((1, 0, 101, 1))
    fixed = replace(BLEND, search=False)
    assert choose_half_lives(SOLD, later, 4, fixed) == fixed
    assert choose_half_lives(SOLD, None, 4, BLEND) == BLEND


def test_customers_without_a_history_are_ranked_by_popularity() -> None:
    rows = sales((0, 0, 1, 1), (1, 1, 1, 1))
    index = PurchaseIndex(rows, customers=3, items=4)  # customer 2 bought nothing
    model = untrained(index)
    before = ModelRanker(model, index).scores(np.arange(3), 1)
    model.popularity = torch.tensor([[9.0, 8, 7, 6], [1, 2, 3, 4]])
    after = ModelRanker(model, index).scores(np.arange(3), 1)
    np.testing.assert_array_equal(after[:2], before[:2])
    assert after[2].tolist() == [1, 2, 3, 4]
