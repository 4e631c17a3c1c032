"""``c2rec-kiosk``: what a store's machine runs.

Each command imports what it needs when it runs: ``status`` loads no numpy, ``recommend`` no
sqlite_utils, for a person waits for both.
"""

import io
import sys
from pathlib import Path
from typing import Any

import click

from c2rec.runtime.errors import C2RecError, IdentityError, RequestError
from c2rec.runtime.home.settings import settings_path
from c2rec.store_kiosk.commands.bench import bench
from c2rec.store_kiosk.commands.completion import completion
from c2rec.store_kiosk.commands.config import config
from c2rec.store_kiosk.commands.doctor import doctor
from c2rec.store_kiosk.commands.enrol import enrol
from c2rec.store_kiosk.commands.erase import erase
from c2rec.store_kiosk.commands.explain import explain
from c2rec.store_kiosk.commands.install import install
from c2rec.store_kiosk.commands.metrics import metrics
from c2rec.store_kiosk.commands.options import LOG, PENDING, NonEmptyPath, WrongUsageError
from c2rec.store_kiosk.commands.queue import queue
from c2rec.store_kiosk.commands.recommend import recommend
from c2rec.store_kiosk.commands.record import record
from c2rec.store_kiosk.commands.rollback import rollback
from c2rec.store_kiosk.commands.serve import serve
from c2rec.store_kiosk.commands.status import status
from c2rec.store_kiosk.commands.sync import sync
from c2rec.store_kiosk.config import (
    configurable,
    name_variables,
    named_by_source,
    options_of,
    read_table,
    read_tables,
    unknown_tables,
)
from c2rec.store_kiosk.logs import Logger
from c2rec.store_kiosk.render import plain

_HELP = ("-h", "--help")
_NEED_THE_FILE = ("serve", "sync")
"""Commands that don't go on where kiosk.toml can't be read at all."""


class _Kiosk(click.Group):
    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a character that it lacks is no error
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # the library wraps its own: this is standard output, full
            click.echo(f"Error: can't write to standard output: {error.strerror}", err=True)
            sys.exit(1)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_HELP[-1]] = any(each in _HELP for each in args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.BadParameter as error:
            raise named_by_source(error) from None
        except C2RecError as error:
            wrong = isinstance(error, RequestError)
            log: Logger | None = ctx.meta.get(LOG)
            if log is None or log.form == "text":
                told = WrongUsageError if wrong else click.ClickException
                raise told(plain(str(error))) from error
            told_by = {"command": ctx.invoked_subcommand, "error": type(error).__name__}
            log.log("error", "failed", told_by | {"message": str(error)})
            ctx.exit(2 if wrong else 1)
        except KeyboardInterrupt:
            ctx.exit(130)  # as a shell reports a command ended by Ctrl-C


def _default_home() -> str:
    import platformdirs  # only where neither --home nor C2REC_HOME says it

    return platformdirs.user_data_dir("c2rec")


@click.group(cls=_Kiosk, context_settings={"help_option_names": [*_HELP]})
@click.option(
    "--home",
    type=NonEmptyPath(path_type=Path),
    envvar="C2REC_HOME",
    default=_default_home,
    help="Folder with the installed releases; default: C2REC_HOME, else the user's data folder.",
)
@click.version_option(package_name="c2rec", prog_name="c2rec-kiosk")
@click.pass_context
def main(ctx: click.Context, home: Path) -> None:
    """Recommend in a store, with no network, from what is known of both channels."""
    ctx.obj = home
    if ctx.invoked_subcommand not in (None, config.name) and not ctx.meta[_HELP[-1]]:
        ctx.default_map = _from_file(ctx, home, ctx.invoked_subcommand or "")


def _from_file(ctx: click.Context, home: Path, name: str) -> dict[str, dict[str, Any]]:
    """What kiosk.toml says of a command's options, for click.

    Where the file can't be read, a command that can't go without it ends with that error.

    Raises:
        WrongUsageError: one of its own options is unknown or wrong.
    """
    path = settings_path(home)
    try:
        tables = read_tables(home)
    except IdentityError as error:
        if name in _NEED_THE_FILE:  # once its log is open
            ctx.meta[PENDING] = [error]
        else:
            _warn(ctx, name, f"{error}; going on without it")
        return {}
    if lost := unknown_tables(tables, configurable(main.commands), path):
        _warn(ctx, name, lost)
    found = read_table(main.commands[name], tables.get(name, {}), path)
    if found.troubles:
        raise WrongUsageError(plain(found.troubles[0]))
    return {name: found.values}


def _warn(ctx: click.Context, name: str, text: str) -> None:
    """Warn in the command's log, or at once where it has none."""
    if "log-format" in options_of(main.commands[name]):
        ctx.meta[PENDING] = [text]
    else:
        click.echo(plain(f"Warning: {text}"), err=True)


for command in (
    enrol,
    sync,
    install,
    recommend,
    explain,
    status,
    doctor,
    metrics,
    rollback,
    serve,
    bench,
    record,
    queue,
    erase,
    config,
    completion,
):
    main.add_command(command)
    name_variables(command)


if __name__ == "__main__":
    main()
