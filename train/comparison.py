"""What a comparison found, put together from figures per customer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from c2rec.runtime.errors import RunError
from c2rec.runtime.records import CHANNELS
from c2rec.train.batches import Rows
from c2rec.train.evaluate import ChannelFigures, Figures
from c2rec.train.significance import Uplift, uplift
from c2rec.train.trained import METRICS


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of a model in one channel."""

    customers: Rows
    """int64 (rows,); a customer has one row for each window they are measured in."""
    values: npt.NDArray[np.float64]
    """float64 (rows, metrics), mean over seeds."""
    validation: float
    """Mean over windows, with the first seed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured."""

    k: int
    seeds: int
    windows: int
    """Those in which anything could be measured."""
    models: dict[str, ChannelFigures]
    """Means over customers, windows and seeds; variants of C2Rec come first."""
    best_baseline: dict[str, str | None]
    """Per channel, by validation."""
    uplift: dict[str, dict[str, Uplift]]
    """Of the first variant over the best baseline, per channel and metric."""
    ablations: dict[str, dict[str, dict[str, Uplift]]]
    """Of every other variant over the first, per variant, channel and metric."""
    meanings: dict[str, str]
    """How each variant differs from the first."""
    settings: dict[str, dict[str, dict[str, Any] | None]]
    """Per model and channel."""
    validation: dict[str, dict[str, float | None]]
    """NDCG with the first seed, mean over windows, per model and channel. C2Rec's epoch and blend
    were chosen by the same customers, so its own is flattered."""
    notes: list[str]
    """What is left out, and why."""
    whole: bool
    """Whether everybody and the whole catalogue were measured."""
    refit: bool
    """Whether what was measured had learned from the validation days too."""
    measured: Mapping[str, Sequence[Result | None]] = field(compare=False, repr=False)
    """What ``models`` are means of, per model and channel; not in the document."""

    def document(self) -> dict[str, object]:
        """Arrange as the JSON document that ``compare --json`` prints."""
        return {
            "schema": 1,
            "k": self.k,
            "seeds": self.seeds,
            "windows": self.windows,
            "whole": self.whole,
            "refit": self.refit,
            "models": self.models,
            "best_baseline": self.best_baseline,
            "uplift": {
                channel: {metric: each.document() for metric, each in metrics.items()}
                for channel, metrics in self.uplift.items()
            },
            "ablations": {
                name: {"meaning": self.meanings[name]}
                | {
                    channel: {metric: each.document() for metric, each in metrics.items()}
                    for channel, metrics in channels.items()
                }
                for name, channels in self.ablations.items()
            },
            "settings": self.settings,
            "validation": self.validation,
        }


def put_together(
    results: Mapping[str, Sequence[Result | str | None]],
    settings: dict[str, dict[str, dict[str, Any] | None]],
    *,
    ours: str,
    meanings: Mapping[str, str],
    baselines: Sequence[str],
    k: int,
    seeds: int,
    windows: int,
    notes: Sequence[str],
    whole: bool = False,
    refit: bool = False,
) -> Comparison:
    """Average, find the best baselines, and compare with them.

    Args:
        results: per model and channel, variants of C2Rec first: the figures, or why there are
            none though there should be, or None where nothing can be measured.
        settings: per model and channel.
        ours: the model whose uplift is told.
        meanings: how its other variants differ, by name.
        baselines: what it may be compared with.
        k: length of the lists.
        seeds: how many.
        windows: how many were measured.
        notes: what is left out already, and why.
        whole: whether everybody was measured.
        refit: whether the models had learned from the validation days.

    Raises:
        RunError: models that are compared were measured on different customers.
    """
    known = {
        name: [result if isinstance(result, Result) else None for result in channels]
        for name, channels in results.items()
    }
    missing = [
        f"{name} has no {CHANNELS[channel]} figures: {result}"
        for name, channels in results.items()
        for channel, result in enumerate(channels)
        if isinstance(result, str)
    ]
    best: dict[str, str | None] = {}
    uplifts: dict[str, dict[str, Uplift]] = {}
    for channel, channel_name in enumerate(CHANNELS):
        validation = {
            name: result.validation
            for name in baselines
            if (result := known[name][channel]) is not None
        }
        leader = max(validation, key=lambda name: validation[name], default=None)
        best[channel_name] = leader
        theirs = None if leader is None else known[leader][channel]
        uplifts[channel_name] = _uplifts(known[ours][channel], theirs)
    return Comparison(
        k=k,
        seeds=seeds,
        windows=windows,
        models={
            name: {each: _means(channels[c]) for c, each in enumerate(CHANNELS)}
            for name, channels in known.items()
        },
        best_baseline=best,
        uplift=uplifts,
        ablations={
            name: {
                each: _uplifts(known[name][c], known[ours][c]) for c, each in enumerate(CHANNELS)
            }
            for name in meanings
        },
        meanings=dict(meanings),
        settings=settings,
        validation={
            name: {
                each: None if (result := channels[c]) is None else result.validation
                for c, each in enumerate(CHANNELS)
            }
            for name, channels in known.items()
        },
        notes=[*notes, *missing],
        whole=whole,
        refit=refit,
        measured=known,
    )


def _means(result: Result | None) -> Figures:
    if result is None:
        return {"customers": 0, **dict.fromkeys(METRICS)}
    means = result.values.mean(0)  # (metrics,)
    return {
        "customers": len(np.unique(result.customers)),
        **{metric: float(mean) for metric, mean in zip(METRICS, means, strict=True)},
    }


def _uplifts(ours: Result | None, theirs: Result | None) -> dict[str, Uplift]:
    if ours is None or theirs is None:
        return dict.fromkeys(METRICS, Uplift(None, None, None, "there is nothing to compare"))
    if not np.array_equal(ours.customers, theirs.customers):
        raise RunError("two models were measured on other customers; begin anew with --restart")
    return dict(zip(METRICS, uplift(ours.values, theirs.values, ours.customers), strict=True))
