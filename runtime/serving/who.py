"""Who asks: a customer of the release, a visitor, and what is known of them online."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from c2rec.runtime.errors import HomeError, IdentityError, ReleaseError, SyncError
from c2rec.runtime.fields import moment_text
from c2rec.runtime.home.identity import Identity, find_identity, pseudonym
from c2rec.runtime.home.settings import find_settings
from c2rec.runtime.release.cache import Cache, Customer
from c2rec.runtime.serving.asked import NO_ROWS, Rows
from c2rec.runtime.serving.bought_here import BoughtHere
from c2rec.runtime.serving.online_side import DAY_S, Listed, OnlineSide, open_online_side

if TYPE_CHECKING:
    from c2rec.runtime.serving.visit import Visitors

NOTHING = NO_ROWS, np.empty(0, np.int32)
"""No rows, and so no days."""


class Who:
    """Looks customers up; use it in the thread that opened the cache.

    Args:
        cache: the release.
        identity: of the kiosk; a release that came by sync knows customers by pseudonyms alone.
        data_to: last day of the release's data, as in ``2020-07-27``.
        warn: is told what went wrong.

    Attributes:
        as_released: take the ids that customers have in the release itself.
    """

    def __init__(
        self, cache: Cache, identity: Identity | None, data_to: str, warn: Callable[[str], None]
    ) -> None:
        self._cache, self._identity, self._warn = cache, identity, warn
        # What was bought on the last day of the data may be in it or not.
        self._since = datetime.fromisoformat(data_to).replace(tzinfo=UTC)
        self._online: OnlineSide | None = None
        self._visitors: Visitors | None = None
        self._bought: BoughtHere | None = None
        self.as_released = False
        self._key: bytes | None = None
        if cache.about("customers") == "pseudonyms":
            if identity is None:
                warn(
                    "this kiosk has no identity, without which its customers are not known; "
                    "enrol it: c2rec-kiosk enrol KIT"
                )
            self._key = b"" if identity is None else identity.customer_key

    def close(self) -> None:
        """Close the online scores."""
        if self._online is not None:
            self._online.close()

    def open_online(self, home: Path) -> None:
        """Open the online scores of a home, or those that it has by now."""
        try:
            self._online = open_online_side(home, self._online)
        except (HomeError, IdentityError) as error:
            self._online = None
            self._warn(f"{error}; answering without online scores")

    def open_bought(self, home: Path) -> None:
        """Follow what is bought at this kiosk; without an identity nothing is kept of it."""
        if self._identity is not None:
            self._bought = BoughtHere(home, self._identity.customer_key)

    def open_visitors(self, home: Path, asked: bool | None) -> None:
        """Make ready to look visitors up; None: if the kiosk's settings say so."""
        if self._identity is None or not self._key or asked is False:
            return
        try:
            settings = find_settings(home)
            if settings is not None and (asked or settings.visitors):
                from c2rec.runtime.serving.visit import Visitors  # with all that speaks HTTP

                self._visitors = Visitors(home, settings, self._identity, self._cache)
        except (HomeError, IdentityError) as error:
            self._warn(f"{error}; answering without visitors")

    def customer(self, customer_id: str) -> Customer | None:
        """Look a customer up, by pseudonym where the release has pseudonyms."""
        if self._key is None or self.as_released:
            return self._cache.customer(customer_id)
        if not self._key:
            return None  # no identity: nobody is known
        customer = self._cache.customer(pseudonym(self._key, customer_id).hex())
        if customer is None and self._visitors is not None:
            try:
                customer = self._visitors.find(customer_id)
            except (SyncError, ReleaseError, HomeError, IdentityError) as error:
                self._warn(f"{error}; answering visitors as anyone")
        return customer

    def listed(self, customer_id: str, now: datetime) -> Listed | None:
        """The customer's online list, or None."""
        if self._online is None:
            return None
        try:
            listed = self._online.listed(customer_id, self._cache, now, self._since)
        except HomeError as error:
            self._warn(f"{error}; answering without online scores")
            return None
        if listed is not None and now < self._online.floor:
            self._warn(
                f"this machine's clock says {moment_text(now)}, but it is "
                f"{moment_text(self._online.floor)} at least; set the clock"
            )
        return listed

    def bought_here(self, customer_id: str, now: datetime) -> tuple[Rows, npt.NDArray[np.int32]]:
        """What the customer bought at this kiosk that the release doesn't know of yet.

        Returns:
            int64 (m,), rows, and int32 (m,), the day of the last purchase of each, since 1970.

        Raises:
            HomeError: the release's cache is damaged.
        """
        if self._bought is None or self.as_released:
            return NOTHING
        try:
            self._bought.keep_up()
        except HomeError as error:
            self._warn(f"{error}; answering without what was bought here since")
        found = self._bought.of(customer_id)
        if not found:
            return NOTHING
        # a clock that is behind the data was so, too, when something was bought
        since = int(min(self._since, now).timestamp() // DAY_S)
        days = {}
        for item_id, day in found.items():
            row = self._cache.item_row(item_id) if day >= since else None
            if row is not None:
                days[row] = day
        return np.array(list(days), np.int64), np.array(list(days.values()), np.int32)


def identity_of(home: Path) -> tuple[Identity | None, str | None]:
    """The kiosk's identity, and a warning where it can't be read: a shopper is waiting."""
    try:
        return find_identity(home), None
    except IdentityError as error:
        return None, str(error)
