"""The commands that make and check a bundle."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from c2rec.train.commands.options import FOLDER, JSON

DATA = click.option("--data", type=FOLDER, help="Where the run's dataset is now, if it moved.")
NEWER = click.option(
    "--newer", type=FOLDER, help="Dataset of purchases since the run's data, of the same items."
)


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="Folder to make.")
@DATA
@NEWER
@click.option(
    "--rules",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A rules.toml for all stores that take the release.",
)
def bundle(
    run: Path, *, out: Path, data: Path | None, newer: Path | None, rules: Path | None
) -> None:
    """Write the bundle of a run, check it, and keep it only if the check holds.

    The bundle knows all purchases in the run's data, those of the test period too, and with --newer
    those since: published, it moves only what changed to a kiosk that has the run's last one.
    """
    from c2rec.export.bundle import with_newer, write_bundle
    from c2rec.export.check import check_bundle
    from c2rec.export.rules import rules_of
    from c2rec.train.run import load_run

    fitted = load_run(run, data)
    sent = None if rules is None else rules_of(rules, fitted)
    known = with_newer(fitted, newer)
    manifest = write_bundle(
        fitted,
        out,
        data=known,
        rules=None if sent is None else sent.text,
        check=lambda folder: check_bundle(folder, fitted, known),
    )
    counts = manifest.counts
    click.echo(
        f"{out}: release {manifest.release}, {counts.items} items, {counts.customers} customers, "
        f"{manifest.bytes / 1e6:.1f} MB; checked against {run}"
    )
    if sent is not None and sent.unknown_items:
        click.echo(f"Note: items that {rules} names and the run doesn't know: {sent.unknown_items}")


@click.command()
@click.argument("folder", metavar="BUNDLE", type=FOLDER)
@click.option("--against", type=FOLDER, metavar="RUN", help="Compare with the run it was made of.")
@DATA
@NEWER
@JSON
def check(
    folder: Path,
    against: Path | None,
    data: Path | None,
    newer: Path | None,
    as_json: bool,
) -> None:
    """Check a bundle: digests, shapes, values, graphs, golden answers, and parity with PyTorch.

    Exits 1 at the first thing that doesn't hold.
    """
    from c2rec.export.bundle import with_newer
    from c2rec.export.check import check_bundle
    from c2rec.train.run import load_run

    run = load_run(against, data) if against else None
    checked = check_bundle(folder, run, with_newer(run, newer) if run else None)
    manifest, parity = checked.manifest, checked.parity
    if as_json:
        document = {
            "schema": 1,
            "ok": True,
            "release": manifest.release,
            "files": len(manifest.files),
            "golden": checked.golden,
            "parity": None if parity is None else asdict(parity),
        }
        click.echo(json.dumps(document))
        return
    click.echo(
        f"release {manifest.release}: {len(manifest.files)} files are what the manifest says"
    )
    click.echo(f"golden answers of {checked.golden} customers in both channels are reproduced")
    if parity is not None:
        click.echo(
            f"{parity.requests} random requests: scores differ from PyTorch's by at most "
            f"{parity.score_difference:.1e}, attention by {parity.attention_difference:.1e}, "
            f"components by {parity.encoder_difference:.1e}; every top 10 is the same"
            + (f" ({parity.ties} but for ties)" if parity.ties else "")
        )
