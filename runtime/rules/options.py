"""What one request may ask for beside who, where and how many."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from c2rec.runtime.errors import RequestError
from c2rec.runtime.rules.rules import Price, Selector

MOST_N = 1000
"""Greatest n of at most n."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Wishes of one request; the rules of head office and the store hold all the same.

    Raises:
        RequestError: one can't be so; the message names it, its value and what is allowed.
    """

    where: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By column of the items: the values of which an item must have one."""
    price: Price | None = None
    """The range in which its price must be known to be."""
    at_most: Mapping[str, int] = field(default_factory=dict)
    """By column: how many items with the same value an answer may have."""
    diversity: float | None = None
    """0..1: how much less an item counts for being like those above it; None: as the rules say."""
    dismissed: Collection[str] = ()
    """Ids of items that the shopper isn't interested in."""
    times_shown: Mapping[str, int] = field(default_factory=dict)
    """By item id: how often this visit has shown it without a tap."""
    goes_with: str | None = None
    """Id of an item: only what goes with it is asked for."""
    instead_of: str | None = None
    """Id of an item: something in its place is asked for; diversity then plays no part."""
    alike_in: str | None = None
    """The column in which that must be the same; None: the one that tells kinds of items best."""

    def __post_init__(self) -> None:
        for column, values in self.where.items():
            if not values or isinstance(values, str):
                raise RequestError(f"where: {column} is {values!r}; allowed: one or more values")
        if self.price is not None and not 0 <= self.price.low <= self.price.high:  # NaN neither
            raise RequestError(
                f"price is {self.price.low} to {self.price.high}; allowed: two numbers from 0, "
                "the second not below the first"
            )
        for column, n in self.at_most.items():
            if type(n) is not int or not 1 <= n <= MOST_N:
                raise RequestError(f"at_most: {column} is {n!r}; allowed: 1 to {MOST_N}")
        if self.goes_with is not None and self.instead_of is not None:
            raise RequestError(
                "goes_with and instead_of are both given; allowed: one of them in a request"
            )
        if self.alike_in is not None and self.instead_of is None:
            raise RequestError("alike_in is given; allowed: together with instead_of")
        if self.diversity is not None and not 0 <= self.diversity <= 1:
            raise RequestError(f"diversity is {self.diversity}; allowed: 0 to 1")

    @property
    def about(self) -> str | None:
        """Id of the item that the request is about; None: it is about none."""
        return self.goes_with if self.instead_of is None else self.instead_of

    @property
    def selector(self) -> Selector:
        """Which items may be shown."""
        where = sorted((column, frozenset(values)) for column, values in self.where.items())
        return Selector(None, tuple(where), self.price)


ANYTHING = Options()
