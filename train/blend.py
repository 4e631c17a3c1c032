"""After the last epoch: how much of the neighbour term and of recent popularity goes in.

The attention model is trained alone. Then the weights of the other terms are chosen on the
validation period, each channel by itself, by a smooth NDCG over the whole catalogue
(``soft_ndcg``): over lists of 10 a few hundred validation customers tell little, and the weights
chosen by them were worse in the test period (``docs/experiments.md``). What recent popularity
adds is the same for everyone and goes into the item bias, so a kiosk pays for the neighbour term
alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from c2rec.runtime.records import CHANNELS
from c2rec.train.batches import PurchaseIndex, Rows
from c2rec.train.config import BlendConfig, ChannelBlend
from c2rec.train.metrics import Ranker, Wanted
from c2rec.train.model import C2Rec
from c2rec.train.neighbours import Floats, NeighbourTerms
from c2rec.train.soft_ndcg import Scores, weigh
from c2rec.train.split import Purchases

SEARCH_K = 100
"""Length of the lists that decide."""
LEAST_GAIN = 0.005
"""A choice changes where NDCG grows by more than this share of itself."""
MEASURED = 50_000_000
"""Customers times items that a search looks at, at most …"""
MEASURED_CUSTOMERS = 2000
"""… and customers …"""
MEASURED_TARGETS = 6000
"""… and targets, about."""
SCALED = 512
"""Customers whose scores give a term's scale."""
REGULARISATIONS = (100.0, 300.0, 1000.0)
HALF_LIVES = (1, 3, 10, 30, 100)
"""Days."""
YEAR, SEASON = 365, 28
"""Days."""
LEAST_ATTENTION = 0.05
"""What the attention's weight can fall to, where the start is 1."""
_NEIGHBOURS = ("regression", "alike", "bought")
_POPULARITIES = (*(f"recent_{days}" for days in HALF_LIVES), "season")


@dataclass(frozen=True, slots=True)
class Blended:
    """What was chosen, and what it did to the validation period."""

    blend: BlendConfig
    """With ``search`` off: the same weights again."""
    before: dict[str, float | None]
    """NDCG@100 of the attention model alone per channel; None where nothing could be measured."""
    after: dict[str, float | None]
    """NDCG@100 of the whole."""


@dataclass(frozen=True, slots=True)
class _Scales:
    """Spread of each term over the catalogue, the mean over customers, per channel."""

    attention: list[float]
    regression: float
    alike: list[float]
    """Per channel."""
    bought: float
    """Mean purchases of a customer: what undoes the mean over them."""


def blend(
    model: C2Rec,
    attention: Ranker,
    index: PurchaseIndex,
    valid: Purchases | None,
    config: BlendConfig,
    *,
    sold: Purchases,
    neighbours: int,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Blended:
    """Set a trained model's neighbours and add recent popularity to its item bias.

    Args:
        model: trained, without neighbours; changed in place.
        attention: its scores, as they are whenever asked.
        index: training purchases.
        valid: what to choose by; None, or nothing measurable in a channel, leaves the weights as
            they are in ``config``.
        config: where to begin, and whether to search.
        sold: purchases that popularity counts.
        neighbours: entries in each item's row; 0 for no neighbour term.
        say: told what is being done.
        progress: told how many of how many rows of the neighbour term are made.
    """
    terms, wanted, config = _choose_regression(index, valid, config, neighbours=neighbours, say=say)
    scales = _scales(attention, terms, index)
    chosen: list[ChannelBlend] = []
    before: dict[str, float | None] = {}
    after: dict[str, float | None] = {}
    for channel, name in enumerate(CHANNELS):
        say(f"choosing the blend, {name}")
        weights = config.offline if channel == 0 else config.online
        if not neighbours:
            weights = replace(weights, regression=0.0, alike=0.0, bought=0.0)
        before[name] = after[name] = None
        if wanted is not None and len(wanted[channel].customers):
            targets = wanted[channel]
            features = _Features(attention, terms, scales, sold, targets.customers, channel)
            before[name] = targets.ndcg(features.attention, SEARCH_K)
            if config.search:
                weights = features.search(targets, weights, neighbours=neighbours > 0)
            after[name] = targets.ndcg(features.total(weights), SEARCH_K)
        chosen.append(weights)
    with torch.no_grad():
        for channel, weights in enumerate(chosen):
            popularity = popularity_term(sold, channel, weights, known=index.known)
            scale = scales.attention[channel]
            model.item_bias.weight[:, channel] += torch.from_numpy(popularity * scale).float()
    if neighbours:
        factors = np.array(
            [
                [
                    weights.regression * scale / scales.regression,
                    weights.alike * scale / alike,
                    weights.bought * scale * scales.bought,
                ]
                for weights, scale, alike in zip(
                    chosen, scales.attention, scales.alike, strict=True
                )
            ]
        )
        say("making the rows of the neighbour term")
        model.neighbours, common = terms.rows(
            weights=factors, neighbours=neighbours, progress=progress
        )
        with torch.no_grad():
            model.item_bias.weight += torch.from_numpy(common.T).float()
    for channel, name in enumerate(CHANNELS):
        if wanted is not None and after[name] is not None:  # by now the scores are the whole's
            scores = attention.scores(wanted[channel].customers, channel)
            after[name] = wanted[channel].ndcg(scores, SEARCH_K)
    offline, online = chosen
    return Blended(replace(config, search=False, offline=offline, online=online), before, after)


def popularity_term(
    purchases: Purchases, channel: int, weights: ChannelBlend, *, known: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Weigh the channel's recent and seasonal popularity: float64 (items,).

    Args:
        purchases: what is counted.
        channel: row of ``CHANNELS``.
        weights: of the popularities.
        known: bool (items,): the items over which the mean is 0.
    """
    each = np.array([getattr(weights, name) for name in _POPULARITIES])
    total: npt.NDArray[np.float64] = each @ popularities(purchases, channel, known=known)
    return total


def popularities(
    purchases: Purchases, channel: int, *, known: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Count the channel's purchases by age: float64 (terms, items), each with mean 0 over known."""
    items = len(known)
    here = purchases.channels == channel
    bought = purchases.items[here]
    ages = purchases.days.max() - purchases.days[here]  # (purchases,), days
    counts = [
        np.bincount(bought, 0.5 ** (ages / half_life), minlength=items) for half_life in HALF_LIVES
    ]
    in_season = (ages < YEAR) & (ages >= YEAR - SEASON)
    counts.append(np.bincount(bought[in_season], minlength=items).astype(np.float64))
    logs = np.log1p(counts)  # (terms, items)
    centred: npt.NDArray[np.float64] = logs - logs[:, known].mean(1, keepdims=True)
    return centred


def _choose_regression(
    index: PurchaseIndex,
    valid: Purchases | None,
    config: BlendConfig,
    *,
    neighbours: int,
    say: Callable[[str], None],
) -> tuple[NeighbourTerms, list[Wanted] | None, BlendConfig]:
    """Choose λ by what EASE alone reaches, averaged over the channels."""
    say("finding neighbours")
    terms = NeighbourTerms(index, regularisation=config.regularisation)
    if valid is None:
        return terms, None, config
    most = max(1, min(MEASURED_CUSTOMERS, MEASURED // index.items))
    wanted = [
        _few_enough(Wanted.of(index, valid, channel, new_only=True, listed=index.known), most)
        for channel in range(len(CHANNELS))
    ]
    measured = [targets for targets in wanted if len(targets.customers)]
    if not config.search or not neighbours or not measured:
        return terms, wanted, config

    def reached(each: NeighbourTerms) -> float:
        return sum(t.ndcg(each.regressed(t.customers), SEARCH_K) for t in measured)

    best = reached(terms)
    for regularisation in REGULARISATIONS:
        if regularisation != config.regularisation:
            other = terms.with_regularisation(regularisation)
            if reached(other) > best * (1 + LEAST_GAIN):
                terms, best = other, reached(other)
                config = replace(config, regularisation=regularisation)
    return terms, wanted, config


def _few_enough(wanted: Wanted, most: int) -> Wanted:
    """Keep so many customers at most, and about so many targets as can be compared in time."""
    mean = wanted.targets.mean() if len(wanted.targets) else 1.0
    return wanted.sample(max(1, min(most, int(MEASURED_TARGETS / mean))))


def _scales(attention: Ranker, terms: NeighbourTerms, index: PurchaseIndex) -> _Scales:
    spread = np.linspace(0, index.customers - 1, min(SCALED, index.customers))
    customers = np.unique(spread.astype(np.int64))
    most = max(1, MEASURED // index.items)
    customers = customers[:most]
    known, channels = index.known, range(len(CHANNELS))
    return _Scales(
        [_spread(attention.scores(customers, channel)[:, known]) for channel in channels],
        _spread(terms.regressed(customers)[:, known]),
        [_spread(terms.alike(customers, channel)[:, known]) for channel in channels],
        float(terms.lengths[customers].mean()),
    )


def _spread(scores: Floats) -> float:
    # a term that says nothing (one item, no pair bought together) must not divide by 0
    return float(scores.std(1).mean()) or 1.0


class _Features:
    """All terms' scores for some customers in one channel, each in units of the attention's."""

    def __init__(
        self,
        attention: Ranker,
        terms: NeighbourTerms,
        scales: _Scales,
        sold: Purchases,
        customers: Rows,
        channel: int,
    ) -> None:
        self.attention = attention.scores(customers, channel) / scales.attention[channel]
        self._neighbours = [
            terms.regressed(customers) / scales.regression,
            terms.alike(customers, channel) / scales.alike[channel],
            terms.both(customers) * scales.bought,
        ]
        self._common = popularities(sold, channel, known=terms.known).astype(np.float32)

    def total(self, weights: ChannelBlend) -> Floats:
        """Blend: float32 (n, items)."""
        total = self.attention + _values(weights, _POPULARITIES) @ self._common
        for weight, term in zip(_values(weights, _NEIGHBOURS), self._neighbours, strict=True):
            if weight:
                total += weight * term
        return total

    def search(self, targets: Wanted, start: ChannelBlend, *, neighbours: bool) -> ChannelBlend:
        """Weigh by what reaches most: what is found, or the start, or the attention alone."""
        personal = [self.attention, *(self._neighbours if neighbours else ())]
        names = (*(_NEIGHBOURS if neighbours else ()), *_POPULARITIES)
        least = np.full(1 + len(names), -np.inf)
        least[0], least[1 : len(personal)] = LEAST_ATTENTION, 0.0
        begin = np.array([1.0, *_values(start, names)])
        found = weigh(Scores(personal, self._common), targets, begin, least)
        # only the proportions matter for a ranking: the attention's weight becomes 1
        option = replace(
            start, **dict(zip(names, (found[1:] / found[0]).round(4).tolist(), strict=True))
        )
        alone = replace(start, **dict.fromkeys(names, 0.0))
        # the first of equal ones
        return max(
            (start, option, alone), key=lambda each: targets.ndcg(self.total(each), SEARCH_K)
        )


def _values(weights: ChannelBlend, names: Sequence[str]) -> Floats:
    return np.array([getattr(weights, name) for name in names], np.float32)
