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

What the customer bought in the requested channel, what is in the basket and what a filter keeps
back are left out. Every tier ranks all the rest, so an answer is shorter than k only where fewer
items are left at all.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import numpy.typing as npt

from c2rec.runtime.answer import Answer, Attention, RecommendedItem
from c2rec.runtime.cache import Cache, Customer
from c2rec.runtime.disk import generation_path
from c2rec.runtime.errors import HomeError, IdentityError, ReleaseError, RequestError
from c2rec.runtime.identity import Identity, find_identity, pseudonym
from c2rec.runtime.ranking import top_k
from c2rec.runtime.reasons import CATALOGUE, POPULAR, personal_reason
from c2rec.runtime.records import CHANNELS, Channel, Tier
from c2rec.runtime.state import Generation, State
from c2rec.runtime.trial import answered, begin, ended
from c2rec.runtime.whole import whole_cache

if TYPE_CHECKING:
    from c2rec.runtime.engine import Engine, Filter
    from c2rec.runtime.scorer import Encoder

MAX_K = 1000
"""Longest answer that can be asked for."""

_Rows = npt.NDArray[np.int64]
_NO_ROWS: _Rows = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Which items may be shown; made by ``Recommender.shown``, for many requests."""

    release: str
    """Whose items they are."""
    rows: npt.NDArray[np.bool_]
    """bool (items,)"""
    unknown: int
    """Ids given that the release doesn't know."""


class Recommender:
    """Answers from one release; use it in the thread that opened it.

    Graphs and matrices are loaded when a tier first needs them, and kept.

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
        self._popular_only = False  # the release is damaged: the model's answers could be anything
        self._customer_key: bytes | None = None
        self.manifest = cache.manifest()
        self.warnings: list[str] = []
        self._popularity = cache.array("popularity")  # (2, items); what no answer can do without
        self._filtered: tuple[Shown, Filter] | None = None  # the last one used
        if cache.about("customers") == "pseudonyms":
            if identity is None:
                self.warnings.append(
                    "this kiosk has no identity, without which its customers are not known; "
                    "enrol it: c2rec-kiosk enrol KIT"
                )
            self._customer_key = b"" if identity is None else identity.customer_key

    @classmethod
    def open(cls, home: Path, *, thorough: bool = False) -> "Recommender":
        """Open the active release of a home or, where it is damaged, the previous one.

        While the active release is on trial, this counts as a start, see ``trial.py``.

        Args:
            home: the home folder.
            thorough: read every byte of the release first, as a process does that is going to
                serve; else what was found whole before, and has not been written to, is believed.

        Raises:
            NotInstalledError: no release has been installed.
            HomeError: neither release can be read.
        """
        state, warning = begin(home)
        identity, trouble = _identity(home)
        try:
            recommender = cls._of(home, state.active, identity, thorough=thorough)
        except HomeError as error:
            # The active release is what an operator must repair: that error is told.
            recommender = cls._instead(home, state, identity, error, thorough=thorough)
        else:
            if state.trial is not None:
                recommender._trial = home, state.active.name
        recommender.warnings += [each for each in (warning, trouble) if each]
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
            return cls(cache, identity=identity)
        except BaseException:
            cache.close()
            raise

    def close(self) -> None:
        """Close the release."""
        if self._trial is not None and not self._answered:
            ended(*self._trial)
        self._cache.close()

    def recommend(
        self,
        customer_id: str | None = None,
        *,
        basket: Sequence[str] = (),
        k: int = 10,
        channel: Channel = "offline",
        shown: Shown | None = None,
    ) -> Answer:
        """Recommend items.

        Args:
            customer_id: who asks; None, or an id that the release doesn't know, is anyone.
            basket: ids of items in the basket; unknown ones are ignored, and reported.
            k: how many items, 1 to 1000.
            channel: where the customer is.
            shown: which items may be shown; None for all.

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
        rows: dict[str, int | None] = {}
        left_out = _NO_ROWS
        found = None
        try:
            customer = None
            if customer_id is not None and not self._popular_only:
                customer = self._customer(customer_id)
            rows = {item_id: self._cache.item_row(item_id) for item_id in basket}
            known = [row for row in rows.values() if row is not None]
            left_out = in_basket = np.unique(np.array(known, np.int64))
            if customer is not None:
                here = customer.history_channels == CHANNELS.index(channel)  # (n,)
                left_out = np.union1d(in_basket, customer.history_items[here])
            if not self._popular_only:
                found = self._modelled(customer, in_basket, left_out, k, channel, shown)
        except (HomeError, ReleaseError, RequestError) as error:
            # A shopper is waiting: what sells is still an answer, and says that it is one.
            warning = f"{error}; answering by popularity"
            if warning not in self.warnings:
                self.warnings.append(warning)
        else:
            self._count_good_answer()
        tier, items = found or self._popular(left_out, k, channel, shown)
        return Answer(
            customer_id=customer_id,
            channel=channel,
            tier=tier,
            release=self.manifest.release,
            items=items,
            unknown_items=tuple(item_id for item_id, row in rows.items() if row is None),
            elapsed_ms=(time.perf_counter() - started) * 1000,
        )

    def _customer(self, customer_id: str) -> Customer | None:
        """Look a customer up, by pseudonym where the release has pseudonyms."""
        if self._customer_key is None:
            return self._cache.customer(customer_id)
        if not self._customer_key:
            return None  # no identity: nobody is known
        return self._cache.customer(pseudonym(self._customer_key, customer_id).hex())

    def _count_good_answer(self) -> None:
        """Tell that the model answered, or had nothing to go by, while the release is on trial."""
        self._answered = True
        if self._trial is not None and not answered(*self._trial):
            self._trial = None

    def _modelled(
        self,
        customer: Customer | None,
        in_basket: _Rows,
        left_out: _Rows,
        k: int,
        channel: Channel,
        shown: Shown | None,
    ) -> tuple[Tier, tuple[RecommendedItem, ...]] | None:
        """Answer from the first tier that the model serves; None where it serves neither."""
        if customer is not None and customer.has.any():
            history = _history(customer, in_basket, channel)
            if len(in_basket) and self._can_encode:
                components, has = self._encode(history)
            else:
                components, has = customer.components[None], customer.has[None]
            bought = [bool(flag) for flag in customer.has]
            rows = history[0]
            if found := self._scored(components, has, rows, bought, left_out, k, channel, shown):
                return "personal", found
        elif len(in_basket) and self._can_encode:
            history = _history(None, in_basket, channel)
            components, has = self._encode(history)
            rows, bought = history[0], [False] * 3
            if found := self._scored(components, has, rows, bought, left_out, k, channel, shown):
                return "basket", found
        return None

    def _scored(
        self,
        components: npt.NDArray[np.float32],
        has: npt.NDArray[np.bool_],
        history: _Rows,
        bought: Sequence[bool],
        left_out: _Rows,
        k: int,
        channel: Channel,
        shown: Shown | None,
    ) -> tuple[RecommendedItem, ...]:
        """Rank by the model.

        ``components`` (1, 3, d), ``has`` (1, 3) and ``history`` come with the basket, ``bought``
        without.
        """
        from c2rec.runtime.engine import Request

        request = Request(components, has, CHANNELS.index(channel), history, left_out)
        best = self._engine.top_k(request, k, only=self._filter(shown))
        names = self._cache.item_names(best.rows.tolist())
        found = []
        rows = zip(names, best.scores.tolist(), best.attention.T.tolist(), strict=True)
        for (item_id, name), score, alphas in rows:
            reason = personal_reason(alphas, bought)
            found.append(RecommendedItem(item_id, name, score, reason, Attention(*alphas)))
        return tuple(found)

    def _popular(
        self, left_out: _Rows, k: int, channel: Channel, shown: Shown | None
    ) -> tuple[Tier, tuple[RecommendedItem, ...]]:
        sold = self._popularity[CHANNELS.index(channel)]  # (items,)
        if shown is not None:
            left_out = np.union1d(left_out, np.flatnonzero(~shown.rows))
        best = _best(sold[None], left_out, -1, k)  # (<= k,)
        tier: Tier = "store-popular" if len(best) and sold[best[0]] > 0 else "catalogue"
        none = Attention(0.0, 0.0, 0.0)
        names = self._cache.item_names(best.tolist())
        return tier, tuple(
            RecommendedItem(
                item_id, name, float(sold[row]), POPULAR[channel] if sold[row] else CATALOGUE, none
            )
            for row, (item_id, name) in zip(best, names, strict=True)
        )

    def _encode(
        self, history: tuple[_Rows, _Rows]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Encode a history: components (1, 3, d) and has (1, 3)."""
        items, channels = history
        ones = np.ones((1, len(items)), np.float32)
        return self._encoder.encode(items[None], channels[None], ones)

    @property
    def _can_encode(self) -> bool:
        return self.manifest.encoder == "history"

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

    def _filter(self, shown: Shown | None) -> "Filter | None":
        if shown is None:
            return None
        if self._filtered is None or self._filtered[0] is not shown:
            self._filtered = shown, self._engine.filter(shown.rows)
        return self._filtered[1]

    @cached_property
    def _engine(self) -> "Engine":
        # onnxruntime: only where a tier needs it
        from c2rec.runtime.engine import Engine, fitting_arrays

        with fitting_arrays():
            return Engine(self._cache, attention=self.manifest.attention)

    @cached_property
    def _encoder(self) -> "Encoder":
        from c2rec.runtime.scorer import Encoder  # onnxruntime: only where a tier needs it

        return Encoder(self._cache)


def _identity(home: Path) -> tuple[Identity | None, str | None]:
    """The kiosk's identity, and a warning where it can't be read: a shopper is waiting."""
    try:
        return find_identity(home), None
    except IdentityError as error:
        return None, str(error)


def _history(customer: Customer | None, in_basket: _Rows, channel: Channel) -> tuple[_Rows, _Rows]:
    """Items (length,) and channels (length,) of what was bought and what is in the basket."""
    here = CHANNELS.index(channel)
    items, channels = _NO_ROWS, _NO_ROWS
    if customer is not None:
        items = customer.history_items.astype(np.int64)
        channels = customer.history_channels.astype(np.int64)
    # A history holds an item once per channel, as it did in training.
    new = np.setdiff1d(in_basket, items[channels == here])
    return np.concatenate([items, new]), np.concatenate([channels, np.full(len(new), here)])


def _best(values: npt.NDArray[np.float32], left_out: _Rows, least: float, k: int) -> _Rows:
    """Columns of the k best of ``values`` (1, items), without those left out."""
    ranked = values.copy()
    ranked[:, left_out] = least
    left = ranked.shape[1] - len(left_out)
    if left == 0:
        return _NO_ROWS
    best: _Rows = top_k(ranked, min(k, left))[0]
    return best
