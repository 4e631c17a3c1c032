"""Online lists of a run's own model: the first items of everybody's ranking, by all that is known.

Nothing is left out of a list but what was bought in its channel: the kiosk leaves out what it must.
Purchases newer than the run's data are taken into the histories, so that yesterday's basket online
is known in the store today; the model itself stays as it was trained, and so its space. Lists for
the store rank what is bought there: with those for online, the store's ranking became worse
(``docs/experiments.md``).
"""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from c2rec.export.bundle import calibration, customers_of, space_of_run, stores_of, with_newer
from c2rec.export.online_lists import OnlineLists, Rows
from c2rec.export.online_scores import About, MadeLists
from c2rec.runtime.errors import PublishError
from c2rec.runtime.ranking import top_k
from c2rec.runtime.records import CHANNELS, Channel
from c2rec.runtime.release.manifest import ChannelCalibration
from c2rec.runtime.sync.online_documents import LONGEST_LIST
from c2rec.train.batches import PurchaseIndex
from c2rec.train.loop import ModelRanker
from c2rec.train.metrics import slices
from c2rec.train.run import Run
from c2rec.train.transactions import Dataset

TOP = 100
"""Items of a list."""
_ONLINE = CHANNELS.index("online")
_AT_ONCE = 256


def lists_of_run(
    run: Run,
    *,
    top: int = TOP,
    newer: Path | None = None,
    channel: Channel = "offline",
    report: Callable[[str], None] = lambda _: None,
) -> MadeLists:
    """Rank the catalogue for every customer.

    Args:
        run: a fitted run, with the history encoder where ``newer`` is given.
        top: items of a list, 1 to 1000.
        newer: a dataset of purchases since the run's data, of the same items; None for none.
        channel: where the items of the lists are bought.
        report: called with what is being done.

    Raises:
        DataError: ``newer`` can't be used.
        PublishError: ``top`` is out of range, or a table of customers can't take new purchases.
    """
    if not 1 <= top <= LONGEST_LIST:
        raise PublishError(f"--top is {top}; allowed: 1 to {LONGEST_LIST}")
    data, since = with_newer(run, newer), _day_of(run.data.dataset)
    here = CHANNELS.index(channel)
    customer_ids, purchases = customers_of(run, data)
    items = run.data.index.items
    index = PurchaseIndex(purchases, customers=len(customer_ids), items=items)
    known = index if run.model.config.encoder == "history" else run.data.index
    ranker, calibrated = ModelRanker(run.model, known), calibration(run)
    chosen = np.empty((len(customer_ids), min(top, items)), np.int32)
    probabilities = np.empty(chosen.shape, np.float32)
    for rows in slices(len(customer_ids), _AT_ONCE):
        report(f"ranking customers {rows.start:,} of {len(customer_ids):,}")
        batch = np.arange(rows.start, min(rows.stop, len(customer_ids)))
        scores = ranker.scores(batch, here)  # (b, items)
        owned, owners = index.of(batch)
        bought = purchases.channels[owned] == here
        scores[owners[bought], purchases.items[owned[bought]]] = -np.inf
        best = top_k(scores, top)
        values = np.take_along_axis(scores, best, 1)  # (b, top)
        chosen[rows] = best
        # without a calibration the order alone is told: probability 0 says so
        probabilities[rows] = 0 if calibrated is None else _chances(values, calibrated[here])
        probabilities[rows][np.isneginf(values)] = -1
    return MadeLists(
        _lists(run, data, since, customer_ids, chosen, probabilities),
        About(run.folder.resolve().name, space_of_run(run), channel, _as_of(data)),
    )


def _chances(
    scores: npt.NDArray[np.float32], calibrated: ChannelCalibration
) -> npt.NDArray[np.float64]:
    odds = calibrated.slope * scores.astype(np.float64) + calibrated.intercept
    # kept off 0, which would say that it is not known
    chances: npt.NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(odds, -20, 20)))
    return chances


def _day_of(data: Dataset) -> datetime:
    """The day from which on a release of the data may not know what was bought."""
    last = data.transactions["timestamp"].dt.date().max()
    return datetime.combine(last, time(), UTC)  # type: ignore[arg-type]


def _as_of(data: Dataset) -> datetime:
    """When the last purchase was; where times are dates alone, the end of that day or now."""
    last = data.transactions["timestamp"].max()
    if not isinstance(last, datetime):
        raise PublishError("the data has no times")
    if last.time() == time():
        last += timedelta(days=1)
    return min(last, datetime.now(UTC)).replace(microsecond=0)


def _lists(
    run: Run,
    data: Dataset,
    since: datetime,
    customer_ids: list[str],
    chosen: npt.NDArray[np.int32],
    probabilities: npt.NDArray[np.float32],
) -> OnlineLists:
    """Lay out what was chosen, int32 (n, top), where what was left out has probability -1."""
    kept = probabilities >= 0
    item_ids = run.data.split.vocabulary.item_ids
    bought_offsets, bought_items, bought_at = _bought(data, since, customer_ids, item_ids)
    return OnlineLists(
        customer_ids=customer_ids,
        stores=stores_of(data.transactions, customer_ids),
        item_ids=item_ids,
        offsets=np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.int64),
        items=chosen[kept],
        probabilities=probabilities[kept],
        bought_offsets=bought_offsets,
        bought_items=bought_items,
        bought_at=bought_at,
    )


def _bought(
    data: Dataset, since: datetime, customer_ids: list[str], item_ids: list[str]
) -> tuple[Rows, npt.NDArray[np.int32], Rows]:
    """Offsets, items and times of what was bought online from a day on, by customer."""
    rows = data.transactions.filter(
        (pl.col("channel") == CHANNELS[_ONLINE]) & (pl.col("timestamp") >= since)
    )
    for name, ids in (("customer_id", customer_ids), ("item_id", item_ids)):
        numbers = np.arange(len(ids), dtype=np.int32)
        numbered = pl.DataFrame({name: pl.Series(ids, dtype=pl.String), f"{name} row": numbers})
        rows = rows.join(numbered, on=name)
    rows = rows.select(
        pl.col("customer_id row"), pl.col("item_id row"), at=pl.col("timestamp").dt.epoch("s")
    ).sort("customer_id row", "at", "item_id row")
    counts = np.bincount(rows["customer_id row"].to_numpy(), minlength=len(customer_ids))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return offsets, rows["item_id row"].to_numpy(), rows["at"].to_numpy()
