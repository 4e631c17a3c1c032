"""Items without enough purchases to be trained on: what stands for them, and where they rank.

Such an item has no embedding of its own: y and z are what its attributes' values have learned from
other items. Its bias is what those values predict: a ridge regression of the known items' biases
on their attributes. Recent popularity, where there is any, counts as for every item. What that
leaves open is how readily an item is bought that few or none have bought so far; two numbers per
channel, one for rare items and one for new ones, are chosen on the validation period over the
whole catalogue: for rare items by NDCG@100, as the blend is, and for new ones by how many that were
bought lists of 10 find, as long as that costs next to nothing of what these find in all. So is how
loudly the rows of the neighbour term name new items that are like theirs (``likeness``): that shows
a new item to those customers who may want it, rather than to all.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import lsmr

from c2rec.runtime.records import CHANNELS
from c2rec.train.batches import PurchaseIndex, Rows
from c2rec.train.blend import LEAST_GAIN, MEASURED, MEASURED_CUSTOMERS, SEARCH_K
from c2rec.train.config import BlendConfig, ChannelBlend
from c2rec.train.likeness import add_kin, likeness
from c2rec.train.metrics import Wanted
from c2rec.train.model import C2Rec
from c2rec.train.split import Purchases

SHOWN = 10
"""Length of a list that is shown."""
RIDGE = 10.0
"""λ of the regression of biases on attributes: a value counts fully once many items share it."""
NEW_COST = 0.01
"""Share of the lists' NDCG in the validation period that finding new items may cost."""
KINS = (0.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
"""Weights of being alike, ascending."""
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
    """Choose how readily rare and new items are shown, and change biases and neighbours for it.

    Args:
        model: blended; its item biases are moved, and its rows name what is like them.
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
    chosen, alike, added = [], None, np.flatnonzero(new)
    if model.neighbours is not None and new.any() and model.attributes.shape[1]:
        alike = likeness(model.attributes, added)
    with torch.no_grad():
        for channel in range(len(CHANNELS)):
            weights = blend.offline if channel == 0 else blend.online
            if later is not None and blend.search and model.config.encoder == "history":
                weights = _choose(model, everyone, later, channel, weights, rare, new, alike)
            model.item_bias.weight[torch.from_numpy(rare), channel] += weights.rare
            model.item_bias.weight[torch.from_numpy(new), channel] += weights.new
            chosen.append(weights)
    if model.neighbours is not None and alike is not None:
        kin = np.array([weights.kin for weights in chosen], np.float32)
        model.neighbours = add_kin(model.neighbours, alike, added, kin)
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
    alike: sp.csr_matrix | None,
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
    if alike is not None:
        kin = _bought(everyone, wanted.customers) @ alike  # (n, new items)

    def total(option: ChannelBlend) -> npt.NDArray[np.float32]:
        offsets = np.float32(option.rare) * rare + np.float32(option.new) * new
        changed = scores + offsets.astype(np.float32)  # (n, items)
        if alike is not None:
            changed[:, new] += np.float32(option.kin) * kin.toarray()
        return changed

    def settle_rare(now: ChannelBlend) -> ChannelBlend:
        options = [replace(now, rare=offset) for offset in OFFSETS]
        return _highest(now, options, [wanted.ndcg(total(each), SEARCH_K) for each in options])

    weights = settle_rare(weights)
    of_new = new[wanted.pairs % model.items]  # (targets,)
    if of_new.any():
        hit = _only(wanted, of_new)
        theirs = np.searchsorted(wanted.customers, hit.customers)
        options = [
            replace(weights, kin=each, new=offset)
            for each in (KINS if alike is not None else (weights.kin,))
            for offset in OFFSETS
        ]
        totals = (total(each) for each in options)
        values = [(wanted.ndcg(each, SHOWN), hit.ndcg(each[theirs], SHOWN)) for each in totals]
        weights = settle_rare(_most_of_new(weights, options, values))
    return weights


def _only(wanted: Wanted, chosen: npt.NDArray[np.bool_]) -> Wanted:
    """Keep some of the targets, bool (targets,), and the customers who have one."""
    pairs = wanted.pairs[chosen]
    customers, targets = np.unique(pairs // wanted.index.items, return_counts=True)
    return replace(wanted, customers=customers, targets=targets, pairs=pairs)


def _most_of_new(
    now: ChannelBlend, options: list[ChannelBlend], values: list[tuple[float, float]]
) -> ChannelBlend:
    """The option that finds most of what was new, of those that cost little.

    Args:
        now: stays where no option finds anything new.
        options: new offsets ascending.
        values: NDCG of all targets and of the new ones, per option.
    """
    enough = max(of_all for of_all, _ in values) * (1 - NEW_COST)
    found, _, best = max(
        (of_new, of_all, place) for place, (of_all, of_new) in enumerate(values) if of_all >= enough
    )
    return options[best] if found > 0 else now


def _bought(everyone: PurchaseIndex, customers: Rows) -> sp.csr_matrix:
    """Tell what share of a customer's purchases each item is: float32 (n, items)."""
    rows, owners = everyone.of(customers)
    share = (1 / np.bincount(owners, minlength=len(customers)).clip(min=1)).astype(np.float32)
    places = (owners, everyone.purchases.items[rows])
    return sp.csr_matrix((share[owners], places), shape=(len(customers), everyone.items))


def _highest(now: ChannelBlend, options: list[ChannelBlend], values: list[float]) -> ChannelBlend:
    """The last option that is not worth less than the best: an item never shown is never bought.

    Where all are worth the same, or there is no such item, the period has no word on it, and
    nothing changes.
    """
    if max(values) == min(values):
        return now
    enough = max(values) * (1 - LEAST_GAIN)
    return [option for option, value in zip(options, values, strict=True) if value >= enough][-1]
