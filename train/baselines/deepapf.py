"""DeepAPF: embeddings shared between channels and embeddings of one, mixed by attention."""

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

ITEM_BLOCK = 512
BIAS = False
WL = True

class _Attention(nn.Module):
    def __init__(self, factors: int, generator: torch.Generator) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(factors, factors, generator=generator) * factors ** -0.5)
        self.bias = nn.Parameter(torch.zeros(factors))
        self.out = nn.Parameter(torch.randn(factors, generator=generator) * factors ** -0.5)


class DeepAPF:
    def __init__(
        self,
        purchases: Purchases,
        *,
        customers: int,
        items: int,
        factors: int = 64,
        learning_rate: float = 0.005,
        regularisation: float = 1e-3,
        epochs: int = 60,
        seed: int,
    ) -> None:
        self._customers, self._items = customers, items
        self._regularisation = regularisation
        known = np.zeros((len(CHANNELS), customers), bool)
        known[purchases.channels, purchases.customers] = True
        self._known = torch.from_numpy(known)
        g = torch.Generator().manual_seed(seed)
        self._customer = nn.Parameter(starting_weights(3 * customers, factors, generator=g))
        self._item = nn.Parameter(starting_weights(3 * items, factors, generator=g))
        self._ca = _Attention(factors, g)
        self._ia = _Attention(factors, g)
        self._w = nn.Parameter(torch.ones(factors))
        self._bias = nn.Parameter(torch.zeros(2 * items, 1))
        fit(
            [self._customer, self._item, *self._ca.parameters(), *self._ia.parameters(), *[self._w] * WL] + [self._bias] * BIAS,
            self._loss,
            TripleSampler(purchases, items=items),
            learning_rate=learning_rate,
            epochs=epochs,
            seed=seed,
        )

    def _finish(self):
        pass

    def _customer_parts(self, customers, channels):
        shared = embedding(customers, self._customer)
        own = embedding((1 + channels) * self._customers + customers, self._customer)
        own = torch.where(self._known[channels, customers][:, None], own, shared)
        return torch.stack((shared, own), 1)

    def _item_parts(self, items, channels):
        return embedding(torch.stack((items, (1 + channels) * self._items + items), 1), self._item)

    def _loss(self, triples: Triples) -> Tensor:
        P = self._customer_parts(triples.customers, triples.channels)
        scores, reg = [], [*P.unbind(1)]
        for items in (triples.bought, triples.other):
            Q = self._item_parts(items, triples.channels)
            reg += Q.unbind(1)
            u = self.mix(self._ca, P, Q)
            i = self.mix(self._ia, Q, P)
            s = (u * i) @ self._w
            if BIAS:
                s = s + embedding(triples.channels * self._items + items, self._bias)[:, 0]
            scores.append(s)
        return bpr_loss(*scores).mean() + self._regularisation * squared_norm(*reg)

    def mix(self, att, parts, others):
        hidden = torch.relu((parts * others.mean(1, keepdim=True)) @ att.matrix.T + att.bias)
        alpha = (hidden @ att.out).softmax(1)
        return (alpha[..., None] * parts).sum(1)

    @torch.no_grad()
    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        c = torch.from_numpy(customers)
        P = self._customer_parts(c, torch.full_like(c, channel))
        blocks = []
        for block in torch.arange(self._items).split(ITEM_BLOCK):
            Q = self._item_parts(block, torch.full_like(block, channel))
            a = self.shares(self._ca, P, Q)  # (2,b,i)
            b = self.shares(self._ia, Q, P).mT
            s = sum(a[x] * b[y] * ((P[:, x] * self._w) @ Q[:, y].T) for x in (0, 1) for y in (0, 1))
            if BIAS:
                s = s + self._bias[channel * self._items + block, 0]
            blocks.append(s)
        return torch.cat(blocks, 1).numpy()

    def shares(self, att, parts, others):
        o = others.mean(1)
        logits = []
        for x in (0, 1):
            w = parts[:, x, None] * att.matrix  # (n, h, d)
            hidden = torch.relu(w @ o.T + att.bias[:, None])  # (n,h,m)
            logits.append(torch.einsum("nhm,h->nm", hidden, att.out))
        return torch.stack(logits).softmax(0)
