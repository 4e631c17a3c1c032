"""On the simulated retailer, where the truth is known, attention finds it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from c2rec.runtime.records import CHANNELS
from c2rec.train import loop
from c2rec.train.config import ModelConfig, RunConfig, SplitConfig, TrainingConfig, write_config
from c2rec.train.run import load_run, prepare
from c2rec.train.simulate import Truth, read_truth, simulate, true_shared_weight
from c2rec.train.transactions import read_dataset
from tests.quiet import QuietReporter


def rank_correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Spearman's, of values without ties."""
    ranks = [np.argsort(np.argsort(values.ravel())) for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def learned_against_true(folder: Path, *, shuffle_channels: bool) -> list[float]:
    """Per channel, the correlation of learned and true α_shared.

    Over all pairs of an item and a customer who buys in both channels.
    """
    data = folder / "data"
    simulate(data, customers=3000, items=300, days=90, seed=5, shuffle_channels=shuffle_channels)
    dataset = read_dataset(data)
    config = RunConfig(
        data=str(data),
        fingerprint=dataset.fingerprint,
        split=SplitConfig(valid_days=5, test_days=5),
        model=ModelConfig(),
        training=TrainingConfig(),
    )
    (folder / "run").mkdir()
    write_config(folder / "run", config)
    loop.fit(config, prepare(dataset, config.split), folder / "run", QuietReporter())
    run = load_run(folder / "run")

    train, truth = run.data.split.train, read_truth(data)
    both = np.flatnonzero(
        np.all(
            [
                np.bincount(
                    train.customers[train.channels == channel], minlength=run.data.index.customers
                )
                >= 2
                for channel in (0, 1)
            ],
            axis=0,
        )
    )
    vocabulary = run.data.split.vocabulary
    customers = np.array([int(name[1:]) for name in vocabulary.customer_ids])[both]
    items = np.array([int(name[1:]) for name in vocabulary.item_ids])
    correlations = []
    with torch.inference_mode():
        components, has = run.model.encode(run.data.index.histories(both))
        for channel in range(len(CHANNELS)):
            _, attention = run.model.score(components, has, channel, torch.arange(len(items)))
            learned = attention[:, 0].double().numpy()  # (customers, items)
            true = true_shared_weight(truth, customers[:, None], items[None], channel)
            correlations.append(rank_correlation(learned, true))
    return correlations


def test_learned_attention_tracks_the_true_one(tmp_path: Path) -> None:
    assert min(learned_against_true(tmp_path, shuffle_channels=False)) > 0.5


def test_trained_on_shuffled_channels_it_tracks_nothing(tmp_path: Path) -> None:
    """Placebo: a figure near 0 here is what makes the one above mean something."""
    assert abs(np.mean(learned_against_true(tmp_path, shuffle_channels=True))) < 0.2


def test_the_true_weight_is_the_formula() -> None:
    zeros = np.zeros((2, 8))
    truth = Truth(
        shared_taste=zeros,
        channel_taste=np.zeros((2, 2, 8)),
        item_vectors=zeros,
        customer_shared=np.array([0.5, 1.0]),
        item_shared=np.array([[9.0, 9.0], [1.0, 3.0]]),
        popularity=np.full((2, 2), 0.5),
    )
    got = true_shared_weight(truth, np.array([0, 1]), np.array([1, 0]), 1)
    assert got.tolist() == pytest.approx([1 / (1 + np.exp(-3.5)), 1 / (1 + np.exp(-2.0))])
