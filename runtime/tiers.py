"""Ranking what a release can rank: by its model, or by what sells.

Graphs and matrices are loaded when a tier first needs them, and kept.
"""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from c2rec.runtime.asked import Asked, Rows, Shown, best_of, history_of
from c2rec.runtime.because import Basis
from c2rec.runtime.cache import Customer
from c2rec.runtime.manifest import Manifest
from c2rec.runtime.ranked import Ranked, Scored
from c2rec.runtime.records import CHANNELS, Tier

if TYPE_CHECKING:
    from c2rec.runtime.engine import Engine, Filter
    from c2rec.runtime.scorer import Encoder, Source


class Tiers:
    """The tiers of one model of a release; use it in the thread that opened the cache.

    Args:
        cache: an open release, or what it has of an arm's own model.
        manifest: of a release of this model alone.
        stored: whether the release's customers have embeddings of this model; else they are
            encoded from their histories.

    Attributes:
        popularity: float32 (2, items); what no answer can do without.

    Raises:
        HomeError: the item side is damaged.
    """

    def __init__(self, cache: "Source", manifest: Manifest, *, stored: bool = True) -> None:
        self._cache, self._manifest, self._stored = cache, manifest, stored
        self.popularity = cache.array("popularity")
        self._filtered: tuple[Shown, Filter] | None = None  # the last one used

    def modelled(self, customer: Customer | None, in_basket: Rows, asked: Asked) -> Ranked | None:
        """Rank by the first tier that the model serves; None where it serves neither."""
        if customer is not None and self._knows(customer):
            items, channels = history_of(customer, in_basket, asked.channel)
            if self._can_encode and (len(in_basket) or not self._stored):
                components, has = self._encode(items, channels)
            else:
                components, has = customer.components[None], customer.has[None]
            new = np.arange(len(items)) >= len(customer.history_items)  # what was bought is first
            basis = Basis(components[0], items, channels, new, self._can_encode)
            return self._scored("personal", basis, has, asked)
        if len(in_basket) and self._can_encode:
            items, channels = history_of(None, in_basket, asked.channel)
            components, has = self._encode(items, channels)
            basis = Basis(components[0], items, channels, np.ones(len(items), np.bool_), True)
            return self._scored("basket", basis, has, asked)
        return None

    def _knows(self, customer: Customer) -> bool:
        """Whether the model has something to go by."""
        return bool(customer.has.any() if self._stored else len(customer.history_items))

    def _scored(
        self, tier: Tier, basis: Basis, has: npt.NDArray[np.bool_], asked: Asked
    ) -> Ranked | None:
        """Rank by the model; None where nothing is left. ``has`` is bool (1, 3)."""
        from c2rec.runtime.engine import Request

        components, channel = basis.components[None], CHANNELS.index(asked.channel)
        request = Request(components, has, channel, basis.items, asked.left_out)
        found = self._engine.top_k(request, asked.depth, only=self._filter(asked.shown))
        if not len(found.rows):
            return None
        best = Scored(found.rows, found.scores, found.attention)
        scores, attention = self._engine.scorer.score_rows(
            asked.listed, components, has, channel, basis.items
        )
        return Ranked(tier, best, Scored(asked.listed, scores, attention), basis)

    def popular(self, asked: Asked) -> Ranked:
        """Rank by what sells, and what has not been sold by item id."""
        sold = self.popularity[CHANNELS.index(asked.channel)]  # (items,)
        left_out = asked.left_out
        if asked.shown is not None:
            left_out = np.union1d(left_out, np.flatnonzero(~asked.shown.rows))
        best = best_of(sold[None], left_out, -1, asked.depth)  # (<= depth,)
        tier: Tier = "store-popular" if len(best) and sold[best[0]] > 0 else "catalogue"
        found, listed = (
            Scored(rows, sold[rows], np.zeros((3, len(rows)), np.float32))
            for rows in (best, asked.listed)
        )
        return Ranked(tier, found, listed, None)

    def _encode(
        self, items: Rows, channels: Rows
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Encode a history: components (1, 3, d) and has (1, 3)."""
        ones = np.ones((1, len(items)), np.float32)
        return self._encoder.encode(items[None], channels[None], ones)

    @property
    def _can_encode(self) -> bool:
        return self._manifest.encoder == "history"

    def _filter(self, shown: Shown | None) -> "Filter | None":
        if shown is None:
            return None
        if self._filtered is None or self._filtered[0] is not shown:
            self._filtered = shown, self._engine.filter(shown.rows)
        return self._filtered[1]

    @cached_property
    def _engine(self) -> "Engine":
        # onnxruntime: only where a tier needs it
        from c2rec.runtime.engine import Engine, fitting_arrays

        with fitting_arrays():
            return Engine(self._cache, attention=self._manifest.attention)

    @cached_property
    def _encoder(self) -> "Encoder":
        from c2rec.runtime.scorer import Encoder  # onnxruntime: only where a tier needs it

        return Encoder(self._cache)
