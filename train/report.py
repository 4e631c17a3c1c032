"""What the training commands print for people."""

import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from c2rec.train.comparison import Comparison
from c2rec.train.diagnosis import Diagnosis
from c2rec.train.evaluate import ChannelFigures, Evaluation, Protocol
from c2rec.train.loop import EpochLog
from c2rec.train.significance import Uplift

if TYPE_CHECKING:  # optuna is loaded by the command that searches, and by no other
    from c2rec.train.tune import Tuning

_BEST_TRIALS = 5


class ConsoleReporter:
    """A bar for the epoch on a terminal, and a line for each epoch anywhere, on stderr."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._terminal = sys.stderr is not None and sys.stderr.isatty()

    def step(self, epoch: int, done: int, steps: int) -> None:
        """Draw the bar again, on a terminal."""
        self._bar(f"epoch {epoch}/{self._epochs}  ", done, steps)

    def epoch(self, log: EpochLog) -> None:
        """Print one line over the bar."""
        clear = "\r\x1b[K" if self._terminal else ""
        ndcg = "  ".join(f"{name} {_figure(value)}" for name, value in log.ndcg.items())
        click.echo(
            f"{clear}epoch {log.epoch}/{self._epochs}  loss {log.losses['loss']:.4f}"
            + (f"  validation NDCG@10  {ndcg}" if ndcg else "")
            + ("  best" if log.best and ndcg else ""),
            err=True,
        )

    def stage(self, text: str) -> None:
        """Print a plain line."""
        click.echo(text, err=True)

    def share(self, done: int, of: int) -> None:
        """Draw a bar below the line, on a terminal, and take it away when all is done."""
        self._bar("", done, of)
        if self._terminal and done == of:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _bar(self, text: str, done: int, of: int) -> None:
        if self._terminal:
            filled = 30 * done // of
            bar = "█" * filled + "·" * (30 - filled)
            click.echo(f"\r{text}{bar}  {done}/{of}", nl=False, err=True)


class ComparisonReporter:
    """What a comparison is at: one line on a terminal, else a line for each unit, on stderr."""

    def __init__(self) -> None:
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._line = self._stage = ""

    def unit(self, phase: str, number: int, units: int, what: str) -> None:
        """Say which unit of how many of a phase is being worked on."""
        self._line = f"{phase} {number}/{units}: {what}"
        if self._terminal:
            self._draw(self._line)
        else:
            click.echo(self._line, err=True)

    def note(self, text: str) -> None:
        """Print a plain line."""
        self.clear()
        click.echo(text, err=True)

    def step(self, epoch: int, done: int, steps: int) -> None:
        """Say where the training is, on a terminal."""
        if self._terminal:
            self._draw(f"{self._line}, epoch {epoch}, {done}/{steps}")

    def epoch(self, log: EpochLog) -> None:
        """Say nothing: there are many of them."""

    def stage(self, text: str) -> None:
        """Say what follows the training, on a terminal."""
        self._stage = text
        if self._terminal:
            self._draw(f"{self._line}, {text}")

    def share(self, done: int, of: int) -> None:
        """Say how much of it is done, on a terminal."""
        if self._terminal:
            self._draw(f"{self._line}, {self._stage}, {done}/{of}")

    def clear(self) -> None:
        """Take the line away, on a terminal."""
        if self._terminal:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _draw(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1  # a line that wraps can't be redrawn
        click.echo(f"\r\x1b[K{line[:width]}", nl=False, err=True)


def evaluation_text(evaluation: Evaluation) -> str:
    """Arrange an evaluation as tables."""
    cold = [
        [name, *(str(count) for count in counts.values())]
        for name, counts in evaluation.cold.items()
    ]
    first = next(iter(evaluation.cold.values()))
    k = evaluation.k
    return "\n".join(
        [
            f"Purchases new to the customer in the channel, top {k} of the full catalogue:",
            *_protocol_lines(evaluation.new, k),
            "",
            "All purchases, repeats included:",
            *_protocol_lines(evaluation.with_repeats, k),
            *_slice_lines("Everybody, and the whole catalogue:", evaluation.whole, k),
            *_slice_lines("Items that nobody bought in training:", evaluation.new_items, k),
            *_slice_lines("Customers outside training:", evaluation.new_customers, k),
            *_slice_lines("Customers held out of training:", evaluation.held_out, k),
            "",
            "Test rows outside the first two tables (customer or item unknown to training):",
            *table(["channel", *(name.replace("_", " ") for name in first)], cold),
            "",
            *_diagnosis_lines(evaluation.diagnosis),
        ]
    )


def _diagnosis_lines(diagnosis: Diagnosis) -> Iterable[str]:
    yield f"Diagnosis, by lists of the whole catalogue for {diagnosis.customers} customers:"
    for finding in diagnosis.findings:
        figures = ", ".join(
            f"{name.replace('_', ' ')} {number(value)}" for name, value in finding.figures.items()
        )
        yield f"{finding.verdict:8} {finding.title}: {figures}"
        yield f"{'':8} warns where {finding.rule}"
        if finding.verdict != "ok":
            yield f"{'':8} {finding.advice}"
    yield ""
    heads = ["", "coverage", "possible", "Gini", "popularity shown", "popularity bought"]
    rows = [
        [
            channel,
            number(each.coverage),
            number(each.possible),
            number(each.gini),
            number(each.shown_popularity),
            number(each.bought_popularity),
        ]
        for channel, each in diagnosis.exposure.items()
    ]
    yield from table(heads, rows)
    yield ""
    heads = ["by what the customer had bought", "purchases", "customers", "HR", "NDCG"]
    rows = [
        [
            f"{channel}, {kind}",
            *(number(figures[name]) for name in ("purchases", "customers", "hr", "ndcg")),
        ]
        for channel, kinds in diagnosis.kinds.items()
        for kind, figures in kinds.items()
    ]
    yield from table(heads, rows)
    yield ""
    rows = [
        [f"{channel}, {group}", *(number(weight) for weight in each.weights.values())]
        for channel, groups in diagnosis.attention.items()
        for group, each in groups.items()
    ]
    parts = next(
        (list(g.weights) for each in diagnosis.attention.values() for g in each.values()), []
    )
    yield from table(["attention of what is shown", *parts], rows)


def number(value: float | int | None) -> str:
    """Write a count as it is and anything else with three digits after the point."""
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _slice_lines(title: str, protocol: Protocol | None, k: int) -> Iterable[str]:
    if protocol is not None:
        yield ""
        yield title
        yield from _protocol_lines(protocol, k)


def _protocol_lines(protocol: Protocol, k: int) -> Iterable[str]:
    def row(name: str, figures: ChannelFigures) -> list[str]:
        cells = [
            _figure(figures[channel][metric])
            for channel in figures
            for metric in ("hr", "ndcg", "recall")
        ]
        return [name, *cells]

    rows = [row("C2Rec", protocol.channels)]
    rows += [row(name, figures) for name, figures in protocol.baselines.items()]
    heads = [
        f"{channel} {metric}@{k}"
        for channel in protocol.channels
        for metric in ("HR", "NDCG", "recall")
    ]
    yield from table(["", *heads], rows)
    counts = ", ".join(
        f"{figures['customers']} {channel}" for channel, figures in protocol.channels.items()
    )
    yield f"customers with a target: {counts}"


def comparison_text(comparison: Comparison) -> str:
    """Arrange a comparison as tables, and say how to read them."""
    k, channels = comparison.k, list(comparison.best_baseline)
    metrics = {"hr": f"HR@{k}", "ndcg": f"NDCG@{k}", "recall": f"recall@{k}"}
    ours, *_ = comparison.models
    rows = [
        [name, *(_figure(figures[channel][metric]) for channel in channels for metric in metrics)]
        for name, figures in comparison.models.items()
    ]
    counts = ", ".join(
        f"{comparison.models[ours][channel]['customers']} {channel}" for channel in channels
    )
    uplifts = [
        [channel, *(_interval(comparison.uplift[channel][metric]) for metric in metrics)]
        for channel in channels
    ]
    reasons = [
        f"no uplift {channel} in {metrics[metric]}: {each.reason}"
        for channel, of_channel in comparison.uplift.items()
        for metric, each in of_channel.items()
        if each.reason
    ]
    best = ", ".join(f"{comparison.best_baseline[name] or 'none'} {name}" for name in channels)
    title = (
        f"Purchases new to the customer in the channel{_whom(comparison)}, top {k}; "
        f"seeds: {comparison.seeds}, test windows: {comparison.windows}"
        + ("; trained again on the validation days" if comparison.refit else "")
    )
    reading = (
        f"An interval wholly above 0 means that {ours} is ahead by more than the luck of which "
        "customers were measured; one that holds 0 leaves open which is better."
    )
    return "\n".join(
        [
            title,
            *table(["", *(f"{c} {head}" for c in channels for head in metrics.values())], rows),
            f"customers with a target: {counts}",
            "",
            f"Best baseline by validation NDCG@{k}: {best}",
            f"Uplift of {ours} over it, with its 95 % interval:",
            *table(["", *metrics.values()], uplifts),
            *reasons,
            reading,
            *_ablation_lines(comparison, metrics),
            *(["", *comparison.notes] if comparison.notes else []),
        ]
    )


def _whom(comparison: Comparison) -> str:
    whole = ", of everybody and of the whole catalogue"
    return whole if comparison.whole else ", of customers and items known to training"


def _ablation_lines(comparison: Comparison, metrics: dict[str, str]) -> Iterable[str]:
    if not comparison.ablations:
        return
    channels = list(comparison.best_baseline)
    ours, *_ = comparison.models
    yield ""
    yield f"Variants of {ours}, and what each gains or loses against it, with 95 % intervals:"
    yield from table(
        ["", *(f"{channel} {metrics['ndcg']}" for channel in channels), ""],
        [
            [
                name,
                *(_interval(of_channels[channel]["ndcg"]) for channel in channels),
                f"({comparison.meanings[name]})",
            ]
            for name, of_channels in comparison.ablations.items()
        ],
    )


def _interval(uplift: Uplift) -> str:
    if uplift.mean is None or uplift.low is None or uplift.high is None:
        return _figure(None)
    mean, low, high = (f"{100 * each:+.1f}" for each in (uplift.mean, uplift.low, uplift.high))
    return f"{mean} % ({low} to {high})"


def tuning_text(tuning: "Tuning", data: Path) -> str:
    """Arrange a search as tables, and name the commands to go on with."""
    complete = [each for each in tuning.trials if each.ndcg is not None]
    best = sorted(complete, key=lambda each: -(each.ndcg or 0.0))[:_BEST_TRIALS]
    shown = [*best, *(each for each in complete if each.number == 0 and each not in best)]
    counts = {
        state: sum(each.state == state for each in tuning.trials)
        for state in ("complete", "pruned", "fail", "running")
    }
    states = {"complete": "complete", "pruned": "pruned", "fail": "failed", "running": "stopped"}
    summary = ", ".join(f"{count} {states[state]}" for state, count in counts.items() if count)
    rows = [
        ["validation NDCG@100", *(_figure(each.ndcg) for each in shown)],
        *(
            [f"  {name}", *(_figure(each.channels[name]) for each in shown)]
            for name in tuning.best.channels
        ),
        ["best epoch", *(str(each.best_epoch) for each in shown)],
        *(
            [name.replace("_", " "), *(f"{each.parameters[name]:g}" for each in shown)]
            for name in tuning.best.parameters
        ),
    ]
    heads = ["the defaults" if each.number == 0 else each.run.name for each in shown]
    lines = [
        f"Trials: {len(tuning.trials)} ({summary}); the best, by the whole model in validation:",
        *table(["", *heads], rows),
    ]
    if tuning.importances is not None:
        shares = [
            [name.replace("_", " "), f"{share:.2f}"] for name, share in tuning.importances.items()
        ]
        lines += ["", "What made the difference between trials, in shares of 1:"]
        lines += table(["", "importance"], shares)
    run = shlex.quote(str(tuning.best.run))
    lines += [
        "",
        f"The best run is {tuning.best.run}. The days that chose it flatter it: measure it",
        "on others with the first of these, and publish what it found with the second.",
        f"  c2rec-train evaluate {run}",
        f"  c2rec-train fit {shlex.quote(str(data))} --refit {run} --out RUN",
    ]
    return "\n".join(lines)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns: the first to the left, the others to the right."""
    widths = [max(len(line[i]) for line in [heads, *rows]) for i in range(len(heads))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [heads, *rows]
    ]


def _figure(value: float | int | None) -> str:
    return "–" if value is None else f"{value:.4f}"
