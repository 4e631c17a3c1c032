"""Ranking what a release can rank: by its model, or by what sells.

Graphs and matrices are loaded when a tier first needs them, and kept.
"""

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from c2rec.runtime.records import CHANNELS, Channel, Tier
from c2rec.runtime.release.cache import Customer
from c2rec.runtime.release.manifest import Manifest
from c2rec.runtime.serving.asked import Asked, Rows, best_of, history_of, units_sold
from c2rec.runtime.serving.because import Basis
from c2rec.runtime.serving.ranked import Ranked, Scored

if TYPE_CHECKING:
    from c2rec.runtime.engine.engine import Engine, Request
    from c2rec.runtime.engine.scorer import Encoder, Source


class Known(NamedTuple):
    """What the model has to go by."""

    tier: Tier
    basis: Basis
    has: npt.NDArray[np.bool_]
    """bool (1, 3)"""


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
        self._cache, self.manifest, self._stored = cache, manifest, stored
        self.popularity = cache.array("popularity")

    def known(self, customer: Customer | None, in_basket: Rows, channel: Channel) -> Known | None:
        """What the model has to go by in the first tier that it serves; None where in neither."""
        if customer is not None and self._knows(customer):
            items, channels = history_of(customer, in_basket, channel)
            if self._can_encode and (len(in_basket) or not self._stored):
                components, has = self._encode(items, channels)
            else:
                components, has = customer.components[None], customer.has[None]
            new = np.arange(len(items)) >= len(customer.history_items)  # what was bought is first
            basis = Basis(components[0], items, channels, new, self._can_encode)
            return Known("personal", basis, has)
        if len(in_basket) and self._can_encode:
            items, channels = history_of(None, in_basket, channel)
            components, has = self._encode(items, channels)
            basis = Basis(components[0], items, channels, np.ones(len(items), np.bool_), True)
            return Known("basket", basis, has)
        return None

    def _knows(self, customer: Customer) -> bool:
        """Whether the model has something to go by."""
        return bool(customer.has.any() if self._stored else len(customer.history_items))

    def modelled(self, known: Known, asked: Asked) -> Ranked | None:
        """Rank by the model; None where nothing is left."""
        from c2rec.runtime.engine.engine import Request, fitting_arrays

        basis, channel = known.basis, CHANNELS.index(asked.channel)
        components = basis.components[None]
        request = Request(components, known.has, channel, basis.items, asked.left_out)
        best = self._best(request, asked)
        if not len(best.rows):
            return None
        with fitting_arrays():
            scores, attention = self._engine.scorer.score_rows(
                asked.listed, components, known.has, channel, basis.items
            )
        raised = scores + self._raise(asked, asked.listed)
        listed = Scored(asked.listed, raised, attention)
        return Ranked(known.tier, best, listed, basis, _factors(asked))

    def _best(self, request: "Request", asked: Asked) -> Scored:
        """The best by score and factor; equal ones by score, then by row."""
        groups = asked.assortment.groups(self._engine)
        if groups is None:
            whole = asked.assortment.whole(self._engine) or self._engine.everything
            found = [self._engine.score_all(request, len(whole.rows), whole)]
        else:
            found = [self._engine.top_k(request, asked.depth, only=g.allowed) for g in groups]
        rows = np.concatenate([each.rows for each in found])
        scores = np.concatenate([each.scores for each in found])
        attention = np.concatenate([each.attention for each in found], axis=1)  # (3, m)
        raised = scores + self._raise(asked, rows)
        if asked.assortment.factors is None:
            return Scored(rows, raised, attention)
        order = np.lexsort((rows, -scores, -raised))[: asked.depth]
        return Scored(rows[order], raised[order], attention[:, order])

    def _raise(self, asked: Asked, rows: Rows) -> npt.NDArray[np.float64]:
        """What factors add to scores, float64 (m,)."""
        if asked.assortment.log_factors is None:
            return np.zeros(len(rows))
        slope = 1.0
        if self.manifest.calibration is not None:
            slope = self.manifest.calibration[CHANNELS.index(asked.channel)].slope
        return asked.assortment.log_factors[rows] / slope

    def score_one(
        self, row: int, known: Known, channel: int
    ) -> tuple[float, npt.NDArray[np.float32]]:
        """The engine's score of one item, and its attention (3,)."""
        from c2rec.runtime.engine.engine import fitting_arrays

        components, history = known.basis.components[None], known.basis.items
        with fitting_arrays():
            scores, attention = self._engine.scorer.score_rows(
                np.array([row], np.int64), components, known.has, channel, history
            )
        return float(scores[0]), attention[:, 0]

    def popular(self, asked: Asked) -> Ranked:
        """Rank by what sells, times its factor, and what has not been sold by item id."""
        sold = units_sold(self.popularity[CHANNELS.index(asked.channel)])  # (items,)
        kept = np.ones(len(sold), np.bool_)
        if asked.assortment.allowed is not None:
            kept &= asked.assortment.allowed
        kept[asked.left_out] = False
        if asked.assortment.factors is not None:
            sold = sold * asked.assortment.factors.astype(np.float32)
        best = best_of(sold, kept, asked.depth)  # (<= depth,)
        tier: Tier = "store-popular" if len(best) and sold[best[0]] > 0 else "catalogue"
        found, listed = (
            Scored(rows, sold[rows].astype(np.float64), np.zeros((3, len(rows)), np.float32))
            for rows in (best, asked.listed)
        )
        return Ranked(tier, found, listed, None, _factors(asked))

    def _encode(
        self, items: Rows, channels: Rows
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Encode a history: components (1, 3, d) and has (1, 3)."""
        ones = np.ones((1, len(items)), np.float32)
        return self._encoder.encode(items[None], channels[None], ones)

    @property
    def _can_encode(self) -> bool:
        return self.manifest.encoder == "history"

    @cached_property
    def _engine(self) -> "Engine":
        # onnxruntime: only where a tier needs it
        from c2rec.runtime.engine.engine import Engine, fitting_arrays

        with fitting_arrays():
            return Engine(self._cache, attention=self.manifest.attention)

    @cached_property
    def _encoder(self) -> "Encoder":
        from c2rec.runtime.engine.scorer import Encoder  # onnxruntime: only where a tier needs it

        return Encoder(self._cache)


def _factors(asked: Asked) -> npt.NDArray[np.float64] | None:
    """Factors of the list's items."""
    factors = asked.assortment.factors
    return None if factors is None else factors[asked.listed]
