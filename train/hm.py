"""Import of the files of Kaggle's competition "H&M Personalized Fashion Recommendations".

The full ``transactions_train.csv`` has 31.8 million rows, 3.5 GB of text. It is read a piece at a
time into columns of numbers, ids as places in their sorted list: 21 bytes a row. Ids are text again
only as the dataset is written.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl

from c2rec.runtime.errors import DataError
from c2rec.train.columns import ID_RULE, bad_id
from c2rec.train.tables import (
    Problem,
    Scan,
    Table,
    read_table,
    refuse_problems,
    refuse_to_replace,
    scan_table,
    write_dataset,
)

ItemKind: TypeAlias = Literal["product", "article"]

_TRANSACTIONS = ("t_dat", "customer_id", "article_id", "price", "sales_channel_id")
_CHANNELS = ("offline", "online")
"""By ``sales_channel_id``, from 1."""
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
    transactions: Path,
    articles: Path,
    out: Path,
    *,
    item: ItemKind,
    force: bool = False,
    report: Callable[[str], None] = lambda _: None,
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
        report: called with what is being done.

    Raises:
        DataError: a file is missing, a column, or a value can't be used; or ``out`` holds a
            dataset already.
    """
    refuse_to_replace(out, force=force)
    listed = read_table(articles, ("article_id", *_ITEM_COLUMNS))
    if (kind := listed.rows.schema["article_id"]) != pl.String:  # of a Parquet file
        raise DataError(f"{articles}: article_id is {kind}; allowed: text, leading zeros included")
    report("counting the fields of purchases")
    scan = scan_table(transactions, _TRANSACTIONS)
    refuse_problems(str(articles), _article_problems(listed), "")
    listed_rows = listed.rows.sort("article_id")
    item_ids = listed_rows["article_id"]
    if item == "product":
        item_ids = item_ids.str.head(-_SUFFIX)
    report("reading purchases")
    rows = _read(scan, listed_rows["article_id"], item_ids, listed.path.name)
    report("adding up purchases")
    days = rows.sort("timestamp", maintain_order=True).partition_by("timestamp")
    del rows
    # in one piece, or the file would have a page for each day
    purchases = pl.concat([_add_up(day) for day in days]).rechunk()
    report("writing the dataset")
    items = listed_rows.select(
        item_id=item_ids, **{new: pl.col(old) for old, new in _ITEM_COLUMNS.items()}
    ).unique("item_id", keep="first", maintain_order=True)
    sold = purchases["item_id"].unique().cast(pl.String).implode()
    text = pl.col("customer_id", "item_id", "channel").cast(pl.String)
    write_dataset(
        out, purchases.lazy().with_columns(text), items.filter(pl.col("item_id").is_in(sold))
    )


def _read(scan: Scan, article_ids: pl.Series, item_ids: pl.Series, listed_in: str) -> pl.DataFrame:
    """Read and check purchases.

    Args:
        scan: of ``transactions_train.csv``.
        article_ids: those that there are, String, sorted.
        item_ids: the item of each, String.
        listed_in: the file that they are from.

    Returns:
        customer_id, item_id and channel, Enum in the order of their text; timestamp, Date; price,
        Float64.

    Raises:
        DataError: values can't be used; the first are shown.
    """
    values = _values(article_ids)
    rows = scan.collect(*(value.alias(name) for name, value in values.items()))
    customers = rows["customer_id"].unique()
    customer_ids = customers.cast(pl.String)
    bad = customer_ids.to_frame().select(bad_id("customer_id").any()).item()
    if bad or scan.ragged.height or any(rows.null_count().row(0)):
        problems, number = scan.problems(_rules(values, listed_in))
        refuse_problems(str(scan.path), problems, "", number)
    customer = pl.col("customer_id").to_physical()  # a cast to Enum took four times as long
    return rows.select(
        customer.replace_strict(customers.to_physical(), _enum(customer_ids)),
        _enum(item_ids).gather(rows["article_id"].to_physical()).alias("item_id"),
        _enum(pl.Series(_CHANNELS)).gather(rows["sales_channel_id"].to_physical()).alias("channel"),
        pl.col("t_dat").alias("timestamp"),
        "price",
    )


def _add_up(rows: pl.DataFrame) -> pl.DataFrame:
    return (
        rows.group_by("customer_id", "item_id", "channel", "timestamp")
        .agg(quantity=pl.len().cast(pl.Int64), price=pl.col("price").mean())
        .sort("timestamp", "customer_id", "channel", "item_id")
    )


def _enum(text: pl.Series) -> pl.Series:
    return text.cast(pl.Enum(text.unique().sort()))


def _article_problems(listed: Table) -> list[Problem]:
    short = pl.col("article_id").str.len_chars() <= _SUFFIX
    again = ~pl.col("article_id").is_first_distinct()
    problems = [
        *listed.ragged,
        *listed.problems(bad_id("article_id"), "article_id", ID_RULE),
        *listed.problems(short, "article_id", f"more than {_SUFFIX} characters"),
        *listed.problems(again & ~bad_id("article_id"), "article_id", "each article once"),
    ]
    return sorted(problems, key=lambda problem: problem.row)


def _values(article_ids: pl.Series) -> dict[str, pl.Expr]:
    """Say how each column is read; null where it can't be used, but for customers' ids."""
    day = pl.col("t_dat").str.to_date("%Y-%m-%d", strict=False)
    iso = pl.col("t_dat").str.contains(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
    price = pl.col("price").cast(pl.Float64, strict=False)
    return {
        "t_dat": pl.when(iso & day.dt.year().is_between(1970, 2099)).then(day),
        "customer_id": pl.col("customer_id").cast(pl.Categorical),
        "article_id": pl.col("article_id").cast(pl.Enum(article_ids), strict=False),
        "price": pl.when(price.is_finite() & (price >= 0)).then(price),
        "sales_channel_id": pl.col("sales_channel_id").cast(pl.Enum(["1", "2"]), strict=False),
    }


def _rules(values: dict[str, pl.Expr], listed_in: str) -> dict[str, tuple[pl.Expr, str]]:
    """For each column, what is true where its value can't be used, and what is allowed."""
    allowed = {
        "t_dat": "a date from 1970 to 2099, such as 2020-07-27",
        "customer_id": ID_RULE,
        "article_id": f"an article_id of {listed_in}, leading zeros included",
        "price": "a number from 0",
        "sales_channel_id": "1 (store) or 2 (online)",
    }
    bad = {name: value.is_null() for name, value in values.items()}
    bad["customer_id"] = bad_id("customer_id")
    return {name: (bad[name], allowed[name]) for name in values}
