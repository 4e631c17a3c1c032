"""The command that serves the page for the shopper."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from c2rec.runtime.errors import HomeError, MissingExtraError
from c2rec.runtime.records import LANGUAGES
from c2rec.store_kiosk.commands.options import for_whom, log_format
from c2rec.store_kiosk.logs import Logger

if TYPE_CHECKING:
    from c2rec.runtime.records import Language

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _Pattern(click.ParamType[re.Pattern[str]]):
    """A regular expression."""

    name = "regex"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> re.Pattern[str]:
        """Compile it."""
        try:
            return re.compile(value)
        except re.error as error:
            self.fail(f"{value!r} is no regular expression: {error}", param, ctx)


class _Currency(click.ParamType[str]):
    """A code of ISO 4217."""

    name = "code"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what is no code."""
        if not re.fullmatch("[A-Z]{3}", value):
            self.fail(f"{value!r} is no code such as EUR", param, ctx)
        return str(value)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Port to listen on; 0 takes any that is free.",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Another name or address by which the page may be asked for; repeatable.",
)
@click.option(
    "--certificate",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Serve over TLS: the certificate, PEM, with those between it and its authority.",
)
@click.option(
    "--private-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its key, PEM without a password. Default: it is in the certificate's file.",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file with the token that a browser must bring; made if it isn't there. Default: a "
    "new token at each start.",
)
@click.option("--no-token", is_flag=True, help="Let every program on this machine in.")
@click.option(
    "--shelf",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A CSV file with item_id and any of code, price and stock; read again when it changes.",
)
@click.option(
    "--pictures",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of pictures named by item id, such as P0000003.jpg.",
)
@click.option(
    "--cards",
    type=_Pattern(),
    metavar="REGEX",
    help="What the code of a customer's card looks like, as in 'C[0-9]{7}'. Default: any code "
    "of a customer that the release knows.",
)
@click.option(
    "--language",
    type=click.Choice(LANGUAGES),
    default="en",
    show_default=True,
    help="Language that a shopper finds.",
)
@click.option(
    "--currency",
    type=_Currency(),
    default="EUR",
    show_default=True,
    help="Currency of prices, three letters.",
)
@click.option(
    "--idle",
    type=click.IntRange(10, 3600),
    default=60,
    show_default=True,
    help="Seconds without a touch or a scan until the shopper is warned.",
)
@click.option(
    "--warning",
    type=click.IntRange(20, 600),
    default=30,
    show_default=True,
    help="Seconds from the warning to the end of the session.",
)
@click.option("--metrics-open", is_flag=True, help="Tell /metrics to who has no token, too.")
@log_format(for_whom, "text on a terminal, json elsewhere")
@click.pass_obj
def serve(
    home: Path,
    *,
    host: str,
    port: int,
    allow_host: tuple[str, ...],
    certificate: Path | None,
    private_key: Path | None,
    token_file: Path | None,
    no_token: bool,
    shelf: Path | None,
    pictures: Path | None,
    cards: re.Pattern[str] | None,
    language: "Language",
    currency: str,
    idle: int,
    warning: int,
    metrics_open: bool,
    log: Logger,
) -> None:
    """Serve the page on which a shopper scans a card or a product and is recommended items.

    Open the address that it prints in the kiosk's browser. It answers from the active release,
    needs no network, and follows a new release by itself. Each request is logged to standard
    error, and counted at /metrics, without anything of the shopper.
    """
    if home.exists() and not home.is_dir():
        raise HomeError(f"{home} is no folder; allowed: the kiosk's home, or where it is to be")
    if no_token and (token_file or host not in LOOPBACK or allow_host):
        raise click.UsageError(
            "--no-token lets every program in, so it goes with this machine's own address alone, "
            "and without --token-file"
        )
    if private_key is not None and certificate is None:
        raise click.UsageError("--private-key goes with --certificate")
    try:
        from c2rec.store_kiosk.service import Options, run
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"serve needs the package {error.name}; install it: pip install 'c2rec[page]'"
        ) from error
    from importlib.metadata import version

    from c2rec.runtime.rules.shelf import read_shelf
    from c2rec.store_kiosk.api import Settings
    from c2rec.store_kiosk.certificate import server_context
    from c2rec.store_kiosk.desk import Desk
    from c2rec.store_kiosk.meter import Meter
    from c2rec.store_kiosk.tokens import find_token

    token = None if no_token else find_token(token_file)

    if shelf is not None:
        read_shelf(shelf)  # what can't be read now would show what is sold out
    desk = Desk(home, shelf=shelf, cards=cards, report=log.warn)
    tls = None if certificate is None else server_context(certificate, private_key)
    options = Options(host, port, allow_host, token, metrics_open, tls)

    def ready(address: str) -> None:
        secret = f"?token={token}" if token is not None and token_file is None else ""
        click.echo(f"Serving {address}{secret}")
        log.log("info", "started", {"address": address, "version": version("c2rec")})
        if token_file is not None:
            click.echo(f"Add ?token= and what {token_file} holds. Ctrl-C ends it.")

    page = Settings(language, currency, idle, warning)
    run(desk, page, options, pictures, ready, log=log, meter=Meter(home))
