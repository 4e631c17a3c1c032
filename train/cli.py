"""``c2rec-train``: from purchases to an evaluated run.

torch and polars are imported by the commands that use them, so that ``--help`` is quick and a
missing extra can be named.
"""

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_args

import click

from c2rec.runtime.errors import C2RecError, DataError, MissingExtraError, RunError
from c2rec.train.config import (
    CONFIG,
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


class _Path(click.Path):
    """A path that is not empty: an unset variable must not mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in ("", b""):
            self.fail("is empty", param, ctx)
        return super().convert(value, param, ctx)


class _Finite(click.FloatRange):
    """A number in a range, never NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if number != number:
            self.fail("is not a number", param, ctx)
        return number


FOLDER = _Path(file_okay=False, path_type=Path)
_FILE = _Path(dir_okay=False, path_type=Path)
_SPLIT, _MODEL, _TRAINING = SplitConfig(), ModelConfig(), TrainingConfig()
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")


@contextmanager
def errors_to_exit(extra: str) -> Iterator[None]:
    """Print an error of ours as one message on stderr and exit 1; name a missing extra."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that it lacks is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("c2rec"):
            raise
        missing = MissingExtraError(
            f"{error.name} is not installed; install it with: pip install 'c2rec[{extra}]'"
        )
        click.echo(f"Error: {missing}", err=True)
        sys.exit(1)
    except C2RecError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        what = error.filename or "can't read or write, perhaps standard output"
        click.echo(f"Error: {what}: {error.strerror or error}", err=True)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="c2rec")
def cli() -> None:
    """Train C2Rec on purchases from a store and a web shop."""


def main() -> None:
    """Run the command line."""
    with errors_to_exit("train"):
        cli()


@cli.command()
@click.option("--out", type=FOLDER, required=True, help="Folder to write the dataset to.")
@click.option("--customers", type=click.IntRange(1, 10_000_000), default=2000, help="How many.")
@click.option("--items", type=click.IntRange(20, 1_000_000), default=600, help="How many.")
@click.option("--days", type=click.IntRange(1, 3650), default=60, help="Length of the period.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=1,
    help="The same seed gives the same files.",
)
@click.option("--shuffle-channels", is_flag=True, help="Placebo: permute the channel labels.")
@click.option("--force", is_flag=True, help="Replace a dataset that is there.")
def simulate(
    out: Path,
    customers: int,
    items: int,
    days: int,
    seed: int,
    shuffle_channels: bool,
    force: bool,
) -> None:
    """Make a retailer whose customers' tastes are known.

    Writes transactions.parquet, items.parquet and, beside them, the truth: tastes per customer,
    item vectors, and the weight of shared against channel taste.
    """
    from c2rec.train.simulate import simulate as run

    run(
        out,
        customers=customers,
        items=items,
        days=days,
        seed=seed,
        shuffle_channels=shuffle_channels,
        force=force,
    )
    click.echo(f"{out}: a simulated retailer; next: c2rec-train fit {out} --out RUN")


@cli.command("import-hm")
@click.argument("transactions", type=_FILE)
@click.option("--articles", type=_FILE, required=True, help="articles.csv of the same download.")
@click.option("--out", type=FOLDER, required=True, help="Folder to write the dataset to.")
@click.option(
    "--item",
    type=click.Choice(["product", "article"]),
    default="product",
    help="product: articles that differ in colour or size alone are one item.",
)
@click.option("--force", is_flag=True, help="Replace a dataset that is there.")
def import_hm(transactions: Path, articles: Path, out: Path, item: str, force: bool) -> None:
    """Turn the files of Kaggle's H&M competition into a dataset.

    TRANSACTIONS is transactions_train.csv. Channel 1, the stores, becomes offline and 2 online.
    """
    from c2rec.train.hm import import_hm as run

    run(
        transactions, articles, out, item="product" if item == "product" else "article", force=force
    )
    click.echo(f"{out}: imported; next: c2rec-train fit {out} --out RUN")


@cli.command()
@click.argument("data", type=FOLDER)
@_JSON
def validate(data: Path, as_json: bool) -> None:
    """Check a dataset and report every bad row.

    DATA is a folder with transactions.parquet or .csv and, optionally, items.parquet or .csv.
    Exits 1 if a row is bad.
    """
    from c2rec.train.transactions import find_problems

    problems, facts = find_problems(data)
    if as_json:
        document = {
            "schema": 1,
            "data": str(data),
            "ok": not problems,
            "facts": facts,
            "problems": [asdict(problem) for problem in problems],
        }
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        for problem in problems:
            click.echo(str(problem))
        for name, value in (facts or {}).items():
            click.echo(f"{name.replace('_', ' ')}: {value}")
    if problems:
        if not as_json:
            click.echo(f"Error: {data}: problems found: {len(problems)}", err=True)
        sys.exit(1)


@cli.command()
@click.argument("data", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="Folder of the run.")
@click.option(
    "--valid-days",
    type=click.IntRange(0),
    default=_SPLIT.valid_days,
    help="Days before the test period that decide when to stop; 0 for none.",
)
@click.option(
    "--test-days",
    type=click.IntRange(0),
    default=_SPLIT.test_days,
    help="Last days of the data, kept for evaluate; 0 to train on all.",
)
@click.option(
    "--min-interactions",
    type=click.IntRange(1),
    default=_SPLIT.min_interactions,
    help="Customers and items with fewer training purchases are left out.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=_TRAINING.seed,
    help="Of every random choice.",
)
@click.option(
    "--encoder",
    type=click.Choice(get_args(EncoderName)),
    default=_MODEL.encoder,
    help="history embeds what a customer bought and serves new ones; table learns a row each.",
)
@click.option(
    "--objective",
    type=click.Choice(["auto", *get_args(ObjectiveName)]),
    default=_TRAINING.objective,
    help="auto: softmax up to 20,000 items, sampled-softmax beyond.",
)
@click.option(
    "--embedding-size",
    type=click.IntRange(1, 4096),
    default=_MODEL.embedding_size,
    help="d, of every embedding.",
)
@click.option(
    "--neighbours",
    type=click.IntRange(0, 65_536),
    default=_MODEL.neighbours,
    help="Items in each item's row of the neighbour term, 8 bytes each in a release; 0 for none.",
)
@click.option(
    "--learning-rate",
    type=_Finite(0, 10, min_open=True),
    default=_TRAINING.learning_rate,
    help="Of AdamW.",
)
@click.option(
    "--weight-decay",
    type=_Finite(0, 1000),
    default=_TRAINING.weight_decay,
    help="Of AdamW, on embeddings and matrices.",
)
@click.option(
    "--class-weight",
    type=_Finite(0, 1000),
    default=_TRAINING.class_weight,
    help="Weight of telling apart offline, online and both.",
)
@click.option(
    "--attention-weight",
    type=_Finite(0, 1000),
    default=_TRAINING.attention_weight,
    help="Weight of pulling attention to the component of the channels bought in.",
)
@click.option(
    "--negatives",
    type=click.IntRange(1, 10_000_000),
    default=_TRAINING.negatives,
    help="Items drawn per step, where the objective draws.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=_TRAINING.batch_size, help="Customers per step."
)
@click.option("--epochs", type=click.IntRange(1), default=_TRAINING.epochs, help="At most so many.")
@click.option(
    "--patience",
    type=click.IntRange(1),
    default=_TRAINING.patience,
    help="Stop after so many epochs without a better validation NDCG@10.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=_TRAINING.threads,
    help="CPU threads; another number gives slightly other weights.",
)
@click.option(
    "--refit",
    type=FOLDER,
    metavar="RUN",
    help="Train on all days, for as long and with the options and the blend that RUN found best.",
)
@click.option("--restart", is_flag=True, help="Throw away what RUN holds and begin anew.")
@click.pass_context
def fit(
    context: click.Context,
    data: Path,
    out: Path,
    valid_days: int,
    test_days: int,
    min_interactions: int,
    seed: int,
    encoder: EncoderName,
    objective: ObjectiveChoice,
    embedding_size: int,
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
) -> None:
    """Train C2Rec on a dataset.

    Stopped with Ctrl-C or killed, the same command goes on where it was, and ends with the same
    weights as if it had never stopped.
    """
    # threads that spin at every barrier starve each other where a core is taken by others; has to
    # be said before torch is loaded
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from c2rec.train import loop, run
    from c2rec.train.report import ConsoleReporter
    from c2rec.train.transactions import read_dataset

    dataset = read_dataset(data)
    if refit:
        _refuse_others(context)
        config = run.refit_config(refit, str(data.resolve()), dataset.fingerprint)
    else:
        config = RunConfig(
            data=str(data.resolve()),
            fingerprint=dataset.fingerprint,
            split=SplitConfig(valid_days, test_days, min_interactions),
            model=ModelConfig(
                encoder=encoder, embedding_size=embedding_size, neighbours=neighbours
            ),
            training=TrainingConfig(
                seed=seed,
                objective=objective,
                negatives=negatives,
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
    _open_run(out, config, restart=restart)
    train = prepared.split.train
    click.echo(
        f"{prepared.index.customers} customers, {prepared.index.items} items, "
        f"{len(train.items)} training purchases",
        err=True,
    )
    try:
        with run.only_fit(out):
            reporter = ConsoleReporter(config.training.epochs)
            progress = loop.fit(config, prepared, out, reporter)
    except loop.Interrupted:
        click.echo("\nStopped, and saved; run the same command again to go on.", err=True)
        sys.exit(130)
    click.echo(f"{out}: epoch {progress.best_epoch} of {progress.epoch} is the model")


def _refuse_others(context: click.Context) -> None:
    """Make sure that nothing is asked for that --refit decides."""
    for name in context.params.keys() - {"data", "out", "refit", "restart"}:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} can't go with --refit, which takes it from RUN")


def _open_run(out: Path, config: RunConfig, *, restart: bool) -> None:
    """Make the folder, or make sure that what it holds is this very run."""
    from c2rec.train.run import BEST, CHECKPOINT, MODEL

    if out.exists() and any(path.suffix != ".tmp" for path in out.iterdir()):
        if not (out / CONFIG).exists():
            raise RunError(f"{out}: is not empty and holds no run; choose another --out")
        before = read_config(out)  # never delete, or mix with, what is no run of ours
        if restart:
            for name in (MODEL, BEST, CHECKPOINT, CONFIG):
                (out / name).unlink(missing_ok=True)
        else:
            change = _first_difference(before, replace(config, data=before.data))
            if change and not (out / CHECKPOINT).exists():
                write_config(out, config)  # nothing was trained yet
            elif change:
                raise RunError(
                    f"{out}: holds a run with another {change}; choose another --out, "
                    "or add --restart to throw it away"
                )
            return
    out.mkdir(parents=True, exist_ok=True)
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


@cli.command()
@click.argument("run", type=FOLDER)
@click.option("--data", type=FOLDER, help="Where the dataset is now, if it has moved.")
@click.option("-k", type=click.IntRange(1, 1000), default=10, help="Length of the lists.")
@_JSON
def evaluate(run: Path, data: Path | None, k: int, as_json: bool) -> None:
    """Measure a run on its test period, beside popularity."""
    from c2rec.train.evaluate import evaluate as measure
    from c2rec.train.report import evaluation_text
    from c2rec.train.run import load_run

    evaluation = measure(load_run(run, data), k=k)
    click.echo(json.dumps(evaluation.document()) if as_json else evaluation_text(evaluation))


@cli.command()
@click.argument("data", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="Folder that keeps the results.")
@click.option(
    "--valid-days",
    type=click.IntRange(1),
    default=_SPLIT.valid_days,
    help="Days before each test window that settings are chosen by.",
)
@click.option(
    "--test-days",
    type=click.IntRange(1),
    default=_SPLIT.test_days,
    help="Length of a test window.",
)
@click.option(
    "--min-interactions",
    type=click.IntRange(1),
    default=_SPLIT.min_interactions,
    help="Customers and items with fewer training purchases are left out.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=5,
    help="Train everything that is random with each seed from 1 to this.",
)
@click.option(
    "--rolling",
    type=click.IntRange(1, 1000),
    default=1,
    help="Test windows: the last test days, those before them, and so on.",
)
@click.option("-k", type=click.IntRange(1, 1000), default=10, help="Length of the lists.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Compare with this baseline only; can be given more than once.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=_TRAINING.threads,
    help="CPU threads; another number gives slightly other weights.",
)
@click.option("--restart", is_flag=True, help="Throw away what the folder holds and begin anew.")
@_JSON
def compare(
    data: Path,
    out: Path,
    valid_days: int,
    test_days: int,
    min_interactions: int,
    seeds: int,
    rolling: int,
    k: int,
    models: tuple[str, ...],
    threads: int,
    restart: bool,
    as_json: bool,
) -> None:
    """Measure C2Rec against tuned baselines, over seeds and test windows.

    The settings of each baseline are chosen per channel in the validation days of the oldest
    window. Uplifts come with 95 % intervals over customers. Stopped with Ctrl-C or killed, the
    same command goes on where it was; with more --seeds, --rolling or --model it adds to what the
    folder holds.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in fit
    from c2rec.train import loop
    from c2rec.train.baselines.settings import baselines
    from c2rec.train.compare import compare as measure
    from c2rec.train.report import ComparisonReporter, comparison_text
    from c2rec.train.trained import Variant
    from c2rec.train.transactions import read_dataset

    known = baselines()
    for name in models:
        if name not in known:
            raise click.BadParameter(
                f"{name!r} is no baseline; choose from: {', '.join(known)}", param_hint="'--model'"
            )
    dataset = read_dataset(data)
    config = RunConfig(
        data=str(data.resolve()),
        fingerprint=dataset.fingerprint,
        split=SplitConfig(valid_days, test_days, min_interactions),
        model=ModelConfig(),
        training=TrainingConfig(threads=threads),
    )
    reporter = ComparisonReporter()
    try:
        comparison = measure(
            dataset,
            out,
            [Variant("c2rec", config)],
            {name: each for name, each in known.items() if not models or name in models},
            seeds=seeds,
            rolling=rolling,
            k=k,
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
    click.echo(json.dumps(comparison.document()) if as_json else comparison_text(comparison))


if __name__ == "__main__":
    main()
