"""Items without enough purchases to be trained on: what stands for them, and where they rank.

Such an item has no embedding of its own: y and z are what its attributes' values have learned from
other items. Its bias is what those values predict: a ridge regression of the known items' biases
on their attributes. Recent popularity, where there is any, counts as for every item. What that
leaves open is how readily an item is bought that few or none have bought so far; two numbers per
channel, one for rare items and one for new ones, are chosen on the validation period over the
whole catalogue: for rare items by NDCG@100, as the blend is, and for new ones by NDCG@10, which
lets them into the lists that are shown until that costs something there.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import lsmr

from c2rec.runtime.records import CHANNELS
from c2rec.train.batches import PurchaseIndex
from c2rec.train.blend import LEAST_GAIN, MEASURED, MEASURED_CUSTOMERS, SEARCH_K
from c2rec.train.config import BlendConfig, ChannelBlend
from c2rec.train.metrics import Wanted
from c2rec.train.model import C2Rec
from c2rec.train.split import Purchases

SHOWN = 10
"""Length of a list that is shown."""
RIDGE = 10.0
"""λ of the regression of biases on attributes: a value counts fully once many items share it."""
OFFSETS = (-8.0, -4.0, -2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
"""Ascending. At the lowest such an item comes last; of those that do equally well in the
validation period the highest is taken, for an item that is never shown is never bought."""


def settle_unknown(model: C2Rec, known: npt.NDArray[np.bool_]) -> None:
    """Give the items without training purchases their embeddings and biases.

    Args:
        model: trained, not blended yet; changed in place.
        known: bool (items,): the items it was trained on.
    """
    with torch.no_grad():
        _forget_untrained(model, torch.from_numpy(~known))
        if not known.all():
            _predict_biases(model, ~known)


def offset_unknown(
    model: C2Rec,
    index: PurchaseIndex,
    everyone: PurchaseIndex,
    later: Purchases | None,
    blend: BlendConfig,
) -> BlendConfig:
    """Choose how readily rare and new items are shown, and move their biases by so much.

    Args:
        model: blended; changed in place.
        index: training purchases.
        everyone: all purchases of the training period, with the same items.
        later: everyone's purchases in the validation period, or None to take the offsets as they
            are in ``blend``. A table of customers can't rank for those outside it: None as well.
        blend: where the search begins.

    Returns:
        The blend with the offsets that were chosen; as it was where nothing could be measured.
    """
    rare, new = ~index.known & everyone.known, ~everyone.known
    if index.known.all():
        return blend
    chosen = []
    with torch.no_grad():
        for channel in range(len(CHANNELS)):
            weights = blend.offline if channel == 0 else blend.online
            if later is not None and blend.search and model.config.encoder == "history":
                weights = _choose(model, everyone, later, channel, weights, rare, new)
            model.item_bias.weight[torch.from_numpy(rare), channel] += weights.rare
            model.item_bias.weight[torch.from_numpy(new), channel] += weights.new
            chosen.append(weights)
    return replace(blend, offline=chosen[0], online=chosen[1])


def _forget_untrained(model: C2Rec, unknown: torch.Tensor) -> None:
    """Set what training never touched, and is as random as it began, to zero."""
    used = torch.zeros(model.item_attribute.num_embeddings, dtype=torch.bool)
    used[model.attributes[~unknown].flatten()] = True
    model.item_embedding.weight[unknown] = 0
    model.item_attribute.weight[~used] = 0
    model.attention_item_bias.weight[unknown] = 0
    if model.config.encoder == "history":
        model.source_embedding.weight[unknown] = 0
        model.source_attribute.weight[~used] = 0


def _predict_biases(model: C2Rec, unknown: npt.NDArray[np.bool_]) -> None:
    """Replace the biases of unknown items by what their attributes predict."""
    attributes = model.attributes.numpy()  # (items, columns)
    rows, columns = np.nonzero(attributes)
    shape = (model.items, model.item_attribute.num_embeddings)
    has = sp.csr_matrix((np.ones(len(rows)), (rows, attributes[rows, columns])), shape=shape)
    for channel in range(len(CHANNELS)):
        bias = model.item_bias.weight[:, channel].double().numpy()
        mean = bias[~unknown].mean()
        solved = lsmr(has[~unknown], bias[~unknown] - mean, damp=RIDGE**0.5)
        predicted = mean + has[unknown] @ solved[0]
        model.item_bias.weight[torch.from_numpy(unknown), channel] = torch.from_numpy(
            predicted
        ).float()


def _choose(
    model: C2Rec,
    everyone: PurchaseIndex,
    later: Purchases,
    channel: int,
    weights: ChannelBlend,
    rare: npt.NDArray[np.bool_],
    new: npt.NDArray[np.bool_],
) -> ChannelBlend:
    wanted = Wanted.of(everyone, later, channel, new_only=True)
    wanted = wanted.sample(max(1, min(MEASURED_CUSTOMERS, MEASURED // model.items)))
    if not len(wanted.customers):
        return weights
    ranked = [
        model.rank(everyone.histories(wanted.customers[start : start + 256]), channel).numpy()
        for start in range(0, len(wanted.customers), 256)
    ]
    scores = np.concatenate(ranked)  # (n, items)

    def reached(option: ChannelBlend, k: int) -> float:
        offsets = np.float32(option.rare) * rare + np.float32(option.new) * new
        return wanted.ndcg(scores + offsets.astype(np.float32), k)

    for _ in range(2):
        options = [replace(weights, rare=offset) for offset in OFFSETS]
        weights = _highest(weights, options, [reached(each, SEARCH_K) for each in options])
        options = [replace(weights, new=offset) for offset in OFFSETS]
        weights = _highest(weights, options, [reached(each, SHOWN) for each in options])
    return weights


def _highest(now: ChannelBlend, options: list[ChannelBlend], values: list[float]) -> ChannelBlend:
    """The last option that is not worth less than the best: an item never shown is never bought.

    Where all are worth the same, or there is no such item, the period has no word on it, and
    nothing changes.
    """
    if max(values) == min(values):
        return now
    enough = max(values) * (1 - LEAST_GAIN)
    return [option for option, value in zip(options, values, strict=True) if value >= enough][-1]
