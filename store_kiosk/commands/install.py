"""The command that installs a release from a folder, or the kiosk's services."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from c2rec.runtime.errors import MissingExtraError, RequestError
from c2rec.store_kiosk.commands.options import progress_line
from c2rec.store_kiosk.commands.serve import LOOPBACK, serve
from c2rec.store_kiosk.render import plain

if TYPE_CHECKING:
    from c2rec.runtime.home.settings import Settings
    from c2rec.store_kiosk.units import Plan

TOKEN = "page-token"  # noqa: S105 - the name of a file
_OF_SYSTEMD = ("to", "to_print", "user", "watchdog")


@click.command()
@click.argument("bundle", metavar="[BUNDLE]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--systemd",
    is_flag=True,
    help="Write systemd's units instead. What follows -- are options of serve.",
)
@click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    default="/etc/systemd/system",
    show_default=True,
    help="With --systemd: folder for the units.",
)
@click.option("--print", "to_print", is_flag=True, help="With --systemd: write nothing, show them.")
@click.option(
    "--user", default="c2rec", show_default=True, help="With --systemd: who the services run as."
)
@click.option(
    "--watchdog",
    type=click.IntRange(5, 3600),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="With --systemd: so long the page may answer nothing until it is started anew.",
)
@click.pass_context
def install(
    ctx: click.Context,
    *,
    bundle: tuple[str, ...],
    systemd: bool,
    to: Path,
    to_print: bool,
    user: str,
    watchdog: int,
) -> None:
    """Check the release in the folder BUNDLE, store it, and make it the active one.

    Whatever goes wrong, the release that was active serves on.

    With --systemd and no BUNDLE: write units for the page, with a watchdog, and for timers that
    sync and send events, and tell what to run next. For example:

        c2rec-kiosk --home /var/lib/c2rec install --systemd -- --shelf /srv/shelf.csv
    """
    home: Path = ctx.obj
    if systemd:
        from c2rec.runtime.home.settings import find_settings, settings_path
        from c2rec.store_kiosk.config import read_table, read_tables

        path = settings_path(home)
        table = read_table(serve, read_tables(home).get("serve", {}), path).values
        settings = find_settings(home)
        plan = make_plan(home.absolute(), settings, table, bundle, user=user, watchdog=watchdog)
        _write(plan, to.absolute(), to_print=to_print)
        return
    given = [
        name
        for name in _OF_SYSTEMD
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"--{given[0].replace('to_', '')} goes with --systemd")
    if len(bundle) != 1:
        raise click.UsageError("Give one BUNDLE, or --systemd.")
    _install_bundle(Path(bundle[0]), home)


def _install_bundle(bundle: Path, home: Path) -> None:
    from c2rec.runtime.release.install import install as install_bundle

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


def make_plan(
    home: Path,
    settings: "Settings | None",
    table: Mapping[str, Any],
    given: tuple[str, ...],
    *,
    user: str,
    watchdog: int,
) -> "Plan":
    """Decide what the units are to do.

    Args:
        home: absolute.
        settings: of the kiosk; None where it isn't enrolled yet.
        table: what kiosk.toml says of ``serve``.
        given: options of ``serve``, which go before it.
        user: who the services run as.
        watchdog: seconds.

    Raises:
        RequestError: a service could not work so.
        click.UsageError: ``serve`` would refuse its options.
        MissingExtraError: it can't be run here.
    """
    from importlib.util import find_spec

    from c2rec.runtime.home.settings import is_url
    from c2rec.store_kiosk.units import Plan

    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise MissingExtraError(
                f"serve needs the package {package}; install it: pip install 'c2rec[page]'"
            )
    # refuses what serve would refuse
    options = serve.make_context("serve", list(given), default_map=dict(table)).params
    paths = [each for each in options.values() if isinstance(each, Path)]
    for path in paths:
        if not path.is_absolute():
            raise RequestError(f"{path} is no absolute path, which a service needs")
    token = () if options["no_token"] or options["token_file"] else _token(home)
    reads, events, visitors = [*paths, Path(sys.base_prefix)], None, False
    if settings is not None:
        named = (settings.ca_bundle, settings.client_cert, settings.client_key)
        places = (settings.repository, *named)
        reads += [Path(each) for each in places if each is not None and not is_url(each)]
        events, visitors = settings.events, settings.visitors
    return Plan(
        command=_command(),
        home=home,
        serve=(*token, *given),
        reads=tuple(reads),
        user=user,
        watchdog_s=watchdog,
        network=options["host"] not in LOOPBACK or visitors,
        sends=settings is None or events is not None,
        events=None if events is None or is_url(events) else Path(events),
    )


def _token(home: Path) -> tuple[str, str]:
    """Options that keep the token out of the journal, where serve would print it."""
    return "--token-file", str(home / TOKEN)


def _command() -> tuple[str, ...]:
    """How this program was started: by a name that may lead to another version later."""
    started = Path(sys.argv[0])
    beside = Path(sys.executable).with_name("c2rec-kiosk")
    for program in (started, beside):
        if program.name == "c2rec-kiosk" and program.is_file():
            return (str(program.absolute()),)
    return sys.executable, "-P", "-m", "c2rec.store_kiosk.cli"


def _write(plan: "Plan", folder: Path, *, to_print: bool) -> None:
    from c2rec.runtime.home.disk import home_errors, write_whole
    from c2rec.store_kiosk.units import make_units, next_steps

    units = make_units(plan)
    if to_print:
        click.echo(
            "\n".join(f"# {folder / name}\n{text}" for name, text in units.items()), nl=False
        )
        return
    with home_errors(f"can't write {folder}", "run it as root, or name another folder: --to"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in units.items():
            write_whole(folder / name, text.encode())
            (folder / name).chmod(0o644)
    for name in units:
        click.echo(plain(f"Wrote {folder / name}"))
    if not plan.sends:
        click.echo("No unit sends events: kiosk.toml has no events.")
    click.echo("Next, as root:")
    for line in next_steps(plan, folder, units):
        click.echo(plain(f"  {line}"))
