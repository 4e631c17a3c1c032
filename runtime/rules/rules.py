"""What a retailer wants and does not want to be recommended: the rules, as data.

``rules_file.py`` reads them, ``policy.py`` makes arrays of them for one release and one shelf.
Nothing here imports numpy.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Origin: TypeAlias = Literal["release", "store", "shelf", "request"]
"""Who says so: head office, in the release; the store, in its own file; its stock; who asks."""
Kind: TypeAlias = Literal["deny", "allow", "boost", "bury", "bought", "at_most"]
UnknownStock: TypeAlias = Literal["shown", "hidden"]

NEVER = 2**31 - 1
"""Days after which what was bought may be shown again, where no rule says so."""


@dataclass(frozen=True, slots=True)
class Price:
    """A range of prices, both ends included, in the store's currency."""

    low: float = 0.0
    high: float = float("inf")


@dataclass(frozen=True, slots=True)
class Selector:
    """Some of the items: those for which all given conditions hold; without any, all items."""

    items: frozenset[str] | None = None
    """Their ids."""
    where: tuple[tuple[str, frozenset[str]], ...] = ()
    """Columns of the items, and the values that each may have."""
    price: Price | None = None
    """An item of unknown price is not in it."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it looks at."""
        return tuple(column for column, _ in self.where)


@dataclass(frozen=True, slots=True)
class Rule:
    """What is to become of some items."""

    kind: Kind
    number: int
    """Its place among the rules of this kind in its file, from 1."""
    name: str
    """What its author calls it; empty: nothing."""
    origin: Origin
    selector: Selector
    factor: float = 1.0
    """Of boost and bury: what the odds that the item is bought are multiplied by."""
    days: int = NEVER
    """Of bought: after so many days it may be shown again."""

    @property
    def title(self) -> str:
        """How it is spoken of."""
        return self.name or f"{self.kind} {self.number}"


@dataclass(frozen=True, slots=True)
class Cap:
    """At most n items that have the same value in a column; items without a value don't count."""

    number: int
    name: str
    origin: Origin
    column: str
    n: int

    @property
    def title(self) -> str:
        """How it is spoken of."""
        return self.name or f"at most {self.n} per {self.column}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a file says; empty without one."""

    deny: tuple[Rule, ...] = ()
    """None of these."""
    allow: tuple[Rule, ...] = ()
    """If there is any: only what one of these has."""
    weigh: tuple[Rule, ...] = ()
    """Boost and bury."""
    bought: tuple[Rule, ...] = ()
    at_most: tuple[Cap, ...] = ()
    diversity: float | None = None
    """0..1: how much less an item counts for being like those above it."""
    repeats: int | None = None
    """An item that was shown so often in one visit, and not tapped, goes behind all others."""
    unknown_stock: UnknownStock | None = None
    """What becomes of an item that the stock feed doesn't name."""
    least_stock: int | None = None
    """An item of which there are fewer counts as sold out."""

    @property
    def columns(self) -> frozenset[str]:
        """Columns that any rule looks at."""
        selecting = (*self.deny, *self.allow, *self.weigh, *self.bought)
        found = {column for rule in selecting for column in rule.selector.columns}
        return frozenset(found | {cap.column for cap in self.at_most})

    def fitting(self, columns: Iterable[str]) -> "Rules":
        """Only the rules that look at none but these columns."""
        known = frozenset(columns)

        def fit(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
            return tuple(rule for rule in rules if known.issuperset(rule.selector.columns))

        return replace(
            self,
            deny=fit(self.deny),
            allow=fit(self.allow),
            weigh=fit(self.weigh),
            bought=fit(self.bought),
            at_most=tuple(cap for cap in self.at_most if cap.column in known),
        )

    def __bool__(self) -> bool:
        return self != _NO_RULES


_NO_RULES = Rules()
