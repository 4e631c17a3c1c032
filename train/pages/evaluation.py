"""The page about one run."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from c2rec.runtime.errors import RunError
from c2rec.runtime.records import CHANNELS
from c2rec.train.checkpoint import read_state
from c2rec.train.config import RunConfig
from c2rec.train.diagnosis import Diagnosis
from c2rec.train.evaluate import Evaluation, Protocol
from c2rec.train.loop import VALIDATION_K, EpochLog
from c2rec.train.pages.charts import Dot, bars, dots, lines, reliability, stacked
from c2rec.train.pages.figure import Figure, Panel, Table, Value, facts, table
from c2rec.train.pages.measured import (
    OURS,
    Intervals,
    interval_text,
    measured_intervals,
    metrics_figure,
    missing_channels,
)
from c2rec.train.pages.page import write_page
from c2rec.train.report import number
from c2rec.train.run import CHECKPOINT, Run
from c2rec.train.split import Purchases
from c2rec.train.trained import METRICS
from c2rec.train.transactions import facts as dataset_facts

SLICES = {
    "new": "Known customers and items",
    "with_repeats": "Known, repeats included",
    "whole": "Everybody, whole catalogue",
    "new_items": "New items",
    "new_customers": "New customers",
    "held_out": "Held-out customers",
}
"""Fields of an evaluation that are measured apart, in the order of their rows."""


def write_evaluation(path: Path, run: Run, evaluation: Evaluation) -> None:
    """Write the page about a run.

    Args:
        path: of the file, which is replaced.
        run: what was measured.
        evaluation: its figures.
    """
    protocols: dict[str, Protocol] = {
        title: protocol
        for name, title in SLICES.items()
        if (protocol := getattr(evaluation, name)) is not None
    }
    found = {title: _intervals(protocol) for title, protocol in protocols.items()}
    main, diagnosis = next(iter(found.values())), evaluation.diagnosis
    logs, best = _logs(run.folder)
    write_page(
        path,
        "evaluation.html.j2",
        run=str(run.folder),
        k=evaluation.k,
        headlines=_headlines(evaluation, main),
        findings=[
            (each, {name.replace("_", " "): number(value) for name, value in each.figures.items()})
            for each in diagnosis.findings
        ],
        sampled=diagnosis.customers,
        figures=[
            training_figure(logs, best),
            metrics_figure(
                main,
                k=evaluation.k,
                ours=[OURS],
                reading="Purchases of the test period that are new to the customer in the channel, "
                "ranked among all items known from training. Whiskers are 95 % bootstrap "
                "intervals over customers.",
            ),
            slices_figure(found, evaluation.k),
            attention_figure(diagnosis),
            kinds_figure(diagnosis),
            coverage_figure(diagnosis),
            calibration_figure(diagnosis),
        ],
        epochs=len(logs),
        best=best,
        config=run.config,
        columns=[] if run.data.dataset.items is None else run.data.dataset.items.columns,
        data=_data_facts(run),
        cold=_cold(evaluation),
        settings=_settings(run.config),
    )


def training_figure(logs: list[EpochLog], best: int) -> Figure:
    """Draw losses and validation NDCG by epoch."""
    panels: list[Panel] = []
    missing = ""
    if not logs:
        missing = "Not drawn: the run has lost its checkpoint, which keeps the log of its epochs."
    else:
        terms = {
            "total" if name == "loss" else _TERMS.get(name, name): [
                (float(log.epoch), log.losses[name]) for log in logs
            ]
            for name in logs[0].losses
        }
        total = {"total": terms.pop("total")}
        mark = (float(best), f"best: epoch {best}") if best else None
        panels.append(lines(total, title="Training loss", x="Epoch", y="Loss", mark=mark))
        panels.append(lines(terms, title="Its terms, unweighted", x="Epoch", y="Loss", mark=mark))
        ndcg: dict[str, list[tuple[float, float]]] = {
            channel: points
            for channel in CHANNELS
            if (
                points := [
                    (float(log.epoch), value)
                    for log in logs
                    if (value := log.ndcg.get(channel)) is not None
                ]
            )
        }
        if ndcg:
            head = f"NDCG@{VALIDATION_K}"
            panels.append(lines(ndcg, title=f"Validation {head}", x="Epoch", y=head, mark=mark))
        else:
            missing = "Validation NDCG is not drawn: the run kept no validation days."
    names = list(logs[0].losses) if logs else []
    rows: list[list[Value]] = [
        [
            log.epoch,
            *(log.losses[name] for name in names),
            *(log.ndcg.get(channel) for channel in CHANNELS),
            "best" if log.epoch == best else "",
        ]
        for log in logs
    ]
    heads = ["epoch", *names, *(f"NDCG {channel}" for channel in CHANNELS), ""]
    return Figure(
        "training",
        "Training",
        "Mean loss of the steps of each epoch, and NDCG on the validation period, which decides "
        "the epoch that is kept. Validation is of the attention model alone: the blend is chosen "
        "afterwards.",
        panels,
        table(heads, rows),
        missing,
    )


_TERMS = {"class": "classification", "attention": "attention"}


def slices_figure(found: Mapping[str, Intervals], k: int) -> Figure:
    """Draw NDCG of each model in each part of the demand, new items and customers apart."""
    panels: list[Panel] = []
    rows: list[list[Value]] = []
    empty = []
    head = f"NDCG@{k}"
    for channel in CHANNELS:
        values = []
        for title, each in found.items():
            for model, metrics in each[channel].items():
                interval = metrics["ndcg"]
                rows.append([channel, title, model, interval_text(interval)])
                if interval is not None:
                    values.append(Dot(title, model, interval.mean, interval.low, interval.high))
            if not any(metrics["ndcg"] for metrics in each[channel].values()):
                empty.append(f"{title.lower()} ({channel})")
        if values:
            panels.append(dots(values, title=f"{head}, {channel}", x=head, y="Part of the demand"))
    missing = f"Left out, with fewer than two customers: {'; '.join(empty)}." if empty else ""
    return Figure(
        "slices",
        "Known, new and cold",
        "The main figures are of customers and items known from training. What it did not know is "
        "measured apart: new items are those that nobody bought in training, new customers those "
        "whom it left out for their few purchases or who came later, held-out customers those kept "
        "out of it on purpose. Whiskers are 95 % bootstrap intervals over customers.",
        panels,
        table(["channel", "part", "model", head], rows),
        missing,
    )


def attention_figure(diagnosis: Diagnosis) -> Figure:
    """Draw mean α by channel and group of customers."""
    panels: list[Panel] = []
    rows: list[list[Value]] = []
    empty = []
    parts = next(
        (list(g.weights) for each in diagnosis.attention.values() for g in each.values()), []
    )
    for channel, groups in diagnosis.attention.items():
        if groups:
            shares = {f"{name} ({each.customers})": each.weights for name, each in groups.items()}
            title = f"Attention of lists shown {channel}"
            panels.append(stacked(shares, title=title, x="Mean attention", y="Customers bought in"))
        else:
            empty.append(channel)
        rows += [
            [channel, name, each.customers, *each.weights.values()] for name, each in groups.items()
        ]
    return Figure(
        "attention",
        "Attention",
        f"How much of the customer's shared, offline and online taste decides, on average over the "
        f"{diagnosis.k} items shown, by where customers bought in training. A component without "
        "purchases gets none.",
        panels,
        table(["channel", "customers", "count", *parts], rows),
        missing_channels(empty, "no customer of the sample bought anything in training"),
    )


def kinds_figure(diagnosis: Diagnosis) -> Figure:
    """Draw HR by what the customer had bought before."""
    panels: list[Panel] = []
    rows: list[list[Value]] = []
    empty = []
    head = f"HR@{diagnosis.k}"
    for channel, kinds in diagnosis.kinds.items():
        values = {
            kind: {channel: float(each["hr"])}
            for kind, each in kinds.items()
            if each["hr"] is not None
        }
        rows += [
            [channel, kind, *(each[name] for name in ("purchases", "customers", *METRICS))]
            for kind, each in kinds.items()
        ]
        if any(value[channel] for value in values.values()):
            title = f"{head}, {channel}"
            panels.append(bars(values, title=title, x=head, y="Before the test"))
        else:
            empty.append(channel)
    return Figure(
        "kinds",
        "New and repeated purchases",
        "Test purchases by what the customer had bought in training. The first two leave out of "
        "the lists what was bought in the channel, as the main figures do; the last leaves out "
        "nothing.",
        panels,
        table(["channel", "before", "purchases", "customers", "HR", "NDCG", "recall"], rows),
        missing_channels(empty, "there is no hit"),
    )


def coverage_figure(diagnosis: Diagnosis) -> Figure:
    """Draw how much of the catalogue is shown, and how popular it is."""
    values: dict[str, dict[str, float]] = {}
    for channel, each in diagnosis.exposure.items():
        shares = {
            "Catalogue shown": each.coverage,
            "Gini of exposure": each.gini,
            "Popularity shown": each.shown_popularity,
            "Popularity bought": each.bought_popularity,
        }
        for name, share in shares.items():
            if share is not None:
                values.setdefault(name, {})[channel] = share
    rows: list[list[Value]] = [
        [channel, *asdict(each).values()] for channel, each in diagnosis.exposure.items()
    ]
    drawn = any(each.shown for each in diagnosis.exposure.values())
    panels = [bars(values, title="Coverage and popularity", x="Share", y="Figure", percent=True)]
    return Figure(
        "coverage",
        "Coverage",
        f"Share of the catalogue that is in anybody's list, of {diagnosis.customers} customers; "
        "Gini coefficient of its items' places (near 100 %: few items have all); mean popularity "
        "percentile of the items shown, and of those bought in the test period. Shown far above "
        "bought means a bias to the popular.",
        panels if drawn else [],
        table(
            [
                "channel",
                "items",
                "shown",
                "coverage",
                "possible",
                "Gini",
                "popularity shown",
                "popularity bought",
            ],
            rows,
        ),
        "" if drawn else "Not drawn: no list holds an item.",
    )


def calibration_figure(diagnosis: Diagnosis) -> Figure:
    """Draw observed against predicted chances."""
    panels: list[Panel] = []
    rows: list[list[Value]] = []
    empty = []
    for channel, found in diagnosis.calibration.items():
        points = [
            (each.predicted, each.observed, each.low, each.high)
            for each in found
            if each.observed > 0
        ]
        rows += [
            [channel, each.pairs, each.predicted, each.observed, each.low, each.high]
            for each in found
        ]
        if points:
            panels.append(
                reliability(
                    points,
                    title=f"Calibration, {channel}",
                    series=channel,
                    x="Predicted chance of a purchase",
                    y="Observed share of purchases",
                )
            )
        else:
            empty.append(channel)
    return Figure(
        "calibration",
        "Calibration",
        "Scores turned into chances by a softmax over the items that a list may hold: the chance "
        "that a purchase of the customer in the channel is this item. Against it, the mean share "
        "of the customers' new test purchases that were the items of a bin. On the dashed line "
        "both are equal. Nothing trains the whole score to be a probability, so this tells how "
        "far scores may be read as one. Both axes are logarithmic: a bin without a purchase is in "
        "the table alone.",
        panels,
        table(["channel", "pairs", "predicted", "observed", "low", "high"], rows),
        missing_channels(empty, "nobody of the sample bought anything new there"),
    )


def _intervals(protocol: Protocol) -> Intervals:
    return {
        name: measured_intervals(
            {
                model: np.stack([getattr(each[channel], metric) for metric in METRICS], axis=1)
                for model, each in protocol.measured.items()
            },
            next(iter(protocol.measured.values()))[channel].customers,
        )
        for channel, name in enumerate(CHANNELS)
    }


def _headlines(evaluation: Evaluation, main: Intervals) -> list[dict[str, str]]:
    found = []
    for channel in CHANNELS:
        theirs = {
            name: figures[channel]["ndcg"] for name, figures in evaluation.new.baselines.items()
        }
        best = max(theirs, key=lambda name: theirs[name] or 0)
        ours, base = evaluation.new.channels[channel]["ndcg"], theirs[best]
        interval = main[channel][OURS]["ndcg"]
        found.append(
            {
                "channel": channel,
                "figure": "–" if ours is None else f"{ours:.3f}",
                "interval": ""
                if interval is None
                else f"{interval.low:.3f} to {interval.high:.3f}",
                "against": f"{ours / base - 1:+.0%} over {best} ({base:.3f})"
                if ours is not None and base
                else "nothing to compare with",
                "customers": str(evaluation.new.channels[channel]["customers"]),
            }
        )
    return found


def _logs(folder: Path) -> tuple[list[EpochLog], int]:
    """Read how the epochs went, and which was the best; nothing without a checkpoint."""
    try:
        state = read_state(folder / CHECKPOINT)
        return [EpochLog(**log) for log in state["logs"]], int(state["best_epoch"])
    except (RunError, KeyError, TypeError):
        return [], 0


def _data_facts(run: Run) -> list[tuple[str, Table]]:
    counted = dataset_facts(run.data.dataset)
    periods: list[list[Value]] = []
    every = run.data.split.everyone
    for name, everyone, known in (
        ("training", every.train, run.data.split.train),
        ("validation", every.valid, run.data.split.valid),
        ("test", every.test, run.data.split.test),
    ):
        periods.append([name, *_days(everyone), *_per_channel(everyone), *_per_channel(known)])
    return [
        ("Dataset", facts({name.replace("_", " "): value for name, value in counted.items()})),
        (
            "Distinct purchases of everybody, and of customers and items known to training",
            table(
                ["", "first day", "last day", "offline", "online", "known offline", "known online"],
                periods,
            ),
        ),
        (
            "Known to training",
            facts(
                {
                    "customers": run.data.index.customers,
                    "items": int(run.data.index.known.sum()),
                    "items in the catalogue": run.data.index.items,
                }
            ),
        ),
    ]


def _days(purchases: Purchases) -> list[Value]:
    if not len(purchases.days):
        return [None, None]
    return [str(_date(int(day))) for day in (purchases.days.min(), purchases.days.max())]


def _date(day: int) -> date:
    return datetime.fromtimestamp(day * 86_400, UTC).date()


def _per_channel(purchases: Purchases) -> list[Value]:
    return [int((purchases.channels == channel).sum()) for channel in range(len(CHANNELS))]


def _cold(evaluation: Evaluation) -> Table:
    first = next(iter(evaluation.cold.values()))
    return table(
        ["channel", *(name.replace("_", " ") for name in first)],
        [[name, *counts.values()] for name, counts in evaluation.cold.items()],
    )


def _settings(config: RunConfig) -> Table:
    """Every option of a run, as ``part.name``."""
    flat: dict[str, Value] = {}

    def visit(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for name, inside in value.items():
                visit(f"{prefix}.{name}" if prefix else name, inside)
        else:
            flat[prefix] = str(value)

    visit("", asdict(config))
    return facts(flat)
