"""Fault 45: ten thousand faulty cycles, after which memory, files and handles are as they were.

A cycle is a list of steps, each a function of the kiosk and chance. What else a kiosk does over
and over, such as a sync, is one more step of ``STEPS``.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import polars as pl
import pytest

from c2rec.runtime.carve import PAGE
from c2rec.runtime.errors import HomeError
from c2rec.runtime.events import KINDS
from c2rec.runtime.identity import pseudonym
from c2rec.runtime.outbox import Outbox
from c2rec.runtime.push import send
from tests.kiosks import Fault, Server, purchase, serving
from tests.offices import Office, make_office

CYCLES = 10_000
WARM_UP = 1_000
"""Cycles until what is made once is there."""
FAULTS: list[Fault] = ["lose the answer", "drop", "page", 400, 403, 500, 503]


@dataclass
class Kiosk:
    """A kiosk that lives through it."""

    office: Office
    server: Server
    outbox: Outbox
    acknowledged: set[str] = field(default_factory=set)
    cycle: int = 0

    @property
    def home(self) -> Path:
        return self.outbox.home

    def reopen(self) -> None:
        """As after the end of its process."""
        self.outbox.close()
        self.outbox = Outbox(self.home, self.outbox.identity)


Step: TypeAlias = Callable[[Kiosk, random.Random], None]


def record(kiosk: Kiosk, chance: random.Random) -> None:
    who = pseudonym(kiosk.outbox.identity.customer_key, f"C{chance.randrange(50)}")
    event = purchase(f"i{chance.randrange(500)}", who, kind=chance.choice(KINDS))
    kiosk.acknowledged.add(kiosk.outbox.record(event))


def push(kiosk: Kiosk, chance: random.Random) -> None:
    """Two of three times something is wrong with the server."""
    fault: Fault = chance.choice([*FAULTS, None, None, None, None])
    kiosk.server.fault = lambda _method, _path: fault
    if chance.random() < 0.2:
        kiosk.outbox.retry_dead()
    if chance.random() < 0.5:
        send(kiosk.outbox, kiosk.server.inbox())
    kiosk.server.requests.clear()


def end(kiosk: Kiosk, chance: random.Random) -> None:
    """The process ends, with its files as they are."""
    if chance.random() < 0.02:
        kiosk.reopen()


def erase(kiosk: Kiosk, chance: random.Random) -> None:
    if chance.random() < 0.01:
        who = pseudonym(kiosk.outbox.identity.customer_key, f"C{chance.randrange(50)}")
        kiosk.outbox.anonymise([who])


def damage(kiosk: Kiosk, chance: random.Random) -> None:
    """A page is overwritten, once all that was acknowledged has arrived."""
    if chance.random() < 0.005:
        kiosk.server.fault = lambda _method, _path: None
        kiosk.outbox.retry_dead()
        while send(kiosk.outbox, kiosk.server.inbox()).error is not None:
            pass
        kiosk.outbox.close()
        path = kiosk.home / "events.db"
        with path.open("r+b") as file:
            file.seek(PAGE * chance.randrange(path.stat().st_size // PAGE))
            file.write(chance.randbytes(PAGE))
        kiosk.outbox = Outbox(kiosk.home, kiosk.outbox.identity)


def full_disk(kiosk: Kiosk, chance: random.Random) -> None:
    """The outbox's folder can't be written for a moment."""
    if chance.random() < 0.01:
        kiosk.outbox.close()
        aside = kiosk.home.with_name("away")
        kiosk.home.rename(aside)
        kiosk.home.write_text("in the way")
        with pytest.raises(HomeError):
            Outbox(kiosk.home, kiosk.outbox.identity)
        kiosk.home.unlink()
        aside.rename(kiosk.home)
        kiosk.outbox = Outbox(kiosk.home, kiosk.outbox.identity)


STEPS: list[Step] = [record, push, end, erase, damage, full_disk]


@pytest.fixture
def kiosk() -> Iterator[Kiosk]:
    folder = Path(tempfile.mkdtemp(prefix="c2rec-soak-"))
    office = make_office(folder)
    with serving(office.inbox) as server:
        outbox = Outbox(folder / "home", office.keys.identity("S1", "k1"))
        yield Kiosk(office, server, outbox)
    shutil.rmtree(folder)


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - one that counts its own handle


@pytest.mark.soak
def test_ten_thousand_faulty_cycles(kiosk: Kiosk) -> None:
    chance = random.Random(45)  # noqa: S311 - a draw that can be repeated
    before: tuple[int, int] | None = None
    files = 0
    for cycle in range(CYCLES):
        kiosk.cycle = cycle
        for step in STEPS:
            step(kiosk, chance)
        files = max(files, sum(path.is_file() for path in kiosk.home.rglob("*")))
        if cycle == WARM_UP:
            before = resident(), handles()
    assert before is not None
    after = resident(), handles()
    size = sum(path.stat().st_size for path in kiosk.home.rglob("*") if path.is_file())
    print(
        f"{CYCLES} cycles: {before[0] >> 20} to {after[0] >> 20} MiB, {before[1]} to {after[1]} "
        f"handles, at most {files} files, {size >> 10} KiB at the end"
    )
    assert after[0] - before[0] < 16 << 20
    assert after[1] <= before[1] + 2
    assert files <= 12  # events.db, -wal, -shm, two locks, and three set aside with their logs
    assert size < 64 << 20
    _arrive(kiosk)


def _arrive(kiosk: Kiosk) -> None:
    """Show that all that was acknowledged has arrived, once."""
    kiosk.server.fault = lambda _method, _path: None
    kiosk.outbox.retry_dead()
    while send(kiosk.outbox, kiosk.server.inbox()).error is not None:
        pass
    kiosk.outbox.close()
    found = kiosk.office.collect()
    ids = pl.read_parquet(kiosk.office.out / "impressions.parquet")["event_id"].to_list()
    assert len(ids) == len(set(ids))
    assert set(ids) == kiosk.acknowledged
    assert {doubt.kind for doubt in found.doubts} <= {"damaged"}
