"""Rules made ready for one release and one shelf: arrays, which many requests share."""

from collections.abc import Iterator
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from c2rec.runtime.rules.goods import UNKNOWN, Goods
from c2rec.runtime.rules.notes import Note
from c2rec.runtime.rules.rules import NEVER, Cap, Origin, Rule, Rules

HidingEffect: TypeAlias = Literal["denied", "not allowed", "sold out", "stock unknown"]
Effect: TypeAlias = HidingEffect | Literal["boosted", "buried", "window", "cap"]

MOST_FACTOR = 1e9
"""Many rules together multiply by no more, and by no less than 1 by it: neither infinity nor 0."""

_Flags = npt.NDArray[np.bool_]
_Value = TypeVar("_Value")


class Touch(NamedTuple):
    """What one rule does to one item."""

    rule: str
    """What it is called."""
    origin: Origin
    effect: Effect
    number: float | None
    """The factor of boosted and buried, the days of window, the n of cap, the stock of sold out;
    None otherwise."""

    @property
    def hides(self) -> bool:
        """Whether the item is never shown for it."""
        return self.effect in ("denied", "not allowed", "sold out", "stock unknown")


class _Hiding(NamedTuple):
    """Something that hides items."""

    effect: HidingEffect
    title: str
    origin: Origin
    hidden: _Flags
    """bool (n,)"""


class BoundCap(NamedTuple):
    """A cap, and the value of each item."""

    cap: Cap
    codes: npt.NDArray[np.int32]
    """int32 (n,), 0 for none"""


class Policy:
    """What head office and the store say of a release's n items.

    Args:
        of_release: the rules that came with the release.
        of_store: the store's own; hard rules of both hold, and its single values win.
        goods: the items.

    Attributes:
        allowed: bool (n,), what may be shown to anybody.
        factors: float64 (n,), what the odds of each item are multiplied by; None: all by 1.
        windows: int32 (n,), days after which what was bought may be shown again; None: never.
        caps: how many items of a kind one answer may have.
        diversity: 0..1; 0: none.
        repeats: how often an item may be shown in a visit; None: as often as it comes.

    Raises:
        HomeError: the release's cache is damaged.
    """

    def __init__(self, of_release: Rules, of_store: Rules, goods: Goods) -> None:
        self._both, self._goods = (of_release, of_store), goods
        goods.read(of_release.columns | of_store.columns)
        self._least = _either(of_store.least_stock, of_release.least_stock, 1)
        self._unknown = _either(of_store.unknown_stock, of_release.unknown_stock, "shown")
        self.allowed: _Flags = np.ones(goods.count, np.bool_)
        for hider in self._hiding():
            self.allowed &= ~hider.hidden
        self.factors: npt.NDArray[np.float64] | None = None
        for rule in self._rules("weigh"):
            if self.factors is None:
                self.factors = np.ones(goods.count)
            with np.errstate(over="ignore", under="ignore"):  # of more than a hundred rules
                self.factors[goods.matching(rule.selector)] *= rule.factor
        if self.factors is not None:
            self.factors = np.clip(self.factors, 1 / MOST_FACTOR, MOST_FACTOR)
        self.windows: npt.NDArray[np.int32] | None = None
        for rule in self._rules("bought"):
            if self.windows is None:
                self.windows = np.full(goods.count, UNKNOWN, np.int32)
            found = goods.matching(rule.selector)
            self.windows[found] = np.maximum(self.windows[found], rule.days)
        if self.windows is not None:
            self.windows[self.windows == UNKNOWN] = NEVER
        self.caps = [
            BoundCap(cap, goods.column(cap.column).codes)
            for rules in self._both
            for cap in rules.at_most
        ]
        self.diversity = _either(of_store.diversity, of_release.diversity, 0.0)
        self.repeats = _either(of_store.repeats, of_release.repeats, None)

    def touching(self, row: int) -> list[Touch]:
        """What each rule that touches an item does to it."""
        found = []
        for hider in self._hiding():
            if hider.hidden[row]:
                number = float(self._goods.stock[row]) if hider.effect == "sold out" else None
                found.append(Touch(hider.title, hider.origin, hider.effect, number))
        for rule in [*self._rules("weigh"), *self._rules("bought")]:
            if self._goods.matching(rule.selector)[row]:
                effect, number = _effect_of(rule)
                found.append(Touch(rule.title, rule.origin, effect, number))
        found += [
            Touch(cap.title, cap.origin, "cap", cap.n) for cap, codes in self.caps if codes[row]
        ]
        return found

    @cached_property
    def kept_back(self) -> tuple[Note, ...]:
        """How many items each rule hides; one may be hidden by several."""
        notes = []
        for effect, title, origin, hidden in self._hiding():
            count = int(hidden.sum())
            if count:
                notes.append(Note(effect, "" if origin == "shelf" else title, count))
        return tuple(notes)

    def _hiding(self) -> Iterator["_Hiding"]:
        """Whatever hides items."""
        for rule in self._rules("deny"):
            matching = self._goods.matching(rule.selector)
            yield _Hiding("denied", rule.title, rule.origin, matching)
        for rules in self._both:
            if rules.allow:
                inside = np.zeros(self._goods.count, np.bool_)
                for rule in rules.allow:
                    inside |= self._goods.matching(rule.selector)
                titles = ", ".join(rule.title for rule in rules.allow)
                yield _Hiding("not allowed", titles, rules.allow[0].origin, ~inside)
        stock = self._goods.stock
        sold_out = (stock != UNKNOWN) & (stock < self._least)
        yield _Hiding("sold out", "sold out", "shelf", sold_out)
        if self._unknown == "hidden":
            yield _Hiding("stock unknown", "stock unknown", "shelf", stock == UNKNOWN)

    def _rules(self, name: Literal["deny", "weigh", "bought"]) -> Iterator[Rule]:
        for rules in self._both:
            yield from getattr(rules, name)


def _effect_of(rule: Rule) -> tuple[Effect, float]:
    if rule.kind == "bought":
        return "window", rule.days
    return ("boosted" if rule.kind == "boost" else "buried"), rule.factor


def _either(wins: _Value | None, other: _Value | None, default: _Value) -> _Value:
    if wins is not None:
        return wins
    return default if other is None else other
