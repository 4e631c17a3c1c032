"""The neighbour term against the formula, and the choice of the blend against what is known."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from c2rec.runtime.errors import RunError
from c2rec.train.batches import PurchaseIndex, Rows
from c2rec.train.blend import _Features, _scales, blend, popularity_term
from c2rec.train.config import BlendConfig, ChannelBlend, ModelConfig
from c2rec.train.loop import ModelRanker
from c2rec.train.metrics import Wanted
from c2rec.train.model import C2Rec, Neighbours
from c2rec.train.neighbours import NeighbourTerms, largest, regress
from c2rec.train.split import Purchases

CUSTOMERS, ITEMS = 30, 12
NOTHING = ChannelBlend(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def purchases_of(rows: list[tuple[int, int, int]], days: list[int] | None = None) -> Purchases:
    """(customer, item, channel), all on day 0 unless said."""
    order = sorted(range(len(rows)), key=lambda row: (rows[row][0], rows[row][2], rows[row][1]))
    customers, items, channels = zip(*(rows[row] for row in order), strict=True)
    when = [0] * len(rows) if days is None else [days[row] for row in order]
    return Purchases(
        np.array(customers, np.int32),
        np.array(items, np.int32),
        np.array(channels, np.int8),
        np.array(when, np.int32),
        np.ones(len(rows), np.int64),
    )


def random_purchases(seed: int = 0) -> Purchases:
    rng = np.random.default_rng(seed)
    rows = {
        (customer, int(item), int(rng.integers(2)))
        for customer in range(CUSTOMERS)
        for item in rng.choice(ITEMS, rng.integers(1, 7), replace=False)
    }
    return purchases_of(sorted(rows | {(0, 3, 0), (0, 3, 1)}))


@pytest.fixture
def index() -> PurchaseIndex:
    return PurchaseIndex(random_purchases(), customers=CUSTOMERS, items=ITEMS)


def matrices(purchases: Purchases) -> npt.NDArray[np.float64]:
    """Of the two channels: (2, customers, items) of 0 and 1."""
    x = np.zeros((2, CUSTOMERS, ITEMS))
    x[purchases.channels, purchases.customers, purchases.items] = 1
    return x


def untrained(index: PurchaseIndex) -> C2Rec:
    torch.manual_seed(0)
    return C2Rec(
        ModelConfig(embedding_size=4),
        customers=index.customers,
        attributes=torch.zeros((index.items, 0), dtype=torch.int64),
        popularity=torch.ones(2, index.items),
    ).eval()


def test_the_regression_predicts_each_item_from_the_others(index: PurchaseIndex) -> None:
    """Column by column: ridge regression of an item on all others."""
    terms = NeighbourTerms(index, regularisation=2.5)
    x = matrices(index.purchases).max(0)
    assert terms.regression.items.tolist() == np.flatnonzero(x.any(0)).tolist()
    x = x[:, terms.regression.items]
    for item in range(x.shape[1]):
        others = np.delete(x, item, 1)
        ridge = np.linalg.solve(
            others.T @ others + 2.5 * np.eye(others.shape[1]), others.T @ x[:, item]
        )
        np.testing.assert_allclose(
            np.delete(terms.regression.weights[:, item], item), ridge, atol=1e-5
        )
        assert terms.regression.weights[item, item] == 0


def test_only_the_most_bought_items_are_regressed(index: PurchaseIndex) -> None:
    bought = NeighbourTerms(index, regularisation=1).bought
    popularity = np.asarray(bought.sum(0)).ravel()
    chosen = regress(bought, regularisation=1, most=4).items
    assert len(chosen) == 4
    assert popularity[chosen].min() >= np.delete(popularity, chosen).max()


def dense(index: PurchaseIndex, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """B of both channels by the formula of the module: (2, items, items)."""
    x = matrices(index.purchases)
    merged = x.max(0)
    e = np.zeros((ITEMS, ITEMS))
    found = regress(NeighbourTerms(index, regularisation=2).bought, regularisation=2)
    e[np.ix_(found.items, found.items)] = found.weights
    table = np.zeros((2, ITEMS, ITEMS))
    for channel, (beta, gamma, rho) in enumerate(weights):
        for i, v in np.ndindex(ITEMS, ITEMS):
            alike = sum(
                merged[u, i] * x[channel, u, v] / np.sqrt(merged[u].sum())
                for u in range(CUSTOMERS)
                if merged[u].any()
            )
            table[channel, i, v] = rho if i == v else beta * e[i, v] + gamma * alike
    return table


WEIGHTS = np.array([[0.7, 0.2, 3.0], [-0.4, 1.1, 0.5]])


def test_whole_rows_score_as_the_formula_and_as_the_terms_do(index: PurchaseIndex) -> None:
    terms = NeighbourTerms(index, regularisation=2)
    model = untrained(index)
    model.neighbours, common = terms.rows(weights=WEIGHTS, neighbours=100)
    customers: Rows = np.arange(CUSTOMERS)
    table = dense(index, WEIGHTS)
    for channel, (beta, gamma, rho) in enumerate(WEIGHTS):
        got = model.neighbour_scores(index.histories(customers), channel).numpy()
        # what all rows have in common is left to the item bias
        mean = table[channel][index.purchases.items].mean(0)
        np.testing.assert_allclose(common[channel], mean, atol=1e-5)
        has = np.diff(index.starts)[:, None] > 0
        got = got + np.where(has, common[channel], 0)
        for customer in range(CUSTOMERS):
            bought, _ = index.of(np.array([customer]))
            rows = table[channel][index.purchases.items[bought]]
            # an item bought in both channels is two purchases of the mean
            expected = rows.mean(0) if len(rows) else np.zeros(ITEMS)
            np.testing.assert_allclose(got[customer], expected, atol=5e-3)
        summed = (
            beta * terms.regressed(customers)
            + gamma * terms.alike(customers, channel)
            + rho * terms.both(customers)
        )
        np.testing.assert_allclose(got, summed, atol=5e-3)
    assert index.both.any(), "or nobody bought an item in both channels"


def test_the_largest_entries_of_either_channel_are_kept(index: PurchaseIndex) -> None:
    terms = NeighbourTerms(index, regularisation=2)
    table = dense(index, WEIGHTS)
    kept, common = terms.rows(weights=WEIGHTS, neighbours=4)
    table = table - common[:, None]
    assert kept.items.shape == (ITEMS, 4)
    loudest = np.abs(table).max(0)
    for item in range(ITEMS):
        names = kept.items[item].numpy()
        assert len(set(names.tolist())) == 4
        rest = np.delete(loudest[item], names)
        assert loudest[item, names].min() >= rest.max() - 1e-6
        np.testing.assert_allclose(
            kept.weights[item].numpy(), table[:, item, names], rtol=2e-3, atol=1e-5
        )
    assert torch.equal(kept.weights, kept.weights.half().float()), "as a release stores them"


def test_rows_of_items_that_nobody_bought_say_nothing() -> None:
    rows = [row for row in zip(*(x.tolist() for x in (
        random_purchases().customers, random_purchases().items, random_purchases().channels)),
        strict=True) if row[1] != 5]  # fmt: skip
    index = PurchaseIndex(purchases_of(rows), customers=CUSTOMERS, items=ITEMS)
    terms = NeighbourTerms(index, regularisation=2)
    kept, common = terms.rows(weights=WEIGHTS, neighbours=ITEMS)
    assert np.abs(common).max() > 0.01
    own = np.zeros((2, ITEMS))
    own[:, 5] = WEIGHTS[:, 2]  # an item is its own neighbour, whoever buys it first
    np.testing.assert_allclose(kept.weights[5].numpy(), own, atol=1e-3)


def test_rows_made_in_blocks_are_those_made_at_once(
    index: PurchaseIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms, told = NeighbourTerms(index, regularisation=2), []
    whole, _ = terms.rows(weights=WEIGHTS, neighbours=4)
    monkeypatch.setattr("c2rec.train.neighbours._BLOCK", 5 * ITEMS)
    blocks, _ = terms.rows(
        weights=WEIGHTS, neighbours=4, progress=lambda done, of: told.append((done, of))
    )
    assert torch.equal(blocks.items, whole.items)
    assert torch.equal(blocks.weights, whole.weights)
    assert told == [(0, ITEMS), (5, ITEMS), (10, ITEMS), (ITEMS, ITEMS)]


def test_another_regularisation_shares_the_purchases(index: PurchaseIndex) -> None:
    terms = NeighbourTerms(index, regularisation=2)
    other, anew = terms.with_regularisation(7), NeighbourTerms(index, regularisation=7)
    assert np.array_equal(other.regression.weights, anew.regression.weights)
    assert not np.array_equal(other.regression.weights, terms.regression.weights)
    assert other.bought is terms.bought


def test_of_equal_entries_the_first_are_kept() -> None:
    values = np.array([[1, 3, 1, 1, 2], [0, 0, 0, 0, 0], [5, 4, 3, 2, 1]], np.float32)
    assert [largest(row, 3).tolist() for row in values] == [[0, 1, 4], [0, 1, 2], [0, 1, 2]]
    assert [largest(row, 5).tolist() for row in values] == [[0, 1, 2, 3, 4]] * 3


def test_without_neighbours_or_purchases_nothing_is_added(index: PurchaseIndex) -> None:
    model = untrained(index)
    histories = index.histories(np.arange(3))
    assert not model.neighbour_scores(histories, 0).any()
    model.neighbours = Neighbours(torch.zeros(ITEMS, 2).long(), torch.ones(ITEMS, 2, 2))
    empty = replace(
        histories,
        items=torch.zeros(0, dtype=torch.int64),
        counts=torch.zeros_like(histories.counts),
    )
    assert not model.neighbour_scores(empty, 0).any()
    assert (
        model.neighbour_scores(histories, 0)[:, 0].sub(2).abs().max() < 1e-5
    )  # names item 0 twice


def test_recent_popularity_halves_with_age_and_season_looks_a_year_back() -> None:
    rows = [(0, 0, 0), (1, 0, 0), (2, 1, 0), (3, 2, 1), (4, 3, 0)]
    purchases = purchases_of(rows, days=[390, 400, 400, 400, 50])
    recent = popularity_term(purchases, 0, replace(NOTHING, recent_10=2), known=np.ones(4, bool))
    expected = 2 * np.log1p([1 + 0.5, 1, 0, 0.5**35])
    np.testing.assert_allclose(recent, expected - expected.mean())
    season = popularity_term(purchases, 0, replace(NOTHING, season=1), known=np.ones(4, bool))
    expected = np.log1p([0, 0, 0, 1])  # 350 days old: in the four weeks that came next
    np.testing.assert_allclose(season, expected - expected.mean())
    assert not popularity_term(purchases, 0, NOTHING, known=np.ones(4, bool)).any()


def pairs_retailer() -> tuple[PurchaseIndex, Purchases]:
    """Items 2 n and 2 n + 1 go together: who bought the one will buy the other, in the store."""
    rng = np.random.default_rng(3)
    rows, later = [], []
    for customer in range(200):
        pairs = rng.choice(20, 4, replace=False)
        for place, pair in enumerate(pairs):
            side = int(rng.integers(2))
            rows.append((customer, int(2 * pair + side), int(rng.integers(2))))
            if place:
                rows.append((customer, int(2 * pair + 1 - side), 0))
            else:
                later.append((customer, int(2 * pair + 1 - side), 0))
    index = PurchaseIndex(purchases_of(rows), customers=200, items=40)
    return index, purchases_of(later)


def test_the_search_finds_neighbours_where_they_tell_what_comes() -> None:
    index, later = pairs_retailer()
    model = untrained(index)
    attention = ModelRanker(model, index)
    start = BlendConfig(offline=NOTHING, online=NOTHING)
    blended = blend(model, attention, index, later, start, sold=index.purchases, neighbours=40)
    offline, online = blended.blend.offline, blended.blend.online
    assert offline.regression > 0 or offline.alike > 0
    assert online == NOTHING, "nothing to choose by"
    before, after = blended.before["offline"], blended.after["offline"]
    assert before is not None
    assert after is not None
    assert after > 2 * before
    assert blended.before["online"] is None
    # the finished model's scores are the terms', weighed as was chosen
    fresh = ModelRanker(untrained(index), index)
    terms = NeighbourTerms(index, regularisation=blended.blend.regularisation)
    scales = _scales(fresh, terms, index)
    wanted = Wanted.of(index, later, 0, new_only=True)
    features = _Features(fresh, terms, scales, index.purchases, wanted.customers, 0)
    scores = ModelRanker(model, index).scores(wanted.customers, 0)
    expected = features.total(offline) * scales.attention[0]
    np.testing.assert_allclose(scores, expected, atol=1e-3 * np.abs(expected).max())
    assert wanted.ndcg(scores, 100) == pytest.approx(after)


class Oracle:
    """An attention that knows what comes."""

    def __init__(self, later: Purchases, items: int) -> None:
        self._later, self._items = later, items

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        scores = np.zeros((len(customers), self._items), np.float32)
        here = self._later.channels == channel
        known = np.isin(self._later.customers, customers) & here
        rows = np.searchsorted(customers, self._later.customers[known])
        scores[rows, self._later.items[known]] = 1
        return scores


def test_the_attention_stays_alone_where_whatever_is_added_makes_it_worse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With so few customers that the start outweighs them."""
    index, later = pairs_retailer()
    monkeypatch.setattr("c2rec.train.soft_ndcg.PRIOR_CUSTOMERS", 1e9)
    start = BlendConfig(offline=replace(NOTHING, recent_3=30.0, rare=2.0), online=NOTHING)
    blended = blend(
        untrained(index),
        Oracle(later, index.items),
        index,
        later,
        start,
        sold=index.purchases,
        neighbours=8,
    )
    assert blended.blend.offline == replace(NOTHING, rare=2.0)


def test_a_fixed_blend_is_not_searched() -> None:
    index, later = pairs_retailer()
    fixed = BlendConfig(search=False, offline=replace(NOTHING, bought=1.0), online=NOTHING)
    blended = blend(
        untrained(index),
        ModelRanker(untrained(index), index),
        index,
        later,
        fixed,
        sold=index.purchases,
        neighbours=8,
    )
    assert blended.blend == fixed


def test_without_a_validation_period_the_start_is_taken() -> None:
    index, _ = pairs_retailer()
    model = untrained(index)
    bias = model.item_bias.weight.clone()
    start = BlendConfig(offline=replace(NOTHING, recent_3=1.0), online=NOTHING)
    blended = blend(
        model, ModelRanker(model, index), index, None, start, sold=index.purchases, neighbours=0
    )
    assert blended.blend == replace(start, search=False)
    assert model.neighbours is None
    assert not torch.equal(model.item_bias.weight[:, 0], bias[:, 0])
    assert torch.equal(model.item_bias.weight[:, 1], bias[:, 1])


def test_scores_that_are_not_finite_are_refused(index: PurchaseIndex) -> None:
    wanted = Wanted.of(index, random_purchases(1), 0, new_only=False)
    with pytest.raises(RunError, match="not finite"):
        wanted.ndcg(np.full((len(wanted.customers), ITEMS), np.nan, np.float32), 5)
