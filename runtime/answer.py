"""What a kiosk answers."""

from collections.abc import Mapping
from dataclasses import dataclass

from c2rec.runtime.reasons import Reason
from c2rec.runtime.records import AnswerPath, Channel, Tier
from c2rec.runtime.rules.notes import Note


@dataclass(frozen=True, slots=True)
class Attention:
    """α over a customer's components for one item: three weights ≥ 0 that sum to 1.

    All three are 0 where no component took part, as in an answer by popularity.
    """

    shared: float
    offline: float
    online: float


@dataclass(frozen=True, slots=True)
class Item:
    """What a release says of an item."""

    item_id: str
    name: str
    """What to show a person; the item id where the release has no name."""
    metadata: Mapping[str, str]
    """Its further columns."""


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """One item of an answer."""

    item_id: str
    name: str
    """What to show a person; the item id where the release has no name."""
    score: float
    """What the item is ranked by. On the path offline the model's score in the tiers personal and
    basket, units sold in store-popular, each counting less with its age, else 0; on the path
    blend log-odds, on rank-fusion the sum of reciprocal places (``online.py``). In the tier similar
    how much it is like the item that was asked about (``related.py``)."""
    reason: Reason
    attention: Attention
    tier: Tier
    """Which tier it comes from: the answer's, but for what fills up after the tier similar."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a kiosk answers to one request: items, best first, and where they come from."""

    customer_id: str | None
    channel: Channel
    tier: Tier
    """That of its first item."""
    release: str
    items: tuple[RecommendedItem, ...]
    unknown_items: tuple[str, ...]
    """Items of the basket, or asked about, that the release doesn't know; they took no part."""
    elapsed_ms: float
    path: AnswerPath = "offline"
    """How the customer's online scores went in."""
    online_as_of: str | None = None
    """Up to when they know what was done online: UTC, as in ``2026-01-31T09:30:00Z``. None where
    the customer has none."""
    online_age_s: int | None = None
    """Seconds since then."""
    notes: tuple[Note, ...] = ()
    """What kept items back, where there are fewer than asked for."""
    arm: str | None = None
    """``experiment/arm`` that the customer is in by the release that answered; None without."""
    model: str | None = None
    """Which model of the release ranked: ``main``, or that of the arm of this name; None where none
    did. An arm whose model can't be used is answered by ``main``."""
    goes_with: str | None = None
    """Id of the item that was asked about; None where it is about none."""
    instead_of: str | None = None
    """The same, where something in its place was asked for."""

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The tiers of its items, in their order; without items, its own."""
        return tuple(dict.fromkeys(item.tier for item in self.items)) or (self.tier,)
