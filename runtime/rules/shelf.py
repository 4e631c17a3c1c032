"""What a store knows of its own items: price, stock and the codes printed on them.

It is a CSV file with a head: ``item_id`` and any of ``code``, ``price`` and ``stock``. An item may
stand in several lines, one for each code. An item with stock 0 is sold out and is not recommended;
of one that isn't in the file, or whose cell is empty, nothing is known. ``docs/rules.md`` tells
what becomes of these.
"""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from c2rec.runtime.errors import DataError

SHELF = "shelf.csv"
COLUMNS = ("item_id", "code", "price", "stock")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a store says of an item; None where it says nothing."""

    price: float | None = None
    """In the store's currency."""
    stock: int | None = None
    """How many there are."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """A store's items."""

    offers: Mapping[str, Offer] = field(default_factory=dict)
    """By item id."""
    items_by_code: Mapping[str, str] = field(default_factory=dict)
    """The item id of each code."""


def read_shelf(path: Path) -> Shelf:
    """Read the file.

    Raises:
        DataError: it can't be read, or a cell can't be used.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse(path, csv.reader(file, strict=True))
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV in UTF-8: {error}") from error


def _parse(path: Path, rows: Iterable[list[str]]) -> Shelf:
    numbered = enumerate(rows, start=1)
    _, head = next(numbered, (1, []))
    if "item_id" not in head or not set(head) <= set(COLUMNS) or len(set(head)) < len(head):
        raise DataError(
            f"{path}: its columns are {', '.join(head) or 'none'}; "
            f"allowed: item_id and any of {', '.join(COLUMNS[1:])}, each once"
        )
    offers: dict[str, Offer] = {}
    codes: dict[str, str] = {}
    places = [head.index(name) if name in head else None for name in COLUMNS]
    for number, row in numbered:
        if not row:
            continue
        try:
            if len(row) != len(head):
                raise ValueError(f"has {len(row)} cells; allowed: {len(head)}, as in the head")
            cells = ["" if place is None else row[place] for place in places]
            item_id, code, price, stock = cells
            if not item_id:
                raise ValueError("item_id is empty; allowed: an item's id")
            offer = Offer(_number("price", price), _whole("stock", stock))
            before = offers.get(item_id)
            offers[item_id] = offer if before is None else _both(before, offer)
            if code and codes.setdefault(code, item_id) != item_id:
                raise ValueError(
                    f"code {code!r} is {codes[code]}'s already; allowed: one item a code"
                )
        except ValueError as error:
            raise DataError(f"{path}: row {number}: {error}") from error
    return Shelf(offers, codes)


def _both(before: Offer, offer: Offer) -> Offer:
    """What two lines say of an item."""
    return Offer(
        before.price if offer.price is None else offer.price,
        before.stock if offer.stock is None else offer.stock,
    )


def _number(column: str, cell: str) -> float | None:
    if not cell:
        return None
    try:  # Python would read 1_0 and digits of any script, too
        value = float(cell) if cell.isascii() and "_" not in cell else math.nan
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{column} is {cell!r}; allowed: a number such as 12.90, or empty")
    return value


def _whole(column: str, cell: str) -> int | None:
    if not cell:
        return None
    if not cell.isascii() or not cell.isdigit() or len(cell) > 9:
        raise ValueError(
            f"{column} is {cell!r}; allowed: a whole number of up to 9 digits, or empty"
        )
    return int(cell)
