"""Comparisons: windows, the choice of settings, resuming, intervals, and the document."""

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from c2rec.runtime.errors import DataError, RunError
from c2rec.runtime.records import CHANNELS
from c2rec.train.ablations import ablations
from c2rec.train.baselines.bitgcf import BiTGCF
from c2rec.train.baselines.cmf import CMF
from c2rec.train.baselines.deepapf import DeepAPF
from c2rec.train.baselines.ease import Ease
from c2rec.train.baselines.factors import ALS, BPR
from c2rec.train.baselines.item_knn import ItemKNN
from c2rec.train.baselines.lightgcn import LightGCN
from c2rec.train.baselines.popularity import Popularity
from c2rec.train.baselines.repeat import Repeat
from c2rec.train.baselines.settings import Candidate, Task, baselines
from c2rec.train.baselines.user_knn import UserKNN
from c2rec.train.checkpoint import read_tensors
from c2rec.train.cli import main
from c2rec.train.compare import compare
from c2rec.train.comparison import Comparison
from c2rec.train.config import BlendConfig, ModelConfig, RunConfig, SplitConfig, TrainingConfig
from c2rec.train.evaluate import evaluate
from c2rec.train.loop import Interrupted, ModelRanker
from c2rec.train.metrics import Ranker, evaluate_channel
from c2rec.train.report import comparison_text
from c2rec.train.run import load_run, prepare
from c2rec.train.significance import uplift
from c2rec.train.simulate import simulate
from c2rec.train.split import Purchases
from c2rec.train.trained import Variant, read_record
from c2rec.train.transactions import Dataset, read_dataset
from c2rec.train.windows import cut
from tests.quiet import QuietReporter

SPLIT = SplitConfig(valid_days=6, test_days=6, min_interactions=3)
DAY = pl.col("timestamp").dt.date()


class Recorder(QuietReporter):
    """Keeps what a comparison says; may press Ctrl-C at its nth unit, or at a training step."""

    def __init__(self, stop_at_unit: int = 0, stop_at_step: int = 0) -> None:
        self.units: list[str] = []
        self.notes: list[str] = []
        self._units_left, self._steps_left = stop_at_unit, stop_at_step

    def unit(self, phase: str, number: int, units: int, what: str) -> None:
        self.units.append(f"{phase} {number}/{units}: {what}")
        self._units_left -= 1
        if self._units_left == 0:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, epoch: int, done: int, steps: int) -> None:
        self._steps_left -= 1
        if self._steps_left == 0:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate(folder, customers=300, items=80, days=60, seed=1)
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return read_dataset(folder)


@pytest.fixture(scope="module")
def cheap() -> dict[str, list[Candidate]]:
    """Of every kind one: a single choice, several, random, per channel."""
    every = baselines()
    return {
        "popularity": every["popularity"],
        "recent-popularity": every["recent-popularity"],
        "als merged": every["als merged"][:2],
        "item-knn single": every["item-knn single"][:2],
    }


def variant(dataset: Dataset, data: str = "", *, split: SplitConfig = SPLIT) -> Variant:
    config = RunConfig(
        data=data,
        fingerprint=dataset.fingerprint,
        split=split,
        model=ModelConfig(embedding_size=8, neighbours=8),
        training=TrainingConfig(epochs=2, batch_size=64, threads=1),
        blend=BlendConfig(search=False),
    )
    return Variant("c2rec", config)


def run(
    dataset: Dataset,
    out: Path,
    models: Mapping[str, Sequence[Candidate]],
    reporter: Recorder | None = None,
    *,
    data: str = "",
    split: SplitConfig = SPLIT,
    seeds: int = 1,
    rolling: int = 1,
    k: int = 10,
    restart: bool = False,
    refit: bool = False,
) -> Comparison:
    return compare(
        dataset,
        out,
        [variant(dataset, data, split=split)],
        models,
        seeds=seeds,
        rolling=rolling,
        k=k,
        restart=restart,
        reporter=reporter or Recorder(),
        refit=refit,
    )


@pytest.fixture(scope="module")
def whole(
    dataset: Dataset,
    folder: Path,
    cheap: dict[str, list[Candidate]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Comparison, Recorder]:
    """A comparison that ran through: two seeds, two windows."""
    out, recorder = tmp_path_factory.mktemp("whole") / "out", Recorder()
    found = run(dataset, out, cheap, recorder, data=str(folder), seeds=2, rolling=2)
    return out, found, recorder


# --- the interval


def test_the_interval_covers_the_true_ratio_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        base = rng.beta(2, 3, size=200)  # the paired models agree on who is easy
        theirs = rng.random(200) < base
        ours = rng.random(200) < 1 - (1 - base) * 0.8
        truth = (1 - 0.6 * 0.8) / 0.4 - 1
        found = uplift(column(ours), column(theirs), np.arange(200), resamples=1000)[0]
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 300 <= 0.985


def column(
    values: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    return values.astype(np.float64)[:, None]


def test_equal_figures_have_no_uplift_and_no_interval() -> None:
    figures = np.random.default_rng(1).random((100, 3))
    for each in uplift(figures, figures.copy(), np.arange(100)):
        assert (each.mean, each.low, each.high) == (0, 0, 0)


def test_the_figures_of_one_customer_move_together() -> None:
    """Two windows that say the same of each customer are no more evidence than one."""
    rng = np.random.default_rng(2)
    ours, theirs = rng.random((80, 1)), rng.random((80, 1))
    once = uplift(ours, theirs, np.arange(80))[0]
    twice = np.concatenate([ours, ours]), np.concatenate([theirs, theirs])
    assert uplift(*twice, np.tile(np.arange(80), 2))[0] == once
    as_if_others = uplift(*twice, np.arange(160))[0]
    assert once.low is not None
    assert as_if_others.low is not None
    assert as_if_others.low > once.low


def test_figures_are_paired() -> None:
    """A model that is ahead a little for everyone is surely ahead, however customers differ."""
    theirs = np.random.default_rng(3).random((50, 1)) ** 4
    paired = uplift(theirs * 1.05, theirs, np.arange(50))[0]
    assert paired.low == pytest.approx(0.05)
    assert paired.high == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("ours", "theirs", "customers", "reason"),
    [
        ([1.0, 0.0], [0.0, 0.0], [0, 1], "mean is 0"),
        ([1.0], [1.0], [4], "only one customer"),
        ([1.0, 1.0], [1.0, 1.0], [4, 4], "only one customer"),
        ([], [], [], "no customer"),
        ([1.0] * 50, [1.0] + [0.0] * 49, list(range(50)), "too few customers"),
    ],
)
def test_an_uplift_that_cannot_be_told_says_why(
    ours: list[float], theirs: list[float], customers: list[int], reason: str
) -> None:
    found = uplift(
        np.array(ours)[:, None], np.array(theirs)[:, None], np.array(customers, np.int64)
    )[0]
    assert found.document() == {"mean": None, "low": None, "high": None}
    assert found.reason is not None
    assert reason in found.reason


# --- windows


def test_windows_roll_back_without_overlap(dataset: Dataset) -> None:
    seen: set[object] = set()
    for number in range(4):
        part, split = cut(dataset, SPLIT, number)
        days = part.transactions["timestamp"].dt.date()
        last = days.max()
        assert split == SPLIT
        tested = {last - timedelta(days=each) for each in range(6)}  # type: ignore[operator]  # a date
        assert not tested & seen
        seen |= tested
    assert len(seen) == 24
    assert len({cut(dataset, SPLIT, number)[0].fingerprint for number in range(4)}) == 4


def test_a_window_that_ends_on_days_without_purchases_keeps_its_place(dataset: Dataset) -> None:
    """Or else its test days would reach into those of the next older window."""
    last = dataset.transactions["timestamp"].dt.date().max()
    closed = (pl.lit(last) - DAY).dt.total_days().is_in([6, 7])  # the last two days of window 1
    gap = replace(dataset, transactions=dataset.transactions.filter(~closed))
    whole = prepare(*cut(dataset, SPLIT, 1)).split
    shorter = prepare(*cut(gap, SPLIT, 1)).split
    assert cut(gap, SPLIT, 1)[1].test_days == 4
    assert 0 < len(shorter.test.items) < len(whole.test.items)
    assert len(shorter.train.items) == len(whole.train.items)
    closed_all = (pl.lit(last) - DAY).dt.total_days().is_between(6, 11)
    nothing = replace(dataset, transactions=dataset.transactions.filter(~closed_all))
    with pytest.raises(DataError, match="no purchase in its test days"):
        cut(nothing, SPLIT, 1)


def test_no_model_is_trained_on_days_that_it_is_measured_on(
    dataset: Dataset, tmp_path: Path
) -> None:
    latest: list[int] = []

    def build(task: Task) -> Ranker:
        latest.append(int(task.purchases.days.max()))
        return Popularity(task.purchases, items=task.items)

    watched = Candidate("watched", {}, build, seeded=False)
    run(dataset, tmp_path / "out", {"watched": [watched]}, rolling=3)
    last = dataset.transactions["timestamp"].dt.date().cast(pl.Int32).max()
    assert isinstance(last, int)
    assert latest == [last - 6 * (window + 2) for window in (2, 1, 0)]


def test_trained_again_a_model_knows_the_validation_days_and_what_they_chose(
    dataset: Dataset, tmp_path: Path
) -> None:
    latest: list[tuple[int, int]] = []

    def choice(days: int) -> Candidate:
        def build(task: Task) -> Ranker:
            latest.append((days, int(task.purchases.days.max())))
            return Popularity(task.purchases, items=task.items, days=days)

        return Candidate("watched", {"days": days}, build, seeded=False)

    found = run(dataset, tmp_path, {"watched": [choice(1), choice(90)]}, rolling=2, refit=True)
    last = dataset.transactions["timestamp"].dt.date().cast(pl.Int32).max()
    assert isinstance(last, int)
    chosen = {each["days"] for each in found.settings["watched"].values() if each}
    assert chosen == {90}  # in both channels, or the following is another list
    assert latest == [
        (1, last - 18),
        (90, last - 18),
        (90, last - 12),
        (90, last - 12),
        (90, last - 6),
    ]


def test_trained_again_figures_are_those_of_a_refit(
    whole: tuple[Path, Comparison, Recorder],
    dataset: Dataset,
    folder: Path,
    cheap: dict[str, list[Candidate]],
    tmp_path: Path,
) -> None:
    """Into a folder that holds figures without: what chose is not trained again."""
    out, before, _ = whole
    shutil.copytree(out, tmp_path / "out")
    recorder = Recorder()
    found = run(
        dataset,
        tmp_path / "out",
        cheap,
        recorder,
        data=str(folder),
        seeds=2,
        rolling=2,
        refit=True,
    )
    assert all("trained again" in unit for unit in recorder.units)
    assert (found.settings, found.validation, found.best_baseline) == (
        before.settings,
        before.validation,
        before.best_baseline,
    )
    assert found.document()["refit"] is True
    assert found.models != before.models
    first = load_run(tmp_path / "out" / "window-0" / "c2rec-2")
    again = load_run(tmp_path / "out" / "window-0" / "c2rec-2-refit")
    split = again.config.split
    assert (split.valid_days, split.test_days) == (0, SPLIT.test_days)
    assert again.blended["blend"] == first.blended["blend"]
    best = read_tensors(tmp_path / "out" / "window-0" / "c2rec-2" / "model.safetensors")[1]
    assert again.config.training.epochs == best["epoch"]
    for channel, name in enumerate(CHANNELS):
        metrics = evaluate_channel(
            ModelRanker(again.model, again.data.index),
            again.data.index,
            again.data.split.test,
            channel,
            k=10,
            new_only=True,
            listed=again.data.index.known,
        )
        path = tmp_path / "out" / "window-0" / "c2rec" / f"seed=2_refit_{name}.safetensors"
        assert np.array_equal(read_record(path).metrics.ndcg, metrics.ndcg)
    none = Recorder()
    same = run(dataset, tmp_path / "out", cheap, none, data=str(folder), seeds=2, rolling=2)
    assert same.document() == before.document()
    assert none.units == []


def test_windows_before_the_data_are_left_out(
    dataset: Dataset, cheap: dict[str, list[Candidate]], tmp_path: Path
) -> None:
    recorder = Recorder()
    models = {"popularity": cheap["popularity"]}
    found = run(
        dataset, tmp_path / "out", models, recorder, split=replace(SPLIT, test_days=25), rolling=4
    )
    assert found.windows == 2
    assert len(recorder.notes) == 2
    assert all("is left out" in note for note in recorder.notes)
    assert found.notes == recorder.notes


# --- the choice of settings


def test_the_oldest_window_chooses_the_settings(
    dataset: Dataset, cheap: dict[str, list[Candidate]], tmp_path: Path
) -> None:
    models = {"recent-popularity": cheap["recent-popularity"]}
    both = run(dataset, tmp_path / "both", models, rolling=3).settings
    newest = run(dataset, tmp_path / "newest", models).settings
    part, split = cut(dataset, SPLIT, 2)
    oldest = run(part, tmp_path / "oldest", models, split=split).settings
    assert newest != oldest  # or this would show nothing
    assert both == oldest


def test_settings_are_chosen_by_validation_per_channel(
    whole: tuple[Path, Comparison, Recorder],
) -> None:
    out, found, _ = whole
    for channel in CHANNELS:
        reached = {
            int(path.name.split("_")[0].removeprefix("days=")): read_record(path).validation
            for path in (out / "window-1" / "recent-popularity").glob(f"*_{channel}.safetensors")
        }
        assert sorted(reached) == [1, 2, 3, 7, 14, 30, 90]
        best = found.settings["recent-popularity"][channel]
        assert best is not None
        assert reached[best["days"]] == max(value for value in reached.values() if value)


def test_the_best_baseline_is_the_best_in_validation(
    whole: tuple[Path, Comparison, Recorder],
) -> None:
    _, found, _ = whole
    for channel in CHANNELS:
        figures = {
            name: each[channel] for name, each in found.validation.items() if name != "c2rec"
        }
        assert figures[found.best_baseline[channel] or ""] == max(
            value for value in figures.values() if value
        )


def test_who_bought_nothing_in_a_channel_gets_what_sells_there() -> None:
    rows = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (2, 1, 0), (3, 2, 1), (3, 3, 1)]
    customers, items, channels = (np.array(each) for each in zip(*rows, strict=True))
    purchases = Purchases(
        customers.astype(np.int32),
        items.astype(np.int32),
        channels.astype(np.int8),
        np.zeros(len(rows), np.int32),
        np.ones(len(rows), np.int64),
    )
    for name in ("ease single", "item-knn single", "user-knn single"):
        ranker = baselines()[name][0].build(Task(purchases, 4, 4, seed=1, threads=1))
        assert ranker.scores(np.array([3]), 0).tolist() == [[2, 3, 0, 0]], name
        assert ranker.scores(np.array([0]), 0).tolist() != [[2, 3, 0, 0]], name


@pytest.mark.parametrize("name", ["item-knn", "ease", "user-knn", "als"])
def test_single_ignores_the_other_channel_and_merged_does_not(dataset: Dataset, name: str) -> None:
    data = prepare(dataset, SPLIT)
    train = data.split.train
    rng = np.random.default_rng(1)
    customers = np.arange(50)
    for channel in range(2):
        kept = (train.channels == channel) | (rng.random(len(train.items)) < 0.5)
        fewer = Purchases(
            train.customers[kept],
            train.items[kept],
            train.channels[kept],
            train.days[kept],
            train.quantities[kept],
        )
        for version, same in (("single", True), ("merged", False)):
            candidate = baselines()[f"{name} {version}"][0]
            with_all, with_fewer = (
                candidate.build(
                    Task(each, data.index.customers, data.index.items, seed=1, threads=1)
                ).scores(customers, channel)
                for each in (train, fewer)
            )
            assert np.array_equal(with_all, with_fewer) == same


CLASSES: dict[str, type[object]] = {
    "popularity": Popularity,
    "recent-popularity": Popularity,
    "repeat": Repeat,
    "item-knn": ItemKNN,
    "user-knn": UserKNN,
    "ease": Ease,
    "als": ALS,
    "bpr": BPR,
    "lightgcn": LightGCN,
    "cmf": CMF,
    "bitgcf": BiTGCF,
    "deepapf": DeepAPF,
}
GIVEN = {"self", "purchases", "customers", "items", "channel", "seed", "threads"}


def test_what_is_recorded_of_a_baseline_is_all_that_can_be_set() -> None:
    every = baselines()
    assert {name.split()[0] for name in every} == set(CLASSES)
    for name, candidates in every.items():
        kind = CLASSES[name.split()[0]]
        options = set(inspect.signature(kind.__init__).parameters)
        for candidate in candidates:
            unset = {"days"} if name == "popularity" else set()
            assert set(candidate.settings) == options - GIVEN - unset, name
            assert candidate.seeded == ("seed" in options), name
        settings = [candidate.settings for candidate in candidates]
        assert all(settings.count(each) == 1 for each in settings), name


# --- what is measured


def test_figures_are_those_of_the_runs(
    whole: tuple[Path, Comparison, Recorder], folder: Path
) -> None:
    """Window 0's runs are runs like any other, measured in the period that is said."""
    out, _, _ = whole
    for seed in (1, 2):
        loaded = load_run(out / "window-0" / f"c2rec-{seed}", folder)
        ranker, index = ModelRanker(loaded.model, loaded.data.index), loaded.data.index
        for channel, name in enumerate(CHANNELS):
            valid, test = (
                evaluate_channel(
                    ranker, index, later, channel, k=10, new_only=True, listed=index.known
                )
                for later in (loaded.data.split.valid, loaded.data.split.test)
            )
            record = read_record(out / "window-0" / "c2rec" / f"seed={seed}_{name}.safetensors")
            assert np.array_equal(record.metrics.ndcg, test.ndcg)
            assert np.array_equal(record.metrics.hr, test.hr)
            assert record.validation == valid.ndcg.mean() != test.ndcg.mean()


def test_the_run_of_an_older_window_is_not_taken_for_one_of_all_days(
    whole: tuple[Path, Comparison, Recorder], folder: Path
) -> None:
    """Evaluated on the whole data, it would be measured on other days than were kept for it."""
    out, _, _ = whole
    with pytest.raises(RunError, match="has changed"):
        load_run(out / "window-1" / "c2rec-1", folder)


def test_a_figure_is_the_mean_over_customers_windows_and_seeds(
    whole: tuple[Path, Comparison, Recorder],
) -> None:
    out, found, _ = whole
    for name in CHANNELS:
        records = [
            read_record(out / f"window-{window}" / "c2rec" / f"seed={seed}_{name}.safetensors")
            for window in (0, 1)
            for seed in (1, 2)
        ]
        figures = found.models["c2rec"][name]
        every = np.concatenate([record.metrics.hr for record in records])
        assert figures["hr"] == pytest.approx(every.mean())
        assert figures["customers"] == len(
            np.unique(np.concatenate([record.metrics.customers for record in records]))
        )
        theirs = found.models[found.best_baseline[name] or ""][name]["hr"]
        assert theirs
        ours = figures["hr"]
        assert ours is not None
        assert found.uplift[name]["hr"].mean == pytest.approx(ours / theirs - 1)


def test_a_customer_has_one_number_in_all_windows_and_no_id_is_kept(
    whole: tuple[Path, Comparison, Recorder], dataset: Dataset
) -> None:
    out, _, _ = whole
    everyone = sorted(dataset.transactions["customer_id"].unique().to_list())
    for window in (0, 1):
        part, split = cut(dataset, SPLIT, window)
        last = part.transactions["timestamp"].dt.date().max()
        bought = part.transactions.filter(
            (pl.lit(last) - DAY).dt.total_days() < split.test_days, pl.col("channel") == "online"
        )
        record = read_record(out / f"window-{window}" / "popularity" / "seed=1_online.safetensors")
        assert {everyone[number] for number in record.metrics.customers} <= set(
            bought["customer_id"]
        )
    for path in out.rglob("*"):
        if path.is_file():
            assert everyone[7].encode() not in path.read_bytes(), path


def test_what_has_no_randomness_is_trained_once_per_window(
    whole: tuple[Path, Comparison, Recorder],
) -> None:
    out, _, recorder = whole
    assert not list(out.rglob("popularity/seed=2*"))
    assert list(out.rglob("als-merged/*seed=2*"))
    assert len(recorder.units) == len(set(recorder.units))
    assert recorder.notes == []


def test_a_channel_without_targets_has_no_figures_and_breaks_nothing(
    dataset: Dataset, cheap: dict[str, list[Candidate]], tmp_path: Path
) -> None:
    last = dataset.transactions["timestamp"].dt.date().max()
    closed = ((pl.lit(last) - DAY).dt.total_days() < 6) & (pl.col("channel") == "offline")
    without = replace(dataset, transactions=dataset.transactions.filter(~closed))
    recorder = Recorder()
    found = run(without, tmp_path / "out", cheap, recorder)
    assert any("window 0 has no offline figures" in note for note in recorder.notes)
    empty = {"customers": 0, "hr": None, "ndcg": None, "recall": None}
    for figures in found.models.values():
        assert figures["offline"] == empty
        assert figures["online"]["hr"] is not None
    assert found.best_baseline["offline"] is None
    assert found.uplift["offline"]["hr"].document() == {"mean": None, "low": None, "high": None}
    assert found.uplift["online"]["hr"].mean is not None
    json.dumps(found.document(), allow_nan=False)
    assert "there is nothing to compare" in comparison_text(found)
    # an older window with targets is measured all the same
    both = run(without, tmp_path / "out", cheap, rolling=2)
    assert both.models["c2rec"]["offline"]["hr"] is not None
    assert both.settings["popularity"]["offline"] == {}


def test_nothing_to_measure_is_an_error_and_makes_no_folder(
    dataset: Dataset, cheap: dict[str, list[Candidate]], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"nothing can be measured[^$]*window 0 is left out"):
        run(dataset, tmp_path / "out", cheap, split=replace(SPLIT, valid_days=100))
    assert not (tmp_path / "out").exists()


def test_settings_that_cannot_be_trained_are_left_out(
    dataset: Dataset, cheap: dict[str, list[Candidate]], tmp_path: Path
) -> None:
    def build(task: Task) -> Ranker:
        raise RunError("too many items")

    fails = Candidate("recent-popularity", {"days": 0}, build, seeded=False)
    never = Candidate("never", {}, build, seeded=False)
    models = {"recent-popularity": [fails, *cheap["recent-popularity"]], "never": [never]}
    recorder = Recorder()
    found = run(dataset, tmp_path / "out", models, recorder)
    assert sum("too many items" in note for note in recorder.notes) == 2
    assert found.best_baseline == {"offline": "recent-popularity", "online": "recent-popularity"}
    assert found.models["never"]["online"]["hr"] is None
    assert any(note.startswith("never has no online figures") for note in found.notes)
    again = Recorder()
    assert run(dataset, tmp_path / "out", models, again) == found
    assert again.units == []


# --- going on


def test_two_comparisons_of_the_same_are_identical(
    whole: tuple[Path, Comparison, Recorder],
    dataset: Dataset,
    cheap: dict[str, list[Candidate]],
    tmp_path: Path,
) -> None:
    _, found, _ = whole
    other = run(dataset, tmp_path / "other", cheap, seeds=2, rolling=2)
    assert json.dumps(other.document()) == json.dumps(found.document())


@pytest.mark.parametrize(
    "stops",
    [
        [Recorder(stop_at_unit=1), Recorder(stop_at_unit=5), Recorder(stop_at_unit=12)],
        [Recorder(stop_at_step=1), Recorder(stop_at_step=2), Recorder(stop_at_step=25)],
    ],
    ids=["between units", "in training"],
)
def test_stopped_and_gone_on_with_the_result_is_the_same_and_nothing_is_done_twice(
    whole: tuple[Path, Comparison, Recorder],
    dataset: Dataset,
    cheap: dict[str, list[Candidate]],
    tmp_path: Path,
    stops: list[Recorder],
) -> None:
    _, found, through = whole
    built: list[str] = []

    def counted(candidate: Candidate) -> Candidate:
        def build(task: Task) -> Ranker:
            built.append(
                f"{candidate.name} {candidate.settings} {task.seed} {task.purchases.days.max()}"
            )
            return candidate.build(task)

        return replace(candidate, build=build)

    models = {name: [counted(each) for each in every] for name, every in cheap.items()}
    for stop in stops:
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            run(dataset, tmp_path / "out", models, stop, seeds=2, rolling=2)
    kept = {path: path.stat().st_mtime_ns for path in files(tmp_path / "out", "*.safetensors")}
    last = Recorder()
    end = run(dataset, tmp_path / "out", models, last, seeds=2, rolling=2)
    assert end.document() == found.document()
    assert len(built) == len(set(built))
    units = [unit for stop in stops for unit in stop.units[:-1]] + last.units
    assert sorted(units) == sorted(through.units)
    figures = {
        path for path in kept if path.parent.name in {name.replace(" ", "-") for name in cheap}
    }
    assert figures
    for path in figures:
        assert path.stat().st_mtime_ns == kept[path]


def files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.rglob(pattern))


def test_more_seeds_windows_and_baselines_add_to_what_is_there(
    whole: tuple[Path, Comparison, Recorder],
    dataset: Dataset,
    cheap: dict[str, list[Candidate]],
    tmp_path: Path,
) -> None:
    _, found, _ = whole
    out = tmp_path / "out"
    run(dataset, out, {"popularity": cheap["popularity"]})
    before = {path: path.stat().st_mtime_ns for path in files(out, "*.safetensors")}
    recorder = Recorder()
    assert run(dataset, out, cheap, recorder, seeds=2, rolling=2).document() == found.document()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not any(
        "popularity, window 0" in unit and "recent" not in unit for unit in recorder.units
    )


def test_another_comparison_is_refused_until_it_is_thrown_away(
    dataset: Dataset, cheap: dict[str, list[Candidate]], tmp_path: Path
) -> None:
    models = {"popularity": cheap["popularity"]}
    out = tmp_path / "out"
    run(dataset, out, models)
    changes: list[tuple[str, Callable[[], Comparison]]] = [
        (
            r"another dataset .*--restart",
            lambda: run(replace(dataset, fingerprint="f" * 64), out, models),
        ),
        (
            r"another test-days \(it has 6, you asked for 5\)",
            lambda: run(dataset, out, models, split=replace(SPLIT, test_days=5)),
        ),
        (r"another k \(it has 10, you asked for 5\)", lambda: run(dataset, out, models, k=5)),
    ]
    before = {path: path.read_bytes() for path in files(out, "*") if path.is_file()}
    for message, change in changes:
        with pytest.raises(RunError, match=message):
            change()
    assert {path: path.read_bytes() for path in before} == before
    fresh = run(dataset, tmp_path / "fresh", models, k=5)
    assert fresh != run(dataset, tmp_path / "other", models)
    assert run(dataset, out, models, k=5, restart=True) == fresh
    with pytest.raises(RunError, match="another k"):
        run(dataset, out, models)


def test_runs_with_other_options_are_refused(
    dataset: Dataset, cheap: dict[str, list[Candidate]], tmp_path: Path
) -> None:
    models = {"popularity": cheap["popularity"]}
    run(dataset, tmp_path / "out", models)
    now = variant(dataset)
    longer = replace(
        now, config=replace(now.config, training=replace(now.config.training, epochs=3))
    )
    with pytest.raises(RunError, match="other options than c2rec has"):
        compare(
            dataset,
            tmp_path / "out",
            [longer],
            models,
            seeds=1,
            rolling=1,
            k=10,
            restart=False,
            reporter=Recorder(),
        )


def test_damaged_figures_are_named(
    dataset: Dataset, cheap: dict[str, list[Candidate]], tmp_path: Path
) -> None:
    models = {"popularity": cheap["popularity"]}
    run(dataset, tmp_path / "out", models)
    path = tmp_path / "out" / "window-0" / "popularity" / "seed=1_online.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(RunError, match=r"seed=1_online.safetensors: is damaged .*delete it"):
        run(dataset, tmp_path / "out", models)
    path.unlink()
    assert run(dataset, tmp_path / "out", models).models["popularity"]["online"]["hr"]


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_with_other_things_is_left_alone(
    dataset: Dataset, cheap: dict[str, list[Candidate]], tmp_path: Path, restart: bool
) -> None:
    (tmp_path / "window-0").mkdir()
    (tmp_path / "window-0" / "thesis.txt").write_text("years")
    with pytest.raises(RunError, match="holds no comparison"):
        run(dataset, tmp_path, cheap, restart=restart)
    assert [path.name for path in tmp_path.rglob("*")] == ["window-0", "thesis.txt"]


# --- the command


def call(patch: pytest.MonkeyPatch, *arguments: str) -> int:
    patch.setattr("sys.argv", ["c2rec-train", "compare", *arguments])
    with pytest.raises(SystemExit) as exited:
        main()
    assert isinstance(exited.value.code, int | None)
    return exited.value.code or 0


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A comparison that a command line can finish in seconds."""
    simulate(tmp_path / "data", customers=250, items=50, days=40, seed=2)
    return [
        *(str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--seeds", "1"),
        *("--valid-days", "5", "--test-days", "5", "--min-interactions", "3", "-k", "5"),
        *("--threads", "1", "--model", "popularity", "--model", "ease single"),
    ]


def test_the_command_prints_one_document_or_tables(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments, "--json") == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert set(document) == {
        *("schema", "k", "seeds", "windows", "whole", "refit", "models"),
        *("best_baseline", "uplift", "ablations", "settings", "validation"),
    }
    assert [document[name] for name in ("schema", "k", "seeds", "windows")] == [1, 5, 1, 1]
    assert list(document["models"]) == ["c2rec", "popularity", "ease single"]
    for figures in document["models"].values():
        assert set(figures) == set(CHANNELS)
        for each in figures.values():
            assert set(each) == {"customers", "hr", "ndcg", "recall"}
    for channel in CHANNELS:
        assert document["best_baseline"][channel] in {"popularity", "ease single"}
        for metric in ("hr", "ndcg", "recall"):
            interval = document["uplift"][channel][metric]
            assert interval["low"] <= interval["mean"] <= interval["high"]
        assert document["settings"]["ease single"][channel]["regularisation"] in (
            *(30, 100, 300, 1000, 3000),
        )
        assert 0 <= document["validation"]["c2rec"][channel] <= 1
    assert "choosing settings 1/6: popularity, window 0\n" in printed.err
    assert "c2rec, seed 1, window 0\n" in printed.err
    assert "c2rec, seed 1, trained again, window 0\n" in printed.err
    assert call(monkeypatch, *arguments) == 0
    again = capsys.readouterr()
    assert again.err == ""  # all is there
    assert (
        f"Best baseline by validation NDCG@5: {document['best_baseline']['offline']} offline"
        in again.out
    )
    hr = document["uplift"]["online"]["hr"]
    shown = f"{100 * hr['mean']:+.1f} % ({100 * hr['low']:+.1f} to {100 * hr['high']:+.1f})"
    assert shown in again.out
    assert "trained again on the validation days" in again.out
    assert "An interval wholly above 0 means" in again.out


def test_an_unknown_baseline_is_refused_with_the_list(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments, "--model", "ease") == 2
    printed = capsys.readouterr().err
    assert "'ease' is no baseline" in printed
    for name in baselines():
        assert name in " ".join(printed.split())
    assert not Path(arguments[2]).exists()


def test_ctrl_c_ends_the_command_and_the_same_command_goes_on(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = (
        "import signal, sys\n"
        # where the tests run in the background, SIGINT is ignored from the start
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from c2rec.train.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", start, "compare", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "ease single" in line:
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("Stopped; run the same command again to go on.\n")
    assert "Traceback" not in err
    assert call(monkeypatch, *arguments) == 0


# --- ablations


def test_every_part_that_can_be_taken_out_is(dataset: Dataset) -> None:
    full = variant(dataset).config
    found = list(ablations(full))
    assert len({each.name for each in found}) == len(found)
    assert all(each.meaning for each in found)
    assert all(each.config != full for each in found)
    assert len({repr(each.config) for each in found}) == len(found), "no two are the same"
    assert all(each.config.split == full.split for each in found)


def test_a_variant_is_compared_with_the_first_on_the_same_customers(
    dataset: Dataset, folder: Path, tmp_path: Path, cheap: dict[str, list[Candidate]]
) -> None:
    ours = variant(dataset, str(folder))
    names = ("c2rec no attention", "c2rec attention alone, 2 components")
    others = [each for each in ablations(ours.config) if each.name in names]
    found = compare(
        dataset,
        tmp_path / "out",
        [ours, *others],
        {"popularity": cheap["popularity"]},
        seeds=1,
        rolling=1,
        k=10,
        restart=False,
        reporter=Recorder(),
    )
    assert list(found.models) == ["c2rec", *names, "popularity"]
    document = json.loads(json.dumps(found.document()))
    for name in names:
        for channel in CHANNELS:
            theirs, base = found.models[name][channel], found.models["c2rec"][channel]
            assert theirs["customers"] == base["customers"]
            mean = document["ablations"][name][channel]["ndcg"]["mean"]
            assert mean == pytest.approx((theirs["ndcg"] or 0) / (base["ndcg"] or 1) - 1)
        assert document["ablations"][name]["meaning"] in comparison_text(found)
    assert set(found.best_baseline.values()) == {"popularity"}, "a variant is no baseline"


def test_the_whole_is_measured_into_the_same_folder_with_the_same_runs(
    dataset: Dataset, folder: Path, tmp_path: Path, cheap: dict[str, list[Candidate]]
) -> None:
    models = {"popularity": cheap["popularity"], "repeat": baselines()["repeat"]}
    known = run(dataset, tmp_path / "out", models, data=str(folder))
    recorder = Recorder()
    found = compare(
        dataset,
        tmp_path / "out",
        [variant(dataset, str(folder))],
        models,
        seeds=1,
        rolling=1,
        k=10,
        restart=False,
        reporter=recorder,
        whole=True,
    )
    assert found.whole
    assert not known.whole
    loaded = load_run(tmp_path / "out" / "window-0" / "c2rec-1")
    measured = evaluate(loaded, k=10).whole
    assert measured is not None
    for channel in CHANNELS:
        theirs = found.models["c2rec"][channel]
        assert theirs == pytest.approx(measured.channels[channel])
        assert found.models["popularity"][channel] == pytest.approx(
            measured.baselines["popularity"][channel]
        )
        assert (theirs["customers"] or 0) > (known.models["c2rec"][channel]["customers"] or 0)
    assert run(dataset, tmp_path / "out", models, data=str(folder)).models == known.models
    assert "of everybody" in comparison_text(found)
    assert "known to training" in comparison_text(known)
