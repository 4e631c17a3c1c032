"""What customers' histories say of items, for a search: n_v, which their bounds have to hold.

A purchase names as many items as the release has entries per row, so a history makes some thousand
*mentions*, spread over the whole catalogue. Most name items that are never scanned. So what is said
is added up in a table that fits a fast cache: the items of the first tile have a place of their own
in it, and all others share places, by their last digits. No item has more than the sum of its
place; for a mention that says less than 0 counts as 0. Where a second tile is scanned, all is added
up once more, item by item.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from c2rec.runtime.engine.request import NO_ROWS, Request
from c2rec.runtime.engine.scan import AT_ONCE, ROUNDING, Coded, Scan
from c2rec.runtime.engine.scorer import Said, Scorer, shares

SHARED = 8192
"""Places that the items after the first tile share; a power of two."""

SMALL = 2.0**112
"""How much less the exponent of a float16 is in a float32."""
LEAST_HALF = 2.0**-14
"""Less than this in float16 is 0 to a processor that was told to take tiny float32 for 0."""

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]
_Integer = TypeVar("_Integer", np.int32, np.int64)


class Tables:
    """Arrays of an engine that hold what is said; whoever uses them leaves them as they were."""

    def __init__(self, scan: Scan) -> None:
        items = len(scan.order)
        self.near = scan.tiles[0].items.stop
        """Items of the first tile."""
        self.of_places = np.zeros((AT_ONCE, self.near + SHARED), np.float32)
        """What is said of the item or the items that a place is for."""
        self.of_items = np.zeros((AT_ONCE, items), np.float32)
        """n_v; -inf for what is left out."""
        self.chosen = np.zeros(self.near + SHARED, np.bool_)
        """By place, whether an item in it goes through the graph; false between two runs."""
        self.columns = np.full(items, -1, np.int32)
        """The column of such an item; -1 between two runs."""

    def places(self, items: npt.NDArray[_Integer]) -> npt.NDArray[_Integer]:
        """The places of items, by where these stand in the order of the scan."""
        # an item of the first tile is less than any shared place; all others are not less than one
        places: npt.NDArray[_Integer] = np.minimum(items, (items & (SHARED - 1)) + self.near)
        return places


class Mentions:
    """The mentions of some customers of one channel, by customer, purchase and entry.

    Args:
        tables: of the engine.
        scan: of the release.
        scorer: of the release.
        requests: the customers.
        coded: the same.
    """

    def __init__(
        self,
        tables: Tables,
        scan: Scan,
        scorer: Scorer,
        requests: Sequence[Request],
        coded: Coded,
    ) -> None:
        self._tables, self._scan, self._size = tables, scan, coded.size
        self.lengths = np.array([len(each.history) for each in requests])  # (b,)
        customers = np.arange(len(requests))
        history = np.concatenate([each.history for each in requests])  # (purchases,)
        self.shares = shares(self.lengths)  # (b,)
        self._owner = customers.repeat(self.lengths)  # (purchases,)
        named, said = scorer.entries(requests[0].channel, history)  # (purchases, entries)
        self._ends = np.cumsum(self.lengths * named.shape[1])  # (b,), of each one's mentions
        self._shape = named.shape
        # (mentions,), where each item that is named stands in the order of the scan
        self._items = scan.position.take(named).reshape(-1)
        self._places = tables.places(self._items)  # (mentions,)
        self._said = said.reshape(-1)  # (mentions,)
        self._bound = self._bounded(said)
        left_out = [each.left_out for each in requests]
        self._out_owner = customers.repeat([len(each) for each in left_out])
        self._out = scan.position.take(np.concatenate(left_out))
        self._of_items: _Rows | None = None  # where in the table of items, if it holds them

    def _bounded(self, said: npt.NDArray[np.float16]) -> _Floats:
        """What each mention adds to n_v at most; float32 (mentions,)."""
        longest, bias, _ = self._scan.reach
        # each adds a rounding error, of n_v and of all that it is added to
        mentions = self.lengths * self._shape[1]
        factor = self.shares * (SMALL * (1 + 4 * ROUNDING) + mentions * (SMALL * 2 * ROUNDING))
        absolute = self._size * (ROUNDING * longest) + (self.shares * LEAST_HALF + ROUNDING * bias)
        bound = shrunk(said)  # (purchases, entries)
        bound *= factor.astype(np.float32).take(self._owner)[:, None]
        bound += absolute.astype(np.float32).take(self._owner)[:, None]
        return bound.reshape(-1)

    def _cells(self, places: npt.NDArray[np.int32], table: _Floats) -> _Rows:
        """Where in a table with a row per customer the places (mentions,) are."""
        cells: _Rows = places.astype(np.int64)
        if len(self.lengths) > 1:
            by_purchase = cells.reshape(self._shape)
            by_purchase += (self._owner * table.shape[1])[:, None]
        return cells

    def add(self) -> None:
        """Add up what is said by place, and take out what is left out."""
        table = self._tables.of_places
        self._of_places = self._cells(self._places, table)
        np.add.at(table.reshape(-1), self._of_places, self._bound)
        self.leave_out()

    def leave_out(self) -> None:
        """Take out what is left out, which nothing that is added later changes."""
        table = self._tables.of_places
        if len(self._out):
            near = self._out < self._tables.near
            table[self._out_owner[near], self._out[near]] = -np.inf
            self._tables.of_items[self._out_owner, self._out] = -np.inf

    def add_by_item(self) -> None:
        """Add up what is said by item as well."""
        table = self._tables.of_items
        self._of_items = self._cells(self._items, table)
        np.add.at(table.reshape(-1), self._of_items, self._bound)

    def clear(self) -> None:
        """Leave the tables as they were."""
        self._tables.of_places[: len(self.lengths)] = 0
        if self._of_items is not None:
            self._tables.of_items.reshape(-1)[self._of_items] = 0
        self._tables.of_items[self._out_owner, self._out] = 0

    def of_tile(self, number: int) -> _Floats:
        """n_v at most, of the items of a tile; float32 (b, items)."""
        if number == 0:
            return self._tables.of_places[: len(self.lengths), : self._tables.near]
        return self._tables.of_items[: len(self.lengths), self._scan.tiles[number].items]

    def loud(self, end: int, least: _Floats) -> tuple[_Rows, _Rows, _Floats]:
        """Items from an end on, of which enough is said.

        Args:
            end: of the tiles scanned.
            least: float32 (b,), how much that is.

        Returns:
            Owners, items, and what is said of them at most; some more than once.
        """
        nothing = NO_ROWS, NO_ROWS, self._bound[:0]
        if self._of_items is not None:
            said = self._tables.of_items.reshape(-1).take(self._of_items)
        else:
            shared = self._tables.of_places[: len(least), self._tables.near :]
            if not (shared >= least[:, None]).any():
                return nothing
            said = self._tables.of_places.reshape(-1).take(self._of_places)
        enough = least.take(self._owner)[:, None]  # (purchases, 1)
        chosen = np.flatnonzero(said.reshape(self._shape) >= enough)
        if not len(chosen):
            return nothing
        owner = self._owner.take(chosen // self._shape[1])
        items = self._items.take(chosen)
        left_out = self._tables.of_items[owner, items] == -np.inf
        kept = (items >= end) & ~left_out
        return owner[kept], items[kept].astype(np.int64), said.take(chosen[kept])

    def of(self, items: _Rows, first: int, last: int) -> Said:
        """What the customers from first to last say of some items.

        Args:
            items: int64, in the order of the scan, each once.
            first: number of a customer.
            last: one after the last.
        """
        start, stop = int(self._ends[first - 1]) if first else 0, int(self._ends[last - 1])
        chosen, columns, places = self._tables.chosen, self._tables.columns, self._tables.places
        at = places(items)
        chosen[at] = True  # a table that a fast cache holds sorts out nearly all mentions
        numbers = np.flatnonzero(chosen.take(self._places[start:stop])) + start
        chosen[at] = False
        columns[items] = np.arange(len(items), dtype=np.int32)
        named = columns.take(self._items.take(numbers))
        columns[items] = -1
        kept = np.flatnonzero(named >= 0)
        numbers = numbers.take(kept)
        customers = self._owner.take(numbers // max(1, self._shape[1])) - first
        return Said(customers, named.take(kept), self._said.take(numbers))


def shrunk(halves: npt.NDArray[np.float16]) -> _Floats:
    """Turn float16 into float32, divided by ``SMALL``: a move of their bits, quicker than numpy's.

    What is below 0 becomes 0, and infinity 65,536 / ``SMALL``.
    """
    bits = np.maximum(halves.view(np.int16), 0).astype(np.int32)  # the sign is the first bit
    bits <<= 13
    return bits.view(np.float32)
