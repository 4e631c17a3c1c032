"""LightGCN: embeddings smoothed over the graph of customers and items (arXiv 2002.02126)."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from c2rec.runtime.records import CHANNELS
from c2rec.train.baselines.interactions import interactions
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


class LightGCN:
    """He et al. 2020: matrix factorisation whose embeddings are averaged over neighbours.

    A customer or item of no purchase in the graph has no neighbours; such a customer would be
    ranked by their random start, and gets the mean of the other customers' embeddings instead,
    which ranks roughly by popularity.

    Args:
        purchases: distinct training purchases.
        customers: customers in the vocabulary.
        items: items in the vocabulary.
        channel: learn from this channel alone and answer for it alone; None merges both, and
            gives the same answer for either.
        factors: length of an embedding.
        layers: steps of propagation.
        learning_rate: of Adam.
        regularisation: λ of eq. 15, on the layer-0 embeddings of a triple.
        epochs: times that every purchase is seen.
        seed: of the starting weights and the sampling.
    """

    def __init__(
        self,
        purchases: Purchases,
        *,
        customers: int,
        items: int,
        channel: int | None,
        factors: int = 64,
        layers: int = 3,
        learning_rate: float = 0.005,
        regularisation: float = 1e-3,
        epochs: int = 60,
        seed: int,
    ) -> None:
        bought = interactions(purchases, customers=customers, items=items, channel=channel)
        self._channel = channel
        self._customers = customers
        self._layers = layers
        self._regularisation = regularisation
        self._graph = normalised_adjacency(bought)
        generator = torch.Generator().manual_seed(seed)
        self._start = nn.Parameter(
            starting_weights(customers + items, factors, generator=generator)
        )  # (c + i, d)
        fit(
            [self._start],
            self._loss,
            TripleSampler(_of_channel(purchases, channel), items=items),
            learning_rate=learning_rate,
            epochs=epochs,
            seed=seed,
        )
        with torch.no_grad():
            final = propagate(self._graph, self._start, layers=layers).numpy()  # (c + i, d)
        self._customer_vectors: npt.NDArray[np.float32] = final[:customers]
        self._item_vectors: npt.NDArray[np.float32] = final[customers:]
        known = np.diff(self._graph.indptr[: customers + 1]) > 0
        if known.any():
            self._customer_vectors[~known] = self._customer_vectors[known].mean(0)

    def _loss(self, triples: Triples) -> Tensor:
        first = self._customers  # the first item's row
        rows = (triples.customers, first + triples.bought, first + triples.other)
        final = propagate(self._graph, self._start, layers=self._layers)
        customer, bought, other = (embedding(row, final) for row in rows)
        loss = bpr_loss((customer * bought).sum(1), (customer * other).sum(1)).mean()
        return loss + self._regularisation * squared_norm(
            *(embedding(row, self._start) for row in rows)
        )

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item: float32 (batch, items).

        Raises:
            ValueError: it was trained on the other channel alone.
        """
        if self._channel not in (None, channel):
            raise ValueError(f"trained on {CHANNELS[self._channel]}, asked for {CHANNELS[channel]}")
        scores: npt.NDArray[np.float32] = self._customer_vectors[customers] @ self._item_vectors.T
        return scores


def _of_channel(purchases: Purchases, channel: int | None) -> Purchases:
    if channel is None:
        return purchases
    return purchases.where(purchases.channels == channel)


def normalised_adjacency(bought: sp.csr_matrix) -> sp.csr_matrix:
    """Build the graph of eq. 8: ``D^-½ A D^-½``, float32 (customers + items, the same)."""
    degrees = [np.maximum(np.asarray(bought.sum(axis)).ravel(), 1) for axis in (1, 0)]
    scaled = sp.diags_array(degrees[0] ** -0.5) @ bought @ sp.diags_array(degrees[1] ** -0.5)
    graph = sp.block_array([[None, scaled], [scaled.T, None]], format="csr", dtype=np.float32)
    return sp.csr_matrix(graph)


class _Product(torch.autograd.Function):
    """A sparse symmetric matrix times a dense one; scipy's is much faster than torch's here."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, graph: sp.csr_matrix) -> Tensor:
        ctx.graph = graph
        return torch.from_numpy(graph @ dense.detach().numpy())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.from_numpy(ctx.graph @ gradient.numpy()), None


def propagate(graph: sp.csr_matrix, start: Tensor, *, layers: int) -> Tensor:
    """Average the embeddings of all layers, eq. 4 with equal weights: float32 (n, d)."""
    layer = total = start
    for _ in range(layers):
        layer = _Product.apply(layer, graph)  # type: ignore[no-untyped-call]  # torch has no types here
        total = total + layer
    return total / (layers + 1)
