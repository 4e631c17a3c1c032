"""The number of fields of every row of a CSV file, counted by its bytes.

polars fills a row that is too short with empty values, as if they had been there, and where it
reads some columns only, it drops the end of one that is too long. Here both are found, without a
Python loop over rows: as RFC 4180 has it, commas and line ends count outside quotes only, and a
quote within quotes is doubled, so a byte is inside where an odd number of quotes precedes it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_CHUNK = 1 << 24
"""Bytes counted at a time."""
_QUOTE, _COMMA, _LINE_FEED = (ord(character) for character in '",\n')


class QuoteError(Exception):
    """A quote is where none can be, so that it is unclear where rows end."""


@dataclass(frozen=True, slots=True)
class FieldCount:
    """What was counted."""

    rows: int
    """Without the header; an empty line is one."""
    ragged: npt.NDArray[np.int64]
    """Row number, from 1, and fields, where they are not as many as the header's, ``(r, 2)``."""
    one_line_each: bool
    """Whether no value spans lines."""


def count_fields(path: Path, columns: int) -> FieldCount:
    """Count each row's fields.

    Args:
        path: a CSV file with a header.
        columns: fields of the header.

    Raises:
        QuoteError: a quote stands amid a value that isn't in quotes, or the file ends in quotes.
    """
    ragged = [np.empty((0, 2), np.int64)]
    row = commas_before = lines = 0  # row 0 is the header
    quoted = False
    last = _LINE_FEED
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            characters = np.frombuffer(chunk, dtype=np.uint8)
            feeds, commas = characters == _LINE_FEED, characters == _COMMA
            lines += int(feeds.sum())
            if quoted or b'"' in chunk:
                quotes = characters == _QUOTE
                inside = np.logical_xor.accumulate(quotes) ^ quoted
                feeds, commas = feeds & ~inside, commas & ~inside
                before_it = np.concatenate([[last], characters[:-1]])
                amid = quotes & inside & ~np.isin(before_it, (_COMMA, _LINE_FEED, _QUOTE))
                if amid.any():
                    found = row + int(feeds[: amid.argmax()].sum())
                    if found > 0:  # in the header it is a name that polars refuses or takes
                        raise QuoteError(
                            f"row {found} has a quote amid a value; "
                            "put the value in quotes and double the one in it"
                        )
                quoted = bool(inside[-1])
            places = np.flatnonzero(commas)
            before = np.searchsorted(places, np.flatnonzero(feeds))  # (rows ended,)
            counts = np.diff(before, prepend=-commas_before)
            wrong = np.flatnonzero(counts != columns - 1)
            ragged.append(np.column_stack([row + wrong, counts[wrong] + 1]))  # (wrong, 2)
            row += len(counts)
            commas_before = (
                len(places) - int(before[-1]) if len(counts) else commas_before + len(places)
            )
            last = chunk[-1]
    if quoted:
        raise QuoteError(f"a quote that row {row} opens is never closed")
    if last != _LINE_FEED:
        if commas_before != columns - 1:
            ragged.append(np.array([[row, commas_before + 1]]))
        row, lines = row + 1, lines + 1
    rows = np.concatenate(ragged)
    return FieldCount(row - 1, rows[rows[:, 0] > 0], lines == row)
