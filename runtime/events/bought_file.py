"""``HOME/bought.txt``: what customers bought at this kiosk that its releases don't know of yet.

An event leaves ``events.db`` once head office has it, and comes back with a release days later. In
between this file knows, so that nobody is shown what they have just paid for (``BoughtHere``). It
is apart from ``events.db`` so that an answer waits for no lock, and whatever becomes of the one
leaves the other alone. A line is ``PSEUDONYM DAY ITEM``, the day since 1970 by the kiosk's clock.

Who writes holds the outbox's lock: a line is added at the end, or the file replaced by a whole one.
Who reads holds none. A line that was cut off by a power cut says nothing to anybody.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from c2rec.runtime.events.events import Event
from c2rec.runtime.events.outbox_file import OutboxFile
from c2rec.runtime.home.disk import home_errors, sync_to_disk, write_whole

KEPT_DAYS = 366
"""Days after which a purchase is forgotten though no release came that covers it: a kiosk without
one for a year is nobody's any more."""
MOST_BYTES = 4 << 20
"""Bytes from which on the older half goes: some 80,000 purchases."""
DAY_MS = 86_400_000
"""Milliseconds of a day."""
_LINE = re.compile(rb"^([0-9a-f]{32}) ([0-9]{1,6}) (.+)$", re.MULTILINE)


def bought_path(home: Path) -> Path:
    """Where it lies."""
    return home / "bought.txt"


def lines_of(content: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Pseudonym, day and item, as they are written, of each line that is as it should be."""
    return _LINE.findall(content[: content.rfind(b"\n") + 1])


def check_file(path: Path) -> None:
    """Make sure that it can be read at all, before it is opened: a pipe would be waited for.

    Raises:
        OSError: it is no file, or larger than one that was written here.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "it is no file")
    if found.st_size > 2 * MOST_BYTES:
        raise OSError(0, f"it has {found.st_size:,} bytes, more than c2rec writes")


def note_bought(home: Path, event: Event, at: int) -> None:
    """Write down what a customer bought, on disk when this returns; of other events, nothing.

    Args:
        home: the home folder; the caller holds the outbox's lock.
        event: what was recorded.
        at: when, milliseconds since 1970.

    Raises:
        OSError: it can't be written.
    """
    if event.kind != "bought" or event.customer is None:
        return
    path, day = bought_path(home), at // DAY_MS
    lines = "".join(f"{event.customer} {day} {each.item}\n" for each in event.items).encode()
    new = not path.exists()
    if not new:
        check_file(path)
        _make_room(path, day - KEPT_DAYS)
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            lines = lines if file.read(1) == b"\n" else b"\n" + lines  # the last one was cut off
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_to_disk(home)


def forget_customers(home: Path, names: set[str], add: Callable[[str, str, str], None]) -> None:
    """Take customers out of the file, and leave nothing of an earlier one that was cut off.

    Args:
        home: the home folder; the caller holds the outbox's lock.
        names: pseudonyms, 32 hex digits each.
        add: is told, before the file is replaced, its name and its old and new sha256.

    Raises:
        HomeError: the file can't be read or written.
    """
    path = bought_path(home)
    with home_errors(f"can't write {path}", "move it away, if it is not c2rec's"):
        path.with_name(f"{path.name}.tmp").unlink(missing_ok=True)
        if not path.exists():
            return
        check_file(path)
        content = path.read_bytes()
        kept = _without(content, lambda customer, _: customer.decode() in names)
        if kept == content:
            return
        if any(name.encode() in content for name in names):
            add(path.name, hashlib.sha256(content).hexdigest(), hashlib.sha256(kept).hexdigest())
        write_whole(path, kept)


def forget_before(home: Path, day: int) -> None:
    """Forget what was bought before a day, since 1970.

    Raises:
        HomeError: the file can't be read or written, or its lock not be had.
    """
    path = bought_path(home)
    if not path.exists():
        return
    lock = OutboxFile(home)
    try:
        with lock.locked(), home_errors(f"can't write {path}"):
            check_file(path)
            content = path.read_bytes()
            kept = _without(content, lambda _, bought: bought < day)
            if kept != content:
                write_whole(path, kept)
    finally:
        lock.unlock()


def _make_room(path: Path, oldest: int) -> None:
    """Drop lines from before a day, and the older half of a file that is too large."""
    with path.open("rb") as file:
        first = lines_of(file.readline(2000))  # lines are in the order of time
    large = path.stat().st_size > MOST_BYTES
    if first and int(first[0][1]) >= oldest and not large:
        return
    content = path.read_bytes()
    if large:
        content = content[content.find(b"\n", len(content) // 2) + 1 :]
    write_whole(path, _without(content, lambda _, bought: bought < oldest))


def _without(content: bytes, gone: Callable[[bytes, int], bool]) -> bytes:
    """Leave out lines, told by pseudonym and day, and those that can't be read."""
    kept = [line for line in lines_of(content) if not gone(line[0], int(line[1]))]
    return b"".join(b" ".join(line) + b"\n" for line in kept)
