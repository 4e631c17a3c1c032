"""Tensors and training state on disk: one safetensors file, written whole or not at all.

Nothing is pickled, so opening a run never runs code from it.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from c2rec.runtime.errors import RunError
from c2rec.train.files import write_bytes


def write_tensors(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and a JSON-able state to one file."""
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, {"state": json.dumps(state)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write_tensors`` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            state = json.loads((file.metadata() or {})["state"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path}: can't be read as a checkpoint: {error}") from error
    return tensors, state


def read_state(path: Path) -> dict[str, Any]:
    """Read the state alone, without the tensors.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state: dict[str, Any] = json.loads((file.metadata() or {})["state"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path}: can't be read as a checkpoint: {error}") from error
    return state


def optimizer_tensors(model: nn.Module, optimizers: list[Optimizer]) -> dict[str, Tensor]:
    """Name every tensor of the optimisers' state ``optimizer/<parameter>/<key>``.

    Step counts that an optimiser keeps as a plain integer become int64 scalars.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    tensors = {}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                tensor = value if isinstance(value, Tensor) else torch.tensor(int(value))
                tensors[f"optimizer/{names[parameter]}/{key}"] = tensor
    return tensors


def load_optimizers(
    model: nn.Module, optimizers: list[Optimizer], tensors: dict[str, Tensor]
) -> None:
    """Put back what ``optimizer_tensors`` took, to the bit."""
    states: dict[str, dict[str, Tensor | int]] = {}
    for path, tensor in tensors.items():
        if path.startswith("optimizer/"):
            _, name, key = path.split("/")
            plain = tensor.dtype == torch.int64 and tensor.ndim == 0
            states.setdefault(name, {})[key] = int(tensor) if plain else tensor.clone()
    names = {parameter: name for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if names[parameter] in states:
                    state = states[names[parameter]]
                    if set(state) != {"step", "exp_avg", "exp_avg_sq"} or any(
                        isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape
                        for value in state.values()
                    ):
                        raise ValueError(
                            f"the optimiser's state of {names[parameter]} is not whole"
                        )
                    optimizer.state[parameter] = states[names[parameter]]
