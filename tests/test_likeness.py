"""New items by what they have in common with those a customer bought."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from c2rec.train import likeness as module
from c2rec.train.batches import PurchaseIndex
from c2rec.train.config import BlendConfig, ModelConfig
from c2rec.train.likeness import KIN, add_kin, likeness
from c2rec.train.loop import ModelRanker
from c2rec.train.metrics import evaluate_channel
from c2rec.train.model import C2Rec, Neighbours
from c2rec.train.split import Purchases
from c2rec.train.unknown import KINS, offset_unknown

ITEMS, KNOWN, CUSTOMERS = 60, 40, 40
"""Items 40 to 59 are new. Item i has family i % 20 + 1, which three items share."""
NEW = np.arange(KNOWN, ITEMS)


def families(items: int = ITEMS, of: int = 20) -> torch.Tensor:
    return torch.arange(items)[:, None] % of + 1


def test_the_more_that_is_rare_is_shared_the_more_alike() -> None:
    """Values 1 to 3 are had by 2, 2 and 4 of 40 items, value 4 by too many to tell anything."""
    attributes = torch.zeros((40, 3), dtype=torch.int64)
    attributes[0] = torch.tensor([1, 3, 4])
    attributes[1] = torch.tensor([1, 3, 4])
    attributes[2] = torch.tensor([2, 3, 4])
    attributes[3] = torch.tensor([2, 3, 3])
    attributes[4:20, 2] = 4
    found = likeness(attributes, np.array([1, 3, 39])).toarray()
    rare, less = np.log(20), np.log(10)
    shared = less**2 / (rare**2 + less**2)
    expected = np.zeros((40, 3))
    expected[0] = [1, shared**5, 0]
    expected[1] = [0, shared**5, 0]  # not with itself
    expected[2] = [shared**5, 1, 0]
    expected[3] = [shared**5, 0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_row_names_the_most_alike_however_it_is_cut_into_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    attributes = torch.from_numpy(rng.integers(0, 12, (300, 4)) + np.arange(4) * 12)
    new = np.arange(0, 300, 3)
    found = likeness(attributes, new).toarray()
    monkeypatch.setattr(module, "KIN", 300)
    every = likeness(attributes, new).toarray()
    monkeypatch.setattr(module, "KIN", KIN)
    monkeypatch.setattr(module, "_BLOCK", 7)
    assert np.array_equal(likeness(attributes, new).toarray(), found)
    assert ((every > 0).sum(1) > KIN).any(), "or nothing is cut"
    for row, whole in zip(found, every, strict=True):
        assert (row > 0).sum() == min(KIN, (whole > 0).sum())
        np.testing.assert_array_equal(np.sort(row)[-KIN:], np.sort(whole)[-KIN:])


def test_new_items_take_the_places_of_the_faintest_neighbours() -> None:
    items = torch.arange(4).repeat(ITEMS, 1)
    items[0] = torch.tensor([1, 2, 7, 40])  # item 40, which is new, fills up
    items[3] = torch.tensor([43, 0, 1, 2])
    weights = torch.zeros(ITEMS, 2, 4)
    weights[0] = torch.tensor([[3.0, -0.1, 2.0, 0.0], [0.0, 0.2, -5.0, 0.0]])
    attributes = families()
    attributes[20] = 0
    found = add_kin(
        Neighbours(items, weights),
        likeness(attributes, NEW),
        NEW,
        np.array([0.5, 4.0], np.float32),
    )
    assert found.items[0].tolist() == [1, 2, 7, 40]
    assert found.weights[0].tolist() == [
        [3.0, pytest.approx(-0.1, abs=1e-4), 2.0, 0.5],
        [0.0, pytest.approx(0.2, abs=1e-4), -5.0, 4.0],
    ]
    assert found.items[1].tolist() == [0, 1, 2, 41]
    assert found.items[3].tolist() == [0, 1, 2, 43], "no item twice"
    assert torch.equal(found.items[20], items[20]), "it is like nothing"
    assert torch.equal(found.weights, found.weights.half().float()), "as a release stores them"


def model_and_purchases() -> tuple[C2Rec, PurchaseIndex, Purchases]:
    """Customers buy of two families, and later what is new in one of them."""
    rng = np.random.default_rng(1)
    rows, later = [], []
    for customer in range(CUSTOMERS):
        first, second = rng.choice(20, 2, replace=False)
        rows += [(customer, item) for item in (first, first + 20, second)]
        later.append((customer, KNOWN + first))
    torch.manual_seed(0)
    model = C2Rec(
        ModelConfig(embedding_size=4),
        customers=CUSTOMERS,
        attributes=families(),
        popularity=torch.ones(2, ITEMS),
    ).eval()
    model.neighbours = Neighbours(
        torch.arange(30).repeat(ITEMS, 1), torch.full((ITEMS, 2, 30), 0.01)
    )
    index = PurchaseIndex(purchases_of(rows, 0), customers=CUSTOMERS, items=ITEMS)
    return model, index, purchases_of(later, 1)


def purchases_of(rows: list[tuple[int, int]], channel: int) -> Purchases:
    table = np.array(sorted(rows), np.int32)
    n = len(table)
    channels, days = np.full(n, channel, np.int8), np.zeros(n, np.int32)
    return Purchases(table[:, 0].copy(), table[:, 1].copy(), channels, days, np.ones(n, np.int64))


def test_what_is_new_is_shown_to_those_who_bought_the_like() -> None:
    model, index, later = model_and_purchases()
    index.known[20:40] = True  # whatever was drawn
    chosen = offset_unknown(model, index, index, later, BlendConfig())
    assert chosen.online.kin == max(KINS)
    assert chosen.offline == BlendConfig().offline, "nothing to choose by"
    figures = evaluate_channel(
        ModelRanker(model, index), index, later, 1, k=2, new_only=True
    ).means()
    assert figures["hr"] == 1.0  # the new item of one family, and that of the other


def test_what_the_search_weighed_is_what_the_model_then_scores() -> None:
    model, index, _ = model_and_purchases()
    customers = np.arange(CUSTOMERS)
    before = ModelRanker(model, index).scores(customers, 0)
    fixed = BlendConfig(search=False)
    fixed = replace(fixed, offline=replace(fixed.offline, kin=6.0, new=0.25))
    assert offset_unknown(model, index, index, None, fixed) == fixed
    grown = ModelRanker(model, index).scores(customers, 0) - before
    new = np.flatnonzero(~index.known)
    for customer in range(CUSTOMERS):
        bought, _ = index.of(np.array([customer]))
        family = index.purchases.items[bought] % 20
        for item in new[new >= KNOWN]:
            share = (family == item % 20).mean()
            assert grown[customer, item] == pytest.approx(0.25 + 6.0 * share, abs=1e-3)


def test_without_neighbours_or_attributes_offsets_are_all_there_is() -> None:
    for part in ("neighbours", "attributes"):
        model, index, later = model_and_purchases()
        if part == "neighbours":
            model.neighbours = None
        else:
            model.attributes = model.attributes[:, :0]
        rows = model.neighbours
        chosen = offset_unknown(model, index, index, later, BlendConfig())
        assert chosen.online.kin == BlendConfig().online.kin
        assert model.neighbours is rows
