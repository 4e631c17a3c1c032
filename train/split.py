"""Training, validation and test purchases by date, and the vocabulary of training.

The last day of the data ends the test period; the validation period lies before it, and all
before that is training. Days are UTC. A global split by time is the only one of the common ones
that leaks nothing from later to earlier (2010.11060).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from c2rec.runtime.errors import DataError
from c2rec.runtime.records import CHANNELS
from c2rec.train.transactions import Dataset

_KEYS = ["customer_id", "item_id", "channel"]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Customers of training and items of the catalogue; an embedding's row is a place in these."""

    customer_ids: list[str]
    """Ascending by code point."""
    item_ids: list[str]
    """Ascending by code point: the items of training, those with too few purchases to be trained
    on, and those of the items table that nobody has bought yet."""


@dataclass(frozen=True, slots=True)
class Purchases:
    """Distinct (customer, item, channel), sorted by customer, channel, item; all (n,)."""

    customers: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    channels: npt.NDArray[np.int8]
    """Rows of ``CHANNELS``."""
    days: npt.NDArray[np.int32]
    """The last purchase's, in days since 1970-01-01."""
    quantities: npt.NDArray[np.int64]
    """Units of all purchases together."""

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Purchases":
        """Keep the chosen ones: bool (n,)."""
        return Purchases(
            self.customers[chosen],
            self.items[chosen],
            self.channels[chosen],
            self.days[chosen],
            self.quantities[chosen],
        )


@dataclass(frozen=True, slots=True)
class Periods:
    """Purchases of the three periods, of the items of the catalogue."""

    train: Purchases
    valid: Purchases
    test: Purchases


@dataclass(frozen=True, slots=True)
class Split:
    """The three periods, of the customers of training and of everybody."""

    vocabulary: Vocabulary
    train: Purchases
    """After the k-core: only the items in it are known to the model from their purchases."""
    valid: Purchases
    test: Purchases
    """As ``valid``, without purchases of customers outside the vocabulary."""
    everyone_ids: list[str]
    """All customers of the data, ascending by code point."""
    everyone: Periods
    """Without a k-core, of all customers; rows of ``everyone_ids``."""
    held_out: Purchases
    """Test purchases of the customers held out of training; rows of ``everyone_ids``."""
    is_held_out: npt.NDArray[np.bool_]
    """bool (customers,), of ``everyone_ids``."""
    cold: dict[str, dict[str, int]]
    """Per channel: ``rows`` of the test period, and how many of them are left out for an
    ``unknown_customer``, an ``unknown_item`` or ``unknown_both``."""


def split(
    dataset: Dataset,
    *,
    test_days: int,
    valid_days: int,
    min_interactions: int,
    held_out: float = 0.0,
) -> Split:
    """Divide a dataset by date.

    Args:
        dataset: checked transactions.
        test_days: last days to keep for the test; 0 for none.
        valid_days: days before them for validation; 0 for none.
        min_interactions: k of the k-core. It looks at training alone and counts distinct
            (customer, item, channel).
        held_out: share of the customers of the k-core to keep out of the vocabulary, from 0 to
            below 1; the same ones in every run on the same data.

    Raises:
        DataError: training, one of its channels, or a validation period asked for is empty.
    """
    rows = dataset.transactions.select(
        *_KEYS, "quantity", day=pl.col("timestamp").dt.date().cast(pl.Int32)
    )
    last, first = _bounds(rows["day"])
    test_start = last - test_days + 1
    valid_start = test_start - valid_days
    span = last - first + 1
    if valid_start <= first:
        raise DataError(
            f"the data spans {span} days; --valid-days {valid_days} and --test-days {test_days} "
            "leave none for training"
        )
    train = _distinct(rows.filter(pl.col("day") < valid_start))
    kept = k_core(train, min_interactions)
    if kept.height == 0:
        raise DataError(
            f"no training purchase is left: none of the {train.height} is of a customer and an "
            f"item with at least {min_interactions}; lower --min-interactions or add data"
        )
    kept, held_out_ids = _hold_out(kept, held_out)
    for name in CHANNELS:
        if kept.filter(pl.col("channel") == name).height == 0:
            raise DataError(
                f"there is no {name} purchase in training (before --valid-days {valid_days} and "
                f"--test-days {test_days}, and of customers and items with at least "
                f"{min_interactions} purchases); C2Rec learns from both channels"
            )
    known = sorted(kept["item_id"].unique().to_list())
    trained = Vocabulary(sorted(kept["customer_id"].unique().to_list()), known)
    listed = [] if dataset.items is None else dataset.items["item_id"].to_list()
    catalogue = sorted({*listed, *train["item_id"].unique().to_list()})
    vocabulary = Vocabulary(trained.customer_ids, catalogue)
    in_test = pl.col("day") >= test_start
    valid_rows = rows.filter((pl.col("day") >= valid_start) & ~in_test)
    test_rows = rows.filter(in_test)
    if valid_days and len(_number(_distinct(valid_rows), trained).items) == 0:
        raise DataError(
            f"there is no purchase in the {valid_days} validation days, {_date(valid_start)} to "
            f"{_date(test_start - 1)}: the one before is of {_date(_bounds(train['day'])[0])}, the "
            f"last of {_date(last)}; raise --valid-days, or bring what was bought in between"
            if valid_rows.height == 0
            else f"none of the {valid_rows.height} purchases in the {valid_days} validation days "
            "is of a customer and an item known from training; raise --valid-days or lower "
            "--min-interactions"
        )
    everyone = Vocabulary(sorted(rows["customer_id"].unique().to_list()), catalogue)
    valid, test = _distinct(valid_rows), _distinct(test_rows)
    periods = Periods(*(_number(period, everyone) for period in (train, valid, test)))
    is_held_out = np.isin(everyone.customer_ids, held_out_ids)
    return Split(
        vocabulary,
        _number(kept, vocabulary),
        _number(valid, vocabulary),
        _number(test, vocabulary),
        everyone.customer_ids,
        periods,
        periods.test.where(is_held_out[periods.test.customers]),
        is_held_out,
        _cold(test_rows, trained),
    )


def k_core(purchases: pl.DataFrame, k: int) -> pl.DataFrame:
    """Leave out customers and items with fewer than k rows until every one left has k."""
    customers = _codes(purchases["customer_id"])
    items = _codes(purchases["item_id"])
    kept = np.arange(purchases.height)
    while True:
        per_customer, per_item = np.bincount(customers[kept]), np.bincount(items[kept])
        enough = (per_customer[customers[kept]] >= k) & (per_item[items[kept]] >= k)
        if enough.all():
            return purchases[kept]
        kept = kept[enough]


def _hold_out(purchases: pl.DataFrame, share: float) -> tuple[pl.DataFrame, list[str]]:
    """Take out a share of the customers, drawn with a fixed seed; at least one is left."""
    customers = sorted(purchases["customer_id"].unique().to_list())
    order = np.random.default_rng(0).permutation(len(customers))
    taken = sorted(customers[place] for place in order[: int(share * len(customers))])
    is_taken = pl.col("customer_id").is_in(pl.Series(taken, dtype=pl.String).implode())
    return purchases.filter(~is_taken), taken


def _codes(ids: pl.Series) -> npt.NDArray[np.int64]:
    """Number the distinct values in any order, from 0: int64 (n,)."""
    distinct = ids.unique().to_frame().with_row_index("\0code")
    codes = ids.to_frame().join(distinct, on=ids.name, maintain_order="left")["\0code"]
    return codes.to_numpy().astype(np.int64)


def all_history(dataset: Dataset, item_ids: Sequence[str]) -> tuple[list[str], Purchases]:
    """Collect everything that anybody bought of some items, in all periods.

    Returns:
        Customer ids ascending by code point, and distinct purchases with rows of it and of
        ``item_ids``.
    """
    rows = dataset.transactions.select(
        *_KEYS, "quantity", day=pl.col("timestamp").dt.date().cast(pl.Int32)
    ).filter(pl.col("item_id").is_in(pl.Series(item_ids, dtype=pl.String).implode()))
    customers = sorted(rows["customer_id"].unique().to_list())
    return customers, _number(_distinct(rows), Vocabulary(customers, list(item_ids)))


def _bounds(days: pl.Series) -> tuple[int, int]:
    last, first = days.max(), days.min()
    if not isinstance(last, int) or not isinstance(first, int):
        raise DataError("the data has no days")
    return last, first


def _date(day: int) -> str:
    return f"{datetime.fromtimestamp(day * 86_400, UTC):%Y-%m-%d}"


def _distinct(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by(_KEYS).agg(pl.col("day").max(), pl.col("quantity").sum())


def _number(rows: pl.DataFrame, vocabulary: Vocabulary) -> Purchases:
    """Turn ids into rows of the vocabulary; rows outside it are left out."""
    for column, name, ids in (
        ("customer", "customer_id", vocabulary.customer_ids),
        ("item", "item_id", vocabulary.item_ids),
    ):
        numbered = pl.DataFrame(
            {name: pl.Series(ids, dtype=pl.String), column: np.arange(len(ids), dtype=np.int32)}
        )
        rows = rows.join(numbered, on=name)
    rows = rows.with_columns((pl.col("channel") == CHANNELS[1]).cast(pl.Int8))
    rows = rows.sort("customer", "channel", "item")
    return Purchases(
        rows["customer"].to_numpy(writable=True),
        rows["item"].to_numpy(writable=True),
        rows["channel"].to_numpy(writable=True),
        rows["day"].to_numpy(writable=True),
        rows["quantity"].to_numpy(writable=True),
    )


def _cold(rows: pl.DataFrame, vocabulary: Vocabulary) -> dict[str, dict[str, int]]:
    customer = ~pl.col("customer_id").is_in(
        pl.Series(vocabulary.customer_ids, dtype=pl.String).implode()
    )
    item = ~pl.col("item_id").is_in(pl.Series(vocabulary.item_ids, dtype=pl.String).implode())
    cold: dict[str, dict[str, int]] = {}
    for name in CHANNELS:
        counts = (
            rows.filter(pl.col("channel") == name)
            .select(
                rows=pl.len(),
                unknown_customer=(customer & ~item).sum(),
                unknown_item=(item & ~customer).sum(),
                unknown_both=(customer & item).sum(),
            )
            .row(0, named=True)
        )
        cold[name] = {key: int(count) for key, count in counts.items()}
    return cold
