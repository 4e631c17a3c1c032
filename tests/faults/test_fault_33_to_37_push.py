"""Faults 33 to 37: the answer to a PUT is lost, an old disk is put back, a kiosk is copied, a batch
is poison, the network comes back. Nothing is lost, nothing counts twice, and the odd is told.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from c2rec.export.doubts import Doubt
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.push import send
from c2rec.runtime.events.waiting import count_waiting
from c2rec.runtime.home.identity import identity_path
from tests.kiosks import Fault, Server, purchase, serving
from tests.offices import Office, make_office


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return make_office(tmp_path)


@pytest.fixture
def server(office: Office) -> Iterator[Server]:
    with serving(office.inbox) as running:
        yield running


def kiosk(office: Office, folder: str = "home") -> Outbox:
    return Outbox(office.folder / folder, office.keys.identity("S1", "k1"))


def assert_all_once(office: Office, ids: list[str]) -> list[Doubt]:
    """Show that head office has exactly these events; what it doubts."""
    doubts = office.collect().doubts
    rows = pl.read_parquet(office.out / "impressions.parquet")
    assert sorted(rows["event_id"]) == sorted(ids)
    transactions = pl.read_parquet(office.out / "transactions.parquet")
    assert transactions["quantity"].sum() == len(ids)
    return doubts


@pytest.mark.parametrize("frozen_more", [False, True])
def test_33_killed_between_put_and_acknowledgement(
    office: Office, server: Server, frozen_more: bool
) -> None:
    outbox = kiosk(office)
    identity_path(outbox.home).write_text(outbox.identity.to_json())
    (outbox.home / "kiosk.toml").write_text(f'repository = "/nowhere"\nevents = "{server.url}"\n')
    ids = [outbox.record(purchase(f"i{n}")) for n in range(5)]
    command = [sys.executable, "-c", "from c2rec.store_kiosk.cli import main; main()"]
    process = subprocess.Popen([*command, "--home", str(outbox.home), "queue", "--send"])

    def kill(_method: str, _path: str) -> Fault:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return "lose the answer"

    server.fault = kill
    process.wait(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert len(office.batches()) == 1
    ids.append(outbox.record(purchase("more")))
    if frozen_more:
        outbox.freeze()
    server.fault = lambda _method, _path: None
    sent = send(outbox, server.inbox())
    assert (sent.events, sent.conflicts) == (6, [])
    assert assert_all_once(office, ids) == []
    outbox.close()


def test_33_the_answer_is_lost_on_the_way(office: Office, server: Server) -> None:
    outbox = kiosk(office)
    ids = [outbox.record(purchase(f"i{n}")) for n in range(5)]
    server.fault = lambda _method, _path: "lose the answer"
    for _ in range(3):
        assert send(outbox, server.inbox()).error is not None
    server.fault = lambda _method, _path: None
    assert send(outbox, server.inbox()).events == 5
    assert assert_all_once(office, ids) == []
    outbox.close()


@pytest.mark.parametrize("again", [1, 3], ids=["the same range", "a longer range"])
def test_34_an_old_image_of_the_disk_is_put_back(
    office: Office, server: Server, again: int
) -> None:
    outbox = kiosk(office)
    ids = [outbox.record(purchase("before"))]
    outbox.close()
    shutil.copytree(outbox.home, office.folder / "image")
    outbox = kiosk(office)
    ids.append(outbox.record(purchase("lost with the disk, but sent")))
    assert send(outbox, server.inbox()).events == 2
    outbox.close()
    shutil.rmtree(outbox.home)
    shutil.move(office.folder / "image", outbox.home)
    outbox = kiosk(office)
    ids += [outbox.record(purchase(f"after {n}")) for n in range(again)]
    sent = send(outbox, server.inbox())
    assert sent.error is None
    assert bool(sent.conflicts) == (again == 1)
    assert len(count_waiting(outbox).conflicts) == len(sent.conflicts)
    doubts = assert_all_once(office, ids)
    assert {doubt.kind for doubt in doubts} == {"clone"}
    assert "c2rec-export keys kiosk" in doubts[0].advice
    outbox.close()


@pytest.mark.parametrize("more", [0, 2], ids=["the same ranges", "other ranges"])
def test_35_two_copies_of_a_kiosk(office: Office, server: Server, more: int) -> None:
    outbox = kiosk(office)
    ids = [outbox.record(purchase("before"))]
    outbox.close()
    shutil.copytree(outbox.home, office.folder / "copy")
    kiosks = [kiosk(office), kiosk(office, "copy")]
    for round_ in range(3):
        for number, each in enumerate(kiosks):
            for n in range(2 + more * number):
                ids.append(each.record(purchase(f"{round_} {number} {n}")))  # noqa: PERF401 - reads better
            assert send(each, server.inbox()).error is None
    doubts = assert_all_once(office, ids)
    assert "clone" in {doubt.kind for doubt in doubts}
    for each in kiosks:
        assert count_waiting(each).events == 0
        each.close()


def test_36_a_poison_batch_stops_no_other(office: Office, server: Server) -> None:
    outbox = kiosk(office)
    poison = outbox.record(purchase("poison"))
    outbox.freeze()
    ids = [outbox.record(purchase(f"i{n}")) for n in range(3)]
    server.fault = lambda _, path: 400 if path.endswith("/1-1") else None
    sent = send(outbox, server.inbox())
    assert (sent.events, len(sent.refused), sent.error) == (3, 1, None)
    (doubt,) = assert_all_once(office, ids)
    assert doubt.kind == "gap"
    assert "look for dead letters" in doubt.advice
    server.fault = lambda _method, _path: None
    outbox.retry_dead()
    assert send(outbox, server.inbox()).events == 1
    assert assert_all_once(office, [poison, *ids]) == []
    outbox.close()


def test_37_a_backlog_drains_through_a_bad_line(office: Office, server: Server) -> None:
    """Fifty batches; two of three requests come to nothing, one way or another."""
    outbox = kiosk(office)
    ids = list[str]()
    for n in range(50):
        ids.append(outbox.record(purchase(f"i{n}")))
        outbox.freeze()
    faults: list[Fault] = ["drop", None, "lose the answer", "page", None, 503, None, 429, "drop"]
    server.fault = lambda _method, _path: faults[len(server.requests) % len(faults)]
    attempts = 0
    while count_waiting(outbox).events:
        send(outbox, server.inbox())
        attempts += 1
        assert attempts < 200, "it gets on"
    assert assert_all_once(office, ids) == []
    assert outbox.delivery().failures == 0
    outbox.close()
