"""How well a run recommends in its test period, beside the baselines.

The main figures count purchases that are new to the customer in that channel. ``with_repeats``
leaves nothing out. Customers and items without training purchases can't be ranked; their test
rows are counted as cold.
"""

from dataclasses import asdict, dataclass
from typing import TypeAlias

from c2rec.runtime.errors import RunError
from c2rec.runtime.records import CHANNELS
from c2rec.train.baselines.popularity import Popularity
from c2rec.train.loop import ModelRanker
from c2rec.train.metrics import Ranker, evaluate_channel
from c2rec.train.run import Run

Figures: TypeAlias = dict[str, float | int | None]
"""``customers``, ``hr``, ``ndcg`` and ``recall``; the last three None without customers."""
ChannelFigures: TypeAlias = dict[str, Figures]
"""Figures of ``offline`` and ``online``."""

RECENT_DAYS = 7
"""What the baseline recent-popularity calls recent."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """Figures of the model and the baselines under one way of counting."""

    channels: ChannelFigures
    baselines: dict[str, ChannelFigures]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``evaluate`` found."""

    k: int
    new: Protocol
    """Purchases new to the customer in the channel: the main figures."""
    with_repeats: Protocol
    """All purchases, with nothing left out of the ranking."""
    cold: dict[str, dict[str, int]]
    """Per channel, test rows that can't be ranked, by what is unknown about them."""

    def document(self) -> dict[str, object]:
        """Arrange as the JSON document that ``evaluate --json`` prints."""
        return {
            "schema": 1,
            "k": self.k,
            "channels": self.new.channels,
            "baselines": self.new.baselines,
            "cold": self.cold,
            "with_repeats": asdict(self.with_repeats),
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
    if len(data.split.test.items) == 0:
        raise RunError(
            f"{run.folder}: no test row has a customer and an item known from training; "
            "fit again with more --test-days, or a lower --min-interactions"
        )
    train = data.split.train
    rankers: dict[str, Ranker] = {
        "popularity": Popularity(train, items=data.index.items),
        "recent-popularity": Popularity(train, items=data.index.items, days=RECENT_DAYS),
    }
    model = ModelRanker(run.model, data.index)
    return Evaluation(
        k=k,
        new=_protocol(run, model, rankers, k=k, new_only=True),
        with_repeats=_protocol(run, model, rankers, k=k, new_only=False),
        cold=data.split.cold,
    )


def _protocol(
    run: Run, model: Ranker, baselines: dict[str, Ranker], *, k: int, new_only: bool
) -> Protocol:
    def figures(ranker: Ranker) -> ChannelFigures:
        return {
            name: evaluate_channel(
                ranker, run.data.index, run.data.split.test, channel, k=k, new_only=new_only
            ).means()
            for channel, name in enumerate(CHANNELS)
        }

    return Protocol(figures(model), {name: figures(each) for name, each in baselines.items()})
