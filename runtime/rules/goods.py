"""What rules look at: the items' columns in the release, and price and stock on the shelf."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from c2rec.runtime.release.cache import Cache
from c2rec.runtime.rules.rules import Selector
from c2rec.runtime.rules.shelf import Offer, Shelf

PRICE = "price"
"""The column that has the price of an item of which the shelf doesn't know one."""
UNKNOWN = -1
"""Stock of an item that the shelf doesn't name."""

_Flags = npt.NDArray[np.bool_]


class Column(NamedTuple):
    """One column of all items."""

    codes: npt.NDArray[np.int32]
    """int32 (n,), which of the values an item has; 0 for none"""
    values: tuple[str, ...]
    """The values; the first is empty."""


class Columns:
    """The items' columns of one release, read when one is first asked for, and kept.

    Args:
        cache: the release; every method may raise HomeError.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._names: frozenset[str] | None = None
        self._columns: dict[str, Column] = {}

    def names(self) -> frozenset[str]:
        """All columns that any item has, beside its id and name."""
        if self._names is None:
            self.read(())
        return self._names or frozenset()

    def read(self, names: Iterable[str]) -> None:
        """Read columns, all at once: it takes one pass over the items."""
        wanted = [name for name in names if name not in self._columns]
        if self._names is not None and not wanted:
            return
        rows = self._cache.every_metadata()
        self._names = frozenset().union(*rows)
        self._take(rows, wanted)

    def _take(self, rows: Sequence[Mapping[str, str]], names: Iterable[str]) -> None:
        for name in names:
            codes: dict[str, int] = {"": 0}
            numbers = [codes.setdefault(row.get(name, ""), len(codes)) for row in rows]
            self._columns[name] = Column(np.array(numbers, np.int32), tuple(codes))

    def every(self) -> dict[str, Column]:
        """All columns by name, in its order; read in one pass."""
        if self._names is None or not self._columns.keys() >= self._names:
            rows = self._cache.every_metadata()
            self._names = frozenset().union(*rows)
            self._take(rows, sorted(self._names))
        return {name: self._columns[name] for name in sorted(self._names)}

    def column(self, name: str) -> Column:
        """One of ``names``; of another, no item has a value."""
        self.read((name,))
        return self._columns[name]


class Goods:
    """The items of a release on a store's shelf.

    Args:
        cache: the release, of n items; every method may raise HomeError.
        columns: of the release.
        shelf: of the store.
    """

    def __init__(self, cache: Cache, columns: Columns, shelf: Shelf) -> None:
        self._cache, self._columns = cache, columns
        self.count = cache.manifest().counts.items
        self._prices: npt.NDArray[np.float64] | None = None
        self.stock = np.full(self.count, UNKNOWN, np.int64)
        """int64 (n,), ``UNKNOWN`` where the shelf doesn't say"""
        self._on_shelf = np.full(self.count, np.nan)  # prices
        if shelf.offers:
            nothing = Offer()
            offers = [shelf.offers.get(item_id, nothing) for item_id in cache.item_ids()]
            stocks = [UNKNOWN if each.stock is None else each.stock for each in offers]
            prices = [math.nan if each.price is None else each.price for each in offers]
            self.stock, self._on_shelf = np.array(stocks, np.int64), np.array(prices)

    @property
    def prices(self) -> npt.NDArray[np.float64]:
        """float64 (n,), NaN where unknown."""
        if self._prices is None:
            self._prices = self._on_shelf
            if PRICE in self._columns.names():
                column = self._columns.column(PRICE)
                numbers = np.array([_price(value) for value in column.values])
                missing = np.isnan(self._on_shelf)
                self._prices = np.where(missing, numbers[column.codes], self._on_shelf)
        return self._prices

    def read(self, names: Iterable[str]) -> None:
        """Read columns all at once."""
        if names:
            self._columns.read(names)

    def column(self, name: str) -> Column:
        """A column of the release."""
        return self._columns.column(name)

    def matching(self, selector: Selector) -> _Flags:
        """Which items a selector has: bool (n,)."""
        found: _Flags = np.ones(self.count, np.bool_)
        if selector.items is not None:
            rows, _ = self._cache.item_rows(selector.items)
            found[:] = False
            found[rows] = True
        for name, values in selector.where:
            column = self.column(name)
            among = np.array([value in values for value in column.values])
            found &= among[column.codes]
        if selector.price is not None:
            # a comparison with NaN is false
            found &= (self.prices >= selector.price.low) & (self.prices <= selector.price.high)
        return found


def _price(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if 0 <= value < math.inf else math.nan
