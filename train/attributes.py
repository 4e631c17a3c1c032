"""Item columns as rows of one attribute embedding."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor


def attribute_rows(items: pl.DataFrame | None, item_ids: Sequence[str]) -> Tensor:
    """Number the values of every item column.

    A value is kept where at least two items of the catalogue share it: one that a single item
    has tells nothing that its own embedding doesn't. So a column of free text, of which most
    values are unique, adds little and costs little. A column with one value in it is left out.

    Args:
        items: ``item_id`` and any text columns, or None.
        item_ids: the catalogue, in its order.

    Returns:
        int64 (items, columns), from 1 up through all columns; 0 where there is nothing to
        share. (items, 0) without columns.
    """
    if items is None:
        return torch.zeros((len(item_ids), 0), dtype=torch.int64)
    catalogue = pl.DataFrame({"item_id": item_ids}, schema={"item_id": pl.String})
    catalogue = catalogue.join(items, on="item_id", how="left", maintain_order="left")
    columns: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    first = 1
    for name in catalogue.columns:
        if name == "item_id":
            continue
        values = catalogue[name].fill_null("").to_numpy().astype(str)
        distinct, inverse, times = np.unique(values, return_inverse=True, return_counts=True)
        shared = (times > 1) & (distinct != "")
        if len(distinct) < 2 or not shared.any():
            continue
        number = np.where(shared, np.cumsum(shared) - 1 + first, 0)
        columns.append(number[inverse].astype(np.int64))
        first += int(shared.sum())
    stacked = np.stack(columns, axis=1) if columns else np.zeros((len(item_ids), 0), np.int64)
    return torch.from_numpy(stacked)
