"""The command that publishes."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from c2rec.export.commands.options import FLOOR, REPO, SEQ, keys_options, open_keys, option_errors
from c2rec.train.commands.options import FOLDER, JSON


@click.command()
@click.argument("folder", metavar="BUNDLE", type=FOLDER)
@REPO
@keys_options
@click.option("--ring", default="stable", help="Which kiosks take it; stable unless told.")
@click.option(
    "--waves",
    default="",
    help="When which share of them may install: 2026-12-01T06:00:00Z=0.01,2026-12-02T06:00:00Z=1",
)
@FLOOR
@click.option("--min-runtime", help="The least version of c2rec that can serve it.")
@click.option("--seq", type=SEQ, help="Its number; otherwise the next one.")
@click.option(
    "--visitors/--no-visitors",
    default=True,
    help="Whether a store may serve customers who never bought there, from the repository.",
)
@click.option("--again", is_flag=True, help="Publish a bundle that is published already.")
@JSON
def publish(
    folder: Path,
    repo: str,
    keys_folder: Path,
    passphrase_file: Path | None,
    ring: str,
    waves: str,
    floor: int | None,
    min_runtime: str | None,
    seq: int | None,
    visitors: bool,
    again: bool,
    as_json: bool,
) -> None:
    """Check a bundle, cut it into what kiosks fetch, sign it, and let a ring take it.

    REPO is a folder, or a URL such as s3://bucket/prefix, which needs the extra bucket. Ended at
    any moment, it leaves what kiosks read as it was; run it again.
    """
    from c2rec.export.publish import OLDEST_RUNTIME, check_version
    from c2rec.export.publish import publish as publish_bundle
    from c2rec.export.rings import parse_waves, ring_target

    with option_errors():
        ring_target(ring)
        parsed = parse_waves(waves)
        least = OLDEST_RUNTIME if min_runtime is None else min_runtime
        check_version(least)
    done = publish_bundle(
        folder,
        repo,
        open_keys(keys_folder, passphrase_file),
        ring=ring,
        waves=parsed,
        floor=floor,
        min_runtime=least,
        seq=seq,
        visitors=visitors,
        again=again,
        report=lambda text: click.echo(text, err=True),
    )
    if as_json:
        click.echo(json.dumps({"schema": 1, **asdict(done)}))
        return
    click.echo(
        f"{repo}: release {done.release} is {done.seq} in ring {done.ring}: {done.customers} "
        f"customers, {done.shards} shards of {done.stores} stores, {done.deltas} deltas; wrote "
        f"{done.blobs_written} blobs, {done.bytes_written / 1e6:.1f} MB"
    )
