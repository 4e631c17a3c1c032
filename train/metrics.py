"""Ranking metrics over the full catalogue, per channel and per customer.

Sampled metrics rank models differently from full ones (Krichene and Rendle, 2020), so nothing
here samples items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from c2rec.runtime.errors import RunError
from c2rec.runtime.ranking import top_k
from c2rec.train.batches import PurchaseIndex, Rows
from c2rec.train.split import Purchases


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


def evaluate_channel(
    ranker: Ranker,
    index: PurchaseIndex,
    targets: Purchases,
    channel: int,
    *,
    k: int,
    new_only: bool,
    batch_size: int = 256,
) -> ChannelMetrics:
    """Rank the whole catalogue for each customer with a target and see what is hit.

    Args:
        ranker: what is measured.
        index: training purchases.
        targets: distinct purchases of a later period.
        channel: row of ``CHANNELS``.
        k: length of the list, at least 1.
        new_only: leave what the customer bought in this channel during training out of both
            the ranking and the targets. Leaving it out of the ranking alone, or only where it
            is no target, would give the answer away.
        batch_size: customers scored at a time.

    Raises:
        RunError: a score is not finite.
    """
    chosen = targets.channels == channel
    pairs = targets.customers[chosen].astype(np.int64) * index.items + targets.items[chosen]
    wanted: Rows = np.unique(pairs)
    if new_only:
        bought, _ = index.of(np.unique(targets.customers[chosen]).astype(np.int64))
        bought = bought[index.purchases.channels[bought] == channel]
        seen = index.purchases.customers[bought].astype(np.int64) * index.items
        wanted = np.setdiff1d(wanted, seen + index.purchases.items[bought])
    customers, wanted_per_customer = np.unique(wanted // index.items, return_counts=True)
    metrics = ChannelMetrics(customers, *(np.zeros(len(customers)) for _ in range(3)))
    discounts = 1 / np.log2(np.arange(k) + 2)  # (k,)
    ideal = np.cumsum(discounts)  # (k,)
    for rows in _slices(len(customers), batch_size):
        batch = customers[rows]
        scores = ranker.scores(batch, channel)  # (b, items)
        if not np.isfinite(scores).all():
            raise RunError("a score is not finite; fit again with a lower --learning-rate")
        if new_only:
            purchases, owners = index.of(batch)
            here = index.purchases.channels[purchases] == channel
            scores = scores.copy()
            scores[owners[here], index.purchases.items[purchases[here]]] = -np.inf
        top = top_k(scores, k)  # (b, ≤ k)
        ranked = batch[:, None] * index.items + top  # (b, ≤ k)
        place = np.searchsorted(wanted, ranked)  # (b, ≤ k), for wanted is sorted
        hits = wanted[np.minimum(place, len(wanted) - 1)] == ranked  # (b, ≤ k)
        targets_here = wanted_per_customer[rows]
        metrics.hr[rows] = hits.any(1)
        metrics.recall[rows] = hits.sum(1) / targets_here
        gain = (hits * discounts[: hits.shape[1]]).sum(1)
        metrics.ndcg[rows] = gain / ideal[np.minimum(targets_here, k) - 1]
    return metrics


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
