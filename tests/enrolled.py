"""An enrolled kiosk beside a real repository, with releases, online scores and waiting events."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from c2rec.export.online_lists import OnlineLists
from c2rec.export.online_scores import About, MadeLists, publish_scores
from c2rec.export.signed import open_repository
from c2rec.runtime.events.events import Event, EventItem
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.home.identity import Identity, identity_path, pseudonym
from c2rec.runtime.home.settings import SETTINGS, Settings
from c2rec.runtime.records import Channel
from c2rec.runtime.sync.sync import sync
from c2rec.runtime.sync.trust import ROOT
from tests.repositories import Head, make_head

AS_OF = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
"""An hour ago: the repository signs at the time that it is."""


@dataclass(frozen=True)
class Kiosk:
    """A home, and the head office that it is enrolled at."""

    home: Path
    head: Head
    identity: Identity

    def pseudonym(self, customer: str) -> bytes:
        return pseudonym(self.identity.customer_key, customer)


def enrol(head: Head, home: Path, *, store: str = "all") -> Kiosk:
    """Make a home as ``c2rec-kiosk enrol`` does."""
    home.mkdir(parents=True)
    identity = head.identity(store)
    identity_path(home).write_text(identity.to_json())
    (home / ROOT).write_bytes(head.root)
    (home / SETTINGS).write_text(Settings(repository=str(head.repo)).to_toml())
    return Kiosk(home, head, identity)


def make_kiosk(folder: Path) -> Kiosk:
    """A kiosk with two releases, online scores, and events of customers 3 and 4, some frozen."""
    head = make_head(folder / "head")
    kiosk = enrol(head, folder / "home")
    sync(kiosk.home)
    head.publish(seed=1)
    publish_lists(head, lists_for([f"c{n:06}" for n in range(3, 8)]))
    sync(kiosk.home)
    outbox = Outbox(kiosk.home, kiosk.identity)
    for customer in ("c000003", "c000004"):
        for kind in ("shown", "bought"):
            who = kiosk.pseudonym(customer).hex()
            outbox.record(Event(kind=kind, items=(EventItem(item="i000001"),), customer=who))
        if customer == "c000003":
            assert outbox.freeze() is not None
    outbox.close()
    return kiosk


def lists_for(
    customers: list[str],
    *,
    items: list[str] | None = None,
    probabilities: list[float] | None = None,
    bought: list[tuple[str, int]] = [],  # noqa: B006 - never changed
    stores: list[str] = ["all"],  # noqa: B006 - never changed
) -> OnlineLists:
    """Lists of customers; without ``items`` every one has other items and probabilities."""
    rng = np.random.default_rng(len(customers))
    item_ids: list[str] = sorted(
        {*(f"i{n:06}" for n in range(38)), *(items or []), *(i for i, _ in bought)}
    )
    place = {item: i for i, item in enumerate(item_ids)}
    listed, chances = [], []
    for _ in customers:
        if items is None:
            listed += rng.permutation(38)[:20].tolist()
            chances += sorted(rng.uniform(0.01, 0.5, 20).tolist(), reverse=True)
        else:
            listed += [place[item] for item in items]
            chances += probabilities or [0.0] * len(items)
    n, length = len(customers), len(listed) // len(customers)
    return OnlineLists(
        customers,
        [stores] * n,
        item_ids,
        np.arange(n + 1) * length,
        np.array(listed, np.int32),
        np.array(chances, np.float32),
        np.arange(n + 1) * len(bought),
        np.array([place[item] for item, _ in bought] * n, np.int32),
        np.array([at for _, at in bought] * n, np.int64),
    )


def publish_lists(
    head: Head,
    lists: OnlineLists,
    *,
    space: str | None = None,
    channel: Channel = "offline",
    as_of: datetime = AS_OF,
    half_life_hours: float = 24,
    ttl_hours: float = 72,
) -> int:
    """Publish online scores, and tell their seq."""
    about = About("test", space, channel, as_of, half_life_hours, ttl_hours)
    with open_repository(head.repo, head.keys) as repository:
        done = publish_scores(repository, head.keys, MadeLists(lists, about))
        repository.commit()
    return done.seq
