"""Which items may be shown, and how they are weighed: prepared once, for many requests.

A factor f doubles, for f = 2, the odds that an item is bought. By the release's calibration
log-odds are slope · s + intercept, so it adds ln(f) / slope to the score s. All items with one
factor form a group; within it the order is the engine's own, and the engine's best k of each group,
with this added, hold the best k of all: what a group has behind its first k is behind k items.
"""

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from c2rec.runtime.engine.engine import Engine, Filter

MOST_GROUPS = 8
"""Where there are more, everything is scored at once: each takes a search, and memory."""

_Flags = npt.NDArray[np.bool_]
_Floats = npt.NDArray[np.float64]


class Group(NamedTuple):
    """Items of one factor."""

    log_factor: float
    allowed: "Filter | None"
    """Which they are; None for the whole catalogue."""


class Assortment:
    """What may be shown of n items.

    Args:
        allowed: bool (n,); None for all.
        factors: float64 (n,), above 0; None for 1 each.
    """

    def __init__(self, allowed: _Flags | None, factors: _Floats | None) -> None:
        self.allowed = allowed
        self.factors = factors
        # weakly: an engine that is replaced goes, with the model that it maps
        self._groups: WeakKeyDictionary[Engine, list[Group]] = WeakKeyDictionary()
        self._whole: WeakKeyDictionary[Engine, Filter] = WeakKeyDictionary()

    def among(self, rows: npt.NDArray[np.int64]) -> _Flags:
        """Which of some rows may be shown: bool (m,)."""
        return np.ones(len(rows), np.bool_) if self.allowed is None else self.allowed[rows]

    @cached_property
    def log_factors(self) -> _Floats | None:
        """float64 (n,), or None where all factors are 1."""
        return None if self.factors is None else np.log(self.factors)

    def groups(self, engine: "Engine") -> list[Group] | None:
        """The groups, ready for an engine; None where there are too many."""
        if engine not in self._groups:
            self._groups[engine] = self._make_groups(engine)
        return self._groups[engine] or None

    def whole(self, engine: "Engine") -> "Filter | None":
        """All that may be shown, ready for an engine."""
        if engine not in self._whole and self.allowed is not None:
            self._whole[engine] = engine.filter(self.allowed)
        return self._whole.get(engine)

    def _make_groups(self, engine: "Engine") -> list[Group]:
        if self.log_factors is None:
            return [Group(0.0, self.whole(engine))]
        allowed = np.ones(len(self.log_factors), np.bool_) if self.allowed is None else self.allowed
        levels = np.unique(self.log_factors[allowed])
        if len(levels) > MOST_GROUPS:
            return []
        if not len(levels):
            return [Group(0.0, self.whole(engine))]
        masks = [(float(level), allowed & (self.log_factors == level)) for level in levels]
        return [Group(level, engine.filter(mask)) for level, mask in masks]
