"""Datasets made one: what tills and the web shop know, and what kiosks told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from c2rec.runtime.errors import DataError
from c2rec.train.columns import OPTIONAL, REQUIRED
from c2rec.train.tables import refuse_to_replace, write_dataset, write_table
from c2rec.train.transactions import Dataset, read_dataset

_SAME = [*REQUIRED, "price", "store_id"]
"""Purchases that are equal in these are one."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What was written."""

    transactions: int
    repeated: int
    """Rows that an earlier dataset has as well; those of the last one are kept."""
    shared_customers: int
    """Customers of the first dataset whom another one has as well."""


def join(folders: Sequence[Path], out: Path, *, force: bool = False) -> Joined:
    """Write a dataset with the purchases of several.

    A purchase that several have is there once, with the quantity of the last: so what was joined
    can be joined again with what was collected since.

    Args:
        folders: two or more; the first with items, or none.
        out: folder, made if need be.
        force: replace a dataset that is there.

    Raises:
        DataError: one can't be read, a purchase is of an item that the first doesn't list,
            another one has items too, or ``out`` holds a dataset.
    """
    refuse_to_replace(out, force=force)
    datasets = [read_dataset(folder) for folder in folders]
    items = datasets[0].items
    for folder, dataset in zip(folders[1:], datasets[1:], strict=True):
        _check(folder, dataset, items, folders[0])
    columns = [*REQUIRED, *OPTIONAL]
    rows = pl.concat([dataset.transactions.select(columns) for dataset in datasets])
    joined = rows.unique(_SAME, keep="last", maintain_order=True)
    joined = joined.sort("timestamp", "customer_id", "channel", "item_id", maintain_order=True)
    if items is None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "items.parquet").unlink(missing_ok=True)
        write_table(out / "transactions.parquet", joined)
    else:
        write_dataset(out, joined, items)
    others = pl.concat([each.transactions.select("customer_id") for each in datasets[1:]])
    first = datasets[0].transactions.select("customer_id").unique()
    return Joined(
        transactions=joined.height,
        repeated=rows.height - joined.height,
        shared_customers=first.join(others, on="customer_id", how="semi").height,
    )


def _check(folder: Path, dataset: Dataset, items: pl.DataFrame | None, first: Path) -> None:
    if dataset.items is not None:
        raise DataError(
            f"{folder}: has items too; allowed: in the first dataset alone, {first}; name this one "
            "first, or add its items to those"
        )
    if items is None:
        return
    known = pl.col("item_id").is_in(items["item_id"].implode())
    strange = dataset.transactions.filter(~known)
    if strange.height:
        raise DataError(
            f"{folder}: {strange.height} purchases are of items that {first} doesn't list, such as "
            f"{strange['item_id'][0]!r}; add them there, or hold such purchases back with "
            f"c2rec-export collect --items {first / 'items.parquet'}"
        )
