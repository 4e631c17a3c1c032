"""Training: exact resume, every objective, both encoders, and what a step costs."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from c2rec.runtime.errors import DataError, RunError
from c2rec.train import loop
from c2rec.train.batches import PurchaseIndex, hold_out, whole
from c2rec.train.checkpoint import read_tensors
from c2rec.train.config import (
    EncoderName,
    ModelConfig,
    RunConfig,
    SplitConfig,
    TrainingConfig,
    write_config,
)
from c2rec.train.run import CHECKPOINT, MODEL, load_run, prepare
from c2rec.train.simulate import simulate
from c2rec.train.transactions import read_dataset
from tests.quiet import QuietReporter


@pytest.fixture(scope="session")
def retailer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retailer")
    simulate(folder, customers=300, items=120, days=40, seed=3)
    return folder


def config_for(data: Path, **training: object) -> RunConfig:
    config = RunConfig(
        data=str(data),
        fingerprint=read_dataset(data).fingerprint,
        split=SplitConfig(valid_days=5, test_days=5, min_interactions=3),
        model=ModelConfig(embedding_size=8),
        training=TrainingConfig(epochs=3, batch_size=64, threads=1, negatives=32),
    )
    return replace(config, training=replace(config.training, **training))  # type: ignore[arg-type]


def train(config: RunConfig, folder: Path) -> loop.Progress:
    folder.mkdir(exist_ok=True)
    write_config(folder, config)
    data = prepare(read_dataset(Path(config.data)), config.split)
    return loop.fit(config, data, folder, QuietReporter())


@pytest.mark.parametrize("encoder", ["history", "table"])
@pytest.mark.parametrize("objective", ["softmax", "sampled-softmax", "bce", "bpr"])
def test_every_objective_learns_with_both_encoders(
    retailer: Path, tmp_path: Path, encoder: EncoderName, objective: str
) -> None:
    config = config_for(retailer, objective=objective, epochs=8, patience=8)
    config = replace(config, model=replace(config.model, encoder=encoder))
    progress = train(config, tmp_path / "run")
    first, last = progress.logs[0].losses, progress.logs[-1].losses
    assert set(first) == {"loss", "offline", "online", "class", "attention"}
    for term in ("offline", "online", "attention"):
        assert last[term] < first[term]


@pytest.mark.parametrize("encoder", ["history", "table"])
def test_two_runs_with_one_seed_are_identical_and_another_seed_differs(
    retailer: Path, tmp_path: Path, encoder: EncoderName
) -> None:
    config = config_for(retailer)
    config = replace(config, model=replace(config.model, encoder=encoder))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(replace(config, training=replace(config.training, seed=seed)), tmp_path / name)
    a, b, c = ((tmp_path / name / MODEL).read_bytes() for name in "abc")
    assert a == b
    assert a != c


class StopAfter(QuietReporter):
    """Sends this process SIGINT after some steps, as Ctrl-C would."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, epoch: int, done: int, steps: int) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("encoder", ["history", "table"])
@pytest.mark.parametrize("objective", ["softmax", "sampled-softmax"])
def test_stopped_at_any_step_and_resumed_the_weights_are_the_same_to_the_bit(
    retailer: Path, tmp_path: Path, encoder: EncoderName, objective: str
) -> None:
    config = config_for(retailer, objective=objective)
    config = replace(config, model=replace(config.model, encoder=encoder))
    train(config, tmp_path / "through")
    data = prepare(read_dataset(retailer), config.split)
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    stops = 0
    for steps in (1, 3, 2, 4):
        try:
            loop.fit(config, data, stopped, StopAfter(steps))
            break
        except loop.Interrupted:
            stops += 1
    progress = loop.fit(config, data, stopped, QuietReporter())
    assert stops == 4
    assert progress.finished
    assert (stopped / MODEL).read_bytes() == (tmp_path / "through" / MODEL).read_bytes()
    assert (stopped / CHECKPOINT).read_bytes() == (tmp_path / "through" / CHECKPOINT).read_bytes()


def test_killed_at_random_and_run_again_the_weights_are_the_same_to_the_bit(
    retailer: Path, tmp_path: Path
) -> None:
    """SIGKILL, through the command line, until a run survives."""

    def command(out: Path) -> list[str]:
        return [
            sys.executable,
            *("-m", "c2rec.train.cli", "fit", str(retailer), "--out", str(out)),
            *("--valid-days", "5", "--test-days", "5", "--min-interactions", "3"),
            *("--embedding-size", "8", "--epochs", "12", "--batch-size", "8", "--threads", "1"),
        ]

    subprocess.run(command(tmp_path / "through"), check=True, capture_output=True, timeout=120)
    killed = 0
    for attempt in range(20):
        process = subprocess.Popen(
            command(tmp_path / "killed"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        for line in process.stderr:  # let it come to an epoch, then a little further
            if line.startswith("epoch"):
                break
        time.sleep(0.05 * attempt)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
    subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True, timeout=120)
    assert killed >= 2
    for name in (MODEL, CHECKPOINT):
        assert (tmp_path / "killed" / name).read_bytes() == (
            tmp_path / "through" / name
        ).read_bytes()


def test_patience_ends_training_and_the_best_epoch_is_the_model(
    retailer: Path, tmp_path: Path
) -> None:
    config = config_for(retailer, epochs=30, patience=2, learning_rate=0.05)
    progress = train(config, tmp_path / "run")
    means = [
        sum(value for value in log.ndcg.values() if value is not None) / 2 for log in progress.logs
    ]
    assert progress.epoch == progress.best_epoch + 2 < 30
    assert max(means) == means[progress.best_epoch - 1] == progress.best_ndcg
    _, state = read_tensors(tmp_path / "run" / MODEL)
    assert state["epoch"] == progress.best_epoch


def test_without_validation_the_last_epoch_is_the_model(retailer: Path, tmp_path: Path) -> None:
    config = config_for(retailer)
    config = replace(config, split=SplitConfig(valid_days=0, test_days=0, min_interactions=3))
    progress = train(config, tmp_path / "run")
    assert progress.best_epoch == progress.epoch == 3
    assert not load_run(tmp_path / "run").model.training


def test_what_is_hidden_is_not_in_the_history(retailer: Path) -> None:
    data = prepare(read_dataset(retailer), SplitConfig(5, 5, 3))
    customers = np.arange(50)
    share = TrainingConfig().hold_out
    histories, targets = hold_out(data.index, customers, share, seed=1, epoch=0, step=0)
    everything = whole(data.index, customers)[1]
    assert len(histories.items) + len(targets.items) == len(everything.items)
    rows = torch.repeat_interleave(torch.arange(100), histories.counts.flatten())
    kept = set(
        zip((rows // 2).tolist(), (rows % 2).tolist(), histories.items.tolist(), strict=True)
    )
    hidden = set(
        zip(targets.rows.tolist(), targets.channels.tolist(), targets.items.tolist(), strict=True)
    )
    assert not kept & hidden
    assert 0.2 < len(hidden) / (len(kept) + len(hidden)) < 0.9


def test_both_marks_pairs_bought_in_both_channels(retailer: Path) -> None:
    data = prepare(read_dataset(retailer), SplitConfig(5, 5, 3))
    train_purchases = data.split.train
    pairs = [
        set(
            zip(
                train_purchases.customers[train_purchases.channels == channel].tolist(),
                train_purchases.items[train_purchases.channels == channel].tolist(),
                strict=True,
            )
        )
        for channel in (0, 1)
    ]
    both = pairs[0] & pairs[1]
    assert both
    triples = zip(train_purchases.customers.tolist(), train_purchases.items.tolist(), strict=True)
    assert data.index.both.tolist() == [pair in both for pair in triples]


def test_a_table_step_touches_the_rows_of_its_batch_alone(retailer: Path, tmp_path: Path) -> None:
    """The gradient is sparse: as many rows as the batch has customers."""
    from c2rec.train.objectives import Candidates, batch_loss
    from c2rec.train.run import build_model

    config = config_for(retailer)
    config = replace(config, model=replace(config.model, encoder="table"))
    data = prepare(read_dataset(retailer), config.split)
    model = build_model(config, data)
    histories, targets = whole(data.index, np.array([3, 5, 8]))
    loss = batch_loss(
        model,
        histories,
        targets,
        Candidates(torch.arange(data.index.items), None),
        objective="softmax",
        class_weight=0.1,
        attention_weight=0.1,
    )
    loss.total.backward()  # type: ignore[no-untyped-call]
    gradient = model.customer_embedding.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    assert gradient.coalesce().indices().tolist() == [[3, 5, 8]]


def test_changed_data_is_refused(tmp_path: Path) -> None:
    simulate(tmp_path / "data", customers=200, items=60, days=30, seed=1)
    train(config_for(tmp_path / "data"), tmp_path / "run")
    simulate(tmp_path / "data", customers=200, items=60, days=30, seed=2, force=True)
    with pytest.raises(RunError, match="has changed since the fit"):
        load_run(tmp_path / "run")


def test_moved_data_is_found_with_its_new_place(tmp_path: Path) -> None:
    simulate(tmp_path / "data", customers=200, items=60, days=30, seed=1)
    train(config_for(tmp_path / "data"), tmp_path / "run")
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(RunError, match="--data"):
        load_run(tmp_path / "run")
    assert load_run(tmp_path / "run", tmp_path / "moved").data.index.items > 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.json").unlink(), "no config.json"),
        (lambda run: (run / "config.json").write_text("{"), "can't be read"),
        (lambda run: (run / "config.json").write_text("[]"), "not an object"),
        (lambda run: _edit(run, "training", "epochs", "many"), "epochs: is 'many'"),
        (lambda run: _edit(run, "model", "encoder", "magic"), "encoder: is 'magic'"),
        (lambda run: _edit(run, "model", "embedding_size", 9), "doesn't fit"),
        (lambda run: (run / MODEL).unlink(), "to finish it"),
        (lambda run: (run / MODEL).write_bytes(b"junk"), "can't be read as a checkpoint"),
        (lambda run: _cut(run / MODEL), "can't be read as a checkpoint"),
    ],
)
def test_a_damaged_run_is_named(
    retailer: Path, tmp_path: Path, damage: object, message: str
) -> None:
    train(config_for(retailer, epochs=1), tmp_path / "run")
    assert callable(damage)
    damage(tmp_path / "run")
    with pytest.raises(RunError, match=message):
        load_run(tmp_path / "run")


def _edit(run: Path, part: str, field: str, value: object) -> None:
    document = json.loads((run / "config.json").read_text())
    document[part][field] = value
    (run / "config.json").write_text(json.dumps(document))


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def test_a_loss_that_is_not_finite_is_an_error(retailer: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--learning-rate below 1e\\+20"):
        train(config_for(retailer, learning_rate=1e20, epochs=5), tmp_path / "run")


def test_an_empty_validation_period_is_an_error(tmp_path: Path) -> None:
    simulate(tmp_path / "data", customers=100, items=40, days=20, seed=1)
    with pytest.raises(DataError):
        prepare(read_dataset(tmp_path / "data"), SplitConfig(10, 10, 5))


def test_index_finds_the_purchases_of_a_batch_in_its_order(retailer: Path) -> None:
    data = prepare(read_dataset(retailer), SplitConfig(5, 5, 3))
    index: PurchaseIndex = data.index
    rows, owners = index.of(np.array([7, 2, 7]))
    for place, customer in enumerate((7, 2, 7)):
        expected = np.flatnonzero(data.split.train.customers == customer)
        assert rows[owners == place].tolist() == expected.tolist()
