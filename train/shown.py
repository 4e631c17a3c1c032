"""What a sample of customers is shown in both channels, and what attention chose it.

The customers are drawn from those with a purchase in the test period, with a fixed seed, so that
the cost is bounded and the same run always gives the same figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from c2rec.runtime.ranking import top_k
from c2rec.runtime.records import CHANNELS
from c2rec.train.batches import PurchaseIndex, Rows
from c2rec.train.loop import ModelRanker
from c2rec.train.metrics import slices
from c2rec.train.model import C2Rec
from c2rec.train.split import Purchases

SAMPLED = 2000
"""Customers, at most."""
_SEED = 20_240_400
_CELLS = 8_000_000
"""Scores held at a time, which bounds memory."""
_BATCH = 256
"""Customers at a time, at most."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Lists of the whole catalogue; a place is -1 where nothing is left to be shown."""

    index: PurchaseIndex
    """Training purchases."""
    later: Purchases
    """Test purchases of the sampled customers."""
    customers: Rows
    """int64 (n,), ascending: rows of ``index``."""
    lists: Sequence[Rows]
    """Per channel int64 (n, ≤ k): as in the main figures, without what the customer bought in the
    channel."""
    unbought: Sequence[Rows]
    """Per channel int64 (n, ≤ k): without what the customer bought in any channel, so that the
    lists of both channels are chosen from the same items."""
    attention: Sequence[npt.NDArray[np.float32]]
    """Per channel float32 (n, ≤ k, components): α of each place of ``lists``; 0 in a place that
    is -1 and for a customer without purchases."""


def sample_customers(later: Purchases) -> Rows:
    """Draw customers with a purchase: int64 (≤ SAMPLED,), ascending."""
    customers = np.unique(later.customers).astype(np.int64)
    if len(customers) <= SAMPLED:
        return customers
    return np.sort(np.random.default_rng(_SEED).choice(customers, SAMPLED, replace=False))


def show(model: C2Rec, index: PurchaseIndex, later: Purchases, *, k: int) -> Shown:
    """Rank the catalogue for a sample of customers in both channels.

    Args:
        model: in evaluation mode.
        index: training purchases.
        later: test purchases of the index' customers.
        k: length of the lists.
    """
    customers = sample_customers(later)
    ranker = ModelRanker(model, index)
    width = min(k, index.items)
    lists = [np.full((len(customers), width), -1) for _ in CHANNELS]
    unbought = [np.full((len(customers), width), -1) for _ in CHANNELS]
    attention = [np.zeros((len(customers), width, model.components), np.float32) for _ in CHANNELS]
    for rows in slices(len(customers), max(1, min(_BATCH, _CELLS // index.items))):
        batch = customers[rows]
        bought, owners = index.of(batch)
        items = index.purchases.items[bought]
        for channel in range(len(CHANNELS)):
            scores = ranker.scores(batch, channel)  # (b, items)
            here = index.purchases.channels[bought] == channel
            scores[owners[here], items[here]] = -np.inf
            lists[channel][rows] = _top(scores, k)
            scores[owners, items] = -np.inf
            unbought[channel][rows] = _top(scores, k)
            attention[channel][rows] = _attention(
                model, index, batch, channel, lists[channel][rows]
            )
    kept = later.where(np.isin(later.customers, customers))
    return Shown(index, kept, customers, lists, unbought, attention)


def channels_bought_in(shown: Shown) -> npt.NDArray[np.bool_]:
    """Tell in which channels each customer bought in training: bool (n, channels)."""
    rows, owners = shown.index.of(shown.customers)
    bags = owners * len(CHANNELS) + shown.index.purchases.channels[rows]
    counts = np.bincount(bags, minlength=len(shown.customers) * len(CHANNELS))
    bought: npt.NDArray[np.bool_] = counts.reshape(-1, len(CHANNELS)) > 0
    return bought


def _top(scores: npt.NDArray[np.float32], k: int) -> Rows:
    top: Rows = top_k(scores, k).astype(np.int64)  # (b, ≤ k)
    left_out = np.isneginf(np.take_along_axis(scores, top, 1))
    return np.where(left_out, -1, top)


def _attention(
    model: C2Rec, index: PurchaseIndex, batch: Rows, channel: int, lists: Rows
) -> npt.NDArray[np.float32]:
    """α of the places of some lists: float32 (b, ≤ k, components)."""
    items, places = np.unique(lists, return_inverse=True)  # places: (b * k,) or (b, k)
    with torch.inference_mode():
        components, has = model.encode(index.histories(batch))
        _, attention = model.score(
            components, has, channel, torch.from_numpy(np.maximum(items, 0))
        )  # (b, components, distinct)
    of_items = attention.numpy().transpose(0, 2, 1)  # (b, distinct, components)
    chosen: npt.NDArray[np.float32] = of_items[
        np.arange(len(batch))[:, None], places.reshape(lists.shape)
    ]  # (b, ≤ k, components)
    chosen[lists < 0] = 0
    return chosen
