"""Writing files so that a crash leaves the old one or the new one, never a piece."""

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, sync it, and move it into place.

    Args:
        path: the file to be there in the end.
        write: writes the path it is given.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        write(temporary)
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file by one with these bytes."""
    replace_file(path, lambda temporary: temporary.write_bytes(data))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
