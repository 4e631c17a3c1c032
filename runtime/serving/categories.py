"""Of what kind an item is: the categorical columns of a release, and the one that tells best."""

from functools import cached_property

import numpy as np
import numpy.typing as npt

from c2rec.runtime.rules.goods import Column, Columns

CALLED = ("product_type", "category")
"""Names by which a column tells of what kind an item is, the first that is there."""
LEAST_ITEMS = 5
"""A value is of a category once so many items share it …"""
MOST_ALONE = 0.1
"""… and a column is categorical where no greater share of the items has another value, or none."""

_Floats = npt.NDArray[np.float64]
_Rows = npt.NDArray[np.int64]


class Categories:
    """The categorical columns of one release; found when first asked for, and kept.

    Args:
        columns: of the release; every method may raise HomeError.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    @cached_property
    def _categorical(self) -> dict[str, Column]:
        """By name, in its order."""
        columns = self._columns.every().items()
        return {name: column for name, column in columns if _is_categorical(column)}

    @cached_property
    def kind(self) -> str | None:
        """The column that tells of what kind an item is; None where none does.

        One of ``CALLED``, else the categorical one with most values.
        """
        for name in CALLED:
            if name in self._categorical:
                return name
        counts = [(-len(column.values), name) for name, column in self._categorical.items()]
        return min(counts)[1] if counts else None

    def same(self, row: int, name: str | None) -> npt.NDArray[np.bool_] | None:
        """Which items are of an item's kind: bool (n,), itself included.

        Args:
            row: the item.
            name: by which column; None: ``kind``.

        Returns:
            None where nothing tells: of a column that isn't there, or where the item has no value.
        """
        name = name or self.kind
        if name is None:
            return None
        codes = self._columns.column(name).codes
        return codes == codes[row] if codes[row] else None

    def match(self, row: int, others: _Rows) -> _Floats:
        """Which share of its categories an item has in common with each of some others.

        Args:
            row: the item.
            others: int64 (m,)

        Returns:
            float64 (m,), 0..1; 0 where it has none.
        """
        told = [each.codes for each in self._categorical.values() if each.codes[row]]
        common = np.zeros(len(others))
        for codes in told:
            common += codes[others] == codes[row]
        return common / max(len(told), 1)


def _is_categorical(column: Column) -> bool:
    """Whether there are several values, and nearly all items have one that others share."""
    counts = np.bincount(column.codes, minlength=len(column.values))
    shared = counts[1:][counts[1:] >= LEAST_ITEMS]  # the first stands for none
    total = len(column.codes)
    return len(column.values) > 2 and total - int(shared.sum()) <= MOST_ALONE * total
