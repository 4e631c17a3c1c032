"""A training run: the folder that ``fit`` writes and ``evaluate`` and ``bundle`` read.

::

    RUN/config.json             what was asked for: data, split, model, training
    RUN/model.safetensors       weights of the best epoch
    RUN/checkpoint.safetensors  weights, optimiser and progress, to go on from
    RUN/lock                    held by the fit that is running

A run holds no customer or item id: rows of its embeddings are rows of the vocabulary, which is
made again from the data, and the data's fingerprint makes sure that it is the same.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from c2rec.runtime.errors import DataError, RunError
from c2rec.train.attributes import attribute_rows
from c2rec.train.batches import PurchaseIndex
from c2rec.train.checkpoint import read_tensors
from c2rec.train.config import RunConfig, SplitConfig, read_config
from c2rec.train.model import C2Rec
from c2rec.train.split import Split, split
from c2rec.train.transactions import Dataset, read_dataset

MODEL, CHECKPOINT = "model.safetensors", "checkpoint.safetensors"


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
    if not _is_finished(folder):
        raise RunError(
            f"{folder}: is not finished; run the same 'c2rec-train fit' command again to finish it"
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


def _is_finished(folder: Path) -> bool:
    if not (folder / CHECKPOINT).exists():
        return False
    _, state = read_tensors(folder / CHECKPOINT)
    return state.get("finished") is True


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
