"""What the training commands print for people."""

import sys
from collections.abc import Iterable, Sequence

import click

from c2rec.train.evaluate import ChannelFigures, Evaluation, Protocol
from c2rec.train.loop import EpochLog


class ConsoleReporter:
    """A bar for the epoch on a terminal, and a line for each epoch anywhere, on stderr."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._terminal = sys.stderr is not None and sys.stderr.isatty()

    def step(self, epoch: int, done: int, steps: int) -> None:
        """Draw the bar again, on a terminal."""
        if not self._terminal:
            return
        filled = 30 * done // steps
        bar = "█" * filled + "·" * (30 - filled)
        click.echo(f"\repoch {epoch}/{self._epochs}  {bar}  {done}/{steps}", nl=False, err=True)

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
            "",
            "Test rows left aside as cold (customer or item without training purchases):",
            *table(["channel", *(name.replace("_", " ") for name in first)], cold),
        ]
    )


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
