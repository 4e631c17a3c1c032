"""Every number that puts one item where it is, for one customer: nothing is estimated.

A score is Σ_k α_k (x_k · y_v) + n_v + b_v (``docs/release-format.md``). It is taken apart in
float64; the sum differs from what the engine ranks by, float32, by rounding alone. Ranks are
counted in whole rankings, which the engine makes as it does for an answer.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from c2rec.runtime.reasons import Reason
from c2rec.runtime.records import CHANNELS, COMPONENTS, AnswerPath, Channel, Component, Tier
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.item_side import ArmSide
from c2rec.runtime.rules.assortment import Assortment
from c2rec.runtime.rules.policy import Policy, Touch
from c2rec.runtime.serving.asked import NO_ROWS, Asked
from c2rec.runtime.serving.asking import Asking
from c2rec.runtime.serving.models import Serving
from c2rec.runtime.serving.online import BLEND_WEIGHT, FUSION_WEIGHT, RANK_CONSTANT, STRANGER_WEIGHT
from c2rec.runtime.serving.online_side import Listed
from c2rec.runtime.serving.ranked import Chosen, Ranking
from c2rec.runtime.serving.tiers import Known, Tiers

LOUDEST = 5
"""Purchases that are told one by one."""

Bar: TypeAlias = Literal["basket", "bought"]
"""Why an item is not shown to this customer, beside rules."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one component of the customer adds to a score."""

    component: Component
    has: bool
    """Whether the customer has data for it."""
    weight: float
    """α"""
    affinity: float
    """x · y"""
    product: float
    """What is added: α (x · y)."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """A purchase, or an item in the basket, that names the item among its neighbours."""

    item_id: str
    name: str
    channel: Channel
    in_basket: bool
    says: float
    """Its share of the neighbour term."""


@dataclass(frozen=True, slots=True)
class Score:
    """The model's score, taken apart."""

    parts: tuple[Part, ...]
    neighbours: float
    """n_v, the sum of what all speakers say."""
    speakers: tuple[Speaker, ...]
    """The loudest of them, up or down, the loudest first."""
    more_speakers: int
    """How many there are besides."""
    bias: float
    """b_v, everybody's."""
    total: float
    """The sum of all this."""
    engine: float
    """What the engine ranks by, float32."""


@dataclass(frozen=True, slots=True)
class OnlineList:
    """What the customer's online list says of the item."""

    age_s: int
    weight: float
    """What the list weighs in the merged ranking at this age; 0 where it is too old."""
    place: int | None
    """Its place in the whole list, from 1; None: it isn't in it."""
    probability: float | None
    """That it is bought there; None where the list doesn't say."""
    from_release: float
    """What the release adds to the merged value: on the path blend (1 - w) times its log-odds, on
    rank-fusion 1 / (60 + its rank there), all of which counts where all items are asked for."""
    from_list: float
    """What the list adds: w times the log-odds, or w f / (60 + place); 0 where it doesn't count."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item is where it is."""

    item_id: str
    name: str
    customer_id: str | None
    known: bool
    """Whether the release knows the customer."""
    channel: Channel
    release: str
    arm: str | None
    """``experiment/arm`` that the customer is in; None without."""
    model: str | None
    """Which model of the release ranks; None where none does."""
    unknown_items: tuple[str, ...]
    """Items of the basket that the release doesn't know."""
    items: int
    """How many items the release has."""
    shown: int
    """How many of them may be shown to this customer."""
    tier: Tier
    score: Score | None
    """None where no model takes part."""
    sold: float
    """Units sold in this channel, each counting less with its age."""
    rank: int
    """Its rank among all items by the model's score or, without a model, by units sold."""
    touches: tuple[Touch, ...]
    """Each rule that touches it, and what it does."""
    factor: float
    """Of all rules together; it multiplies the odds, or units sold."""
    bars: tuple[Bar, ...]
    """Why it is not shown to this customer, beside rules."""
    path: AnswerPath
    online: OnlineList | None
    """None where the customer has none."""
    value: float | None
    """What it is ranked by in the end, with factor and online list; None: it may not be shown."""
    shown_rank: int | None
    """Its rank by that among what may be shown."""
    place: int | None
    """Its place in an answer of k items, after caps, diversity and repeats; None: not in it."""
    k: int
    reason: Reason
    """What a shopper is told."""


def explain(
    row: int,
    asking: Asking,
    serving: Serving,
    *,
    policy: Policy | None,
    customer_id: str | None,
    unknown_items: tuple[str, ...],
) -> Explanation:
    """Explain one item.

    Args:
        row: of the item.
        asking: the request, with all that was looked up for it.
        serving: what answers it.
        policy: the rules, or None.
        customer_id: who asks, or None.
        unknown_items: of the basket.

    Raises:
        HomeError: the cache is damaged.
        ReleaseError: the model can't be run.
    """
    known, model = serving.known(asking), serving.model
    cache, tiers, told = model.side, model.tiers, model.told
    channel, count = CHANNELS.index(asking.channel), tiers.manifest.counts.items
    ((item_id, name),) = cache.item_names([row])
    listed, customer = asking.listed, asking.customer
    everything = _whole(tiers, known, asking.channel)
    ranking = asking.ranker(tiers, known)(count)
    rows = [each.row for each in ranking.items]
    at = rows.index(row) if row in rows else None
    picked = asking.answer(tiers, known, told)
    chosen = [each.row for each in picked.chosen]
    score = None
    if known is not None:
        score = _score(row, known, channel, cache, tiers)
    (item,) = told.items(ranking, [_chosen(row, at, ranking, score)], asking.channel, None)
    factors = asking.wish.assortment.factors
    bars: tuple[Bar, ...] = ("basket",) if row in asking.basket else ()
    bars += ("bought",) if row in asking.bought else ()
    return Explanation(
        item_id=item_id,
        name=name,
        customer_id=customer_id,
        known=customer is not None,
        channel=asking.channel,
        release=tiers.manifest.release,
        arm=serving.arm,
        model=None if known is None else model.name,
        unknown_items=unknown_items,
        items=count,
        shown=len(rows),
        tier=ranking.ranked.tier,
        score=score,
        sold=float(tiers.popularity[channel, row]),
        rank=everything.index(row) + 1,
        touches=() if policy is None else tuple(policy.touching(row)),
        factor=1.0 if factors is None else float(factors[row]),
        bars=bars,
        path=ranking.path,
        online=None if listed is None else _online(row, listed, ranking, asking, score, tiers),
        value=None if at is None else ranking.items[at].value,
        shown_rank=None if at is None else at + 1,
        place=chosen.index(row) + 1 if row in chosen else None,
        k=asking.k,
        reason=item.reason,
    )


def _whole(tiers: Tiers, known: Known | None, channel: Channel) -> list[int]:
    """Rows of all items, best first, without rules and with nothing left out."""
    asked = Asked(NO_ROWS, tiers.manifest.counts.items, channel, Assortment(None, None), NO_ROWS)
    ranked = None if known is None else tiers.modelled(known, asked)
    rows: list[int] = (ranked or tiers.popular(asked)).best.rows.tolist()
    return rows


def _score(row: int, known: Known, channel: int, cache: Cache | ArmSide, tiers: Tiers) -> Score:
    basis = known.basis
    engine, attention = tiers.score_one(row, known, channel)  # (), (3,)
    vector = cache.array("item_embeddings")[row].astype(np.float64)  # (d,)
    affinities = basis.components.astype(np.float64) @ vector  # (3,)
    weights = attention.astype(np.float64)
    has = known.has[0].tolist()
    parts = tuple(
        Part(
            name, has[i], float(weights[i]), float(affinities[i]), float(weights[i] * affinities[i])
        )
        for i, name in enumerate(COMPONENTS)
    )
    says = _says(row, basis.items, channel, cache)  # (length,)
    loud = np.lexsort((np.arange(len(says)), -np.abs(says)))
    loud = loud[says[loud] != 0]
    names = cache.item_names(basis.items[loud[:LOUDEST]].tolist())
    speakers = tuple(
        Speaker(
            item_id,
            name,
            CHANNELS[int(basis.channels[place])],
            bool(basis.in_basket[place]),
            float(says[place]),
        )
        for place, (item_id, name) in zip(loud[:LOUDEST].tolist(), names, strict=True)
    )
    bias, neighbours = float(cache.array("item_bias")[channel, row]), float(says.sum())
    return Score(
        parts=parts,
        neighbours=neighbours,
        speakers=speakers,
        more_speakers=max(len(loud) - LOUDEST, 0),
        bias=bias,
        total=sum(part.product for part in parts) + neighbours + bias,
        engine=engine,
    )


def _says(
    row: int, history: npt.NDArray[np.int64], channel: int, cache: Cache | ArmSide
) -> npt.NDArray[np.float64]:
    """What each purchase says of an item, its share of the mean: float64 (length,)."""
    named = cache.array("neighbour_items")[history] == row  # (length, m)
    weights = cache.array("neighbour_weights")[history, channel].astype(np.float64)  # (length, m)
    says: npt.NDArray[np.float64] = np.where(named, weights, 0.0).sum(1) / max(len(history), 1)
    return says


def _chosen(row: int, at: int | None, ranking: Ranking, score: Score | None) -> Chosen:
    """The item as an answer would have it, though it may not be shown."""
    if at is not None:
        return ranking.items[at]
    if score is None:
        return Chosen(row, 0.0, (0.0, 0.0, 0.0), by_list=False)
    shared, offline, online = (part.weight for part in score.parts)
    return Chosen(row, score.engine, (shared, offline, online), by_list=False)


def _online(
    row: int,
    listed: Listed,
    ranking: Ranking,
    asking: Asking,
    score: Score | None,
    tiers: Tiers,
) -> OnlineList:
    weight = {"blend": BLEND_WEIGHT, "offline": 0.0}.get(
        ranking.path, STRANGER_WEIGHT if ranking.ranked.basis is None else FUSION_WEIGHT
    )
    weight *= listed.fresh.share
    found = np.flatnonzero(listed.rows == row)
    place = int(listed.places[found[0]]) if len(found) else None
    odds = float(listed.odds[found[0]]) if len(found) and listed.odds is not None else None
    factors = asking.wish.assortment.factors
    factor = 1.0 if factors is None else float(factors[row])
    from_release = from_list = 0.0
    calibration = tiers.manifest.calibration
    if ranking.path == "blend" and score is not None and calibration is not None:
        slope, intercept = calibration[CHANNELS.index(asking.channel)]
        mine = slope * score.engine + np.log(factor) + intercept
        from_release = float((1 - weight) * mine)
        its = listed.least if odds is None else odds + np.log(factor)
        from_list = float(weight * its)
    elif ranking.path == "rank-fusion":
        offline = ranking.ranked.best.rows.tolist()
        if row in offline:
            from_release = 1 / (RANK_CONSTANT + offline.index(row) + 1)
            from_list = weight * factor / (RANK_CONSTANT + place) if place is not None else 0.0
    return OnlineList(
        listed.fresh.age_s,
        weight,
        place,
        None if odds is None else float(1 / (1 + np.exp(-odds))),
        from_release,
        from_list,
    )
