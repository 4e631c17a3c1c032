"""Fault 45: ten thousand faulty cycles, after which memory, files and handles are as they were.

A cycle is a list of steps, each a function of the kiosk and chance.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import polars as pl
import pytest

from c2rec.export.kit import write_kit
from c2rec.runtime.errors import HomeError, SyncError
from c2rec.runtime.events.carve import PAGE
from c2rec.runtime.events.events import KINDS
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.push import send
from c2rec.runtime.home.enrol import enrol
from c2rec.runtime.home.identity import pseudonym
from c2rec.runtime.home.settings import Settings
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.sync.sync import sync
from tests.faults.server import PORTAL, Reply, serve
from tests.faults.server import Fault as ReleaseFault
from tests.faults.server import Server as ReleaseServer
from tests.kiosks import Fault, Server, purchase, serving
from tests.offices import Office, make_office
from tests.repositories import Head

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
    head: Head
    releases: ReleaseServer
    """Serves the repository."""
    acknowledged: set[str] = field(default_factory=set)
    cycle: int = 0
    synced: int = 0
    failed: int = 0

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


def publish(kiosk: Kiosk, chance: random.Random) -> None:
    """Head office publishes a release, and forgets the one before the last."""
    if kiosk.cycle % 400 == 0:
        name = f"2020-07-27-{16 + kiosk.cycle:08x}"
        rebought = chance.sample(range(4, 30), 3)
        kiosk.head.publish(name=name, seed=chance.randrange(3), rebought=rebought)
        shutil.rmtree(kiosk.head.releases.pop().folder)


def take(kiosk: Kiosk, chance: random.Random) -> None:
    """Sync, and half of the time something is wrong with the server; what is active answers."""
    if chance.random() < 0.3:
        kiosk.releases.fault = chance.choice([None, None, *RELEASE_FAULTS])
        if kiosk.cycle % 400 > 200:
            kiosk.releases.fault = None  # so that each release is taken at some time
        try:
            kiosk.synced += sync(kiosk.home).outcome == "installed"
        except SyncError:
            kiosk.failed += 1
        kiosk.releases.requests.clear()
    if chance.random() < 0.1:
        recommender = Recommender.open(kiosk.home)
        assert recommender.recommend("c000003").tier == "personal"
        recommender.close()


def _cut(_path: str, reply: Reply) -> Reply:
    return replace(reply, content=reply.content[: len(reply.content) // 2])


def _flip(_path: str, reply: Reply) -> Reply:
    return replace(reply, content=reply.content[:-3] + b"\0" + reply.content[-2:])


RELEASE_FAULTS: list[ReleaseFault] = [
    _cut,
    _flip,
    lambda _path, _reply: Reply(200, PORTAL),
    lambda _path, _reply: Reply(500, b""),
    lambda path, reply: Reply(404, b"") if path.startswith("blob/") else reply,
]
STEPS: list[Step] = [record, push, publish, take, end, erase, damage, full_disk]


@pytest.fixture
def kiosk() -> Iterator[Kiosk]:
    folder = Path(tempfile.mkdtemp(prefix="c2rec-soak-"))
    office = make_office(folder)
    head = Head(folder, office.keys)
    head.publish()
    write_kit(office.keys, "S1", "k1", folder / "kit")
    with serving(office.inbox) as server, serve(head.repo) as releases:
        settings = Settings(repository=releases.url, connect_timeout=2.0, read_timeout=2.0)
        enrol(folder / "home", folder / "kit", settings)
        sync(folder / "home")
        outbox = Outbox(folder / "home", office.keys.identity("S1", "k1"))
        yield Kiosk(office, server, outbox, head, releases)
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
        f"handles, at most {files} files, {size >> 10} KiB at the end; {kiosk.synced} releases "
        f"taken, {kiosk.failed} syncs failed"
    )
    assert kiosk.synced >= CYCLES // 400
    assert kiosk.failed > CYCLES // 50
    assert after[0] - before[0] < 16 << 20
    assert after[1] <= before[1] + 2
    # events.db and what was set aside of it; state, settings, locks; two releases of six files each
    # and one in the making; signed metadata
    assert files <= 60
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
