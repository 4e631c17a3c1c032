"""BiTGCF: a graph of purchases per channel, and customers who carry over what each one learns.

M. Liu, J. Li, G. Li and P. Pan, "Cross Domain Recommendation via Bi-directional Transfer Graph
Collaborative Filtering Networks", CIKM 2020.
"""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn.functional import embedding, normalize

from c2rec.runtime.records import CHANNELS
from c2rec.train.baselines.interactions import interactions
from c2rec.train.baselines.lightgcn import neighbour_sums, normalised_graph
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


class BiTGCF:
    """Graph convolution in each channel, with a transfer between them after every layer.

    A layer adds to a node's vector x the sum s of its neighbours and its product with them,
    ``x + s + x ⊙ s``. Then a node of both channels takes up what it is in the other: half of its
    new vector mixes the two by the node's degrees, the same mixture in either channel (what is
    common), and half keeps λ of its own and takes 1 − λ of the other (what is specific). A score
    is the inner product of all layers laid side by side, those after the first at unit length.

    Adapted from the paper: items are in both channels too, and are transferred as customers are.
    A node of one channel keeps its vector there, as in the paper, and, since customers are
    ranked in the other channel as well, is the same in the other. λ is the same in both
    channels. BPR stands for cross entropy, as in the other baselines here, and there is no
    dropout. Items without a purchase rank last.

    Args:
        purchases: distinct training purchases.
        customers: customers in the vocabulary.
        items: items in the vocabulary.
        factors: length of a vector in one layer.
        layers: steps of convolution.
        transfer: the share of the other channel in what is specific, 1 − λ: 0 to 1.
        learning_rate: of Adam, in the first epoch.
        regularisation: of the squared length of the layer-0 vectors of each triple.
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
        layers: int,
        transfer: float,
        learning_rate: float,
        regularisation: float,
        epochs: int,
        seed: int,
    ) -> None:
        self._sold = Sold(purchases, items=items)
        graphs = [
            normalised_graph(
                interactions(
                    self._sold.purchases,
                    customers=customers,
                    items=len(self._sold),
                    channel=channel,
                )
            )
            for channel in range(len(CHANNELS))
        ]
        self._graph = sp.csr_matrix(sp.block_diag(graphs))  # one product then does for both
        degrees = np.stack([np.diff(graph.indptr) for graph in graphs])  # (2, nodes)
        self._kept = kept_shares(torch.from_numpy(degrees), transfer=transfer)
        self._layers = layers
        self._regularisation = regularisation
        self._customers = customers
        self._nodes = customers + len(self._sold)
        generator = torch.Generator().manual_seed(seed)
        self._start = starting_weights(
            len(CHANNELS), self._nodes, factors, generator=generator
        )  # (2, nodes, d)
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
        """Lay the layers side by side: float32 (2, nodes, d · (1 + layers))."""
        with torch.no_grad():
            first, *later = convolve(self._graph, self._kept, self._start, layers=self._layers)
            vectors: npt.NDArray[np.float32] = torch.cat(
                [first, *(normalize(layer, dim=2) for layer in later)], 2
            ).numpy()
        return vectors

    def _loss(self, triples: Triples) -> Tensor:
        first, *later = convolve(self._graph, self._kept, self._start, layers=self._layers)
        nodes = torch.stack(
            [
                triples.customers,
                self._customers + triples.bought,
                self._customers + triples.other,
            ]
        )  # (3, n)
        places = triples.channels * self._nodes + nodes  # (3, n), in a table of both channels
        of_first = embedding(places, first.flatten(0, 1))  # (3, n, d)
        # normalised after the look-up: a batch has fewer rows than the graph has nodes
        of_later = [normalize(embedding(places, each.flatten(0, 1)), dim=2) for each in later]
        customer, bought, other = torch.cat([of_first, *of_later], 2)  # (n, d · (1 + layers)) each
        loss = bpr_loss((customer * bought).sum(1), (customer * other).sum(1)).mean()
        return loss + self._regularisation * half_squared_norm(*of_first)

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item: float32 (batch, items)."""
        vectors = self._vectors[channel]  # (nodes, d · (1 + layers))
        return self._sold.spread(vectors[customers] @ vectors[self._customers :].T)


def kept_shares(degrees: Tensor, *, transfer: float) -> Tensor:
    """Say how much of its own vector a node keeps in a transfer; the rest is the other channel's.

    Args:
        degrees: int64 (2, nodes), in the graph of each channel.
        transfer: 1 − λ.

    Returns:
        float32 (2, nodes, 1). Where the node is of both channels, the mean of λ and of the
        channel's share in the node's degree. Where it is of one: 1 in this one, 0 in the other.
    """
    own, other = degrees.float(), degrees.flip(0).float()
    mixed = ((1 - transfer) + own / (own + other).clamp(min=1)) / 2  # (2, nodes)
    alone = ((own > 0) | (other == 0)).float()  # a node of neither channel stays as it is
    return torch.where((own > 0) & (other > 0), mixed, alone)[:, :, None]  # (2, nodes, 1)


def convolve(graph: sp.csr_matrix, kept: Tensor, start: Tensor, *, layers: int) -> list[Tensor]:
    """Compute the layers of both channels.

    Args:
        graph: float32 (2 · nodes, 2 · nodes): the channels' normalised graphs, unconnected.
        kept: float32 (2, nodes, 1), as of ``kept_shares``.
        start: float32 (2, nodes, d). What a node of one channel has in the other is not used.
        layers: how many besides layer 0.

    Returns:
        Layer 0 and the others, float32 (2, nodes, d) each.
    """
    layer = torch.where(kept > 0, start, start.flip(0))  # (2, nodes, d)
    found = [layer]
    for _ in range(layers):
        sums = neighbour_sums(graph, layer.flatten(0, 1)).view_as(layer)  # (2, nodes, d)
        layer = torch.addcmul(layer + sums, layer, sums)
        layer = torch.lerp(layer.flip(0), layer, kept)
        found.append(layer)
    return found
