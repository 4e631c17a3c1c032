"""The outbox: what is acknowledged is kept, whoever records it, until it has arrived."""

import json
import multiprocessing
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from c2rec.runtime.answer import Answer, Attention, RecommendedItem
from c2rec.runtime.erasure.tombstones import bury, salted
from c2rec.runtime.errors import EventError, HomeError
from c2rec.runtime.events.batches import MAX_EVENTS, parse_batch
from c2rec.runtime.events.events import Event, EventItem, shown_event
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.outbox_file import has_wal_bug
from c2rec.runtime.events.waiting import count_waiting
from c2rec.runtime.home.identity import Identity
from c2rec.runtime.home.state import changing_state
from c2rec.runtime.reasons import CATALOGUE
from tests.kiosks import WHO, make_identity, purchase


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path, make_identity())
    yield made
    made.close()


def waiting_ids(home: Path) -> list[str]:
    """Ids of all events in the file, in order, read by another program."""
    with closing(sqlite3.connect(f"{(home / 'events.db').as_uri()}?mode=ro", uri=True)) as db:
        return [json.loads(row[0])["id"] for row in db.execute("SELECT body FROM events")]


def test_an_event_is_written_with_where_and_when_it_happened(outbox: Outbox) -> None:
    items = (EventItem(item="A", quantity=2, price=9.5), EventItem(item="B", quantity=1))
    event = Event(kind="bought", items=items, customer=WHO.hex(), session="s", arm="a")
    event_id = outbox.record(event)
    frozen = outbox.freeze()
    assert frozen is not None
    batch = parse_batch(frozen.content, outbox.identity.device_key)
    (record,) = batch.records
    assert record.event == event
    assert record.stamp.event_id == event_id
    assert (record.stamp.store, record.stamp.device, record.sequence) == ("Store 1", "k1", 1)
    assert abs(record.stamp.at / 1000 - outbox.now()) < 60
    assert frozen.key == f"events/Store%201/k1/{batch.header.epoch.name}/1-1"


def test_what_an_answer_showed_is_an_event() -> None:
    none = Attention(0, 0, 0)
    items = tuple(
        RecommendedItem(f"i{i}", "", 1.0, CATALOGUE, none, "personal") for i in range(300)
    )
    event = shown_event(
        Answer("c", "online", "personal", "r1", items, (), 1.0, arm="e/b", model="main"),
        customer=WHO.hex(),
    )
    assert (event.kind, event.channel, event.tier, event.release) == (
        "shown",
        "online",
        "personal",
        "r1",
    )
    assert (event.path, event.arm, event.model) == ("offline", "e/b", "main")
    assert [(each.item, each.position) for each in event.items[:2]] == [("i0", 1), ("i1", 2)]
    assert len(event.items) == 200


def test_threads_and_processes_record_at_once(outbox: Outbox) -> None:
    """Four processes of three threads: every id is there once, and sequences have no hole."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    processes = [
        context.Process(target=_record_many, args=(outbox.home, 3, 15, queue)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    ids = [outbox.record(purchase()) for _ in range(15)]
    for _ in processes:
        ids += queue.get()
    for process in processes:
        process.join()
    assert len(ids) == 4 * 3 * 15 + 15
    assert sorted(ids) == sorted(waiting_ids(outbox.home))
    frozen = outbox.freeze()
    assert frozen is not None
    records = parse_batch(frozen.content, outbox.identity.device_key).records
    assert [record.sequence for record in records] == list(range(1, len(ids) + 1))
    clocks = [record.stamp.clock for record in records]
    assert clocks == sorted(clocks), "read under the lock"


def _record_many(home: Path, threads: int, each: int, queue: object) -> None:
    outbox = Outbox(home, make_identity())
    ids = list[str]()
    workers = [
        threading.Thread(target=lambda: ids.extend(outbox.record(purchase()) for _ in range(each)))
        for _ in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    outbox.close()
    queue.put(ids)  # type: ignore[attr-defined] # a SimpleQueue, generic for checkers alone


def test_a_forked_child_records_by_its_own_connection(outbox: Outbox) -> None:
    outbox.record(purchase())
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from c2rec.runtime.events.outbox import Outbox\n"
        "from tests.kiosks import make_identity, purchase\n"
        "outbox = Outbox(Path(sys.argv[1]), make_identity())\n"
        "child = os.fork()\n"
        "for _ in range(20): outbox.record(purchase())\n"
        "if child == 0: os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(outbox.home)], check=True, timeout=60
    )
    assert len(set(waiting_ids(outbox.home))) == 41


def test_killed_at_any_moment_nothing_acknowledged_is_lost(outbox: Outbox) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from c2rec.runtime.events.outbox import Outbox\n"
        "from tests.kiosks import make_identity, purchase\n"
        "outbox = Outbox(Path(sys.argv[1]), make_identity())\n"
        "while True: print(outbox.record(purchase()), flush=True)\n"
    )
    acknowledged = []
    for n in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(outbox.home)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        acknowledged += [process.stdout.readline().strip() for _ in range(10 + n)]
        process.kill()
        acknowledged += process.communicate()[0].split()
    assert len(acknowledged) > 30
    assert set(acknowledged) <= set(waiting_ids(outbox.home))


def test_a_batch_is_the_same_however_often_it_is_read(outbox: Outbox) -> None:
    outbox.record(purchase("A"))
    first = outbox.freeze()
    outbox.record(purchase("B"))
    assert first is not None
    assert [outbox.frozen(number) for number, _ in outbox.ready()] == [first]
    second = outbox.freeze()
    assert second is not None
    assert second.key.endswith("/2-2")
    assert outbox.freeze() is None


def test_a_batch_is_closed_in_time(outbox: Outbox) -> None:
    for _ in range(3):
        outbox.work(lambda db: db.executescript(_copies(outbox)))
    frozen = outbox.freeze()
    assert frozen is not None
    assert frozen.count == MAX_EVENTS


def _copies(outbox: Outbox) -> str:
    """SQL that fills the outbox at once: recording a thousand events takes a thousand flushes."""
    if not waiting_ids(outbox.home):
        outbox.record(purchase())
    return (
        "BEGIN; INSERT INTO events (customer, kind, body, crc, sequence) WITH RECURSIVE n(i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) SELECT customer, kind, body, crc,"
        " next + i - 1 FROM events, n, outbox WHERE id = 1;"
        " UPDATE outbox SET next = next + 400, bytes = bytes + 400 * 300; COMMIT"
    )


def test_impressions_make_room_and_are_counted(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, make_identity(), quota=4_000)
    kept = [outbox.record(purchase("A"))]
    first = outbox.record(purchase("B", kind="shown"))
    shown = [outbox.record(purchase("B", kind="shown")) for _ in range(30)]
    waiting = count_waiting(outbox)
    assert waiting.bytes <= 4_000
    assert waiting.kinds["bought"]["new"] == 1
    dropped = waiting.dropped["shown"]
    assert dropped == 31 - waiting.kinds["shown"]["new"]
    ids = waiting_ids(tmp_path)
    assert first not in ids, "the oldest goes"
    assert shown[-1] in ids
    frozen = outbox.freeze()
    assert frozen is not None
    header = parse_batch(frozen.content, outbox.identity.device_key).header
    assert header.dropped == {"shown": dropped}
    assert (header.first, header.last) == (1, 32), "the hole is covered"
    assert kept[0] in ids
    outbox.close()


def test_a_purchase_that_was_acknowledged_never_makes_room(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, make_identity(), quota=2_000)
    acknowledged = fill(outbox, purchase())
    with pytest.raises(EventError, match=r"'bought' was not recorded: .* allowed are 2000"):
        outbox.record(purchase())
    with pytest.raises(EventError, match="'shown' was not recorded"):
        outbox.record(purchase("B", kind="shown"))
    assert waiting_ids(tmp_path) == acknowledged
    assert count_waiting(outbox).refused == {"shown": 1, "bought": 2}
    outbox.close()


def test_an_event_never_drops_what_is_worth_more(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, make_identity(), quota=2_000)
    while not count_waiting(outbox).dropped:  # until a tap makes room for a tap
        outbox.record(purchase(kind="tapped"))
    with pytest.raises(EventError, match="'shown' was not recorded"):
        outbox.record(purchase(kind="shown"))
    assert count_waiting(outbox).dropped == {"tapped": 1}
    outbox.record(purchase())
    dropped = count_waiting(outbox).dropped
    assert set(dropped) == {"tapped"}
    assert 2 <= dropped["tapped"] <= 3  # a purchase is longer, and may take the place of two taps
    outbox.close()


def fill(outbox: Outbox, event: Event) -> list[str]:
    """Record an event until it is refused."""
    ids = []
    try:
        while True:
            ids.append(outbox.record(event))
    except EventError:
        return ids


def bytes_of(home: Path) -> bytes:
    """Everything in the files of a home."""
    return b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("frozen_before", [False, True])
def test_an_erased_customer_leaves_no_trace_and_no_purchase_is_lost(
    outbox: Outbox, frozen_before: bool
) -> None:
    other = b"\x11" * 16
    ids = [outbox.record(purchase(f"i{n}", WHO if n % 2 else other)) for n in range(120)]
    before = outbox.freeze() if frozen_before else None
    assert WHO.hex().encode() in bytes_of(outbox.home)
    erased = outbox.anonymise([WHO, b"\x22" * 16])
    assert (erased.events, erased.batches) == (60, int(frozen_before))
    assert WHO.hex().encode() not in bytes_of(outbox.home)
    assert other.hex().encode() in bytes_of(outbox.home)
    after = outbox.freeze()
    assert after is not None
    assert before is None or before.key != after.key
    batch = parse_batch(after.content, outbox.identity.device_key)
    assert [record.stamp.event_id for record in batch.records] == ids
    assert [record.event.customer for record in batch.records] == [None, other.hex()][::-1] * 60


def test_an_erasure_that_was_cut_off_is_finished_by_the_next(outbox: Outbox) -> None:
    for _ in range(50):
        outbox.record(purchase())
    outbox.close()
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from c2rec.runtime.events import outbox as o\n"
        "from tests.kiosks import make_identity, WHO\n"
        "o._truncate_log = lambda db, path: os._exit(9)\n"
        "o.Outbox(Path(sys.argv[1]), make_identity()).anonymise([WHO])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(outbox.home)], check=False, timeout=60)
    assert done.returncode == 9
    again = Outbox(outbox.home, make_identity())
    assert again.anonymise([WHO]).events == 0
    assert WHO.hex().encode() not in bytes_of(outbox.home)
    again.close()


def test_a_batch_on_its_way_while_a_customer_is_erased_stays_sound(outbox: Outbox) -> None:
    """Its answer comes late: it is about a batch that is no more, and deletes nothing."""
    outbox.record(purchase())
    old = outbox.freeze()
    assert old is not None
    outbox.anonymise([WHO])
    outbox.arrived(old)
    assert count_waiting(outbox).events == 1


def test_another_identity_begins_an_epoch(outbox: Outbox) -> None:
    outbox.record(purchase())
    outbox.close()
    moved = Identity("Store 2", "k9", b"c" * 32, b"s" * 32, b"e" * 32)
    again = Outbox(outbox.home, moved)
    frozen = again.freeze()
    assert frozen is not None
    batch = parse_batch(frozen.content, moved.device_key)
    assert batch.header.epoch.reason == "moved"
    assert batch.records[0].stamp.store == "Store 1", "where it happened"
    again.close()


def test_a_newer_schema_is_refused(outbox: Outbox) -> None:
    outbox.work(lambda db: db.execute("PRAGMA user_version = 7"))
    outbox.close()
    with pytest.raises(HomeError, match=r"has schema 7.*upgrade"):
        Outbox(outbox.home, make_identity())


def test_a_home_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(HomeError, match="can't write to the home folder"):
        Outbox(tmp_path / "home", make_identity())


@pytest.mark.parametrize(
    ("version", "bug"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_the_versions_of_sqlite_with_the_bug_are_known(
    version: tuple[int, int, int], bug: bool
) -> None:
    assert has_wal_bug(version) is bug


def test_files_stay_few(outbox: Outbox) -> None:
    for _ in range(5):
        outbox.record(purchase())
        frozen = outbox.freeze()
        assert frozen is not None
        outbox.arrived(frozen)
    assert count_waiting(outbox).events == 0
    names = {path.name for path in outbox.home.iterdir()}
    assert names == {"events.db", "events.db-wal", "events.db-shm", "events.lock", "bought.txt"}


def test_who_was_erased_is_nobody_in_what_happens_after(outbox: Outbox) -> None:
    """A page may still have the customer open, or a till sells to them."""
    outbox.record(purchase("A"))
    with changing_state(outbox.home) as db:
        tombstones = salted(db, outbox.identity)
        bury(db, [tombstones.mark(WHO.hex())], "kiosk")
    outbox.anonymise([WHO])
    outbox.record(purchase("B"))
    other = b"\x22" * 16
    outbox.record(purchase("C", other))
    frozen = outbox.freeze()
    assert frozen is not None
    assert WHO.hex().encode() not in frozen.content
    assert frozen.content.count(other.hex().encode()) == 1
    assert WHO.hex().encode() not in (outbox.home / "events.db").read_bytes()
