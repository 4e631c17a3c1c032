"""The token that a browser must bring."""

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

from c2rec.runtime.errors import ServeError
from c2rec.runtime.home.disk import sync_to_disk

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
        if not path.exists():
            _make(path)
    except OSError as error:
        raise ServeError(f"{path}: can't be written: {error.strerror}") from error
    return _read(path)


def _make(path: Path) -> None:
    """Write a file with a token, on disk whole or not at all; one that is there meanwhile stays."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w") as file:  # noqa: PTH123 - Path.open can't take a mode of its own
            file.write(secrets.token_urlsafe(24) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(unfinished)  # unlike a rename, it replaces nothing
        sync_to_disk(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


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
