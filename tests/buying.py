"""Buying at an enrolled kiosk, and asking it afterwards."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from c2rec.runtime.answer import Answer
from c2rec.runtime.events.events import Event, EventItem, Kind
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.sync.sync import sync
from tests.enrolled import Kiosk, enrol
from tests.repositories import make_head

CUSTOMER, OTHER, STRANGER = "c000003", "c000004", "nobody yet"
DAY = datetime(2020, 8, 10, 12, tzinfo=UTC)
"""Two weeks after the releases' data end."""
BIN = Path(sys.executable).parent


def make_synced(folder: Path) -> Kiosk:
    """Make an enrolled kiosk with a release, at which nothing was bought yet."""
    kiosk = enrol(make_head(folder / "head"), folder / "home")
    sync(kiosk.home)
    return kiosk


def copy_of(kiosk: Kiosk, home: Path) -> Kiosk:
    """Copy a kiosk, so that a test may change it."""
    return Kiosk(Path(shutil.copytree(kiosk.home, home)), kiosk.head, kiosk.identity)


def buy(
    kiosk: Kiosk,
    *items: str,
    customer: str | None = CUSTOMER,
    at: datetime | None = None,
    kind: Kind = "bought",
) -> None:
    """Record a purchase here, or something else that happened."""
    event = Event(
        kind=kind,
        items=tuple(EventItem(item=each) for each in items),
        customer=None if customer is None else kiosk.pseudonym(customer).hex(),
    )
    clock = time.time if at is None else at.timestamp
    with closing(Outbox(kiosk.home, kiosk.identity, clock=clock)) as outbox:
        outbox.record(event)


def command(kiosk: Kiosk, *arguments: str) -> str:
    """Run ``c2rec-kiosk`` in a process of its own."""
    full = [str(BIN / "c2rec-kiosk"), "--home", str(kiosk.home), *arguments]
    return subprocess.run(full, check=True, capture_output=True, text=True, timeout=60).stdout


@contextmanager
def opened(kiosk: Kiosk, **options: Any) -> Iterator[Recommender]:
    recommender = Recommender.open(kiosk.home, **options)
    try:
        yield recommender
    finally:
        recommender.close()


def ids(answer: Answer) -> list[str]:
    return [item.item_id for item in answer.items]


def best(kiosk: Kiosk, customer: str | None = CUSTOMER, **options: Any) -> list[str]:
    """Whom a process that begins now recommends what; nothing is to go wrong."""
    with opened(kiosk) as recommender:
        answer = recommender.recommend(customer, **options)
        assert recommender.warnings == []
    return ids(answer)


def bought_note(answer: Answer) -> int:
    """How many items the answer says were bought before."""
    return next((note.items for note in answer.notes if note.kind == "bought"), 0)
