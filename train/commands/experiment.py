"""The command that tells what an experiment in stores shows."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from c2rec.train.commands.options import FOLDER, JSON, Finite
from c2rec.train.experiment_metrics import METRICS, Windows


def _shares(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, float] | None:
    """Read ARM=SHARE; an arm may have = in its name."""
    shares: dict[str, float] = {}
    for value in values:
        arm, _, number = value.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not arm or not 0 < share < 1:  # NaN is refused here
            raise click.BadParameter(
                f"{value!r} is no share; allowed: ARM=SHARE with a share between 0 and 1, such as "
                "main=0.5"
            )
        if arm in shares:
            raise click.BadParameter(f"{arm!r} has two shares; say each arm once")
        shares[arm] = share
    return shares or None


@click.command()
@click.argument("collected", type=FOLDER)
@click.option(
    "--data",
    type=FOLDER,
    help="A dataset with purchases of both channels, by the customer ids of COLLECTED.",
)
@click.option("--name", metavar="EXPERIMENT", help="Which one, where events tell of several.")
@click.option(
    "--control",
    metavar="ARM",
    default="main",
    help="What the others are compared with; main is the release's own model.",
)
@click.option(
    "--share",
    "shares",
    multiple=True,
    metavar="ARM=SHARE",
    callback=_shares,
    help="Share of the customers that an arm has, such as main=0.9; say it for each arm where "
    "they are not equal.",
)
@click.option(
    "--primary",
    type=click.Choice(METRICS),
    default="conversion",
    help="The metric that decides; the others are told beside it.",
)
@click.option(
    "--effect",
    type=Finite(0.001, 10),
    default=0.1,
    help="The smallest change worth finding: 0.1 is a tenth more than the control has, or less. "
    "Half of it needs four times as many customers.",
)
@click.option(
    "--power",
    type=Finite(0.5, 0.999),
    default=0.8,
    help="Chance to find such a change where there is one.",
)
@click.option(
    "--alpha",
    type=Finite(0.0001, 0.2),
    default=0.05,
    help="Chance to find one where there is none.",
)
@click.option(
    "--baseline",
    type=Finite(0, 1, min_open=True, max_open=True),
    help="The control's share, known from before; without, it is taken from all arms together.",
)
@click.option(
    "--attribution-hours",
    type=click.IntRange(1, 8760),
    default=24,
    help="How long after they were first shown something a purchase in the store counts.",
)
@click.option(
    "--follow-days",
    type=click.IntRange(2, 730),
    default=28,
    help="How long after that a purchase online counts, and coming back.",
)
@JSON
def experiment(
    collected: Path,
    data: Path | None,
    name: str | None,
    control: str,
    shares: dict[str, float] | None,
    primary: str,
    effect: float,
    power: float,
    alpha: float,
    baseline: float | None,
    attribution_hours: int,
    follow_days: int,
    as_json: bool,
) -> None:
    """Tell what an experiment in stores shows, or that it is too early to say.

    COLLECTED is the folder that c2rec-export collect wrote. Customers are compared, by the arm
    that they were shown: how many bought it, bought it online, and came back. Nothing is concluded
    until as many customers were followed as --effect needs, and then those decide, once: looking
    every day does no harm. Choose --effect and --primary before the experiment begins.
    """
    from c2rec.train.experiment import judge
    from c2rec.train.experiment_events import read_both_channels, read_events, read_purchases
    from c2rec.train.experiment_outcomes import outcomes
    from c2rec.train.experiment_size import Plan
    from c2rec.train.experiment_text import experiment_document, experiment_text

    if baseline is not None and baseline * (1 + effect) >= 1:
        raise click.BadParameter(
            f"{effect:g} more than --baseline {baseline:g} is more than everybody; allowed: less "
            f"than {1 / baseline - 1:g}",
            param_hint="'--effect'",
        )
    now = datetime.now(UTC)
    events = read_events(collected, now, name)
    bought = read_purchases(collected)
    dataset = None if data is None else read_both_channels(data, now)
    windows = Windows(timedelta(hours=attribution_hours), timedelta(days=follow_days))
    plan = Plan(control, shares, primary, effect, power, alpha, baseline)
    found = judge(outcomes(events, bought, dataset, windows), windows, plan)
    if as_json:
        click.echo(json.dumps(experiment_document(found, events, collected), ensure_ascii=False))
    else:
        click.echo(experiment_text(found, events))


@click.command("simulate-experiment")
@click.option("--out", type=FOLDER, required=True, help="Folder for collected/ and data/.")
@click.option("--customers", type=click.IntRange(1, 10_000_000), default=20_000, help="How many.")
@click.option("--days", type=click.IntRange(1, 3650), default=60, help="Length of the period.")
@click.option(
    "--effect",
    type=Finite(-1, 10),
    default=0.2,
    help="How many more customers buy in the arm challenger, relative; 0 for an A/A test.",
)
@click.option(
    "--baseline", type=Finite(0, 1), default=0.1, help="Share of customers who buy in the arm main."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=1,
    help="The same seed gives the same files.",
)
@click.option("--force", is_flag=True, help="Replace what is there.")
def simulate_experiment(
    out: Path,
    customers: int,
    days: int,
    effect: float,
    baseline: float,
    seed: int,
    force: bool,
) -> None:
    """Make an experiment in stores whose effect is known.

    Writes OUT/collected, as c2rec-export collect would, and OUT/data, purchases of both channels.
    """
    from c2rec.train.experiment_simulation import simulate_experiment as run

    run(
        out,
        customers=customers,
        days=days,
        effect=effect,
        baseline=baseline,
        seed=seed,
        force=force,
    )
    click.echo(
        f"{out}: a simulated experiment; next: "
        f"c2rec-train experiment {out / 'collected'} --data {out / 'data'} --effect 0.2"
    )
