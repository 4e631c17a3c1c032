"""What a check of ``c2rec-kiosk doctor`` finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    verdict: Verdict
    text: str
    fix: str | None = None
    """What to do; None where it is ok."""


Found: TypeAlias = Iterator[tuple[Verdict, str, str | None]]
Check: TypeAlias = Callable[[Path], Found]
"""Looks at a home, or at the machine that it is on."""
