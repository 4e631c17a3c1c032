"""The command that compares C2Rec with baselines."""

import json
import os
import sys
from pathlib import Path

import click

from c2rec.runtime.errors import DataError
from c2rec.train.commands.options import (
    FOLDER,
    HTML,
    JSON,
    MIN_INTERACTIONS,
    SPLIT,
    THREADS,
)
from c2rec.train.config import ModelConfig, RunConfig, SplitConfig, TrainingConfig


@click.command()
@click.argument("data", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="Folder that keeps the results.")
@click.option(
    "--valid-days",
    type=click.IntRange(1),
    default=SPLIT.valid_days,
    help="Days before each test window that settings are chosen by.",
)
@click.option(
    "--test-days",
    type=click.IntRange(1),
    default=SPLIT.test_days,
    help="Length of a test window.",
)
@MIN_INTERACTIONS
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
    "--ablations", is_flag=True, help="Also train C2Rec with single parts taken out or exchanged."
)
@click.option(
    "--whole",
    is_flag=True,
    help="Measure everybody and the whole catalogue, new customers and new items included; can "
    "be measured into the same folder.",
)
@click.option(
    "--refit/--no-refit",
    default=True,
    help="Train everything again on the validation days too, with what they chose, before it is "
    "measured, as what is published is (the default); both can be measured into one folder.",
)
@THREADS
@click.option("--restart", is_flag=True, help="Throw away what the folder holds and begin anew.")
@HTML
@JSON
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
    ablations: bool,
    whole: bool,
    refit: bool,
    threads: int,
    restart: bool,
    html: Path | None,
    as_json: bool,
) -> None:
    """Measure C2Rec against tuned baselines, over seeds and test windows.

    The settings of each baseline are chosen per channel in the validation days of the oldest
    window; then all are trained again, on those days too. Uplifts come with 95 % intervals over
    customers. Stopped with Ctrl-C or killed, the same command goes on where it was; with more
    --seeds, --rolling or --model it adds to what the folder holds.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in fit
    from c2rec.train import loop
    from c2rec.train.ablations import ablations as variants_of
    from c2rec.train.baselines.settings import baselines
    from c2rec.train.compare import compare as measure
    from c2rec.train.report import ComparisonReporter, comparison_text
    from c2rec.train.trained import Variant
    from c2rec.train.transactions import read_dataset

    if html:
        from c2rec.train.pages.comparison import write_comparison
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
    # a table of customers can't rank for anybody else
    others = [
        each
        for each in (variants_of(config) if ablations else ())
        if not whole or each.config.model.encoder == "history"
    ]
    reporter = ComparisonReporter()
    try:
        comparison = measure(
            dataset,
            out,
            [Variant("c2rec", config), *others],
            {name: each for name, each in known.items() if not models or name in models},
            seeds=seeds,
            rolling=rolling,
            k=k,
            restart=restart,
            reporter=reporter,
            whole=whole,
            refit=refit,
        )
    except DataError as error:
        raise DataError(f"{data}: {error}") from error
    except (KeyboardInterrupt, loop.Interrupted):
        reporter.clear()
        click.echo("Stopped; run the same command again to go on.", err=True)
        sys.exit(130)
    finally:
        reporter.clear()
    if html:
        write_comparison(html, comparison, dataset, config)
        click.echo(f"{html}: written", err=True)
    click.echo(json.dumps(comparison.document()) if as_json else comparison_text(comparison))
