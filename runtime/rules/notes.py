"""What kept items back where an answer is shorter than asked for, and the words for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from c2rec.runtime.records import Language

NoteKind: TypeAlias = Literal[
    "denied",
    "not allowed",
    "sold out",
    "stock unknown",
    "list",
    "category",
    "price",
    "basket",
    "bought",
    "dismissed",
    "cap",
]


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that kept items back; an item may be kept back by several."""

    kind: NoteKind
    rule: str
    """What the rule is called; empty where it isn't one of a file."""
    items: int
    """How many."""

    def words(self, language: Language = "en") -> str:
        """Tell it."""
        words = _WORDS[language][self.kind]
        name = f" “{self.rule}”" if self.rule else ""
        return f"{words}{name}: {self.items:,}"


_WORDS: dict[Language, Mapping[NoteKind, str]] = {
    "en": {
        "denied": "not to be shown",
        "not allowed": "outside what may be shown",
        "sold out": "sold out",
        "stock unknown": "not known to be in stock",
        "list": "not on the list asked for",
        "category": "of another category than asked for",
        "price": "of another or no known price",
        "basket": "in the basket already",
        "bought": "bought before",
        "dismissed": "not of interest",
        "cap": "more of a kind than are shown",
    },
    "de": {
        "denied": "nicht zu zeigen",
        "not allowed": "nicht unter dem, was gezeigt werden darf",
        "sold out": "ausverkauft",
        "stock unknown": "Bestand unbekannt",
        "list": "nicht auf der verlangten Liste",
        "category": "aus einer anderen Kategorie als verlangt",
        "price": "mit anderem oder ohne bekannten Preis",
        "basket": "schon im Korb",
        "bought": "schon gekauft",
        "dismissed": "nicht von Interesse",
        "cap": "mehr von einer Art, als gezeigt werden",
    },
    "ko": {
        "denied": "표시하지 않는 상품",
        "not allowed": "표시 가능 범위 밖의 상품",
        "sold out": "품절",
        "stock unknown": "재고를 알 수 없음",
        "list": "요청한 목록에 없음",
        "category": "요청한 분류가 아님",
        "price": "요청한 가격대가 아니거나 가격을 알 수 없음",
        "basket": "이미 장바구니에 있음",
        "bought": "이미 구매한 상품",
        "dismissed": "관심 없음으로 표시한 상품",
        "cap": "같은 종류의 표시 한도를 넘음",
    },
}
