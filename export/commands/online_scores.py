"""The command that publishes online scores."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from c2rec.export.commands.options import REPO, keys_options, open_keys
from c2rec.runtime.records import CHANNELS
from c2rec.train.commands.options import FILE, FOLDER, JSON, Finite, NonEmptyPath

if TYPE_CHECKING:
    from c2rec.export.online_scores import MadeLists
    from c2rec.runtime.records import Channel

_HOURS = Finite(0.01, 24 * 366)


@click.command("online-scores")
@click.argument("source", metavar="RUN|FILE", type=NonEmptyPath(exists=True, path_type=Path))
@REPO
@keys_options
@click.option("--data", type=FOLDER, help="Where the run's dataset is now, if it moved.")
@click.option("--newer", type=FOLDER, help="Dataset of purchases since the run's data.")
@click.option(
    "--channel",
    type=click.Choice(CHANNELS),
    help="With RUN: where the lists' items are bought; default: offline, in the store.",
)
@click.option("--bought", type=FILE, help="With FILE: what was bought online of late.")
@click.option("--stores", type=FOLDER, help="With FILE: a bundle that knows customers' stores.")
@click.option("--model", help="With FILE: what made the lists, for people to read.")
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ"]),
    help="Up to when the lists know what was done online, UTC, where FILE doesn't say it.",
)
@click.option("--top", type=click.IntRange(1, 1000), default=100, help="Items of a list.")
@click.option("--half-life", type=_HOURS, default=24, help="Hours after which it weighs half.")
@click.option("--ttl", type=_HOURS, default=72, help="Hours after which it weighs nothing.")
@JSON
def online_scores(
    source: Path,
    repo: str,
    keys_folder: Path,
    passphrase_file: Path | None,
    data: Path | None,
    newer: Path | None,
    channel: "Channel | None",
    bought: Path | None,
    stores: Path | None,
    model: str | None,
    as_of: datetime | None,
    top: int,
    half_life: float,
    ttl: float,
    as_json: bool,
) -> None:
    """Publish what is known online of each customer, for stores to take into account.

    From a RUN, whose model ranks what the customer may buy in the store, knowing what they bought
    since the release; or from a FILE, Parquet or CSV, that another online platform wrote:
    customer_id, item_id, rank or probability, and optionally store_id and as_of.
    """
    from c2rec.export.online_run import lists_of_run
    from c2rec.export.online_scores import publish_scores
    from c2rec.export.signed import open_repository

    def report(text: str) -> None:
        click.echo(text, err=True)

    if source.is_dir():
        lone = {"--bought": bought, "--stores": stores, "--model": model, "--as-of": as_of}
        _refuse(lone, "a FILE")
        from c2rec.train.run import load_run

        made = lists_of_run(
            load_run(source, data),
            top=top,
            newer=newer,
            channel=channel or CHANNELS[0],
            report=report,
        )
    else:
        _refuse({"--data": data, "--newer": newer, "--channel": channel}, "a RUN")
        made = _of_table(source, bought, stores, model, as_of, top)
    about = replace(made.about, half_life_hours=half_life, ttl_hours=ttl)
    made = replace(made, about=about)
    keys = open_keys(keys_folder, passphrase_file)
    with open_repository(repo, keys) as repository:
        done = publish_scores(repository, keys, made, report=report)
        repository.commit()
    ends = about.as_of + timedelta(hours=ttl)
    if ends < datetime.now(UTC):
        click.echo(
            f"Warning: kiosks leave these scores out: they know what was done up to "
            f"{about.as_of:%Y-%m-%d %H:%M} UTC, and count for {ttl:g} hours; publish newer ones, "
            "or with a longer --ttl",
            err=True,
        )
    if as_json:
        click.echo(json.dumps({"schema": 1, **asdict(done)}))
        return
    click.echo(
        f"{repo}: online scores {done.seq}: {done.customers} customers, {done.left_out} left out, "
        f"{done.shards} shards of {done.stores} stores; wrote {done.blobs_written} blobs, "
        f"{done.bytes_written / 1e6:.1f} MB"
    )


def _of_table(
    file: Path,
    bought: Path | None,
    stores: Path | None,
    model: str | None,
    as_of: datetime | None,
    top: int,
) -> "MadeLists":
    from c2rec.export.online_scores import About, MadeLists
    from c2rec.export.online_table import lists_of_table
    from c2rec.runtime.release.bundle import read_bundle

    known = None if stores is None else read_bundle(stores)
    table = lists_of_table(file, top=top, bought=bought, stores=known)
    when = table.as_of if as_of is None else as_of.replace(tzinfo=UTC)
    if when is None:
        raise click.UsageError(f"{file} has no column as_of; say it with --as-of")
    return MadeLists(
        table.lists, About(model or file.name, None, CHANNELS[1], when.replace(microsecond=0))
    )


def _refuse(options: Mapping[str, object], needed: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise click.UsageError(f"{name} is for {needed}")
