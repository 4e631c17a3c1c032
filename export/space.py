"""The space of a release: what gives meaning to a customer's rows and vectors."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

from c2rec.runtime.release.tensors import Array


def space_of(
    item_ids: Sequence[str], items: Mapping[str, Array], nameless_graphs: Sequence[bytes]
) -> str:
    """Digest what customers' rows and vectors hang on, 64 hex digits.

    Args:
        item_ids: in the order of their rows.
        items: tensors of items.safetensors; popularity is left out, for it may change while
            every row and vector stays what it was.
        nameless_graphs: the graphs without the name of the release in them.
    """
    digest = hashlib.sha256(json.dumps(list(item_ids)).encode())
    for name in sorted(items.keys() - {"popularity"}):
        values = items[name]
        digest.update(json.dumps([name, values.dtype.name, values.shape]).encode())
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        digest.update(np.ascontiguousarray(little).data)
    for graph in nameless_graphs:
        digest.update(hashlib.sha256(graph).digest())
    return digest.hexdigest()
