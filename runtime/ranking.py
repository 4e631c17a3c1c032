"""Exact top-k with one answer on every machine: ties go to the lower row.

Rows of a catalogue are sorted by item id, so the lower row is the lower item id.
"""

import numpy as np
import numpy.typing as npt


def top_k(scores: npt.NDArray[np.float32 | np.int64], k: int) -> npt.NDArray[np.int64]:
    """Find the k largest scores of each row.

    Args:
        scores: float32 or int64 (batch, items), without NaN; −inf marks what may not be chosen
            and comes last.
        k: how many, at least 1.

    Returns:
        int64 (batch, min(k, items)): columns, best first, equal scores by ascending column.
    """
    items = scores.shape[1]
    k = min(k, items)
    if k == items:
        return np.argsort(-scores, axis=1, kind="stable")
    chosen = np.empty((len(scores), k), dtype=np.int64)
    last = np.partition(scores, items - k, axis=1)[:, items - k]  # (batch,): the k-th largest
    for row, (values, floor) in enumerate(zip(scores, last, strict=True)):
        # everything that ties with the k-th takes part, so that the sort can break the tie
        columns = np.flatnonzero(values >= floor)
        order = np.argsort(-values[columns], kind="stable")
        chosen[row] = columns[order[:k]]
    return chosen
