"""Import of the files of Kaggle's competition "H&M Personalized Fashion Recommendations"."""

from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl

from c2rec.train.columns import ID_RULE, bad_id
from c2rec.train.tables import (
    Problem,
    Table,
    read_table,
    refuse_problems,
    refuse_to_replace,
    write_dataset,
)

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
    listed = read_table(articles, ("article_id", *_ITEM_COLUMNS))
    table = read_table(transactions, _TRANSACTIONS)
    refuse_problems(str(articles), _article_problems(listed), "")
    refuse_problems(str(transactions), _problems(table, listed), "")

    item_id = pl.col("article_id")
    if item == "product":
        item_id = item_id.str.head(-_SUFFIX)
    purchases = (
        table.rows.select(
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
        listed.rows.sort("article_id")
        .select(item_id=item_id, **{new: pl.col(old) for old, new in _ITEM_COLUMNS.items()})
        .unique("item_id", keep="first", maintain_order=True)
    )
    sold = purchases["item_id"].unique().implode()
    write_dataset(out, purchases, items.filter(pl.col("item_id").is_in(sold)))


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


def _problems(table: Table, listed: Table) -> list[Problem]:
    price = pl.col("price").cast(pl.Float64, strict=False)
    day = pl.col("t_dat").str.to_date("%Y-%m-%d", strict=False)
    iso = pl.col("t_dat").str.contains(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
    known = pl.col("article_id").is_in(listed.rows["article_id"].implode())
    rules = {
        "t_dat": (
            iso & day.dt.year().is_between(1970, 2099),
            "a date from 1970 to 2099, such as 2020-07-27",
        ),
        "customer_id": (~bad_id("customer_id"), ID_RULE),
        "article_id": (
            known,
            f"an article_id of {listed.path.name}, leading zeros included",
        ),
        "price": (price.is_finite() & (price >= 0), "a number from 0"),
        "sales_channel_id": (
            pl.col("sales_channel_id").is_in(list(_CHANNELS)),
            "1 (store) or 2 (online)",
        ),
    }
    problems = list(table.ragged)
    for column, (good, allowed) in rules.items():
        problems += table.problems(~good.fill_null(value=False), column, allowed)
    return sorted(problems, key=lambda problem: problem.row)
