"""From collected events to tables: what ``c2rec-train`` reads, and what experiments need.

| file | |
| --- | --- |
| transactions.parquet | purchases of known customers, as ``c2rec-train`` reads them |
| anonymous.parquet | purchases of nobody known, with their session |
| impressions.parquet | one row per item of every event: what was shown, tapped, bought, dismissed |
| held.parquet | purchases that can't be so, with the reason; they are in none of the above |

A time that can't be so, as of a kiosk whose clock was not set yet, is put right where another event
of the same start of the machine tells what the clock that nobody sets was worth.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from c2rec.train.columns import MAX_QUANTITY
from c2rec.train.tables import write_table

PATIENCE = 400 * 86_400_000
"""Milliseconds that an event may wait before it arrives."""
AHEAD = 86_400_000
"""Milliseconds that a kiosk's clock may be ahead."""
MAX_PER_HOUR = 5_000
"""Units that one kiosk may sell in an hour."""
_ITEM = pl.List(pl.String)
_COLUMNS = {
    "event_id": pl.String,
    "kind": pl.String,
    "at": pl.Int64,
    "clock": pl.Int64,
    "boot": pl.String,
    "store": pl.String,
    "device": pl.String,
    "customer": pl.String,
    "body": pl.String,
    "arrived": pl.Int64,
    "sender": pl.String,
}
_BODY = pl.Struct(
    {
        "channel": pl.String,
        "session": pl.String,
        "release": pl.String,
        "tier": pl.String,
        "path": pl.String,
        "arm": pl.String,
        "model": pl.String,
        "items": pl.List(_ITEM),
    }
)


@dataclass(frozen=True, slots=True)
class Written:
    """What the tables hold."""

    transactions: int
    """Rows of transactions.parquet."""
    anonymous: int
    impressions: int
    held: Mapping[str, int]
    """Rows of held.parquet by reason: ``clock``, ``rate``, ``unknown``."""
    mended: int
    """Events whose time was put right."""


def write_tables(
    db: sqlite3.Connection,
    folder: Path,
    *,
    items: frozenset[str] | None = None,
    customers: Mapping[str, str] | None = None,
    max_per_hour: int = MAX_PER_HOUR,
) -> Written:
    """Write all four tables anew.

    Args:
        db: ``collected.db``.
        folder: where.
        items: ids that are known; None: all are.
        customers: customer ids by pseudonym; who is not in it keeps the pseudonym.
        max_per_hour: units that one kiosk may sell in an hour; all of an hour with more is held.
    """
    events = _mend(_read(db))
    mended = int(events["mended"].sum())
    rows = _rows(events, customers)
    bought = _held(rows.filter(pl.col("kind") == "bought"), items, max_per_hour)
    good = bought.filter(pl.col("held").is_null())
    transactions = _purchases(good.filter(pl.col("customer_id").is_not_null()), "customer_id")
    anonymous = _purchases(good.filter(pl.col("customer_id").is_null()), "session")
    doubtful = bought.filter(pl.col("held").is_not_null()).sort("timestamp", "event_id", "item_id")
    impressions = rows.sort("timestamp", "event_id", maintain_order=True)
    for name, table in (
        ("anonymous", anonymous),
        ("impressions", impressions.drop("arrived", "sender", "mended")),
        ("held", doubtful.drop("arrived", "sender", "impossible", "mended", "position")),
        ("transactions", transactions),
    ):
        write_table(folder / f"{name}.parquet", table)
    held = doubtful.group_by("held").len().sort("held")
    return Written(
        transactions.height, anonymous.height, impressions.height, dict(held.iter_rows()), mended
    )


def _read(db: sqlite3.Connection) -> pl.DataFrame:
    cursor = db.execute(
        "SELECT event_id, kind, at, clock, boot, events.store, events.device, customer, body,"
        " arrived, batches.store || char(0) || batches.device"
        " FROM events JOIN batches ON batches.id = batch ORDER BY events.rowid"
    )
    parts = [pl.DataFrame(schema=_COLUMNS)]
    while rows := cursor.fetchmany(100_000):
        parts.append(pl.DataFrame(rows, schema=_COLUMNS, orient="row"))
    return pl.concat(parts)


def _mend(events: pl.DataFrame) -> pl.DataFrame:
    """Add ``mended`` and ``impossible``, and put right the times that can be."""
    right = pl.col("at").is_between(pl.col("arrived") - PATIENCE, pl.col("arrived") + AHEAD)
    start = ["store", "device", "boot"]
    # the last one: a clock is set once the network is there, and seldom after
    started = events.filter(right).group_by(start, maintain_order=True)
    known = started.agg(started=(pl.col("at") - pl.col("clock")).last())
    better = pl.col("started") + pl.col("clock")
    fits = better.is_between(pl.col("arrived") - PATIENCE, pl.col("arrived") + AHEAD)
    mended = ~right & fits.fill_null(value=False)
    return (
        events.join(known, on=start, how="left", maintain_order="left")
        .with_columns(
            at=pl.when(mended).then(better).otherwise("at"),
            mended=mended,
            impossible=~right & ~fits.fill_null(value=False),
        )
        .drop("started")
    )


def _rows(events: pl.DataFrame, customers: Mapping[str, str] | None) -> pl.DataFrame:
    """Make a row for every item of every event."""
    customer = pl.col("customer")
    if customers:
        customer = customer.replace(list(customers), list(customers.values()))
    item = pl.col("items").list
    return (
        events.with_columns(pl.col("body").str.json_decode(_BODY))
        .unnest("body")
        .explode("items", empty_as_null=False)
        .select(
            "event_id",
            "kind",
            customer_id=customer,
            item_id=item.get(0),
            channel="channel",
            timestamp=pl.from_epoch("at", "ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC"),
            quantity=item.get(2).cast(pl.Int64),
            price=item.get(3).cast(pl.Float64),
            store_id="store",
            device="device",
            position=item.get(1).cast(pl.Int64),
            session="session",
            release="release",
            tier="tier",
            path="path",
            arm="arm",
            model="model",
            arrived="arrived",
            sender="sender",
            impossible="impossible",
            mended="mended",
        )
    )


def _held(bought: pl.DataFrame, items: frozenset[str] | None, max_per_hour: int) -> pl.DataFrame:
    """Add ``held``: why a purchase can't be so, or null."""
    # by who has proved to be the sender: where it happened, anybody may claim
    hour = [pl.col("timestamp").dt.truncate("1h"), "sender"]
    rate = pl.col("quantity").fill_null(1).sum().over(hour) > max_per_hour
    known = pl.lit(value=True) if items is None else pl.col("item_id").is_in(list(items))
    return bought.with_columns(
        held=pl.when("impossible")
        .then(pl.lit("clock"))
        .when(rate)
        .then(pl.lit("rate"))
        .when(~known)
        .then(pl.lit("unknown"))
    )


def _purchases(bought: pl.DataFrame, who: str) -> pl.DataFrame:
    """Lay purchases out as training reads them: what is the same but for the quantity, added up."""
    names = [who, "item_id", "channel", "timestamp", "price", "store_id"]
    added = pl.col("quantity").fill_null(1).sum().clip(upper_bound=MAX_QUANTITY)
    table = bought.group_by(names).agg(quantity=added)
    return table.select(*names[:4], "quantity", *names[4:]).sort(
        "timestamp", who, "item_id", "store_id", "channel", "price", nulls_last=True
    )
