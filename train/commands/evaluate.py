"""The command that measures a run."""

import json
from pathlib import Path

import click

from c2rec.train.commands.options import FOLDER, HTML, JSON


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--data", type=FOLDER, help="Where the dataset is now, if it has moved.")
@click.option("-k", type=click.IntRange(1, 1000), default=10, help="Length of the lists.")
@HTML
@JSON
def evaluate(run: Path, data: Path | None, k: int, html: Path | None, as_json: bool) -> None:
    """Measure a run on its test period, beside popularity, and diagnose it.

    The diagnosis warns of one channel weak, new items out of reach, and the same list in both
    channels, and says what to do.
    """
    from c2rec.train.evaluate import evaluate as measure
    from c2rec.train.report import evaluation_text
    from c2rec.train.run import load_run

    if html:
        from c2rec.train.pages.evaluation import write_evaluation
    fitted = load_run(run, data)
    evaluation = measure(fitted, k=k)
    if html:
        write_evaluation(html, fitted, evaluation)
        click.echo(f"{html}: written", err=True)
    click.echo(json.dumps(evaluation.document()) if as_json else evaluation_text(evaluation))
