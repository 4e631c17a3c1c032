"""Why an item is recommended, and the words for it: the one table of them.

``because.py`` finds out which reason is true; here it is put into words. A name stands in quotes,
and in Korean before a noun of ours, so that no particle hangs on how a name ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from c2rec.runtime.records import Channel, Language

ReasonKind: TypeAlias = Literal[
    "bought", "basket", "like", "with", "online-list", "popular", "catalogue"
]
_Where: TypeAlias = tuple[Channel, ...]

_STORE: _Where = ("offline",)
_ONLINE: _Where = ("online",)
_BOTH: _Where = ("offline", "online")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an item is recommended; ``str`` tells it in English.

    Args:
        kind: what it is like or goes with, or what sells.
        where: channels of the purchases that are spoken of, in the order of ``CHANNELS``.
        names: names of the one or two items that it goes with; none where it is many.
    """

    kind: ReasonKind
    where: _Where = ()
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.words("en")

    def words(self, language: Language) -> str:
        """Tell it."""
        words = _WORDS[language]
        plain, named = words[self.kind, self.where]
        if not self.names or named is None:
            return plain
        return named.format(_AND[language].join(_QUOTED[language].format(n) for n in self.names))

    def discreet(self) -> "Reason":
        """The same without the names of what was bought before: a screen has bystanders."""
        return Reason(self.kind, self.where) if self.kind == "bought" else self


BASKET = Reason("basket")
CATALOGUE = Reason("catalogue")
ONLINE = Reason("online-list")
"""Where the item is in the answer because the online list has it."""
POPULAR: dict[Channel, Reason] = {
    "offline": Reason("popular", _STORE),
    "online": Reason("popular", _ONLINE),
}

_QUOTED: dict[Language, str] = {"en": "“{}”", "de": "„{}“", "ko": "‘{}’"}
_AND: dict[Language, str] = {"en": " and ", "de": " und ", "ko": ", "}

_WORDS: dict[Language, Mapping[tuple[ReasonKind, _Where], tuple[str, str | None]]] = {
    "en": {
        ("bought", _BOTH): (
            "like what you buy in the store and online",
            "goes with {}, which you bought in the store and online",
        ),
        ("bought", _STORE): (
            "like what you buy in the store",
            "goes with {}, which you bought in the store",
        ),
        ("bought", _ONLINE): ("like what you buy online", "goes with {}, which you bought online"),
        ("bought", ()): ("like what you buy", "goes with {}, which you bought"),
        ("basket", ()): ("goes with what is in the basket", "goes with {} in the basket"),
        ("like", ()): ("like this item", "like {}"),
        ("with", ()): ("goes with this item", "goes with {}"),
        ("online-list", ()): ("recommended to you online", None),
        ("popular", _STORE): ("popular in the store", None),
        ("popular", _ONLINE): ("popular online", None),
        ("catalogue", ()): ("from the catalogue", None),
    },
    "de": {
        ("bought", _BOTH): (
            "ähnelt dem, was Sie im Laden und online kaufen",
            "passt zu {}, im Laden und online von Ihnen gekauft",
        ),
        ("bought", _STORE): (
            "ähnelt dem, was Sie im Laden kaufen",
            "passt zu {}, im Laden von Ihnen gekauft",
        ),
        ("bought", _ONLINE): (
            "ähnelt dem, was Sie online kaufen",
            "passt zu {}, online von Ihnen gekauft",
        ),
        ("bought", ()): ("ähnelt dem, was Sie kaufen", "passt zu {}, von Ihnen gekauft"),
        ("basket", ()): ("passt zu dem, was im Korb liegt", "passt zu {} im Korb"),
        ("like", ()): ("ähnelt diesem Artikel", "ähnelt {}"),
        ("with", ()): ("passt zu diesem Artikel", "passt zu {}"),
        ("online-list", ()): ("Ihnen auch online empfohlen", None),
        ("popular", _STORE): ("im Laden beliebt", None),
        ("popular", _ONLINE): ("online beliebt", None),
        ("catalogue", ()): ("aus dem Sortiment", None),
    },
    "ko": {
        ("bought", _BOTH): (
            "매장과 온라인에서 구매하신 상품과 비슷해요",
            "매장과 온라인에서 구매하신 {} 상품과 잘 어울려요",
        ),
        ("bought", _STORE): (
            "매장에서 구매하신 상품과 비슷해요",
            "매장에서 구매하신 {} 상품과 잘 어울려요",
        ),
        ("bought", _ONLINE): (
            "온라인에서 구매하신 상품과 비슷해요",
            "온라인에서 구매하신 {} 상품과 잘 어울려요",
        ),
        ("bought", ()): ("구매하신 상품과 비슷해요", "구매하신 {} 상품과 잘 어울려요"),
        ("basket", ()): (
            "장바구니에 담긴 상품과 잘 어울려요",
            "장바구니에 담긴 {} 상품과 잘 어울려요",
        ),
        ("like", ()): ("이 상품과 비슷해요", "{} 상품과 비슷해요"),
        ("with", ()): ("이 상품과 잘 어울려요", "{} 상품과 잘 어울려요"),
        ("online-list", ()): ("온라인에서도 추천해 드린 상품이에요", None),
        ("popular", _STORE): ("매장에서 인기 있는 상품이에요", None),
        ("popular", _ONLINE): ("온라인에서 인기 있는 상품이에요", None),
        ("catalogue", ()): ("저희가 취급하는 상품이에요", None),
    },
}
"""By language, kind and channels: the words, and those with names in them."""
