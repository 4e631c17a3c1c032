"""An offline ranking, and what becomes of it when a customer's online list is merged in."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from c2rec.runtime.records import CHANNELS, AnswerPath, Tier
from c2rec.runtime.release.manifest import Manifest
from c2rec.runtime.serving.because import Basis
from c2rec.runtime.serving.online import (
    BLEND_WEIGHT,
    FUSION_WEIGHT,
    STRANGER_WEIGHT,
    blend,
    fuse_ranks,
)
from c2rec.runtime.serving.online_side import Listed

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]


class Scored(NamedTuple):
    """Items with what the release says of them."""

    rows: _Rows
    """int64 (m,)"""
    scores: npt.NDArray[np.float64]
    """float64 (m,), what they are ranked by: factors of rules are in it"""
    attention: _Floats
    """float32 (3, m), 0 where no model took part"""


class Ranked(NamedTuple):
    """What a tier ranks."""

    tier: Tier
    best: Scored
    """Best first: the first k, or k + L where there is a list."""
    listed: Scored
    """The L items of the list, in its order."""
    basis: Basis | None
    """What the scores were computed from; None without a model."""
    factors: npt.NDArray[np.float64] | None
    """float64 (L,), what rules multiply the odds of the list's items by; None for 1 each."""


class Chosen(NamedTuple):
    """One item of the answer."""

    row: int
    value: float
    """What it is ranked by."""
    attention: tuple[float, float, float]
    by_list: bool
    """Whether it is there because the list has it: it isn't among the first of the offline ranking,
    as many as were asked for."""


class Ranking(NamedTuple):
    """The best items, merged with the list."""

    ranked: Ranked
    """What a tier ranked."""
    path: AnswerPath
    items: list[Chosen]
    """Best first."""
    alike: frozenset[int] = frozenset()
    """Rows of those that come from the tier similar instead, before the others."""

    def tier_of(self, row: int) -> Tier:
        """The tier that an item comes from."""
        return "similar" if row in self.alike else self.ranked.tier


def choose(
    ranked: Ranked,
    listed: Listed | None,
    manifest: Manifest,
    channel: int,
    k: int,
    *,
    asked: int,
) -> Ranking:
    """Take the k best, merged with the list where it is fresh.

    Args:
        ranked: what a tier ranks.
        listed: the customer's online list, or None.
        manifest: of the release.
        channel: 0 offline, 1 online.
        k: how many items, at least 1; rules may need more than were asked for.
        asked: how many were asked for.
    """
    best = ranked.best
    path: AnswerPath = "offline"
    from_list = set[int]()
    rows, values = best.rows[:k], best.scores[:k]
    if listed is not None and len(listed.rows) and listed.fresh.share > 0:
        path, (rows, values) = _merged(ranked, listed, manifest, channel, k)
        from_list = set(listed.rows.tolist()) - set(best.rows[:asked].tolist())
    attention: dict[int, tuple[float, float, float]] = {}
    for part in (ranked.listed, best):
        alphas = map(tuple, part.attention.T.tolist())
        attention |= dict(zip(part.rows.tolist(), alphas, strict=True))
    items = [
        Chosen(row, value, attention[row], row in from_list)
        for row, value in zip(rows.tolist(), values.tolist(), strict=True)
    ]
    return Ranking(ranked, path, items)


def _merged(
    ranked: Ranked, listed: Listed, manifest: Manifest, channel: int, k: int
) -> tuple[AnswerPath, tuple[_Rows, npt.NDArray[np.float64]]]:
    by_model = ranked.basis is not None
    comparable = (listed.scores.space, listed.scores.channel) == (manifest.space, CHANNELS[channel])
    factors = np.ones(len(listed.rows)) if ranked.factors is None else ranked.factors
    if by_model and comparable and manifest.calibration is not None and listed.odds is not None:
        return "blend", blend(
            ranked.best.rows,
            ranked.best.scores,
            listed.rows,
            ranked.listed.scores,
            listed.odds + np.log(factors),
            least=listed.least,
            calibration=manifest.calibration[channel],
            weight=BLEND_WEIGHT * listed.fresh.share,
            k=k,
        )
    weight = (FUSION_WEIGHT if by_model else STRANGER_WEIGHT) * listed.fresh.share
    return "rank-fusion", fuse_ranks(
        ranked.best.rows, listed.rows, listed.places, weights=weight * factors, k=k
    )
