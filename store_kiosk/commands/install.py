"""The command that installs a release from a folder."""

from pathlib import Path

import click

from c2rec.store_kiosk.commands.options import progress_line


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.pass_obj
def install(home: Path, bundle: Path) -> None:
    """Check the release in the folder BUNDLE, store it, and make it the active one.

    Whatever goes wrong, the release that was active serves on.
    """
    from c2rec.runtime.install import install as install_bundle

    progress = progress_line()
    try:
        installed = install_bundle(bundle, home, report=progress)
    finally:
        progress("")
    if not installed.changed:
        click.echo(f"Release {installed.release} is active already; nothing to do.")
        return
    was = f", was {installed.previous}" if installed.previous else ""
    click.echo(f"Release {installed.release} is active{was}.")
