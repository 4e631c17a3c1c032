"""A day of a store in a few minutes: shoppers, a till, syncs, new releases, a network that is lost.

The server of the page and every command are processes of their own, the repository and the inbox
are nginx as documented. Eight hours pass in ``C2REC_DAY_SECONDS``, 240 unless told otherwise; how
long a shopper thinks is compressed, how long the machine works isn't.
"""

import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from c2rec.export.collect import collect
from c2rec.export.keys import Keys, make_keys
from c2rec.export.kit import write_kit
from c2rec.export.publish import publish
from c2rec.export.storage import FolderStorage
from c2rec.runtime.home.identity import pseudonym
from tests.release import Release, make_release
from tests.store_day import LIFETIME_S, Engine, Page, Store, repeating
from tests.web_servers import Nginx, nginx

if not os.environ.get("C2REC_REQUIRE_NGINX"):
    pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")

DAY_S = 8 * 3600
SECONDS = max(120.0, float(os.environ.get("C2REC_DAY_SECONDS", "240")))
"""In less, more sessions would be left than there is room for until a real minute has passed."""
SCALE = SECONDS / DAY_S
QUARTER = 900 * SCALE
"""Seconds of the test from one sync to the next."""
PAGES = 2
STORE, DEVICE = "S001", "K1"
SIZES: dict[str, Any] = {"items": 20_000, "customers": 3_000, "size": 64}


@dataclass
class HeadOffice:
    """Keys and bundles."""

    folder: Path
    keys: Keys
    server: Nginx
    made: list[Release] = field(default_factory=list)

    def make(self, **bundle: Any) -> Release:
        number = len(self.made) + 1
        release = make_release(
            self.folder / f"bundle-{number}",
            name=f"2020-07-27-{number:08x}",
            stores=[[STORE]] * SIZES["customers"],
            **SIZES,
            **bundle,
        )
        self.made.append(release)
        return release


@pytest.fixture
def office(tmp_path: Path) -> Iterator[HeadOffice]:
    with nginx(tmp_path) as server:
        office = HeadOffice(tmp_path, make_keys(tmp_path / "keys", passphrase=None), server)
        publish(office.make().folder, server.repository, office.keys)
        office.make(seed=1)  # a new model
        office.make(seed=1, bought_again=range(0, SIZES["customers"], 50))
        yield office


@pytest.fixture
def store(office: HeadOffice) -> Store:
    write_kit(office.keys, STORE, DEVICE, office.folder / "kit")
    certificate, key = office.server.tls.issue("kiosk", common_name=DEVICE, unit=STORE)
    place = Store(office.folder / "home", office.folder / "shelf.csv", office.folder / "log")
    url, tls = office.server.url, office.server.tls
    enrolled = place.run(
        "enrol", str(office.folder / "kit"), "--repository", url, "--events", url,
        "--ca-bundle", str(tls.ca), "--client-cert", str(certificate), "--client-key", str(key),
    )  # fmt: skip
    assert enrolled.returncode == 0, enrolled.stderr
    settings = place.home / "kiosk.toml"
    settings.write_text(settings.read_text() + "connect_timeout = 1.0\nread_timeout = 1.0\n")
    assert place.run("sync").returncode == 0
    place.write_shelf(office.made[0].item_ids[:-2], [])
    return place


@dataclass
class Timer:
    """What the kiosk's timer does every quarter of an hour: sync, which sends events too."""

    store: Store
    outcomes: Counter[str] = field(default_factory=Counter)

    def __call__(self) -> None:
        done = self.store.run("sync", "--json")
        if done.returncode == 0:
            self.outcomes[json.loads(done.stdout)["outcome"]] += 1
        else:
            self.outcomes["failed"] += 1
            assert "Traceback" not in done.stderr, done.stderr


@dataclass
class Till:
    """Sells, and counts what is in stock."""

    store: Store
    items: list[str]
    customers: list[str]
    chance: random.Random
    sold: list[str] = field(default_factory=list)
    """Ids of events."""

    def __call__(self) -> None:
        item, customer = self.chance.choice(self.items), self.chance.choice(self.customers)
        sold = self.store.run("record", "bought", item, "--customer", customer, "--price", "9.5")
        assert sold.returncode == 0, sold.stderr
        self.sold.append(sold.stdout.strip())
        self.store.note("bought", customer, (item,))
        self.store.write_shelf(self.items, self.chance.sample(self.items, 200))


@pytest.mark.soak
def test_a_day_of_a_store(office: HeadOffice, store: Store) -> None:
    items, customers = office.made[0].item_ids[:-2], office.made[0].customer_ids[3:]
    timer = Timer(store)
    till = Till(store, items, customers, random.Random(4))  # noqa: S311 - to be repeated
    engine = Engine(store.home, share=0.25)
    with store.serving():
        pages = [
            Page(store, random.Random(each), SCALE, engine)  # noqa: S311 - to be repeated
            for each in range(PAGES)
        ]
        began = time.monotonic()

        def until(hour: float) -> None:
            time.sleep(max(0.0, began + hour / 8 * SECONDS - time.monotonic()))

        with ExitStack() as staff:
            for page in pages:
                shoppers = partial(page.visit, customers, items)
                staff.enter_context(repeating(shoppers, 120 * SCALE))
            staff.enter_context(repeating(timer, QUARTER))
            staff.enter_context(repeating(till, QUARTER))
            until(1)
            before, handles = store.memory(), store.handles()
            until(1.5)
            with office.server.gone():
                until(2.5)
            until(3.5)
            publish(office.made[1].folder, office.server.repository, office.keys)
            until(5)
            with office.server.silent():
                until(6)
            publish(office.made[2].folder, office.server.repository, office.keys)
            until(6.5)
            with office.server.gone():
                until(7)
            until(8)
            after, at_the_end = store.memory(), store.handles()
        for page in pages:
            page.close()
        engine.close()
        timer()
        _report(store, engine, timer, before, after, (handles, at_the_end))
        _check_sessions(store)
        assert store.handles() <= handles
    assert store.wrong == []
    assert list(dict.fromkeys(store.releases)) == [each.manifest.release for each in office.made]
    assert timer.outcomes["installed"] == 2
    assert timer.outcomes["failed"] >= 4
    assert after["RssAnon"] - before["RssAnon"] < 24
    assert at_the_end <= handles + 2
    _check_log(store)
    _check_arrived(office, store, till)


def _check_sessions(store: Store) -> None:
    """Who left without a word is forgotten: all 64 places are free, and one more is refused."""
    time.sleep(LIFETIME_S + 2)
    fresh = Page(store, random.Random(0), SCALE)  # noqa: S311 - it draws nothing
    started = [fresh.ask("POST", "/api/sessions", {}, 201)["session"] for _ in range(64)]
    fresh.ask("POST", "/api/sessions", {}, 503)
    for session in started:
        fresh.ask("DELETE", f"/api/sessions/{session}", None, 204)
    fresh.close()


def _check_log(store: Store) -> None:
    """Each line is a request, and nothing else was told."""
    lines = [json.loads(line) for line in store.log.read_text().splitlines()]
    assert [line for line in lines if line["level"] == "warning"] == []
    bad = [line for line in lines if line.get("status", 0) >= 500]
    assert len(bad) == 1, bad  # the 65th session


def _check_arrived(office: HeadOffice, store: Store, till: Till) -> None:
    """Whatever shoppers and the till did is at head office, once."""
    while json.loads(store.run("queue", "--send", "--json").stdout)["events"]:
        pass
    out = office.folder / "collected"
    found = collect(FolderStorage(office.server.inbox), out, office.keys)
    assert found.doubts == []
    key = office.keys.customer_key
    rows = pl.read_parquet(out / "impressions.parquet")
    events = rows.group_by("event_id", maintain_order=True).agg(
        pl.col("kind", "customer_id").first(), pl.col("item_id")
    )
    assert set(till.sold) <= set(events["event_id"])
    names = {pseudonym(key, each).hex(): each for each in office.made[0].customer_ids}
    arrived = Counter(
        (kind, names.get(customer), tuple(items)) for _, kind, customer, items in events.iter_rows()
    )
    assert arrived == store.happened
    print(f"events: {dict(Counter(events['kind']))}, each arrived once")


def _report(
    store: Store,
    engine: Engine,
    timer: Timer,
    before: dict[str, float],
    after: dict[str, float],
    handles: tuple[int, int],
) -> None:
    print(
        f"\na day of 8 hours in {SECONDS:g} s; answers by release {dict(Counter(store.releases))}"
    )
    api = [each.ms for each in store.answers]
    routes: dict[str, list[float]] = {"API": api, "engine alone": engine.ms}
    for each in store.answers:
        routes.setdefault(each.route, []).append(each.ms)
    for what, ms in routes.items():
        middle, p99 = np.percentile(ms, [50, 99])
        print(
            f"{what:36} {len(ms):5} times, p50 {middle:6.1f}, p99 {p99:6.1f}, max {max(ms):.0f} ms"
        )
    ratio = np.percentile(api, 99) / np.percentile(engine.ms, 99)
    print(f"p99 of the API is {ratio:.1f} times the engine's; wanted: 5 at most")
    for name in before:
        print(f"{name:>8} of the server: {before[name]:.1f} to {after[name]:.1f} MB")
    print(f"handles: {handles[0]} to {handles[1]}; syncs: {dict(timer.outcomes)}")
