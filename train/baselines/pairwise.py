"""Learning to rank from triples: a customer, an item that they bought and one that they didn't.

Bayesian personalised ranking (BPR; Rendle et al. 2009, arXiv 1205.2618) asks that the first item
score higher than the second. Every random choice of an epoch is drawn from a generator seeded by
(seed, epoch), and the starting weights from one seeded by the seed, so torch's own generator is
neither used nor changed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import Adam

from c2rec.train.split import Purchases

BATCH_SIZE = 2048
"""Triples per step."""


@dataclass(frozen=True, slots=True)
class Triples:
    """Comparisons to learn from; int64 (n,) each."""

    customers: Tensor
    bought: Tensor
    """Items bought in the channel."""
    other: Tensor
    """Items that the customer bought in neither channel."""
    channels: Tensor


class TripleSampler:
    """Pairs each purchase with an item that the customer did not buy, uniformly drawn.

    What is bought in the other channel alone is no evidence against the customer's liking it, so
    only items bought in neither are drawn. A customer who bought everything gives no triple.

    Args:
        purchases: distinct (customer, item, channel).
        items: items in the vocabulary.
    """

    def __init__(self, purchases: Purchases, *, items: int) -> None:
        pairs = np.unique(purchases.customers.astype(np.int64) * items + purchases.items)
        owners, bought = np.divmod(pairs, items)
        counts = np.bincount(owners, minlength=int(owners.max(initial=-1)) + 1)
        starts = np.cumsum(counts) - counts
        # of a customer's bought items, in order, the k-th has (its row − k) free items below it
        free_below = bought - (np.arange(len(pairs)) - starts[owners])
        useful = counts[purchases.customers] < items
        self._customers = purchases.customers[useful].astype(np.int64)
        self._bought = purchases.items[useful].astype(np.int64)
        self._channels = purchases.channels[useful].astype(np.int64)
        self._items = items
        self._counts = counts
        self._starts = starts
        self._free_below = owners * items + free_below  # ascending

    def epoch(self, *, seed: int, epoch: int, batch_size: int = BATCH_SIZE) -> Iterator[Triples]:
        """Go through all purchases once, in random order."""
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(self._customers))
        customers = self._customers[order]
        # the r-th free item is r plus the number of bought items that lie below it
        free = rng.integers(self._items - self._counts[customers])
        below = np.searchsorted(self._free_below, customers * self._items + free, side="right")
        other = free + below - self._starts[customers]
        columns = (customers, self._bought[order], other, self._channels[order])
        for start in range(0, len(order), batch_size):
            yield Triples(
                *(torch.from_numpy(column[start : start + batch_size]) for column in columns)
            )


def starting_weights(*shape: int, generator: torch.Generator) -> Tensor:
    """Draw embeddings to start from: float32 of the shape, normal, standard deviation 0.1."""
    return torch.randn(shape, generator=generator) * 0.1


def bpr_loss(bought: Tensor, other: Tensor) -> Tensor:
    """Negative log chance that the bought item ranks higher: float32 (n,), of (n,) scores each."""
    return softplus(other - bought)


def squared_norm(*embeddings: Tensor) -> Tensor:
    """Half the squared length of the (n, d) embeddings of a triple, averaged over triples."""
    return torch.stack([rows.square().sum(-1).mean() for rows in embeddings]).sum() / 2


def fit(
    parameters: Sequence[nn.Parameter],
    loss: Callable[[Triples], Tensor],
    sampler: TripleSampler,
    *,
    learning_rate: float,
    epochs: int,
    seed: int,
) -> None:
    """Minimise a loss over triples, by Adam.

    Args:
        parameters: what is learned, in place.
        loss: of a batch of triples, a scalar.
        sampler: gives the triples of each epoch.
        learning_rate: at the start; it falls linearly, to a tenth in the last epoch.
        epochs: times that every purchase is seen.
        seed: of the sampling.
    """
    optimizer = Adam(parameters, lr=learning_rate)
    for epoch in range(epochs):
        for triples in sampler.epoch(seed=seed, epoch=epoch):
            optimizer.zero_grad()
            loss(triples).backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimizer.step()
