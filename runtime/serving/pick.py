"""Choosing k items of an exact ranking: at most n of a kind, unlike each other, nothing stale.

A ranking is asked for as deep as it takes: until k items are chosen, or none is left that could be.

Diversity is maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): of the best 5 k
candidates, 50 at least, the next is always the one with the greatest

    (1 - w) · r_v - w · max over the chosen u of cos(y_u, y_v)

where r_v is what it is ranked by, spread to 0..1 over these candidates, and y its embedding in the
release. Where they don't suffice, the ranking goes on as it is. What was shown too often is last.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from c2rec.runtime.rules.rulebook import Wish
from c2rec.runtime.serving.ranked import Chosen, Ranking

LEAST_POOL = 50
POOL = 5
MOST_POOL = 1000
DEEPER = 4
"""So many times deeper goes the next try."""

_Rows = npt.NDArray[np.int64]


class Picked(NamedTuple):
    """What was chosen."""

    ranking: Ranking
    """Of what."""
    chosen: list[Chosen]
    refused: tuple[int, ...]
    """For each cap, how many items it keeps back, where fewer than k were chosen; else 0."""


class _Counts:
    """How many of each kind have been chosen."""

    def __init__(self, wish: Wish) -> None:
        self._caps = wish.caps
        self._counts: list[dict[int, int]] = [{} for _ in wish.caps]

    def room_for(self, row: int) -> bool:
        """Whether there is room for one more item."""
        for counts, (cap, codes) in zip(self._counts, self._caps, strict=True):
            code = int(codes[row])
            if code and counts.get(code, 0) >= cap.n:
                return False
        return True

    def take(self, row: int) -> None:
        """Count an item that was chosen."""
        for counts, (_, codes) in zip(self._counts, self._caps, strict=True):
            code = int(codes[row])
            counts[code] = counts.get(code, 0) + 1

    def room(self, rows: _Rows) -> npt.NDArray[np.bool_]:
        """Which items there is room for: bool (m,)."""
        found = np.ones(len(rows), np.bool_)
        for number in range(len(self._caps)):
            found &= ~self._without_room(number, rows)
        return found

    def refused(self, rows: _Rows) -> tuple[int, ...]:
        """How many of some items each cap keeps back; each item counts for the first that does."""
        found = []
        for number in range(len(self._caps)):
            full = self._without_room(number, rows)
            found.append(int(np.count_nonzero(full)))
            rows = rows[~full]
        return tuple(found)

    def _without_room(self, number: int, rows: _Rows) -> npt.NDArray[np.bool_]:
        cap, codes = self._caps[number]
        full = [code for code, count in self._counts[number].items() if code and count >= cap.n]
        return np.isin(codes[rows], full)


def pick(
    rank: Callable[[int], Ranking],
    k: int,
    wish: Wish,
    *,
    left: Callable[[], _Rows],
    vectors: Callable[[_Rows], npt.NDArray[np.float32]],
) -> Picked:
    """Choose k items, or as many as there are.

    Args:
        rank: gives so many of the best, all where there are fewer.
        k: how many.
        wish: what is asked for.
        left: rows of everything that may be chosen, in any order.
        vectors: embeddings of items, float32 (m, d).
    """
    depth = k + len(wish.repeated)
    if wish.caps:
        depth *= DEEPER
    pool = min(max(LEAST_POOL, POOL * k), MOST_POOL) if wish.diversity else 0
    depth = max(depth, pool + len(wish.repeated))
    while True:
        ranking = rank(depth)
        ranked = ranking.items
        whole = len(ranked) < depth
        chosen, counts = _pick(ranked, k, wish, pool, vectors, whole=whole)
        if len(chosen) == k:
            return Picked(ranking, chosen, (0,) * len(wish.caps))
        others = np.setdiff1d(left(), [each.row for each in ranked])
        if whole or not counts.room(others).any():
            chosen, counts = _pick(ranked, k, wish, pool, vectors, whole=True)
            rows = np.setdiff1d(left(), [each.row for each in chosen])
            return Picked(ranking, chosen, counts.refused(rows))
        depth *= DEEPER


def _pick(
    ranked: Sequence[Chosen],
    k: int,
    wish: Wish,
    pool: int,
    vectors: Callable[[_Rows], npt.NDArray[np.float32]],
    *,
    whole: bool,
) -> tuple[list[Chosen], _Counts]:
    """Choose of the best; ``whole`` tells that no other item can be chosen."""
    fresh = [each for each in ranked if each.row not in wish.repeated]
    stale = [each for each in ranked if each.row in wish.repeated] if whole else []
    counts = _Counts(wish)
    chosen = _unlike(fresh[:pool], k, wish.diversity, counts, vectors)
    taken = {each.row for each in chosen}
    for each in (*fresh, *stale):
        if len(chosen) == k:
            break
        if each.row not in taken and counts.room_for(each.row):
            chosen.append(each)
            counts.take(each.row)
    return chosen, counts


def _unlike(
    pool: Sequence[Chosen],
    k: int,
    weight: float,
    counts: _Counts,
    vectors: Callable[[_Rows], npt.NDArray[np.float32]],
) -> list[Chosen]:
    """Choose of a pool by maximal marginal relevance."""
    if not pool:
        return []
    rows = np.array([each.row for each in pool], np.int64)  # (m,)
    values = np.array([each.value for each in pool])
    spread = float(values.max() - values.min())
    relevance = (values - values.min()) / spread if spread > 0 else np.ones(len(pool))
    units = _units(vectors(rows))  # (m, d)
    alike = np.full(len(pool), -np.inf)
    chosen: list[Chosen] = []
    open_ = counts.room(rows)
    while len(chosen) < k and open_.any():
        likeness = alike if chosen else np.zeros(len(pool))
        gain = np.where(open_, (1 - weight) * relevance - weight * likeness, -np.inf)
        best = int(gain.argmax())  # of equal ones the first, which is ranked higher
        chosen.append(pool[best])
        counts.take(pool[best].row)
        alike = np.maximum(alike, units @ units[best])
        open_[best] = False
        open_ &= counts.room(rows)
    return chosen


def _units(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Vectors of length 1, or 0."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    units: npt.NDArray[np.float64] = wide / np.where(lengths > 0, lengths, 1)
    return units
