"""A simulated experiment in stores, whose effect is known.

It writes what ``c2rec-export collect`` would have written, and beside it the purchases of the web
shop. Customers come to a kiosk for the first time at any moment of the period, are shown five
items, and buy one of them with a chance that the arm decides. Some come back, some buy online
what they saw, and some buy something else there, whatever their arm.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from c2rec.runtime.errors import DataError
from c2rec.runtime.records import CHANNELS
from c2rec.train.simulate import FIRST_DAY
from c2rec.train.tables import write_table

Ints = npt.NDArray[np.int64]

ARMS = ("main", "challenger")
NAME = "simulated"
_ITEMS = 200
_SHOWN = 5
_STORES = 10
_RETURNS, _SAW_AND_BOUGHT, _BUYS_ONLINE = 0.3, 0.08, 0.25
"""Shares of customers."""
_MINUTE, _DAY = 60, 86_400


def simulate_experiment(
    out: Path,
    *,
    customers: int = 20_000,
    days: int = 60,
    effect: float = 0.2,
    baseline: float = 0.1,
    share: float = 0.5,
    seed: int = 1,
    force: bool = False,
) -> None:
    """Write ``collected/`` and ``data/``.

    The same arguments give the same bytes.

    Args:
        out: folder, made if need be.
        customers: how many come to a kiosk.
        days: length of the period, from ``FIRST_DAY``.
        effect: of the challenger on the share of customers who buy, relative.
        baseline: the share of customers who buy, in the main arm.
        share: of the customers that are in the challenger's arm.
        seed: of everything.
        force: replace what is there.

    Raises:
        DataError: it is there already, or nobody could buy so often.
    """
    if not 0 <= baseline * (1 + effect) <= 1:
        raise DataError(
            f"a share of {baseline:g} and an effect of {effect:g} make {baseline * (1 + effect):g}"
            "; allowed: 0 to 1"
        )
    collected, data = out / "collected", out / "data"
    for folder in (collected, data):
        if folder.exists() and not force:
            raise DataError(f"{folder}: is there already; choose another --out, or add --force")
    rng = np.random.default_rng(seed)
    rows = np.arange(customers)
    arm = (rng.random(customers) < share).astype(np.int64)
    first = rng.integers(0, days * _DAY, customers)  # seconds
    saw = rng.integers(0, _ITEMS, (customers, _SHOWN))
    buys = rows[rng.random(customers) < baseline * (1 + effect * arm)]
    returns = rows[rng.random(customers) < _RETURNS]
    back = first[returns] + rng.integers(_DAY, 27 * _DAY, len(returns))
    again = rng.integers(0, _ITEMS, (len(returns), _SHOWN))
    bought = saw[buys, rng.integers(0, _SHOWN, len(buys))]
    kiosk = pl.concat(
        [
            _events("shown", np.repeat(rows, _SHOWN), saw.ravel(), np.repeat(first, _SHOWN)),
            _events("shown", np.repeat(returns, _SHOWN), again.ravel(), np.repeat(back, _SHOWN)),
            _events("bought", buys, bought, first[buys] + 20 * _MINUTE),
        ]
    )
    online = rows[rng.random(customers) < _SAW_AND_BOUGHT]
    others = rows[rng.random(customers) < _BUYS_ONLINE]
    web = pl.concat(
        [
            _events("web", online, saw[online, 0], first[online] + _later(rng, online)),
            _events("web", others, rng.integers(0, _ITEMS, len(others)), _later(rng, others, days)),
        ]
    )
    end = days * _DAY
    kiosk, web = kiosk.filter(pl.col("second") < end), web.filter(pl.col("second") < end)
    collected.mkdir(parents=True, exist_ok=True)
    data.mkdir(exist_ok=True)
    label = pl.lit([f"{NAME}/{name}" for name in ARMS]).list.get(
        pl.lit(arm).gather(pl.col("customer"))
    )
    impressions = kiosk.sort("second", "customer", "kind", maintain_order=True).select(
        event_id=pl.format("{}-{}-{}", "kind", "customer", "second"),
        kind="kind",
        customer_id=_name("C", "customer"),
        item_id=_name("P", "item"),
        timestamp=_time(),
        store_id=pl.format("S{}", pl.col("customer") % _STORES),
        device=pl.lit("k1"),
        arm=label,
        impossible=pl.lit(value=False),
    )
    write_table(collected / "impressions.parquet", impressions)
    sold = _purchases(kiosk.filter(pl.col("kind") == "bought"), CHANNELS[0])
    write_table(collected / "transactions.parquet", sold)
    everything = pl.concat([sold, _purchases(web, CHANNELS[1])]).sort("timestamp", "customer_id")
    write_table(data / "transactions.parquet", everything)


def _events(kind: str, customers: Ints, items: Ints, seconds: Ints) -> pl.DataFrame:
    return pl.DataFrame({"customer": customers, "item": items, "second": seconds}).select(
        pl.lit(kind).alias("kind"), "customer", "item", "second"
    )


def _later(rng: np.random.Generator, customers: Ints, days: int = 20) -> Ints:
    """Seconds until something, int64 (customers,): an hour and up to so many days."""
    return rng.integers(3600, days * _DAY, len(customers))


def _purchases(table: pl.DataFrame, channel: str) -> pl.DataFrame:
    return table.select(
        customer_id=_name("C", "customer"),
        item_id=_name("P", "item"),
        channel=pl.lit(channel),
        timestamp=_time(),
    ).unique(maintain_order=True)


def _time() -> pl.Expr:
    return pl.lit(FIRST_DAY).cast(pl.Datetime("us", "UTC")) + pl.duration(seconds="second")


def _name(letter: str, column: str) -> pl.Expr:
    """Name customers or items as ``simulate`` does."""
    return pl.format("{}{}", pl.lit(letter), pl.col(column).cast(pl.String).str.zfill(7))
