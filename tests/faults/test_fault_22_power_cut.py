"""Fault 22: a power cut loses or tears what was not synced."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from c2rec.runtime.events.bought_file import bought_path, lines_of
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.waiting import count_waiting
from tests.kiosks import WHO, make_identity
from tests.power_cut import Operation, build, cut, record

CUTS = 150
SCRIPT = """
import os, sys
from pathlib import Path
from c2rec.runtime.events import outbox_file
from c2rec.runtime.events.outbox import Outbox
from tests.kiosks import WHO, make_identity, purchase
{prelude}
home = Path(sys.argv[1])
told = os.open(home / "told", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
def tell(what):
    os.write(told, what.encode() + b" ")
outbox = Outbox(home, make_identity())
for n in range(120):
    tell("recorded " + outbox.record(purchase("i" * (1 + 11 * n % 200), WHO if n < 90 else None)))
    if n % 30 == 20:
        batch = outbox.freeze()
        tell(f"arrived {{batch.count}}")
        outbox.arrived(batch)
    if n == 90:
        outbox.anonymise([WHO])
        tell("erased -")
    if n == 100:  # as after many events, while the log goes on
        outbox.work(lambda db: db.execute("PRAGMA wal_checkpoint(PASSIVE)"))
"""


def run(folder: Path, prelude: str = "") -> list[Operation]:
    (folder / "home").mkdir()
    script = SCRIPT.format(prelude=prelude)
    return record(build(folder), folder / "home", folder / "log", script)


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> list[Operation]:
    return run(tmp_path_factory.mktemp("recorded"))


def told(operations: list[Operation]) -> list[tuple[str, str]]:
    """What the process told before the cut: words, in pairs."""
    words = b"".join(each.data for each in operations if each.path == "told").decode().split()
    return list(zip(words[::2], words[1::2], strict=True))


def after(operations: list[Operation], at: int, home: Path) -> None:
    """Write a home as a power cut after so many operations may leave it."""
    files = [each for each in operations[:at] if each.path not in ("told", "events.lock")]
    home.mkdir()
    cut(files, home, random.Random(at))  # noqa: S311 - a draw that can be repeated


def lost(operations: list[Operation], at: int, home: Path) -> set[str]:
    """Ids that were acknowledged, and are neither in the outbox nor at head office."""
    recorded = [what for kind, what in told(operations[:at]) if kind == "recorded"]
    arrived = sum(int(what) for kind, what in told(operations[:at]) if kind == "arrived")
    outbox = Outbox(home, make_identity())
    while outbox.freeze() is not None:
        pass
    there = b"".join(frozen.content for n, _ in outbox.ready() if (frozen := outbox.frozen(n)))
    assert count_waiting(outbox).set_aside == 0, "a power cut does no damage"
    outbox.close()
    with closing(sqlite3.connect(home / "events.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    return {each for each in recorded[arrived:] if each.encode() not in there}


@pytest.mark.parametrize("part", range(5))
def test_nothing_acknowledged_is_lost(
    operations: list[Operation], tmp_path: Path, part: int
) -> None:
    chance = random.Random(part)  # noqa: S311 - as above
    for number in range(CUTS // 5):
        at = chance.randrange(len(operations) + 1)
        home = tmp_path / str(number)
        after(operations, at, home)
        assert lost(operations, at, home) == set(), f"cut after {at} operations"


def test_what_customers_bought_is_known_here_afterwards(
    operations: list[Operation], tmp_path: Path
) -> None:
    erasing = next(n for n, each in enumerate(operations) if told(operations[:n])[90:])
    chance = random.Random(0)  # noqa: S311 - as above
    for number in range(40):
        at = chance.randrange(erasing)
        home = tmp_path / str(number)
        after(operations, at, home)
        recorded = sum(kind == "recorded" for kind, _ in told(operations[:at]))
        path = bought_path(home)
        lines = lines_of(path.read_bytes()) if path.exists() else []
        items = ["i" * (1 + 11 * n % 200) for n in range(min(recorded, 90))]
        assert [item.decode() for _, _, item in lines[: len(items)]] == items


def test_who_was_erased_does_not_come_back(operations: list[Operation], tmp_path: Path) -> None:
    words = [n for n, each in enumerate(operations) if each.data == b"erased - "]
    for number, at in enumerate(range(words[0] + 1, len(operations), 17)):
        home = tmp_path / str(number)
        after(operations, at, home)
        for path in home.iterdir():
            assert WHO.hex().encode() not in path.read_bytes(), f"cut after {at} operations"


def test_the_simulated_disk_does_lose_what_is_not_synced(tmp_path: Path) -> None:
    """With synchronous=NORMAL, or the tests above would show nothing."""
    prelude = (
        "set_up = outbox_file._set_up\n"
        "def weaker(db):\n"
        "    set_up(db)\n"
        "    db.execute('PRAGMA synchronous = NORMAL')\n"
        "outbox_file._set_up = weaker\n"
    )
    operations = run(tmp_path, prelude)
    chance, losses = random.Random(0), 0  # noqa: S311 - as above
    for number in range(30):
        at = chance.randrange(len(operations) // 2, len(operations))
        after(operations, at, tmp_path / str(number))
        losses += bool(lost(operations, at, tmp_path / str(number)))
    assert losses > 10
