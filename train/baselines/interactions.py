"""Purchases as a sparse matrix of customers and items, which most baselines learn from."""

import numpy as np
import scipy.sparse as sp

from c2rec.train.split import Purchases


def interactions(
    purchases: Purchases, *, customers: int, items: int, channel: int | None
) -> sp.csr_matrix:
    """Lay purchases out as a matrix.

    Args:
        purchases: distinct (customer, item, channel).
        customers: rows.
        items: columns.
        channel: count this channel's purchases alone; None merges both.

    Returns:
        float32 (customers, items): 1 where the customer bought the item, else 0.
    """
    chosen = (
        np.ones(len(purchases.items), bool) if channel is None else purchases.channels == channel
    )
    places = (purchases.customers[chosen], purchases.items[chosen])
    matrix = sp.csr_matrix(
        (np.ones(len(places[0]), np.float32), places), shape=(customers, items), dtype=np.float32
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1  # bought in both channels is still 1
    return matrix
