"""The command that trains a run."""

import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import click

from c2rec.runtime.errors import DataError, RunError
from c2rec.train.commands.options import (
    FOLDER,
    MIN_INTERACTIONS,
    MODEL_DEFAULTS,
    SPLIT,
    THREADS,
    TRAINING,
    Finite,
)
from c2rec.train.config import (
    CONFIG,
    AttentionName,
    EncoderName,
    ModelConfig,
    ObjectiveChoice,
    ObjectiveName,
    RunConfig,
    SplitConfig,
    TrainingConfig,
    read_config,
    write_config,
)


def _tracking_uri(_context: click.Context, _option: click.Parameter, uri: str | None) -> str | None:
    """Refuse what MLflow takes for a folder: it no longer logs to folders."""
    if uri is not None and uri != "databricks" and ("://" not in uri or uri.startswith("file:")):
        raise click.BadParameter(f"{uri!r} is no http://HOST:PORT and no sqlite:///FILE")
    return uri


@click.command()
@click.argument("data", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="Folder of the run.")
@click.option(
    "--valid-days",
    type=click.IntRange(0),
    default=SPLIT.valid_days,
    help="Days before the test period that decide when to stop; 0 for none.",
)
@click.option(
    "--test-days",
    type=click.IntRange(0),
    default=SPLIT.test_days,
    help="Last days of the data, kept for evaluate; 0 to train on all.",
)
@MIN_INTERACTIONS
@click.option(
    "--held-out",
    type=Finite(0, 0.9),
    default=SPLIT.held_out,
    help="Share of the customers to keep from the model, to see how it serves newcomers.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=TRAINING.seed,
    help="Of every random choice.",
)
@click.option(
    "--encoder",
    type=click.Choice(get_args(EncoderName)),
    default=MODEL_DEFAULTS.encoder,
    help="history embeds what a customer bought and serves new ones; table learns a row each.",
)
@click.option(
    "--objective",
    type=click.Choice(["auto", *get_args(ObjectiveName)]),
    default=TRAINING.objective,
    help="auto: softmax up to 20,000 items, sampled-softmax beyond.",
)
@click.option(
    "--embedding-size",
    type=click.IntRange(1, 4096),
    default=MODEL_DEFAULTS.embedding_size,
    help="d, of every embedding.",
)
@click.option(
    "--components",
    type=click.Choice(["2", "3", "4"]),
    default=str(MODEL_DEFAULTS.components),
    help="3: shared, offline and online taste; 2 and 4 are for experiments.",
)
@click.option(
    "--attention",
    type=click.Choice(get_args(AttentionName)),
    default=MODEL_DEFAULTS.attention,
    help="How a customer's components are weighed for each item.",
)
@click.option(
    "--attributes/--no-attributes",
    default=MODEL_DEFAULTS.attributes,
    help="Whether to learn from the items' columns too.",
)
@click.option(
    "--item-dropout",
    type=Finite(0, 1, max_open=True),
    default=TRAINING.item_dropout,
    help="Share of the items that are only their attributes in a step; helps new items.",
)
@click.option(
    "--neighbours",
    type=click.IntRange(0, 65_536),
    default=MODEL_DEFAULTS.neighbours,
    help="Items in each item's row of the neighbour term, 8 bytes each in a release; 0 for none.",
)
@click.option(
    "--learning-rate",
    type=Finite(0, 10, min_open=True),
    default=TRAINING.learning_rate,
    help="Of AdamW.",
)
@click.option(
    "--weight-decay",
    type=Finite(0, 1000),
    default=TRAINING.weight_decay,
    help="Of AdamW, on embeddings and matrices.",
)
@click.option(
    "--class-weight",
    type=Finite(0, 1000),
    default=TRAINING.class_weight,
    help="Weight of telling apart offline, online and both.",
)
@click.option(
    "--attention-weight",
    type=Finite(0, 1000),
    default=TRAINING.attention_weight,
    help="Weight of pulling attention to the component of the channels bought in.",
)
@click.option(
    "--negatives",
    type=click.IntRange(1, 10_000_000),
    default=TRAINING.negatives,
    help="Items drawn per step, where the objective draws.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=TRAINING.batch_size, help="Customers per step."
)
@click.option("--epochs", type=click.IntRange(1), default=TRAINING.epochs, help="At most so many.")
@click.option(
    "--patience",
    type=click.IntRange(1),
    default=TRAINING.patience,
    help="Stop after so many epochs without a better validation NDCG@10.",
)
@THREADS
@click.option(
    "--refit",
    type=FOLDER,
    metavar="RUN",
    help="Train on all days, for as long and with the options and the blend that RUN found best.",
)
@click.option("--restart", is_flag=True, help="Throw away what RUN holds and begin anew.")
@click.option(
    "--tensorboard",
    type=FOLDER,
    help="Log to event files in a folder for the run in this one, for TensorBoard.",
)
@click.option(
    "--mlflow",
    metavar="URI",
    callback=_tracking_uri,
    help="Log to an MLflow server, such as http://HOST:5000, or to sqlite:///FILE.",
)
@click.pass_context
def fit(
    context: click.Context,
    data: Path,
    out: Path,
    valid_days: int,
    test_days: int,
    min_interactions: int,
    held_out: float,
    seed: int,
    encoder: EncoderName,
    objective: ObjectiveChoice,
    embedding_size: int,
    components: str,
    attention: AttentionName,
    attributes: bool,
    item_dropout: float,
    neighbours: int,
    learning_rate: float,
    weight_decay: float,
    class_weight: float,
    attention_weight: float,
    negatives: int,
    batch_size: int,
    epochs: int,
    patience: int,
    threads: int,
    refit: Path | None,
    restart: bool,
    tensorboard: Path | None,
    mlflow: str | None,
) -> None:
    """Train C2Rec on a dataset.

    Stopped with Ctrl-C or killed, the same command goes on where it was, and ends with the same
    weights as if it had never stopped.
    """
    # threads that spin at every barrier starve each other where a core is taken by others; has to
    # be said before torch is loaded
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from c2rec.train import loop, run, tracking
    from c2rec.train.folder import refuse_none_of_ours
    from c2rec.train.report import ConsoleReporter
    from c2rec.train.transactions import read_dataset

    trackers: list[tracking.Tracker] = []
    if tensorboard:
        trackers.append(tracking.TensorBoard(tensorboard))
    if mlflow:
        trackers.append(tracking.MLflow(mlflow))
    dataset = read_dataset(data)
    if refit:
        _refuse_others(context)
        config = run.refit_config(refit, str(data.resolve()), dataset.fingerprint)
    else:
        config = RunConfig(
            data=str(data.resolve()),
            fingerprint=dataset.fingerprint,
            split=SplitConfig(valid_days, test_days, min_interactions, held_out),
            model=ModelConfig(
                encoder=encoder,
                embedding_size=embedding_size,
                components=int(components),
                attention=attention,
                attributes=attributes,
                neighbours=neighbours,
            ),
            training=TrainingConfig(
                seed=seed,
                objective=objective,
                negatives=negatives,
                item_dropout=item_dropout,
                class_weight=class_weight,
                attention_weight=attention_weight,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                batch_size=batch_size,
                epochs=epochs,
                patience=patience,
                threads=threads,
            ),
        )
    try:
        prepared = run.prepare(dataset, config.split)
    except DataError as error:
        raise DataError(f"{data}: {error}") from error
    refuse_none_of_ours(out, CONFIG, "run")
    train = prepared.split.train
    try:
        out.mkdir(parents=True, exist_ok=True)
        with run.only_fit(out):
            _open_run(out, config, restart=restart)
            click.echo(
                f"{prepared.index.customers} customers, {prepared.index.items} items, "
                f"{len(train.items)} training purchases",
                err=True,
            )
            reporter = ConsoleReporter(config.training.epochs)
            with tracking.tracked(reporter, trackers, out, config) as tracked:
                progress = loop.fit(config, prepared, out, tracked)
    except (loop.Interrupted, KeyboardInterrupt):
        click.echo("\nStopped, and saved; run the same command again to go on.", err=True)
        sys.exit(130)
    click.echo(f"{out}: epoch {progress.best_epoch} of {progress.epoch} is the model")


_BESIDE_REFIT = {"data", "out", "refit", "restart", "tensorboard", "mlflow"}


def _refuse_others(context: click.Context) -> None:
    """Make sure that nothing is asked for that --refit decides."""
    for name in context.params.keys() - _BESIDE_REFIT:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} can't go with --refit, which takes it from RUN")


def _open_run(out: Path, config: RunConfig, *, restart: bool) -> None:
    """Make sure that what the locked folder holds is this very run."""
    from c2rec.train.run import BEST, CHECKPOINT, MODEL
    from c2rec.train.tracking import TRACKING

    if (out / CONFIG).exists():
        before = read_config(out)  # never delete, or mix with, what is no run of ours
        if restart:
            for name in (MODEL, BEST, CHECKPOINT, CONFIG, TRACKING):
                (out / name).unlink(missing_ok=True)
        else:
            change = _first_difference(before, replace(config, data=before.data))
            if change and not (out / CHECKPOINT).exists():
                (out / TRACKING).unlink(missing_ok=True)
                write_config(out, config)  # nothing was trained yet
            elif change:
                raise RunError(
                    f"{out}: holds a run with another {change}; choose another --out, "
                    "or add --restart to throw it away"
                )
            return
    write_config(out, config)


def _first_difference(before: RunConfig, now: RunConfig) -> str | None:
    if before.fingerprint != now.fingerprint:
        return "dataset (its files have changed)"
    for part in ("split", "model", "training", "blend"):
        old, new = getattr(before, part), getattr(now, part)
        for field in fields(old):
            a, b = getattr(old, field.name), getattr(new, field.name)
            if a != b:
                return f"{field.name.replace('_', '-')} (it has {a}, you asked for {b})"
    return None
