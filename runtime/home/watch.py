"""Noticing, for the price of reading a few bytes, that state.db was written to."""

import os
from pathlib import Path
from typing import TypeAlias

from c2rec.runtime.home.state import state_path

_COUNTER = 24
"""Where an SQLite file counts its transactions: 4 bytes, https://sqlite.org/fileformat.html 1.3.7;
with a rollback journal, as state.db has, every one that changed something."""


FileStamp: TypeAlias = tuple[int, int, int] | None
"""What changes when a file is written or replaced: time, size and inode; None where there is none.
"""


def file_stamp(path: Path) -> FileStamp:
    """Look at a file's time of change, size and inode."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Watch:
    """Remembers what state.db looked like when it was last asked.

    A file's time of change wouldn't do: two commits within one tick of the clock have the same.
    """

    def __init__(self, home: Path) -> None:
        self._path = state_path(home)
        self._seen = self._look()

    def moved(self) -> bool:
        """Whether the file has been written to, or replaced, since the last call."""
        now = self._look()
        moved, self._seen = now != self._seen, now
        return moved

    def _look(self) -> tuple[int, bytes] | None:
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.fstat(handle).st_ino, os.pread(handle, 4, _COUNTER)
        except OSError:
            return None
        finally:
            os.close(handle)
