"""Customers of an experiment, and what each of them did after something was first shown to them.

A customer counts from the first time a kiosk showed them something in an arm, and is followed for
the same time after that as everybody else: what somebody does then is known once, and does not
grow with the weeks that an experiment runs. Who can't have been followed so long, because their
kiosk or the web shop has not told of that time yet, is nobody to count.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from c2rec.runtime.errors import DataError
from c2rec.runtime.records import CHANNELS
from c2rec.train.experiment_events import PURCHASES, Events
from c2rec.train.experiment_metrics import METRICS, Windows

_STORE, _WEB = CHANNELS
_MANY = 100
"""Customers of whom some bought something, if they are the customers of the dataset."""
_LATE = timedelta(days=2)
"""How far a dataset that is written every night, say, is behind the kiosks."""
_RETURN = timedelta(days=1)
"""How long after they were first shown something a customer comes back at the earliest."""


@dataclass(frozen=True, slots=True)
class Customers:
    """The customers of an experiment."""

    table: pl.DataFrame
    """customer_id, arm String; first Datetime, when they were first shown something; and for
    each metric that there are data for, Boolean: whether they did it, null where they could not be
    followed long enough. In the order of ``first``, then of the id."""
    last: datetime
    """Of all that is told of."""
    unavailable: Mapping[str, str]
    """Why there is no such metric, by metric."""
    in_two_arms: int
    """Customers who were shown another arm while they were followed."""
    anonymous: int
    """Times that something of an arm was shown to nobody known."""
    with_purchases: int | None
    """Customers with a purchase in the dataset; None without one."""
    behind: Mapping[str, datetime]
    """The dataset's last purchase, by channel, where it is older than what kiosks tell by more
    than ``_LATE``."""


def outcomes(
    events: Events,
    bought: pl.DataFrame,
    dataset: pl.DataFrame | None,
    windows: Windows,
) -> Customers:
    """Find the customers of an experiment and what they did.

    Args:
        events: of kiosks.
        bought: purchases that kiosks recorded.
        dataset: purchases of both channels, by the same customer ids; None: there are none.
        windows: how long to follow customers.

    Raises:
        DataError: nobody known was shown anything in an arm, or no customer is in the dataset.
    """
    in_arms = events.rows.filter(pl.col("arm").is_not_null())
    shown = in_arms.filter(pl.col("kind") == "shown")
    known = in_arms.filter(pl.col("customer_id").is_not_null())
    seen = shown.filter(pl.col("customer_id").is_not_null())
    earliest = seen.group_by("customer_id").agg(first=pl.col("timestamp").min())
    firsts = (
        seen.join(earliest, left_on=["customer_id", "timestamp"], right_on=["customer_id", "first"])
        .sort("event_id")  # of two at the same time
        .unique("customer_id", keep="first")
        .select("customer_id", "arm", "store_id", "device", first="timestamp")
    )
    others = known.join(firsts, on="customer_id", suffix="_own").filter(
        pl.col("arm") != pl.col("arm_own")
    )
    switched = others.group_by("customer_id").agg(switched=pl.col("timestamp").min())
    firsts = firsts.join(switched, on="customer_id", how="left", maintain_order="left")
    anonymous = shown.filter(pl.col("customer_id").is_null())["event_id"].n_unique()
    if firsts.is_empty():
        raise DataError(
            "no customer was shown anything in an arm of an experiment: "
            f"{shown['event_id'].n_unique()} showings have an arm, {anonymous} of them to nobody "
            "known; kiosks have to be told who the customer is"
        )
    firsts = _told_until(firsts, events.rows, dataset)
    purchases = bought.select(list(PURCHASES))
    with_purchases = None
    if dataset is not None:
        with_purchases = firsts.join(dataset, on="customer_id", how="semi").height
        if with_purchases == 0 and firsts.height >= _MANY:
            raise DataError(
                f"none of the {firsts.height} customers of the experiment has a purchase in the "
                "dataset of --data; its customer_id has to be the one that collect wrote: run "
                "c2rec-export collect with --customers, a table of all customer ids, so that "
                "pseudonyms become ids"
            )
        purchases = pl.concat([purchases, dataset.select(list(PURCHASES))])
    purchases = purchases.join(firsts.select("customer_id", "first"), on="customer_id").filter(
        pl.col("timestamp") >= pl.col("first")
    )
    unavailable = _unavailable(bought, dataset)
    did = _did(seen, purchases, events.rows, firsts, windows)
    table = firsts
    for metric in METRICS:
        if metric in unavailable:
            continue
        window = windows.of(metric)
        until = {"conversion": "told_store", "retention": "told"}.get(metric, "told_online")
        yes = did[metric].with_columns(done=pl.lit(value=True))
        table = (
            table.join(yes, on="customer_id", how="left")
            .with_columns(
                pl.when((pl.col("first") + window <= pl.col(until)) & ~switched_within(window))
                .then(pl.col("done").fill_null(value=False))
                .alias(metric)
            )
            .drop("done")
        )
    told = [metric for metric in METRICS if metric not in unavailable]
    everything = [events.rows["timestamp"], *([] if dataset is None else [dataset["timestamp"]])]
    return Customers(
        table=table.select("customer_id", "arm", "first", "switched", *told).sort(
            "first", "customer_id"
        ),
        last=max(_latest(each) for each in everything),
        unavailable=unavailable,
        in_two_arms=firsts.filter(switched_within(max(windows.attribution, windows.follow))).height,
        anonymous=anonymous,
        with_purchases=with_purchases,
        behind={} if dataset is None else _behind(dataset, _latest(events.rows["timestamp"])),
    )


def switched_within(window: timedelta) -> pl.Expr:
    """Whether a customer was shown another arm while they were followed.

    Later it does no harm, as where everybody gets the winner: what they did is known by then.
    """
    return (pl.col("switched") <= pl.col("first") + window).fill_null(value=False)


def _unavailable(bought: pl.DataFrame, dataset: pl.DataFrame | None) -> dict[str, str]:
    found = {}
    if dataset is None:
        for metric in ("cross_channel", "online"):
            found[metric] = "it needs purchases online: give them with --data"
    in_store = [bought, *([] if dataset is None else [dataset])]
    if not any(_has(each, _STORE) for each in in_store):
        found["conversion"] = (
            "no purchase of a known customer in a store is recorded; record them at the kiosk, "
            "or give them with --data"
        )
    if dataset is not None and not _has(dataset, _WEB):
        for metric in ("cross_channel", "online"):
            found[metric] = "the dataset of --data has no purchase online"
    return found


def _told_until(
    firsts: pl.DataFrame, rows: pl.DataFrame, dataset: pl.DataFrame | None
) -> pl.DataFrame:
    """Add until when something is known of each customer: in the store, online, and both.

    Of a store its own kiosk tells: one whose events wait for a network knows more than was sent.
    """
    kiosk = ["store_id", "device"]
    told = rows.group_by(kiosk).agg(told_store=pl.col("timestamp").max())
    firsts = firsts.join(told, on=kiosk, how="left").with_columns(
        told=pl.col("told_store"), told_online=pl.lit(None, pl.Datetime("us", "UTC"))
    )
    if dataset is None:
        return firsts
    for channel, own in ((_STORE, "told_store"), (_WEB, "told_online")):
        if _has(dataset, channel):
            last = pl.lit(_latest(dataset.filter(pl.col("channel") == channel)["timestamp"]))
            last = last.cast(pl.Datetime("us", "UTC"))
            firsts = firsts.with_columns(
                pl.min_horizontal(own, last).alias(own), told=pl.min_horizontal("told", last)
            )
    return firsts


def _did(
    seen: pl.DataFrame,
    purchases: pl.DataFrame,
    rows: pl.DataFrame,
    firsts: pl.DataFrame,
    windows: Windows,
) -> dict[str, pl.DataFrame]:
    """Who did it, by metric: tables of customer_id, each once."""
    since = pl.col("timestamp") - pl.col("first")
    pair = ["customer_id", "item_id"]
    shown = seen.join(purchases, on=pair, how="semi")
    shown = shown.group_by(pair).agg(shown=pl.col("timestamp").min())
    after = purchases.join(shown, on=pair).filter(pl.col("timestamp") >= pl.col("shown"))
    in_store, online = pl.col("channel") == _STORE, pl.col("channel") == _WEB
    visits = rows.select("event_id", "customer_id", "timestamp").unique("event_id").drop("event_id")
    visits = visits.join(firsts.select("customer_id", "first"), on="customer_id")
    visits = pl.concat([visits, purchases.select("customer_id", "timestamp", "first")])
    found = {
        "conversion": after.filter(in_store & (since <= windows.attribution)),
        "cross_channel": after.filter(online & (since <= windows.follow)),
        "online": purchases.filter(online & (since <= windows.follow)),
        "retention": visits.filter(since.is_between(_RETURN, windows.follow)),
    }
    return {metric: table.select("customer_id").unique() for metric, table in found.items()}


def _behind(dataset: pl.DataFrame, told: datetime) -> dict[str, datetime]:
    """The last purchase of each channel of which the dataset tells much less than kiosks do."""
    ends = {
        channel: _latest(dataset.filter(pl.col("channel") == channel)["timestamp"])
        for channel in CHANNELS
        if _has(dataset, channel)
    }
    return {channel: end for channel, end in ends.items() if end + _LATE < told}


def _has(purchases: pl.DataFrame, channel: str) -> bool:
    return bool((purchases["channel"] == channel).any())


def _latest(times: pl.Series) -> datetime:
    latest = times.max()
    if not isinstance(latest, datetime):  # of no rows
        raise DataError("there are no times")
    return latest
