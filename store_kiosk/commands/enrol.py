"""The command that makes a kiosk head office's own."""

from pathlib import Path

import click

from c2rec.runtime.errors import IdentityError
from c2rec.store_kiosk.commands.options import WrongUsageError
from c2rec.store_kiosk.render import plain

_FILE = click.Path(exists=True, dir_okay=False, resolve_path=True)


@click.command()
@click.argument("kit", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--repository",
    required=True,
    metavar="URL|FOLDER",
    help="Where releases come from: http(s), or a folder such as a mounted share.",
)
@click.option("--events", metavar="URL|FOLDER", help="Where events go; without it they stay here.")
@click.option("--ring", default="stable", show_default=True, help="Whose releases it takes.")
@click.option("--ca-bundle", type=_FILE, help="Certificates to trust, PEM; default: the system's.")
@click.option("--client-cert", type=_FILE, help="The certificate that this kiosk shows, PEM.")
@click.option("--client-key", type=_FILE, help="Its key, PEM; default: in the same file.")
@click.option(
    "--visitors/--no-visitors",
    default=False,
    help="Whether a customer whom the store doesn't know is looked up in the repository.",
)
@click.pass_obj
def enrol(
    home: Path,
    kit: Path,
    *,
    repository: str,
    events: str | None,
    ring: str,
    ca_bundle: str | None,
    client_cert: str | None,
    client_key: str | None,
    visitors: bool,
) -> None:
    """Take the identity in the folder KIT, which head office made for this kiosk.

    The options go to kiosk.toml in the home; its other settings become the default ones, options of
    commands stay. What is installed serves on; `sync` takes what is new. Destroy KIT afterwards: it
    holds keys.
    """
    from c2rec.runtime.home.enrol import enrol as enrol_kiosk
    from c2rec.runtime.home.settings import Settings

    try:
        settings = Settings(
            repository=_place(repository),
            events=None if events is None else _place(events),
            ring=ring,
            ca_bundle=ca_bundle,
            client_cert=client_cert,
            client_key=client_key,
            visitors=visitors,
        )
    except IdentityError as error:  # every field of it is an option here
        raise WrongUsageError(plain(f"--{error}")) from error
    identity = enrol_kiosk(home, kit, settings)
    click.echo(
        plain(
            f"Kiosk {identity.device} of store {identity.store} is enrolled, ring {settings.ring}; "
            "now run: c2rec-kiosk sync"
        )
    )


def _place(text: str) -> str:
    """An address, or the absolute path of a folder."""
    if not text:
        raise click.BadParameter("is empty; allowed: an http(s) URL, or a folder")
    if "://" in text:
        return text
    return str(Path(text).absolute())
