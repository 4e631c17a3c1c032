"""Answering a request: always, and saying from where.

A request falls through the tiers of ``records.TIERS`` to the first that can answer it:

similar
    Something is asked for instead of an item: those that are like it (``related.py``). Where they
    are too few, the tiers below follow in the same answer.
personal
    The customer is known and has an embedding. A basket joins what was bought, as purchases in
    the requested channel, where the release has a history encoder.
basket
    No such customer, but an item of the basket is known, and the release can encode it. Where the
    request is about an item, that is the basket, and who asks plays no part.
store-popular
    The model has nothing to go by, or can't be run, and something that may be shown has been sold
    in the channel. What has not been sold follows, in the order of item ids.
catalogue
    The items in the order of their ids.

What the customer bought in the requested channel, what they bought since the release, online as far
as online scores tell and at this kiosk, what is in the basket, what is sold out and what a rule, a
filter or the request keeps back are left out. Every tier ranks all the rest, so an answer is
shorter than k only where fewer items are left at all; it then says what kept them back.

Where the customer has fresh online scores, they are merged with what the tier ranks
(``online.py``), and the answer says how.

Where the release carries an experiment, a customer's arm decides which model ranks, or that what
sells is shown, without online scores (``experiment.py``). The answer says which arm it was, and
which model ranked: the main one does where an arm's own fails.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from c2rec.runtime.answer import Answer, Item
from c2rec.runtime.errors import HomeError, ReleaseError, RequestError
from c2rec.runtime.fields import moment_text
from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.home.identity import Identity
from c2rec.runtime.home.state import Generation, State, read_state
from c2rec.runtime.home.watch import FileStamp, Watch, file_stamp
from c2rec.runtime.records import CHANNELS, Channel
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.trial import answered, begin, ended
from c2rec.runtime.release.whole import damaged_arms, whole_cache
from c2rec.runtime.rules.notes import Note
from c2rec.runtime.rules.options import ANYTHING, Options
from c2rec.runtime.rules.policy import Policy
from c2rec.runtime.rules.rulebook import Rulebook
from c2rec.runtime.rules.shelf import Shelf
from c2rec.runtime.rules.store_side import StoreSide
from c2rec.runtime.serving.asked import Shown
from c2rec.runtime.serving.asking import Asking
from c2rec.runtime.serving.look_up import look_up
from c2rec.runtime.serving.models import Models
from c2rec.runtime.serving.related import Related
from c2rec.runtime.serving.who import Who, identity_of

if TYPE_CHECKING:
    from c2rec.runtime.serving.explain import Explanation

MAX_K = 1000
"""Longest answer that can be asked for."""


class Recommender:
    """Answers from one release; use it in the thread that opened it.

    Graphs and matrices are loaded when a tier first needs them, and kept. Opened from a home, it
    follows what is done there: customers who are erased, new online scores, and what the store says
    in its rules and of its stock, count from the next request on. A release that takes its place
    doesn't: see ``superseded``.

    Args:
        cache: an open release.
        identity: of the kiosk; a release that came by sync knows customers by pseudonyms alone.
        store: what the store says; None: nothing.

    Attributes:
        manifest: of the release that answers.
        warnings: what went wrong so far and was answered in spite of, for an operator to read.

    Raises:
        HomeError: the cache's manifest or item side is damaged.
    """

    def __init__(
        self, cache: Cache, *, identity: Identity | None = None, store: StoreSide | None = None
    ) -> None:
        self._cache, self._store = cache, store
        self._trial: tuple[Path, str] | None = None  # home and generation, while on trial
        self._answered = False
        self._home: Path | None = None
        self._watch: Watch | None = None
        self._generation: Generation | None = None  # in the home; None: damaged
        self._meant: tuple[Generation, FileStamp] | None = None  # what was active when it opened
        self._popular_only = False  # the release is damaged: the model's answers could be anything
        self.manifest = cache.manifest()
        self.warnings: list[str] = []
        self._warn = _into(self.warnings)
        self._who = Who(cache, identity, self.manifest.data_to, self._warn)
        self._models = Models(cache, identity, self._warn)
        self._rulebook = Rulebook(cache, store, self._warn)
        self._related = Related(cache, self._rulebook.columns, self._models.main.tiers.popularity)

    @classmethod
    def open(
        cls,
        home: Path,
        *,
        thorough: bool = False,
        visitors: bool | None = None,
        store: StoreSide | None = None,
    ) -> "Recommender":
        """Open the active release of a home or, where it is damaged, the previous one.

        While the active release is on trial, this counts as a start, see ``trial.py``.

        Args:
            home: the home folder.
            thorough: read every byte of the release first, as a process does that is going to
                serve; else what was found whole before, and has not been written to, is believed.
            visitors: look a customer whom the release doesn't know up in the repository, see
                ``visit.py``; None: as the kiosk's settings say.
            store: what the store says; None: what it says in the home.

        Raises:
            NotInstalledError: no release has been installed.
            HomeError: neither release can be read.
        """
        watch = Watch(home)  # before the state is read, so that no change is missed
        state, warning = begin(home)
        identity, trouble = identity_of(home)
        store = store or StoreSide(home)
        try:
            recommender = cls._of(home, state.active, identity, store, thorough=thorough)
        except HomeError as error:
            if read_state(home).active.name != state.active.name:  # replaced in between
                return cls.open(home, thorough=thorough, visitors=visitors, store=store)
            # The active release is what an operator must repair: that error is told.
            recommender = cls._instead(home, state, identity, store, error, thorough=thorough)
        else:
            if state.trial is not None:
                recommender._trial = home, state.active.name
        recommender.warnings += [each for each in (warning, trouble) if each]
        recommender._models.assigns &= trouble is None
        recommender._home, recommender._watch = home, watch
        recommender._meant = state.active, file_stamp(generation_path(home, state.active.name))
        recommender._who.open_online(home)
        recommender._who.open_bought(home)
        recommender._who.open_visitors(home, visitors)
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
        recommender._who.as_released = True
        recommender._models.assigns = False
        recommender.warnings.clear()
        return recommender

    @classmethod
    def _instead(
        cls,
        home: Path,
        state: State,
        identity: Identity | None,
        store: StoreSide,
        error: HomeError,
        *,
        thorough: bool,
    ) -> "Recommender":
        """Open what answers in place of a damaged release, or raise its error."""
        if state.previous is not None:
            with suppress(HomeError):
                recommender = cls._of(home, state.previous, identity, store, thorough=thorough)
                recommender.warnings.append(f"{error}; answering from the previous release")
                return recommender
        for generation in (state.active, state.previous):
            if generation is not None:
                with suppress(HomeError):
                    recommender = cls(Cache(generation_path(home, generation.name)), store=store)
                    recommender._popular_only = True
                    recommender.warnings[:] = [f"{error}; answering by what sells"]
                    return recommender
        raise error

    @classmethod
    def _of(
        cls,
        home: Path,
        generation: Generation,
        identity: Identity | None,
        store: StoreSide,
        *,
        thorough: bool,
    ) -> "Recommender":
        cache = whole_cache(home, generation, thorough=thorough)
        try:
            recommender = cls(cache, identity=identity, store=store)
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
        self._who.close()
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
            return False  # its file may be written anew, which ``keep_up`` follows
        return file_stamp(generation_path(self._home, active.name)) != stamp

    def keep_up(self) -> None:
        """Follow what was done in the home since the last request; costs a read of a few bytes.

        Every request does so by itself.
        """
        self._rulebook.keep_up()
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
        self._who.open_online(self._home)

    def recommend(
        self,
        customer_id: str | None = None,
        *,
        basket: Sequence[str] = (),
        k: int = 10,
        channel: Channel = "offline",
        shown: Shown | None = None,
        at: datetime | None = None,
        options: Options = ANYTHING,
    ) -> Answer:
        """Recommend items.

        Args:
            customer_id: who asks; None, or an id that the release doesn't know, is anyone.
            basket: ids of items in the basket; unknown ones are ignored, and reported.
            k: how many items, 1 to 1000.
            channel: where the customer is.
            shown: which items may be shown; None for all.
            at: when, UTC, which tells how old online scores are, and how long ago something was
                bought; None for now.
            options: what else is asked for.

        Returns:
            An answer of min(k, items that are not left out) items; fewer only where at most n of
            a kind are asked for.

        Raises:
            RequestError: k, the channel, ``shown`` or an option is not allowed.
            HomeError: the release's cache is so damaged that popularity can't be read either.
        """
        started = time.perf_counter()
        _check(k, channel)
        if shown is not None and shown.release != self.manifest.release:
            raise RequestError(
                f"shown was made for release {shown.release}; allowed: one made for the release "
                f"that answers, {self.manifest.release}"
            )
        self.keep_up()
        now = at or datetime.now(UTC)
        wish = self._rulebook.wish(shown, options)
        rows: dict[str, int | None] = {}
        asking = Asking(wish, channel, k)
        serving = self._models.serving(customer_id, by_sales=self._popular_only)
        try:
            self._look_up(asking, rows, customer_id, basket, now, options)
            if asking.about is not None and not self._popular_only:
                ((_, name),) = self._cache.item_names([asking.about.row])
                asking.ask_about(replace(asking.about, name=name), self._related, options.alike_in)
            picked = serving.answer(asking)
        except (HomeError, ReleaseError, RequestError) as error:
            # A shopper is waiting: what sells is still an answer, and says that it is one.
            self._warn(f"{error}; answering by popularity")
            picked = serving.answer_popular(asking)
        else:
            self._count_good_answer()
        notes: list[Note] = []
        if len(picked.chosen) < k:
            notes = [*self._rulebook.notes(shown, options), *asking.notes(picked)]
        listed, ranking = asking.listed, picked.ranking
        first = picked.chosen[0].row if picked.chosen else -1
        return Answer(
            customer_id=customer_id,
            channel=channel,
            tier=ranking.tier_of(first),
            release=self.manifest.release,
            items=serving.model.told.items(ranking, picked.chosen, channel, asking.about),
            unknown_items=tuple(item_id for item_id, row in rows.items() if row is None),
            elapsed_ms=(time.perf_counter() - started) * 1000,
            path=ranking.path,
            online_as_of=None if listed is None else moment_text(listed.scores.as_of),
            online_age_s=None if listed is None else listed.fresh.age_s,
            notes=tuple(notes),
            goes_with=options.goes_with,
            instead_of=options.instead_of,
            arm=serving.arm,
            model=None if ranking.ranked.basis is None else serving.model.name,
        )

    def try_out(self) -> Answer:
        """Answer a request that nobody made, by the model where the release has one.

        It is for somebody whom the release knows, with an item in the basket, so that all that
        shoppers need is used. It counts for nothing: a release on trial proves itself to shoppers.

        Raises:
            HomeError: as of ``recommend``.
        """
        self.keep_up()
        customer_id, basket = None, list[str]()
        with suppress(HomeError):  # damaged, but what sells may be an answer still
            customer_id = self._cache.some_customer()
            basket = [item_id for item_id, _ in self._cache.item_names([0])]
        kept = self._trial, self._answered, self._models.assigns, self._who.as_released
        self._trial = None
        self._models.assigns = False  # to an arm that may be shown what sells
        self._who.as_released = True
        try:
            return self.recommend(customer_id, basket=basket)
        finally:
            self._trial, self._answered, self._models.assigns, self._who.as_released = kept

    def knows(self, customer_id: str) -> bool:
        """Whether the release knows what a customer buys, whatever their arm makes of it."""
        self.keep_up()
        try:
            customer = None if self._popular_only else self._who.customer(customer_id)
        except HomeError as error:
            self._warn(str(error))
            return False
        return customer is not None and bool(customer.has.any())

    def explain(
        self,
        item_id: str,
        customer_id: str | None = None,
        *,
        basket: Sequence[str] = (),
        k: int = 10,
        channel: Channel = "offline",
        at: datetime | None = None,
    ) -> "Explanation":
        """Tell every number that puts an item where it is, for an operator.

        Args:
            item_id: the item.
            customer_id: who asks; None, or an id that the release doesn't know, is anyone.
            basket: ids of items in the basket; unknown ones are ignored, and reported.
            k: how many items the answer has in which its place is told, 1 to 1000.
            channel: where the customer is.
            at: when, UTC; None for now.

        Raises:
            RequestError: k or the channel is not allowed, or the release doesn't know the item.
            HomeError: the release's cache is damaged.
            ReleaseError: the model can't be run.
        """
        from c2rec.runtime.serving.explain import explain

        _check(k, channel)
        self.keep_up()
        row, now = self._cache.item_row(item_id), at or datetime.now(UTC)
        if row is None:
            raise RequestError(
                f"item {item_id!r} is not in release {self.manifest.release}; allowed: the id of "
                f"one of its {self.manifest.counts.items:,} items"
            )
        asking = Asking(self._rulebook.wish(None, ANYTHING), channel, k)
        rows: dict[str, int | None] = {}
        self._look_up(asking, rows, customer_id, basket, now, ANYTHING)
        serving = self._models.serving(customer_id, by_sales=self._popular_only)
        explained = partial(
            explain,
            row,
            asking,
            serving,
            policy=self.policy,
            customer_id=customer_id,
            unknown_items=tuple(each for each, found in rows.items() if found is None),
        )
        try:
            return explained()
        except (HomeError, ReleaseError, RequestError) as error:
            if not serving.falls_back(error):
                raise
            return explained()

    def _look_up(
        self,
        asking: Asking,
        rows: dict[str, int | None],
        customer_id: str | None,
        basket: Sequence[str],
        now: datetime,
        options: Options,
    ) -> None:
        """Fill in ``asking`` and ``rows``, and what was bought; as ``look_up``."""
        try:
            look_up(
                asking,
                rows,
                cache=self._cache,
                who=None if self._popular_only else self._who,
                customer_id=customer_id,
                basket=basket,
                options=options,
                now=now,
            )
        finally:
            asking.leave_out_bought(self._rulebook, now)

    def _count_good_answer(self) -> None:
        """Tell that the model answered, or had nothing to go by, while the release is on trial."""
        self._answered = True
        if self._trial is not None and not answered(*self._trial):
            self._trial = None

    @property
    def policy(self) -> Policy | None:
        """The rules of head office and the store, as of the last ``keep_up``; None: there are none.

        Raises:
            HomeError: the release's cache is damaged.
        """
        return self._rulebook.policy

    @property
    def shelf(self) -> Shelf:
        """What the store says of its items, as of the last ``keep_up``."""
        return self._rulebook.shelf

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


def _check(k: int, channel: str) -> None:
    if not 1 <= k <= MAX_K:
        raise RequestError(f"k is {k}; allowed: 1 to {MAX_K}")
    if channel not in get_args(Channel):
        raise RequestError(f"channel is {channel!r}; allowed: {' or '.join(CHANNELS)}")


def _into(warnings: list[str]) -> Callable[[str], None]:
    """Take a warning down, once.

    Whoever has this doesn't hold the Recommender: in a circle, files stay open until it is found.
    """

    def warn(warning: str) -> None:
        if warning not in warnings:
            warnings.append(warning)

    return warn
