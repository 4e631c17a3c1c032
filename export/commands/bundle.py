"""The commands that make and check a bundle."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from c2rec.train.commands.options import FOLDER, JSON

if TYPE_CHECKING:
    from c2rec.export.parity import Parity

POPULAR = "popular"
"""In the place of a run: an arm that is shown what sells."""

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
@click.option("--experiment", metavar="NAME", help="Experiment that the release carries.")
@click.option(
    "--arm",
    "arms",
    multiple=True,
    metavar="NAME=RUN|popular",
    help="An arm beside `main`: a run of the same items, or `popular` for what sells; repeatable.",
)
@click.option(
    "--share",
    "shares",
    multiple=True,
    metavar="NAME=SHARE",
    help="Share of the customers, 0 to 1, once for each arm; `main` gets the rest.",
)
def bundle(
    run: Path,
    *,
    out: Path,
    data: Path | None,
    newer: Path | None,
    rules: Path | None,
    experiment: str | None,
    arms: tuple[str, ...],
    shares: tuple[str, ...],
) -> None:
    """Write the bundle of a run, check it, and keep it only if the check holds.

    The bundle knows all purchases in the run's data, those of the test period too, and with --newer
    those since: published, it moves only what changed to a kiosk that has the run's last one.

    With --experiment, customers are divided among `main`, which is RUN, and the arms.
    """
    places, parts = _named("--arm", arms), _parts(shares)
    if (experiment is None) != (not places) or places.keys() != parts.keys():
        raise click.UsageError(
            "an experiment takes --experiment NAME, and for each arm --arm NAME=RUN|popular and "
            f"--share NAME=SHARE; given: --experiment {experiment or 'not'}, --arm for "
            f"{', '.join(places) or 'none'}, --share for {', '.join(parts) or 'none'}"
        )
    from c2rec.export.arms import PlannedArm, plan_experiment
    from c2rec.export.bundle import with_newer, write_bundle
    from c2rec.export.check import check_bundle
    from c2rec.export.rules import rules_of
    from c2rec.train.run import load_run

    fitted = load_run(run, data)
    sent = None if rules is None else rules_of(rules, fitted)
    known = with_newer(fitted, newer)
    own = {name: Path(place) for name, place in places.items() if place != POPULAR}
    runs = {name: load_run(folder, data) for name, folder in own.items()}
    further = None
    if experiment is not None:
        planned = [PlannedArm(name, parts[name], runs.get(name)) for name in places]
        further = plan_experiment(experiment, planned, fitted, known)
    manifest = write_bundle(
        fitted,
        out,
        data=known,
        rules=None if sent is None else sent.text,
        further=further,
        check=lambda folder: check_bundle(folder, fitted, known, arms=runs),
    )
    counts, against = manifest.counts, ", ".join(map(str, [run, *own.values()]))
    click.echo(
        f"{out}: release {manifest.release}, {counts.items} items, {counts.customers} customers, "
        f"{manifest.bytes / 1e6:.1f} MB; checked against {against}"
    )
    if sent is not None and sent.unknown_items:
        click.echo(f"Note: items that {rules} names and the run doesn't know: {sent.unknown_items}")
    if manifest.experiment is not None:
        listed = [f"{arm.name} {100 * arm.share:g} %" for arm in manifest.experiment.arms]
        click.echo(f"experiment {manifest.experiment.name}: {', '.join(listed)}")


@click.command()
@click.argument("folder", metavar="BUNDLE", type=FOLDER)
@click.option("--against", type=FOLDER, metavar="RUN", help="Compare with the run it was made of.")
@click.option(
    "--arm",
    "arms",
    multiple=True,
    metavar="NAME=RUN",
    help="Compare an arm's own model with its run too; repeatable.",
)
@DATA
@NEWER
@JSON
def check(
    folder: Path,
    *,
    against: Path | None,
    arms: tuple[str, ...],
    data: Path | None,
    newer: Path | None,
    as_json: bool,
) -> None:
    """Check a bundle: digests, shapes, values, graphs, golden answers, and parity with PyTorch.

    So it is with each arm's own model. Exits 1 at the first thing that doesn't hold.
    """
    places = _named("--arm", arms)
    if places and against is None:
        raise click.UsageError("--arm compares with an arm's run; give --against RUN too")
    from c2rec.export.bundle import with_newer
    from c2rec.export.check import check_bundle
    from c2rec.train.run import load_run

    run = load_run(against, data) if against else None
    runs = {name: load_run(Path(place), data) for name, place in places.items()}
    checked = check_bundle(folder, run, with_newer(run, newer) if run else None, arms=runs)
    manifest, parity = checked.manifest, checked.parity
    if as_json:
        document = {
            "schema": 1,
            "ok": True,
            "release": manifest.release,
            "files": len(manifest.files),
            "golden": checked.golden,
            "parity": None if parity is None else asdict(parity),
            "experiment": None if manifest.experiment is None else manifest.experiment.name,
            "arms": {name: asdict(arm) for name, arm in checked.arms.items()},
        }
        click.echo(json.dumps(document))
        return
    click.echo(
        f"release {manifest.release}: {len(manifest.files)} files are what the manifest says"
    )
    for line in _told(checked.golden, parity):
        click.echo(line)
    for name, arm in checked.arms.items():
        for line in _told(arm.golden, arm.parity):
            click.echo(f"arm {name}: {line}")


def _told(golden: int, parity: "Parity | None") -> list[str]:
    """Say what the check of a model saw."""
    lines = [f"golden answers of {golden} customers in both channels are reproduced"]
    if parity is not None:
        lines.append(
            f"{parity.requests} random requests: scores differ from PyTorch's by at most "
            f"{parity.score_difference:.1e}, attention by {parity.attention_difference:.1e}, "
            f"components by {parity.encoder_difference:.1e}; every top 10 is the same"
            + (f" ({parity.ties} but for ties)" if parity.ties else "")
        )
    return lines


def _named(option: str, values: Sequence[str]) -> dict[str, str]:
    """Read ``NAME=VALUE``, each name once."""
    found: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not equals or not name or not rest:
            raise click.BadParameter(f"{value!r}; allowed: NAME=VALUE", param_hint=option)
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice", param_hint=option)
        found[name] = rest
    return found


def _parts(values: Sequence[str]) -> dict[str, float]:
    found = {}
    for name, text in _named("--share", values).items():
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = math.nan
        if not 0 < found[name] < 1:  # NaN is refused here
            raise click.BadParameter(
                f"{name}={text}; allowed: a number between 0 and 1", param_hint="--share"
            )
    return found
