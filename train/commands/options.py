"""What the commands share: kinds of option, defaults, and errors as messages."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from c2rec.runtime.errors import C2RecError, MissingExtraError
from c2rec.train.config import ModelConfig, SplitConfig, TrainingConfig


class NonEmptyPath(click.Path):
    """A path that is not empty: an unset variable must not mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty value before click takes it for the current folder."""
        if value in ("", b""):
            self.fail("is empty", param, ctx)
        return super().convert(value, param, ctx)


class Finite(click.FloatRange):
    """A number in a range, never NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse NaN, which no range would keep out."""
        number = super().convert(value, param, ctx)
        if number != number:
            self.fail("is not a number", param, ctx)
        return number


FOLDER = NonEmptyPath(file_okay=False, path_type=Path)
FILE = NonEmptyPath(dir_okay=False, path_type=Path)
SPLIT, MODEL_DEFAULTS, TRAINING = SplitConfig(), ModelConfig(), TrainingConfig()
MIN_INTERACTIONS = click.option(
    "--min-interactions",
    type=click.IntRange(1),
    default=SPLIT.min_interactions,
    help="Customers and items with fewer training purchases are left out.",
)
THREADS = click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=TRAINING.threads,
    help="CPU threads; another number gives slightly other weights.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")


def _in_a_folder(
    _context: click.Context, _parameter: click.Parameter, path: Path | None
) -> Path | None:
    """Refuse at once what can't be written after hours of work."""
    if path is not None and not path.resolve().parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(path.parent)!r} to write it to")
    return path


HTML = click.option(
    "--html",
    type=FILE,
    metavar="FILE",
    callback=_in_a_folder,
    help="Write a report too: one file with charts and a model card, which needs no network.",
)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show what is being done on one line of a terminal, and take it away; nowhere else."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    try:
        yield lambda stage: click.echo(f"\r\x1b[K{stage}", nl=False, err=True)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


@contextmanager
def errors_to_exit(extra: str) -> Iterator[None]:
    """Print an error of ours as one message on stderr and exit 1; name a missing extra."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that it lacks is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("c2rec"):
            raise
        missing = MissingExtraError(
            f"{error.name} is not installed; install it with: pip install 'c2rec[{extra}]'"
        )
        click.echo(f"Error: {missing}", err=True)
        sys.exit(1)
    except C2RecError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        what = error.filename or "can't read or write, perhaps standard output"
        click.echo(f"Error: {what}: {error.strerror or error}", err=True)
        sys.exit(1)
