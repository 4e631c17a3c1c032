"""What importing Kaggle's H&M files costs at their full size: seconds and peak memory.

Run from the checkout::

    python -m benchmarks.import_size draw FOLDER [--rows 31800000 --customers 1370000]
    python -m benchmarks.import_size measure FOLDER [--threads 1]

``draw`` writes ``transactions_train.csv``, 3.5 GB, and ``articles.csv`` in the competition's
layout: ids of 64 hex digits, two years of days in order, prices of full length, one row in eleven
like the one before. ``measure`` runs each of these in a process of its own, so that its peak memory
can be told: polars counting the file's letters; copying it into Parquet as it is; polars alone
adding up purchases as the import does, from text that nobody checked; the import of products, and
of articles; reading the dataset of products. The first three are in polars' streaming engine.
Seconds of the processor are compared, which other work on the machine changes least.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from c2rec.train.hm import ItemKind, import_hm
from c2rec.train.transactions import read_dataset

DAYS = 734
FIRST_DAY = date(2018, 9, 20)
MEMORY_LIMIT = 4.0
"""GB that an import may take."""
TIME_LIMIT = 2.0
"""Most that an import may take, as a multiple of polars alone."""
STEPS = ("letters", "copy", "polars", "product", "article", "read")
_COLUMNS = (
    *("product_code", "prod_name", "product_type_no", "product_type_name", "product_group_name"),
    *("graphical_appearance_no", "graphical_appearance_name", "colour_group_code"),
    *("colour_group_name", "perceived_colour_value_id", "perceived_colour_value_name"),
    *("perceived_colour_master_id", "perceived_colour_master_name", "department_no"),
    *("department_name", "index_code", "index_name", "index_group_no", "index_group_name"),
    *("section_no", "section_name", "garment_group_no", "garment_group_name"),
)
"""Of ``articles.csv``, between ``article_id`` and ``detail_desc``."""


def draw(folder: Path, *, customers: int, items: int, rows: int, seed: int = 1) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ids = pl.Series([hashlib.sha256(b"%d" % each).hexdigest() for each in range(customers)])
    number = np.arange(items)  # two articles of a product
    articles = (
        pl.Series((108_775 + number // 2) * 1000 + number % 2 + 1).cast(pl.String).str.zfill(10)
    )
    _articles(articles).write_csv(folder / "articles.csv")
    prices = pl.Series(rng.integers(1, 6000, items) / 118_000 + 0.0001).cast(pl.String)
    chances = np.cumsum(1 / (np.arange(items) + 10.0) ** 0.9)
    with (folder / "transactions_train.csv").open("wb") as file:
        for day in range(DAYS):
            count = rows * (day + 1) // DAYS - rows * day // DAYS
            who = np.sort(rng.integers(0, customers, count))
            what = np.searchsorted(chances / chances[-1], rng.random(count))
            channel = rng.integers(1, 3, count)
            again = np.flatnonzero(rng.random(count - 1) < 1 / 11) + 1
            for each in (who, what, channel):
                each[again] = each[again - 1]
            pl.DataFrame(
                {
                    "t_dat": pl.repeat(FIRST_DAY + timedelta(day), count, eager=True),
                    "customer_id": ids.gather(who),
                    "article_id": articles.gather(what),
                    "price": prices.gather(what),
                    "sales_channel_id": channel,
                }
            ).write_csv(file, include_header=day == 0)


def _articles(article_id: pl.Series) -> pl.DataFrame:
    """Make a table with the competition's columns."""
    number = article_id.cast(pl.Int64) % 97
    return pl.DataFrame(
        {
            "article_id": article_id,
            **{name: f"{name} " + number.cast(pl.String) for name in _COLUMNS},
            "detail_desc": pl.repeat("Soft, light jersey. " * 6, len(article_id), eager=True),
        }
    )


def unchecked(transactions: Path) -> pl.LazyFrame:
    """What an import of products writes, if all is well."""
    purchases = pl.scan_csv(transactions, infer_schema=False).select(
        "customer_id",
        item_id=pl.col("article_id").str.head(-3),
        channel=pl.col("sales_channel_id").replace_strict({"1": "offline", "2": "online"}),
        timestamp=pl.col("t_dat").str.to_date("%Y-%m-%d"),
        price=pl.col("price").cast(pl.Float64),
    )
    added = purchases.group_by("customer_id", "item_id", "channel", "timestamp").agg(
        quantity=pl.len().cast(pl.Int64), price=pl.col("price").mean()
    )
    return added.sort("timestamp", "customer_id", "channel", "item_id")


def step(what: str, folder: Path) -> None:
    """Do one of ``STEPS``."""
    transactions = folder / "transactions_train.csv"
    if what == "letters":
        table = pl.scan_csv(transactions, infer_schema=False)
        table.select(pl.all().str.len_bytes().sum()).collect(engine="streaming")
    elif what == "copy":
        pl.scan_csv(transactions, infer_schema=False).sink_parquet(folder / "copy.parquet")
        (folder / "copy.parquet").unlink()
    elif what == "polars":
        unchecked(transactions).sink_parquet(folder / "polars.parquet")
        (folder / "polars.parquet").unlink()
    elif what == "read":
        read_dataset(folder / "product")
    else:
        item: ItemKind = "product" if what == "product" else "article"
        import_hm(transactions, folder / "articles.csv", folder / what, item=item, force=True)


def measure(folder: Path, threads: int) -> bool:
    """Do each step in a process of its own, and print what it took."""
    met, spent = True, dict[str, float]()
    environment = os.environ | {"POLARS_MAX_THREADS": str(threads)}
    for what in STEPS:
        command = [sys.executable, "-m", "benchmarks.import_size", what, str(folder)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
        found = json.loads(done.stdout)
        spent[what] = found["cpu"]
        print(
            f"{what:8} {found['cpu']:6.1f} s of the processor, {found['seconds']:6.1f} s; "
            f"peak {found['peak']:.1f} GB",
            flush=True,
        )
        if what in ("product", "article"):
            ratio = spent[what] / spent["polars"]
            print(
                f"{'':8} {ratio:.2f} of polars alone, {spent[what] / spent['copy']:.2f} of copying"
            )
            met &= ratio <= TIME_LIMIT and found["peak"] <= MEMORY_LIMIT
    print(f"limits {TIME_LIMIT} and {MEMORY_LIMIT} GB: {'met' if met else 'MISSED'}")
    return met


def main() -> None:
    """Draw, or measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["draw", "measure", *STEPS])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--customers", type=int, default=1_370_000)
    parser.add_argument("--items", type=int, default=105_000)
    parser.add_argument("--rows", type=int, default=31_800_000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.what == "draw":
        draw(options.folder, customers=options.customers, items=options.items, rows=options.rows)
    elif options.what == "measure":
        sys.exit(0 if measure(options.folder, options.threads) else 1)
    else:
        started = time.perf_counter()
        step(options.what, options.folder)
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6
        print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak}))


if __name__ == "__main__":
    main()
