"""What training costs as the retailer grows: time per step, rows per second, peak memory.

Run from the checkout::

    python -m benchmarks.training_size steps
    python -m benchmarks.training_size full [--customers 1370000 --items 105000 --per-customer 22]
    python -m benchmarks.training_size neighbours [the same]

``steps`` times one training step, with batch and catalogue fixed, for ever more customers.
``full`` trains for a number of steps on purchases the size of Kaggle's whole H&M data, beside one
iteration of implicit's BPR and ALS on the same purchases and threads, each in a process of its
own, so that its peak memory can be told. ``neighbours`` makes the neighbour term of as many: EASE,
votes of customers alike, the rows. Purchases are drawn at random, by a long-tailed popularity:
what is learned means nothing here, only what it costs.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import torch

from c2rec.train.baselines.interactions import interactions
from c2rec.train.batches import PurchaseIndex, epoch_batches
from c2rec.train.config import ModelConfig, TrainingConfig
from c2rec.train.model import C2Rec
from c2rec.train.neighbours import NeighbourTerms
from c2rec.train.split import Purchases
from c2rec.train.steps import Trainer

STEPS_LIMIT = 1.10
"""Most that a step may take with 1 M customers, as a multiple of 10 k."""
MEMORY_LIMIT = 16.0
"""GB at most."""


def draw(customers: int, items: int, per_customer: int, seed: int = 1) -> PurchaseIndex:
    """Draw distinct purchases of customers with a long tail of activity and items of popularity."""
    rng = np.random.default_rng(seed)
    counts = np.maximum(1, rng.gamma(0.8, per_customer / 0.8, customers)).astype(np.int64)
    owners = np.repeat(np.arange(customers, dtype=np.int32), counts)
    chances = np.cumsum(1 / (np.arange(items) + 10.0) ** 0.9)
    bought = np.searchsorted(chances / chances[-1], rng.random(len(owners))).astype(np.int32)
    channels = (rng.random(len(owners)) < 0.5).astype(np.int8)
    keys = (owners.astype(np.int64) * 2 + channels) * items + bought
    keys.sort()
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    pairs, bought = keys // items, (keys % items).astype(np.int32)
    purchases = Purchases(
        (pairs // 2).astype(np.int32),
        bought,
        (pairs % 2).astype(np.int8),
        np.zeros(len(keys), np.int32),
        np.ones(len(keys), np.int64),
    )
    return PurchaseIndex(purchases, customers=customers, items=items)


def trainer_of(index: PurchaseIndex, training: TrainingConfig) -> Trainer:
    """Make a model with the defaults, and ten columns of attributes."""
    rng = np.random.default_rng(2)
    columns = rng.integers(0, 100, (index.items, 10)) + np.arange(10) * 100 + 1
    torch.manual_seed(training.seed)
    model = C2Rec(
        ModelConfig(),
        customers=index.customers,
        attributes=torch.from_numpy(columns),
        popularity=torch.ones(2, index.items),
        sparse=training.objective != "softmax",
    )
    return Trainer(model, index, training)


def steps(sizes: list[int], items: int, per_customer: int, rounds: int, threads: int) -> bool:
    """Time steps in turns, so that a change in the machine's load falls on all sizes alike."""
    torch.set_num_threads(threads)
    training = replace(TrainingConfig(), objective="sampled-softmax", threads=threads)
    trainers, batches = {}, {}
    for size in sizes:
        index = draw(size, items, per_customer)
        trainers[size] = trainer_of(index, training)
        batches[size] = epoch_batches(size, batch_size=training.batch_size, seed=1, epoch=0)
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for turn in range(rounds + 3):
        for size in sizes:
            started = time.perf_counter()
            trainers[size].step(0, turn, batches[size][turn % len(batches[size])])
            if turn >= 3:
                times[size].append(time.perf_counter() - started)
    medians = {size: statistics.median(each) for size, each in times.items()}
    for size, median in medians.items():
        print(
            f"{size:>9,} customers: {1000 * median:.1f} ms a step, "
            f"{median / medians[sizes[0]]:.2f} of the smallest"
        )
    ratio = medians[sizes[-1]] / medians[sizes[0]]
    print(f"limit {STEPS_LIMIT}: {'met' if ratio <= STEPS_LIMIT else 'MISSED'}")
    return ratio <= STEPS_LIMIT


def measure(who: str, index: PurchaseIndex, count: int, threads: int) -> dict[str, float]:
    """Train, and tell how many purchases a second were learned from."""
    torch.set_num_threads(threads)
    if who == "c2rec":
        training = replace(TrainingConfig(), threads=threads, objective="sampled-softmax")
        trainer = trainer_of(index, training)
        batches = epoch_batches(index.customers, batch_size=training.batch_size, seed=1, epoch=0)
        trainer.step(0, 0, batches[0])
        rows, started = 0, time.perf_counter()
        for step, batch in enumerate(batches[1 : count + 1], 1):
            trainer.step(0, step, batch)
            rows += len(index.of(batch)[0])
        return {"seconds": time.perf_counter() - started, "rows": rows}
    from implicit.cpu.als import AlternatingLeastSquares
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    matrix = interactions(
        index.purchases, customers=index.customers, items=index.items, channel=None
    ).astype(np.float32)
    model = (
        AlternatingLeastSquares(factors=64, iterations=1, num_threads=threads)
        if who == "als"
        else BayesianPersonalizedRanking(factors=64, iterations=1, num_threads=threads)
    )
    started = time.perf_counter()
    model.fit(matrix, show_progress=False)
    return {"seconds": time.perf_counter() - started, "rows": matrix.nnz}


def full(options: argparse.Namespace) -> bool:
    """Measure each in a process of its own, and print a table."""
    fits = True
    for who in ("c2rec", "bpr", "als"):
        command = [sys.executable, "-m", "benchmarks.training_size", "one", "--who", who]
        for name in ("customers", "items", "per_customer", "steps", "threads"):
            command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{who:6} {found['rows']:>12,.0f} purchases in {found['seconds']:7.1f} s: "
            f"{found['rows'] / found['seconds']:>11,.0f} a second; peak {found['peak']:.1f} GB"
        )
        fits &= who != "c2rec" or found["peak"] <= MEMORY_LIMIT
    print(f"limit {MEMORY_LIMIT} GB: {'met' if fits else 'MISSED'}")
    return fits


def neighbours(index: PurchaseIndex) -> bool:
    """Make the neighbour term as a fit does, and print what each part takes."""
    started = time.perf_counter()

    def told(what: str) -> None:
        nonlocal started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{what:32} {time.perf_counter() - started:6.1f} s; peak so far {peak:.1f} GB")
        started = time.perf_counter()

    terms = NeighbourTerms(index, regularisation=300)
    told("purchases by item, EASE")
    terms = terms.with_regularisation(100)
    told("EASE with another λ")
    some = np.linspace(0, index.customers - 1, 476).astype(np.int64)  # as many as a blend looks at
    terms.alike(some, 0)
    told(f"votes for {len(some)} customers")
    weights = np.array([[0.3, 0.2, 1.0]] * 2)
    terms.rows(weights=weights, neighbours=ModelConfig().neighbours)
    told(f"{index.items:,} rows")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6 <= MEMORY_LIMIT


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["steps", "full", "neighbours", "one"])
    parser.add_argument("--who", choices=["c2rec", "bpr", "als"])
    parser.add_argument("--customers", type=int, default=1_370_000)
    parser.add_argument("--items", type=int, default=105_000)
    parser.add_argument("--per-customer", type=int, default=22)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.what == "steps":
        sizes = [10_000, 100_000, 1_000_000]
        met = steps(sizes, options.items, options.per_customer, options.steps, options.threads)
    elif options.what == "full":
        met = full(options)
    elif options.what == "neighbours":
        torch.set_num_threads(options.threads)
        met = neighbours(draw(options.customers, options.items, options.per_customer))
    else:
        index = draw(options.customers, options.items, options.per_customer)
        found = measure(options.who, index, options.steps, options.threads)
        found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps(found))
        met = True
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
