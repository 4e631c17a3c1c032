"""Items of an answer as they are told: with their names, and the reasons that are true."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from c2rec.runtime.answer import Attention, RecommendedItem
from c2rec.runtime.reasons import CATALOGUE, ONLINE, POPULAR, Reason
from c2rec.runtime.records import CHANNELS, Channel
from c2rec.runtime.serving.because import Because, Items
from c2rec.runtime.serving.ranked import Chosen, Ranked, Ranking
from c2rec.runtime.serving.related import About


class Told:
    """Tells of the items that one model ranks.

    Args:
        cache: what the release has of it; every method may raise HomeError.
        popularity: float32 (2, n)
    """

    def __init__(self, cache: Items, popularity: npt.NDArray[np.float32]) -> None:
        self._cache, self._popularity = cache, popularity

    def items(
        self,
        ranking: Ranking,
        chosen: Sequence[Chosen],
        channel: Channel,
        about: About | None,
    ) -> tuple[RecommendedItem, ...]:
        """Tell of the items of an answer, which may be about one."""
        names = self._cache.item_names([each.row for each in chosen])
        alike = [each for each in chosen if each.row in ranking.alike]
        others = [each for each in chosen if each.row not in ranking.alike]
        found = {
            each.row: reason
            for each, reason in zip(
                others, self._reasons(ranking.ranked, others, channel), strict=True
            )
        }
        if about is not None:
            found = {row: _about(about, reason) for row, reason in found.items()}
            found |= {each.row: Reason("like", (), (about.name,)) for each in alike}
        reasons = [found[each.row] for each in chosen]
        return tuple(
            RecommendedItem(
                item_id,
                name,
                each.value,
                reason,
                Attention(*each.attention),
                ranking.tier_of(each.row),
            )
            for (item_id, name), each, reason in zip(names, chosen, reasons, strict=True)
        )

    def vectors(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Embeddings of items, float32 (m, d)."""
        vectors: npt.NDArray[np.float32] = self._cache.array("item_embeddings").take(rows, axis=0)
        return vectors

    def _reasons(
        self, ranked: Ranked, chosen: Sequence[Chosen], channel: Channel
    ) -> Sequence[Reason]:
        if ranked.basis is not None:
            rows = np.array([each.row for each in chosen], np.int64)
            alphas = np.array([each.attention for each in chosen], np.float32).reshape(-1, 3)
            found = self._because.reasons(rows, alphas.T, ranked.basis, channel)
        else:
            sold = self._popularity[CHANNELS.index(channel)]  # (n,)
            found = [POPULAR[channel] if sold[each.row] else CATALOGUE for each in chosen]
        return [
            ONLINE if each.by_list else reason for each, reason in zip(chosen, found, strict=True)
        ]

    @cached_property
    def _because(self) -> Because:
        return Because(self._cache)


def _about(about: About, reason: Reason) -> Reason:
    """The reason where the item asked about is all that the basket holds."""
    return Reason("with", (), (about.name,)) if reason.kind == "basket" else reason
