"""The command that tells what expires."""

import json
import sys
from datetime import UTC, datetime

import click

from c2rec.export.commands.options import REPO
from c2rec.train.commands.options import JSON


@click.command()
@REPO
@click.option(
    "--warn-days",
    type=click.FloatRange(0),
    default=14.0,
    help="Warn so early; 14, and half of its life for what lives shorter.",
)
@JSON
def expiry(repo: str, warn_days: float, as_json: bool) -> None:
    """Tell when each signature of a repository ends; no key is needed.

    Exits 1 when one ends soon, or has ended.
    """
    from c2rec.export.storage import open_storage
    from c2rec.export.upkeep import expiries

    found, now = expiries(open_storage(repo), warn_days=warn_days), datetime.now(UTC)
    days = {each.role: (each.expires - now).total_seconds() / 86400 for each in found}
    soon = [each.role for each in found if each.soon]
    if as_json:
        roles = [
            {
                "role": each.role,
                "version": each.version,
                "expires": each.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "days": round(days[each.role], 2),
                "soon": each.soon,
            }
            for each in found
        ]
        click.echo(json.dumps({"schema": 1, "ok": not soon, "roles": roles}))
    else:
        for each in found:
            left = days[each.role]
            what = f"in {left:.1f} days" if left > 0 else "ENDED"
            click.echo(
                f"{each.role:9} {each.expires:%Y-%m-%d %H:%M} UTC  {what}{'  soon' * each.soon}"
            )
    if soon:
        if not as_json:
            click.echo(f"sign anew with: c2rec-export resign {repo} --keys KEYS", err=True)
        sys.exit(1)
