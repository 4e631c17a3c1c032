"""Collective matrix factorisation of the two channels (Singh and Gordon, KDD 2008)."""

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


class CMF:
    """Two matrices of customers and items, one per channel, factorised with shared factors.

    The paper factorises several relations at once, and an entity has the same factors in all of
    them. Adapted: as items are in both channels too, an item has shared factors, and for each
    channel an offset to them and a bias, so a customer's score is ``p · (q + offset) + bias``;
    and BPR stands for the loss, since purchases are no ratings. Items without a purchase rank
    last.

    Args:
        purchases: distinct training purchases.
        customers: customers in the vocabulary.
        items: items in the vocabulary.
        factors: length of a vector.
        learning_rate: of Adam, in the first epoch.
        regularisation: λ of the squared length of the vectors of each triple, not of the biases.
        offline_weight: of an offline purchase in the loss, that of an online one being 1: the
            paper's α, which weighs the relations.
        epochs: how often each purchase is seen.
        seed: of the vectors at the start and the triples.

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
        offline_weight: float,
        epochs: int,
        seed: int,
    ) -> None:
        self._sold = Sold(purchases, items=items)
        self._regularisation = regularisation
        self._channel_weights = torch.tensor([offline_weight, 1.0])
        generator = torch.Generator().manual_seed(seed)
        sold = len(self._sold)
        self._customers = starting_weights(customers, factors, generator=generator)  # (c, d)
        self._items = starting_weights(sold, factors, generator=generator)  # (sold, d)
        self._offsets = nn.Parameter(torch.zeros(len(CHANNELS), sold, factors))
        self._biases = nn.Parameter(torch.zeros(len(CHANNELS), sold))
        fit(
            [self._customers, self._items, self._offsets, self._biases],
            self._loss,
            TripleSampler(self._sold.purchases, items=sold),
            learning_rate=learning_rate,
            epochs=epochs,
            seed=seed,
        )

    def _loss(self, triples: Triples) -> Tensor:
        customer = embedding(triples.customers, self._customers)  # (n, d)
        learnt, scores = [customer], []
        for items in (triples.bought, triples.other):
            places = triples.channels * len(self._sold) + items  # (n,), in a table of both channels
            item = embedding(items, self._items)  # (n, d)
            offset = embedding(places, self._offsets.flatten(0, 1))  # (n, d)
            bias = embedding(places, self._biases.reshape(-1, 1))[:, 0]  # (n,)
            scores.append((customer * (item + offset)).sum(1) + bias)
            learnt += [item, offset]
        losses = bpr_loss(*scores) * self._channel_weights[triples.channels]  # (n,)
        return losses.mean() + self._regularisation * half_squared_norm(*learnt)

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item: float32 (batch, items)."""
        with torch.no_grad():
            vectors = (self._items + self._offsets[channel]).numpy()  # (sold, d)
            biases = self._biases[channel].numpy()  # (sold,)
            return self._sold.spread(self._customers.numpy()[customers] @ vectors.T + biases)
