"""What the commands share: the home, ``--json``, progress."""

import sys
from collections.abc import Callable
from typing import Any

import click

from c2rec.store_kiosk.render import plain


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


def echo_json(document: dict[str, Any]) -> None:
    """Print a document."""
    import json

    click.echo(json.dumps(document))


def progress_line() -> Callable[[str], None]:
    """Show what is being done on one line of a terminal; nowhere else."""
    if sys.stderr is None or not sys.stderr.isatty():
        return lambda _: None
    return lambda stage: click.echo(f"\r\x1b[K{plain(stage)}", nl=False, err=True)
