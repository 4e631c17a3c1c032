"""Whatever happens in whatever order, what was acknowledged arrives once."""

import shutil
import tempfile
from pathlib import Path

import polars as pl
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from c2rec.runtime.errors import NetworkError
from c2rec.runtime.events.inbox import FolderInbox, Reply
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.push import send
from tests.kiosks import WHO, purchase
from tests.offices import make_office


class BadLine(FolderInbox):
    """A folder behind a line on which things happen, one for each PUT."""

    def __init__(self, folder: Path, faults: list[str]) -> None:
        super().__init__(folder)
        self.faults = faults

    def put(self, key: str, content: bytes) -> Reply:
        """Carry it out, or don't, or let nobody hear of it."""
        fault = self.faults.pop(0) if self.faults else "none"
        if fault == "not heard":
            raise NetworkError("nobody answers")
        if fault == "later":
            return Reply("later", "the server answered 503")
        if fault == "refused":
            return Reply("refused", "the server answered 400")
        reply = super().put(key, content)
        if fault == "answer lost":
            raise NetworkError("the line broke")
        return Reply("unsure", "the server answered 200") if fault == "unsure" else reply


FAULTS = ["none", "not heard", "later", "refused", "answer lost", "unsure"]


class Life(RuleBasedStateMachine):
    """A kiosk's life. ``acknowledged`` is what has to arrive, by whether its customer is known."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="c2rec-life-"))
        self.office = make_office(self.folder)
        self.identity = self.office.keys.identity("S1", "k1")
        self.home = self.folder / "home"
        self.outbox = Outbox(self.home, self.identity)
        self.acknowledged = set[str]()
        self.image: set[str] | None = None
        self.odd = False

    @rule(number=st.integers(1, 4), named=st.booleans())
    def record(self, number: int, named: bool) -> None:
        for n in range(number):
            event = purchase(f"i{n}", WHO if named else None)
            self.acknowledged.add(self.outbox.record(event))

    @rule()
    def freeze(self) -> None:
        self.outbox.freeze()

    @rule(faults=st.lists(st.sampled_from(FAULTS), max_size=4))
    def send(self, faults: list[str]) -> None:
        send(self.outbox, BadLine(self.office.inbox, list(faults)))

    @rule()
    def retry_dead(self) -> None:
        self.outbox.retry_dead()

    @rule()
    def erase(self) -> None:
        self.outbox.anonymise([WHO])
        for path in self.home.iterdir():
            assert WHO.hex().encode() not in path.read_bytes()

    @rule()
    def crash(self) -> None:
        """The process ends without closing anything: its files are found as they were."""
        copy = shutil.copytree(self.home, self.folder / "crashed")
        self.outbox.close()
        shutil.rmtree(self.home)
        copy.rename(self.home)
        self.outbox = Outbox(self.home, self.identity)

    @rule()
    def keep_an_image(self) -> None:
        shutil.rmtree(self.folder / "image", ignore_errors=True)
        shutil.copytree(self.home, self.folder / "image")
        self.image = self.waiting()

    @precondition(lambda self: self.image is not None)
    @rule()
    def put_the_image_back(self) -> None:
        """What was recorded since, and had not arrived, is gone with the disk."""
        assert self.image is not None
        gone = self.waiting() - self.image
        arrived = set(self.arrived())
        self.acknowledged -= gone - arrived
        self.outbox.close()
        shutil.rmtree(self.home)
        shutil.copytree(self.folder / "image", self.home)
        self.outbox = Outbox(self.home, self.identity)
        self.odd = True

    @rule(number=st.integers(1, 3))
    def live_twice(self, number: int) -> None:
        """The same range of sequences is sent before and after an image is put back."""
        self.keep_an_image()
        for _ in range(2):
            self.record(number, named=False)
            send(self.outbox, BadLine(self.office.inbox, []))
            self.put_the_image_back()

    @rule()
    def collect_now(self) -> None:
        self.office.collect()

    def waiting(self) -> set[str]:
        query = "SELECT substr(body, 8, 32) FROM events"
        return {row[0] for row in self.outbox.work(lambda db: db.execute(query).fetchall())}

    def arrived(self) -> list[str]:
        self.office.collect()
        return pl.read_parquet(self.office.out / "impressions.parquet")["event_id"].to_list()

    def teardown(self) -> None:
        if not hasattr(self, "outbox"):
            return
        self.outbox.retry_dead()
        for _ in range(20):  # each conflict costs an attempt
            if send(self.outbox, FolderInbox(self.office.inbox)).error is None:
                break
        assert self.waiting() == set()
        self.outbox.close()
        found = self.office.collect()
        arrived = self.arrived()
        assert len(arrived) == len(set(arrived))
        assert set(arrived) == self.acknowledged
        assert self.odd or found.doubts == []
        shutil.rmtree(self.folder)


Life.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLife = Life.TestCase
