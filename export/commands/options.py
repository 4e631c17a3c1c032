"""What the commands about repositories share: where it is, the keys, and their passphrase."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from c2rec.export.keys import Keys
from c2rec.runtime.errors import PublishError
from c2rec.runtime.sync.documents import LARGEST_SEQ
from c2rec.train.commands.options import FILE, FOLDER, NonEmptyPath

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PASSPHRASE = "C2REC_KEYS_PASSPHRASE"  # noqa: S105 - the name of a variable

REPO = click.argument("repo", type=NonEmptyPath(path_type=str))
"""A folder, or a URL such as s3://bucket/prefix."""
SEQ = click.IntRange(1, LARGEST_SEQ)
"""The number of a release."""
FLOOR = click.option(
    "--floor",
    type=click.IntRange(0, LARGEST_SEQ),
    help="The least seq that the ring may still install.",
)


def keys_options(command: _Command) -> _Command:
    """Add ``--keys`` and ``--passphrase-file``."""
    keys = click.option(
        "--keys",
        "keys_folder",
        type=FOLDER,
        required=True,
        envvar="C2REC_KEYS",
        help="Folder of keys, from keys init; or set C2REC_KEYS.",
    )
    return keys(passphrase_option(command))


def passphrase_option(command: _Command) -> _Command:
    """Add ``--passphrase-file``."""
    option = click.option(
        "--passphrase-file",
        type=FILE,
        help=f"File with the keys' passphrase; or set {_PASSPHRASE}.",
    )
    return option(command)


def find_passphrase(file: Path | None) -> bytes | None:
    """Read the passphrase from a file or the environment; None where neither is given.

    Raises:
        PublishError: the file can't be read, or the passphrase is empty.
    """
    if file is None:
        if _PASSPHRASE not in os.environ:
            return None
        found, where = os.environ[_PASSPHRASE].encode(), _PASSPHRASE
    else:
        where = str(file)
        try:
            found = file.read_bytes().rstrip(b"\r\n")
        except OSError as error:
            raise PublishError(f"{file}: can't be read: {error.strerror}") from error
    if not found:
        raise PublishError(f"{where} is empty; allowed: a passphrase of at least one character")
    return found


@contextmanager
def option_errors() -> Iterator[None]:
    """Turn errors about an option's value into click's, which exit with 2."""
    try:
        yield
    except PublishError as error:
        raise click.UsageError(str(error)) from error


def open_keys(folder: Path, passphrase_file: Path | None) -> Keys:
    """The keys that the options name."""
    return Keys(folder, find_passphrase(passphrase_file))
