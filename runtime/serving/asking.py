"""One request on its way to an answer: who asks, what is left out, and the items chosen."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt

from c2rec.runtime.records import CHANNELS, Channel
from c2rec.runtime.release.cache import Customer
from c2rec.runtime.rules.notes import Note, NoteKind
from c2rec.runtime.rules.rulebook import Rulebook, Wish
from c2rec.runtime.serving.asked import NO_ROWS, Asked, Rows
from c2rec.runtime.serving.online_side import DAY_S, Listed
from c2rec.runtime.serving.pick import Picked, pick
from c2rec.runtime.serving.ranked import Ranking, Scored, choose
from c2rec.runtime.serving.related import About, Related, alike_first
from c2rec.runtime.serving.tiers import Known, Tiers
from c2rec.runtime.serving.told import Told


@dataclass(slots=True)
class Asking:
    """A request; what is known of it is filled in step by step, as far as a damaged release lets.

    It is answered with what is known by then.
    """

    wish: Wish
    channel: Channel
    k: int
    customer: Customer | None = None
    listed: Listed | None = None
    """The customer's online list."""
    here: tuple[Rows, npt.NDArray[np.int32]] | None = None
    """What was bought at this kiosk since the release, and its days; see ``Who.bought_here``."""
    basket: Rows = field(default_factory=lambda: NO_ROWS)
    bought: Rows = field(default_factory=lambda: NO_ROWS)
    """What was bought and may not be shown again yet."""
    about: About | None = None
    """The item that the request is about."""
    alike: Scored | None = None
    """What is like it, where something is asked for in its place."""

    def leave_out_bought(self, rulebook: Rulebook, now: datetime) -> None:
        """Find out what stays away: what was bought in this channel or, since the release, in any.

        Args:
            rulebook: knows for how long.
            now: UTC.
        """
        today = int(now.timestamp() // DAY_S)
        found = [NO_ROWS]
        if self.customer is not None:
            here = self.customer.history_channels == CHANNELS.index(self.channel)  # (n,)
            rows = self.customer.history_items[here].astype(np.int64)
            found.append(rulebook.still_bought(rows, self.customer.history_days[here], today))
        if self.listed is not None:
            rows, days = self.listed.bought, self.listed.bought_days
            found.append(rulebook.still_bought(rows, days, today))
        if self.here is not None and len(self.here[0]):
            found.append(rulebook.still_bought(*self.here, today))
        self.bought = np.unique(np.concatenate(found))

    @property
    def left_out(self) -> Rows:
        """Rows of what this shopper is not shown, ascending."""
        about = NO_ROWS if self.about is None else np.array([self.about.row], np.int64)
        return np.unique(np.concatenate([self.basket, self.bought, self.wish.dismissed, about]))

    def ask_about(self, about: About, related: Related, column: str | None) -> None:
        """Make the request one about an item: nothing of the customer's taste takes part.

        Args:
            about: the item.
            related: finds what is alike.
            column: in which it must be the same.
        """
        self.about, self.listed = about, None
        if about.instead:
            asked = Asked(self.left_out, self.k, self.channel, self.wish.assortment, NO_ROWS)
            self.alike = related.alike(about.row, asked, column=column)

    def known(self, tiers: Tiers) -> Known | None:
        """What the model has to go by: the item that it is about or, where none is, who asks."""
        if self.about is not None:
            found = tiers.known(None, np.array([self.about.row]), self.channel)
            if found is not None:
                return found
        return tiers.known(self.customer, self.basket, self.channel)

    def answer(self, tiers: Tiers, known: Known | None, told: Told) -> Picked:
        """Choose of what the model ranks or, with nothing to go by or nothing left, what sells.

        Args:
            tiers: rank.
            known: what the model has to go by.
            told: has the items' embeddings.
        """
        rank = self.ranker(tiers, known)

        def left() -> Rows:
            every = np.arange(tiers.manifest.counts.items)
            return np.setdiff1d(every[self.wish.assortment.among(every)], self.left_out)

        return pick(rank, self.k, self.wish, left=left, vectors=told.vectors)

    def ranker(self, tiers: Tiers, known: Known | None) -> Callable[[int], Ranking]:
        """What ranks the items that may be shown, as deep as it is asked to.

        Of the online list, those remain.
        """
        left_out, assortment = self.left_out, self.wish.assortment
        listed = None if self.listed is None else self.listed.only(left_out, assortment)
        self.listed, alike = listed, self.alike

        def rank(depth: int, without: Rows = NO_ROWS) -> Ranking:
            rows = NO_ROWS if listed is None else listed.rows
            kept_back = np.union1d(left_out, without) if len(without) else left_out
            asked = Asked(kept_back, depth, self.channel, assortment, rows)
            ranked = None if known is None else tiers.modelled(known, asked)
            ranked = ranked or tiers.popular(asked)
            channel = CHANNELS.index(self.channel)
            return choose(ranked, listed, tiers.manifest, channel, depth, asked=self.k)

        return rank if alike is None else lambda depth: alike_first(alike, rank, depth)

    def notes(self, picked: Picked) -> list[Note]:
        """How many items were kept back for this shopper alone."""
        kept: list[tuple[NoteKind, Rows]] = [
            ("basket", self.basket),
            ("bought", self.bought),
            ("dismissed", self.wish.dismissed),
        ]
        notes = [Note(kind, "", len(rows)) for kind, rows in kept]
        notes += [
            Note("cap", cap.title, refused)
            for (cap, _), refused in zip(self.wish.caps, picked.refused, strict=True)
        ]
        return [note for note in notes if note.items]
