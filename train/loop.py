"""The training loop: from prepared data to the best epoch's weights, blended.

It can be stopped at any moment. What a step draws depends on (seed, epoch, step) alone, and a
checkpoint holds weights, optimiser state and progress, so a run that was stopped, or killed, and
started again ends with the weights of one that ran through, to the bit.
"""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from c2rec.runtime.errors import RunError
from c2rec.runtime.records import CHANNELS
from c2rec.train.batches import (
    PurchaseIndex,
    Rows,
    epoch_batches,
)
from c2rec.train.blend import blend
from c2rec.train.checkpoint import (
    load_optimizers,
    optimizer_tensors,
    read_tensors,
    write_tensors,
)
from c2rec.train.config import RunConfig
from c2rec.train.metrics import evaluate_channel
from c2rec.train.model import C2Rec
from c2rec.train.run import (
    BEST,
    CHECKPOINT,
    MODEL,
    PreparedData,
    build_model,
    load_weights,
    model_tensors,
)
from c2rec.train.steps import Trainer
from c2rec.train.strangers import choose_half_lives, popularity
from c2rec.train.unknown import offset_unknown, settle_unknown

CHECKPOINT_SECONDS = 60.0
"""Within an epoch, progress is saved at least so often."""
_RANKED_AT_ONCE = 256
"""Customers: what is gathered for their neighbours takes memory."""
VALIDATED = 5000
"""Customers per channel that an epoch is validated on, at most: more would tell little more."""
VALIDATION_K = 10
"""List length of the NDCG that decides when to stop."""


class Interrupted(Exception):  # noqa: N818 - a request that was met, not an error
    """Training was asked to stop, and has saved where it is."""


class Reporter(Protocol):
    """Shows how training goes."""

    def step(self, epoch: int, done: int, steps: int) -> None:
        """Say that ``done`` of an epoch's ``steps`` are done."""
        ...

    def epoch(self, log: "EpochLog") -> None:
        """Say how an epoch went."""
        ...

    def stage(self, text: str) -> None:
        """Say what is being done after the last epoch."""
        ...

    def share(self, done: int, of: int) -> None:
        """Say how much of the last stage is done."""
        ...


@dataclass(frozen=True, slots=True)
class EpochLog:
    """Figures of one epoch."""

    epoch: int
    """From 1."""
    losses: dict[str, float]
    """Mean per step of the total and of each term before weighting."""
    ndcg: dict[str, float | None]
    """Validation NDCG@10 per channel; None where nobody bought anything new in it."""
    best: bool
    """Whether its weights are the best so far."""


@dataclass(slots=True)
class Progress:
    """Where training is."""

    epoch: int = 0
    """Whole epochs done."""
    step: int = 0
    """Steps done of the next one."""
    sums: dict[str, float] = field(default_factory=dict)
    """Loss terms summed over those steps."""
    updates: int = 0
    """Steps that changed the weights; a batch in which nothing was hidden changes none."""
    best_epoch: int = 0
    """From 1; 0 before any."""
    best_ndcg: float = -1.0
    """Mean over channels at that epoch."""
    finished: bool = False
    logs: list[EpochLog] = field(default_factory=list)


class ModelRanker:
    """The model as a ``metrics.Ranker`` over customers of the vocabulary.

    Args:
        model: what scores.
        index: training purchases, which are the customers' histories.
    """

    def __init__(self, model: C2Rec, index: PurchaseIndex) -> None:
        self._model = model
        self._index = index

    def scores(self, customers: Rows, channel: int) -> npt.NDArray[np.float32]:
        """Score every item: float32 (batch, items)."""
        result: npt.NDArray[np.float32] = np.empty((len(customers), self._model.items), np.float32)
        with torch.inference_mode():
            for start in range(0, len(customers), _RANKED_AT_ONCE):
                batch = customers[start : start + _RANKED_AT_ONCE]
                ranked = self._model.rank(self._index.histories(batch), channel)
                result[start : start + len(batch)] = ranked.numpy()
        return result


def fit(config: RunConfig, data: PreparedData, folder: Path, reporter: Reporter) -> Progress:
    """Train, or go on with, the run in a folder.

    Args:
        config: what to train; the caller has made sure that it is the folder's.
        data: prepared from the dataset that ``config`` names.
        folder: holds the checkpoint to go on from, if any; best weights are written there.
        reporter: shows progress.

    Raises:
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        RunError: the loss is not finite, or the checkpoint can't be used.
    """
    training = config.training
    torch.set_num_threads(training.threads)
    torch.use_deterministic_algorithms(True)
    model = build_model(config, data)
    trainer = Trainer(model, data.index, training)
    progress = _restore(folder / CHECKPOINT, trainer)
    if progress.best_epoch and not (folder / BEST).is_file():
        raise RunError(f"{folder}: has lost its {BEST}; begin anew with --restart")
    saved_at = time.monotonic()

    with _stop_signals() as stop:
        while not progress.finished:
            epoch = progress.epoch
            batches = epoch_batches(
                data.index.customers,
                batch_size=training.batch_size,
                seed=training.seed,
                epoch=epoch,
            )
            model.train()
            while progress.step < len(batches):
                loss = trainer.step(epoch, progress.step, batches[progress.step])
                value = loss.total.item()
                if not math.isfinite(value):
                    raise RunError(
                        f"the loss is {value} at epoch {epoch + 1}, step {progress.step + 1}; "
                        f"try a --learning-rate below {training.learning_rate}"
                    )
                progress.updates = trainer.average.updates
                for name, term in {"loss": loss.total, **loss.terms}.items():
                    progress.sums[name] = progress.sums.get(name, 0.0) + term.item()
                progress.step += 1
                reporter.step(epoch + 1, progress.step, len(batches))
                if stop.requested or time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                    _save(folder / CHECKPOINT, trainer, progress)
                    saved_at = time.monotonic()
                    if stop.requested:
                        raise Interrupted

            averaged = trainer.average.settle()
            log = _end_epoch(config, data, averaged, progress, len(batches))
            if log.best:
                write_tensors(folder / BEST, averaged.state_dict(), {"epoch": log.epoch})
            _save(folder / CHECKPOINT, trainer, progress)
            saved_at = time.monotonic()
            reporter.epoch(log)
            if stop.requested:
                raise Interrupted
    if not (folder / MODEL).is_file():
        _finish(config, data, folder, reporter)
    return progress


def _finish(config: RunConfig, data: PreparedData, folder: Path, reporter: Reporter) -> None:
    """Blend the other terms into the best epoch's weights, and write the model."""
    model = build_model(config, data)
    tensors, state = read_tensors(folder / BEST)
    load_weights(model, tensors, folder / BEST)
    settle_unknown(model.eval(), data.index.known)
    everyone, unseen = data.split.everyone, data.split.is_held_out
    sold = everyone.train.where(~unseen[everyone.train.customers])
    later = None
    if config.split.valid_days:
        later = everyone.valid.where(~unseen[everyone.valid.customers])
    blended = blend(
        model,
        ModelRanker(model, data.index),
        data.index,
        data.split.valid if config.split.valid_days else None,
        config.blend,
        sold=sold,
        neighbours=config.model.neighbours,
        say=reporter.stage,
        progress=reporter.share,
    )
    reporter.stage("choosing how readily rare and new items are shown")
    whole = replace(blended.blend, search=config.blend.search)
    whole = choose_half_lives(sold, later, data.index.items, whole)
    model.popularity = torch.from_numpy(popularity(sold, data.index.items, whole))
    whole = offset_unknown(model, data.index, data.everyone, later, whole)
    blended = replace(blended, blend=replace(whole, search=False))
    write_tensors(folder / MODEL, model_tensors(model), state | {"blended": asdict(blended)})


def _end_epoch(
    config: RunConfig, data: PreparedData, model: C2Rec, progress: Progress, steps: int
) -> EpochLog:
    """Validate, and decide whether these weights are the best and whether to stop."""
    training = config.training
    progress.epoch, progress.step = progress.epoch + 1, 0
    losses = {name: total / steps for name, total in progress.sums.items()}
    progress.sums = {}
    model.eval()
    ranker = ModelRanker(model, data.index)
    for channel in range(len(CHANNELS)):
        if not np.isfinite(ranker.scores(np.arange(min(64, data.index.customers)), channel)).all():
            raise RunError(
                f"the scores are not finite after epoch {progress.epoch}; "
                f"try a --learning-rate below {training.learning_rate}"
            )
    ndcg: dict[str, float | None] = {}
    if config.split.valid_days:
        for channel, name in enumerate(CHANNELS):
            metrics = evaluate_channel(
                ranker,
                data.index,
                data.split.valid,
                channel,
                k=VALIDATION_K,
                new_only=True,
                listed=data.index.known,
                most=VALIDATED,
            )
            ndcg[name] = float(metrics.ndcg.mean()) if len(metrics.customers) else None
        known = [value for value in ndcg.values() if value is not None]
        if not known:
            raise RunError(
                "nobody bought anything new in the validation days, so there is nothing to choose "
                "the best epoch by; raise --valid-days (fit, but not tune, can do without: 0)"
            )
        score = sum(known) / len(known)
        best = score > progress.best_ndcg
    else:
        score, best = -1.0, True  # nothing to choose by: the last epoch is the model
    if best:
        progress.best_epoch, progress.best_ndcg = progress.epoch, score
    patience_over = progress.epoch - progress.best_epoch >= training.patience
    progress.finished = progress.epoch >= training.epochs or patience_over
    log = EpochLog(progress.epoch, losses, ndcg, best)
    progress.logs.append(log)
    return log


def _save(path: Path, trainer: Trainer, progress: Progress) -> None:
    tensors = optimizer_tensors(trainer.model, trainer.optimizers)
    parts = (("model/", trainer.model.state_dict()), ("averaged/", trainer.average.tensors()))
    for prefix, part in parts:
        tensors |= {prefix + name: tensor for name, tensor in part.items()}
    write_tensors(path, tensors, asdict(progress))


def _restore(path: Path, trainer: Trainer) -> Progress:
    if not path.exists():
        return Progress()
    tensors, state = read_tensors(path)
    try:
        logs = [EpochLog(**log) for log in state.pop("logs")]
        progress = Progress(**state, logs=logs)
        load_weights(trainer.model, _beginning(tensors, "model/"), path)
        averaged = trainer.average.load(_beginning(tensors, "averaged/"), progress.updates)
        if trainer.average.model is not trainer.model:
            load_weights(trainer.average.model, averaged, path)
        load_optimizers(trainer.model, trainer.optimizers, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: is damaged: {error}; begin anew with --restart") from error
    return progress


def _beginning(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


@dataclass(slots=True)
class _Stop:
    requested: bool = False


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """Turn SIGINT and SIGTERM into a request that the loop meets after its step."""
    stop = _Stop()

    def request(_number: int, _frame: object) -> None:
        stop.requested = True

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
