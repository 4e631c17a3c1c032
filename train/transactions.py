"""Purchases and items from Parquet or CSV, read and checked.

A dataset is a folder with ``transactions.parquet`` or ``transactions.csv`` and, optionally,
``items.parquet`` or ``items.csv``:

| transactions | |
| --- | --- |
| customer_id, item_id | text, or whole numbers, which are read as text |
| channel | ``offline`` or ``online`` |
| timestamp | a date or a date and time; without a zone it is UTC |
| quantity | optional, a whole number from 1, 1 where empty |
| price | optional, a number from 0 |
| store_id | optional, text |

Items have ``item_id`` and any further columns, read as text; ``name`` is what people are shown.
Other columns of transactions are ignored, unless they look like one of these written otherwise.
Nothing is dropped in silence: a bad row is an error, and so is one that says the same as an
earlier row in all of these columns.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from c2rec.runtime.errors import DataError
from c2rec.runtime.records import CHANNELS
from c2rec.train.columns import (
    ID_RULE,
    OPTIONAL,
    REQUIRED,
    bad_id,
    text_columns,
    transaction_columns,
)
from c2rec.train.tables import ROW, Problem, Table, read_table, refuse_problems


@dataclass(frozen=True, slots=True)
class Dataset:
    """Checked transactions and items."""

    transactions: pl.DataFrame
    """customer_id, item_id, channel, store_id String; timestamp Datetime[μs, UTC]; quantity
    Int64; price Float64; store_id and price may be null."""
    items: pl.DataFrame | None
    """item_id and further columns, all String without nulls."""
    fingerprint: str
    """sha256 of the files, hex."""


Facts = dict[str, int | str]


def read_dataset(folder: Path) -> Dataset:
    """Read a dataset.

    Raises:
        DataError: a file is missing or unreadable, or rows are bad; the first are shown.
    """
    dataset, problems = _read(folder)
    advice = f"\nSee them all with: c2rec-train validate {folder}"
    refuse_problems(str(folder), problems, advice)
    return dataset


def find_problems(folder: Path) -> tuple[list[Problem], Facts | None]:
    """Check a dataset.

    Returns:
        Every bad row, by file and row, and where there is none, what the dataset holds.

    Raises:
        DataError: a file is missing or can't be read as a table with the columns needed.
    """
    dataset, problems = _read(folder)
    return problems, None if problems else facts(dataset)


def facts(dataset: Dataset) -> Facts:
    """Count what a dataset holds."""
    table = dataset.transactions
    per_channel = table.group_by("customer_id").agg(pl.col("channel").n_unique() > 1)
    days = table["timestamp"].dt.date()
    counts: Facts = {
        "transactions": table.height,
        "customers": per_channel.height,
        "items": table["item_id"].n_unique(),
    }
    for name in CHANNELS:
        counts[f"{name}_transactions"] = table.filter(pl.col("channel") == name).height
    counts["customers_in_both_channels"] = int(per_channel["channel"].sum())
    counts["first_day"], counts["last_day"] = str(days.min()), str(days.max())
    return counts


def _read(folder: Path) -> tuple[Dataset, list[Problem]]:
    """Read a dataset; where there are problems, it lacks the rows that have them."""
    path, items_path = _find(folder, "transactions"), _find(folder, "items")
    if path is None:
        raise DataError(
            f"{folder}: has no transactions.parquet or transactions.csv; "
            "make them with c2rec-train simulate or import-hm, or write your own"
        )
    items, problems = (None, []) if items_path is None else _check_items(items_path)
    transactions, found = _check_transactions(path, items_path, items)
    paths = [each for each in (path, items_path) if each is not None]
    return Dataset(transactions, items, _fingerprint(paths)), problems + found


def _find(folder: Path, stem: str) -> Path | None:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    found = [path for path in (folder / f"{stem}.parquet", folder / f"{stem}.csv") if path.exists()]
    if len(found) > 1:
        raise DataError(f"{folder}: has both {stem}.parquet and {stem}.csv; keep one")
    return found[0] if found else None


def _fingerprint(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _check_items(path: Path) -> tuple[pl.DataFrame, list[Problem]]:
    table = text_columns(read_table(path, ["item_id"], None), "item_id")
    for name, dtype in table.rows.schema.items():
        if dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Duration):
            raise DataError(f"{path}: column '{name}' is {dtype}; allowed: text, numbers, dates")
    again = ~pl.col("item_id").is_first_distinct() & ~bad_id("item_id")
    problems = [
        *table.ragged,
        *table.problems(bad_id("item_id"), "item_id", ID_RULE),
        *table.problems(again, "item_id", "each item_id once"),
    ]
    problems.sort(key=lambda problem: problem.row)
    return table.rows.drop(ROW).with_columns(pl.all().cast(pl.String).fill_null("")), problems


def _check_transactions(
    path: Path, items_path: Path | None, items: pl.DataFrame | None
) -> tuple[pl.DataFrame, list[Problem]]:
    table = read_table(path, REQUIRED, OPTIONAL)
    table = text_columns(table, "customer_id", "item_id", "channel", "store_id")
    columns = transaction_columns(table)
    problems = list(table.ragged)
    for column in columns:
        if column.name in table.rows.columns:
            problems += table.problems(column.bad, column.name, column.allowed)
    bad = pl.Series([problem.row for problem in problems], dtype=pl.UInt32)
    good = table.rows.filter(~pl.col(ROW).is_in(bad.implode())) if problems else table.rows
    good = good.select(ROW, *(column.value.alias(column.name) for column in columns))
    table = Table(path, good, [], table.lines)
    if items is not None and items_path is not None:
        known = pl.col("item_id").is_in(items["item_id"].implode())
        problems += table.problems(~known, "item_id", f"an item_id of {items_path.name}")
    problems += _repeated(table)
    problems.sort(key=lambda problem: problem.row)
    return good.drop(ROW), problems


def _repeated(table: Table) -> list[Problem]:
    """Rows that equal an earlier one in every column."""
    values = table.rows.drop(ROW)
    hashes = values.hash_rows(seed=0)
    if hashes.n_unique() == len(hashes):  # the usual case, without comparing rows
        return []
    suspects = table.rows.filter(hashes.is_duplicated())
    first = suspects.group_by(values.columns).agg(first=pl.col(ROW).min())
    pairs = suspects.join(first, on=values.columns, nulls_equal=True).filter(
        pl.col(ROW) > pl.col("first")
    )
    allowed = "each row once; add them up in the column quantity"
    return [
        table.problem(row, "row", f"the same as row {earlier}", allowed)
        for row, earlier in pairs.select(ROW, "first").iter_rows()
    ]
