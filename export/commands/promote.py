"""The command that lets a ring take a release."""

import json
from pathlib import Path

import click

from c2rec.export.commands.options import FLOOR, REPO, SEQ, keys_options, open_keys, option_errors
from c2rec.train.commands.options import JSON


@click.command()
@REPO
@click.argument("seq", type=SEQ)
@click.option("--ring", required=True, help="Which kiosks take it.")
@click.option("--waves", default="", help="When which share of them may install, as in publish.")
@FLOOR
@click.option(
    "--forget-floor",
    is_flag=True,
    help="Begin with a new floor: only after the channel's key was stolen, and is another now.",
)
@keys_options
@JSON
def promote(
    repo: str,
    seq: int,
    ring: str,
    waves: str,
    floor: int | None,
    forget_floor: bool,
    keys_folder: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Let a ring take a release that is published already, a newer or an older one."""
    from c2rec.export.publish import promote_release
    from c2rec.export.rings import parse_waves, ring_target
    from c2rec.export.signed import open_repository

    with option_errors():
        ring_target(ring)
        parsed = parse_waves(waves)
    with open_repository(repo, open_keys(keys_folder, passphrase_file)) as repository:
        moved = promote_release(
            repository,
            seq,
            ring,
            waves=parsed,
            floor=floor,
            forget_floor=forget_floor,
        )
        repository.commit()
    if as_json:
        click.echo(json.dumps({"schema": 1, "ring": json.loads(moved.ring.to_json())}))
        return
    before = "nothing" if moved.before is None else moved.before.seq
    click.echo(f"ring {ring}: release {seq}, before {before}; floor {moved.ring.floor}")
