"""A moving average of a model's weights, at a cost that doesn't grow with rows left alone.

The average is what is validated and kept (Polyak and Juditsky, 1992). While a row of a sparse
embedding is not trained its weights w stand still, and n steps move its average m to
w + (m − w) Π decay: so a row is brought up to date when it is trained again, and at the end of an
epoch.
"""

import copy
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from c2rec.train.model import C2Rec

_WARM = 10
"""Decay is (1 + n) / (10 + n) at first, n counting the steps from 1, or else a short run would
keep mostly the random weights that it started from."""
_AGES = "age/"


def sparse_weights(model: nn.Module) -> dict[str, Tensor]:
    """Name the weights of which a step trains only some rows."""
    return {
        f"{name}.weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and module.sparse and module.weight.requires_grad
    }


class Average:
    """The moving average of a model's weights.

    A table of customers is kept as it is: it has no use for being averaged, which would take as
    much memory again.

    Args:
        model: what is trained.
        decay: per step, of the average.
    """

    def __init__(self, model: C2Rec, decay: float) -> None:
        self._trained = model
        self._decay = decay
        # the last step at which the growing decay is below the one asked for
        self._warm_steps = max(0, int((_WARM * decay - 1) / (1 - decay))) if decay < 1 else 0
        steps = np.arange(1, self._warm_steps + 1)
        self._logs = np.concatenate([[0.0], np.cumsum(np.log((1 + steps) / (_WARM + steps)))])
        self.updates = 0
        """Steps taken in."""
        self.model: C2Rec = model
        """The average; good for use after ``settle``."""
        self._sparse: dict[str, Tensor] = {}
        self._ages: dict[str, Tensor] = {}
        """Per sparse weight int64 (rows,): the step up to which each row's average is right."""
        if model.config.encoder != "table":
            self.model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
            self._sparse = sparse_weights(model)
            self._ages = {
                name: torch.zeros(len(weight), dtype=torch.int64)
                for name, weight in self._sparse.items()
            }

    def before_step(self) -> None:
        """Bring up to date the rows that the optimiser is about to change."""
        for name, weight in self._sparse.items():
            if weight.grad is not None:
                self._catch_up(name, weight.grad.coalesce().indices()[0])

    def after_step(self) -> None:
        """Move the average towards the model."""
        self.updates += 1
        if self.model is self._trained:
            return
        share = 1 - float(self._decays(self.updates - 1, self.updates))
        means = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, weight in self._trained.named_parameters():
                if name not in self._sparse:
                    means[name].lerp_(weight, share)
                elif weight.grad is not None:
                    rows = weight.grad.coalesce().indices()[0]
                    means[name][rows] = means[name][rows].lerp(weight[rows], share)
                    self._ages[name][rows] = self.updates

    def settle(self) -> C2Rec:
        """Bring all rows up to date.

        Returns:
            The averaged model.
        """
        for name, ages in self._ages.items():
            self._catch_up(name, (ages < self.updates).nonzero()[:, 0])
        return self.model

    def _catch_up(self, name: str, rows: Tensor) -> None:
        mean, now = self.model.get_parameter(name), self._sparse[name]
        decays = self._decays(self._ages[name][rows].numpy(), self.updates)
        left = torch.from_numpy(np.asarray(decays, np.float32))[:, None]
        with torch.no_grad():
            mean[rows] = now[rows] + (mean[rows] - now[rows]) * left
        self._ages[name][rows] = self.updates

    def _decays(self, first: npt.ArrayLike, last: int) -> npt.NDArray[np.float64]:
        """Multiply the decays of the steps after ``first`` up to ``last``."""

        def total(step: npt.ArrayLike) -> npt.NDArray[np.float64]:
            warm = np.minimum(step, self._warm_steps)
            logs: npt.NDArray[np.float64] = self._logs[warm]
            return logs + (np.asarray(step, np.float64) - warm) * math.log(self._decay)

        decays: npt.NDArray[np.float64] = np.exp(total(last) - total(first))
        return decays

    def tensors(self) -> dict[str, Tensor]:
        """Name what a checkpoint has to hold."""
        if self.model is self._trained:
            return {}
        ages = {_AGES + name: each for name, each in self._ages.items()}
        return dict(self.model.state_dict()) | ages

    def load(self, tensors: dict[str, Tensor], updates: int) -> dict[str, Tensor]:
        """Put back the ages and the number of steps.

        Returns:
            The tensors left: the average's weights.

        Raises:
            KeyError: an age is missing.
        """
        self.updates = updates
        for name, ages in self._ages.items():
            self._ages[name] = tensors.pop(_AGES + name).clone()
            if self._ages[name].shape != ages.shape:
                raise ValueError(f"the ages of {name} are not whole")
        return tensors
