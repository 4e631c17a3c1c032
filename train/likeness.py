"""Items alike by their attributes: what stands for the neighbours of one that nobody has bought.

An item's attribute values make a vector of length 1, in which a value counts by how few items share
it: log(items / items with it). How much two items are alike is the cosine of their vectors to the
fifth power, so that only those count that share nearly all that is rare about them. A customer who
bought some of them is told of the new one: the rows of the items bought name it, as they name
neighbours, and a kiosk pays nothing for it.
"""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from c2rec.train.attributes import MOST_SHARE
from c2rec.train.batches import Rows
from c2rec.train.model import Neighbours
from c2rec.train.neighbours import largest

POWER = 5
KIN = 16
"""Entries for new items in a row at most: what neighbours know is worth more."""
_BLOCK = 2000
"""Rows made at once."""


def likeness(attributes: Tensor, new: Rows) -> sp.csr_matrix:
    """Compare every item with the new ones.

    Args:
        attributes: int64 (items, columns), values, 0 for none.
        new: int64 (n,), rows of new items, ascending.

    Returns:
        float32 (items, n), from 0 to 1, at most ``KIN`` in a row; an item is not compared with
        itself.
    """
    values = attributes.numpy()
    rows, columns = np.nonzero(values)
    shape = (len(values), int(values.max(initial=0)) + 1)
    has = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, values[rows, columns])), shape)
    has.data[:] = 1  # a value that two columns name is one value
    share = np.asarray(has.sum(0)).ravel() / len(values)
    # what many share says little, and would make every item a little like every other
    tells = np.where((share > 0) & (share <= MOST_SHARE), -np.log(np.maximum(share, 1e-9)), 0)
    vectors = has @ sp.diags_array(tells)
    vectors.eliminate_zeros()
    lengths = np.sqrt(np.asarray(vectors.multiply(vectors).sum(1)).ravel())
    vectors = sp.csr_matrix(sp.diags_array(1 / np.maximum(lengths, 1e-9)) @ vectors)
    theirs = vectors[new].T.tocsr()  # (values, n)
    blocks = []
    for first in range(0, len(values), _BLOCK):
        alike = sp.csr_matrix(vectors[first : first + _BLOCK] @ theirs)  # (≤ _BLOCK, n)
        items = first + np.repeat(np.arange(alike.shape[0]), np.diff(alike.indptr))
        alike.data[new[alike.indices] == items] = 0
        alike.data **= POWER
        blocks.append(_loudest(alike))
    return sp.csr_matrix(sp.vstack(blocks), dtype=np.float32)


def _loudest(alike: sp.csr_matrix) -> sp.csr_matrix:
    for start, end in zip(alike.indptr, alike.indptr[1:], strict=False):
        if end - start > KIN:
            faint = np.ones(end - start, bool)
            faint[largest(alike.data[start:end], KIN)] = False
            alike.data[start:end][faint] = 0
    alike.eliminate_zeros()
    return alike


def add_kin(
    neighbours: Neighbours, alike: sp.csr_matrix, new: Rows, weights: npt.NDArray[np.float32]
) -> Neighbours:
    """Name new items in the rows of the items they are like, instead of the faintest neighbours.

    Args:
        neighbours: rows of n entries each, in which new items have no weight yet, but in their own.
        alike: float32 (items, new items), see ``likeness``.
        new: int64, rows of the new items.
        weights: float32 (2,), of being alike, per channel.

    Returns:
        Rows of n entries again.
    """
    items, values = neighbours.items.numpy().copy(), neighbours.weights.numpy().copy()
    for row in np.flatnonzero(np.diff(alike.indptr)):
        part = slice(alike.indptr[row], alike.indptr[row + 1])
        kin = new[alike.indices[part]]  # (k,)
        stays = ~np.isin(items[row], kin)  # those were there to fill up
        names = np.concatenate([items[row][stays], kin])
        said = np.concatenate([values[row][:, stays], weights[:, None] * alike.data[part]], axis=1)
        kept = largest(np.abs(said).max(0), items.shape[1])
        kept = kept[np.argsort(names[kept])]
        items[row], values[row] = names[kept], said[:, kept]
    return Neighbours(torch.from_numpy(items), torch.from_numpy(values).half().float())
