"""The command that removes what nobody needs."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from c2rec.export.commands.options import REPO, keys_options, open_keys
from c2rec.train.commands.options import JSON


@click.command("collect-garbage")
@REPO
@click.option(
    "--grace-days",
    type=click.FloatRange(0),
    default=7.0,
    help="Keep what was replaced for so long, 7 unless told: a kiosk may be fetching it.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@keys_options
@JSON
def collect_garbage(
    repo: str,
    grace_days: float,
    dry_run: bool,
    keys_folder: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Remove blobs, targets and metadata that nothing reachable refers to.

    Versions of the root stay for ever: a kiosk follows them one by one.
    """
    from c2rec.export.garbage import collect_garbage as collect
    from c2rec.export.signed import open_repository

    with open_repository(repo, open_keys(keys_folder, passphrase_file)) as repository:
        done = collect(repository, grace_days=grace_days, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"schema": 1, "dry_run": dry_run, **asdict(done)}))
        return
    what = "would remove" if dry_run else "removed"
    click.echo(
        f"{repo}: {what} {done.files} files, {done.bytes / 1e6:.1f} MB; {done.kept_files} files, "
        f"{done.kept_bytes / 1e6:.1f} MB stay"
    )
