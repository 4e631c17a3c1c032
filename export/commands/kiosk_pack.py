"""The command that makes a pack for kiosks without a network."""

import sys
from pathlib import Path

import click

from c2rec.train.commands.options import FILE, NonEmptyPath


@click.command("kiosk-pack")
@click.argument("out", type=NonEmptyPath(path_type=Path))
@click.option("--python", help="Python of the kiosks, as in 3.11; default: the one that runs.")
@click.option("--machine", help="x86_64 or aarch64; default: what this machine is.")
@click.option("--glibc", help="The oldest C library among the kiosks; default: 2.28.")
@click.option("--wheel", type=FILE, help="Wheel of c2rec; default: of the one that runs.")
@click.option(
    "--constraints",
    type=FILE,
    help="Versions to take, as pip reads them; default: in a checkout those that were tested, "
    "else the newest that fit.",
)
def kiosk_pack(
    out: Path,
    *,
    python: str | None,
    machine: str | None,
    glibc: str | None,
    wheel: Path | None,
    constraints: Path | None,
) -> None:
    """Make a tar from which a kiosk is installed with no network: wheels, sums and install.sh.

    OUT is the tar, or a folder to put it into. On the kiosk: tar -xf, then sh install.sh.
    """
    from c2rec.export.kiosk_pack import Target, make_pack

    given = {"python": python, "machine": machine, "glibc": glibc}
    target = Target(**{name: value for name, value in given.items() if value is not None})
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if target.python != running:
        click.echo(
            f"Warning: pip chooses packages as Python {running} would, which runs here; check the "
            f"pack on a kiosk, or make it with Python {target.python}",
            err=True,
        )
    report = lambda text: click.echo(text, err=True)  # noqa: E731
    made = make_pack(out, target, wheel=wheel, constraints=constraints, report=report)
    for name in made.wheels:
        click.echo(name)
    click.echo(f"{made.path}: {len(made.wheels)} wheels, {made.bytes / 1e6:.1f} MB")
    click.echo(f"sha256 {made.sha256}")
