"""The baselines trained by BPR: on a table whose answer is known, and by hand on tiny graphs.

The table is a checkerboard: customers buy items of their own parity. A fifth of those pairs is
left out, and has to rank above all items of the other parity.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp
import torch

from c2rec.runtime.errors import RunError
from c2rec.train.baselines import deepapf as deepapf_module
from c2rec.train.baselines.bitgcf import BiTGCF, convolve, kept_shares
from c2rec.train.baselines.cmf import CMF
from c2rec.train.baselines.deepapf import DeepAPF
from c2rec.train.baselines.interactions import interactions
from c2rec.train.baselines.lightgcn import (
    LightGCN,
    neighbour_sums,
    normalised_graph,
    propagate,
)
from c2rec.train.baselines.pairwise import (
    Sold,
    Triples,
    TripleSampler,
    bpr_loss,
    half_squared_norm,
)
from c2rec.train.batches import Rows
from c2rec.train.split import Purchases

CUSTOMERS, ITEMS = 60, 32
UNSOLD = (5, 20)
"""Items that nobody buys."""
OFFLINE, ONLINE = 0, 1
EVERYONE: Rows = np.arange(CUSTOMERS)
ONLINE_ONLY, OFFLINE_ONLY, IN_BOTH = EVERYONE[:8], EVERYONE[8:16], EVERYONE[16:]
"""Customers by the channels they use; both parities are in each."""

Model = LightGCN | CMF | BiTGCF | DeepAPF
Build = Callable[..., Model]


def bought(*rows: tuple[int, int, int]) -> Purchases:
    """Rows of (customer, item, channel), in any order."""
    table = np.array(sorted(rows, key=lambda row: (row[0], row[2], row[1]))).reshape(-1, 3)
    return Purchases(
        customers=table[:, 0].astype(np.int32),
        items=table[:, 1].astype(np.int32),
        channels=table[:, 2].astype(np.int8),
        days=np.zeros(len(table), np.int32),
        quantities=np.ones(len(table), np.int64),
    )


def left_out(customer: int, item: int) -> bool:
    return (customer // 2 + item // 2) % 5 == 0


def checkerboard() -> Purchases:
    return bought(
        *(
            (customer, item, channel)
            for customer in range(CUSTOMERS)
            for item in range(customer % 2, ITEMS, 2)
            for channel in (OFFLINE, ONLINE)
            if not left_out(customer, item)
            and item not in UNSOLD
            and customer not in (ONLINE_ONLY, OFFLINE_ONLY)[channel]
        )
    )


CHECKERBOARD = checkerboard()


def lightgcn(
    purchases: Purchases, *, seed: int = 1, epochs: int = 60, channel: int | None = None
) -> LightGCN:
    return LightGCN(
        purchases,
        customers=CUSTOMERS,
        items=ITEMS,
        channel=channel,
        factors=8,
        layers=2,
        learning_rate=0.02,
        regularisation=1e-3,
        epochs=epochs,
        seed=seed,
    )


def cmf(purchases: Purchases, *, seed: int = 1, epochs: int = 60) -> CMF:
    return CMF(
        purchases,
        customers=CUSTOMERS,
        items=ITEMS,
        factors=8,
        learning_rate=0.05,
        regularisation=1e-2,
        offline_weight=2.0,
        epochs=epochs,
        seed=seed,
    )


def bitgcf(purchases: Purchases, *, seed: int = 1, epochs: int = 60) -> BiTGCF:
    return BiTGCF(
        purchases,
        customers=CUSTOMERS,
        items=ITEMS,
        factors=8,
        layers=2,
        transfer=0.3,
        learning_rate=0.02,
        regularisation=1e-3,
        epochs=epochs,
        seed=seed,
    )


def deepapf(purchases: Purchases, *, seed: int = 1, epochs: int = 60) -> DeepAPF:
    return DeepAPF(
        purchases,
        customers=CUSTOMERS,
        items=ITEMS,
        factors=8,
        learning_rate=0.05,
        regularisation=1e-2,
        epochs=epochs,
        seed=seed,
    )


every_model = pytest.mark.parametrize("build", [lightgcn, cmf, bitgcf, deepapf])


def ordered_right(model: Model, customers: Rows, channel: int) -> float:
    """Share of a left-out item and one of the other parity, over customers, in right order."""
    scores = model.scores(customers, channel)
    right = []
    for customer, row in zip(customers.tolist(), scores, strict=True):
        sold = [item for item in range(ITEMS) if item not in UNSOLD]
        held_out = [i for i in sold if i % 2 == customer % 2 and left_out(customer, i)]
        others = [i for i in sold if i % 2 != customer % 2]
        right.append((row[held_out][:, None] > row[others]).mean())
    return float(np.mean(right))


@every_model
@pytest.mark.parametrize("channel", [OFFLINE, ONLINE])
def test_the_checkerboard_is_learnt(build: Build, channel: int) -> None:
    assert ordered_right(build(CHECKERBOARD), IN_BOTH, channel) > 0.99


@every_model
def test_a_customer_of_one_channel_is_known_in_the_other(build: Build) -> None:
    model = build(CHECKERBOARD)
    assert ordered_right(model, ONLINE_ONLY, OFFLINE) > 0.99
    assert ordered_right(model, OFFLINE_ONLY, ONLINE) > 0.99


@every_model
def test_items_without_purchases_rank_last(build: Build) -> None:
    scores = build(CHECKERBOARD, epochs=2).scores(EVERYONE, OFFLINE)
    sold = np.delete(np.arange(ITEMS), UNSOLD)
    assert (scores[:, UNSOLD].max(1) < scores[:, sold].min(1)).all()


@every_model
def test_a_seed_decides_the_scores_and_no_global_generator_is_used(build: Build) -> None:
    before = torch.get_rng_state()
    numpy_before = np.random.get_state(legacy=False)["state"]["key"]  # noqa: NPY002
    scores = [build(CHECKERBOARD, seed=seed, epochs=3).scores(EVERYONE, 0) for seed in (1, 1, 2)]
    assert np.array_equal(scores[0], scores[1])
    assert not np.allclose(scores[0], scores[2])
    assert torch.equal(torch.get_rng_state(), before)
    numpy_after = np.random.get_state(legacy=False)["state"]["key"]  # noqa: NPY002
    assert np.array_equal(numpy_after, numpy_before)


@every_model
def test_a_batch_equals_one_by_one(build: Build) -> None:
    model, customers = build(CHECKERBOARD, epochs=3), np.array([9, 0, 30, 9])
    for channel in (OFFLINE, ONLINE):
        scores = model.scores(customers, channel)
        assert scores.dtype == np.float32
        assert scores.shape == (4, ITEMS)
        single = [model.scores(customers[i : i + 1], channel)[0] for i in range(4)]
        np.testing.assert_allclose(scores, single, rtol=1e-5, atol=1e-6)
        assert model.scores(customers[:0], channel).shape == (0, ITEMS)


@every_model
def test_what_is_trained_is_what_is_answered(build: Build) -> None:
    """The loss of the weights as they are, from the scores that they give."""
    model = build(CHECKERBOARD, epochs=2)
    model._regularisation = 0.0
    triples = Triples(
        customers=torch.tensor([20, 31, 1, 10]),
        bought=torch.tensor([0, 6, 3, 11]),
        other=torch.tensor([1, 7, 4, 2]),
        channels=torch.tensor([OFFLINE, ONLINE, ONLINE, OFFLINE]),
    )
    rows = np.delete(np.arange(ITEMS), UNSOLD)  # of the items sold
    losses = []
    for customer, item, other, channel in zip(
        *(column.tolist() for column in (triples.customers, triples.bought)),
        *(column.tolist() for column in (triples.other, triples.channels)),
        strict=True,
    ):
        row = model.scores(np.array([customer]), channel)[0]
        loss = math.log1p(math.exp(row[rows[other]] - row[rows[item]]))
        weight = 2 if isinstance(model, CMF) and channel == OFFLINE else 1
        losses.append(weight * loss)
    assert model._loss(triples).item() == pytest.approx(np.mean(losses), rel=1e-5)


@every_model
def test_weights_that_are_not_finite_are_refused(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(bought: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return bpr_loss(bought, other) * torch.nan

    monkeypatch.setattr(f"{build(CHECKERBOARD, epochs=0).__module__}.bpr_loss", broken)
    with pytest.raises(RunError, match="lower the learning rate"):
        build(CHECKERBOARD, epochs=1)


def test_a_channels_lightgcn_knows_nothing_of_the_other() -> None:
    offline = CHECKERBOARD.channels == OFFLINE
    elsewhere = bought(*((customer, 3, ONLINE) for customer in range(CUSTOMERS)))
    merged = Purchases(
        *(
            np.concatenate([getattr(CHECKERBOARD.where(offline), name), getattr(elsewhere, name)])
            for name in ("customers", "items", "channels", "days", "quantities")
        )
    )
    model = lightgcn(CHECKERBOARD, channel=OFFLINE, epochs=5)
    scores = model.scores(EVERYONE, OFFLINE)
    assert np.array_equal(
        scores, lightgcn(merged, channel=OFFLINE, epochs=5).scores(EVERYONE, OFFLINE)
    )
    with pytest.raises(ValueError, match="learnt from channel 0 alone; asked for 1"):
        model.scores(EVERYONE, ONLINE)
    sold = np.delete(np.arange(ITEMS), UNSOLD)
    average = scores[8:, sold].mean(0)
    for customer in ONLINE_ONLY:  # not the random start of their embedding
        np.testing.assert_allclose(scores[customer, sold], average, atol=1e-5)


def test_merged_lightgcn_answers_alike_for_both_channels() -> None:
    model = lightgcn(CHECKERBOARD, epochs=1)
    assert np.array_equal(model.scores(EVERYONE, OFFLINE), model.scores(EVERYONE, ONLINE))


def test_lightgcn_propagation_by_hand() -> None:
    """Customer 0 bought items 0 and 1, customer 1 bought item 1."""
    purchases = bought((0, 0, ONLINE), (0, 1, ONLINE), (1, 1, OFFLINE), (1, 1, ONLINE))
    matrix = interactions(purchases, customers=2, items=2, channel=None)
    graph = normalised_graph(matrix)
    root = math.sqrt(0.5)
    weights = [[root, 0.5], [0, root]]
    np.testing.assert_allclose(graph.toarray()[:2, 2:], weights, rtol=1e-6)
    np.testing.assert_allclose(graph.toarray(), graph.toarray().T)

    c0, c1, i0, i1 = 1.0, 2.0, 3.0, 4.0
    first = [root * i0 + 0.5 * i1, root * i1, root * c0, 0.5 * c0 + root * c1]
    second = [
        root * first[2] + 0.5 * first[3],
        root * first[3],
        root * first[0],
        0.5 * first[0] + root * first[1],
    ]
    expected = (np.array([c0, c1, i0, i1]) + first + second) / 3
    start = torch.tensor([[c0], [c1], [i0], [i1]])
    got = propagate(graph, start, layers=2)
    np.testing.assert_allclose(got.numpy()[:, 0], expected, rtol=1e-6)


def test_the_gradient_of_neighbour_sums_is_that_of_a_dense_product() -> None:
    graph = normalised_graph(interactions(CHECKERBOARD, customers=60, items=32, channel=None))
    start = torch.randn(92, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = torch.arange(92.0)[:, None]
    dense = torch.from_numpy(graph.toarray())
    (expected,) = torch.autograd.grad(((dense @ start).square() * weights).sum(), start)
    (got,) = torch.autograd.grad((neighbour_sums(graph, start).square() * weights).sum(), start)
    torch.testing.assert_close(got, expected)


def test_bitgcf_propagation_by_hand() -> None:
    """Customer 0 buys item 0 in both channels, customer 1 buys it online alone."""
    purchases = bought((0, 0, OFFLINE), (0, 0, ONLINE), (1, 0, ONLINE))
    graphs = [
        normalised_graph(interactions(purchases, customers=2, items=1, channel=channel))
        for channel in (OFFLINE, ONLINE)
    ]
    degrees = torch.tensor([[1, 0, 1], [1, 1, 2]])
    kept = kept_shares(degrees, transfer=0.4)  # λ = 0.6
    customer, item_offline, item_online = (0.6 + 1 / 2) / 2, (0.6 + 1 / 3) / 2, (0.6 + 2 / 3) / 2
    shares = [[customer, 0, item_offline], [customer, 1, item_online]]
    np.testing.assert_allclose(kept[:, :, 0], shares, rtol=1e-6)

    start = torch.tensor([[[1.0], [99.0], [2.0]], [[3.0], [4.0], [5.0]]])  # 99 is of nobody
    first, second = convolve(sp.csr_matrix(sp.block_diag(graphs)), kept, start, layers=1)
    assert first[:, :, 0].tolist() == [[1, 4, 2], [3, 4, 5]]

    root = math.sqrt(0.5)
    offline = [1 + 2 + 1 * 2, 4, 2 + 1 + 2 * 1]  # x + s + x · s; customer 1 has no neighbour
    sums = [root * 5, root * 5, root * (3 + 4)]
    online = [x + s + x * s for x, s in zip((3, 4, 5), sums, strict=True)]
    expected = [
        [
            customer * offline[0] + (1 - customer) * online[0],
            online[1],
            item_offline * offline[2] + (1 - item_offline) * online[2],
        ],
        [
            customer * online[0] + (1 - customer) * offline[0],
            online[1],
            item_online * online[2] + (1 - item_online) * offline[2],
        ],
    ]
    np.testing.assert_allclose(second[:, :, 0], expected, rtol=1e-6)


def test_bitgcf_vectors_are_its_layers_side_by_side_with_later_ones_at_unit_length() -> None:
    model = bitgcf(CHECKERBOARD, epochs=1)
    lengths = np.linalg.norm(model._vectors.reshape(2, -1, 3, 8), axis=3)
    np.testing.assert_allclose(lengths[:, :, 1:], 1, rtol=1e-5)
    start = model._start.detach().numpy()[ONLINE]
    np.testing.assert_array_equal(model._vectors[ONLINE, IN_BOTH, :8], start[IN_BOTH])


def test_attention_by_hand() -> None:
    attention = deepapf_module._Attention(2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        attention.matrix.copy_(torch.tensor([[1.0, 0.0], [2.0, -1.0]]))
        attention.bias.copy_(torch.tensor([0.5, 0.0]))
        attention.direction.copy_(torch.tensor([1.0, 3.0]))
    vectors, given = torch.tensor([[1.0, 1.0], [2.0, -1.0]]), torch.tensor([[1.0, 0.5]])
    # p ⊙ q is (1, ½) and (2, −½); hidden: (1 + 1 + ½, 0) and (2 − 1 + ½, ½)
    weight = 1 / (1 + math.exp(1.5 + 3 * 0.5 - 2.5))  # of the first
    expected = weight * vectors[0] + (1 - weight) * vectors[1]
    torch.testing.assert_close(attention.mix(vectors, given), expected)


def test_deepapf_uses_no_vector_of_a_channel_that_the_customer_does_not_use() -> None:
    model = deepapf(CHECKERBOARD, epochs=1)
    before = model.scores(EVERYONE, OFFLINE)
    with torch.no_grad():
        model._customers[1 + OFFLINE] += 1
    after = model.scores(EVERYONE, OFFLINE)
    assert np.array_equal(after[ONLINE_ONLY], before[ONLINE_ONLY])
    assert not np.isclose(after[8:], before[8:]).all(1).any()


def test_deepapf_scores_in_blocks_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = deepapf(CHECKERBOARD, epochs=1)
    at_once = model.scores(EVERYONE, ONLINE)
    monkeypatch.setattr(deepapf_module, "_PAIRS", 7 * CUSTOMERS + 1)
    np.testing.assert_allclose(model.scores(EVERYONE, ONLINE), at_once, rtol=1e-5, atol=1e-6)


def drawn(sampler: TripleSampler, *, epoch: int = 0, seed: int = 0) -> npt.NDArray[np.int64]:
    """All triples of an epoch: int64 (n, 4), of customer, bought, other and channel."""
    batches = sampler.epoch(seed=seed, epoch=epoch, batch_size=7)
    columns = [torch.stack([b.customers, b.bought, b.other, b.channels], 1) for b in batches]
    return torch.cat(columns).numpy()


def test_an_epoch_has_each_purchase_once_and_repeats_for_its_seed() -> None:
    sampler = TripleSampler(CHECKERBOARD, items=ITEMS)
    triples = drawn(sampler)
    bought = CHECKERBOARD
    purchases = zip(
        bought.customers.tolist(), bought.items.tolist(), bought.channels.tolist(), strict=True
    )
    assert sorted(map(tuple, triples[:, [0, 1, 3]].tolist())) == sorted(purchases)
    assert np.array_equal(triples, drawn(sampler))
    for other in (drawn(sampler, epoch=1), drawn(sampler, seed=1)):
        assert not np.array_equal(triples[:, 0], other[:, 0])


def test_others_are_all_items_bought_in_no_channel_equally_often() -> None:
    """Customer 0 leaves 1, 2 and 4 of 6 items; customer 2 leaves none and is left out."""
    purchases = bought(
        (0, 0, OFFLINE),
        (0, 5, OFFLINE),
        (0, 0, ONLINE),
        (0, 3, ONLINE),
        (1, 2, ONLINE),
        *((2, item, item % 2) for item in range(6)),
    )
    sampler = TripleSampler(purchases, items=6)
    triples = np.concatenate([drawn(sampler, epoch=epoch) for epoch in range(1500)])
    assert set(triples[:, 0].tolist()) == {0, 1}
    for customer, free in ((0, [1, 2, 4]), (1, [0, 1, 3, 4, 5])):
        others = triples[triples[:, 0] == customer, 2]
        shares = np.bincount(others, minlength=6) / len(others)
        expected = np.isin(np.arange(6), free) / len(free)
        np.testing.assert_allclose(shares, expected, atol=0.04)
        assert (shares[expected == 0] == 0).all()


def test_scores_are_spread_to_the_rows_of_the_items_sold() -> None:
    sold = Sold(bought((0, 4, OFFLINE), (1, 1, ONLINE), (2, 4, ONLINE)), items=6)
    assert len(sold) == 2
    assert sold.purchases.items.tolist() == [1, 0, 1]
    spread = sold.spread(np.array([[3.0, -2.0], [1.0, 2.0]], np.float32))
    assert spread.tolist() == [[-3, 3, -3, -3, -2, -3], [-1, 1, -1, -1, 2, -1]]


def test_bpr_loss_and_half_squared_norm_by_hand() -> None:
    got = bpr_loss(torch.tensor([2.0, 0.0]), torch.tensor([0.5, 0.0]))
    assert got.tolist() == pytest.approx([-math.log(1 / (1 + math.exp(-1.5))), math.log(2)])
    first, second = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[1.0], [1.0]])
    assert half_squared_norm(first, second).item() == ((5 + 9) / 2 + 1) / 2
