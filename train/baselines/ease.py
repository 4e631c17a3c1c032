"""Linear regression of each item on all others, in closed form: EASE (Steck 2019, 1905.03375)."""

import numpy as np
import numpy.typing as npt
from scipy import linalg

from c2rec.runtime.errors import RunError
from c2rec.train.baselines.interactions import interactions
from c2rec.train.batches import Rows
from c2rec.train.split import Purchases

MAX_ITEMS = 10_000
"""Items with purchases that are inverted at most: up to 2 GB while fitting, 0.4 GB after.

Not only for memory: with two threads OpenBLAS 0.3.30 crashes in the Cholesky factorisation at
16,400 rows, without an error to catch (as in github.com/OpenMathLib/OpenBLAS/issues/1413).
"""


class Ease:
    """The item weights B that minimise ``‖X − XB‖² + λ‖B‖²`` with a diagonal of zeros.

    Items without a purchase are left out and score 0.

    Args:
        purchases: distinct training purchases.
        customers: customers in the vocabulary.
        items: items in the vocabulary.
        channel: learn from and answer for this channel alone; None merges both.
        regularisation: λ, above 0.

    Raises:
        ValueError: ``regularisation`` is not above 0.
        RunError: more than ``MAX_ITEMS`` items have purchases.
    """

    def __init__(
        self,
        purchases: Purchases,
        *,
        customers: int,
        items: int,
        channel: int | None,
        regularisation: float,
    ) -> None:
        if regularisation <= 0:
            raise ValueError(f"regularisation is {regularisation}; it has to be above 0")
        self._channel = channel
        self._items = items
        matrix = interactions(purchases, customers=customers, items=items, channel=channel)
        self._sold = np.flatnonzero(matrix.getnnz(axis=0))  # (n,)
        if len(self._sold) > MAX_ITEMS:
            raise RunError(
                f"EASE inverts a dense matrix of items and {len(self._sold)} items have "
                f"purchases, while at most {MAX_ITEMS} are allowed; raise --min-interactions"
            )
        self._bought = matrix[:, self._sold]  # (customers, n)
        self._weights = item_weights(
            (self._bought.T @ self._bought).toarray().astype(np.float64), regularisation
        )

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item: float32 (batch, items).

        Raises:
            ValueError: ``channel`` is not the one learnt from.
        """
        if self._channel not in (None, channel):
            raise ValueError(f"learnt from channel {self._channel} alone; asked for {channel}")
        scores = np.zeros((len(customers), self._items), np.float32)
        scores[:, self._sold] = self._bought[customers] @ self._weights
        return scores


def item_weights(gram: npt.NDArray[np.float64], regularisation: float) -> npt.NDArray[np.float32]:
    """Solve for B, section 3.1: ``B_ij = −P_ij / P_jj``, where P is the inverse of ``XᵀX + λI``.

    Args:
        gram: float64 (n, n), ``XᵀX``; overwritten.
        regularisation: λ.

    Returns:
        float32 (n, n).
    """
    diagonal = np.diag_indices_from(gram)
    gram[diagonal] += regularisation
    inverse = linalg.inv(gram, overwrite_a=True)  # (n, n)
    inverse /= -inverse[diagonal]  # column j by its own P_jj
    inverse[diagonal] = 0
    return inverse.astype(np.float32, order="C")  # or each product would copy all of it first
