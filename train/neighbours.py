"""The neighbour term: what each item that a customer bought says about every other item.

For item i bought and item v to be ranked in channel c::

    B_{c,iv} = β_c E_iv + γ_c A_{c,iv} + ρ_c [i = v]

E is EASE on both channels merged (Steck, 2019, arXiv 1905.03375), P = (XᵀX + λ I)⁻¹ and
E = I − P diag(1/P_ii). A is what customers who bought i bought in channel c,
A_{c,iv} = Σ_u x_ui x_{c,uv} / √n_u for i ≠ v: summed over a history it is the vote, in the channel
asked for, of all customers, each as loud as the cosine similarity of what both bought. The last
part speaks for an item that was bought in the other channel; one bought in this channel is left
out of a list anyway. A low-rank model misses such pairs, and they miss what it knows.

Only the largest entries of a row are kept, so that a kiosk gathers a few rows and adds them up.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from c2rec.runtime.records import CHANNELS
from c2rec.train.baselines.ease import item_weights
from c2rec.train.baselines.interactions import interactions
from c2rec.train.batches import PurchaseIndex, Rows
from c2rec.train.model import Neighbours

Floats = npt.NDArray[np.float32]

LARGEST_REGRESSION = 8_000
"""EASE runs over at most so many items, those most bought: the inverse takes 8 n² bytes."""
_BLOCK = 20_000_000
"""Floats in memory at once while rows are made."""


@dataclass(frozen=True, slots=True)
class Regression:
    """EASE over some of the items."""

    items: Rows
    """int64 (m,), ascending rows of items."""
    weights: Floats
    """float32 (m, m), E; its diagonal is 0."""


def regress(
    bought: sp.csr_matrix, *, regularisation: float, most: int = LARGEST_REGRESSION
) -> Regression:
    """Solve EASE for the items that are bought most.

    Args:
        bought: 0 and 1, (customers, items).
        regularisation: λ, above 0.
        most: over how many items at most.
    """
    popularity = np.asarray(bought.sum(0)).ravel()
    order = np.argsort(-popularity, kind="stable")[:most]
    items = np.sort(order[popularity[order] > 0]).astype(np.int64)
    columns = bought[:, items]
    gram = (columns.T @ columns).toarray().astype(np.float64)
    return Regression(items, item_weights(gram, regularisation))


class NeighbourTerms:
    """The parts of the neighbour term, from training purchases.

    Args:
        index: training purchases.
        regularisation: λ of EASE.
    """

    def __init__(self, index: PurchaseIndex, *, regularisation: float) -> None:
        shape = {"customers": index.customers, "items": index.items}
        self.items, self.known = index.items, index.known
        self.lengths = np.diff(index.starts)
        """int64 (customers,): purchases, of which one item may have two."""
        self.bought = interactions(index.purchases, **shape, channel=None)
        self._in_channel = [
            interactions(index.purchases, **shape, channel=channel)
            for channel in range(len(CHANNELS))
        ]
        self._purchases = self._in_channel[0] + self._in_channel[1]  # 2 where bought in both
        per_customer = np.maximum(np.asarray(self.bought.sum(1)).ravel(), 1)
        self._votes: sp.csr_matrix = sp.diags_array(1 / np.sqrt(per_customer)).tocsr() @ self.bought
        self._votes = sp.csr_matrix(self._votes, dtype=np.float32)
        self.regression = regress(self.bought, regularisation=regularisation)

    def regressed(self, customers: Rows) -> Floats:
        """Mean over a customer's purchases of the rows of E: float32 (n, items)."""
        scores = np.zeros((len(customers), self.items), np.float32)
        history = self._purchases[customers][:, self.regression.items]
        scores[:, self.regression.items] = history @ self.regression.weights
        return scores / self._divisors(customers)

    def alike(self, customers: Rows, channel: int) -> Floats:
        """Mean over a customer's purchases of the rows of A: float32 (n, items)."""
        scores = np.empty((len(customers), self.items), np.float32)
        diagonal = self._diagonal(channel)[None]
        step = max(1, _BLOCK // self.bought.shape[0])
        for first in range(0, len(customers), step):
            history = self._purchases[customers[first : first + step]]
            alike = history @ self._votes.T  # (≤ step, all customers)
            votes = alike @ self._in_channel[channel] - history.multiply(diagonal)
            scores[first : first + step] = votes.toarray()
        return scores / self._divisors(customers)

    def both(self, customers: Rows) -> Floats:
        """Mean over a customer's purchases of the rows of the identity: float32 (n, items)."""
        identity: Floats = self._purchases[customers].toarray().astype(np.float32)
        return identity / self._divisors(customers)

    def rows(
        self, *, weights: npt.NDArray[np.float64], neighbours: int
    ) -> tuple[Neighbours, npt.NDArray[np.float64]]:
        """Add the parts up and keep the largest entries of each row.

        What the rows have in common, their mean over all purchases, is the same for every
        customer: it is taken out of them first, and belongs into the item bias. A row that says
        nothing, of an item that training has no purchase of, keeps saying nothing; so does, for
        EASE's part, one of an item outside the regression.

        Args:
            weights: float64 (2, 3): β, γ and ρ per channel.
            neighbours: entries to keep of each row, by the greater of the two channels.

        Returns:
            The rows, and what was taken out of them: float64 (2, items).
        """
        regressed, others = self._mean_row(weights)  # (2, items) each
        kept = min(neighbours, self.items)
        found = np.zeros((self.items, kept), np.int64)
        values = np.zeros((self.items, len(CHANNELS), kept), np.float32)
        place = np.full(self.items, -1)
        place[self.regression.items] = np.arange(len(self.regression.items))
        step = max(1, _BLOCK // self.items)
        for first in range(0, self.items, step):
            rows = np.arange(first, min(first + step, self.items))
            block = self._block(rows, place[rows], weights)  # (2, rows, items)
            for says, common in ((place[rows] >= 0, regressed), (self.known[rows], others)):
                block[:, says] -= common[:, None].astype(np.float32)
            loudest = np.abs(block).max(0)  # (rows, items)
            columns = _largest(loudest, kept)  # (rows, kept)
            found[rows] = columns
            values[rows] = np.take_along_axis(block, columns[None], 2).transpose(1, 0, 2)
        # as a release stores them
        as_stored = torch.from_numpy(values).half().float()
        return Neighbours(torch.from_numpy(found), as_stored), regressed + others

    def _mean_row(
        self, weights: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Mean over all purchases of the rows of EASE's part and of the others: (2, items) each."""
        bought = np.asarray(self._purchases.sum(0)).ravel().astype(np.float64)  # (items,)
        share = bought / max(bought.sum(), 1)
        inner = self.regression.items
        regressed, others = np.zeros((2, len(CHANNELS), self.items))
        regressed[:, inner] = weights[:, [0]] * (share[inner] @ self.regression.weights)
        voters = self._votes @ share  # (customers,)
        for channel, (_, gamma, rho) in enumerate(weights):
            alike = self._in_channel[channel].T @ voters - share * self._diagonal(channel)
            others[channel] = gamma * alike + rho * share
        return regressed, others

    def _block(
        self, rows: Rows, places: Rows, weights: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        known = places >= 0
        regressed = np.zeros((len(rows), self.items), np.float32)
        inner = np.zeros((known.sum(), self.items), np.float32)
        inner[:, self.regression.items] = self.regression.weights[places[known]]
        regressed[known] = inner
        block = np.zeros((len(CHANNELS), len(rows), self.items), np.float32)
        for channel, (beta, gamma, rho) in enumerate(weights):
            alike = (self._votes[:, rows].T @ self._in_channel[channel]).toarray()
            own = (np.arange(len(rows)), rows)
            alike[own] = 0
            block[channel] = beta * regressed + gamma * alike
            block[channel][own] = rho
        return block

    def _diagonal(self, channel: int) -> npt.NDArray[np.float32]:
        products = self._votes.multiply(self._in_channel[channel])
        diagonal: npt.NDArray[np.float32] = np.asarray(products.sum(0)).ravel().astype(np.float32)
        return diagonal

    def _divisors(self, customers: Rows) -> Floats:
        divisors: Floats = np.maximum(self.lengths[customers], 1).astype(np.float32)[:, None]
        return divisors


def _largest(values: Floats, k: int) -> Rows:
    """Find the columns of the k largest values of each row, of equal ones the first: (rows, k).

    Args:
        values: float32 (rows, columns).
        k: from 1 to the number of columns.
    """
    least = np.partition(values, -k, axis=1)[:, [-k]]  # (rows, 1)
    above, equal = values > least, values == least
    room = k - above.sum(1, keepdims=True)  # (rows, 1)
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    columns: Rows = np.nonzero(chosen)[1].reshape(len(values), k)
    return columns
