"""How well a run recommends in its test period, beside the baselines.

The main figures count purchases that are new to the customer in that channel, of customers and
items known to training; other test rows are counted as cold. ``with_repeats`` leaves nothing out.
``whole`` is everybody and the whole catalogue, new customers and new items included, where most of
a retailer's demand is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from c2rec.runtime.errors import RunError
from c2rec.runtime.records import CHANNELS
from c2rec.train.baselines.popularity import Popularity
from c2rec.train.batches import PurchaseIndex
from c2rec.train.diagnosis import Diagnosis, diagnose
from c2rec.train.loop import ModelRanker
from c2rec.train.metrics import ChannelMetrics, Ranker, evaluate_channel
from c2rec.train.run import PreparedData, Run
from c2rec.train.split import Purchases

Figures: TypeAlias = dict[str, float | int | None]
"""``customers``, ``hr``, ``ndcg`` and ``recall``; the last three None without customers."""
ChannelFigures: TypeAlias = dict[str, Figures]
"""Figures of ``offline`` and ``online``."""

OURS = "C2Rec"
"""The name of the model among those measured."""
RECENT_DAYS = 7
"""What the baseline recent-popularity calls recent."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """Figures of the model and the baselines under one way of counting."""

    channels: ChannelFigures
    baselines: dict[str, ChannelFigures]
    measured: Mapping[str, Sequence[ChannelMetrics]] = field(compare=False, repr=False)
    """What the figures are means of: per model, the first of which is C2Rec, and channel. Those of
    one channel are all of the same customers."""

    def document(self) -> dict[str, object]:
        """Arrange as JSON."""
        return {"channels": self.channels, "baselines": self.baselines}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``evaluate`` found."""

    k: int
    new: Protocol
    """Purchases new to the customer in the channel: the main figures."""
    with_repeats: Protocol
    """All purchases, with nothing left out of the ranking."""
    whole: Protocol | None
    """Purchases new to the customer of anything in the catalogue by anybody, lists of the whole
    catalogue. None for a table of customers, which knows its own alone."""
    new_items: Protocol | None
    """As ``whole``, but only items that nobody bought in training are targets."""
    new_customers: Protocol | None
    """As ``whole``, of the customers outside the vocabulary alone."""
    held_out: Protocol | None
    """As the main figures, of the customers that the run held out of training. None without."""
    cold: dict[str, dict[str, int]]
    """Per channel, test rows outside the main figures, by what is unknown about them."""
    diagnosis: Diagnosis
    """What may be wrong with the lists."""

    def document(self) -> dict[str, object]:
        """Arrange as the JSON document that ``evaluate --json`` prints."""
        return {
            "schema": 1,
            "k": self.k,
            "channels": self.new.channels,
            "baselines": self.new.baselines,
            "cold": self.cold,
            "with_repeats": self.with_repeats.document(),
            "whole": self.whole and self.whole.document(),
            "new_items": self.new_items and self.new_items.document(),
            "new_customers": self.new_customers and self.new_customers.document(),
            "held_out": self.held_out and self.held_out.document(),
            "diagnosis": self.diagnosis.document(),
        }


def evaluate(run: Run, *, k: int) -> Evaluation:
    """Rank the full catalogue for every customer with a test purchase.

    Args:
        run: a fitted run.
        k: length of the lists, at least 1.

    Raises:
        RunError: the run keeps no test period, or none of its test rows can be ranked.
    """
    if run.config.split.test_days == 0:
        raise RunError(
            f"{run.folder}: was fitted with --test-days 0, so there is nothing to evaluate on; "
            "fit again with a test period"
        )
    data = run.data
    if not data.index.known[data.split.test.items].any():
        raise RunError(
            f"{run.folder}: no test row has a customer and an item known from training; "
            "fit again with more --test-days, or a lower --min-interactions"
        )
    main = _Slice(
        data.index, data.split.test, _popularities(data.index), ModelRanker(run.model, data.index)
    )
    whole = new_items = new_customers = held_out = None
    if run.model.config.encoder == "history":
        everyone = data.everyone
        every = _Slice(
            everyone,
            data.split.everyone.test,
            _popularities(everyone),
            ModelRanker(run.model, everyone),
        )
        strangers = replace(every, later=_strangers(data))
        whole = _protocol(every, k=k, new_only=True)
        new_items = _protocol(every, k=k, new_only=True, wanted=~everyone.known)
        new_customers = _protocol(strangers, k=k, new_only=True)
        if run.config.split.held_out:
            newcomers = replace(every, later=data.split.held_out)
            held_out = _protocol(newcomers, k=k, new_only=True, listed=data.index.known)
    new = _protocol(main, k=k, new_only=True, listed=data.index.known)
    return Evaluation(
        k=k,
        new=new,
        with_repeats=_protocol(main, k=k, new_only=False, listed=data.index.known),
        whole=whole,
        new_items=new_items,
        new_customers=new_customers,
        held_out=held_out,
        cold=data.split.cold,
        diagnosis=diagnose(run.model, data, new.channels, new.baselines, k=k),
    )


@dataclass(frozen=True, slots=True)
class _Slice:
    """Whose purchases are ranked, by whom."""

    index: PurchaseIndex
    later: Purchases
    baselines: dict[str, Ranker]
    model: Ranker


def _popularities(index: PurchaseIndex) -> dict[str, Ranker]:
    return {
        "popularity": Popularity(index.purchases, items=index.items),
        "recent-popularity": Popularity(index.purchases, items=index.items, days=RECENT_DAYS),
    }


def _strangers(data: PreparedData) -> Purchases:
    """Test purchases of customers outside the vocabulary who were not held out of it."""
    outside = ~np.isin(data.split.everyone_ids, data.split.vocabulary.customer_ids)
    outside &= ~data.split.is_held_out
    return data.split.everyone.test.where(outside[data.split.everyone.test.customers])


def _protocol(
    part: _Slice,
    *,
    k: int,
    new_only: bool,
    listed: npt.NDArray[np.bool_] | None = None,
    wanted: npt.NDArray[np.bool_] | None = None,
) -> Protocol:
    measured = {
        name: [
            evaluate_channel(
                ranker,
                part.index,
                part.later,
                channel,
                k=k,
                new_only=new_only,
                listed=listed,
                wanted=wanted,
            )
            for channel in range(len(CHANNELS))
        ]
        for name, ranker in {OURS: part.model, **part.baselines}.items()
    }
    figures: dict[str, ChannelFigures] = {
        name: {each: metrics.means() for each, metrics in zip(CHANNELS, channels, strict=True)}
        for name, channels in measured.items()
    }
    return Protocol(figures.pop(OURS), figures, measured)
