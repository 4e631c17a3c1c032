"""What goes with an item, and what can stand in for it.

*goes with* an item is what the model ranks for a basket of that item alone (tier ``basket``):
what those bought who bought it. Who asks takes no part in the ranking, only in what is left out:
their history beside the item would outweigh it (``docs/experiments.md``).

*instead of* an item come those that are alike (tier ``similar``): of the same kind, by a column of
the items (``categories.py``), and with a likeness above 0, the cosine of the two embeddings y less
the mean of all items' embeddings. They are ranked by

    likeness + share of the categories in common + 0.1 · ln((1 + sold) · f)

where ``sold`` counts units in the channel asked for, as the release's popularity does, and f is
the factor of a rule. What follows, where too few are alike, is what goes with the item, and then
what sells.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from c2rec.runtime.records import CHANNELS
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.rules.goods import Columns
from c2rec.runtime.serving.asked import Asked, Rows, units_sold
from c2rec.runtime.serving.categories import Categories
from c2rec.runtime.serving.ranked import Chosen, Ranked, Ranking, Scored

SELLING = 0.1
"""What the logarithm of units sold weighs."""
_DIGITS = 6
"""Likeness is rounded so, for machines add up differently."""


@dataclass(frozen=True, slots=True)
class About:
    """The item that a request is about."""

    row: int
    name: str
    instead: bool
    """Whether something is asked for instead of it, or what goes with it."""


class Related:
    """Finds what is alike in one release; use it in the thread that opened the cache.

    Args:
        cache: the release, of n items; every method may raise HomeError.
        columns: of its items.
        popularity: float32 (2, n), units sold, each counting less with its age.
    """

    def __init__(self, cache: Cache, columns: Columns, popularity: npt.NDArray[np.float32]) -> None:
        self._cache, self._popularity = cache, popularity
        self._categories = Categories(columns)

    @cached_property
    def _vectors(self) -> npt.NDArray[np.float32]:
        vectors: npt.NDArray[np.float32] = self._cache.array("item_embeddings")  # (n, d)
        return vectors

    @cached_property
    def _mean(self) -> npt.NDArray[np.float64]:
        mean: npt.NDArray[np.float64] = self._vectors.mean(axis=0, dtype=np.float64)  # (d,)
        return mean

    def alike(self, row: int, asked: Asked, *, column: str | None) -> Scored:
        """Rank the items that are like one.

        Args:
            row: that item.
            asked: for which channel, and what may be shown; the item itself is left out there.
            column: which tells of what kind an item is; None: the one that tells best.

        Returns:
            All that are alike, best first.
        """
        kept = np.ones(len(self._vectors), np.bool_)
        if asked.assortment.allowed is not None:
            kept &= asked.assortment.allowed
        kept[asked.left_out] = False
        same = self._categories.same(row, column)
        if same is not None:
            kept &= same
        rows = np.flatnonzero(kept)  # (m,)
        likeness = self.likeness(row, rows)
        rows, likeness = rows[likeness > 0], likeness[likeness > 0]
        sold = units_sold(self._popularity[CHANNELS.index(asked.channel)])[rows].astype(np.float64)
        selling = np.log1p(sold)
        if asked.assortment.log_factors is not None:
            selling += asked.assortment.log_factors[rows]
        values = likeness + self._categories.match(row, rows) + SELLING * selling
        values = values.round(_DIGITS)
        order = np.lexsort((rows, -values))
        found = rows[order].astype(np.int64)
        return Scored(found, values[order], np.zeros((3, len(found)), np.float32))

    def likeness(self, row: int, others: Rows) -> npt.NDArray[np.float64]:
        """How much others are like an item: float64 (m,), -1..1, above 0 where they are alike."""
        own = self._vectors[row] - self._mean  # (d,)
        vectors = self._vectors.take(others, axis=0) - self._mean  # (m, d)
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(own)
        likeness: npt.NDArray[np.float64] = vectors @ own / np.where(lengths > 0, lengths, 1)
        return likeness.round(_DIGITS)


def alike_first(alike: Scored, rest: Callable[[int, Rows], Ranking], depth: int) -> Ranking:
    """Rank what is alike before the rest.

    Args:
        alike: best first.
        rest: ranks so many of the others, leaving out the rows given.
        depth: how many.
    """
    rows, scores = alike.rows[:depth].tolist(), alike.scores[:depth].tolist()
    first = [
        Chosen(row, score, (0.0, 0.0, 0.0), by_list=False)
        for row, score in zip(rows, scores, strict=True)
    ]
    if len(first) == depth:
        nobody = Scored(alike.rows[:0], alike.scores[:0], alike.attention[:, :0])
        ranked = Ranked("similar", alike, nobody, None, None)
        return Ranking(ranked, "offline", first, frozenset(rows))
    others = rest(depth - len(first), alike.rows)
    return Ranking(others.ranked, "offline", first + others.items, frozenset(rows))
