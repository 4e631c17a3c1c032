"""Answering a request: always, and saying from where.

A request falls through the tiers of ``records.TIERS`` to the first that can answer it:

personal
    The customer is known and has an embedding. A basket joins what was bought, as purchases in
    the requested channel, where the release has a history encoder.
basket
    No such customer, but an item of the basket is known, and the release can encode it.
store-popular
    The model has nothing to go by, or can't be run, and something that may be shown has been sold
    in the channel. What has not been sold follows, in the order of item ids.
catalogue
    The items in the order of their ids.

What the customer bought in the requested channel, what was bought online since the release, as
far as online scores tell, what is in the basket and what a filter keeps back are left out. Every
tier ranks all the rest, so an answer is shorter than k only where fewer items are left at all.

Where the customer has fresh online scores, they are merged with what the tier ranks
(``online.py``), and the answer says how.

Where the release carries an experiment, a customer's arm decides which model ranks, or that what
sells is shown, without online scores (``experiment.py``). The answer says which arm it was, and
which model ranked: the main one does where an arm's own fails.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from c2rec.runtime.answer import Answer, Attention, Item, RecommendedItem
from c2rec.runtime.asked import NO_ROWS, Asked, Shown
from c2rec.runtime.cache import Cache, Customer
from c2rec.runtime.disk import generation_path
from c2rec.runtime.errors import (
    HomeError,
    IdentityError,
    ReleaseError,
    RequestError,
    SyncError,
)
from c2rec.runtime.fields import moment_text
from c2rec.runtime.identity import Identity, find_identity, pseudonym
from c2rec.runtime.models import Model, Models
from c2rec.runtime.online_side import Listed, OnlineSide, open_online_side
from c2rec.runtime.ranked import Chosen, Ranked, choose
from c2rec.runtime.reasons import CATALOGUE, ONLINE, POPULAR, Reason
from c2rec.runtime.records import CHANNELS, Channel
from c2rec.runtime.settings import find_settings
from c2rec.runtime.state import Generation, State, read_state
from c2rec.runtime.trial import answered, begin, ended
from c2rec.runtime.watch import FileStamp, Watch, file_stamp
from c2rec.runtime.whole import damaged_arms, whole_cache

if TYPE_CHECKING:
    from c2rec.runtime.visit import Visitors

MAX_K = 1000
"""Longest answer that can be asked for."""


class Recommender:
    """Answers from one release; use it in the thread that opened it.

    Graphs and matrices are loaded when a tier first needs them, and kept. Opened from a home, it
    follows what is done there: customers who are erased, and new online scores, count from the
    next request on. A release that takes its place doesn't: see ``superseded``.

    Args:
        cache: an open release.
        identity: of the kiosk; a release that came by sync knows customers by pseudonyms alone.

    Attributes:
        manifest: of the release that answers.
        warnings: what went wrong so far and was answered in spite of, for an operator to read.

    Raises:
        HomeError: the cache's manifest or item side is damaged.
    """

    def __init__(self, cache: Cache, *, identity: Identity | None = None) -> None:
        self._cache = cache
        self._trial: tuple[Path, str] | None = None  # home and generation, while on trial
        self._answered = False
        self._home: Path | None = None
        self._watch: Watch | None = None
        self._generation: Generation | None = None  # in the home; None: damaged
        self._meant: tuple[Generation, FileStamp] | None = None  # what was active when it opened
        self._online: OnlineSide | None = None
        self._visitors: Visitors | None = None
        self._popular_only = False  # the release is damaged: the model's answers could be anything
        self._customer_key: bytes | None = None
        self.manifest = cache.manifest()
        self.warnings: list[str] = []
        self._models = Models(cache, identity, self._warn)
        if cache.about("customers") == "pseudonyms":
            if identity is None:
                self.warnings.append(
                    "this kiosk has no identity, without which its customers are not known; "
                    "enrol it: c2rec-kiosk enrol KIT"
                )
            self._customer_key = b"" if identity is None else identity.customer_key

    @classmethod
    def open(
        cls,
        home: Path,
        *,
        thorough: bool = False,
        visitors: bool | None = None,
    ) -> "Recommender":
        """Open the active release of a home or, where it is damaged, the previous one.

        While the active release is on trial, this counts as a start, see ``trial.py``.

        Args:
            home: the home folder.
            thorough: read every byte of the release first, as a process does that is going to
                serve; else what was found whole before, and has not been written to, is believed.
            visitors: look a customer whom the release doesn't know up in the repository, see
                ``visit.py``; None: as the kiosk's settings say.

        Raises:
            NotInstalledError: no release has been installed.
            HomeError: neither release can be read.
        """
        watch = Watch(home)  # before the state is read, so that no change is missed
        state, warning = begin(home)
        identity, trouble = _identity(home)
        try:
            recommender = cls._of(home, state.active, identity, thorough=thorough)
        except HomeError as error:
            if read_state(home).active.name != state.active.name:  # replaced in between
                return cls.open(home, thorough=thorough, visitors=visitors)
            # The active release is what an operator must repair: that error is told.
            recommender = cls._instead(home, state, identity, error, thorough=thorough)
        else:
            if state.trial is not None:
                recommender._trial = home, state.active.name
        recommender.warnings += [each for each in (warning, trouble) if each]
        recommender._models.assigns &= trouble is None
        recommender._home, recommender._watch = home, watch
        recommender._meant = state.active, file_stamp(generation_path(home, state.active.name))
        recommender._open_online(home)
        recommender._open_visitors(home, identity, visitors)
        return recommender

    @classmethod
    def to_measure(cls, home: Path) -> "Recommender":
        """Open the active release as it is, for a benchmark.

        Customers are asked for by the ids that the release itself has, which are pseudonyms where
        it came by sync. Nothing is counted, and nothing is written.

        Raises:
            NotInstalledError, HomeError: as of ``open``.
        """
        recommender = cls(Cache(generation_path(home, read_state(home).active.name)))
        recommender._customer_key = None
        recommender._models.assigns = False
        recommender.warnings.clear()
        return recommender

    @classmethod
    def _instead(
        cls,
        home: Path,
        state: State,
        identity: Identity | None,
        error: HomeError,
        *,
        thorough: bool,
    ) -> "Recommender":
        """Open what answers in place of a damaged release, or raise its error."""
        if state.previous is not None:
            with suppress(HomeError):
                recommender = cls._of(home, state.previous, identity, thorough=thorough)
                recommender.warnings.append(f"{error}; answering from the previous release")
                return recommender
        for generation in (state.active, state.previous):
            if generation is not None:
                with suppress(HomeError):
                    recommender = cls(Cache(generation_path(home, generation.name)))
                    recommender._popular_only = True
                    recommender.warnings = [f"{error}; answering by what sells"]
                    return recommender
        raise error

    @classmethod
    def _of(
        cls, home: Path, generation: Generation, identity: Identity | None, *, thorough: bool
    ) -> "Recommender":
        cache = whole_cache(home, generation, thorough=thorough)
        try:
            recommender = cls(cache, identity=identity)
        except BaseException:
            cache.close()
            raise
        recommender._generation = generation
        try:
            recommender._models.follow(damaged_arms(home, cache, thorough=thorough))
        except BaseException:
            recommender.close()
            raise
        return recommender

    def close(self) -> None:
        """Close the release."""
        if self._trial is not None and not self._answered:
            ended(*self._trial)
        if self._online is not None:
            self._online.close()
        self._models.close()
        self._cache.close()

    @property
    def superseded(self) -> bool:
        """Whether another release is the active one by now: open another Recommender then.

        So it is too where this one opened what answers in place of a damaged release, and that has
        been repaired.

        Raises:
            HomeError: the state can't be read.
        """
        if self._home is None or self._meant is None:
            return False
        active, (meant, stamp) = read_state(self._home).active, self._meant
        if (active.release, active.seq) != (meant.release, meant.seq):
            return True
        mine = self._generation
        if mine is not None and (mine.release, mine.seq) == (active.release, active.seq):
            return False  # its file may be written anew, which ``_keep_up`` follows
        return file_stamp(generation_path(self._home, active.name)) != stamp

    def _keep_up(self) -> None:
        """Follow what was done in the home since the last request; costs a read of a few bytes."""
        if self._home is None or self._watch is None or not self._watch.moved():
            return
        try:
            state, mine = read_state(self._home), self._generation
            for each in (state.active, state.previous):
                if mine and each and (each.release, each.seq) == (mine.release, mine.seq):
                    if each.name != mine.name:
                        self._cache.reopen(generation_path(self._home, each.name))
                        self._trial = self._trial and (self._home, each.name)
                    self._generation = each
                    self._models.follow(damaged_arms(self._home, self._cache, thorough=False))
        except HomeError as error:
            self._warn(str(error))
        self._open_online(self._home)

    def _open_online(self, home: Path) -> None:
        try:
            self._online = open_online_side(home, self._online)
        except (HomeError, IdentityError) as error:
            self._online = None
            self._warn(f"{error}; answering without online scores")

    def _open_visitors(self, home: Path, identity: Identity | None, asked: bool | None) -> None:
        if identity is None or not self._customer_key or asked is False:
            return
        try:
            settings = find_settings(home)
            if settings is not None and (asked or settings.visitors):
                from c2rec.runtime.visit import Visitors  # with all that speaks HTTP

                self._visitors = Visitors(home, settings, identity, self._cache)
        except (HomeError, IdentityError) as error:
            self._warn(f"{error}; answering without visitors")

    def _warn(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)

    def recommend(
        self,
        customer_id: str | None = None,
        *,
        basket: Sequence[str] = (),
        k: int = 10,
        channel: Channel = "offline",
        shown: Shown | None = None,
        at: datetime | None = None,
    ) -> Answer:
        """Recommend items.

        Args:
            customer_id: who asks; None, or an id that the release doesn't know, is anyone.
            basket: ids of items in the basket; unknown ones are ignored, and reported.
            k: how many items, 1 to 1000.
            channel: where the customer is.
            shown: which items may be shown; None for all.
            at: when, UTC, which tells how old online scores are; None for now.

        Returns:
            An answer of min(k, items that are not left out) items.

        Raises:
            RequestError: k, the channel or ``shown`` is not allowed.
            HomeError: the release's cache is so damaged that popularity can't be read either.
        """
        started = time.perf_counter()
        if not 1 <= k <= MAX_K:
            raise RequestError(f"k is {k}; allowed: 1 to {MAX_K}")
        if channel not in get_args(Channel):
            raise RequestError(f"channel is {channel!r}; allowed: {' or '.join(CHANNELS)}")
        if shown is not None and shown.release != self.manifest.release:
            raise RequestError(
                f"shown was made for release {shown.release}; allowed: one made for the release "
                f"that answers, {self.manifest.release}"
            )
        self._keep_up()
        rows: dict[str, int | None] = {}
        left_out = NO_ROWS
        ranked, listed = None, None
        serving = self._models.serving(None if self._popular_only else customer_id)
        try:
            customer = None
            if customer_id is not None and not self._popular_only:
                customer = self._customer(customer_id)
                listed = self._listed(customer_id, at or datetime.now(UTC))
            rows = {item_id: self._cache.item_row(item_id) for item_id in basket}
            known = [row for row in rows.values() if row is not None]
            left_out = in_basket = np.unique(np.array(known, np.int64))
            if customer is not None:
                here = customer.history_channels == CHANNELS.index(channel)  # (n,)
                left_out = np.union1d(in_basket, customer.history_items[here])
            if listed is not None:
                left_out = np.union1d(left_out, listed.bought)
                listed = listed.only(left_out, shown)
            if serving.by_sales:  # a list is made for the customer
                listed = None
            asked = Asked(left_out, k, channel, shown, listed.rows if listed else NO_ROWS)
            if not self._popular_only:
                ranked = serving.modelled(customer, in_basket, asked)
        except (HomeError, ReleaseError, RequestError) as error:
            # A shopper is waiting: what sells is still an answer, and says that it is one.
            self._warn(f"{error}; answering by popularity")
            listed = listed and listed.only(left_out, shown)
        else:
            self._count_good_answer()
        asked = Asked(left_out, k, channel, shown, listed.rows if listed else NO_ROWS)
        model = serving.model
        ranked = ranked or model.tiers.popular(asked)
        path, chosen = choose(ranked, listed, model.manifest, CHANNELS.index(channel), k)
        return Answer(
            customer_id=customer_id,
            channel=channel,
            tier=ranked.tier,
            release=self.manifest.release,
            items=self._items(model, ranked, chosen, channel),
            unknown_items=tuple(item_id for item_id, row in rows.items() if row is None),
            elapsed_ms=(time.perf_counter() - started) * 1000,
            path=path,
            online_as_of=None if listed is None else moment_text(listed.scores.as_of),
            online_age_s=None if listed is None else listed.fresh.age_s,
            arm=serving.arm,
            model=None if ranked.basis is None else model.name,
        )

    def try_out(self) -> Answer:
        """Answer a request that nobody made, by the model where the release has one.

        It is for somebody whom the release knows, with an item in the basket, so that all that
        shoppers need is used. It counts for nothing: a release on trial proves itself to shoppers.

        Raises:
            HomeError: as of ``recommend``.
        """
        self._keep_up()
        customer_id, basket = None, list[str]()
        with suppress(HomeError):  # damaged, but what sells may be an answer still
            customer_id = self._cache.some_customer()
            basket = [item_id for item_id, _ in self._cache.item_names([0])]
        kept = self._trial, self._customer_key, self._answered, self._models.assigns
        self._trial = self._customer_key = None  # ids as the release has them
        self._models.assigns = False  # to an arm that may be shown what sells
        try:
            return self.recommend(customer_id, basket=basket)
        finally:
            self._trial, self._customer_key, self._answered, self._models.assigns = kept

    def knows(self, customer_id: str) -> bool:
        """Whether the release knows what a customer buys, whatever their arm makes of it."""
        self._keep_up()
        try:
            customer = None if self._popular_only else self._customer(customer_id)
        except HomeError as error:
            self._warn(str(error))
            return False
        return customer is not None and bool(customer.has.any())

    def _customer(self, customer_id: str) -> Customer | None:
        """Look a customer up, by pseudonym where the release has pseudonyms."""
        if self._customer_key is None:
            return self._cache.customer(customer_id)
        if not self._customer_key:
            return None  # no identity: nobody is known
        customer = self._cache.customer(pseudonym(self._customer_key, customer_id).hex())
        if customer is None and self._visitors is not None:
            try:
                customer = self._visitors.find(customer_id)
            except (SyncError, ReleaseError, HomeError, IdentityError) as error:
                self._warn(f"{error}; answering visitors as anyone")
        return customer

    def _count_good_answer(self) -> None:
        """Tell that the model answered, or had nothing to go by, while the release is on trial."""
        self._answered = True
        if self._trial is not None and not answered(*self._trial):
            self._trial = None

    def _listed(self, customer_id: str, now: datetime) -> Listed | None:
        """The customer's online list, or None."""
        if self._online is None:
            return None
        # What was bought on the last day of the data may be in it or not.
        since = datetime.fromisoformat(self.manifest.data_to).replace(tzinfo=UTC)
        try:
            listed = self._online.listed(customer_id, self._cache, now, since)
        except HomeError as error:
            self._warn(f"{error}; answering without online scores")
            return None
        if listed is not None and now < self._online.floor:
            self._warn(
                f"this machine's clock says {moment_text(now)}, but it is "
                f"{moment_text(self._online.floor)} at least; set the clock"
            )
        return listed

    def _items(
        self, model: Model, ranked: Ranked, chosen: Sequence[Chosen], channel: Channel
    ) -> tuple[RecommendedItem, ...]:
        names = self._cache.item_names([each.row for each in chosen])
        reasons = self._reasons(model, ranked, chosen, channel)
        return tuple(
            RecommendedItem(item_id, name, each.value, reason, Attention(*each.attention))
            for (item_id, name), each, reason in zip(names, chosen, reasons, strict=True)
        )

    def _reasons(
        self, model: Model, ranked: Ranked, chosen: Sequence[Chosen], channel: Channel
    ) -> Sequence[Reason]:
        if ranked.basis is not None:
            rows = np.array([each.row for each in chosen], np.int64)
            alphas = np.array([each.attention for each in chosen], np.float32).reshape(-1, 3)
            found = model.because.reasons(rows, alphas.T, ranked.basis, channel)
        else:
            sold = model.tiers.popularity[CHANNELS.index(channel)]  # (items,)
            found = [POPULAR[channel] if sold[each.row] else CATALOGUE for each in chosen]
        return [
            ONLINE if each.by_list else reason for each, reason in zip(chosen, found, strict=True)
        ]

    def item(self, item_id: str) -> Item | None:
        """An item of the release, or None.

        Raises:
            HomeError: the release's cache is damaged.
        """
        row = self._cache.item_row(item_id)
        if row is None:
            return None
        ((_, name),) = self._cache.item_names([row])
        return Item(item_id, name, self._cache.item_metadata(row))

    def shown(self, *, only: Iterable[str] | None = None, without: Iterable[str] = ()) -> Shown:
        """Prepare a filter, to be used for many requests: stock, an age limit, a category.

        Args:
            only: ids of the items that may be shown; None for all.
            without: ids of items that may not, even where ``only`` has them.

        Raises:
            HomeError: the release's cache is damaged.
        """
        count, unknown = self.manifest.counts.items, 0
        rows = np.full(count, only is None)
        for ids, flag in ((only, True), (without, False)):
            if ids is not None:
                found, missing = self._cache.item_rows(ids)
                rows[found] = flag
                unknown += missing
        return Shown(self.manifest.release, rows, unknown)


def _identity(home: Path) -> tuple[Identity | None, str | None]:
    """The kiosk's identity, and a warning where it can't be read: a shopper is waiting."""
    try:
        return find_identity(home), None
    except IdentityError as error:
        return None, str(error)
