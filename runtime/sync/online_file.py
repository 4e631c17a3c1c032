"""Reading online scores on a kiosk: an immutable SQLite file, ``HOME/scores/<seq>.db``.

| table | holds |
| --- | --- |
| `about` | the text of scores/index.json |
| `items` | item id by row |
| `customers` | by pseudonym, as hex: the list and what was bought, in one row |

``online_store.py`` writes it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from c2rec.runtime.errors import HomeError, ReleaseError
from c2rec.runtime.home.disk import home_errors
from c2rec.runtime.sync.online_documents import parse_online_scores


class CustomerList(NamedTuple):
    """What the online shop would show one customer, and what it sold them."""

    items: list[str]
    """Item ids, best first; the kiosk's release may not know them."""
    probabilities: npt.NDArray[np.float32]
    """(n,), that each is bought; 0 where it is not known"""
    bought: list[tuple[str, int]]
    """Item ids bought online, and when: seconds since 1970, UTC."""


class ScoresFile:
    """An open file of online scores; use it in the thread that opened it.

    Args:
        path: the file.

    Raises:
        HomeError: here and in every method: the file is missing, is none of ours, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._reading():
            if not path.is_file():
                raise FileNotFoundError(2, "the file is missing")
            uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
            self._db = sqlite3.connect(uri, uri=True)
            try:
                (text,) = self._db.execute("SELECT json FROM about").fetchone() or ("",)
                self.document = parse_online_scores(text.encode())
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def customer(self, pseudonym: str) -> CustomerList | None:
        """What is known of a customer, by pseudonym as 32 hex digits, or None."""
        query = (
            "SELECT items, probabilities, bought_items, bought_at FROM customers"
            " WHERE customer_id = ?"
        )
        with self._reading():
            row = self._db.execute(query, [pseudonym]).fetchone()
            if row is None:
                return None
            items, probabilities, bought, at = row
            times = np.frombuffer(at, np.int64).tolist()
            found = CustomerList(
                self._names(items),
                np.frombuffer(probabilities, np.float32),
                list(zip(self._names(bought), times, strict=True)),
            )
            if len(found.items) != len(found.probabilities):
                raise ValueError("a list has another length than its probabilities")
        return found

    def _names(self, rows: bytes) -> list[str]:
        query = "SELECT item_id FROM items WHERE row = ?"
        names = [
            self._db.execute(query, [row]).fetchone()
            for row in np.frombuffer(rows, np.int32).tolist()
        ]
        if None in names:
            raise ValueError("an item is missing")
        return [name for (name,) in names]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        advice = "the next sync fetches them again"
        try:
            with home_errors(f"can't read the online scores {self.path}", advice):
                yield
        except (ValueError, TypeError, AttributeError, ReleaseError) as error:
            raise HomeError(
                f"the online scores {self.path} are damaged: {error}; {advice}"
            ) from error
