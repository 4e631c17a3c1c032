"""Fault 39, while the kiosk is in use: what is recorded during an erasure names nobody erased."""

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from c2rec.runtime.erasure.erase import erase, take_tombstones
from c2rec.runtime.erasure.tombstones import bury, salted
from c2rec.runtime.events.events import Event, EventItem
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.outbox_file import OutboxFile
from c2rec.runtime.home.state import changing_state
from tests.enrolled import Kiosk, enrol
from tests.repositories import make_head

CUSTOMER = "c000003"


@pytest.fixture
def kiosk(tmp_path: Path) -> Kiosk:
    return enrol(make_head(tmp_path / "head", publish=False), tmp_path / "home")


def purchase(kiosk: Kiosk) -> Event:
    who = kiosk.pseudonym(CUSTOMER).hex()
    return Event(kind="bought", items=(EventItem(item="i000001"),), customer=who)


def names(kiosk: Kiosk) -> set[str | None]:
    with closing(sqlite3.connect(kiosk.home / "events.db")) as db:
        return {name for (name,) in db.execute("SELECT customer FROM events")}


def test_an_event_that_waits_for_the_file_is_looked_at_once_it_has_it(kiosk: Kiosk) -> None:
    with changing_state(kiosk.home):
        pass  # a state without tombstones
    with closing(Outbox(kiosk.home, kiosk.identity)) as outbox:
        other = OutboxFile(kiosk.home)
        thread = threading.Thread(target=outbox.record, args=(purchase(kiosk),))
        with other.locked():
            thread.start()
            time.sleep(0.3)  # long enough to look first, for who does
            with changing_state(kiosk.home) as db:
                bury(db, salted(db, kiosk.identity).marks_of(CUSTOMER), "kiosk")
        thread.join()
        other.unlock()
        assert names(kiosk) == {None}


@pytest.mark.parametrize("who", ["head office", "kiosk"])
def test_nobody_is_named_by_what_is_recorded_during_an_erasure(
    kiosk: Kiosk, tmp_path: Path, who: str
) -> None:
    ended, began = threading.Event(), threading.Event()

    def record() -> None:
        with closing(Outbox(kiosk.home, kiosk.identity)) as outbox:
            while not ended.is_set():
                outbox.record(purchase(kiosk))
                began.set()

    thread = threading.Thread(target=record)
    thread.start()
    try:
        assert began.wait(30)
        if who == "kiosk":
            erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
        else:
            hidden = frozenset([kiosk.pseudonym(CUSTOMER)])
            assert take_tombstones(kiosk.home, hidden, kiosk.identity) == 1
    finally:
        ended.set()
        thread.join()
    assert names(kiosk) == {None}
