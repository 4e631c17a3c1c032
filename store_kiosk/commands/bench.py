"""The command that measures this machine."""

from pathlib import Path

import click

from c2rec.store_kiosk.commands.options import JSON, echo_json, progress_line
from c2rec.store_kiosk.render import bench_text


@click.command()
@click.option(
    "--items",
    type=click.IntRange(1, 10_000_000),
    help="Measure a random catalogue of so many items; no release has to be installed.",
)
@click.option(
    "--dim",
    type=click.IntRange(1, 4096),
    help="Embedding size of the random catalogue; default: 64.",
)
@click.option("--flat", is_flag=True, help="A random catalogue in which no item sells far more.")
@click.option(
    "--uncorrelated",
    is_flag=True,
    help="A random catalogue whose customers' tastes in the two channels have nothing in common.",
)
@click.option(
    "-k", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many items."
)
@click.option(
    "--requests",
    type=click.IntRange(1, 100_000),
    default=300,
    show_default=True,
    help="How many requests the engine is timed on.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of the customers drawn, or of the random catalogue.",
)
@JSON
@click.pass_obj
def bench(
    home: Path,
    *,
    items: int | None,
    dim: int | None,
    flat: bool,
    uncorrelated: bool,
    k: int,
    requests: int,
    seed: int,
    as_json: bool,
) -> None:
    """Measure on this machine how the installed release finds the best items.

    It is compared with scoring every item by the release's graph, and by PyTorch where that is
    installed, and with reading memory. Customers are drawn at random from the release. With
    --items, neither a release nor --home is needed. It takes a quarter of a minute, more with
    millions of items, and nothing is written.
    """
    given = {"--dim": dim is not None, "--flat": flat, "--uncorrelated": uncorrelated}
    if items is None and (lone := [name for name, there in given.items() if there]):
        raise click.UsageError(
            f"{lone[0]} is about a random catalogue, and the installed release was asked for; "
            "add --items, as in --items 10000"
        )
    from c2rec.store_kiosk.bench import bench_random, bench_release

    progress = progress_line()
    try:
        if items is None:
            document = bench_release(home, k=k, requests=requests, seed=seed, report=progress)
        else:
            document = bench_random(
                items,
                dim or 64,
                flat=flat,
                uncorrelated=uncorrelated,
                k=k,
                requests=requests,
                seed=seed,
                report=progress,
            )
    finally:
        progress("")
    if as_json:
        echo_json(document)
    else:
        click.echo(bench_text(document))
    if not document["exact"]:
        raise click.ClickException(
            "the engine did not find what the graph ranks first; please report it, with the output "
            "of the same command and --json"
        )
