"""What shoppers see and touch on the page, kept as events for head office.

A kiosk that isn't enrolled has no store, so it keeps none. Nothing that goes wrong here stops a
shopper: the operator is told. A till is told too, for a purchase counts once it is on disk.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from c2rec.runtime.answer import Answer
from c2rec.runtime.errors import EventError, HomeError, IdentityError
from c2rec.runtime.events.events import Event, EventItem, shown_event
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.home.identity import find_identity, pseudonym
from c2rec.runtime.records import Channel


class Journal:
    """Records events in the outbox of a home; use it in one thread.

    Args:
        home: the kiosk's folder.
        report: is told what an operator should know, each thing once.
    """

    def __init__(self, home: Path, report: Callable[[str], None]) -> None:
        self._home, self._report = home, report
        self._outbox: Outbox | None = None
        self._reported: set[str] = set()

    def close(self) -> None:
        """Close the outbox."""
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None

    def shown(self, answer: Answer, visit: str) -> None:
        """An answer is on the page."""
        if answer.items:
            self._record(
                lambda outbox: shown_event(
                    answer, customer=_customer(outbox, answer.customer_id), session=visit
                )
            )

    def touched(
        self,
        kind: Literal["tapped", "dismissed"],
        item_id: str,
        *,
        customer_id: str | None,
        channel: Channel,
        visit: str,
        arm: str | None,
    ) -> None:
        """A shopper looks at an item, or has no interest in it; ``arm`` is the shown answer's."""
        self._record(
            lambda outbox: Event(
                kind=kind,
                items=(EventItem(item=item_id),),
                channel=channel,
                customer=_customer(outbox, customer_id),
                session=visit,
                arm=arm,
            )
        )

    def bought(
        self,
        items: tuple[EventItem, ...],
        *,
        customer_id: str | None,
        channel: Channel,
        visit: str,
        arm: str | None,
    ) -> str | None:
        """A shopper has paid; ``arm`` is that of the last answer shown.

        Returns:
            The event's id, once it is on disk; None where the kiosk isn't enrolled.

        Raises:
            EventError, HomeError, IdentityError: it could not be kept.
        """
        outbox = self._opened()
        if outbox is None:
            return None
        customer = _customer(outbox, customer_id)
        return outbox.record(
            Event(
                kind="bought",
                items=items,
                channel=channel,
                customer=customer,
                session=visit,
                arm=arm,
            )
        )

    def _record(self, make: Callable[[Outbox], Event]) -> None:
        try:
            outbox = self._opened()
            if outbox is not None:
                outbox.record(make(outbox))
        except EventError:  # its message may name an item
            self._tell("an event could not be kept; see c2rec-kiosk queue")
        except (HomeError, IdentityError) as error:
            self._tell(f"{error}; events are not kept")

    def _opened(self) -> Outbox | None:
        if self._outbox is None:
            identity = find_identity(self._home)
            if identity is not None:
                self._outbox = Outbox(self._home, identity)
        return self._outbox

    def _tell(self, text: str) -> None:
        if text not in self._reported:
            self._reported.add(text)
            self._report(text)


def _customer(outbox: Outbox, customer_id: str | None) -> str | None:
    if customer_id is None:
        return None
    return pseudonym(outbox.identity.customer_key, customer_id).hex()
