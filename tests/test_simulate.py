"""The simulated retailer: valid, repeatable, and as its truth says."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from c2rec.runtime.errors import DataError
from c2rec.train.simulate import (
    TRUTH,
    Truth,
    customer_name,
    item_name,
    read_truth,
    simulate,
    true_shared_weight,
)
from c2rec.train.transactions import find_problems, read_dataset

FILES = ("items.parquet", "transactions.parquet", TRUTH)


@pytest.fixture(scope="module")
def retailer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retailer")
    simulate(folder)
    return folder


@pytest.fixture(scope="module")
def truth(retailer: Path) -> Truth:
    return read_truth(retailer)


@pytest.fixture(scope="module")
def sales(retailer: Path) -> pl.DataFrame:
    """Transactions with rows of the truth for ids, and a channel's place for its name."""
    return read_dataset(retailer).transactions.with_columns(
        pl.col("customer_id", "item_id").str.slice(1).cast(pl.Int64),
        channel=(pl.col("channel") == "online").cast(pl.Int64),
    )


def weights(truth: Truth, sales: pl.DataFrame) -> npt.NDArray[np.float64]:
    """ω of every sale: float64 (sales,)."""
    result = np.zeros(sales.height)
    channels = sales["channel"].to_numpy()
    for channel in (0, 1):
        here = channels == channel
        customers = sales["customer_id"].to_numpy()[here]
        items = sales["item_id"].to_numpy()[here]
        result[here] = true_shared_weight(truth, customers, items, channel)
    return result


def correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_it_is_a_valid_dataset(retailer: Path, truth: Truth) -> None:
    problems, facts = find_problems(retailer)
    assert problems == []
    assert facts is not None
    assert facts["customers"] == len(truth.customer_shared) == 2000
    assert str(facts["last_day"]) <= "2025-03-06"
    assert isinstance(facts["customers_in_both_channels"], int)
    assert 1000 < facts["customers_in_both_channels"] < 1400
    dataset = read_dataset(retailer)
    assert dataset.items is not None
    assert dataset.items["item_id"].to_list() == [item_name(row) for row in range(600)]
    known = {customer_name(row) for row in range(2000)}
    assert set(dataset.transactions["customer_id"]) == known


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        simulate(tmp_path / name, customers=80, items=40, days=20, seed=seed)
    for name in FILES:
        first = (tmp_path / "a" / name).read_bytes()
        assert (tmp_path / "b" / name).read_bytes() == first
        assert (tmp_path / "c" / name).read_bytes() != first


@pytest.mark.parametrize("days", [1, 7, 30])
def test_a_small_retailer(tmp_path: Path, days: int) -> None:
    simulate(tmp_path, customers=10, items=20, days=days)
    problems, facts = find_problems(tmp_path)
    assert problems == []
    assert facts is not None
    assert str(facts["first_day"]) >= "2025-01-06"
    assert read_dataset(tmp_path).transactions["timestamp"].dt.date().n_unique() <= days


def test_the_true_weight_is_its_formula(truth: Truth) -> None:
    customers, items = np.array([0, 3, 3]), np.array([1, 1, 2])
    logits = truth.customer_shared[customers] + truth.item_shared[1, items]
    assert true_shared_weight(truth, customers, items, 1) == pytest.approx(
        1 / (1 + np.exp(-logits))
    )


def test_the_weight_varies_and_goes_with_neither_popularity_nor_activity(
    truth: Truth, sales: pl.DataFrame
) -> None:
    omega = weights(truth, sales)
    assert np.std(omega) > 0.15
    for channel in (0, 1):
        popularity = np.log(truth.popularity[channel])
        assert abs(correlation(truth.item_shared[channel], popularity)) < 0.15
    activity = np.bincount(sales["customer_id"].to_numpy(), minlength=2000)
    assert abs(correlation(truth.customer_shared, np.log(activity))) < 0.1


def test_purchases_follow_the_taste_that_counts(truth: Truth, sales: pl.DataFrame) -> None:
    customers, items = sales["customer_id"].to_numpy(), sales["item_id"].to_numpy()
    vectors = truth.item_vectors[items]  # (sales, d)
    own = truth.channel_taste[sales["channel"].to_numpy(), customers]  # (sales, d)
    shared = truth.shared_taste[customers]  # (sales, d)
    lean = ((shared - own) * vectors).sum(1)  # (sales,)
    omega = weights(truth, sales)
    assert lean[omega > 0.75].mean() > lean[omega < 0.25].mean() + 0.2
    # a taste of the other channel has no say
    other = truth.channel_taste[1 - sales["channel"].to_numpy(), customers]
    assert abs((other * vectors).sum(1).mean()) < 0.03
    assert (own * vectors).sum(1).mean() > 0.1


def test_customers_of_high_weight_buy_the_same_in_both_channels(
    truth: Truth, sales: pl.DataFrame
) -> None:
    customers, channels = sales["customer_id"].to_numpy(), sales["channel"].to_numpy()
    means = np.zeros((2, 2000, truth.item_vectors.shape[1]))  # (channels, customers, d)
    counts = np.zeros((2, 2000))
    np.add.at(means, (channels, customers), truth.item_vectors[sales["item_id"].to_numpy()])
    np.add.at(counts, (channels, customers), 1)
    enough = counts.min(0) >= 5
    means = means[:, enough] / np.linalg.norm(means[:, enough], axis=-1, keepdims=True)
    alike = (means[0] * means[1]).sum(1)  # (customers,)
    a = truth.customer_shared[enough]
    high, low = a > np.quantile(a, 0.8), a < np.quantile(a, 0.2)
    assert alike[high].mean() > alike[low].mean() + 0.03


def test_popularity_has_a_long_tail_and_differs_between_channels(
    truth: Truth, sales: pl.DataFrame
) -> None:
    assert truth.popularity.sum(1) == pytest.approx([1, 1])
    between = correlation(np.log(truth.popularity[0]), np.log(truth.popularity[1]))
    assert 0.3 < between < 0.95
    for channel in (0, 1):
        bought = sales.filter(pl.col("channel") == channel)["item_id"].to_numpy()
        counts = np.sort(np.bincount(bought, minlength=600))
        assert counts[-60:].sum() > 0.25 * counts.sum()


def test_visits_have_hours_weekdays_stores_and_baskets(sales: pl.DataFrame) -> None:
    store, web = sales.filter(pl.col("channel") == 0), sales.filter(pl.col("channel") == 1)
    hours = store["timestamp"].dt.hour()
    assert hours.is_between(9, 19).all()
    assert web["timestamp"].dt.hour().n_unique() == 24
    by_day = store.group_by(store["timestamp"].dt.weekday()).len().sort("len")
    assert by_day["timestamp"].to_list()[-1] == 6  # Saturday
    assert store["store_id"].null_count() == 0
    assert web["store_id"].null_count() == web.height
    homes = store.group_by("customer_id").agg(pl.col("store_id").n_unique())["store_id"]
    assert homes.to_list() == [1] * len(homes)
    baskets = sales.group_by("customer_id", "timestamp").len()["len"]
    assert (baskets == 1).any()
    assert (baskets >= 3).any()
    times = sales.group_by("customer_id", "item_id").agg(pl.col("timestamp").n_unique())
    assert (times["timestamp"] > 1).any()
    activity = sales.group_by("customer_id").len()["len"].to_numpy()
    assert np.quantile(activity, 0.95) > 2 * np.median(activity)


def test_shuffled_channels_mean_nothing(tmp_path: Path) -> None:
    for name in ("real", "placebo"):
        simulate(tmp_path / name, customers=300, items=60, shuffle_channels=name == "placebo")
    assert find_problems(tmp_path / "placebo")[0] == []
    real, placebo = (
        read_dataset(tmp_path / name).transactions.with_columns(
            online=pl.col("channel") == "online"
        )
        for name in ("real", "placebo")
    )
    keys = ["customer_id", "item_id", "timestamp"]
    assert placebo.select(keys).unique().sort(keys).equals(real.select(keys).unique().sort(keys))
    assert placebo["quantity"].sum() == real["quantity"].sum()
    for table, low, high in ((real, 0.15, 0.6), (placebo, 0.0, 0.1)):
        busy = table.group_by("customer_id").agg(pl.col("online").mean(), pl.len())
        one_channel = busy.filter(pl.col("len") >= 8)["online"].is_in([0.0, 1.0]).mean()
        assert isinstance(one_channel, float)
        assert low <= one_channel <= high


def test_a_dataset_is_replaced_only_if_asked(tmp_path: Path) -> None:
    simulate(tmp_path, customers=20, items=20)
    before = [(tmp_path / name).read_bytes() for name in FILES]
    with pytest.raises(DataError, match="is there already"):
        simulate(tmp_path, customers=20, items=20, seed=2)
    assert [(tmp_path / name).read_bytes() for name in FILES] == before
    simulate(tmp_path, customers=20, items=20, seed=2, force=True)
    assert [(tmp_path / name).read_bytes() for name in FILES] != before


def test_truth_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be read"):
        read_truth(tmp_path)
    (tmp_path / TRUTH).write_bytes(b"not safetensors")
    with pytest.raises(DataError, match="can't be read"):
        read_truth(tmp_path)
