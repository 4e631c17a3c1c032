"""What a report shows: figures with their data, and tables.

A figure with nothing to draw says why instead; it never holds an empty chart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from markupsafe import Markup

Value: TypeAlias = float | int | str | None


@dataclass(frozen=True, slots=True)
class Panel:
    """One drawing."""

    title: str
    alt: str
    """What it shows, for those who can't see it."""
    svg: Markup


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as they are read."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Figure:
    """Drawings that belong together, and the table of what is drawn."""

    name: str
    """Of its place in the page."""
    title: str
    reading: str
    """How it is to be read."""
    panels: Sequence[Panel]
    table: Table
    missing: str = ""
    """Which part is not drawn, or why nothing is."""


def text(value: Value) -> str:
    """Write a value for a table."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e-3 and value else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else value


def table(heads: Sequence[str], rows: Sequence[Sequence[Value]]) -> Table:
    """Write values as cells."""
    return Table(heads, [[text(value) for value in row] for row in rows])


def facts(values: Mapping[str, Value]) -> Table:
    """Arrange names and values as a table of two columns."""
    return table(["", ""], list(values.items()))
