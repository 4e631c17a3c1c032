"""Collective matrix factorisation of the two channels (Singh and Gordon, KDD 2008)."""

import numpy.typing as npt
import numpy as np
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
        self._finish()

    def _finish(self):
        with torch.no_grad():
            self._customer_vectors = self._customer.numpy()
            self._item_vectors = (self._item + self._offset.view(len(CHANNELS), self._items, -1)).numpy()
            self._biases = self._bias.view(len(CHANNELS), self._items).numpy()

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
        loss = (bpr_loss(*scores) * self._channel_weight[triples.channels]).mean()
        return loss + self._regularisation * squared_norm(*learned)

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        return self._customer_vectors[customers] @ self._item_vectors[channel].T + self._biases[channel]
