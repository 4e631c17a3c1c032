"""What a page asks of the installed release: the one place where the two meet.

A desk follows the home folder: where another release has become active, the next question goes to
that one. It knows nothing of sessions; who asks is told with every question.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from c2rec.runtime.answer import Answer
from c2rec.runtime.errors import EventError, HomeError, IdentityError
from c2rec.runtime.events.events import EventItem
from c2rec.runtime.home.state import Generation, read_state
from c2rec.runtime.home.watch import Watch
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.records import Channel
from c2rec.runtime.rules.options import ANYTHING, Options
from c2rec.runtime.rules.shelf import Offer
from c2rec.runtime.rules.store_side import StoreSide
from c2rec.store_kiosk.journal import Journal
from c2rec.store_kiosk.problems import RefusedError

Kind: TypeAlias = Literal["product", "card", "unknown"]


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, and what may be answered."""

    customer_id: str | None = None
    basket: Sequence[str] = ()
    channel: Channel = "offline"
    only: Sequence[str] | None = None
    """Ids of the items that may be shown; None for all."""
    without: Sequence[str] = ()
    """Ids of items that may not."""
    visit: str = ""
    """Which visit it is, for events."""
    options: Options = ANYTHING
    """What else is asked for."""
    arm: str | None = field(default=None, compare=False)
    """Of the answer that the shopper was shown, for events."""


@dataclass(frozen=True, slots=True)
class Product:
    """An item as a shopper sees it."""

    item_id: str
    name: str
    offer: Offer
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a code stands for."""

    kind: Kind
    product: Product | None = None
    known: bool = False
    """Whether the release knows what the customer of this card buys."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """What answers, and how old it is."""

    release: str
    data_from: str
    """First day of the data, as in 2026-01-31; so is the next, its last."""
    data_to: str
    installed_at: str
    """UTC, as in 2026-01-31T09:30:00Z."""


class _Open(NamedTuple):
    recommender: Recommender
    active: Generation
    """What was active; where it is damaged, the release before it answers."""


class Desk:
    """Answers from the active release of a home; use it in one thread.

    Args:
        home: the kiosk's folder.
        shelf: what is read instead of the home's ``shelf.csv``.
        cards: what a customer's card looks like. Without it, a code is a card where the release
            knows the customer.
        report: is told what an operator should know.
    """

    def __init__(
        self,
        home: Path,
        *,
        shelf: Path | None = None,
        cards: re.Pattern[str] | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._home, self._cards, self.report = home, cards, report
        self._opened: _Open | None = None
        self._watch = Watch(home)
        self._behind = False  # the home has changed, and could not be looked at yet
        self._trouble = ""
        self._told = 0
        self._store = StoreSide(home, shelf=shelf)
        self._journal = Journal(home, report)

    def close(self) -> None:
        """Close the release, and what events are kept in."""
        self._journal.close()
        self._close_release()

    def _close_release(self) -> None:
        if self._opened is not None:
            self._opened.recommender.close()
            self._opened = None

    def freshness(self) -> Freshness:
        """Tell which release answers, and how old it is.

        Raises:
            NotInstalledError: no release has been installed yet; so does every other method.
            HomeError: none can be read; the same.
        """
        opened = self._current()
        manifest = opened.recommender.manifest
        return Freshness(
            manifest.release, manifest.data_from, manifest.data_to, opened.active.installed_at
        )

    def identify(self, code: str) -> Scanned:
        """Tell what a scanned code stands for."""
        shelf = self._current().recommender.shelf
        if self._cards is not None and self._cards.fullmatch(code):
            return Scanned("card", known=self._knows(code))
        product = self.product(shelf.items_by_code.get(code, code))
        if product is not None:
            return Scanned("product", product)
        known = self._cards is None and self._knows(code)
        return Scanned("card", known=True) if known else Scanned("unknown")

    def product(self, item_id: str) -> Product | None:
        """An item of the release, with all that is known of it."""
        item = self._current().recommender.item(item_id)
        if item is None:
            return None
        return Product(item_id, item.name, self.offer(item_id), item.metadata)

    def offer(self, item_id: str) -> Offer:
        """What the store says of an item."""
        return self._current().recommender.shelf.offers.get(item_id, Offer())

    def recommend(self, asked: Asked, k: int) -> Answer:
        """Recommend k items.

        Raises:
            RequestError: an option can't be so.
        """
        recommender = self._current().recommender
        shown = None
        if asked.only is not None or asked.without:
            shown = recommender.shown(only=asked.only, without=asked.without)
        return recommender.recommend(
            asked.customer_id,
            basket=asked.basket,
            k=k,
            channel=asked.channel,
            shown=shown,
            options=asked.options,
        )

    def explain(self, asked: Asked, item_id: str) -> Answer:
        """What the score of one item rests on; no item where it is not for recommending."""
        recommender = self._current().recommender
        return recommender.recommend(
            asked.customer_id,
            basket=asked.basket,
            k=1,
            channel=asked.channel,
            shown=recommender.shown(only=[item_id]),
        )

    def answer_itself(self) -> str:
        """Answer what nobody asked, as a shopper is answered, and say in a line how that went.

        It makes no event, and doesn't count for a release on trial.
        """
        answer = self._current().recommender.try_out()
        return f"Release {answer.release} answers: {answer.tier}, {answer.elapsed_ms:.1f} ms"

    def shown(self, answer: Answer, asked: Asked) -> None:
        """An answer goes to the page: keep that as an event."""
        self._journal.shown(answer, asked.visit)

    def touched(self, kind: Literal["tapped", "dismissed"], asked: Asked, item_id: str) -> None:
        """A shopper looks at an item, or has no interest in it: keep that as an event."""
        self._journal.touched(
            kind,
            item_id,
            customer_id=asked.customer_id,
            channel=asked.channel,
            visit=asked.visit,
            arm=asked.arm,
        )

    def bought(self, asked: Asked, items: tuple[EventItem, ...]) -> str:
        """A shopper has paid: keep that as an event.

        Returns:
            The event's id, once it is on disk.

        Raises:
            RefusedError: it could not be kept.
        """
        try:
            event_id = self._journal.bought(
                items,
                customer_id=asked.customer_id,
                channel=asked.channel,
                visit=asked.visit,
                arm=asked.arm,
            )
        except (EventError, HomeError, IdentityError) as error:
            # what an EventError says may name an item
            why = "see c2rec-kiosk queue" if isinstance(error, EventError) else str(error)
            self.report(f"a purchase could not be kept: {why}")
            raise RefusedError("not-kept") from error
        if event_id is None:
            raise RefusedError("not-enrolled")
        return event_id

    def _knows(self, customer_id: str) -> bool:
        return self._current().recommender.knows(customer_id)

    def _current(self) -> _Open:
        self._behind |= self._watch.moved()
        if self._behind or self._opened is None:
            try:
                if self._opened is None or self._opened.recommender.superseded:
                    self._opened = self._open_instead(read_state(self._home).active)
                self._behind, self._trouble = False, ""
            except HomeError as error:
                if str(error) != self._trouble:  # it is looked at again at each request
                    self._trouble = str(error)
                    rest = "" if self._opened is None else "; what was open answers on"
                    self.report(f"{error}{rest}")
                if self._opened is None:
                    raise
        self._opened.recommender.keep_up()
        self._tell_news(self._opened.recommender)
        return self._opened

    def _open_instead(self, active: Generation) -> _Open:
        recommender = Recommender.open(self._home, thorough=True, store=self._store)
        self._close_release()
        self._told = 0
        return _Open(recommender, active)

    def _tell_news(self, recommender: Recommender) -> None:
        """Tell the operator of what the recommender warned of since it was last asked."""
        for warning in recommender.warnings[self._told :]:
            self.report(warning)
        self._told = len(recommender.warnings)
