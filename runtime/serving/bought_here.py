"""What customers bought at this kiosk, for who answers: a file's look per request, and no lock."""

import os
from collections.abc import Mapping
from pathlib import Path

from c2rec.runtime.events.bought_file import bought_path, check_file, lines_of
from c2rec.runtime.home.disk import home_errors
from c2rec.runtime.home.identity import pseudonym
from c2rec.runtime.home.watch import FileStamp, file_stamp

TAIL = 200
"""Bytes by which a file is known again: two lines and more."""


class BoughtHere:
    """Follows ``bought.txt`` of a home: of a file that grew, it reads what is new.

    Args:
        home: the home folder.
        customer_key: makes pseudonyms.
    """

    def __init__(self, home: Path, customer_key: bytes) -> None:
        self._path, self._key = bought_path(home), customer_key
        self._lines: dict[bytes, list[tuple[bytes, bytes]]] = {}  # by pseudonym: day and item
        self._stamp: FileStamp = None
        self._inode = self._read = 0
        self._tail = b""  # what was read last: a file in its place may have got its inode

    def keep_up(self) -> None:
        """Follow the file; costs a call of ``stat`` where nothing was bought.

        Raises:
            HomeError: it can't be read; what was known before still is.
        """
        stamp = file_stamp(self._path)  # before it is read, so that no change is missed
        if stamp == self._stamp:
            return
        if stamp is None:
            self._start_over()
        else:
            with home_errors(f"can't read {self._path}"):
                self._follow()
        self._stamp = stamp

    def of(self, customer_id: str) -> Mapping[str, int]:
        """Items that a customer bought, by id: the day of the last purchase, since 1970."""
        if not self._lines:
            return {}
        days: dict[str, int] = {}
        for day, name in self._lines.get(pseudonym(self._key, customer_id).hex().encode(), ()):
            item_id = name.decode(errors="replace")
            days[item_id] = max(int(day), days.get(item_id, 0))
        return days

    def _start_over(self) -> None:
        self._lines, self._read, self._tail = {}, 0, b""

    def _follow(self) -> None:
        check_file(self._path)
        with self._path.open("rb") as file:
            file.seek(self._read - len(self._tail))
            content, inode = file.read(), os.fstat(file.fileno()).st_ino
            if inode != self._inode or not content.startswith(self._tail):
                self._start_over()
                self._inode = inode
                file.seek(0)
                content = file.read()
        new = content[len(self._tail) : content.rfind(b"\n") + 1]  # the last may be half written
        for customer, day, item in lines_of(new):
            self._lines.setdefault(customer, []).append((day, item))
        self._read += len(new)
        self._tail = (self._tail + new)[-TAIL:]
