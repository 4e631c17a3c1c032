"""What a kiosk's home folder is made of, and the care its files need."""

import fcntl
import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from c2rec.runtime.errors import HomeError

ITEMS = "items.safetensors"


def install_command(home: Path) -> str:
    """Tell the command that installs a release into this home, for an operator to copy."""
    return f"c2rec-kiosk --home {shlex.quote(str(home))} install BUNDLE"


def generation_path(home: Path, release: str) -> Path:
    """Where a release's cache lies."""
    return home / "gen" / f"{release}.db"


def items_path(folder: Path, release: str, sha256: str) -> Path:
    """Where a release's items.safetensors lies, in the folder of its cache: named by its digest."""
    return folder / f"{release}.{sha256[:16]}.safetensors"


@contextmanager
def home_errors(what: str, advice: str = "") -> Iterator[None]:
    """Turn errors of the system and of SQLite into ``HomeError``.

    Args:
        what: starts the message, as in "can't write /var/lib/c2rec".
        advice: ends it: what an operator does next.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise HomeError(f"{what}: {reason or error}" + (f"; {advice}" if advice else "")) from error


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home folder's lock; the system releases it however the process ends.

    Raises:
        HomeError: another process holds it, or the folder can't be written.
    """
    with home_errors(f"can't write to the home folder {home}"):
        home.mkdir(parents=True, exist_ok=True)
        lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HomeError(
                f"another install is running in {home}; wait for it to end, then try again"
            ) from error
        yield
    finally:
        os.close(lock)


def sync_to_disk(path: Path) -> None:
    """Make the content of a file, or the names in a folder, outlast a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Sha256 of a file, 64 hex digits, in constant memory."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
