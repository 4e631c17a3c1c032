"""The command that stops a rollout."""

import json
from pathlib import Path

import click

from c2rec.export.commands.options import REPO, keys_options, open_keys
from c2rec.train.commands.options import JSON


@click.command()
@REPO
@click.argument("ring")
@click.option("--resume", is_flag=True, help="Let kiosks install again.")
@keys_options
@JSON
def halt(
    repo: str,
    ring: str,
    resume: bool,
    keys_folder: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Let nobody begin to install a ring's release.

    Kiosks that have installed it keep it; to bring them back: c2rec-export promote an older one.
    """
    from c2rec.export.rings import halt_ring
    from c2rec.export.signed import open_repository

    with open_repository(repo, open_keys(keys_folder, passphrase_file)) as repository:
        moved = halt_ring(repository, ring, halt=not resume)
        repository.commit()
    if as_json:
        click.echo(json.dumps({"schema": 1, "ring": json.loads(moved.ring.to_json())}))
        return
    what = "may be installed again" if resume else "is halted: nobody begins to install it"
    click.echo(f"ring {ring}: release {moved.ring.seq} {what}")
