"""Items without training purchases: embeddings from attributes, and how readily they are shown."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from c2rec.train.batches import PurchaseIndex
from c2rec.train.config import BlendConfig, ChannelBlend, ModelConfig
from c2rec.train.loop import ModelRanker
from c2rec.train.metrics import evaluate_channel
from c2rec.train.model import C2Rec
from c2rec.train.split import Purchases
from c2rec.train.unknown import OFFSETS, _most_of_new, offset_unknown, settle_unknown

ITEMS, CUSTOMERS = 40, 60
RARE, NEW = np.arange(30, 34), np.arange(34, 40)
"""Items 0 to 29 are known. Even items have attribute 1, odd ones 2, the last two a value of
their own, 3."""


def purchases_of(rows: list[tuple[int, int, int]]) -> Purchases:
    table = np.array(sorted(set(rows), key=lambda row: (row[0], row[2], row[1])))
    return Purchases(
        table[:, 0].astype(np.int32),
        table[:, 1].astype(np.int32),
        table[:, 2].astype(np.int8),
        np.zeros(len(table), np.int32),
        np.ones(len(table), np.int64),
    )


def trained(encoder: str = "history") -> tuple[C2Rec, PurchaseIndex, PurchaseIndex]:
    """A model, what it was trained on, and what everybody bought."""
    rng = np.random.default_rng(0)
    rows = [
        (customer, int(item), channel)
        for customer in range(CUSTOMERS)
        for channel in (0, 1)
        for item in rng.choice(30, 4, replace=False)
    ] + [(customer, item, customer % 2) for customer, item in enumerate(range(30))]
    rare = [(50 + place, int(item), 0) for place, item in enumerate(RARE)]
    index = PurchaseIndex(purchases_of(rows), customers=CUSTOMERS, items=ITEMS)
    everyone = PurchaseIndex(purchases_of(rows + rare), customers=CUSTOMERS, items=ITEMS)
    attributes = torch.arange(ITEMS)[:, None] % 2 + 1
    attributes[-2:] = 3
    torch.manual_seed(0)
    model = C2Rec(
        ModelConfig(encoder="table" if encoder == "table" else "history", embedding_size=4),
        customers=CUSTOMERS,
        attributes=attributes,
        popularity=torch.ones(2, ITEMS),
    ).eval()
    with torch.no_grad():  # even items are popular offline
        model.item_bias.weight[:, 0] = torch.where(torch.arange(ITEMS) % 2 == 0, 3.0, -3.0)
        model.item_bias.weight[:, 1] = 0.5
        model.item_bias.weight[30:] = 99.0
    return model, index, everyone


@pytest.mark.parametrize("encoder", ["history", "table"])
def test_attributes_stand_for_what_nobody_bought(encoder: str) -> None:
    model, index, _ = trained(encoder)
    own = model.item_embedding.weight[:30].clone()
    settle_unknown(model, index.known)
    with torch.inference_mode():
        vectors = model.item_vectors(torch.arange(ITEMS))
    assert torch.equal(model.item_embedding.weight[:30], own), "what was learned is kept"
    assert torch.equal(vectors[32], model.item_attribute.weight[1])
    assert torch.equal(vectors[35], model.item_attribute.weight[2])
    assert not vectors[38:].any(), "a value that no known item has was never trained"


def test_biases_of_unknown_items_are_what_their_attributes_predict() -> None:
    model, index, _ = trained()
    settle_unknown(model, index.known)
    bias = model.item_bias.weight.detach().numpy().T
    # ridge: mean 0, each value seen 15 times, so 3 * 15 / (15 + 10)
    np.testing.assert_allclose(bias[0, [30, 32, 34, 36]], 1.8, atol=1e-4)
    np.testing.assert_allclose(bias[0, [31, 33, 35, 37]], -1.8, atol=1e-4)
    np.testing.assert_allclose(bias[0, 38:], 0, atol=1e-4)
    np.testing.assert_allclose(bias[1, 30:], 0.5, atol=1e-4)


def test_items_that_are_bought_once_they_are_there_are_shown() -> None:
    model, index, everyone = trained()
    settle_unknown(model, index.known)
    later = purchases_of([(c, int(NEW[c % 4]), 0) for c in range(CUSTOMERS)])
    shy = ChannelBlend(new=-8.0, rare=-8.0)
    start = BlendConfig(offline=shy, online=shy)
    chosen = offset_unknown(model, index, everyone, later, start)
    assert chosen.offline.new == max(OFFSETS)
    assert chosen.online == shy, "nothing to choose by"
    figures = evaluate_channel(
        ModelRanker(model, everyone), everyone, later, 0, k=10, new_only=True
    ).means()
    # the even ones lead; the odd ones, of the unpopular attribute, stay behind 15 popular items
    assert figures["hr"] == 0.5


def test_items_that_nobody_wants_come_last_where_showing_them_costs() -> None:
    model, index, everyone = trained()
    settle_unknown(model, index.known)
    with torch.no_grad():
        model.item_bias.weight[30:, 0] = 3.5
    bought = set(
        zip(everyone.purchases.customers.tolist(), everyone.purchases.items.tolist(), strict=True)
    )
    later = purchases_of(
        [(c, i, 0) for c in range(CUSTOMERS) for i in range(0, 30, 2) if (c, i) not in bought]
    )
    chosen = offset_unknown(model, index, everyone, later, BlendConfig())
    assert chosen.offline.rare < 0
    assert chosen.offline.new < 0


def test_where_the_period_has_no_word_on_them_offsets_stay() -> None:
    """No new item is there to be measured, and whatever is bought lies beyond ten places."""
    model, index, everyone = trained()
    settle_unknown(model, index.known)
    none_new = replace_known(everyone)
    later = purchases_of([(c, int(RARE[c % 4]), 0) for c in range(CUSTOMERS)])
    chosen = offset_unknown(model, index, none_new, later, BlendConfig())
    assert chosen.offline.new == ChannelBlend().new
    assert chosen.online == ChannelBlend()


def replace_known(everyone: PurchaseIndex) -> PurchaseIndex:
    """Everybody's purchases, and one of each new item."""
    parts = everyone.purchases.customers, everyone.purchases.items, everyone.purchases.channels
    rows = [
        *zip(*(part.tolist() for part in parts), strict=True),
        *((0, int(item), 1) for item in NEW),
    ]
    return PurchaseIndex(purchases_of(rows), customers=CUSTOMERS, items=ITEMS)


def test_fixed_offsets_are_taken_as_they_are() -> None:
    for config, later in (
        (BlendConfig(search=False), purchases_of([(0, int(NEW[0]), 0)])),
        (BlendConfig(), None),
    ):
        model, index, everyone = trained()
        settle_unknown(model, index.known)
        before = model.item_bias.weight.detach().clone()
        fixed = replace(config, offline=ChannelBlend(rare=0.5, new=2.0))
        assert offset_unknown(model, index, everyone, later, fixed) == fixed
        moved = (model.item_bias.weight - before).detach()[:, 0]
        assert not moved[:30].any()
        assert moved[torch.from_numpy(RARE)].tolist() == pytest.approx([0.5] * 4, abs=1e-5)
        assert moved[torch.from_numpy(NEW)].tolist() == pytest.approx([2.0] * 6, abs=1e-5)


def test_what_is_new_is_found_as_far_as_that_costs_little() -> None:
    now = ChannelBlend()
    options = [replace(now, new=offset) for offset in (0.0, 1.0, 2.0, 3.0)]
    found = [(1.0, 0.0), (0.995, 0.1), (0.993, 0.1), (0.98, 0.5)]
    assert _most_of_new(now, options, found) == options[1]
    assert _most_of_new(now, options, [(1.0, 0.2)] * 4) == options[3]
    assert _most_of_new(now, options, [(0.9, 0.0), (1.0, 0.0), (0.8, 0.0), (0.9, 0.0)]) == now
