"""Item columns as rows of one attribute embedding."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

_TIMES, _NUMBER = "\0times", "\0number"
"""Columns beside one of the data, which may have any other name."""
WORDS = 12
"""Of a text so many words are kept, those that the fewest items share first."""
LEAST_ITEMS = 3
"""A word says something once so many items share it …"""
MOST_SHARE = 0.1
"""… but tells too little where a greater share of the items has it."""


def attribute_rows(items: pl.DataFrame | None, item_ids: Sequence[str]) -> Tensor:
    """Number the values of every item column.

    A value is kept where at least two items of the catalogue share it: one that a single item
    has tells nothing that its own embedding doesn't. A column with one value in it is left out.
    A column of free text, of which most values are unique and have a space in them, is read word
    by word besides: each word is a value.

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
        values = catalogue[name].fill_null("")
        found = values.value_counts(name=_TIMES).sort(name)
        if _is_text(found):
            words = _words(values, first)
            columns += list(words.T)
            first = max(first, int(words.max(initial=0)) + 1)
        shared = found.filter((pl.col(_TIMES) > 1) & (pl.col(name) != ""))
        if found.height < 2 or shared.height == 0:
            continue
        numbered = shared.select(name, (pl.lit(first) + pl.int_range(shared.height)).alias(_NUMBER))
        joined = values.to_frame().join(numbered, on=name, how="left", maintain_order="left")
        columns.append(joined[_NUMBER].fill_null(0).to_numpy().astype(np.int64))
        first += shared.height
    stacked = np.stack(columns, axis=1) if columns else np.zeros((len(item_ids), 0), np.int64)
    return torch.from_numpy(stacked)


def _is_text(found: pl.DataFrame) -> bool:
    """Tell by a column's values and how often each is there."""
    values, times = found.get_columns()
    spaced = values.str.contains(" ", literal=True)
    return bool((times == 1).mean() > 0.5 and spaced.mean() > 0.5)  # type: ignore[operator]


def _words(values: pl.Series, first: int) -> npt.NDArray[np.int64]:
    """Number the words of each text that tell most: int64 (items, up to WORDS), 0 for none."""
    texts = [set(re.findall(r"\w+", value.lower())) for value in values]
    items = Counter(word for text in texts for word in text)
    most = MOST_SHARE * len(values)
    kept = sorted(word for word, times in items.items() if LEAST_ITEMS <= times <= most)
    number = {word: place for place, word in enumerate(kept, first)}
    rows = np.zeros((len(values), WORDS), np.int64)
    for row, text in enumerate(texts):
        telling = sorted((items[word], word) for word in text if word in number)[:WORDS]
        rows[row, : len(telling)] = [number[word] for _, word in telling]
    return rows[:, rows.any(0)]
