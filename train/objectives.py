"""The loss: L = L_on + L_off + λ_cls L_cls + λ_attn L_attn.

The four terms are those of arXiv 2404.00972. What L_cls and L_attn look like inside could not be
recovered from its text; the forms here are ours:

* L_cls, cross-entropy of telling whether the customer bought the item in both channels, offline
  only or online only;
* L_attn, −log α of the component that should speak: shared for an item bought in both channels,
  the channel's own for one bought in it alone. Both kinds of pair weigh the same, since the few
  bought in both would otherwise be outvoted and α say "own" everywhere.

Labels come from training purchases alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from c2rec.runtime.records import CHANNELS
from c2rec.train.batches import Targets
from c2rec.train.config import ObjectiveName
from c2rec.train.model import C2Rec, Histories

_NEVER = -1e9
"""Score of what can't be drawn: finite, so that a row with nothing else gives no NaN."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items that a target is compared with."""

    items: Tensor
    """int64 (candidates,): the whole training catalogue, ascending, or drawn negatives."""
    log_expected: Tensor | None
    """float32 (candidates,): log of how often each was expected to be drawn; None: catalogue."""


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of one batch, whole and in its terms."""

    total: Tensor
    terms: dict[str, Tensor]
    """Means before weighting: ``offline``, ``online``, ``class``, ``attention``."""


def batch_loss(
    model: C2Rec,
    histories: Histories,
    targets: Targets,
    candidates: Candidates,
    *,
    objective: ObjectiveName,
    class_weight: float,
    attention_weight: float,
    channel_weights: tuple[float, float] = (1.0, 1.0),
) -> Loss:
    """Score one batch and weigh the four terms.

    A channel without targets in the batch adds nothing.
    """
    components, has = model.encode(histories)
    terms = {name: components.new_zeros(()) for name in (*CHANNELS, "class", "attention")}
    total = components.new_zeros(())
    for channel, name in enumerate(CHANNELS):
        chosen = (targets.channels == channel).nonzero()[:, 0]  # (targets in this channel,)
        if len(chosen) == 0:
            continue
        rows, items = targets.rows[chosen], targets.items[chosen]
        if candidates.log_expected is None:
            scores, attention = model.score(components, has, channel, candidates.items)
            column = torch.searchsorted(candidates.items, items)
            positive, alpha = scores[rows, column], attention[rows, :, column]
            loss = _rank(scores, rows, positive, items, candidates, objective)
        else:
            scores, _ = model.score(components, has, channel, candidates.items)
            positive, alpha = model.score_pairs(components, has, channel, rows, items)
            loss = _rank(scores, rows, positive, items, candidates, objective)
        terms[name] = loss
        total = total + channel_weights[channel] * loss
        if class_weight == 0 and attention_weight == 0:
            continue
        # 0 is both channels or shared, 1 offline, 2 online: one label serves both terms
        labels = torch.where(targets.both[chosen], 0, channel + 1)
        if class_weight:
            logits = model.classify(components[rows], items)
            loss = functional.cross_entropy(logits, labels)
            terms["class"] = terms["class"] + loss
            total = total + class_weight * loss
        if attention_weight:
            # a component whose purchases are all hidden in this step can't be asked to speak
            able = has[rows, labels] & (has[rows].sum(1) > 1)
            if able.any():
                loss = _attention_loss(alpha[able], labels[able])
                terms["attention"] = terms["attention"] + loss
                total = total + attention_weight * loss
    return Loss(total, terms)


def _attention_loss(alpha: Tensor, labels: Tensor) -> Tensor:
    """Mean of −log α of the labelled component, over each kind of pair, then over the kinds.

    Args:
        alpha: float32 (pairs, 3).
        labels: int64 (pairs,), at least one.
    """
    losses = -alpha.gather(1, labels[:, None])[:, 0].clamp(min=1e-9).log()  # (pairs,)
    shared = labels == 0
    kinds = [losses[kind].mean() for kind in (shared, ~shared) if kind.any()]
    return torch.stack(kinds).mean()


def _rank(
    scores: Tensor,
    rows: Tensor,
    positive: Tensor,
    items: Tensor,
    candidates: Candidates,
    objective: ObjectiveName,
) -> Tensor:
    """Mean over the targets of how badly each is ranked among the candidates.

    Args:
        scores: float32 (batch, candidates).
        rows: int64 (targets,), each target's row of ``scores``.
        positive: float32 (targets,), its own score.
        items: int64 (targets,).
        candidates: what stands in the columns of ``scores``.
        objective: which loss.
    """
    if objective == "softmax":
        return (scores.logsumexp(1)[rows] - positive).mean()
    if candidates.log_expected is None:
        raise ValueError(f"objective {objective} needs drawn negatives")
    # what the customer is asked for in this step is no negative
    hit = _among(candidates.items, rows, items, len(scores))  # (batch, candidates)
    if objective == "sampled-softmax":
        # the correction of importance sampling: as if every item stood there once
        # (Bengio and Senécal, 2008)
        corrected = (scores - candidates.log_expected).masked_fill(hit, _NEVER)
        return (torch.logaddexp(corrected.logsumexp(1)[rows], positive) - positive).mean()
    share = (~hit).float()
    share = share / share.sum(1, keepdim=True).clamp(min=1)  # (batch, candidates)
    if objective == "bce":
        negative = (functional.softplus(scores) * share).sum(1)  # (batch,)
        return (functional.softplus(-positive) + negative[rows]).mean()
    # BPR (Rendle et al., 2009)
    return (functional.softplus(scores[rows] - positive[:, None]) * share[rows]).sum(1).mean()


def _among(candidates: Tensor, rows: Tensor, items: Tensor, batch: int) -> Tensor:
    """Find the candidates that are targets of a row: bool (batch, candidates).

    Args:
        candidates: int64 (candidates,) items, some perhaps twice.
        rows: int64 (targets,).
        items: int64 (targets,).
        batch: how many rows.
    """
    distinct, inverse = torch.unique(candidates, return_inverse=True)
    place = torch.searchsorted(distinct, items).clamp(max=len(distinct) - 1)  # (targets,)
    there = distinct[place] == items
    found = torch.zeros(batch, len(distinct), dtype=torch.bool)
    found[rows[there], place[there]] = True
    return found[:, inverse]
