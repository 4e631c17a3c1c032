"""What customers bought at this kiosk, for who answers: a file's look per request, and no lock."""

import os
from collections.abc import Mapping
from pathlib import Path

from c2rec.runtime.events.bought_file import MOST_BYTES, bought_path, parse_line
from c2rec.runtime.home.disk import home_errors
from c2rec.runtime.home.identity import pseudonym
from c2rec.runtime.home.watch import FileStamp, file_stamp


class BoughtHere:
    """Follows ``bought.txt`` of a home: of a file that grew, it reads what is new.

    Args:
        home: the home folder.
        customer_key: makes pseudonyms.
    """

    def __init__(self, home: Path, customer_key: bytes) -> None:
        self._path, self._key = bought_path(home), customer_key
        self._days: dict[str, dict[str, int]] = {}
        self._stamp: FileStamp = None
        self._inode = self._read = 0

    def keep_up(self) -> None:
        """Follow the file; costs a call of ``stat`` where nothing was bought.

        Raises:
            HomeError: it can't be read; what was known before still is.
        """
        stamp = file_stamp(self._path)  # before it is read, so that no change is missed
        if stamp == self._stamp:
            return
        if stamp is None:
            self._days, self._read = {}, 0
        else:
            with home_errors(f"can't read {self._path}"):
                self._follow()
        self._stamp = stamp

    def of(self, customer_id: str) -> Mapping[str, int]:
        """Items that a customer bought, by id: the day of the last purchase, since 1970."""
        if not self._days:
            return {}
        return self._days.get(pseudonym(self._key, customer_id).hex(), {})

    def _follow(self) -> None:
        if not self._path.is_file():
            raise OSError(0, "it is no file")  # to open a pipe would wait
        with self._path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_size > 2 * MOST_BYTES:
                raise OSError(0, f"it has {found.st_size:,} bytes, more than c2rec writes")
            if found.st_ino != self._inode or found.st_size < self._read:
                self._days, self._read, self._inode = {}, 0, found.st_ino
            file.seek(self._read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]  # another process may be writing the last line
        for line in whole.split(b"\n"):
            bought = parse_line(line)
            if bought is not None:
                days = self._days.setdefault(bought.customer, {})
                days[bought.item] = max(bought.day, days.get(bought.item, 0))
        self._read += len(whole)
