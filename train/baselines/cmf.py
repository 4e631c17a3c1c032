"""Collective matrix factorisation of the two channels (Singh and Gordon, KDD 2008)."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from c2rec.runtime.records import CHANNELS
from c2rec.train.baselines.pairwise import (
    Triples,
    TripleSampler,
    bpr_loss,
    fit,
    squared_norm,
    starting_weights,
)
from c2rec.train.batches import Rows
from c2rec.train.split import Purchases


class CMF:
    """Two matrices of purchases that share their customers and, adapted to our case, their items.

    In the paper each relation has factors of its own for what it doesn't share. Items are in both
    channels here, so an item's factors are shared as well, plus an offset and a bias per channel.

    Args:
        purchases: distinct training purchases.
        customers: customers in the vocabulary.
        items: items in the vocabulary.
        factors: length of an embedding.
        learning_rate: of Adam.
        regularisation: of all that a triple uses.
        offline_weight: weight of the offline relation's loss; the online one's is 1.
        epochs: times that every purchase is seen.
        seed: of the starting weights and the sampling.
    """

    def __init__(
        self,
        purchases: Purchases,
        *,
        customers: int,
        items: int,
        factors: int = 64,
        learning_rate: float = 0.005,
        regularisation: float = 1e-2,
        offline_weight: float = 1.0,
        epochs: int = 60,
        seed: int,
    ) -> None:
        self._items = items
        self._regularisation = regularisation
        self._channel_weight = torch.tensor([offline_weight, 1.0])
        generator = torch.Generator().manual_seed(seed)
        self._customer = nn.Parameter(starting_weights(customers, factors, generator=generator))
        self._item = nn.Parameter(starting_weights(items, factors, generator=generator))
        self._offset = nn.Parameter(torch.zeros(len(CHANNELS) * items, factors))
        self._bias = nn.Parameter(torch.zeros(len(CHANNELS) * items, 1))
        fit(
            [self._customer, self._item, self._offset, self._bias],
            self._loss,
            TripleSampler(purchases, items=items),
            learning_rate=learning_rate,
            epochs=epochs,
            seed=seed,
        )
        with torch.no_grad():
            offsets = self._offset.view(len(CHANNELS), items, factors)
            self._customer_vectors: npt.NDArray[np.float32] = self._customer.numpy()
            self._item_vectors: npt.NDArray[np.float32] = (self._item + offsets).numpy()
            self._biases: npt.NDArray[np.float32] = self._bias.view(len(CHANNELS), items).numpy()

    def _loss(self, triples: Triples) -> Tensor:
        customer = embedding(triples.customers, self._customer)  # (n, d)
        scores = []
        learned = [customer]
        for items in (triples.bought, triples.other):
            place = triples.channels * self._items + items
            shared, offset = embedding(items, self._item), embedding(place, self._offset)
            bias = embedding(place, self._bias)
            scores.append((customer * (shared + offset)).sum(1) + bias[:, 0])
            learned += [shared, offset]
        loss = (bpr_loss(scores[0], scores[1]) * self._channel_weight[triples.channels]).mean()
        return loss + self._regularisation * squared_norm(*learned)

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item: float32 (batch, items)."""
        products = self._customer_vectors[customers] @ self._item_vectors[channel].T
        scores: npt.NDArray[np.float32] = products + self._biases[channel]
        return scores
