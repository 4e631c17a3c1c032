"""DeepAPF: factors shared between channels and factors of one, weighed by attention.

H. Yan, X. Chen, C. Gao, Y. Li and D. Jin, "DeepAPF: Deep Attentive Probabilistic Factorization for
Multi-site Video Recommendation", IJCAI 2019.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from c2rec.runtime.records import CHANNELS
from c2rec.train.baselines.pairwise import (
    Sold,
    Triples,
    TripleSampler,
    bpr_loss,
    fit,
    half_squared_norm,
    starting_weights,
)
from c2rec.train.batches import Rows
from c2rec.train.split import Purchases

_PAIRS = 16_384
"""Customers times items that are scored at a time, which bounds memory."""


class DeepAPF:
    """Inner product of a customer and an item, each mixed from a shared and a channel's vector.

    Of a customer's two vectors p, the weights given the item q are a softmax of
    ``h · ReLU(W (p ⊙ q) + b)``, so a taste of one channel counts for the items it is about.

    Adapted from the paper: items are in both channels too, so an item has two vectors as well,
    and an attention of its own, given the customer; each attention sees the mean of the other
    side's two vectors. A customer without a purchase in the channel speaks with the shared
    vector alone. An item has a bias per channel. The output layer, which weighs the factors of
    ``p ⊙ q``, is left out: it grows as the vectors shrink, which undoes their regularisation.
    BPR stands for the pointwise loss. Items without a purchase rank last.

    Args:
        purchases: distinct training purchases.
        customers: customers in the vocabulary.
        items: items in the vocabulary.
        factors: length of a vector, and of the attention's hidden layer.
        learning_rate: of Adam, in the first epoch.
        regularisation: of the squared length of the vectors of each triple.
        epochs: how often each purchase is seen.
        seed: of the weights at the start and the triples.

    Raises:
        RunError: a weight did not stay finite.
    """

    def __init__(
        self,
        purchases: Purchases,
        *,
        customers: int,
        items: int,
        factors: int,
        learning_rate: float,
        regularisation: float,
        epochs: int,
        seed: int,
    ) -> None:
        self._sold = Sold(purchases, items=items)
        self._regularisation = regularisation
        self._known = torch.zeros((len(CHANNELS), customers), dtype=torch.bool)
        self._known.numpy()[purchases.channels, purchases.customers] = True
        generator = torch.Generator().manual_seed(seed)
        kinds = 1 + len(CHANNELS)  # shared, then each channel's
        sold = len(self._sold)
        self._customers = starting_weights(kinds, customers, factors, generator=generator)
        self._items = starting_weights(kinds, sold, factors, generator=generator)
        self._biases = nn.Parameter(torch.zeros(len(CHANNELS), sold))
        self._of_customers = _Attention(factors, generator)
        self._of_items = _Attention(factors, generator)
        fit(
            [
                self._customers,
                self._items,
                self._biases,
                *self._of_customers.parameters(),
                *self._of_items.parameters(),
            ],
            self._loss,
            TripleSampler(self._sold.purchases, items=sold),
            learning_rate=learning_rate,
            epochs=epochs,
            seed=seed,
        )

    def _loss(self, triples: Triples) -> Tensor:
        customers = self._customer_vectors(triples.customers, triples.channels)  # (n, 2, d)
        learnt, scores = [*customers.unbind(1)], []
        for rows in (triples.bought, triples.other):
            items = self._item_vectors(rows, triples.channels)  # (n, 2, d)
            bias = self._bias(rows, triples.channels)  # (n,)
            scores.append(self._products(customers, items) + bias)
            learnt += items.unbind(1)
        loss = bpr_loss(*scores).mean()
        return loss + self._regularisation * half_squared_norm(*learnt)

    def _customer_vectors(self, customers: Tensor, channels: Tensor) -> Tensor:
        """Look up shared and channel's vectors of int64 (n,) customers: float32 (n, 2, d)."""
        # a vector of a channel in which nothing was bought was never trained
        kinds = torch.where(self._known[channels, customers], 1 + channels, 0)  # (n,)
        return _look_up(self._customers, customers, kinds)

    def _item_vectors(self, items: Tensor, channels: Tensor) -> Tensor:
        """Look up shared and channel's vectors of int64 (n,) items sold: float32 (n, 2, d)."""
        return _look_up(self._items, items, 1 + channels)

    def _bias(self, items: Tensor, channels: Tensor) -> Tensor:
        """Look up biases of int64 (n,) items sold: float32 (n,)."""
        return embedding(channels * len(self._sold) + items, self._biases.reshape(-1, 1))[:, 0]

    def _products(self, customers: Tensor, items: Tensor) -> Tensor:
        """Multiply customers by items: (…, 2, d) by (…, 2, d), broadcast, is (…)."""
        customer = self._of_customers.mix(customers, items.mean(-2, keepdim=True))  # (…, d)
        item = self._of_items.mix(items, customers.mean(-2, keepdim=True))  # (…, d)
        return (customer * item).sum(-1)

    @torch.no_grad()
    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item: float32 (batch, items)."""
        rows = torch.tensor(customers)
        vectors = self._customer_vectors(rows, torch.full_like(rows, channel))  # (b, 2, d)
        found = torch.empty((len(rows), len(self._sold)))
        for block in torch.split(torch.arange(found.shape[1]), max(_PAIRS // max(len(rows), 1), 1)):
            channels = torch.full_like(block, channel)
            items = self._item_vectors(block, channels)  # (m, 2, d)
            found[:, block] = self._products(vectors[:, None], items) + self._bias(block, channels)
        return self._sold.spread(found.numpy())


class _Attention(nn.Module):
    """Weighs two vectors of one side given a vector of the other."""

    def __init__(self, factors: int, generator: torch.Generator) -> None:
        super().__init__()
        scale = factors**-0.5
        self.matrix = nn.Parameter(torch.randn(factors, factors, generator=generator) * scale)
        self.bias = nn.Parameter(torch.zeros(factors))
        self.direction = nn.Parameter(torch.randn(factors, generator=generator) * scale)

    def mix(self, vectors: Tensor, given: Tensor) -> Tensor:
        """Average (…, 2, d) vectors given (…, 1, d), broadcast, with the weights: (…, d)."""
        hidden = torch.relu((vectors * given) @ self.matrix + self.bias)  # (…, 2, d)
        logits = (hidden * self.direction).sum(-1, keepdim=True)  # (…, 2, 1)
        first, second = vectors.unbind(-2)  # (…, d) each
        logit_first, logit_second = logits.unbind(-2)  # (…, 1) each
        share = (logit_first - logit_second).sigmoid()  # softmax of two, of the first
        return share * first + (1 - share) * second


def _look_up(table: Tensor, rows: Tensor, kinds: Tensor) -> Tensor:
    """Look up vectors of the first kind and of another: (3, rows, d) at (n,) is (n, 2, d)."""
    places = torch.stack([rows, kinds * table.shape[1] + rows], 1)  # (n, 2)
    return embedding(places, table.flatten(0, 1))
