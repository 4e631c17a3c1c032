"""The command that tells what is installed."""

from pathlib import Path

import click

from c2rec.runtime.errors import HomeError
from c2rec.store_kiosk.commands.options import JSON, echo_json
from c2rec.store_kiosk.render import status_document, status_text


@click.command()
@JSON
@click.pass_obj
def status(home: Path, as_json: bool) -> None:
    """Tell which release is active, how old its data is, and what it takes on disk."""
    from c2rec.runtime.home.disk import generation_path, home_errors
    from c2rec.runtime.home.identity import find_identity
    from c2rec.runtime.home.settings import find_settings
    from c2rec.runtime.home.state import read_state, read_tables
    from c2rec.runtime.release.cache import Cache

    state = read_state(home)
    cache = Cache(generation_path(home, state.active.name))
    manifest = cache.manifest_document()
    here = cache.count_customers()
    cache.close()
    identity, settings = find_identity(home), find_settings(home)
    enrolled = {"store": identity.store, "device": identity.device} if identity else {}
    enrolled |= {"ring": settings.ring} if settings else {}
    tables = read_tables(home, ("outcomes", "scores"))
    outcomes = {row["what"]: row for row in tables.get("outcomes", [])}
    with home_errors(f"can't read the home folder {home}"):
        try:
            document = status_document(
                home,
                state,
                manifest,
                here=here,
                enrolled=enrolled,
                outcomes=outcomes,
                scores=next(iter(tables.get("scores", [])), None),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise HomeError(
                f"the cache of release {state.active.release} is damaged: its manifest lacks "
                f"{error}; install the release again"
            ) from error
    if as_json:
        echo_json(document)
    else:
        click.echo(status_text(document))
