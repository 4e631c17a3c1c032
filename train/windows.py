"""Test windows that roll back through a dataset, and what can be measured in each.

Window 0 ends with the data's last day, window W so many times the test days earlier, so no two
have a test day in common. Each is the dataset cut off there and split as ``fit`` splits it; what
is trained in a window has seen none of its test days.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from c2rec.runtime.errors import DataError
from c2rec.runtime.records import CHANNELS
from c2rec.train.batches import PurchaseIndex
from c2rec.train.config import SplitConfig
from c2rec.train.metrics import Wanted
from c2rec.train.run import PreparedData, prepare
from c2rec.train.split import Purchases
from c2rec.train.transactions import Dataset


@dataclass(frozen=True, slots=True)
class Window:
    """A test period and the data before it."""

    number: int
    """0 for the newest."""
    fingerprint: str
    """Of the dataset cut off at its end."""
    split: SplitConfig
    """As asked for, less the last test days if the data has none of them."""
    channels: tuple[int, ...]
    """In which somebody bought something new in its validation days and in its test days."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Whose purchases are learned from and measured, and what lists are made of."""

    index: PurchaseIndex
    """Training purchases: the baselines', and the customers' histories."""
    valid: Purchases
    test: Purchases
    listed: npt.NDArray[np.bool_] | None
    """bool (items,); None: the whole catalogue."""
    customer_ids: list[str]
    """Rows of the index."""

    def targets(self, later: Purchases, channel: int) -> Wanted:
        """Find what is measured in a channel: purchases new to the customer in it."""
        return Wanted.of(self.index, later, channel, new_only=True, listed=self.listed)


def ground(data: PreparedData, *, whole: bool) -> Ground:
    """Take customers and items known to training, or everybody and the whole catalogue."""
    split = data.split
    if whole:
        every = split.everyone
        return Ground(data.everyone, every.valid, every.test, None, split.everyone_ids)
    ids = split.vocabulary.customer_ids
    return Ground(data.index, split.valid, split.test, data.index.known, ids)


def survey(
    dataset: Dataset,
    split: SplitConfig,
    rolling: int,
    *,
    whole: bool = False,
    refit: bool = False,
) -> tuple[list[Window], list[str]]:
    """Find out what can be measured in which window.

    Args:
        dataset: all days.
        split: as asked for.
        rolling: how many windows.
        whole: whether everybody is measured.
        refit: whether what is measured has learned from the validation days as well.

    Returns:
        The windows that can be trained on, newest first, and what is left out and why.
    """
    windows, notes = [], []
    for number in range(rolling):
        try:
            part, part_split = cut(dataset, split, number)
            data = prepare(part, part_split)
        except DataError as error:
            notes.append(f"window {number} is left out: {error}")
            continue
        on, channels = ground(data, whole=whole), []
        tested = on
        if refit:
            tested = ground(prepare(part, replace(part_split, valid_days=0)), whole=whole)
        for channel, name in enumerate(CHANNELS):
            without = [
                period
                for period, targets in (
                    ("validation", on.targets(on.valid, channel)),
                    ("test", tested.targets(tested.test, channel)),
                )
                if not len(targets.customers)
            ]
            if not without:
                channels.append(channel)
                continue
            notes.append(
                f"window {number} has no {name} figures: "
                f"{'nobody' if whole else 'no customer known from training'} bought "
                f"anything new to them {name} in its {' and its '.join(without)} days"
            )
        windows.append(Window(number, part.fingerprint, part_split, tuple(channels)))
    return windows, notes


def cut(dataset: Dataset, split: SplitConfig, window: int) -> tuple[Dataset, SplitConfig]:
    """Cut a dataset off at the end of a window.

    Args:
        dataset: all days.
        split: as asked for.
        window: 0 for the whole dataset.

    Returns:
        The dataset of the window, with a fingerprint of its own, and how to split it: ``split``
        takes its last day for the end of the test period, so if there are no purchases on the
        last days of the window, there are fewer test days.

    Raises:
        DataError: there is no purchase in the test days.
    """
    if window == 0:
        return dataset, split
    days = dataset.transactions["timestamp"].dt.date()
    end = _last(days) - timedelta(days=window * split.test_days)
    rows = dataset.transactions.filter(days <= end)
    first = end - timedelta(days=split.test_days - 1)
    if rows.is_empty() or _last(rows["timestamp"].dt.date()) < first:
        raise DataError(f"there is no purchase in its test days, {first} to {end}")
    missing = (end - _last(rows["timestamp"].dt.date())).days
    fingerprint = hashlib.sha256(f"{dataset.fingerprint} until {end}".encode()).hexdigest()
    part = replace(dataset, transactions=rows, fingerprint=fingerprint)
    return part, replace(split, test_days=split.test_days - missing)


def _last(days: pl.Series) -> date:
    last = days.max()
    if not isinstance(last, date):
        raise DataError("the data has no days")
    return last
