"""The command that measures a run."""

import json
from pathlib import Path

import click

from c2rec.train.commands.options import FOLDER, JSON


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--data", type=FOLDER, help="Where the dataset is now, if it has moved.")
@click.option("-k", type=click.IntRange(1, 1000), default=10, help="Length of the lists.")
@JSON
def evaluate(run: Path, data: Path | None, k: int, as_json: bool) -> None:
    """Measure a run on its test period, beside popularity."""
    from c2rec.train.evaluate import evaluate as measure
    from c2rec.train.report import evaluation_text
    from c2rec.train.run import load_run

    evaluation = measure(load_run(run, data), k=k)
    click.echo(json.dumps(evaluation.document()) if as_json else evaluation_text(evaluation))
