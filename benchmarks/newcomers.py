"""How well customers unknown to training are served, beside the same customers when known.

Run from the checkout: ``python -m benchmarks.newcomers DATA [--valid-days 3 --test-days 5]``. It
fits C2Rec three times per seed and test window: without a fifth of the customers, on everybody, and
without another fifth. The first fifth is measured with all three: their histories are the same, but
for the first model they are strangers. The third tells what is lost by knowing fewer customers,
whoever they are. Lists hold the items that all three know from purchases.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from c2rec.runtime.records import CHANNELS
from c2rec.train.config import ModelConfig, RunConfig, SplitConfig, TrainingConfig
from c2rec.train.loop import ModelRanker, fit
from c2rec.train.metrics import evaluate_channel
from c2rec.train.model import C2Rec
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
) -> tuple[PreparedData, C2Rec]:
    """Fit on a part of the data."""
    data = prepare(part, split)
    config = RunConfig("", part.fingerprint, split, ModelConfig(), training)
    with tempfile.TemporaryDirectory() as folder:
        fit(config, data, Path(folder), Quiet(training.epochs))
        model, _ = load_model(Path(folder), config, data)
    return data, model


def without_another_fifth(part: Dataset, whole: PreparedData, without: PreparedData) -> Dataset:
    """Leave out as many customers as were held out, but others, drawn with a fixed seed."""
    everyone, held_out = without.split.everyone_ids, without.split.is_held_out
    taken = {everyone[row] for row in np.flatnonzero(held_out)}
    others = sorted(set(whole.split.vocabulary.customer_ids) - taken)
    drawn = np.random.default_rng(1).choice(others, len(taken), replace=False).tolist()
    rows = part.transactions.filter(~pl.col("customer_id").is_in(drawn))
    return replace(part, transactions=rows)


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
            less = without_another_fifth(part, whole, without)
            fewer, knows_fewer = ranker_of(less, split, training)
            items = whole.split.vocabulary.item_ids
            if fewer.split.vocabulary.item_ids != items:
                sys.exit("an item is known from the other fifth alone: list all in an items table")
            for channel in range(len(CHANNELS)):
                figures[channel].append(
                    [
                        evaluate_channel(
                            ModelRanker(model, whole.everyone),
                            whole.everyone,
                            without.split.held_out,
                            channel,
                            k=10,
                            new_only=True,
                            listed=without.index.known & whole.index.known & fewer.index.known,
                        ).ndcg
                        for model in (strangers, known, knows_fewer)
                    ]
                )
    met = True
    for channel, name in enumerate(CHANNELS):
        # (3, customers and windows and seeds)
        values = np.concatenate([np.stack(each) for each in figures[channel]], axis=1)
        n = values.shape[1]
        draws = np.random.default_rng(0).integers(0, n, (4000, n))
        sums = values[:, draws].sum(2)
        print(f"{name}: NDCG@10 as strangers {values[0].mean():.4f}, of {n} customers and windows")
        for place, what in ((1, "known"), (2, "known, with a fifth fewer known in all")):
            low, high = np.quantile(sums[0] / sums[place], [0.025, 0.975])
            share = values[0].mean() / values[place].mean()
            print(f"  of {values[place].mean():.4f} {what}: {share:.2f} ({low:.2f} to {high:.2f})")
            met &= place > 1 or share >= LEAST
    print(f"limit {LEAST}: {'met' if met else 'MISSED'}")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
