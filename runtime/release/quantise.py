"""The item side as 8-bit integers, made once at the install: what the engine scans.

Item v becomes y_v ≈ s_v ŷ_v, with whole numbers ŷ_v from -127 to 127 and a scale s_v of its own.
The items stand in an order in which the strong come first, and are cut into tiles, so that a scan
can stop early. A tile is cut into groups of 32 items that follow each other in the order; the first
items of all its groups come first, then all the second ones, and so on, so that the greatest of
each group is found by comparing whole rows. The last tile is filled up with what is no item.
``engine.py`` tells how all this is used.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

LARGEST = 127
LANES = 32
"""Items per group."""
FIRST_TILE = 8192
"""Items in the first tile: the strongest alone are often enough."""
ONE_TILE = 12288
"""So many items are one tile: a second scan would cost more than it could save."""
TILE = 32768
"""Items in any other. The products of three components, 4 bytes each, then fit a level-2 cache."""
SMALLEST_SCALE = 1e-30
"""Items so small that a finer scale could not be told from 0 share this one."""
NOBODY = -1
"""Stands in ``order`` for no item."""


class Tile(NamedTuple):
    """A run of items in the order of the scan, and of their groups."""

    items: slice
    groups: slice


def tiles(items: int) -> list[Tile]:
    """Cut a catalogue into tiles: of 8192 items, then of 32768, then what is left."""
    end = -(-items // LANES) * LANES
    starts = [0] if end <= ONE_TILE else [0, *range(FIRST_TILE, end, TILE)]
    return [
        Tile(slice(a, b), slice(a // LANES, b // LANES))
        for a, b in zip(starts, [*starts[1:], end], strict=True)
    ]


def lanes(tile: Tile) -> npt.NDArray[np.int64]:
    """Where the items of each group of a tile stand: int64 (groups, 32)."""
    groups = tile.groups.stop - tile.groups.start
    places = np.arange(tile.items.start, tile.items.stop)
    return np.ascontiguousarray(places.reshape(LANES, groups).T)


def quantise(
    embeddings: npt.NDArray[np.float32], bias: npt.NDArray[np.float32], reach: float
) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Make the arrays that the engine scans, one at a time.

    Args:
        embeddings: float32 (n, d), y, finite.
        bias: float32 (2, n), b_c, finite.
        reach: norm of a typical customer's longest component; it decides the order alone, and
            with it how early a scan can stop, not what is found.

    Returns:
        (name, array): ``order`` int32 (m,), rows in the order of the scan, or -1, with n filled up
        to a multiple of 32, m; of the items in this order ``scales`` float32 (m,), s_v, and
        ``norms`` float32 (m,), |y_v|, not rounded down; ``errors`` float32 (2,), the greatest
        |y_v - s_v ŷ_v| / s_v and the greatest |ŷ_v|, not rounded down; and of tile t its
        ``codes/t`` int8 (d, items), ŷ.
    """
    rows, size = embeddings.shape
    cut = tiles(rows)
    end = cut[-1].items.stop
    row_norms = np.empty(rows, np.float64)
    for first in range(0, rows, FIRST_TILE):
        some = embeddings[first : first + FIRST_TILE].astype(np.float64)
        row_norms[first : first + FIRST_TILE] = np.linalg.norm(some, axis=1)
    strongest = np.argsort(-(bias.max(0) + reach * row_norms), kind="stable").astype(np.int32)
    order = np.full(end, NOBODY, np.int32)
    order[:rows] = strongest
    for tile in cut:
        order[tile.items] = order[tile.items].reshape(-1, LANES).T.reshape(-1)
    yield "order", order
    yield "norms", _up(np.where(order == NOBODY, 0, row_norms[order]))
    scales, error, length = np.empty(end, np.float32), 0.0, 0.0
    for number, tile in enumerate(cut):
        codes = np.empty((size, tile.items.stop - tile.items.start), np.int8)
        for first in range(tile.items.start, tile.items.stop, FIRST_TILE):
            block = slice(first, min(first + FIRST_TILE, tile.items.stop))
            y = embeddings[order[block]].astype(np.float64)  # (b, d)
            y[order[block] == NOBODY] = 0
            s = np.maximum(np.abs(y).max(1) / LARGEST, SMALLEST_SCALE).astype(np.float32)  # (b,)
            scale = s.astype(np.float64)[:, None]
            # a scale rounded down makes the largest 127.000004
            whole = np.clip(np.rint(y / scale), -LARGEST, LARGEST)  # (b, d)
            left = np.linalg.norm(y - whole * scale, axis=1) / scale[:, 0]
            error = max(error, float(left.max()))
            length = max(length, float(np.linalg.norm(whole, axis=1).max()))
            scales[block] = s
            codes[:, block.start - tile.items.start : block.stop - tile.items.start] = whole.T
        yield f"codes/{number}", codes
    yield "scales", scales
    yield "errors", _up(np.array([error, length]))


def _up(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Round to float32, never down; a rounding error of the norm itself is covered too."""
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
        return np.nextafter((values * (1 + 1e-9)).astype(np.float32), np.float32(np.inf))
