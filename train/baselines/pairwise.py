"""Learning to rank from triples: a customer, an item that they bought and one that they didn't.

Bayesian personalised ranking (BPR; Rendle et al., UAI 2009, 1205.2618) asks that the first item
score above the second. Every random choice comes from a generator of its own, seeded by the seed
or by (seed, epoch); torch's global one is neither used nor changed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import Adam

from c2rec.runtime.errors import RunError
from c2rec.train.split import Purchases

BATCH_SIZE = 2048
"""Triples per step."""
_LAST_RATE = 0.1
"""The learning rate of the last epoch, as a share of the first's."""


@dataclass(frozen=True, slots=True)
class Triples:
    """Comparisons to learn from; int64 (n,) each."""

    customers: Tensor
    bought: Tensor
    """Items bought in the channel."""
    other: Tensor
    """Items that the customer bought in no channel."""
    channels: Tensor
    """Rows of ``CHANNELS``."""


class TripleSampler:
    """Pairs each purchase with an item that the customer did not buy, all equally likely.

    What was bought in the other channel alone is no evidence against the customer's liking it,
    so it is not drawn. A customer who bought everything gives no triple.

    Args:
        purchases: distinct (customer, item, channel).
        items: how many there are to draw from.
    """

    def __init__(self, purchases: Purchases, *, items: int) -> None:
        pairs = np.unique(purchases.customers.astype(np.int64) * items + purchases.items)
        owners, bought = pairs // max(items, 1), pairs % max(items, 1)
        self._counts = np.bincount(owners)  # (≤ customers,)
        self._starts = np.cumsum(self._counts) - self._counts
        place = np.arange(len(pairs)) - self._starts[owners]
        self._free_below = owners * items + bought - place  # ascending
        self._purchases = purchases.where(self._counts[purchases.customers] < items)
        self._items = items

    def epoch(self, *, seed: int, epoch: int, batch_size: int = BATCH_SIZE) -> Iterator[Triples]:
        """Go through the purchases once, in random order."""
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(self._purchases.items))
        customers, bought, channels = (
            column[order].astype(np.int64)
            for column in (
                self._purchases.customers,
                self._purchases.items,
                self._purchases.channels,
            )
        )
        # the r-th item that is not bought has row r + the number of bought items below it
        free = rng.integers(self._items - self._counts[customers])
        below = np.searchsorted(self._free_below, customers * self._items + free, side="right")
        other = free + below - self._starts[customers]
        columns = [torch.from_numpy(each) for each in (customers, bought, other, channels)]
        for start in range(0, len(order), batch_size):
            yield Triples(*(column[start : start + batch_size] for column in columns))


class Sold:
    """The items with purchases, numbered anew: only they are learnt about.

    Were the rest of the catalogue drawn as items that are not bought, most triples would teach no
    more than that it is not bought.

    Args:
        purchases: distinct training purchases.
        items: items in the vocabulary.
    """

    def __init__(self, purchases: Purchases, *, items: int) -> None:
        self._items = items
        self._rows, numbers = np.unique(purchases.items, return_inverse=True)  # (sold,), (n,)
        self.purchases = replace(purchases, items=numbers.astype(np.int32))
        """With rows of the items sold."""

    def __len__(self) -> int:
        return len(self._rows)

    def spread(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Lay out scores of the items sold, (batch, sold), as (batch, items); the rest lies below.

        It ranks last, for nothing is known of it.
        """
        lowest = scores.min(axis=1, initial=0, keepdims=True)  # (b, 1)
        spread = np.repeat(lowest - 1, self._items, axis=1)  # (b, items)
        spread[:, self._rows] = scores
        return spread


def starting_weights(*shape: int, generator: torch.Generator) -> nn.Parameter:
    """Draw embeddings to begin with: float32, normal with standard deviation 0.1."""
    return nn.Parameter(torch.randn(shape, generator=generator) * 0.1)


def bpr_loss(bought: Tensor, other: Tensor) -> Tensor:
    """Minus the log of the chance that the bought item ranks higher; scores and it are (n,)."""
    return softplus(other - bought)


def half_squared_norm(*embeddings: Tensor) -> Tensor:
    """Half the squared length of (n, d) embeddings: summed over them, mean over n."""
    return torch.stack([rows.square().sum(1).mean() for rows in embeddings]).sum() / 2


def fit(
    parameters: Sequence[nn.Parameter],
    loss: Callable[[Triples], Tensor],
    sampler: TripleSampler,
    *,
    learning_rate: float,
    epochs: int,
    seed: int,
) -> None:
    """Minimise a loss over triples with Adam.

    Args:
        parameters: what is learnt, changed in place.
        loss: of a batch of triples: a scalar.
        sampler: gives each epoch's triples.
        learning_rate: of the first epoch. It falls linearly to a tenth of that in the last, so
            that the weights do not depend much on where training ends.
        epochs: how often each purchase is seen.
        seed: of the sampling.

    Raises:
        RunError: a weight is not finite.
    """
    optimizer = Adam(parameters, lr=learning_rate)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - (1 - _LAST_RATE) * epoch / max(epochs - 1, 1))
        for triples in sampler.epoch(seed=seed, epoch=epoch):
            optimizer.zero_grad()
            loss(triples).backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimizer.step()
    if not all(parameter.isfinite().all() for parameter in parameters):
        raise RunError("a weight did not stay finite; lower the learning rate")
