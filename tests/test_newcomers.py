"""The benchmark of strangers: who is left out, who is measured, and when the goal is met."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.newcomers import FOLDS, Figures, folds, main, tell, without
from c2rec.train.simulate import simulate
from c2rec.train.transactions import Dataset, read_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A small retailer."""
    folder = tmp_path_factory.mktemp("data") / "data"
    simulate(folder, customers=150, items=60, days=30, seed=2)
    return read_dataset(folder)


def test_everyone_is_a_stranger_once(dataset: Dataset) -> None:
    parts = folds(dataset)
    everyone = sorted(dataset.transactions["customer_id"].unique().to_list())
    assert len(parts) == FOLDS
    assert sorted(customer for part in parts for customer in part) == everyone
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_nothing_is_left_of_a_stranger_and_all_of_the_others(dataset: Dataset) -> None:
    fold = folds(dataset)[2]
    left = without(dataset, fold, 2)
    theirs = dataset.transactions.filter(pl.col("customer_id").is_in(fold))
    assert theirs.height > 0
    assert left.transactions.height == dataset.transactions.height - theirs.height
    assert not set(left.transactions["customer_id"]) & set(fold)
    assert left.fingerprint != dataset.fingerprint, "or a run would be taken for another's"


def test_a_share_is_of_means_with_an_interval_over_customers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two rows of one customer are one draw: the ratio is the same whoever is drawn."""
    same = Figures(np.array([1, 1, 2]), np.array([[0.9, 1, 0.9], [0, 0, 0], [0.45, 0.5, 0.9]]))
    assert tell("online", [same])
    said = capsys.readouterr().out
    assert "strangers 0.4500, of 2 customers, 3 with windows" in said
    assert "of 0.5000 as known: 0.900 (0.90 to 0.90)" in said
    assert "of 0.6000 as known with a fifth fewer known in all: 0.750 (0.50 to 1.00)" in said
    below = Figures(same.customers, same.ndcg * [0.99, 1, 1])
    assert not tell("online", [below])
    assert not tell("online", [Figures(np.zeros(0, np.int64), np.zeros((0, 3)))])


def test_it_goes_on_with_what_is_fitted(
    tmp_path: Path,
    dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    dataset.transactions.write_parquet(data / "transactions.parquet")
    assert dataset.items is not None
    dataset.items.write_parquet(data / "items.parquet")
    options = ["--rolling", "1", "--epochs", "2", "--threads", "1"]
    monkeypatch.setattr("sys.argv", ["newcomers", str(data), "--out", str(out), *options])
    with pytest.raises(SystemExit):
        main()
    first = capsys.readouterr().out
    assert f"without fold {FOLDS - 1}" in first
    assert "\nonline: NDCG@10 as strangers" in first
    models = {path: path.stat().st_mtime_ns for path in out.glob("window-0/*/model.safetensors")}
    assert len(models) == 2 * (1 + FOLDS), "each is fitted, and trained again"
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out == first
    assert {path: path.stat().st_mtime_ns for path in models} == models
    options[3] = "3"
    monkeypatch.setattr("sys.argv", ["newcomers", str(data), "--out", str(out), *options])
    with pytest.raises(SystemExit, match="choose another --out"):
        main()
