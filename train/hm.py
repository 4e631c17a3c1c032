"""Import of the files of Kaggle's competition "H&M Personalized Fashion Recommendations"."""

import os
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl

from c2rec.runtime.errors import DataError
from c2rec.train.transactions import SHOWN, Problem, read_table, require_columns

ItemKind: TypeAlias = Literal["product", "article"]

_TRANSACTIONS = ("t_dat", "customer_id", "article_id", "price", "sales_channel_id")
_CHANNELS = {"1": "offline", "2": "online"}
_ITEM_COLUMNS = {
    "prod_name": "name",
    "product_type_name": "product_type",
    "product_group_name": "product_group",
    "graphical_appearance_name": "appearance",
    "colour_group_name": "colour",
    "department_name": "department",
    "index_name": "index",
    "index_group_name": "index_group",
    "section_name": "section",
    "garment_group_name": "garment_group",
    "detail_desc": "description",
}
_SUFFIX = 3
"""Digits of an article id that tell apart the articles of one product."""


def import_hm(
    transactions: Path, articles: Path, out: Path, *, item: ItemKind, force: bool = False
) -> None:
    """Write the dataset of the competition's files.

    Rows of one customer, item, channel and day become one, with their number as quantity and
    their mean as price. With ``item="product"`` an item's columns are those of its first
    article by id; two items may then have one name.

    Args:
        transactions: ``transactions_train.csv``.
        articles: ``articles.csv``.
        out: folder for ``transactions.parquet`` and ``items.parquet``.
        item: what one item is; ``product`` is the article id without its last three digits.
        force: replace a dataset that is there.

    Raises:
        DataError: a file is missing, a column, or a value can't be used; or ``out`` holds a
            dataset already.
    """
    refuse_to_replace(out, force=force)
    table, listed = read_table(transactions), read_table(articles)
    require_columns(transactions, table, _TRANSACTIONS)
    require_columns(articles, listed, ("article_id", *_ITEM_COLUMNS))
    _refuse(_bad_rows(transactions.name, table, articles, listed))

    item_id = pl.col("article_id")
    if item == "product":
        item_id = item_id.str.head(-_SUFFIX)
    purchases = (
        table.select(
            "customer_id",
            item_id=item_id,
            channel=pl.col("sales_channel_id").replace_strict(_CHANNELS),
            timestamp=pl.col("t_dat").str.to_date("%Y-%m-%d"),
            price=pl.col("price").cast(pl.Float64),
        )
        .group_by("customer_id", "item_id", "channel", "timestamp")
        .agg(quantity=pl.len().cast(pl.Int64), price=pl.col("price").mean())
        .sort("timestamp", "customer_id", "channel", "item_id")
    )
    items = (
        listed.sort("article_id")
        .select(item_id=item_id, **{new: pl.col(old) for old, new in _ITEM_COLUMNS.items()})
        .unique("item_id", keep="first", maintain_order=True)
    )
    sold = purchases["item_id"].unique().implode()
    write_dataset(out, purchases, items.filter(pl.col("item_id").is_in(sold)))


def refuse_to_replace(out: Path, *, force: bool) -> None:
    """Make sure that writing a dataset destroys none.

    Raises:
        DataError: the folder holds transactions or items, and ``force`` is not given.
    """
    for name in ("transactions", "items"):
        for suffix in (".parquet", ".csv"):
            path = out / f"{name}{suffix}"
            if path.exists() and not (force and suffix == ".parquet"):
                raise DataError(f"{path}: is there already; choose another --out, or --force")


def write_dataset(out: Path, transactions: pl.DataFrame, items: pl.DataFrame) -> None:
    """Write both tables as Parquet, each whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    for name, table in (("items", items), ("transactions", transactions)):
        path = out / f"{name}.parquet"
        temporary = path.with_name(path.name + ".tmp")
        table.write_parquet(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    folder = os.open(out, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _bad_rows(
    file: str, table: pl.DataFrame, articles: Path, listed: pl.DataFrame
) -> list[Problem]:
    numbered = table.with_row_index("row", offset=1)
    price = pl.col("price").cast(pl.Float64, strict=False)
    day = pl.col("t_dat").str.to_date("%Y-%m-%d", strict=False)
    rules = {
        "t_dat": (day.is_not_null(), "a date such as 2020-07-27"),
        "customer_id": (pl.col("customer_id") != "", "an id"),
        "article_id": (
            pl.col("article_id").is_in(listed["article_id"].implode()),
            f"an article_id of {articles.name}, leading zeros included",
        ),
        "price": (price.is_finite() & (price >= 0), "a number from 0"),
        "sales_channel_id": (
            pl.col("sales_channel_id").is_in(list(_CHANNELS)),
            "1 (store) or 2 (online)",
        ),
    }
    problems = []
    for column, (good, allowed) in rules.items():
        bad = numbered.filter(~good.fill_null(value=False)).select("row", column)
        problems += [
            Problem(file, row, column, "empty" if value is None else repr(value), allowed)
            for row, value in bad.iter_rows()
        ]
    short = listed.with_row_index("row", offset=1).filter(
        pl.col("article_id").fill_null("").str.len_chars() <= _SUFFIX
    )
    allowed = f"more than {_SUFFIX} characters"
    problems += [
        Problem(articles.name, row, "article_id", repr(value), allowed)
        for row, value in short.select("row", "article_id").iter_rows()
    ]
    return sorted(problems, key=lambda problem: problem.row)


def _refuse(problems: list[Problem]) -> None:
    if problems:
        shown = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
        more = f"\n  … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(f"{len(problems)} values can't be used:{shown}{more}")
