"""The command that tells the kiosk's state to Prometheus."""

from pathlib import Path

import click

from c2rec.store_kiosk.commands.options import NonEmptyPath


@click.command()
@click.option(
    "--textfile",
    type=NonEmptyPath(dir_okay=False, path_type=Path),
    help="Write them to this file, whole or not at all, for node_exporter's textfile collector, "
    "which reads *.prom.",
)
@click.option(
    "--doctor/--no-doctor",
    default=True,
    show_default=True,
    help="Whether to tell the doctor's verdicts, which takes reading every byte of the releases.",
)
@click.pass_obj
def metrics(home: Path, *, textfile: Path | None, doctor: bool) -> None:
    """Print this kiosk's state as Prometheus metrics; no server has to run.

    Changes nothing in the home. `serve` tells the same, and what it counts, at /metrics.
    """
    if textfile is not None and textfile.suffix != ".prom":
        raise click.BadParameter(
            f"{textfile} is read by nobody; allowed: a name that ends in .prom",
            param_hint="--textfile",
        )
    from c2rec.runtime.home.disk import home_errors, write_whole
    from c2rec.store_kiosk.metrics import HomeCollector, text_of

    text = text_of(HomeCollector(home, doctor=doctor))
    if textfile is None:
        click.echo(text, nl=False)
        return
    with home_errors(f"can't write {textfile}"):
        write_whole(textfile, text.encode())
