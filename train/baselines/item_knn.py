"""Items like those that the customer bought: the cosine of their buyers, shrunk."""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from c2rec.train.baselines.interactions import interactions
from c2rec.train.batches import Rows
from c2rec.train.split import Purchases

_BLOCK = 256
"""Rows compared with all others at a time, which bounds memory."""


class ItemKNN:
    """Item neighbours (Sarwar et al., WWW 2001), as in 1907.06902.

    The score of an item is the sum of its similarities to those of its neighbours that the
    customer bought.

    Args:
        purchases: distinct training purchases.
        customers: customers in the vocabulary.
        items: items in the vocabulary.
        channel: learn from and answer for this channel alone; None merges both.
        neighbours: how many of the most similar items each item keeps, at least 1; of equally
            similar ones those of the lower row.
        shrinkage: h in ``n_ij / (√(n_i n_j) + h)``, where n counts the customers who bought
            both items or each; at least 0. The larger, the less is made of few buyers.

    Raises:
        ValueError: ``neighbours`` or ``shrinkage`` is too small.
    """

    def __init__(
        self,
        purchases: Purchases,
        *,
        customers: int,
        items: int,
        channel: int | None,
        neighbours: int,
        shrinkage: float,
    ) -> None:
        self._channel = channel
        self._bought = interactions(purchases, customers=customers, items=items, channel=channel)
        buyers = self._bought.T.tocsr()  # (items, customers)
        blocks = [
            cosine_neighbours(
                np.arange(start, min(start + _BLOCK, items)),
                buyers,
                self._bought,
                neighbours=neighbours,
                shrinkage=shrinkage,
            )
            for start in range(0, items, _BLOCK)
        ]
        # (items, items): column j holds the neighbours of j
        self._similarity: sp.csr_matrix = sp.vstack(blocks, format="csr").T.tocsr()

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item: float32 (batch, items).

        Raises:
            ValueError: ``channel`` is not the one learnt from.
        """
        if self._channel not in (None, channel):
            raise ValueError(f"learnt from channel {self._channel} alone; asked for {channel}")
        scores: npt.NDArray[np.float32] = (self._bought[customers] @ self._similarity).toarray()
        return scores


def cosine_neighbours(
    rows: Rows,
    matrix: sp.csr_matrix,
    transposed: sp.csr_matrix,
    *,
    neighbours: int | None,
    shrinkage: float,
) -> sp.csr_matrix:
    """Find the rows of a matrix of zeros and ones that are most similar to some of its rows.

    Args:
        rows: int64 (batch,).
        matrix: float32 (n, features).
        transposed: float32 (features, n), the same matrix; making it takes as long as a batch.
        neighbours: how many to keep, at least 1, ties by the lower row; None keeps all.
        shrinkage: added to the denominator of the cosine, at least 0.

    Raises:
        ValueError: ``neighbours`` or ``shrinkage`` is too small.

    Returns:
        float32 (batch, n): similarities, without that of a row to itself.
    """
    if neighbours is not None and neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}; it has to be at least 1")
    if shrinkage < 0:
        raise ValueError(f"shrinkage is {shrinkage}; it has to be at least 0")
    common = (matrix[rows] @ transposed).tocoo()  # (batch, n): features in common
    others = common.col != rows[common.row]
    row, col, shared = common.row[others], common.col[others], common.data[others]
    sizes = np.diff(matrix.indptr).astype(np.float64)  # (n,)
    # of whole numbers under one root, so that equal similarities come out equal
    cosine = shared / (np.sqrt(sizes[rows[row]] * sizes[col]) + shrinkage)
    if neighbours is not None:
        order = np.lexsort((col, -cosine, row))
        row, col, cosine = row[order], col[order], cosine[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)  # in the order of its row
        kept = place < neighbours
        row, col, cosine = row[kept], col[kept], cosine[kept]
    return sp.csr_matrix((cosine.astype(np.float32), (row, col)), shape=common.shape)
