"""The rules that hold for a request, and what they leave of the release."""

from collections import OrderedDict
from collections.abc import Callable, Collection
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from c2rec.runtime.errors import UnknownColumnError
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.rules.assortment import Assortment
from c2rec.runtime.rules.goods import Columns, Goods
from c2rec.runtime.rules.notes import Note
from c2rec.runtime.rules.options import Options
from c2rec.runtime.rules.policy import BoundCap, Policy
from c2rec.runtime.rules.rules import Cap, Rules, Selector
from c2rec.runtime.rules.rules_file import RULES, parse_rules, unknown_columns
from c2rec.runtime.rules.shelf import Shelf
from c2rec.runtime.rules.store_side import Said, StoreSide
from c2rec.runtime.serving.asked import NO_ROWS, Rows, Shown

KEPT = 4
"""Assortments that are kept ready: the store's own, and what was asked for of late."""


class Wish(NamedTuple):
    """What a request and the rules together ask for."""

    assortment: Assortment
    caps: tuple[BoundCap, ...]
    diversity: float
    """0..1."""
    dismissed: Rows
    repeated: frozenset[int]
    """Rows of the items that go behind all others."""


class Rulebook:
    """The rules of one release and one store; use it in the thread that opened the cache.

    Args:
        cache: the release; every method may raise HomeError.
        store: what the store says; None: nothing.
        warn: is told what can't be used.
    """

    def __init__(self, cache: Cache, store: StoreSide | None, warn: Callable[[str], None]) -> None:
        self._cache, self._store, self._warn = cache, store, warn
        self._columns = self.columns = Columns(cache)
        self._said = Said(Rules(), Shelf())
        self._goods: Goods | None = None
        self._policy: Policy | None = None
        self._kept: OrderedDict[tuple[Shown | None, Selector], Assortment] = OrderedDict()

    @cached_property
    def _of_release(self) -> Rules:
        """The rules that came with the release."""
        return self._read_release()

    def _read_release(self) -> Rules:
        text = self._cache.about("rules")
        if text is None:
            return Rules()
        file = f"the release's {RULES}"
        parsed = parse_rules(text, file=file, origin="release")
        known = self._columns.names() if parsed.rules.columns else frozenset[str]()
        errors = [*parsed.errors, *unknown_columns(parsed.rules, known, file)]
        if errors:  # it was checked when it was exported, perhaps by a newer version
            self._warn("\n".join(errors) + "; its other rules hold")
        return parsed.rules.fitting(known)

    @property
    def shelf(self) -> Shelf:
        """What the store says of price and stock."""
        return self._said.shelf

    def keep_up(self) -> None:
        """Follow the store's files; costs two calls of ``stat`` where nothing changed."""
        if self._store is None:
            return
        said = self._store.look(self._columns.names)
        for warning in self._store.take_warnings():
            self._warn(warning)
        if said is not self._said:
            if said.shelf is not self._said.shelf:
                self._goods = None
            self._said, self._policy = said, None
            self._kept.clear()

    @property
    def policy(self) -> Policy | None:
        """The rules, ready; None where there are none."""
        if self._policy is None:
            of_store = self._said.rules
            if of_store or self._of_release or self._said.shelf.offers:
                self._policy = Policy(self._of_release, of_store, self._items)
        return self._policy

    @property
    def _items(self) -> Goods:
        if self._goods is None:
            self._goods = Goods(self._cache, self._columns, self.shelf)
        return self._goods

    def wish(self, shown: Shown | None, options: Options) -> Wish:
        """Bring a request and the rules together.

        Raises:
            UnknownColumnError: the items have no such column.
        """
        policy = self.policy
        looked_at: list[tuple[str, Collection[str]]] = [
            ("where", options.where),
            ("at_most", options.at_most),
            ("alike_in", () if options.alike_in is None else (options.alike_in,)),
        ]
        for field, columns in looked_at:
            for column in columns:
                if column not in self._columns.names():
                    raise UnknownColumnError(
                        f"{field}: the items have no column {column!r}; allowed: "
                        f"{', '.join(sorted(self._columns.names())) or 'none'}"
                    )
        caps = [] if policy is None else policy.caps
        asked = [
            BoundCap(Cap(0, "", "request", column, n), self._columns.column(column).codes)
            for column, n in options.at_most.items()
        ]
        diversity = options.diversity
        if options.instead_of is not None:
            diversity = 0.0  # what is alike is asked for
        elif diversity is None:
            diversity = 0.0 if policy is None else policy.diversity
        gone = self._cache.item_rows(options.dismissed)[0] if options.dismissed else NO_ROWS
        return Wish(
            self._assortment(shown, options.selector),
            (*caps, *asked),
            diversity,
            gone,
            self._repeated(options),
        )

    def _repeated(self, options: Options) -> frozenset[int]:
        most = None if self.policy is None else self.policy.repeats
        often = [i for i, times in options.times_shown.items() if most and times >= most]
        return frozenset(self._cache.item_rows(often)[0].tolist()) if often else frozenset()

    def _assortment(self, shown: Shown | None, selector: Selector) -> Assortment:
        key = shown, selector
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        policy = self.policy
        allowed = None if policy is None or policy.allowed.all() else policy.allowed
        parts = [] if allowed is None else [allowed]
        if shown is not None:
            parts.append(shown.rows)
        if selector != Selector():
            parts.append(self._items.matching(selector))
        made = Assortment(
            np.logical_and.reduce(parts) if parts else None,
            None if policy is None else policy.factors,
        )
        self._kept[key] = made
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return made

    def still_bought(self, rows: Rows, days: npt.NDArray[np.int32], today: int) -> Rows:
        """Of what was bought, that which may not be shown again yet.

        Args:
            rows: int64 (m,), what was bought.
            days: int32 (m,), when last, in days since 1970.
            today: the same.
        """
        windows = None if self.policy is None else self.policy.windows
        if windows is None:
            return rows
        ago = np.maximum(today - days.astype(np.int64), 0)  # (m,); a day to come is today
        return rows[ago < windows[rows]]

    def notes(self, shown: Shown | None, options: Options) -> list[Note]:
        """How many items rules and wishes keep from everybody who asks so."""
        notes = [] if self.policy is None else list(self.policy.kept_back)
        if shown is not None:
            notes.append(Note("list", "", int((~shown.rows).sum())))
        if options.where:
            matching = self._items.matching(Selector(where=options.selector.where))
            notes.append(Note("category", "", int((~matching).sum())))
        if options.price is not None:
            matching = self._items.matching(Selector(price=options.price))
            notes.append(Note("price", "", int((~matching).sum())))
        return [note for note in notes if note.items]
