"""The diagnosis on lists and figures made by hand, so that every number is known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from c2rec.train.batches import PurchaseIndex, Rows
from c2rec.train.calibration import calibrate
from c2rec.train.config import ModelConfig, RunConfig, SplitConfig, TrainingConfig
from c2rec.train.diagnosis import (
    LEAST_CUSTOMERS,
    Numbers,
    attention_by_group,
    kinds_of,
    list_overlap,
    new_items,
    purchase_overlap,
    same_lists,
    weak_channel,
)
from c2rec.train.evaluate import Evaluation, evaluate
from c2rec.train.exposure import exposure, gini
from c2rec.train.loop import ModelRanker, fit
from c2rec.train.metrics import Wanted
from c2rec.train.report import evaluation_text
from c2rec.train.run import load_run, prepare
from c2rec.train.shown import Shown, sample_customers, show
from c2rec.train.simulate import simulate
from c2rec.train.split import Purchases
from c2rec.train.transactions import read_dataset
from tests.quiet import QuietReporter

Triple = tuple[int, int, int]
"""Customer, item, channel."""


def bought(*triples: Triple) -> Purchases:
    rows = sorted(triples, key=lambda each: (each[0], each[2], each[1]))
    columns = np.array(rows, np.int64).reshape(-1, 3).T
    return Purchases(
        columns[0].astype(np.int32),
        columns[1].astype(np.int32),
        columns[2].astype(np.int8),
        np.zeros(len(rows), np.int32),
        np.ones(len(rows), np.int64),
    )


def shown(
    before: Purchases,
    later: Purchases,
    offline: list[list[int]],
    online: list[list[int]],
    items: int = 10,
) -> Shown:
    lists = [np.array(offline), np.array(online)]
    attention = [np.zeros((*each.shape, 3), np.float32) for each in lists]
    index = PurchaseIndex(before, customers=len(offline), items=items)
    return Shown(index, later, np.arange(len(offline)), lists, lists, attention)


def figures(ndcg: float | None, customers: int = 100) -> Numbers:
    return {"customers": customers, "ndcg": ndcg}


# --- one channel weak


@pytest.mark.parametrize(
    ("offline", "online", "customers", "verdict"),
    [
        (0.3, 0.3, 100, "ok"),
        (0.3, 0.19, 100, "ok"),  # 0.63 of the stronger
        (0.3, 0.17, 100, "warning"),  # 0.57 of the stronger
        (0.12, 0.09, 100, "warning"),  # online below popularity
        (0.3, 0.1, LEAST_CUSTOMERS - 1, "unknown"),
        (0.3, None, 0, "unknown"),
    ],
)
def test_a_channel_is_weak_below_popularity_or_far_below_the_other(
    offline: float, online: float | None, customers: int, verdict: str
) -> None:
    ours = {"offline": figures(offline), "online": figures(online, customers)}
    popularity = {"offline": figures(0.1), "online": figures(0.05)}
    recent = {"offline": figures(0.02), "online": figures(0.1)}
    found = weak_channel(ours, {"popularity": popularity, "recent": recent})
    assert found.verdict == verdict
    assert found.figures["offline"] == pytest.approx(offline / 0.1)
    if online is not None:
        assert found.figures["online"] == pytest.approx(online / 0.1)  # over the best of the two


# --- new items


def of_new_items(reached: int, hit: bool = False) -> Shown:
    """Items 0 to 9 are known and all shown, 10 to 29 new, and so many of them shown."""
    later = bought(
        *((0, item, 0) for item in range(10)),
        *((0 if hit else 1, item, 1) for item in range(10, 30)),
    )
    extra = [*range(10, 10 + reached), *[-1] * (10 - reached)]
    nothing = [[-1] * 10] * 2
    return shown(bought((0, 0, 0)), later, [list(range(10)), nothing[0]], [extra, nothing[1]], 30)


@pytest.mark.parametrize(
    ("reached", "verdict"), [(0, "warning"), (1, "warning"), (2, "ok"), (9, "ok")]
)
def test_new_items_are_out_of_reach_when_shown_a_tenth_as_often(reached: int, verdict: str) -> None:
    known = np.arange(30) < 10
    found = new_items(of_new_items(reached), known)
    assert found.verdict == verdict
    assert found.figures["new_items"] == 20
    assert found.figures["shown"] == pytest.approx(reached / 20)
    assert found.figures["others_shown"] == 1
    assert found.figures["places"] == reached
    assert found.figures["hits"] == 0  # they were shown to another customer


def test_a_new_item_that_its_buyer_was_shown_is_a_hit() -> None:
    found = new_items(of_new_items(3, hit=True), np.arange(30) < 10)
    assert (found.figures["hits"], found.figures["purchases"]) == (3, 20)


def test_few_new_items_get_no_verdict() -> None:
    found = new_items(of_new_items(0), np.arange(30) < 25)
    assert found.verdict == "unknown"
    assert "Fewer than" in found.advice


# --- the same list in both channels


def shoppers(*, different: tuple[int, list[int]], alike: tuple[int, list[int]]) -> Shown:
    """Some who buy other items in each channel and some who buy the same, with online lists."""
    before: list[Triple] = []
    online = []
    for customer in range(different[0] + alike[0]):
        differs = customer < different[0]
        before += [(customer, item, 0) for item in (0, 1, 2)]
        before += [(customer, item, 1) for item in ((3, 4, 5) if differs else (0, 1, 3))]
        online.append(different[1] if differs else alike[1])
    return shown(bought(*before), bought(), [[6, 7, 8, 9]] * len(online), online)


SAME, HALF, OTHER = [9, 8, 7, 6], [9, 8, 1, 0], [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("different", "alike", "verdict"),
    [
        ((40, OTHER), (40, SAME), "ok"),
        ((40, HALF), (40, HALF), "ok"),
        ((40, SAME), (40, SAME), "warning"),
        ((40, HALF), (40, OTHER), "warning"),  # more in common than those who shop alike
        ((40, HALF), (5, OTHER), "ok"),  # too few to compare with
        ((10, SAME), (40, SAME), "unknown"),
    ],
)
def test_lists_are_the_same_for_customers_who_shop_differently(
    different: tuple[int, list[int]], alike: tuple[int, list[int]], verdict: str
) -> None:
    lists = shoppers(different=different, alike=alike)
    found = same_lists(lists)
    assert found.verdict == verdict
    assert found.figures["customers_who_shop_differently"] == different[0]
    assert found.figures["customers_who_shop_alike"] == alike[0]
    common = {str(SAME): 1.0, str(HALF): 0.5, str(OTHER): 0.0}
    assert found.figures["their_overlap"] == common[str(different[1])]
    assert found.figures["overlap_of_those"] == common[str(alike[1])]


def test_purchase_overlap_is_of_the_channel_with_fewer_and_needs_three_in_each() -> None:
    lists = shown(
        bought(
            *((0, item, 0) for item in range(6)),
            *((0, item, 1) for item in (0, 8, 9)),
            *((1, item, 0) for item in range(6)),
            *((1, item, 1) for item in (0, 9)),
        ),
        bought(),
        [[0], [0]],
        [[0], [0]],
    )
    overlap = purchase_overlap(lists)
    assert overlap[0] == pytest.approx(1 / 3)
    assert np.isnan(overlap[1])


def test_list_overlap_counts_items_whatever_their_place() -> None:
    first = np.array([[1, 2, 3], [1, 2, -1], [-1, -1, -1], [4, 5, 6]])
    second = np.array([[3, 2, 9], [2, -1, -1], [-1, -1, -1], [1, 2, 3]])
    assert list_overlap(first, second) == pytest.approx([2 / 3, 1 / 2, 1, 0])


# --- what is shown


def test_gini_of_hand_made_counts() -> None:
    assert gini(np.array([5, 5, 5, 5])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(0.75)
    assert gini(np.array([1, 3])) == pytest.approx(0.25)
    assert gini(np.zeros(3, np.int64)) == 0


def test_exposure_of_hand_made_lists() -> None:
    lists = np.array([[0, 1], [0, -1]])
    found = exposure(lists, np.array([3, 3]), np.array([9.0, 4.0, 4.0, 1.0]))
    assert (found.items, found.shown, found.coverage) == (4, 2, 0.5)
    assert found.possible == 0.75
    assert found.shown_popularity == pytest.approx((1 + 0.625 + 1) / 3)  # a tie has the mean rank
    assert found.bought_popularity == pytest.approx(0.25)


def test_purchases_are_divided_by_what_was_bought_before() -> None:
    before = bought((0, 1, 0), (0, 2, 1), (1, 3, 0))
    later = bought((0, 1, 0), (0, 2, 0), (0, 3, 0), (0, 4, 1))
    lists = shown(before, later, [[0], [0]], [[0], [0]])
    assert [each.items.tolist() for each in kinds_of(lists, 0)] == [[3], [2], [1]]
    assert [each.items.tolist() for each in kinds_of(lists, 1)] == [[4], [], []]


def test_attention_is_averaged_over_the_places_of_each_group() -> None:
    before = bought((0, 1, 0), (0, 2, 1), (1, 1, 0), (2, 1, 1))
    lists = shown(before, bought(), [[4, 5], [4, -1], [4, 5], [4, 5]], [[4, 5]] * 4)
    lists.attention[0][0, 0] = [0.5, 0.3, 0.2]
    lists.attention[0][0, 1] = [0.7, 0.1, 0.2]
    lists.attention[0][1, 0] = [0.25, 0.75, 0]
    lists.attention[0][2] = [0.5, 0, 0.5]
    found = attention_by_group(lists, 0)
    assert list(found) == ["everybody", "both channels", "offline only", "online only"]
    assert [each.customers for each in found.values()] == [3, 1, 1, 1]
    assert list(found["both channels"].weights.values()) == pytest.approx([0.6, 0.2, 0.2])
    assert list(found["offline only"].weights.values()) == pytest.approx([0.25, 0.75, 0])
    everybody = [(0.5 + 0.7 + 0.25 + 0.5 + 0.5) / 5, 1.15 / 5, 1.4 / 5]
    assert list(found["everybody"].weights.values()) == pytest.approx(everybody)


# --- calibration


class Fixed:
    """The same scores for everybody."""

    def __init__(self, scores: list[float]) -> None:
        self._scores = np.array(scores, np.float32)

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        return np.tile(self._scores, (len(customers), 1))


def test_bins_hold_predicted_chances_and_observed_shares() -> None:
    """Chances 0.5, 0.25, 0.125, 0.125; three customers buy item 0, one buys items 1 and 2."""
    index = PurchaseIndex(bought((9, 9, 0)), customers=10, items=4)
    later = bought((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 1, 0), (3, 2, 0))
    ranker = Fixed([np.log(8.0), np.log(4.0), np.log(2.0), np.log(2.0)])
    low, high = calibrate(ranker, Wanted.of(index, later, 0, new_only=True))
    assert (low.pairs, high.pairs) == (12, 4)  # 0.316 lies between 0.25 and 0.5
    assert low.predicted == pytest.approx(0.5 / 3)
    assert high.predicted == pytest.approx(0.5)
    assert low.observed == pytest.approx((0.5 + 0.5) / 12)
    assert high.observed == pytest.approx(3 / 4)
    assert high.low is not None
    assert high.high is not None
    assert high.low < high.observed <= high.high


def test_what_was_bought_before_has_no_chance() -> None:
    index = PurchaseIndex(bought((0, 0, 0)), customers=1, items=3)
    ranker = Fixed([50.0, 1.0, 1.0])
    (only,) = calibrate(ranker, Wanted.of(index, bought((0, 1, 0)), 0, new_only=True))
    assert (only.pairs, only.predicted, only.observed) == pytest.approx((2, 0.5, 0.5))
    assert only.low is None  # of a single customer


def test_without_targets_there_are_no_bins() -> None:
    index = PurchaseIndex(bought((0, 0, 0)), customers=1, items=3)
    assert calibrate(Fixed([1, 2, 3]), Wanted.of(index, bought(), 0, new_only=True)) == []


# --- on a run


@pytest.fixture(scope="module", params=["history", "table"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnosis")
    simulate(folder / "data", customers=200, items=60, days=40, seed=1)
    dataset = read_dataset(folder / "data")
    config = RunConfig(
        data=str(folder / "data"),
        fingerprint=dataset.fingerprint,
        split=SplitConfig(min_interactions=3),
        model=ModelConfig(encoder=request.param, embedding_size=8),
        training=TrainingConfig(epochs=2, threads=1),
    )
    from c2rec.train.config import write_config

    (folder / "run").mkdir()
    write_config(folder / "run", config)
    fit(config, prepare(dataset, config.split), folder / "run", QuietReporter())
    return folder / "run"


@pytest.fixture(scope="module")
def evaluation(run: Path) -> Evaluation:
    return evaluate(load_run(run), k=5)


def test_lists_are_those_of_the_ranking_without_what_was_bought(run: Path) -> None:
    loaded = load_run(run)
    index = loaded.data.index
    lists = show(loaded.model, index, loaded.data.split.test, k=5)
    for channel in (0, 1):
        scores = ModelRanker(loaded.model, index).scores(lists.customers, channel)
        rows, owners = index.of(lists.customers)
        items, here = index.purchases.items[rows], index.purchases.channels[rows] == channel
        scores[owners[here], items[here]] = -np.inf
        assert (np.argsort(-scores, axis=1, kind="stable")[:, :5] == lists.lists[channel]).all()
        scores[owners, items] = -np.inf
        assert (np.argsort(-scores, axis=1, kind="stable")[:, :5] == lists.unbought[channel]).all()
        assert lists.attention[channel].sum(2) == pytest.approx(1, abs=1e-5)


def test_a_place_with_nothing_left_to_show_is_empty(run: Path) -> None:
    loaded = load_run(run)
    lists = show(loaded.model, loaded.data.index, loaded.data.split.test, k=60)
    assert (lists.unbought[0] == -1).any()
    assert (lists.attention[0][lists.lists[0] < 0] == 0).all()


def test_the_same_run_gives_the_same_diagnosis(run: Path, evaluation: Evaluation) -> None:
    assert evaluate(load_run(run), k=5).diagnosis == evaluation.diagnosis


def test_the_diagnosis_is_told_to_people_and_machines(evaluation: Evaluation) -> None:
    document = json.loads(json.dumps(evaluation.document()))["diagnosis"]
    assert [each["name"] for each in document["findings"]] == [
        "weak-channel",
        "new-items",
        "same-lists",
    ]
    text = evaluation_text(evaluation)
    for finding in document["findings"]:
        assert finding["verdict"] in ("ok", "warning", "unknown")
        for part in (finding["title"], finding["rule"]):
            assert part in text
        assert (finding["advice"] in text) == (finding["verdict"] != "ok")
    for channel in ("offline", "online"):
        assert 0 < document["exposure"][channel]["coverage"] <= 1
        for group in document["attention"][channel].values():
            assert sum(group["weights"].values()) == pytest.approx(1)
        for kind in document["kinds"][channel].values():
            assert 0 < kind["customers"] <= kind["purchases"]
        bins = document["calibration"][channel]
        predicted = sum(each["pairs"] * each["predicted"] for each in bins)
        assert predicted == pytest.approx(sum(each["pairs"] * each["observed"] for each in bins))


def test_the_figures_of_an_evaluation_are_means_over_what_was_measured(
    evaluation: Evaluation,
) -> None:
    for channel, name in enumerate(("offline", "online")):
        metrics = evaluation.new.measured["C2Rec"][channel]
        assert evaluation.new.channels[name]["ndcg"] == pytest.approx(metrics.ndcg.mean())
        popularity = evaluation.new.measured["popularity"][channel]
        assert (popularity.customers == metrics.customers).all()
        assert evaluation.new.baselines["popularity"][name]["hr"] == pytest.approx(
            popularity.hr.mean()
        )


def test_a_sample_is_bounded_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("c2rec.train.shown.SAMPLED", 20)
    later = bought(*((customer, 0, 0) for customer in range(100)))
    first, second = sample_customers(later), sample_customers(later)
    assert len(first) == 20
    assert (first == second).all()
    assert (np.diff(first) > 0).all()


def test_where_nothing_is_shown_new_items_get_no_verdict() -> None:
    lists = of_new_items(9)
    emptied = replace(lists, lists=[np.full_like(each, -1) for each in lists.lists])
    assert new_items(emptied, np.arange(30) < 10).verdict == "unknown"
