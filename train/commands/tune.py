"""The command that searches for better settings."""

import json
import os
import sys
from pathlib import Path

import click

from c2rec.runtime.errors import DataError
from c2rec.train.commands.options import (
    FOLDER,
    JSON,
    MIN_INTERACTIONS,
    SPLIT,
    THREADS,
    TRAINING,
    Finite,
)
from c2rec.train.config import ModelConfig, RunConfig, SplitConfig, TrainingConfig


@click.command()
@click.argument("data", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="Folder that keeps the trials.")
@click.option(
    "--trials",
    type=click.IntRange(1, 100_000),
    default=30,
    help="How many in all; those that OUT holds count.",
)
@click.option(
    "--timeout",
    type=Finite(0, 1_000_000, min_open=True),
    metavar="MINUTES",
    help="Stop after so long; the same command goes on.",
)
@click.option(
    "--valid-days",
    type=click.IntRange(1),
    default=SPLIT.valid_days,
    help="Days before the test period that settings are chosen by.",
)
@click.option(
    "--test-days",
    type=click.IntRange(0),
    default=SPLIT.test_days,
    help="Last days of the data, kept for evaluate.",
)
@MIN_INTERACTIONS
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=TRAINING.seed,
    help="Of what is tried, and of every training.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=TRAINING.epochs,
    help="Of each trial, at most so many.",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    default=TRAINING.patience,
    help="End a trial after so many epochs without a better validation NDCG@10.",
)
@THREADS
@click.option("--restart", is_flag=True, help="Throw away what the folder holds and begin anew.")
@JSON
def tune(
    data: Path,
    out: Path,
    trials: int,
    timeout: float | None,
    valid_days: int,
    test_days: int,
    min_interactions: int,
    seed: int,
    epochs: int,
    patience: int,
    threads: int,
    restart: bool,
    as_json: bool,
) -> None:
    """Search for settings that serve a dataset better than the defaults.

    What is sought is the greatest validation NDCG@100 of the finished model. The first trial is
    the defaults; trials that do worse than others while they train are ended early. Each trial is
    a run, as fit writes it. Stopped with Ctrl-C or killed, the same command goes on where it was;
    with more --trials it adds to what the folder holds.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in fit
    from c2rec.train import loop
    from c2rec.train.report import ComparisonReporter, tuning_text
    from c2rec.train.transactions import read_dataset
    from c2rec.train.tune import tune as search

    dataset = read_dataset(data)
    base = RunConfig(
        data=str(data.resolve()),
        fingerprint=dataset.fingerprint,
        split=SplitConfig(valid_days, test_days, min_interactions),
        model=ModelConfig(),
        training=TrainingConfig(seed=seed, epochs=epochs, patience=patience, threads=threads),
    )
    reporter = ComparisonReporter()
    try:
        tuning = search(
            dataset,
            out,
            base,
            trials=trials,
            seconds=None if timeout is None else 60 * timeout,
            restart=restart,
            reporter=reporter,
        )
    except DataError as error:
        raise DataError(f"{data}: {error}") from error
    except (KeyboardInterrupt, loop.Interrupted):
        reporter.clear()
        click.echo("Stopped; run the same command again to go on.", err=True)
        sys.exit(130)
    finally:
        reporter.clear()
    click.echo(json.dumps(tuning.document()) if as_json else tuning_text(tuning, data))
