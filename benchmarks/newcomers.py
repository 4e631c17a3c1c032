"""How well customers unknown to training are served, beside the same customers when known.

Run from the checkout: ``python -m benchmarks.newcomers DATA [--valid-days 3 --test-days 5]``. It
fits C2Rec twice per seed and test window, on everybody and without a fifth of the customers, and
measures that fifth with both: their histories are the same, but for one of the models they are
strangers. Lists hold the items that both models know from purchases.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from c2rec.runtime.records import CHANNELS
from c2rec.train.config import ModelConfig, RunConfig, SplitConfig, TrainingConfig
from c2rec.train.loop import ModelRanker, fit
from c2rec.train.metrics import evaluate_channel
from c2rec.train.report import ConsoleReporter
from c2rec.train.run import PreparedData, load_model, prepare
from c2rec.train.transactions import Dataset, read_dataset
from c2rec.train.windows import cut

HELD_OUT = 0.2
LEAST = 0.9
"""What a stranger is to be served with at least, as a share of what a known customer gets."""


class Quiet(ConsoleReporter):
    """Shows the bar on a terminal, and nothing else."""

    def epoch(self, log: object) -> None:
        """Say nothing."""

    def stage(self, text: str) -> None:
        """Say nothing."""

    def share(self, done: int, of: int) -> None:
        """Say nothing."""


def ranker_of(
    part: Dataset, split: SplitConfig, training: TrainingConfig
) -> tuple[PreparedData, ModelRanker]:
    """Fit on a part of the data, and rank for everybody."""
    data = prepare(part, split)
    config = RunConfig("", part.fingerprint, split, ModelConfig(), training)
    with tempfile.TemporaryDirectory() as folder:
        fit(config, data, Path(folder), Quiet(training.epochs))
        model, _ = load_model(Path(folder), config, data)
    return data, ModelRanker(model, data.everyone)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--valid-days", type=int, default=SplitConfig().valid_days)
    parser.add_argument("--test-days", type=int, default=SplitConfig().test_days)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rolling", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    dataset = read_dataset(options.data)
    asked = SplitConfig(options.valid_days, options.test_days)
    figures: list[list[list[np.ndarray[tuple[int], np.dtype[np.float64]]]]] = [[], []]
    for window in range(options.rolling):
        part, split = cut(dataset, asked, window)
        for seed in range(1, options.seeds + 1):
            training = TrainingConfig(seed=seed, threads=options.threads)
            without, strangers = ranker_of(part, replace(split, held_out=HELD_OUT), training)
            whole, known = ranker_of(part, split, training)
            for channel in range(len(CHANNELS)):
                figures[channel].append(
                    [
                        evaluate_channel(
                            ranker,
                            data.everyone,
                            without.split.held_out,
                            channel,
                            k=10,
                            new_only=True,
                            listed=without.index.known & whole.index.known,
                        ).ndcg
                        for ranker, data in ((strangers, without), (known, whole))
                    ]
                )
    met = True
    for channel, name in enumerate(CHANNELS):
        pairs = np.concatenate([np.stack(each) for each in figures[channel]], axis=1)  # (2, n)
        unknown, known_ndcg = pairs.mean(1)
        draws = np.random.default_rng(0).integers(0, pairs.shape[1], (4000, pairs.shape[1]))
        sums = pairs[:, draws].sum(2)
        low, high = np.quantile(sums[0] / sums[1], [0.025, 0.975])
        share = unknown / known_ndcg
        met &= share >= LEAST
        print(
            f"{name}: NDCG@10 {unknown:.4f} unknown, {known_ndcg:.4f} known: {share:.2f} "
            f"({low:.2f} to {high:.2f}), of {pairs.shape[1]} customers and windows"
        )
    print(f"limit {LEAST}: {'met' if met else 'MISSED'}")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
