"""Figures of models with their intervals, as charts and tables."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from c2rec.runtime.records import CHANNELS
from c2rec.train.batches import Rows
from c2rec.train.pages.charts import Dot, dots
from c2rec.train.pages.figure import Figure, Panel, Value, table
from c2rec.train.significance import Interval, intervals
from c2rec.train.trained import METRICS

RESAMPLES = 2000
NAMES = {"hr": "HR", "ndcg": "NDCG", "recall": "recall"}
OURS = "C2Rec"
Intervals: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Interval | None]]]
"""Per channel, model and metric."""


def measured_intervals(
    values: Mapping[str, npt.NDArray[np.float64]], customers: Rows
) -> dict[str, dict[str, Interval | None]]:
    """Give the figures of one channel their intervals, drawing the same customers for all models.

    Args:
        values: per model float64 (rows, metrics).
        customers: int64 (rows,), whose row it is in every model.

    Returns:
        Per model and metric.
    """
    if not values:
        return {}
    found = intervals(np.concatenate(list(values.values()), axis=1), customers, resamples=RESAMPLES)
    width = len(METRICS)
    return {
        name: dict(zip(METRICS, found[place * width : (place + 1) * width], strict=True))
        for place, name in enumerate(values)
    }


def metrics_figure(found: Intervals, *, k: int, ours: Sequence[str], reading: str) -> Figure:
    """Draw each metric in each channel: a row for each model.

    Args:
        found: what was measured.
        k: length of the lists.
        ours: models that are C2Rec, drawn in its colour.
        reading: how the figure is to be read.
    """
    panels: list[Panel] = []
    rows: list[list[Value]] = []
    empty = []
    for metric in METRICS:
        for channel in CHANNELS:
            values = [
                Dot(name, OURS if name in ours else "baseline", each.mean, each.low, each.high)
                for name, metrics in found[channel].items()
                if (each := metrics[metric]) is not None
            ]
            if values:
                head = f"{NAMES[metric]}@{k}"
                panels.append(dots(values, title=f"{head}, {channel}", x=head, y="Model"))
            elif channel not in empty:
                empty.append(channel)
    for channel in CHANNELS:
        for name, metrics in found[channel].items():
            cells = [interval_text(metrics[metric]) for metric in METRICS]
            rows.append([channel, name, *cells])
    return Figure(
        "metrics",
        "Metrics of each model and channel",
        reading,
        panels,
        table(["channel", "model", *(f"{NAMES[each]}@{k}" for each in METRICS)], rows),
        missing_channels(empty, "fewer than two customers have a target there"),
    )


def missing_channels(empty: Sequence[str], why: str) -> str:
    """Say that a chart of some channels is left out; nothing without any."""
    return f"Not drawn for {' and '.join(empty)}: {why}." if empty else ""


def interval_text(interval: Interval | None) -> str:
    """Write a figure with its interval."""
    if interval is None:
        return "–"
    return f"{interval.mean:.4f} ({interval.low:.4f} to {interval.high:.4f})"
