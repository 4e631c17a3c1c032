"""A training run: the folder that ``fit`` writes and ``evaluate`` and ``bundle`` read.

::

    RUN/config.json             what was asked for: data, split, model, training
    RUN/model.safetensors       weights of the best epoch
    RUN/checkpoint.safetensors  weights, optimiser and progress, to go on from

A run holds no customer or item id: rows of its embeddings are rows of the vocabulary, which is
made again from the data, and the data's fingerprint makes sure that it is the same.
"""

import json
import types
import typing
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

from c2rec.runtime.errors import DataError, RunError
from c2rec.train.attributes import attribute_rows
from c2rec.train.batches import HoldOut, PurchaseIndex
from c2rec.train.checkpoint import read_tensors, write_bytes
from c2rec.train.model import C2Rec, ModelConfig
from c2rec.train.objectives import ObjectiveName
from c2rec.train.split import Split, split
from c2rec.train.transactions import Dataset, read_dataset

ObjectiveChoice: TypeAlias = Literal["auto"] | ObjectiveName

CONFIG, MODEL, CHECKPOINT = "config.json", "model.safetensors", "checkpoint.safetensors"
FULL_CATALOGUE = 20_000
"""Up to so many items the objective ``auto`` is softmax over all of them."""


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """How purchases are divided by date."""

    valid_days: int = 7
    """UTC days before the test period that decide when to stop; 0 for none."""
    test_days: int = 7
    """Last UTC days, kept for ``evaluate``; 0 to train on everything."""
    min_interactions: int = 5
    """k of the k-core over training purchases, for customers and items."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How the model is trained."""

    seed: int = 1
    """Of the weights and of every random choice."""
    objective: ObjectiveChoice = "auto"
    """``auto``: softmax up to ``FULL_CATALOGUE`` items, sampled-softmax beyond."""
    negatives: int = 2048
    """Items drawn per step by the objectives that draw."""
    class_weight: float = 0.3
    """λ_cls."""
    attention_weight: float = 0.01
    """λ_attn."""
    learning_rate: float = 0.003
    """Of AdamW."""
    weight_decay: float = 0.05
    """Of AdamW, on embeddings and matrices."""
    average_decay: float = 0.98
    """Per step, of the moving average of the weights that is validated and kept."""
    batch_size: int = 256
    """Customers per step."""
    epochs: int = 60
    """At most."""
    patience: int = 8
    """Epochs without a better validation NDCG before stopping."""
    hold_out: HoldOut = field(default_factory=HoldOut)
    """For the history encoder."""
    threads: int = 2
    """CPU threads; part of the run, since another number rounds sums differently."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that decides what a run's weights are."""

    data: str
    """Absolute path of the dataset folder when it was fitted."""
    fingerprint: str
    """sha256 of the dataset's files, hex."""
    split: SplitConfig
    model: ModelConfig
    training: TrainingConfig


@dataclass(frozen=True, slots=True)
class PreparedData:
    """A dataset made ready for training and evaluation."""

    dataset: Dataset
    split: Split
    index: PurchaseIndex
    attributes: Tensor
    """int64 (items, columns)."""


@dataclass(frozen=True, slots=True)
class Run:
    """A fitted run, loaded."""

    folder: Path
    config: RunConfig
    data: PreparedData
    model: C2Rec
    """With the weights of the best epoch, in evaluation mode."""


def prepare(dataset: Dataset, config: SplitConfig) -> PreparedData:
    """Split a dataset and index its training purchases.

    Raises:
        DataError: nothing is left to train on.
    """
    parts = split(
        dataset,
        test_days=config.test_days,
        valid_days=config.valid_days,
        min_interactions=config.min_interactions,
    )
    vocabulary = parts.vocabulary
    index = PurchaseIndex(
        parts.train,
        customers=len(vocabulary.customer_ids),
        items=len(vocabulary.item_ids),
    )
    return PreparedData(dataset, parts, index, attribute_rows(dataset.items, vocabulary.item_ids))


def build_model(config: RunConfig, data: PreparedData) -> C2Rec:
    """Make the model with its starting weights, which depend on the seed alone."""
    torch.manual_seed(config.training.seed)
    popularity = torch.zeros(2, data.index.items)
    train = data.split.train
    places = (torch.from_numpy(train.channels).long(), torch.from_numpy(train.items).long())
    popularity.index_put_(places, torch.ones(len(train.items)), accumulate=True)
    return C2Rec(
        config.model,
        customers=data.index.customers,
        attributes=data.attributes,
        popularity=popularity,
    )


def objective_choice(name: str) -> ObjectiveChoice:
    """Check the name of an objective.

    Raises:
        RunError: there is none of that name.
    """
    return _parse(ObjectiveChoice, name, "objective: ")  # type: ignore[arg-type]  # a union of literals


def write_config(folder: Path, config: RunConfig) -> None:
    """Write ``config.json``."""
    write_bytes(folder / CONFIG, (json.dumps(asdict(config), indent=2) + "\n").encode())


def read_config(folder: Path) -> RunConfig:
    """Read and check ``config.json``.

    Raises:
        RunError: there is none, or a field is missing, unknown or of the wrong type.
    """
    path = folder / CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(
            f"{folder}: not a training run, it has no {CONFIG}; make one with "
            "'c2rec-train fit DATA --out RUN'"
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: can't be read: {error}") from error
    return _parse(RunConfig, document, f"{path}: ")


def load_run(folder: Path, data: Path | None = None) -> Run:
    """Load a fitted run with its data.

    Args:
        folder: what ``fit`` wrote.
        data: where the dataset is now, when it has moved.

    Raises:
        RunError: the run is not fitted, damaged, or the data is not what it was fitted on.
        DataError: the dataset can't be read.
    """
    config = read_config(folder)
    if not (folder / MODEL).exists():
        raise RunError(
            f"{folder}: has no {MODEL} yet; run the same 'c2rec-train fit' command again "
            "to finish it"
        )
    where = data or Path(config.data)
    if not where.exists():
        raise RunError(
            f"{folder}: its data is no longer at {where}; say where it is now with --data DIR"
        )
    try:
        dataset = read_dataset(where)
    except DataError as error:
        raise RunError(f"{folder}: its data can't be read: {error}") from error
    if dataset.fingerprint != config.fingerprint:
        raise RunError(
            f"{folder}: the data in {where} has changed since the fit "
            f"(sha256 {dataset.fingerprint[:12]}, was {config.fingerprint[:12]}); "
            "restore it, or fit again into another folder"
        )
    prepared = prepare(dataset, config.split)
    model = build_model(config, prepared)
    tensors, _ = read_tensors(folder / MODEL)
    load_weights(model, tensors, folder / MODEL)
    return Run(folder, config, prepared, model.eval())


def load_weights(model: C2Rec, tensors: dict[str, Tensor], path: Path) -> None:
    """Put weights into a model.

    Raises:
        RunError: names or shapes differ, or a weight is not finite.
    """
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise RunError(f"{path}: tensor {name} holds NaN or infinity")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(f"{path}: doesn't fit its config.json: {error}") from error


_T = TypeVar("_T")


def _parse(kind: type[_T], value: Any, where: str) -> _T:
    """Check a parsed JSON value against a dataclass or a plain type, and build it."""
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise RunError(f"{where}is {value!r}, not an object")
        hints = typing.get_type_hints(kind)
        names = {field_.name for field_ in fields(kind)}
        if set(value) != names:
            odd = sorted(set(value) ^ names)
            raise RunError(f"{where}missing or unknown: {', '.join(odd)}")
        parts = {name: _parse(hints[name], value[name], f"{where}{name}: ") for name in names}
        return typing.cast(_T, kind(**parts))
    choices = _choices(kind)
    if choices:
        if value not in choices:
            raise RunError(f"{where}is {value!r}, not one of {', '.join(choices)}")
        return typing.cast(_T, value)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise RunError(f"{where}is {value!r}, not of type {kind.__name__}")
    return value


def _choices(kind: Any) -> tuple[str, ...]:
    origin = typing.get_origin(kind)
    if origin is Literal:
        return typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return tuple(choice for part in typing.get_args(kind) for choice in _choices(part))
    return ()
