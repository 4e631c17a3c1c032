"""The command that goes back to the release before."""

from pathlib import Path

import click

from c2rec.store_kiosk.commands.options import JSON, echo_json
from c2rec.store_kiosk.render import SCHEMA, plain


@click.command()
@JSON
@click.pass_obj
def rollback(home: Path, as_json: bool) -> None:
    """Make the previous release the active one, and don't take the present one again.

    The next sync takes a newer release, once head office publishes one.
    """
    from c2rec.runtime.release.rollback import roll_back

    before, after = roll_back(home)
    if as_json:
        echo_json(
            {
                "schema": SCHEMA,
                "release": after.release,
                "seq": after.seq,
                "given_up": {"release": before.release, "seq": before.seq},
            }
        )
    else:
        click.echo(plain(f"Release {after.release} is active; {before.release} was given up."))
