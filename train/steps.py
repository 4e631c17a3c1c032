"""One step of training: draw, score, and change the weights of what was drawn.

What a step costs depends on its batch: its customers, what they bought, and the items drawn. With
an objective that draws negatives, gradients, optimiser and average touch the rows of those items
alone; with the full softmax they touch the whole catalogue, which is why that is for small ones.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer, SparseAdam

from c2rec.train.averaging import Average, sparse_weights
from c2rec.train.batches import PurchaseIndex, Rows, draw_negatives, drop_items, hold_out, whole
from c2rec.train.config import TrainingConfig
from c2rec.train.model import C2Rec
from c2rec.train.objectives import Candidates, Loss, batch_loss
from c2rec.train.run import objective_of
from c2rec.train.split import Purchases


class Trainer:
    """A model in training, with its optimisers and the average of its weights.

    Args:
        model: with the weights to begin with.
        index: training purchases.
        training: how to train.
    """

    def __init__(self, model: C2Rec, index: PurchaseIndex, training: TrainingConfig) -> None:
        self.model = model
        self.average = Average(model, training.average_decay)
        self.optimizers = make_optimizers(model, training)
        self._index = index
        self._training = training
        self._objective = objective_of(training, int(index.known.sum()))
        self._proposal = _proposal(index.purchases, index.items)
        self._catalogue = torch.from_numpy(np.flatnonzero(index.known))

    def step(self, epoch: int, step: int, customers: Rows) -> Loss:
        """Train on a batch of customers.

        Args:
            epoch: from 0; with ``step`` and the seed it decides what is drawn.
            step: from 0, within the epoch.
            customers: int64 (batch,).

        Returns:
            The loss before the step. If nothing was hidden nothing is learned from it.
        """
        training, model = self._training, self.model
        draw = {"seed": training.seed, "epoch": epoch, "step": step}
        if model.config.encoder == "table":
            histories, targets = whole(self._index, customers)
        else:
            histories, targets = hold_out(self._index, customers, training.hold_out, **draw)
        candidates = Candidates(self._catalogue, None)
        if self._objective != "softmax":
            drawn = draw_negatives(self._proposal, training.negatives, **draw)
            candidates = Candidates(*drawn)
        if training.item_dropout and model.attributes.shape[1]:
            model.dropped = drop_items(self._index.items, training.item_dropout, **draw)
        loss = batch_loss(
            model,
            histories,
            targets,
            candidates,
            objective=self._objective,
            class_weight=training.class_weight,
            attention_weight=training.attention_weight,
            channel_weights=(training.offline_weight, training.online_weight),
        )
        model.dropped = None
        if loss.total.requires_grad:
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.total.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            for weight in sparse_weights(model).values():
                if weight.grad is not None:
                    weight.grad = weight.grad.coalesce()  # once, for all who look at its rows
            self.average.before_step()
            _decay_rows(model, training)
            for optimizer in self.optimizers:
                optimizer.step()
            self.average.after_step()
        return loss


def make_optimizers(model: C2Rec, training: TrainingConfig) -> list[Optimizer]:
    """AdamW for what every step uses whole, SparseAdam where a step uses some rows."""
    rows = sparse_weights(model)
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in rows:
            (decayed if _is_decayed(name) else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizers: list[Optimizer] = [AdamW(groups, lr=training.learning_rate)]
    if rows:
        optimizers.append(SparseAdam(list(rows.values()), lr=training.learning_rate))
    return optimizers


def _is_decayed(name: str) -> bool:
    return not ("bias" in name or name == "gain")


def _decay_rows(model: C2Rec, training: TrainingConfig) -> None:
    """Decay the rows of this step, as AdamW would; SparseAdam has no decay of its own."""
    with torch.no_grad():
        for name, weight in sparse_weights(model).items():
            if weight.grad is not None and _is_decayed(name):
                rows = weight.grad.coalesce().indices()[0]
                weight[rows] *= 1 - training.learning_rate * training.weight_decay


def _proposal(purchases: Purchases, items: int) -> npt.NDArray[np.float64]:
    """Cumulative chances of drawing each item that was bought: half uniform, half by popularity."""
    popularity = np.bincount(purchases.items, minlength=items) / len(purchases.items)
    cumulative = np.cumsum(0.5 * (popularity > 0) / (popularity > 0).sum() + 0.5 * popularity)
    chances: npt.NDArray[np.float64] = cumulative / cumulative[-1]
    return chances
