"""What the commands share: the home, who asks, ``--json``, progress."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from c2rec.runtime.errors import C2RecError
from c2rec.runtime.records import CHANNELS
from c2rec.store_kiosk.logs import LogFormat, Logger
from c2rec.store_kiosk.render import plain

_Command = TypeVar("_Command", bound=Callable[..., Any])


class WrongUsageError(click.ClickException):
    """A command can't be run as it was asked to; exits with 2, as click's own do."""

    exit_code = 2


class NonEmptyPath(click.Path):
    """A path that is not empty: an unset variable must not mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty value before click takes it for the current folder."""
        if value == "":
            self.fail("is empty", param, ctx)
        return super().convert(value, param, ctx)


class Seconds(click.FloatRange):
    """A number of seconds in a range, never NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse NaN, which no range would keep out."""
        number = super().convert(value, param, ctx)
        if number != number:
            self.fail("is not a number", param, ctx)
        return number


JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
BASKET = click.option(
    "--basket",
    multiple=True,
    metavar="ITEM,ITEM",
    help="Items in the basket; repeatable. Quote an id that holds a comma: '\"a,b\",c'.",
)
CHANNEL = click.option(
    "--channel",
    type=click.Choice(CHANNELS),
    default="offline",
    show_default=True,
    help="Where the customer is.",
)
VISITORS = click.option(
    "--visitors/--no-visitors",
    default=None,
    help="Look up a customer whom this store doesn't know at head office; default: as set up.",
)


LOG = "c2rec.log"
"""Where a command's context has its log."""
PENDING = "c2rec.pending"
"""Where it has what is to be told once there is a log: warnings, and an error to end with."""


def for_whom() -> LogFormat:
    """Text where a person looks on, JSON elsewhere."""
    return "text" if sys.stderr is not None and sys.stderr.isatty() else "json"


def log_format(
    default: LogFormat | Callable[[], LogFormat], shown: str | bool = True
) -> Callable[[_Command], _Command]:
    """Add ``--log-format``; the command is given a ``Logger`` as ``log``.

    Args:
        default: the format, or what decides on it.
        shown: what the help says of a default that is decided on.
    """

    def remember(ctx: click.Context, _: click.Parameter, value: LogFormat) -> Logger:
        log = ctx.meta[LOG] = Logger(value)
        for each in ctx.meta.pop(PENDING, ()):
            if isinstance(each, C2RecError):
                raise each
            if log.form == "json":
                log.warn(each)
            else:
                click.echo(plain(f"Warning: {each}"), err=True)
        return log

    return click.option(
        "--log-format",
        "log",
        type=click.Choice(get_args(LogFormat)),
        default=default,
        show_default=shown,
        envvar="C2REC_LOG_FORMAT",
        callback=remember,
        help="How standard error tells what happens: as text, or a line of JSON for each event.",
    )


def echo_json(document: dict[str, Any]) -> None:
    """Print a document."""
    import json

    click.echo(json.dumps(document))


def progress_line() -> Callable[[str], None]:
    """Show what is being done on one line of a terminal; nowhere else."""
    if sys.stderr is None or not sys.stderr.isatty():
        return lambda _: None
    return lambda stage: click.echo(f"\r\x1b[K{plain(stage)}", nl=False, err=True)
