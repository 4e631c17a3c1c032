"""What a kiosk's home folder is made of, and the care its files need."""

import fcntl
import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from c2rec.runtime.errors import HomeError

ITEMS = "items.safetensors"


def install_command(home: Path) -> str:
    """Tell the command that installs a release into this home, for an operator to copy."""
    return f"c2rec-kiosk --home {shlex.quote(str(home))} install BUNDLE"


def generation_path(home: Path, name: str) -> Path:
    """Where a release's cache lies; ``name`` is the generation's."""
    return home / "gen" / f"{name}.db"


def kept_path(folder: Path, file: str, sha256: str) -> Path:
    """Where a file of a bundle lies beside the caches: releases that have it in common share it."""
    return folder / f"{sha256[:32]}.{file}"


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
def alone(lock: Path, busy: Exception) -> Iterator[None]:
    """Hold a lock file; the system releases it however the process ends.

    Raises:
        OSError: the file can't be made.
        Exception: ``busy``, where another process holds it.
    """
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise busy from error
        yield
    finally:
        os.close(handle)


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home folder's lock.

    Raises:
        HomeError: another process holds it, or the folder can't be written.
    """
    busy = HomeError(
        f"another install or sync is running in {home}; wait for it to end, then try again"
    )
    with ExitStack() as held:
        with home_errors(f"can't write to the home folder {home}"):
            make_folder(home)
            held.enter_context(alone(home / "lock", busy))
        yield


def sync_to_disk(path: Path) -> None:
    """Make the content of a file, or the names in a folder, outlast a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it lies in, so that their names outlast a power cut."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_to_disk(folder.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file by another content, on disk whole or not at all."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_to_disk(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Sha256 of a file, 64 hex digits, in constant memory."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
