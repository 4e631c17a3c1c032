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

from collections.abc import Callable
from copy import copy
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
        votes = sp.diags_array(1 / np.sqrt(per_customer)).tocsr() @ self.bought
        # by item, once: scipy would turn it round again in every product
        self._votes = sp.csr_matrix(votes.T, dtype=np.float32)  # (items, customers)
        self.regression = regress(self.bought, regularisation=regularisation)

    def with_regularisation(self, regularisation: float) -> "NeighbourTerms":
        """Take another λ for EASE, and share all else."""
        other = copy(self)
        other.regression = regress(self.bought, regularisation=regularisation)
        return other

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
            alike = history @ self._votes  # (≤ step, all customers)
            votes = alike @ self._in_channel[channel] - history.multiply(diagonal)
            scores[first : first + step] = votes.toarray()
        return scores / self._divisors(customers)

    def both(self, customers: Rows) -> Floats:
        """Mean over a customer's purchases of the rows of the identity: float32 (n, items)."""
        identity: Floats = self._purchases[customers].toarray().astype(np.float32)
        return identity / self._divisors(customers)

    def rows(
        self,
        *,
        weights: npt.NDArray[np.float64],
        neighbours: int,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> tuple[Neighbours, npt.NDArray[np.float64]]:
        """Add the parts up and keep the largest entries of each row.

        What the rows have in common, their mean over all purchases, is the same for every
        customer: it is taken out of them first, and belongs into the item bias. A row that says
        nothing, of an item that training has no purchase of, keeps saying nothing; so does, for
        EASE's part, one of an item outside the regression.

        Args:
            weights: float64 (2, 3): β, γ and ρ per channel.
            neighbours: entries to keep of each row, by the greater of the two channels.
            progress: told how many of how many rows are made.

        Returns:
            The rows, and what was taken out of them: float64 (2, items).
        """
        regressed, others = self._mean_row(weights)  # (2, items) each
        kept = min(neighbours, self.items)
        found = np.zeros((self.items, kept), np.int64)
        values = np.zeros((self.items, len(CHANNELS), kept), np.float32)
        place = np.full(self.items, -1)
        place[self.regression.items] = np.arange(len(self.regression.items))
        # where a row has no entry of its own: by whether EASE, and whether anybody, knows the item
        empty = {
            (in_regression, known): -(in_regression * regressed + known * others).astype(np.float32)
            for in_regression in (False, True)
            for known in (False, True)
        }
        step = max(1, _BLOCK // self.items)
        for first in range(0, self.items, step):
            progress(first, self.items)
            items = np.arange(first, min(first + step, self.items))
            alike = [self._votes[items] @ bought for bought in self._in_channel]  # (items, items)
            # row by row from here: one fits a core's cache, a block of them does not
            for at, item in enumerate(items):
                row = empty[bool(place[item] >= 0), bool(self.known[item])].copy()  # (2, items)
                own = row[:, item] + weights[:, 2]
                for channel, (beta, gamma, _) in enumerate(weights.astype(np.float32)):
                    part = slice(alike[channel].indptr[at], alike[channel].indptr[at + 1])
                    votes = gamma * alike[channel].data[part]
                    row[channel, alike[channel].indices[part]] += votes
                    if place[item] >= 0:
                        says = beta * self.regression.weights[place[item]]
                        row[channel, self.regression.items] += says
                row[:, item] = own
                found[item] = largest(np.abs(row).max(0), kept)
                values[item] = row[:, found[item]]
        progress(self.items, self.items)
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
        voters = self._votes.T @ share  # (customers,)
        for channel, (_, gamma, rho) in enumerate(weights):
            alike = self._in_channel[channel].T @ voters - share * self._diagonal(channel)
            others[channel] = gamma * alike + rho * share
        return regressed, others

    def _diagonal(self, channel: int) -> npt.NDArray[np.float32]:
        products = self._votes.multiply(self._in_channel[channel].T)
        diagonal: npt.NDArray[np.float32] = np.asarray(products.sum(1)).ravel().astype(np.float32)
        return diagonal

    def _divisors(self, customers: Rows) -> Floats:
        divisors: Floats = np.maximum(self.lengths[customers], 1).astype(np.float32)[:, None]
        return divisors


def largest(values: Floats, k: int) -> Rows:
    """Find the places of the k largest values, of equal ones the first: int64 (k,), ascending.

    Args:
        values: float32 (n,).
        k: from 1 to n.
    """
    least = np.partition(values, -k)[-k]
    above = np.flatnonzero(values > least)
    equal = np.flatnonzero(values == least)[: k - len(above)]
    return np.union1d(above, equal)
