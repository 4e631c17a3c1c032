"""A customer's online scores, in the terms of the release that answers."""

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from c2rec.runtime.errors import HomeError
from c2rec.runtime.home.disk import home_errors, sha256_of
from c2rec.runtime.home.identity import find_identity, pseudonym
from c2rec.runtime.home.state import find_floors, read_tables
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.rules.assortment import Assortment
from c2rec.runtime.serving.online import Freshness, freshness, log_odds
from c2rec.runtime.sync.online_documents import OnlineScores
from c2rec.runtime.sync.online_file import ScoresFile

DAY_S = 86_400
"""Seconds of a day."""

_Rows = npt.NDArray[np.int64]


class Listed(NamedTuple):
    """A customer's list, as far as the release knows the items and they may be shown."""

    scores: OnlineScores
    fresh: Freshness
    rows: _Rows
    """int64 (L,), rows of the release, each once, best first"""
    places: npt.NDArray[np.int64]
    """int64 (L,), where they stand in the whole list, from 1"""
    odds: npt.NDArray[np.float64] | None
    """float64 (L,), log-odds that they are bought; None where the list doesn't say it of all"""
    least: float
    """The least log-odds of the whole list; 0 without ``odds``."""
    bought: _Rows
    """int64, rows of what was bought online since the release, ascending"""
    bought_days: npt.NDArray[np.int32]
    """int32, day of the last purchase of each, since 1970"""

    def only(self, left_out: _Rows, assortment: Assortment) -> "Listed":
        """Keep the items that may be shown; ``left_out`` is int64, rows."""
        kept = ~np.isin(self.rows, left_out) & assortment.among(self.rows)  # (L,)
        odds = None if self.odds is None else self.odds[kept]
        return self._replace(rows=self.rows[kept], places=self.places[kept], odds=odds)


class OnlineSide:
    """The online scores of a home; use it in the thread that opened it.

    Args:
        scores: an open file.
        customer_key: makes pseudonyms.
        floor: a time that has certainly been reached; the machine's clock may be behind it.
        sha256: of the file.
    """

    def __init__(
        self, scores: ScoresFile, customer_key: bytes, floor: datetime, sha256: str = ""
    ) -> None:
        self.sha256 = sha256
        self._scores = scores
        self._key = customer_key
        self.floor = max(floor, scores.document.issued_at)

    def close(self) -> None:
        """Close the file."""
        self._scores.close()

    def listed(
        self, customer_id: str, cache: Cache, now: datetime, since: datetime
    ) -> Listed | None:
        """Look a customer up; None where the online scores don't know them.

        Args:
            customer_id: as in the transactions.
            cache: the release.
            now: the time, UTC; the floor where that is later.
            since: what was bought before this the release knows.

        Raises:
            HomeError: the scores or the release's cache are damaged.
        """
        try:
            found = self._scores.customer(pseudonym(self._key, customer_id).hex())
        except UnicodeEncodeError:  # half a surrogate pair: nobody's id
            return None
        if found is None:
            return None
        document = self._scores.document
        rows = [cache.item_row(item_id) for item_id in found.items]
        known = np.array([row is not None for row in rows], np.bool_)
        days: dict[int, int] = {}
        for item_id, at in found.bought:
            row = cache.item_row(item_id)
            if at >= since.timestamp() and row is not None:
                days[row] = max(days.get(row, 0), int(at // DAY_S))
        bought = sorted(days)
        certain = len(rows) > 0 and bool((found.probabilities > 0).all())
        odds = log_odds(found.probabilities) if certain else None
        return Listed(
            document,
            freshness(document, max(now, self.floor)),
            np.array([row for row in rows if row is not None], np.int64),
            np.flatnonzero(known) + 1,
            None if odds is None else odds[known],
            0.0 if odds is None else float(odds.min()),
            np.array(bought, np.int64),
            np.array([days[row] for row in bought], np.int32),
        )


def open_online_side(home: Path, opened: OnlineSide | None) -> OnlineSide | None:
    """Open the online scores that a home's state names; None where it names none.

    Args:
        home: the home folder.
        opened: what was opened before; it is returned where it still is what answers, else closed.

    Raises:
        HomeError: the state or the file can't be read; ``opened`` is closed.
        IdentityError: the kiosk's identity is damaged; ``opened`` is closed.
    """
    try:
        named = read_tables(home, ("scores",)).get("scores")
        if named and opened is not None and opened.sha256 == named[0]["sha256"]:
            found, opened = opened, None
            return found
        identity = find_identity(home)
        if not named or identity is None:
            return None
        path, sha256 = home / "scores" / named[0]["file"], named[0]["sha256"]
        with home_errors(f"can't read the online scores {path}"):
            if path.is_file() and sha256_of(path) != sha256:
                raise HomeError(f"the online scores {path} are damaged; the next sync fetches them")
        reached = datetime.fromtimestamp(find_floors(home).get("time", 0), UTC)
        return OnlineSide(ScoresFile(path), identity.customer_key, reached, sha256)
    finally:
        if opened is not None:
            opened.close()
