"""How well customers unknown to training are served, beside the same customers when known.

Run from the checkout:
``python -m benchmarks.newcomers DATA --out FOLDER [--valid-days 3 --test-days 5]``.

Per seed and test window it fits C2Rec on everybody, and five times without another fifth of the
customers, so that everyone is a stranger to one model. Then, as ``compare`` does, each is trained
again on the validation days too, with what it had chosen; ``--no-refit`` measures without. A
customer is measured by three models, all of which see the same history: the one that has never seen
them, the one that knows everybody, and one that knows them among four fifths. The third tells what
is lost by knowing fewer customers, whoever they are. Lists hold the items that all three know from
purchases.

What is in the folder is not made again, so the same command goes on where it was stopped.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from c2rec.runtime.records import CHANNELS
from c2rec.train.batches import Rows
from c2rec.train.config import (
    CONFIG,
    ModelConfig,
    RunConfig,
    SplitConfig,
    TrainingConfig,
    read_config,
    write_config,
)
from c2rec.train.loop import ModelRanker, fit
from c2rec.train.metrics import evaluate_channel
from c2rec.train.model import C2Rec
from c2rec.train.report import ConsoleReporter
from c2rec.train.run import MODEL, PreparedData, load_model, prepare, refit_config
from c2rec.train.significance import uplift
from c2rec.train.transactions import Dataset, read_dataset
from c2rec.train.windows import cut

FOLDS = 5
LEAST = 0.9
"""What a stranger is to be served with at least, as a share of what a known customer gets."""
SEED = 0
"""Of the draw of the folds."""


class Quiet(ConsoleReporter):
    """Shows the bar on a terminal, and nothing else."""

    def epoch(self, log: object) -> None:
        """Say nothing."""

    def stage(self, text: str) -> None:
        """Say nothing."""

    def share(self, done: int, of: int) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True)
class Figures:
    """NDCG@10 of some customers in one channel and window, by all three models."""

    customers: Rows
    """int64 (n,), numbers in the whole dataset."""
    ndcg: npt.NDArray[np.float64]
    """float64 (n, 3): as strangers, known, known with a fifth fewer known in all."""


def folds(dataset: Dataset) -> list[list[str]]:
    """Divide the customers into five parts, the same ones for every window and seed."""
    customers = sorted(dataset.transactions["customer_id"].unique().to_list())
    order = np.random.default_rng(SEED).permutation(len(customers))
    return [[customers[place] for place in order[fold::FOLDS]] for fold in range(FOLDS)]


def without(part: Dataset, customers: Sequence[str], fold: int) -> Dataset:
    """Leave out all that some customers bought."""
    ids = pl.Series(customers, dtype=pl.String).implode()
    rows = part.transactions.filter(~pl.col("customer_id").is_in(ids))
    fingerprint = f"{part.fingerprint} without {fold}"
    return replace(part, transactions=rows, fingerprint=fingerprint)


def fitted(
    part: Dataset, split: SplitConfig, training: TrainingConfig, folder: Path, *, refit: bool
) -> tuple[PreparedData, C2Rec]:
    """Fit on a part of the data, or take what the folder holds of that, or go on with it."""
    config = RunConfig("", part.fingerprint, split, ModelConfig(), training)
    data, model = _run(part, config, folder)
    if refit:
        again = refit_config(folder, "", part.fingerprint, test_days=split.test_days)
        data, model = _run(part, again, folder.with_name(f"{folder.name}-refit"))
    return data, model


def _run(part: Dataset, config: RunConfig, folder: Path) -> tuple[PreparedData, C2Rec]:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / CONFIG).exists():
        write_config(folder, config)
    elif read_config(folder) != config:
        sys.exit(f"{folder}: was fitted on other data or with other options; choose another --out")
    data = prepare(part, config.split)
    if not (folder / MODEL).is_file():
        fit(config, data, folder, Quiet(config.training.epochs))
    model, _ = load_model(folder, config, data)
    return data, model


def measure(
    models: Sequence[C2Rec],
    known: Sequence[npt.NDArray[np.bool_]],
    whole: PreparedData,
    fold: Sequence[str],
    channel: int,
    numbers: dict[str, int],
) -> Figures:
    """Rank for the customers of a fold whom the model of everybody knows.

    Args:
        models: three.
        known: bool (items,) of each, the items it was trained on.
        whole: what the model of everybody was trained on.
        fold: the customers' ids.
        channel: row of ``CHANNELS``.
        numbers: of all customers.
    """
    ids = whole.split.everyone_ids
    measured = np.isin(ids, np.intersect1d(fold, whole.split.vocabulary.customer_ids))
    test = whole.split.everyone.test
    found = [
        evaluate_channel(
            ModelRanker(model, whole.everyone),
            whole.everyone,
            test.where(measured[test.customers]),
            channel,
            k=10,
            new_only=True,
            listed=np.logical_and.reduce(known),
        )
        for model in models
    ]
    customers = np.array([numbers[ids[row]] for row in found[0].customers], np.int64)
    return Figures(customers, np.stack([each.ndcg for each in found], axis=1))


def tell(channel: str, figures: Sequence[Figures], *, where: str = "") -> bool:
    """Print the figures of a channel; tell whether the goal is met."""
    customers = np.concatenate([each.customers for each in figures])
    values = np.concatenate([each.ndcg for each in figures])  # (n, 3)
    if not len(customers):
        print(f"{where}{channel}: nobody to measure", flush=True)
        return False
    strangers = values[:, [0, 0]]
    ways = "as known", "as known with a fifth fewer known in all"
    shares = uplift(strangers, values[:, 1:], customers)
    print(
        f"{where}{channel}: NDCG@10 as strangers {values[:, 0].mean():.4f}, "
        f"of {len(np.unique(customers))} customers, {len(customers)} with windows and seeds",
        flush=True,
    )
    for place, (way, share) in enumerate(zip(ways, shares, strict=True), 1):
        mean = f"{where}  of {values[:, place].mean():.4f} {way}: "
        if share.mean is None or share.low is None or share.high is None:
            print(f"{mean}{share.reason}", flush=True)
        else:
            interval = f"({1 + share.low:.2f} to {1 + share.high:.2f})"
            print(f"{mean}{1 + share.mean:.3f} {interval}", flush=True)
    return shares[0].mean is not None and 1 + shares[0].mean >= LEAST


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="keeps what is fitted")
    parser.add_argument("--valid-days", type=int, default=SplitConfig().valid_days)
    parser.add_argument("--test-days", type=int, default=SplitConfig().test_days)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rolling", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=TrainingConfig().epochs)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--refit", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    dataset = read_dataset(options.data)
    parts = folds(dataset)
    everybody = sorted(dataset.transactions["customer_id"].unique().to_list())
    numbers = {customer: place for place, customer in enumerate(everybody)}
    asked = SplitConfig(options.valid_days, options.test_days)
    figures: list[list[Figures]] = [[] for _ in CHANNELS]
    for window in range(options.rolling):
        part, split = cut(dataset, asked, window)
        for seed in range(1, options.seeds + 1):
            training = TrainingConfig(seed=seed, epochs=options.epochs, threads=options.threads)
            folder = options.out / f"window-{window}"
            whole, knows_all = fitted(
                part, split, training, folder / f"everybody-{seed}", refit=options.refit
            )
            fewer: list[tuple[npt.NDArray[np.bool_], C2Rec]] = []
            for number, fold in enumerate(parts):
                less = without(part, fold, number)
                data, model = fitted(
                    less, split, training, folder / f"without-{number}-{seed}", refit=options.refit
                )
                if data.split.vocabulary.item_ids != whole.split.vocabulary.item_ids:
                    sys.exit("an item is known from one fifth alone: list all in an items table")
                fewer.append((data.index.known, model))
                print(f"window {window}, seed {seed}: fitted without fold {number}", flush=True)
            for number, fold in enumerate(parts):
                # the model without the next fifth knows this one
                (unknown_to, stranger), (known_to, other) = (
                    fewer[number],
                    fewer[(number + 1) % FOLDS],
                )
                for channel, name in enumerate(CHANNELS):
                    measured = measure(
                        (stranger, knows_all, other),
                        (unknown_to, whole.index.known, known_to),
                        whole,
                        fold,
                        channel,
                        numbers,
                    )
                    tell(name, [measured], where=f"  window {window}, fold {number}: ")
                    figures[channel].append(measured)
    met = [tell(name, figures[channel]) for channel, name in enumerate(CHANNELS)]
    print(f"limit {LEAST}: {'met' if all(met) else 'MISSED'}")
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
