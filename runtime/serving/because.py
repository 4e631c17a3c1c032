"""Which reason for an item is true: what its score is made of, taken apart.

A score is Σ_k α_k (x_k · y_v) + n_v + b_v (``docs/release-format.md``). The greatest of the three
products and the neighbour term n_v is the reason, if it is above 0; b_v is everybody's. Both can
be told apart further, purchase by purchase:

- n_v is the mean of what each purchase says of the item;
- x_k is a multiple of the sum of the source embeddings z_i of the purchases that it is made of, so
  purchase i has the share z_i · y_v of it.

So it is known whether purchases or the basket carry the reason, in which channel they were made,
and whether one or two items make up at least half of it: these are named. What says nothing, or
speaks against the item, is never given as a reason.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from c2rec.runtime.reasons import CATALOGUE, POPULAR, Reason
from c2rec.runtime.records import CHANNELS, Channel

NAMED = 2
"""So many items are named at most."""
FLAGS = 4096
"""Items share flags by their last digits; a power of two."""
ENOUGH = 0.5
"""Named are those that make up such a share of what speaks for an item."""

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]


class Items(Protocol):
    """Where arrays and names come from; a ``Cache`` is one. Both raise HomeError."""

    def array(self, name: str) -> npt.NDArray[Any]:
        """A tensor of items.safetensors."""
        ...

    def item_names(self, rows: Sequence[int]) -> list[tuple[str, str]]:
        """(item id, name) of items."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """What a customer's scores were computed from."""

    components: _Floats
    """float32 (3, d), x_k"""
    items: _Rows
    """int64 (length,), rows of what was bought and what is in the basket"""
    channels: _Rows
    """int64 (length,), 0 offline, 1 online"""
    in_basket: npt.NDArray[np.bool_]
    """bool (length,), which of these are in the basket and not bought before"""
    encoded: bool
    """Whether the components were encoded from these items; a table's are not."""


class _Purchase(NamedTuple):
    """What was bought, or is in the basket."""

    place: int
    """In the basis."""
    item: int
    channel: int
    in_basket: bool


class Because:
    """Finds reasons in one release.

    Args:
        items: of the release; used in the thread of the caller.
    """

    def __init__(self, items: Items) -> None:
        self._items = items
        self._embeddings: _Floats = items.array("item_embeddings")  # (n, d)
        self._popularity: _Floats = items.array("popularity")  # (2, n)
        self._named = items.array("neighbour_items")  # (n, m)
        self._said = items.array("neighbour_weights")  # (n, 2, m)

    @cached_property
    def _sources(self) -> _Floats:
        sources: _Floats = self._items.array("source_embeddings")  # (n, d)
        return sources

    def reasons(
        self, rows: _Rows, attention: _Floats, basis: Basis, channel: Channel
    ) -> list[Reason]:
        """Find the reasons for a customer's best items.

        Args:
            rows: int64 (k,), the items.
            attention: float32 (3, k), α.
            basis: what they were scored from.
            channel: what they were scored for.

        Raises:
            HomeError: the release's cache is damaged.
        """
        if not len(rows):
            return []
        number = CHANNELS.index(channel)
        vectors = self._embeddings.take(rows, axis=0)  # (k, d)
        parts = attention * (basis.components @ vectors.T)  # (3, k)
        spoken = self._spoken(rows, basis.items, number)  # (length, k)
        neighbours = spoken.mean(axis=0) if len(spoken) else np.zeros(len(rows), np.float32)
        shares = None
        if basis.encoded:
            with np.errstate(over="ignore", invalid="ignore"):  # what is no number says nothing
                shares = self._sources.take(basis.items, axis=0) @ vectors.T  # (length, k)
        purchases = _purchases(basis)
        # by component: the purchases that it is made of, and where they stand in the basis
        inside = [[each for each in purchases if k in (0, each.channel + 1)] for k in range(3)]
        places = [[each.place for each in some] for some in inside]
        found = []
        for i, row in enumerate(rows.tolist()):
            strongest = int(parts[:, i].argmax())
            if max(parts[strongest, i], neighbours[i]) <= 0:
                sold = self._popularity[number, row] > 0
                found.append(POPULAR[channel] if sold else CATALOGUE)
            elif neighbours[i] > parts[strongest, i]:
                found.append(self._told(purchases, spoken[:, i].tolist()))
            else:
                says = None if shares is None else shares[places[strongest], i]
                found.append(self._like(inside[strongest], says))
        return found

    def _like(self, inside: Sequence[_Purchase], shares: _Floats | None) -> Reason:
        """The reason where a component speaks loudest, which is made of these purchases."""
        if shares is not None:
            total = float(shares.sum())
            if total != 0 and math.isfinite(total):
                # the product is above 0; a negative gain would turn every share around
                return self._told(inside, (math.copysign(1, total) * shares).tolist())
        return Reason("bought", _channels(each for each in inside if not each.in_basket))

    def _told(self, purchases: Sequence[_Purchase], shares: Sequence[float]) -> Reason:
        """The reason where purchases, or items in the basket, speak for an item.

        Args:
            purchases: those that may speak.
            shares: how much each says; their sum is above 0.
        """
        sides = [0.0, 0.0]  # what was bought, the basket
        for each, share in zip(purchases, shares, strict=True):
            sides[each.in_basket] += share
        of_basket = sides[1] > sides[0]
        speak = [
            (each, share)
            for each, share in zip(purchases, shares, strict=True)
            if each.in_basket == of_basket and share > 0
        ]
        sums: dict[int, float] = {}  # of an item: it may have been bought in both channels
        for each, share in speak:
            sums[each.item] = sums.get(each.item, 0.0) + share
        few = _few(sums)
        names = tuple(name for _, name in self._items.item_names(few))
        if of_basket:
            return Reason("basket", (), names)
        return Reason("bought", _channels(p for p, _ in speak if not few or p.item in few), names)

    def _spoken(self, rows: _Rows, history: _Rows, channel: int) -> _Floats:
        """What each purchase says of each item, float32 (length, k)."""
        named = self._named.take(history, axis=0)  # (length, m)
        # a table that a fast cache holds sorts out nearly all that is named
        flags = np.zeros(FLAGS, np.bool_)
        flags[rows & (FLAGS - 1)] = True
        few = np.flatnonzero(flags.take(named & (FLAGS - 1)))
        order = np.argsort(rows)
        names = named.reshape(-1).take(few)
        place = order[np.searchsorted(rows[order], names).clip(max=len(rows) - 1)]
        ours = rows[place] == names
        purchase, entry = np.divmod(few[ours], max(1, named.shape[1]))
        spoken = np.zeros((len(history), len(rows)), np.float32)
        said = self._said[history[purchase], channel, entry].astype(np.float32)
        np.add.at(spoken, (purchase, place[ours]), said)
        return spoken


def _purchases(basis: Basis) -> list[_Purchase]:
    columns = (each.tolist() for each in (basis.items, basis.channels, basis.in_basket))
    return [_Purchase(place, *each) for place, each in enumerate(zip(*columns, strict=True))]


def _few(sums: Mapping[int, float]) -> list[int]:
    """Rows of the one or two items that make up enough; none where it takes more."""
    best = sorted(sums, key=lambda item: (-sums[item], item))[:NAMED]
    enough = ENOUGH * sum(sums.values())
    for count in range(1, len(best) + 1):
        if sum(sums[item] for item in best[:count]) >= enough:
            return best[:count]
    return []


def _channels(purchases: Iterable[_Purchase]) -> tuple[Channel, ...]:
    numbers = {each.channel for each in purchases}
    return tuple(channel for number, channel in enumerate(CHANNELS) if number in numbers)
