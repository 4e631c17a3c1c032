"""A training run: the folder that ``fit`` writes and ``evaluate`` and ``bundle`` read.

::

    RUN/config.json             what was asked for: data, split, model, training
    RUN/model.safetensors       the model: there once the run is finished
    RUN/best.safetensors        weights of the best epoch so far
    RUN/checkpoint.safetensors  weights, optimiser and progress, to go on from
    RUN/lock                    held by the fit that is running

A run holds no customer or item id: rows of its embeddings are rows of the vocabulary, which is
made again from the data, and the data's fingerprint makes sure that it is the same.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from c2rec.runtime.errors import DataError, RunError
from c2rec.train.attributes import attribute_rows
from c2rec.train.batches import PurchaseIndex
from c2rec.train.checkpoint import read_tensors
from c2rec.train.config import (
    FULL_CATALOGUE,
    ObjectiveName,
    RunConfig,
    SplitConfig,
    TrainingConfig,
    parse_blend,
    read_config,
)
from c2rec.train.model import C2Rec, Neighbours
from c2rec.train.split import Split, split
from c2rec.train.transactions import Dataset, read_dataset

MODEL, BEST, CHECKPOINT = "model.safetensors", "best.safetensors", "checkpoint.safetensors"
_NEIGHBOUR_ITEMS, _NEIGHBOUR_WEIGHTS = "neighbours.items", "neighbours.weights"
_POPULARITY = "popularity"


@dataclass(frozen=True, slots=True)
class PreparedData:
    """A dataset made ready for training and evaluation."""

    dataset: Dataset
    split: Split
    index: PurchaseIndex
    """Training purchases of the vocabulary's customers."""
    everyone: PurchaseIndex
    """Purchases of the training period, of all customers."""
    attributes: Tensor
    """int64 (items, columns)."""


@dataclass(frozen=True, slots=True)
class Run:
    """A fitted run, loaded."""

    folder: Path
    config: RunConfig
    data: PreparedData
    model: C2Rec
    """In evaluation mode."""
    blended: dict[str, Any]
    """``blend.Blended`` as a JSON object."""


@contextmanager
def only_fit(folder: Path) -> Iterator[None]:
    """Hold a run's lock; the system releases it however the process ends.

    Raises:
        RunError: another fit holds it.
    """
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"{folder}: another fit is running there; wait for it to end") from error
        yield
    finally:
        os.close(lock)


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
        held_out=config.held_out,
    )
    vocabulary = parts.vocabulary
    index = PurchaseIndex(
        parts.train,
        customers=len(vocabulary.customer_ids),
        items=len(vocabulary.item_ids),
    )
    everyone = PurchaseIndex(
        parts.everyone.train,
        customers=len(parts.everyone_ids),
        items=len(vocabulary.item_ids),
    )
    attributes = attribute_rows(dataset.items, vocabulary.item_ids)
    return PreparedData(dataset, parts, index, everyone, attributes)


def objective_of(training: TrainingConfig, items: int) -> ObjectiveName:
    """Decide what ``auto`` means for so many items to train on."""
    if training.objective == "auto":
        return "softmax" if items <= FULL_CATALOGUE else "sampled-softmax"
    return training.objective


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
        sparse=objective_of(config.training, int(data.index.known.sum())) != "softmax",
    )


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
    _check_finished(folder)
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
    model, blended = load_model(folder, config, prepared)
    return Run(folder, config, prepared, model, blended)


def refit_config(run: Path, data: str, fingerprint: str, *, test_days: int = 0) -> RunConfig:
    """Ask for a run on all days, for as many epochs and with the blend that a run found best.

    Args:
        run: a finished run that had a validation period.
        data: the dataset to train on: the same, or a newer one.
        fingerprint: its.
        test_days: last days that are kept for measuring all the same.

    Raises:
        RunError: the run is not finished, or chose nothing.
    """
    config = read_config(run)
    _check_finished(run)
    if config.split.valid_days == 0:
        raise RunError(
            f"{run}: had no validation days to choose anything by; fit one with --valid-days first"
        )
    _, state = read_tensors(run / MODEL)
    blend = parse_blend(state["blended"]["blend"], f"{run / MODEL}: blend: ")
    return RunConfig(
        data,
        fingerprint,
        replace(config.split, valid_days=0, test_days=test_days, held_out=0.0),
        config.model,
        replace(config.training, epochs=state["epoch"]),
        blend,
    )


def _check_finished(run: Path) -> None:
    if not (run / MODEL).is_file():
        raise RunError(
            f"{run}: is not finished; run the same 'c2rec-train fit' command again to finish it"
        )


def load_model(folder: Path, config: RunConfig, data: PreparedData) -> tuple[C2Rec, dict[str, Any]]:
    """Load what a finished fit wrote: the model, in evaluation mode, and how it was blended.

    Raises:
        RunError: the file is missing, damaged, or doesn't fit the config and the data.
    """
    path = folder / MODEL
    model = build_model(config, data)
    tensors, state = read_tensors(path)
    items, weights = tensors.pop(_NEIGHBOUR_ITEMS, None), tensors.pop(_NEIGHBOUR_WEIGHTS, None)
    model.popularity = tensors.pop(_POPULARITY, None)
    load_weights(model, tensors, path)
    if items is not None and weights is not None:
        _check_neighbours(path, model.items, items, weights)
        model.neighbours = Neighbours(items, weights)
    return model.eval(), state["blended"]


def model_tensors(model: C2Rec) -> dict[str, Tensor]:
    """Name every tensor of a finished model."""
    tensors = dict(model.state_dict())
    if model.neighbours is not None:
        tensors[_NEIGHBOUR_ITEMS] = model.neighbours.items
        tensors[_NEIGHBOUR_WEIGHTS] = model.neighbours.weights
    if model.popularity is not None:
        tensors[_POPULARITY] = model.popularity
    return tensors


def _check_neighbours(path: Path, items: int, rows: Tensor, weights: Tensor) -> None:
    shape = (items, 2, rows.shape[-1])
    fits = rows.ndim == 2 and len(rows) == items and tuple(weights.shape) == shape
    if not fits or rows.min() < 0 or rows.max() >= items or not torch.isfinite(weights).all():
        raise RunError(f"{path}: its neighbours don't fit its items")


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
