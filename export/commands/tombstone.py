"""The command that erases customers."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from c2rec.export.commands.options import REPO, keys_options, open_keys
from c2rec.train.commands.options import FILE, JSON


@click.command()
@REPO
@click.argument("customers", metavar="CUSTOMER...", nargs=-1)
@click.option("--file", type=FILE, help="File with one customer id a line.")
@keys_options
@JSON
def tombstone(
    repo: str,
    customers: tuple[str, ...],
    file: Path | None,
    keys_folder: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Erase customers: every kiosk forgets them, and no release will hold them again.

    Only what stands for them, made with customer.key, is published. What older releases hold of
    them goes with the next publish --again and, later, collect-garbage.
    """
    from c2rec.export.signed import open_repository
    from c2rec.export.tombstones import add_tombstones, read_ids

    ids = [*customers, *(read_ids(file) if file else [])]
    if not ids:
        raise click.UsageError("name at least one CUSTOMER, or give --file")
    keys = open_keys(keys_folder, passphrase_file)
    with open_repository(repo, keys) as repository:
        done = add_tombstones(repository, keys, ids)
        repository.commit()
    if as_json:
        click.echo(json.dumps({"schema": 1, **asdict(done)}))
        return
    click.echo(f"{repo}: {done.added} more customers are erased, {done.total} in all")
