"""x."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, normalize

from c2rec.runtime.records import CHANNELS
from c2rec.train.baselines.interactions import interactions
from c2rec.train.baselines.lightgcn import neighbours, normalised_adjacency
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
NORM = True
CONCAT = True


class BiTGCF:
    def __init__(
        self,
        purchases: Purchases,
        *,
        customers: int,
        items: int,
        factors: int = 64,
        layers: int = 3,
        transfer: float = 0.2,
        learning_rate: float = 0.005,
        regularisation: float = 1e-3,
        epochs: int = 60,
        seed: int,
    ) -> None:
        bought = [
            interactions(purchases, customers=customers, items=items, channel=channel)
            for channel in range(len(CHANNELS))
        ]
        self._customers = customers
        self._layers = layers
        self._regularisation = regularisation
        self._graphs = [normalised_adjacency(matrix) for matrix in bought]
        import scipy.sparse as sp
        self._graph = sp.block_diag(self._graphs, format="csr")
        degrees = np.stack([np.diff(graph.indptr) for graph in self._graphs])  # (2, c + i)
        self._own = own_weights(torch.from_numpy(degrees).float(), transfer=transfer)
        generator = torch.Generator().manual_seed(seed)
        nodes = customers + items
        self._start = nn.Parameter(
            starting_weights(len(CHANNELS), nodes, factors, generator=generator)
        )
        fit(
            [self._start],
            self._loss,
            TripleSampler(purchases, items=items),
            learning_rate=learning_rate,
            epochs=epochs,
            seed=seed,
        )
        self._finish()

    def _finish(self):
        with torch.no_grad():
            outs = self._forward()
            final = torch.cat([outs[0]] + [normalize(x, dim=-1) for x in outs[1:]], -1).unflatten(0, (2, -1)).numpy()
        self._customer_vectors, self._item_vectors = final[:, : self._customers], final[:, self._customers :]

    def _forward(self):
        x = torch.where(self._own > 0, self._start, self._start.flip(0))
        outs = [x.flatten(0, 1)]
        for _ in range(self._layers):
            side = neighbours(self._graph, x.flatten(0, 1)).view_as(x)
            x = torch.addcmul(x + side, x, side)
            x = torch.lerp(x.flip(0), x, self._own)
            outs.append(x.flatten(0, 1))
        return outs

    def _loss(self, triples: Triples) -> Tensor:
        layers = self._forward()
        n = self._start.shape[1]
        base = triples.channels * n
        rows = torch.cat((base + triples.customers, base + self._customers + triples.bought, base + self._customers + triples.other))
        sc = 0
        for k, x in enumerate(layers):
            got = embedding(rows, x)
            if k == 0:
                reg = squared_norm(*got.chunk(3))
            else:
                got = normalize(got, dim=-1)
            c, b, o = got.chunk(3)
            sc = sc + (c * (b - o)).sum(1)
        return bpr_loss(sc, torch.zeros(())).mean() + self._regularisation * reg

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        return self._customer_vectors[channel, customers] @ self._item_vectors[channel].T


def own_weights(degrees: Tensor, *, transfer: float) -> Tensor:
    share = degrees / degrees.sum(0).clamp(min=1)
    mixed = (share + 1 - transfer) / 2
    one = (degrees == 0).any(0)
    own = torch.where(one, (degrees > 0).float(), mixed)
    own = torch.where((degrees == 0).all(0), 1.0, own)
    return own[..., None]
