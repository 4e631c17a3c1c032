"""What customers' histories say of items, for a search: n_v, which their bounds have to hold.

A purchase names as many items as the release has entries per row, so a customer's history makes
some thousand *mentions* (in a fitted release 256 per purchase), spread over the whole catalogue.
Most name items that are never scanned. Of these only the loudest are looked for: all that is said
of items with the same last digits is added up, where it is above 0, in a table that fits the
fastest cache. None of them has more than that sum.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from c2rec.runtime.request import NO_ROWS, Request
from c2rec.runtime.scan import AT_ONCE, ROUNDING, Coded, Scan
from c2rec.runtime.scorer import Said, Scorer, shares

SUMS = 8192
"""Sums of what is said of items that were not scanned, for each customer; a power of two."""

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]


class Mentions:
    """The mentions of some customers of one channel, by customer, purchase and entry.

    Args:
        scan: of the release.
        scorer: of the release.
        sums: float32 (``AT_ONCE`` * ``SUMS``,), zeros, as ``sums`` makes them.
        requests: the customers.
        coded: the same.
    """

    def __init__(
        self,
        scan: Scan,
        scorer: Scorer,
        sums: _Floats,
        requests: Sequence[Request],
        coded: Coded,
    ) -> None:
        self._scan, self._sums, self._size = scan, sums, coded.size
        self._extra = scan.extra.reshape(-1)
        self.lengths = np.array([len(each.history) for each in requests])  # (b,)
        customers = np.arange(len(requests))
        self.firsts = customers * len(scan.order)
        """int64 (b,), each customer's first place in ``extra``"""
        history = np.concatenate([each.history for each in requests])  # (purchases,)
        self._owner = np.repeat(customers, self.lengths)  # (purchases,)
        named, said = scorer.entries(requests[0].channel, history)
        self._entries = max(1, named.shape[1])
        self._ends = np.cumsum(self.lengths * named.shape[1])  # (b,), of each one's mentions
        self._items = scan.position.take(named).reshape(-1)  # (mentions,)
        self._said = said.reshape(-1)  # (mentions,)
        self._bound = self._bounded(said)
        # those of items in the first tile
        self._end = scan.tiles[0].items.stop
        self._near = np.flatnonzero(self._items < self._end)
        self._near_places = self._places(self._near)
        left_out = [each.left_out for each in requests]
        firsts = np.repeat(self.firsts, [len(each) for each in left_out])
        self._out = scan.position.take(np.concatenate(left_out)) + firsts
        self._all_places: _Rows | None = None

    def _bounded(self, said: npt.NDArray[np.float16]) -> _Floats:
        """What each mention adds to n_v at most; float32 (mentions,)."""
        longest, bias, _ = self._scan.reach
        share = shares(self.lengths)
        # each adds a rounding error, of n_v and of all that it is added to
        relative = self.lengths * (self._entries * ROUNDING)
        absolute = ROUNDING * (self._size * longest + bias)
        of_purchases = np.stack([share, relative, absolute], dtype=np.float32, casting="same_kind")
        share, relative, absolute = of_purchases.take(self._owner, axis=1)[..., None]
        bound = widened(said)  # (purchases, entries)
        bound *= share
        bound += np.abs(bound) * relative
        bound += absolute
        return bound.reshape(-1)

    def _owners(self, numbers: _Rows) -> _Rows:
        return self._owner.take(numbers // self._entries)

    def _places(self, numbers: _Rows) -> _Rows:
        places: _Rows = self._items.take(numbers) + self.firsts.take(self._owners(numbers))
        return places

    def add_near(self) -> None:
        """Add up what is said of items of the first tile, and take out what is left out."""
        np.add.at(self._extra, self._near_places, self._bound.take(self._near))
        self._extra[self._out] = -np.inf
        self._bound[self._near] = 0  # said

    def add_all(self) -> None:
        """Add up what is said of all other items as well, if that was not done."""
        if self._all_places is None:
            owners = np.repeat(self._owner, self._entries)
            self._all_places = self._items + self.firsts.take(owners)
            np.add.at(self._extra, self._all_places, self._bound)

    def clear(self) -> None:
        """Leave the arrays as they were."""
        places = self._near_places if self._all_places is None else self._all_places
        self._extra[places] = 0
        self._extra[self._out] = 0

    def loud(self, end: int, least: _Floats) -> tuple[_Rows, _Rows, _Floats]:
        """Items from an end on of which enough is said.

        Args:
            end: of the tiles scanned.
            least: float32 (b,), how much that is.

        Returns:
            Owners, items, and what is said of them at most; some more than once.
        """
        enough = least.take(self._owner)[:, None]  # (purchases, 1)
        if self._all_places is not None:
            said = self._extra.take(self._all_places)
        else:
            shape = -1, self._entries
            firsts = (np.arange(len(self.firsts)) * SUMS).take(self._owner)[:, None]
            # the last digits are those of a place within the sums
            place = ((self._items & (SUMS - 1)).reshape(shape) + firsts).reshape(-1)
            np.add.at(self._sums, place, np.maximum(self._bound, 0))
            said = self._sums.take(place)
            self._sums[: len(self.firsts) * SUMS] = 0
        chosen = np.flatnonzero(said.reshape(-1, self._entries) >= enough)
        if len(chosen):
            chosen = chosen[self._items.take(chosen) >= end]
        if not len(chosen):
            return NO_ROWS, NO_ROWS, said[:0]
        chosen = chosen[self._extra.take(self._places(chosen)) > -np.inf]  # not left out
        return self._owners(chosen), self._items.take(chosen).astype(np.int64), said.take(chosen)

    def of(self, items: _Rows, first: int, last: int, mark: npt.NDArray[np.int32]) -> Said:
        """What the customers from first to last say of some items.

        Args:
            items: int64, in the order of the scan, each once.
            first: number of a customer.
            last: one after the last.
            mark: int32 (m,), -1 throughout; it stays so.
        """
        mark[items] = np.arange(len(items), dtype=np.int32)
        start, stop = int(self._ends[first - 1]) if first else 0, int(self._ends[last - 1])
        if len(items) and int(items.max()) < self._end:
            near = self._near
            if first or last < len(self._ends):
                near = near[slice(*np.searchsorted(near, [start, stop]))]
            places = mark.take(self._items.take(near))
            kept = np.flatnonzero(places >= 0)
            numbers = near.take(kept)
        else:
            places = mark.take(self._items[start:stop])
            kept = np.flatnonzero(places >= 0)
            numbers = kept + start
        mark[items] = -1
        return Said(self._owners(numbers) - first, places.take(kept), self._said.take(numbers))


def widened(halves: npt.NDArray[np.float16]) -> _Floats:
    """Turn float16 into float32, in a fourth of numpy's time: 2⁻¹¹² of it has nearly the same bits.

    Infinity becomes 65,536.
    """
    bits = halves.view(np.int16).astype(np.int32)  # the sign in every bit on the left
    bits <<= 13
    bits &= np.int32(~0x7000_1FFF)
    floats = bits.view(np.float32)
    floats *= np.float32(2.0**112)
    return floats


def sums() -> _Floats:
    """Make room for the sums of as many customers as may go together."""
    return np.zeros(AT_ONCE * SUMS, np.float32)
