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

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from c2rec.runtime.reasons import CATALOGUE, POPULAR, Reason
from c2rec.runtime.records import CHANNELS, Channel

NAMED = 2
"""So many items are named at most."""
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
            shares = self._sources.take(basis.items, axis=0) @ vectors.T  # (length, k)
        found = []
        for i, row in enumerate(rows.tolist()):
            strongest = int(parts[:, i].argmax())
            if max(parts[strongest, i], neighbours[i]) <= 0:
                sold = self._popularity[number, row] > 0
                found.append(POPULAR[channel] if sold else CATALOGUE)
            elif neighbours[i] > parts[strongest, i]:
                found.append(self._told(spoken[:, i], basis))
            else:
                found.append(
                    self._like(strongest, shares if shares is None else shares[:, i], basis)
                )
        return found

    def _like(self, component: int, shares: _Floats | None, basis: Basis) -> Reason:
        """The reason where a component's product speaks loudest."""
        inside = np.ones(len(basis.items), np.bool_)
        if component:
            inside = basis.channels == component - 1
        if shares is not None:
            each = np.where(inside, shares, np.float32(0))
            # the product is above 0; a negative gain would turn every share around
            each = each * np.sign(each.sum())
            if each.sum() > 0:
                return self._told(each, basis)
        return Reason("bought", _channels(basis.channels[inside & ~basis.in_basket]))

    def _told(self, shares: _Floats, basis: Basis) -> Reason:
        """The reason where items of the history or the basket speak for an item.

        Args:
            shares: float32 (length,), how much each says; its sum is above 0.
            basis: whose.
        """
        of_basket = float(shares[basis.in_basket].sum()) > float(shares[~basis.in_basket].sum())
        speaks = (basis.in_basket == of_basket) & (shares > 0)
        few = self._few(basis.items[speaks], shares[speaks])
        names = tuple(name for _, name in self._items.item_names(few))
        if of_basket:
            return Reason("basket", (), names)
        if few:
            speaks &= np.isin(basis.items, few)
        return Reason("bought", _channels(basis.channels[speaks]), names)

    def _few(self, items: _Rows, shares: _Floats) -> list[int]:
        """Rows of the one or two items that make up enough; none where it takes more."""
        each, place = np.unique(items, return_inverse=True)  # who bought it in both channels
        sums = np.bincount(place, weights=shares)
        best = np.argsort(-sums, kind="stable")
        for count in range(1, NAMED + 1):
            if sums[best[:count]].sum() >= ENOUGH * sums.sum():
                few: list[int] = each[best[:count]].tolist()
                return few
        return []

    def _spoken(self, rows: _Rows, history: _Rows, channel: int) -> _Floats:
        """What each purchase says of each item, float32 (length, k)."""
        order = np.argsort(rows)
        named = self._named.take(history, axis=0)  # (length, m)
        at = np.searchsorted(rows[order], named).clip(max=len(rows) - 1)
        place = order[at]
        purchase, entry = np.nonzero(rows[place] == named)
        spoken = np.zeros((len(history), len(rows)), np.float32)
        said = self._said[history[purchase], channel, entry].astype(np.float32)
        np.add.at(spoken, (purchase, place[purchase, entry]), said)
        return spoken


def _channels(numbers: _Rows) -> tuple[Channel, ...]:
    return tuple(channel for number, channel in enumerate(CHANNELS) if (numbers == number).any())
