"""The page about a comparison."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from c2rec.runtime.records import CHANNELS
from c2rec.train.comparison import Comparison
from c2rec.train.config import RunConfig
from c2rec.train.pages.charts import Dot, dots
from c2rec.train.pages.figure import Figure, Panel, Value, facts, table
from c2rec.train.pages.measured import (
    NAMES,
    Intervals,
    measured_intervals,
    metrics_figure,
    missing_channels,
)
from c2rec.train.pages.page import write_page
from c2rec.train.significance import Uplift
from c2rec.train.transactions import Dataset
from c2rec.train.transactions import facts as dataset_facts


def write_comparison(
    path: Path,
    comparison: Comparison,
    dataset: Dataset,
    config: RunConfig,
) -> None:
    """Write the page about a comparison.

    Args:
        path: of the file, which is replaced.
        comparison: what was measured.
        dataset: what on.
        config: of C2Rec; the seed is filled in.
    """
    ours, *_ = comparison.models
    found: Intervals = {
        name: measured_intervals(
            {
                model: result.values
                for model, channels in comparison.measured.items()
                if (result := channels[channel]) is not None
            },
            next(
                (
                    result.customers
                    for channels in comparison.measured.values()
                    if (result := channels[channel]) is not None
                ),
                np.zeros(0, np.int64),
            ),
        )
        for channel, name in enumerate(CHANNELS)
    }
    write_page(
        path,
        "comparison.html.j2",
        comparison=comparison,
        ours=ours,
        headlines=_headlines(comparison),
        figures=[
            uplift_figure(comparison),
            metrics_figure(
                found,
                k=comparison.k,
                ours=[ours, *comparison.ablations],
                reading="Purchases of the test periods that are new to the customer in the "
                "channel, ranked among all items known from training; averaged over seeds and "
                "test windows. Whiskers are 95 % bootstrap intervals over customers, each model's "
                "by itself: whether one is ahead of another is told by the uplift.",
            ),
            ablations_figure(comparison.ablations, comparison.meanings, comparison.k),
        ],
        config=config,
        data=facts(
            {name.replace("_", " "): value for name, value in dataset_facts(dataset).items()}
        ),
        columns=[] if dataset.items is None else dataset.items.columns,
        settings=_settings(comparison),
    )


def uplift_figure(comparison: Comparison) -> Figure:
    """Draw the uplift over the best baseline."""
    ours, *_ = comparison.models
    panels: list[Panel] = []
    rows: list[list[Value]] = []
    empty = []
    for channel, metrics in comparison.uplift.items():
        values = []
        for metric, each in metrics.items():
            head = f"{NAMES[metric]}@{comparison.k}"
            rows.append([channel, head, *_percents(each), each.reason or ""])
            if each.mean is not None:
                values.append(Dot(head, channel, each.mean, each.low, each.high))
        if values:
            best = comparison.best_baseline[channel]
            panels.append(
                dots(
                    values,
                    title=f"{ours} over {best}, {channel}",
                    x="Uplift",
                    y="Metric",
                    zero=True,
                    percent=True,
                )
            )
        else:
            empty.append(channel)
    return Figure(
        "uplift",
        "Uplift over the best baseline",
        "The best baseline of a channel is the one with the best validation NDCG. Whiskers are "
        "95 % intervals of a paired bootstrap over customers: one wholly to the right of 0 means "
        f"that {ours} is ahead by more than the luck of which customers were measured.",
        panels,
        table(["channel", "metric", "uplift", "low", "high", ""], rows),
        missing_channels(empty, "there is nothing to compare"),
    )


def ablations_figure(
    ablations: Mapping[str, Mapping[str, Mapping[str, Uplift]]],
    meanings: Mapping[str, str],
    k: int,
) -> Figure:
    """Draw what taking parts away from C2Rec does to NDCG.

    Args:
        ablations: per variant, channel and metric, its uplift over C2Rec.
        meanings: how each variant differs.
        k: length of the lists.
    """
    panels: list[Panel] = []
    rows: list[list[Value]] = []
    head = f"NDCG@{k}"
    empty = []
    for channel in CHANNELS:
        values = []
        for variant, channels in ablations.items():
            for metric, each in channels.get(channel, {}).items():
                what = each.reason or meanings.get(variant, "")
                rows.append([channel, variant, f"{NAMES[metric]}@{k}", *_percents(each), what])
            ndcg = channels.get(channel, {}).get("ndcg")
            if ndcg is not None and ndcg.mean is not None:
                values.append(Dot(variant, channel, ndcg.mean, ndcg.low, ndcg.high))
        if values:
            panels.append(
                dots(
                    values,
                    title=f"{head} against C2Rec, {channel}",
                    x=f"Change of {head}",
                    y="Variant",
                    zero=True,
                    percent=True,
                )
            )
        else:
            empty.append(channel)
    missing = missing_channels(empty, "no variant could be compared there")
    if not ablations:
        missing = "Not drawn: variants of C2Rec are measured with --ablations, which was not given."
    return Figure(
        "ablations",
        "Ablations",
        "Each variant lacks a part of C2Rec, or has it otherwise. Left of 0 it is worse than the "
        "whole. Whiskers are 95 % intervals of a paired bootstrap over customers.",
        panels,
        table(["channel", "variant", "metric", "change", "low", "high", ""], rows),
        missing,
    )


def _percents(uplift: Uplift) -> list[Value]:
    return [
        None if each is None else f"{each:+.1%}" for each in (uplift.mean, uplift.low, uplift.high)
    ]


def _headlines(comparison: Comparison) -> list[dict[str, str]]:
    ours, *_ = comparison.models
    found = []
    for channel in CHANNELS:
        figures, each = comparison.models[ours][channel], comparison.uplift[channel]["ndcg"]
        mean, low, high = _percents(each)
        ndcg = figures["ndcg"]
        found.append(
            {
                "channel": channel,
                "figure": "–" if ndcg is None else f"{ndcg:.3f}",
                "interval": "",
                "against": f"{mean} ({low} to {high}) over {comparison.best_baseline[channel]}"
                if each.mean is not None
                else f"no uplift: {each.reason}",
                "customers": str(figures["customers"]),
            }
        )
    return found


def _settings(comparison: Comparison) -> list[list[str]]:
    """Per model and channel, what its settings are."""
    rows = []
    for name, channels in comparison.settings.items():
        for channel, settings in channels.items():
            flat = ", ".join(f"{key}: {value}" for key, value in _flat(settings or {}).items())
            rows.append([name, channel, flat or "–"])
    return rows


def _flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
