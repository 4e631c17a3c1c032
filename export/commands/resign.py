"""The command that keeps signatures alive."""

import json
import sys
from pathlib import Path

import click

from c2rec.export.commands.options import REPO, keys_options, open_keys
from c2rec.train.commands.options import JSON


@click.command()
@REPO
@keys_options
@JSON
def resign(repo: str, keys_folder: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Sign timestamp and snapshot anew, and what nears its end where its key is at hand.

    Run it once a day. Exits 1 when something nears its end and its key isn't there; what could be
    signed is.
    """
    from c2rec.export.signed import open_repository
    from c2rec.export.upkeep import renew_offline
    from c2rec.export.upkeep import resign as resign_roles

    keys = open_keys(keys_folder, passphrase_file)
    with open_repository(repo, keys):
        left = renew_offline(keys, lambda text: click.echo(text, err=True))
    with open_repository(repo, keys) as repository:
        signed, more = resign_roles(repository)
    left += more
    if as_json:
        click.echo(json.dumps({"schema": 1, "signed": signed, "left": left}))
    else:
        click.echo(f"{repo}: signed {', '.join(signed)} anew")
    if left:
        click.echo(
            f"these near their end, and their key isn't in {keys_folder}: {', '.join(left)}; bring "
            "it, and run this again",
            err=True,
        )
        sys.exit(1)
