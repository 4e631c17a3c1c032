"""Each part of the loss against figures worked out by hand, and the baselines against a table."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from c2rec.train.baselines.popularity import Popularity
from c2rec.train.batches import Targets, draw_negatives
from c2rec.train.config import ModelConfig, ObjectiveName
from c2rec.train.model import C2Rec, Histories
from c2rec.train.objectives import Candidates, Loss, batch_loss
from c2rec.train.split import Purchases

ITEMS = 6


def model_of(encoder: str = "history") -> C2Rec:
    torch.manual_seed(0)
    config = ModelConfig(encoder="table" if encoder == "table" else "history", embedding_size=4)
    model = C2Rec(
        config,
        customers=3,
        attributes=torch.zeros((ITEMS, 0), dtype=torch.int64),
        popularity=torch.ones(2, ITEMS),
    )
    torch.nn.init.normal_(model.pair_class.weight)
    torch.nn.init.normal_(model.item_bias.weight)
    return model


HISTORIES = Histories(
    customers=torch.arange(2),
    items=torch.tensor([0, 1, 2, 3]),
    counts=torch.tensor([[1, 1], [0, 2]]),  # customer 1 has nothing offline in sight
)


def targets(*rows: tuple[int, int, int, bool]) -> Targets:
    owner, item, channel, both = zip(*rows, strict=True)
    return Targets(
        torch.tensor(owner), torch.tensor(item), torch.tensor(channel), torch.tensor(both)
    )


def loss_of(
    model: C2Rec,
    wanted: Targets,
    objective: ObjectiveName = "softmax",
    candidates: Candidates | None = None,
    *,
    class_weight: float = 0.0,
    attention_weight: float = 0.0,
) -> Loss:
    return batch_loss(
        model,
        HISTORIES,
        wanted,
        candidates or Candidates(torch.arange(ITEMS), None),
        objective=objective,
        class_weight=class_weight,
        attention_weight=attention_weight,
    )


def test_softmax_is_the_mean_negative_log_share_in_each_channel() -> None:
    model, wanted = model_of(), targets((0, 4, 0, False), (1, 5, 1, False), (0, 3, 1, False))
    components, has = model.encode(HISTORIES)
    loss = loss_of(model, wanted)
    shares = [
        model.score(components, has, channel, torch.arange(ITEMS))[0].log_softmax(1)
        for channel in (0, 1)
    ]
    offline, online = -shares[0][0, 4], -(shares[1][1, 5] + shares[1][0, 3]) / 2
    torch.testing.assert_close(loss.terms["offline"], offline)
    torch.testing.assert_close(loss.terms["online"], online)
    torch.testing.assert_close(loss.total, offline + online)


def test_sampled_softmax_over_many_draws_is_softmax() -> None:
    """Draws of unequal chances, corrected, stand for the whole catalogue."""
    model, wanted = model_of(), targets((0, 4, 0, False), (1, 5, 0, False))
    chances = np.array([0.4, 0.25, 0.05, 0.1, 0.05, 0.15])
    drawn = draw_negatives(np.cumsum(chances), 200_000, seed=0, epoch=0, step=0)
    full = loss_of(model, wanted).total.item()
    sampled = loss_of(model, wanted, "sampled-softmax", Candidates(*drawn)).total.item()
    assert sampled == pytest.approx(full, abs=0.01)


@pytest.mark.parametrize("objective", ["bce", "bpr"])
def test_bce_and_bpr_by_hand_and_the_target_is_no_negative(objective: ObjectiveName) -> None:
    model, wanted = model_of(), targets((0, 4, 0, False))
    negatives = torch.tensor([1, 4, 2])  # the target was drawn too
    components, has = model.encode(HISTORIES)
    scores = model.score(components, has, 0, torch.arange(ITEMS))[0][0]
    got = loss_of(model, wanted, objective, Candidates(negatives, torch.zeros(3))).total
    rivals = scores[[1, 2]]
    expected = {
        "bce": softplus(-scores[4]) + softplus(rivals).mean(),
        "bpr": softplus(rivals - scores[4]).mean(),
    }[objective]
    torch.testing.assert_close(got, expected)


def test_the_class_term_asks_for_both_offline_online_in_this_order() -> None:
    model = model_of()
    components, _ = model.encode(HISTORIES)
    rows = ((0, 4, 0, True), (0, 5, 0, False), (0, 3, 1, False), (1, 3, 1, True))
    got = loss_of(model, targets(*rows), class_weight=0.5)
    logits = model.classify(
        components[[row[0] for row in rows]], torch.tensor([row[1] for row in rows])
    ).log_softmax(1)
    expected = -(logits[0, 0] + logits[1, 1]) / 2 - (logits[2, 2] + logits[3, 0]) / 2
    torch.testing.assert_close(got.terms["class"], expected)
    ranking = got.terms["offline"] + got.terms["online"]
    torch.testing.assert_close(got.total, ranking + 0.5 * expected)


def test_the_attention_term_weighs_both_kinds_of_pair_alike() -> None:
    """One pair bought in both channels counts as much as two bought in one."""
    model = model_of()
    components, has = model.encode(HISTORIES)
    alpha = model.score(components, has, 1, torch.arange(ITEMS))[1]
    rows = ((0, 4, 1, True), (0, 5, 1, False), (1, 3, 1, False))
    got = loss_of(model, targets(*rows), attention_weight=1.0).terms["attention"]
    shared = -alpha[0, 0, 4].log()
    own = -(alpha[0, 2, 5].log() + alpha[1, 2, 3].log()) / 2
    torch.testing.assert_close(got, (shared + own) / 2)


def test_a_component_without_data_is_not_asked_to_speak() -> None:
    """Customer 1 has nothing offline in sight, so its offline pair says nothing of attention."""
    got = loss_of(model_of(), targets((1, 4, 0, False)), attention_weight=1.0)
    assert got.terms["attention"].item() == 0
    torch.testing.assert_close(got.total, got.terms["offline"])


def test_draws_follow_their_chances_and_say_how_often_they_were_expected() -> None:
    items, log_expected = draw_negatives(np.array([0.1, 0.1, 1.0]), 50_000, seed=1, epoch=0, step=0)
    counts = np.bincount(items.numpy(), minlength=3)
    assert counts[1] == 0
    assert counts[0] / 50_000 == pytest.approx(0.1, abs=0.01)
    assert log_expected[items == 2][0].item() == pytest.approx(math.log(45_000))


def bought(*rows: tuple[int, int, int, int]) -> Purchases:
    """Rows of (customer, item, channel, day)."""
    table = np.array(rows)
    return Purchases(
        customers=table[:, 0].astype(np.int32),
        items=table[:, 1].astype(np.int32),
        channels=table[:, 2].astype(np.int8),
        days=table[:, 3].astype(np.int32),
        quantities=np.ones(len(table), np.int64),
    )


def test_popularity_counts_customers_of_the_channel() -> None:
    purchases = bought((0, 1, 0, 5), (1, 1, 0, 5), (1, 2, 0, 5), (0, 2, 1, 5))
    scores = Popularity(purchases, items=4).scores(np.array([0, 1]), 0)
    assert scores.tolist() == [[0, 2, 1, 0]] * 2


def test_recent_popularity_counts_the_last_days_and_breaks_ties_by_all() -> None:
    purchases = bought(
        (0, 0, 0, 1), (1, 0, 0, 1), (2, 0, 0, 1), (0, 1, 0, 9), (1, 2, 0, 10), (2, 2, 0, 2)
    )
    scores = Popularity(purchases, items=4, days=2).scores(np.array([0]), 0)[0]
    # items 1 and 2 once in days 9 and 10; item 2 more often before; item 0 only before
    assert np.argsort(-scores).tolist() == [2, 1, 0, 3]
