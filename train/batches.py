"""Batches of customers, assembled without a Python loop over purchases.

Every random choice is drawn from a generator seeded by (seed, epoch, step), so a run that
resumes at any step draws what the uninterrupted run would have drawn.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from c2rec.runtime.records import CHANNELS
from c2rec.train.config import HoldOut
from c2rec.train.model import Histories
from c2rec.train.split import Purchases

Rows: TypeAlias = npt.NDArray[np.int64]

_ORDER, _HOLD_OUT, _NEGATIVES, _DROPPED = 0, 1, 2, 3
"""Last word of a generator's seed: what it draws."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Purchases to be predicted, flat."""

    rows: Tensor
    """int64 (targets,): row of the customer in the batch."""
    items: Tensor
    """int64 (targets,)."""
    channels: Tensor
    """int64 (targets,)."""
    both: Tensor
    """bool (targets,): whether the customer bought the item in both channels."""


class PurchaseIndex:
    """Training purchases by customer: where each one's begin, and which pairs span channels.

    Args:
        purchases: distinct (customer, item, channel), sorted by customer, then channel.
        customers: customers in the vocabulary.
        items: items in the vocabulary.
    """

    def __init__(self, purchases: Purchases, *, customers: int, items: int) -> None:
        self.purchases = purchases
        self.customers = customers
        self.items = items
        bought = np.bincount(purchases.customers, minlength=customers)
        self.starts: Rows = np.concatenate([[0], np.cumsum(bought)])
        pairs = purchases.customers.astype(np.int64) * items + purchases.items
        _, inverse, times = np.unique(pairs, return_inverse=True, return_counts=True)
        self.both: npt.NDArray[np.bool_] = times[inverse] > 1
        self.known: npt.NDArray[np.bool_] = np.bincount(purchases.items, minlength=items) > 0
        """bool (items,): whether anybody bought it."""

    def of(self, customers: Rows) -> tuple[Rows, Rows]:
        """Find the purchases of some customers.

        Returns:
            int64 (purchases,) rows of ``purchases``, customer after customer, and int64
            (purchases,) which of the given customers each belongs to.
        """
        counts = self.starts[customers + 1] - self.starts[customers]
        owners = np.repeat(np.arange(len(customers)), counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.starts[customers][owners] + offsets, owners

    def histories(self, customers: Rows, keep: npt.NDArray[np.bool_] | None = None) -> Histories:
        """Make the model's input for some customers.

        Args:
            customers: int64 (batch,).
            keep: bool (purchases,) over what ``of`` finds; None keeps all.
        """
        rows, owners = self.of(customers)
        if keep is not None:
            rows, owners = rows[keep], owners[keep]
        bags = owners * len(CHANNELS) + self.purchases.channels[rows]
        counts = np.bincount(bags, minlength=len(customers) * len(CHANNELS))
        return Histories(
            customers=torch.from_numpy(customers),
            items=torch.from_numpy(self.purchases.items[rows].astype(np.int64)),
            counts=torch.from_numpy(counts.reshape(-1, len(CHANNELS))),
        )

    def targets(self, rows: Rows, owners: Rows) -> Targets:
        """Make targets of purchase rows, each owned by a row of the batch."""
        return Targets(
            rows=torch.from_numpy(owners),
            items=torch.from_numpy(self.purchases.items[rows].astype(np.int64)),
            channels=torch.from_numpy(self.purchases.channels[rows].astype(np.int64)),
            both=torch.from_numpy(self.both[rows]),
        )


def epoch_batches(customers: int, *, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Shuffle the customers into batches; int64 (≤ batch_size,) each."""
    order = np.random.default_rng([seed, epoch, 0, _ORDER]).permutation(customers)
    return [order[start : start + batch_size] for start in range(0, customers, batch_size)]


def hold_out(
    index: PurchaseIndex, customers: Rows, share: HoldOut, *, seed: int, epoch: int, step: int
) -> tuple[Histories, Targets]:
    """Hide a random share of each customer's purchases and ask for them.

    A purchase is hidden in its channel alone: where the customer bought the item in the other
    channel too, that one may stay, as it would for a shopper who comes to the store for what
    they know from the web shop.
    """
    rng = np.random.default_rng([seed, epoch, step, _HOLD_OUT])
    rows, owners = index.of(customers)
    shares = rng.uniform(share.low, share.high, len(customers))
    hidden = rng.random(len(rows)) < shares[owners]
    return index.histories(customers, ~hidden), index.targets(rows[hidden], owners[hidden])


def whole(index: PurchaseIndex, customers: Rows) -> tuple[Histories, Targets]:
    """Ask for every purchase and hide none: for the table encoder, which sees no history."""
    return index.histories(customers), index.targets(*index.of(customers))


def draw_negatives(
    probabilities: npt.NDArray[np.float64], count: int, *, seed: int, epoch: int, step: int
) -> tuple[Tensor, Tensor]:
    """Draw negative items, with replacement, once for the whole batch.

    Args:
        probabilities: float64 (items,), cumulative, ending at 1.
        count: how many to draw.
        seed: of the run.
        epoch: epoch number.
        step: step within the epoch.

    Returns:
        int64 (count,) items and float32 (count,), log of the number of times that each was
        expected to be drawn.
    """
    rng = np.random.default_rng([seed, epoch, step, _NEGATIVES])
    items = np.searchsorted(probabilities, rng.random(count), side="right")
    items = np.minimum(items, len(probabilities) - 1)
    density = np.diff(probabilities, prepend=0.0)[items]
    return torch.from_numpy(items), torch.from_numpy(np.log(count * density)).float()


def drop_items(items: int, share: float, *, seed: int, epoch: int, step: int) -> Tensor:
    """Choose the items that are only their attributes for one step: bool (items,)."""
    rng = np.random.default_rng([seed, epoch, step, _DROPPED])
    return torch.from_numpy(rng.random(items, np.float32) < share)
