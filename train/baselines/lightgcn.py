"""LightGCN: embeddings averaged over the graph of purchases (He et al., SIGIR 2020, 2002.02126)."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn.functional import embedding

from c2rec.train.baselines.interactions import interactions
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


class LightGCN:
    """Factorisation by BPR of embeddings that are propagated through the graph of purchases.

    Customers and items are the nodes, the purchases are the edges. A customer without an edge
    would be ranked by the random start of their embedding; they get the mean of the others'
    embeddings instead, which ranks about as popularity does. Items without one rank last.

    Args:
        purchases: distinct training purchases.
        customers: customers in the vocabulary.
        items: items in the vocabulary.
        channel: learn from and answer for this channel alone; None merges both, and gives the
            same answer for either.
        factors: length of an embedding.
        layers: steps of propagation.
        learning_rate: of Adam, in the first epoch.
        regularisation: λ of equation 15, on the layer-0 embeddings of each triple.
        epochs: how often each purchase is seen.
        seed: of the embeddings at the start and the triples.

    Raises:
        RunError: a weight did not stay finite.
    """

    def __init__(
        self,
        purchases: Purchases,
        *,
        customers: int,
        items: int,
        channel: int | None,
        factors: int,
        layers: int,
        learning_rate: float,
        regularisation: float,
        epochs: int,
        seed: int,
    ) -> None:
        self._channel = channel
        if channel is not None:
            purchases = purchases.where(purchases.channels == channel)
        self._sold = Sold(purchases, items=items)
        bought = interactions(
            self._sold.purchases, customers=customers, items=len(self._sold), channel=None
        )
        self._graph = normalised_graph(bought)
        self._layers = layers
        self._regularisation = regularisation
        self._customers = customers
        generator = torch.Generator().manual_seed(seed)
        nodes = customers + len(self._sold)
        self._start = starting_weights(nodes, factors, generator=generator)  # (c + sold, d)
        fit(
            [self._start],
            self._loss,
            TripleSampler(self._sold.purchases, items=len(self._sold)),
            learning_rate=learning_rate,
            epochs=epochs,
            seed=seed,
        )
        self._vectors = self._final_vectors()

    def _final_vectors(self) -> npt.NDArray[np.float32]:
        """Propagate what was learnt: float32 (customers + sold, d)."""
        with torch.no_grad():
            vectors: npt.NDArray[np.float32] = propagate(
                self._graph, self._start, layers=self._layers
            ).numpy()
        known = np.diff(self._graph.indptr[: self._customers + 1]) > 0
        if known.any():
            of_customers = vectors[: self._customers]
            of_customers[~known] = of_customers[known].mean(0)
        return vectors

    def _loss(self, triples: Triples) -> Tensor:
        final = propagate(self._graph, self._start, layers=self._layers)
        items = (self._customers + triples.bought, self._customers + triples.other)
        rows = (triples.customers, *items)
        # not by indexing, whose gradient adds up in an order that varies between threads
        customer, bought, other = (embedding(row, final) for row in rows)  # (n, d) each
        loss = bpr_loss((customer * bought).sum(1), (customer * other).sum(1)).mean()
        starts = (embedding(row, self._start) for row in rows)
        return loss + self._regularisation * half_squared_norm(*starts)

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item: float32 (batch, items).

        Raises:
            ValueError: ``channel`` is not the one learnt from.
        """
        if self._channel not in (None, channel):
            raise ValueError(f"learnt from channel {self._channel} alone; asked for {channel}")
        return self._sold.spread(self._vectors[customers] @ self._vectors[self._customers :].T)


def normalised_graph(bought: sp.csr_matrix) -> sp.csr_matrix:
    """Make the graph's matrix D^-½ A D^-½, of equation 8.

    Args:
        bought: float32 (customers, items), 1 where the customer bought the item.

    Returns:
        float32 (customers + items, customers + items), symmetric: for each edge
        1 / √(degree of the customer · degree of the item).
    """
    by_customer, by_item = (
        sp.diags_array(np.maximum(bought.getnnz(axis=axis), 1) ** -0.5) for axis in (1, 0)
    )
    weights = by_customer @ bought @ by_item  # (customers, items)
    return sp.csr_matrix(sp.block_array([[None, weights], [weights.T, None]]), dtype=np.float32)


def propagate(graph: sp.csr_matrix, start: Tensor, *, layers: int) -> Tensor:
    """Average the layers, each of which sums its neighbours in the one before: equations 3 and 4.

    Args:
        graph: float32 (nodes, nodes), as of ``normalised_graph``.
        start: float32 (nodes, d), layer 0.
        layers: how many besides layer 0, which counts as much as each of them.

    Returns:
        float32 (nodes, d).
    """
    layer = total = start
    for _ in range(layers):
        layer = neighbour_sums(graph, layer)
        total = total + layer
    return total / (layers + 1)


def neighbour_sums(graph: sp.csr_matrix, vectors: Tensor) -> Tensor:
    """Multiply a symmetric sparse matrix, (nodes, nodes), by float32 (nodes, d)."""
    sums: Tensor = _SymmetricProduct.apply(graph, vectors)  # type: ignore[no-untyped-call]
    return sums


class _SymmetricProduct(torch.autograd.Function):
    """Through scipy: torch's own sparse product takes three times as long, most of it backward."""

    @staticmethod
    def forward(ctx: Any, graph: sp.csr_matrix, vectors: Tensor) -> Tensor:
        ctx.graph = graph
        return torch.from_numpy(graph @ vectors.detach().numpy())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, torch.from_numpy(ctx.graph @ gradient.numpy())
