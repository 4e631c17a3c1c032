"""Shoppers who are at it now, in memory alone: ended or left alone, nothing of one is kept."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from c2rec.runtime.events.events import EventItem

MOST = 64
"""So many at once: a page has one, and who leaves is forgotten soon."""
BASKET = 100
"""Items in a basket at most."""
RECEIPTS = 100
"""Purchases in one session at most."""
DISMISSED = 400
"""Items that one shopper is not interested in, at most."""


@dataclass(slots=True)
class Session:
    """One shopper."""

    touched: float
    """When they last did something, by the clock of ``Sessions``."""
    customer_id: str | None = None
    basket: list[str] = field(default_factory=list)
    dismissed: list[str] = field(default_factory=list)
    shown: tuple[str, ...] = ()
    """Ids of the items that the last answer had."""
    arm: str | None = None
    """Of an experiment, that the last answer had."""
    related: object = None
    """What was asked of one item last, and the ids answered."""
    question: object = None
    """What that answered."""
    times_shown: dict[str, int] = field(default_factory=dict)
    """By item id: how often answers before the last one had it."""
    tapped: set[str] = field(default_factory=set)
    """Ids of the items that the shopper looked at."""
    receipts: dict[str, tuple[tuple[EventItem, ...], str]] = field(default_factory=dict)
    """What was bought by the till's own names, and the events' ids: asked again, it counts once."""
    visit: str = field(default_factory=lambda: secrets.token_hex(8))
    """A name for events: it says nothing, and opens nothing."""

    def show_card(self, customer_id: str) -> None:
        """Take a card: another one than before is another shopper, who finds nothing of the first.

        What was scanned before any card was is this shopper's own.
        """
        if self.customer_id not in (None, customer_id):
            self.basket, self.dismissed, self.shown, self.arm = [], [], (), None
            self.question, self.times_shown, self.tapped = None, {}, set()
            self.related = None
            self.visit = secrets.token_hex(8)
        self.customer_id = customer_id

    def times_before(self, question: object) -> dict[str, int]:
        """How often each item was shown, and not tapped, before a question.

        The same question again, as in another language, is no new showing.
        """
        times = dict(self.times_shown)
        if question != self.question:
            for item_id in self.shown:
                times[item_id] = times.get(item_id, 0) + 1
        return {item_id: n for item_id, n in times.items() if item_id not in self.tapped}

    def answered(
        self, question: object, shown: tuple[str, ...], *, arm: str | None, visit: str
    ) -> bool:
        """Keep what a question was answered with.

        Args:
            question: what was asked for, but for the language.
            shown: ids of the items.
            arm: of an experiment, that answered.
            visit: in which it was asked; that of another card is over, and nothing of it is kept.

        Returns:
            Whether it is another answer than the last.
        """
        if visit != self.visit:
            return False
        if question != self.question:
            self.times_shown, self.question = self.times_before(question), question
        other = (shown, arm) != (self.shown, self.arm)
        self.shown, self.arm = shown, arm
        return other

    def related_to(
        self, question: object, shown: tuple[str, ...], *, arm: str | None, visit: str
    ) -> bool:
        """Keep what a question about one item was answered with, as ``answered`` does."""
        if visit != self.visit or (question, shown) == self.related:
            return False
        self.related, self.arm = (question, shown), arm
        return True

    def touch(self, item_id: str, *, visit: str) -> None:
        """Keep that the shopper looked at an item."""
        if visit == self.visit:
            self.tapped.add(item_id)


class Sessions:
    """Sessions by their random ids.

    Args:
        lifetime_s: seconds after which a session that nobody touched is forgotten.
        clock: seconds that only go forward.
    """

    def __init__(self, lifetime_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def start(self) -> str | None:
        """Start a session; None where there are too many."""
        self.sweep()
        if len(self._sessions) >= MOST:
            return None
        session_id = secrets.token_urlsafe(18)
        self._sessions[session_id] = Session(self._clock())
        return session_id

    def find(self, session_id: str) -> Session | None:
        """A session, which this touches; None where it has ended."""
        self.sweep()
        session = self._sessions.get(session_id)
        if session is not None:
            session.touched = self._clock()
        return session

    def end(self, session_id: str) -> None:
        """Forget a session."""
        self._sessions.pop(session_id, None)

    def sweep(self) -> None:
        """Forget the sessions that nobody touched for too long."""
        oldest = self._clock() - self._lifetime_s
        for session_id in [i for i, each in self._sessions.items() if each.touched < oldest]:
            self.end(session_id)
