"""The token that a browser must bring."""

import os
import re
import secrets
import stat
from pathlib import Path

from c2rec.runtime.errors import ServeError

_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,200}")


def find_token(path: Path | None) -> str:
    """Read the token from a file that others can't read, or make one.

    Args:
        path: the file, written if it isn't there; None for a token that nobody keeps.

    Raises:
        ServeError: the file can't be used.
    """
    if path is None:
        return secrets.token_urlsafe(24)
    try:
        made = secrets.token_urlsafe(24)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - Path.open can't take a mode of its own
            file.write(made + "\n")
        return made
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise ServeError(f"{path}: can't be written: {error.strerror}") from error


def _read(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text("ascii").strip()
    except OSError as error:
        raise ServeError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        text = ""
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        raise ServeError(f"{path}: others may read the token; run: chmod 600 {path}")
    if not _TOKEN.fullmatch(text):
        raise ServeError(
            f"{path}: holds no token; allowed: one line of 16 to 200 letters, digits, . _ ~ and -. "
            "Remove the file to have one made"
        )
    return text
