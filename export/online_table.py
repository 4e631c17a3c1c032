"""Online lists from tables that an online platform writes.

One table holds the lists, a row for each customer and item; another, optional, what customers
bought online of late.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from c2rec.export.online_lists import OnlineLists, Rows
from c2rec.runtime.errors import DataError
from c2rec.runtime.home.identity import EVERY_STORE, NAME_LENGTH
from c2rec.runtime.release.bundle import Bundle
from c2rec.runtime.sync.online_documents import LONGEST_LIST
from c2rec.train.columns import (
    ID_RULE,
    Column,
    bad_id,
    number_column,
    text_columns,
    timestamp_column,
)
from c2rec.train.tables import ROW, Problem, Table, read_table, refuse_problems

_STORE_RULE = f"1 to {NAME_LENGTH} printable characters, or nothing"


@dataclass(frozen=True, slots=True)
class TableLists:
    """Lists from a table."""

    lists: OnlineLists
    as_of: datetime | None
    """The earliest ``as_of`` of the table's rows; None where it has no such column."""


def lists_of_table(
    path: Path, *, top: int, bought: Path | None = None, stores: Bundle | None = None
) -> TableLists:
    """Read a table of lists.

    Args:
        path: Parquet or CSV with ``customer_id``, ``item_id``, ``rank`` or ``probability`` or both,
            and optionally ``store_id``, the store whose kiosks get the list, and ``as_of``.
        top: items of a list that are kept, at most.
        bought: Parquet or CSV with ``customer_id``, ``item_id`` and ``timestamp``, or None.
        stores: a bundle that knows in which stores customers buy; None: the table's
            ``store_id``, or where it has none the one store of everybody.

    Raises:
        DataError: a file can't be read, or rows are bad; the first are shown.
    """
    rows, as_of = _read_lists(path)
    rows = rows.sort("customer_id", "rank", "item_id", nulls_last=True)
    rows = rows.filter(pl.int_range(pl.len()).over("customer_id") < top)
    sold = _read_bought(bought) if bought is not None else rows.select("customer_id", "item_id")[:0]
    customer_ids = sorted({*rows["customer_id"].unique(), *sold["customer_id"].unique()})
    item_ids = sorted({*rows["item_id"].unique(), *sold["item_id"].unique()})
    rows = _numbered(rows, customer_ids, item_ids).sort("customer", "rank", "item_id")
    offsets, items = _laid_out(rows, customer_ids)
    chances = rows["probability"].fill_null(0.0).to_numpy().astype(np.float32)
    if sold.height:
        sold = _numbered(sold, customer_ids, item_ids).sort("customer", "timestamp", "item")
        bought_offsets, bought_items = _laid_out(sold, customer_ids)
        bought_at = sold["timestamp"].dt.epoch("s").to_numpy()
    else:
        bought_offsets = np.zeros(len(customer_ids) + 1, np.int64)
        bought_items, bought_at = np.empty(0, np.int32), np.empty(0, np.int64)
    of_store = _stores_of_bundle(stores) if stores is not None else _stores_of_rows(rows)
    nowhere = [EVERY_STORE] if stores is None else []
    lists = OnlineLists(
        customer_ids,
        [of_store.get(customer, nowhere) for customer in customer_ids],
        item_ids,
        offsets,
        items,
        chances,
        bought_offsets,
        bought_items,
        bought_at,
    )
    return TableLists(lists, as_of)


def _read_lists(path: Path) -> tuple[pl.DataFrame, datetime | None]:
    """Columns customer_id, item_id, rank, probability and store_id, checked; and as_of."""
    optional = ("rank", "probability", "store_id", "as_of")
    table = read_table(path, ("customer_id", "item_id"), optional)
    table = text_columns(table, "customer_id", "item_id", "store_id")
    has = set(table.rows.columns)
    if not has & {"rank", "probability"}:
        raise DataError(
            f"{path}: has neither a column 'rank' nor 'probability'; allowed: one of them, or both"
        )
    _, rank = number_column(table, "rank")
    _, chance = number_column(table, "probability")
    store = pl.col("store_id") if "store_id" in has else pl.lit(None, pl.String)
    columns = [
        Column("customer_id", pl.col("customer_id"), bad_id("customer_id"), ID_RULE),
        Column("item_id", pl.col("item_id"), bad_id("item_id"), ID_RULE),
        Column(
            "rank",
            rank.cast(pl.Int64, strict=False),
            ~((rank == rank.floor()) & rank.is_between(1, LONGEST_LIST)).fill_null(value=False),
            f"a whole number from 1 to {LONGEST_LIST}",
        ),
        Column(
            "probability",
            chance,
            ~((chance > 0) & (chance <= 1)).fill_null(value=False),
            "a number above 0 and up to 1",
        ),
        Column(
            "store_id",
            pl.when(store != "").then(store),
            ((store.str.len_chars() > NAME_LENGTH) | store.str.contains(r"\p{C}")).fill_null(
                value=False
            ),
            _STORE_RULE,
        ),
    ]
    if "as_of" in has:
        columns.append(timestamp_column(table, "as_of"))
    problems = list(table.ragged)
    for column in columns:
        if column.name in has:
            problems += table.problems(column.bad, column.name, column.allowed)
    _refuse(path, problems)
    rows = table.rows.select(ROW, *(column.value.alias(column.name) for column in columns))
    if "rank" not in has:
        by = ["probability", "item_id"]
        place = pl.struct(-pl.col("probability"), "item_id").rank("ordinal").over("customer_id")
        rows = rows.with_columns(place.cast(pl.Int64).alias("rank")).sort("customer_id", *by)
    checked = Table(path, rows, [], table.lines)
    _refuse(
        path,
        [
            *_again(checked, ["customer_id", "item_id"], "item_id", "an item once in a list"),
            *_again(checked, ["customer_id", "rank"], "rank", "a rank once in a list"),
            *_differing_stores(checked),
        ],
    )
    least = rows["as_of"].min() if "as_of" in has else None
    return rows.drop(ROW), least if isinstance(least, datetime) else None


def _read_bought(path: Path) -> pl.DataFrame:
    table = read_table(path, ("customer_id", "item_id", "timestamp"))
    table = text_columns(table, "customer_id", "item_id")
    columns = [
        Column("customer_id", pl.col("customer_id"), bad_id("customer_id"), ID_RULE),
        Column("item_id", pl.col("item_id"), bad_id("item_id"), ID_RULE),
        timestamp_column(table, "timestamp"),
    ]
    problems = list(table.ragged)
    for column in columns:
        problems += table.problems(column.bad, column.name, column.allowed)
    _refuse(path, problems)
    return table.rows.select(column.value.alias(column.name) for column in columns)


def _again(table: Table, keys: list[str], column: str, allowed: str) -> list[Problem]:
    return table.problems(~pl.struct(keys).is_first_distinct(), column, allowed)


def _differing_stores(table: Table) -> list[Problem]:
    first = pl.col("store_id").first().over("customer_id")
    return table.problems(
        pl.col("store_id").ne_missing(first), "store_id", "the same in all rows of a customer"
    )


def _refuse(path: Path, problems: list[Problem]) -> None:
    problems.sort(key=lambda problem: problem.row)
    refuse_problems(str(path), problems, "")


def _numbered(rows: pl.DataFrame, customer_ids: list[str], item_ids: list[str]) -> pl.DataFrame:
    """Add the columns ``customer`` and ``item``: places in the lists of ids."""
    for name, ids, column in (
        ("customer_id", customer_ids, "customer"),
        ("item_id", item_ids, "item"),
    ):
        numbers = np.arange(len(ids), dtype=np.int32)
        rows = rows.join(
            pl.DataFrame({name: pl.Series(ids, dtype=pl.String), column: numbers}), on=name
        )
    return rows


def _laid_out(rows: pl.DataFrame, customer_ids: list[str]) -> tuple[Rows, npt.NDArray[np.int32]]:
    counts = np.bincount(rows["customer"].to_numpy(), minlength=len(customer_ids))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return offsets, rows["item"].to_numpy()


def _stores_of_rows(rows: pl.DataFrame) -> dict[str, list[str]]:
    named = rows.filter(pl.col("store_id").is_not_null()).unique("customer_id")
    return {customer: [store] for customer, store in named["customer_id", "store_id"].iter_rows()}


def _stores_of_bundle(bundle: Bundle) -> dict[str, list[str]]:
    return {
        customer: list(stores)
        for block in bundle.customers()
        for customer, stores in zip(block.customer_ids, block.stores, strict=True)
    }
