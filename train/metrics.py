"""Ranking metrics over the full catalogue, per channel and per customer.

Sampled metrics rank models differently from full ones (Krichene and Rendle, 2020), so nothing
here samples items.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from c2rec.runtime.errors import RunError
from c2rec.runtime.ranking import top_k
from c2rec.train.batches import PurchaseIndex, Rows
from c2rec.train.split import Purchases

_COMPARED = 4_000_000
"""Scores compared with a target's at once."""


class Ranker(Protocol):
    """Anything that scores the whole catalogue: the model or a baseline."""

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item, float32 (batch, items), for int64 (batch,) customers."""
        ...


@dataclass(frozen=True, slots=True)
class ChannelMetrics:
    """Metrics of each customer who has at least one target in the channel."""

    customers: Rows
    """int64 (n,)."""
    hr: npt.NDArray[np.float64]
    """float64 (n,): 1 where any of the top k is a target, else 0."""
    ndcg: npt.NDArray[np.float64]
    """float64 (n,): discounted gain over that of the best order of min(k, targets) hits."""
    recall: npt.NDArray[np.float64]
    """float64 (n,): the share of the targets that are in the top k."""

    def means(self) -> dict[str, float | int | None]:
        """Average over customers; the figures are None where there is no customer."""
        if len(self.customers) == 0:
            return {"customers": 0, "hr": None, "ndcg": None, "recall": None}
        return {
            "customers": len(self.customers),
            "hr": float(self.hr.mean()),
            "ndcg": float(self.ndcg.mean()),
            "recall": float(self.recall.mean()),
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """What customers bought later in one channel, and what their lists leave out."""

    customers: Rows
    """int64 (n,), ascending: those with at least one target."""
    targets: npt.NDArray[np.int64]
    """int64 (n,): how many targets each has."""
    pairs: Rows
    """int64 (targets,), ascending: customer times the number of items, plus the item."""
    index: PurchaseIndex
    """Training purchases."""
    channel: int
    new_only: bool
    """Whether what was bought in the channel during training is left out of lists and targets.
    Leaving it out of the lists alone, or only where it is no target, would give the answer away."""
    listed: npt.NDArray[np.bool_]
    """bool (items,): what lists are made of."""

    @classmethod
    def of(
        cls,
        index: PurchaseIndex,
        later: Purchases,
        channel: int,
        *,
        new_only: bool,
        listed: npt.NDArray[np.bool_] | None = None,
        wanted: npt.NDArray[np.bool_] | None = None,
    ) -> "Wanted":
        """Find the targets in the purchases of a later period.

        Args:
            index: training purchases.
            later: distinct purchases of the later period.
            channel: row of ``CHANNELS``.
            new_only: see above.
            listed: bool (items,), what lists are made of; None: the whole catalogue.
            wanted: bool (items,), what may be a target; None: everything listed.
        """
        listed = np.ones(index.items, bool) if listed is None else listed
        chosen = later.channels == channel
        chosen &= (listed if wanted is None else listed & wanted)[later.items]
        pairs: Rows = np.unique(
            later.customers[chosen].astype(np.int64) * index.items + later.items[chosen]
        )
        if new_only:
            bought, _ = index.of(np.unique(later.customers[chosen]).astype(np.int64))
            bought = bought[index.purchases.channels[bought] == channel]
            seen = index.purchases.customers[bought].astype(np.int64) * index.items
            pairs = np.setdiff1d(pairs, seen + index.purchases.items[bought])
        customers, targets = np.unique(pairs // index.items, return_counts=True)
        return cls(customers, targets, pairs, index, channel, new_only, listed)

    def sample(self, most: int) -> "Wanted":
        """Keep at most so many customers, evenly spread."""
        if len(self.customers) <= most:
            return self
        places = np.linspace(0, len(self.customers) - 1, most).astype(np.int64)
        kept = self.customers[places]
        pairs = self.pairs[np.isin(self.pairs // self.index.items, kept)]
        return replace(self, customers=kept, targets=self.targets[places], pairs=pairs)

    def hits(self, scores: npt.NDArray[np.float32], rows: slice, k: int) -> npt.NDArray[np.bool_]:
        """Rank and look up some of the customers.

        Args:
            scores: float32 (b, items), of the customers in ``rows``; not changed.
            rows: which of ``customers``.
            k: length of the lists.

        Returns:
            bool (b, min(k, items)): whether each place of the list holds a target.

        Raises:
            RunError: a score is not finite.
        """
        batch = self.customers[rows]
        top = top_k(self.masked(scores, batch), k)  # (b, ≤ k)
        ranked = batch[:, None] * self.index.items + top  # (b, ≤ k)
        place = np.searchsorted(self.pairs, ranked)  # (b, ≤ k), for pairs are sorted
        found: npt.NDArray[np.bool_] = (
            self.pairs[np.minimum(place, len(self.pairs) - 1)] == ranked  # (b, ≤ k)
        )
        return found

    def ndcg(self, scores: npt.NDArray[np.float32], k: int) -> float:
        """Mean NDCG@k over the customers, from all their scores: float32 (n, items).

        Finds the places of the targets alone, which takes a fraction of the time that sorting
        does, and gives what ``evaluate_channel`` gives.

        Raises:
            RunError: a score is not finite.
        """
        scores = self.masked(scores, self.customers)
        owners = np.repeat(np.arange(len(self.customers)), self.targets)  # (targets,)
        items = self.pairs % self.index.items  # (targets,)
        columns = np.arange(self.index.items)
        places = np.empty(len(items), np.int64)
        for part in slices(len(items), max(1, _COMPARED // self.index.items)):
            row, item = scores[owners[part]], items[part, None]  # (t, items), (t, 1)
            own = np.take_along_axis(row, item, 1)  # (t, 1)
            before = (row > own) | ((row == own) & (columns < item))  # ties go to the lower row
            places[part] = before.sum(1)
        gain = np.where(places < k, 1 / np.log2(places + 2), 0)
        total = np.bincount(owners, gain, minlength=len(self.customers))
        return float((total / ideal_dcg(self.targets, k)).mean())

    def masked(self, scores: npt.NDArray[np.float32], batch: Rows) -> npt.NDArray[np.float32]:
        """Put -inf where lists leave an item out.

        Args:
            scores: float32 (b, items); not changed.
            batch: int64 (b,), whose they are.

        Raises:
            RunError: a score is not finite.
        """
        if not np.isfinite(scores).all():
            raise RunError("a score is not finite; fit again with a lower --learning-rate")
        if self.new_only or not self.listed.all():
            scores = scores.copy()
            scores[self.left_out(batch)] = -np.inf
        return scores

    def left_out(self, batch: Rows) -> npt.NDArray[np.bool_]:
        """Tell what the lists of some customers, int64 (b,), leave out: bool (b, items)."""
        left = np.broadcast_to(~self.listed, (len(batch), self.index.items)).copy()
        if self.new_only:
            purchases, owners = self.index.of(batch)
            here = self.index.purchases.channels[purchases] == self.channel
            left[owners[here], self.index.purchases.items[purchases[here]]] = True
        return left


def evaluate_channel(
    ranker: Ranker,
    index: PurchaseIndex,
    targets: Purchases,
    channel: int,
    *,
    k: int,
    new_only: bool,
    listed: npt.NDArray[np.bool_] | None = None,
    wanted: npt.NDArray[np.bool_] | None = None,
    most: int | None = None,
    batch_size: int = 256,
) -> ChannelMetrics:
    """Rank the whole catalogue for each customer with a target and see what is hit.

    Args:
        ranker: what is measured.
        index: training purchases.
        targets: distinct purchases of a later period.
        channel: row of ``CHANNELS``.
        k: length of the list, at least 1.
        new_only: as of ``Wanted.of``, as are ``listed`` and ``wanted``.
        listed: bool (items,).
        wanted: bool (items,).
        most: measure so many customers at most, evenly spread; None measures all.
        batch_size: customers scored at a time.

    Raises:
        RunError: a score is not finite.
    """
    searched = Wanted.of(index, targets, channel, new_only=new_only, listed=listed, wanted=wanted)
    searched = searched if most is None else searched.sample(most)
    customers = searched.customers
    metrics = ChannelMetrics(customers, *(np.zeros(len(customers)) for _ in range(3)))
    for rows in slices(len(customers), batch_size):
        hits = searched.hits(ranker.scores(customers[rows], channel), rows, k)  # (b, ≤ k)
        metrics.hr[rows] = hits.any(1)
        metrics.recall[rows] = hits.sum(1) / searched.targets[rows]
        metrics.ndcg[rows] = _ndcg(hits, searched.targets[rows], k)
    return metrics


def _ndcg(
    hits: npt.NDArray[np.bool_], targets: npt.NDArray[np.int64], k: int
) -> npt.NDArray[np.float64]:
    """Discounted gain over that of the best order of min(k, targets) hits: float64 (b,)."""
    discounts = 1 / np.log2(np.arange(hits.shape[1]) + 2)  # (≤ k,)
    ndcg: npt.NDArray[np.float64] = (hits * discounts).sum(1) / ideal_dcg(targets, k)
    return ndcg


def ideal_dcg(targets: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.float64]:
    """Sum the discounts of a list of k that begins with the targets: float64 (n,).

    Args:
        targets: int64 (n,), how many each customer has, at least 1.
        k: length of the lists.
    """
    discounts = 1 / np.log2(np.arange(k) + 2)  # (k,)
    ideal: npt.NDArray[np.float64] = np.cumsum(discounts)[np.minimum(targets, k) - 1]
    return ideal


def slices(length: int, size: int) -> Iterator[slice]:
    """Cut a length into pieces of at most a size."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
