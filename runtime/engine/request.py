"""What the engine is asked, and what it answers."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]
NO_ROWS: _Rows = np.empty(0, np.int64)


class Request(NamedTuple):
    """One customer, in one channel."""

    components: _Floats
    """float32 (1, 3, d), x_k"""
    has: npt.NDArray[np.bool_]
    """bool (1, 3), which of them the customer has data for"""
    channel: int
    """0 offline, 1 online"""
    history: _Rows
    """int64 (length,), rows of the items bought in any channel"""
    left_out: _Rows = NO_ROWS
    """int64, rows of items that may not be found"""


class Found(NamedTuple):
    """The best items of one request, best first."""

    rows: _Rows
    """int64 (k,), fewer where fewer are left"""
    scores: _Floats
    """float32 (k,)"""
    attention: _Floats
    """float32 (3, k)"""
    scanned: int
    """Items of which a bound was computed; 0 where all were scored at once."""
    scored: int
    """Items that the graph scored."""
    widened: bool
    """Whether the candidates chosen first did not suffice."""


class Short(NamedTuple):
    """The items of a short filter, in the order of the scan; arrays have an entry for each."""

    items: _Rows
    """int64, where they stand in that order, ascending"""
    norms: _Floats
    """float32, |y_v|"""
    bias: _Floats
    """float32 (2, items), b_c"""


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """Which items may be found; made by ``Engine.filter``, for many requests."""

    rows: _Rows
    """int64, those, ascending"""
    bias: _Floats
    """float32 (2, m), b_c in the order of the scan; -inf for the others"""
    highest: _Floats
    """float32 (2, groups), the greatest of each group"""
    short: Short | None
    """Where these are so few that a bound for each of them takes less than a scan."""
