"""Collecting: nothing is believed unproved, nothing counts twice, and what is odd is told."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from c2rec.export.collect import forget_batches, read_customers, read_items
from c2rec.export.commands.collect import collect as collect_command
from c2rec.export.keys import Keys, make_keys
from c2rec.export.signed import open_repository
from c2rec.export.storage import FolderStorage
from c2rec.export.tombstones import add_tombstones
from c2rec.runtime.errors import PublishError
from c2rec.runtime.events.batches import Epoch, parse_batch, write_batch
from c2rec.runtime.events.events import Event, Stamp, event_body, record_line
from c2rec.runtime.events.inbox import FolderInbox
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.outbox_file import transaction
from c2rec.runtime.events.outbox_rows import begin_epoch
from c2rec.runtime.events.push import send
from c2rec.runtime.home.identity import Identity, pseudonym
from c2rec.train.transactions import read_dataset
from tests.kiosks import WHO, purchase
from tests.offices import Office, make_office
from tests.repositories import make_head


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return make_office(tmp_path)


def kiosk(office: Office, device: str = "k1", **options: object) -> Outbox:
    """A kiosk of this head office."""
    identity = office.keys.identity("S1", device)
    return Outbox(office.folder / device, identity, **options)  # type: ignore[arg-type] # as Outbox has them


def sell(office: Office, outbox: Outbox, *items: str) -> list[str]:
    """Record purchases, and send them in one batch."""
    ids = [outbox.record(purchase(item)) for item in items]
    sent = send(outbox, FolderInbox(office.inbox))
    assert sent.error is None
    return ids


def begin_again(db: sqlite3.Connection, outbox: Outbox) -> None:
    with transaction(db):
        begin_epoch(db, outbox.identity, "erasure")


def collected_ids(office: Office) -> list[str]:
    """Ids of all events that head office has."""
    return pl.read_parquet(office.out / "impressions.parquet")["event_id"].to_list()


def test_only_what_is_new_is_read(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = kiosk(office)
    ids = sell(office, outbox, "A", "B")
    assert office.collect().files == 1
    ids += sell(office, outbox, "C")
    read = list[str]()
    before = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        read.append(path.name)
        return before(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    found = office.collect()
    monkeypatch.undo()
    assert (found.files, found.events, found.doubts) == (1, 1, [])
    assert read.count("1-2") == 0
    assert read.count("3-3") == 1
    assert office.collect().files == 0
    assert sorted(collected_ids(office)) == sorted(ids)
    assert found.kiosks == [
        {
            "store": "S1",
            "device": "k1",
            "batches": 2,
            "shown": 0,
            "tapped": 0,
            "bought": 3,
            "dismissed": 0,
        }
    ]
    outbox.close()


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flipped, "it"),
        (lambda content: content[:-10], "cut off or altered"),
        (lambda content: content + b"{}\n", "cut off or altered"),
        (lambda content: content.replace(b'"S1"', b'"S2"', 1), "HMAC is wrong"),
        (lambda content: content.replace(b'"count":2', b'"count":1', 1), "HMAC is wrong"),
        (lambda content: content.split(b"\n")[0] + b"\n", "cut off or altered"),
        (lambda _: b"", "it is no batch"),
        (lambda _: b"<html></html>\n" * 9, "not valid JSON"),
        (lambda _: b"[" * 100_000 + b"\n", "it is no batch"),
        (lambda _: b"[" * 10_000 + b"\n", "not valid JSON"),
        (lambda _: b'{"format":2}\n', "its format is 2"),
        (lambda _: b'{"format":1,"store":"S1"}\n', "its device is None"),
        (lambda _: b'{"format":1,"store":"S1","device":"k1"}\n', "doesn't end with an HMAC"),
        (lambda content: content * 9000, "allowed: 327680"),
        (lambda content: b"\xff\xfe" + content, "not valid JSON"),
    ],
)
def test_what_was_not_written_so_by_a_kiosk_is_refused(
    office: Office, damage: Callable[[bytes], bytes], reason: str
) -> None:
    outbox = kiosk(office)
    sell(office, outbox, "A", "B")
    (path,) = office.batches()
    good = path.read_bytes()
    path.write_bytes(damage(good))
    found = office.collect()
    assert (found.files, found.refused) == (0, 1)
    (doubt,) = found.doubts
    assert doubt.kind == "refused"
    assert reason in doubt.text
    assert "\n" not in doubt.line
    texts = list((office.out / "quarantine").glob("*.txt"))
    assert reason in texts[0].read_text()
    assert office.collect().refused == 0, "it is not read again"
    path.write_bytes(good)  # it was still being written
    os.utime(path, ns=(1, 1))
    found = office.collect()
    assert (found.files, found.events) == (1, 2)
    assert list((office.out / "quarantine").iterdir()) == []
    outbox.close()


def test_a_batch_under_another_name_is_refused(office: Office) -> None:
    """As somebody replays another kiosk's batch, or an old one as new."""
    outbox = kiosk(office)
    sell(office, outbox, "A")
    (path,) = office.batches()
    path.with_name("7-7").write_bytes(path.read_bytes())
    found = office.collect()
    assert (found.files, found.refused, found.events) == (1, 1, 1)
    assert "lies under another name" in found.doubts[0].text
    outbox.close()


def test_a_name_that_is_no_text_stops_nothing(office: Office) -> None:
    """Whoever may PUT may choose it: ``PUT /events/%FF`` is enough."""
    sell(office, kiosk(office), "A")
    for name in (b"\xff", b"\x1b[2J"):
        (Path(os.fsdecode(os.fsencode(office.inbox / "events") + b"/" + name))).write_bytes(b"junk")
    found = office.collect()
    assert (found.events, found.refused) == (1, 2)
    names = [doubt.text.partition(":")[0] for doubt in found.doubts]
    assert names == ["events/\\udcff", "events/\\x1b[2J"]
    assert office.collect().refused == 0


def test_a_kiosk_cannot_speak_for_another(office: Office) -> None:
    thief = office.keys.identity("S1", "k1")
    stolen = replace(thief, device="k2")
    outbox = Outbox(office.folder / "thief", stolen)
    sell(office, outbox, "A")
    assert office.collect().refused == 1
    outbox.close()


def craft(
    identity: Identity,
    events: list[tuple[Event, Stamp]],
    *,
    first: int = 1,
    epoch: Epoch | None = None,
) -> tuple[str, bytes]:
    """Write a batch as a kiosk would that recorded just this; its name, and it."""
    lines = [
        record_line(event_body(event, stamp), event.customer, sequence)
        for sequence, (event, stamp) in enumerate(events, start=first)
    ]
    content = write_batch(
        identity.store,
        identity.device,
        epoch or Epoch(name="e" * 32, reason="first", previous=None, previous_arrived=None),
        first=first,
        last=first + len(events) - 1,
        lines=lines,
        dropped={},
        made_at="2026-01-31T09:30:00.000Z",
        device_key=identity.device_key,
    )
    return parse_batch(content, identity.device_key).header.key, content


def stamp(identity: Identity, number: int, **fields: object) -> Stamp:
    """Where and when an event was recorded, all at the same time."""
    made = Stamp(
        event_id=f"{number:032x}",
        store=identity.store,
        device=identity.device,
        boot="b" * 32,
        at=1_770_000_000_000,
        clock=1000,
    )
    return replace(made, **fields)  # type: ignore[arg-type] # as Stamp has them


def put(office: Office, key: str, content: bytes, *, arrived: float = 1_770_000_100.0) -> None:
    assert FolderInbox(office.inbox).put(key, content).outcome == "created"
    os.utime(office.inbox / key, (arrived, arrived))


def test_equal_purchases_become_one_row_that_training_takes(office: Office) -> None:
    """Training refuses rows that are the same in every column."""
    identity = office.keys.identity("S1", "k1")
    events = [(purchase("A"), stamp(identity, n)) for n in range(3)]
    put(office, *craft(identity, events))
    office.collect()
    rows = read_dataset(office.out).transactions
    assert rows.select("item_id", "quantity").rows() == [("A", 3)]


def test_nobodys_purchases_are_kept_apart(office: Office) -> None:
    identity = office.keys.identity("S1", "k1")
    put(office, *craft(identity, [(purchase("A", None), stamp(identity, 1))]))
    found = office.collect()
    assert found.written is not None
    assert (found.written.transactions, found.written.anonymous) == (0, 1)


def test_customers_get_their_ids_back(office: Office, tmp_path: Path) -> None:
    identity = office.keys.identity("S1", "k1")
    who = pseudonym(office.keys.customer_key, "C1")
    events = [(purchase("A", who), stamp(identity, 1)), (purchase("A"), stamp(identity, 2))]
    put(office, *craft(identity, events))
    (tmp_path / "customers.csv").write_text("customer_id,town\nC0,x\nC1,y\n")
    customers = read_customers(tmp_path / "customers.csv", office.keys.customer_key)
    office.collect(customers=customers)
    rows = read_dataset(office.out).transactions
    assert set(rows["customer_id"]) == {"C1", WHO.hex()}


def test_unknown_items_are_held_back_until_they_are_known(office: Office, tmp_path: Path) -> None:
    identity = office.keys.identity("S1", "k1")
    events = [(purchase(item), stamp(identity, n)) for n, item in enumerate("AB")]
    put(office, *craft(identity, events))
    (tmp_path / "items.csv").write_text("item_id\nA\n")
    found = office.collect(items=read_items(tmp_path / "items.csv"))
    assert found.written is not None
    assert (found.written.transactions, found.written.held) == (1, {"unknown": 1})
    assert found.doubts[0].kind == "unknown"
    found = office.collect(items=frozenset("AB"))
    assert found.written is not None
    assert (found.written.transactions, found.written.held) == (2, {})


def test_more_than_a_kiosk_can_sell_is_held_back(office: Office) -> None:
    identity = office.keys.identity("S1", "k1")
    events = [(purchase(f"i{n}"), stamp(identity, n)) for n in range(20)]
    put(office, *craft(identity, events))
    found = office.collect(max_per_hour=19)
    assert found.written is not None
    assert (found.written.transactions, found.written.held) == (0, {"rate": 20})
    assert office.collect(max_per_hour=20).doubts == []


def test_a_kiosk_that_says_to_have_been_many_sells_no_more(office: Office) -> None:
    identity = office.keys.identity("S1", "k1")
    claimed = [office.keys.identity("S9", f"k{n}") for n in range(20)]
    events = [(purchase(f"i{n}"), stamp(each, n)) for n, each in enumerate(claimed)]
    moved = Epoch(name="e" * 32, reason="moved", previous=None, previous_arrived=None)
    put(office, *craft(identity, events, epoch=moved))
    found = office.collect(max_per_hour=19)
    assert found.written is not None
    assert (found.refused, found.written.held) == (0, {"rate": 20})


def test_what_waited_when_a_kiosk_moved_arrives_after_an_erasure_too(office: Office) -> None:
    before = kiosk(office)
    before.record(purchase("A"))
    before.close()
    after = Outbox(before.home, office.keys.identity("S2", "k9"))
    after.record(purchase("B"))
    after.freeze()
    after.anonymise([WHO])  # the batch is made anew, in a new epoch
    sell(office, after, "C")
    found = office.collect()
    assert (found.refused, found.events) == (0, 3)
    after.close()


@pytest.mark.parametrize("at", [0, 1_770_000_100_000 + 2 * 86_400_000])
def test_an_impossible_time_is_held_back(office: Office, at: int) -> None:
    identity = office.keys.identity("S1", "k1")
    put(office, *craft(identity, [(purchase(), stamp(identity, 1, at=at))]))
    found = office.collect()
    assert found.written is not None
    assert (found.written.transactions, found.written.held) == (0, {"clock": 1})
    assert "set the kiosks' clocks" in found.doubts[0].advice


def test_a_time_before_the_clock_was_set_is_put_right(office: Office) -> None:
    """Recorded in 1970 by the clock, an hour before the clock of the same start was set."""
    identity = office.keys.identity("S1", "k1")
    early = stamp(identity, 1, at=5_000, clock=5_000)
    late = stamp(identity, 2, at=1_770_000_000_000, clock=3_605_000)
    put(office, *craft(identity, [(purchase("A"), early), (purchase("B"), late)]))
    found = office.collect()
    assert found.written is not None
    assert (found.written.transactions, found.written.held, found.written.mended) == (2, {}, 1)
    rows = read_dataset(office.out).transactions.sort("item_id")
    assert rows["timestamp"].dt.epoch("ms").to_list() == [1_769_996_400_000, 1_770_000_000_000]


def test_a_missing_batch_is_told_and_forgotten_when_it_comes(office: Office) -> None:
    identity = office.keys.identity("S1", "k1")
    batches = [
        craft(identity, [(purchase(), stamp(identity, n, clock=n))], first=n) for n in (1, 2, 3, 7)
    ]
    for n in (0, 2, 3):
        put(office, *batches[n])
    (doubt,) = office.collect().doubts
    assert doubt.line.startswith("gap: S1/k1: events 2, 4–6 of epoch eeeeeeee are missing; wait")
    put(office, *batches[1])
    (doubt,) = office.collect().doubts
    assert "events 4–6 of" in doubt.text


def test_events_that_had_arrived_and_are_gone_are_told(office: Office) -> None:
    outbox = kiosk(office)
    sell(office, outbox, "A", "B")
    (path,) = office.batches()
    path.unlink()
    outbox.record(purchase())
    outbox.freeze()
    outbox.anonymise([WHO])  # begins an epoch
    sell(office, outbox, "C")
    (doubt,) = office.collect().doubts
    assert "2 events of epoch" in doubt.text
    assert "arrived once and are not here" in doubt.text
    outbox.close()


def test_an_epoch_left_for_another_has_no_gap(office: Office) -> None:
    """What it had not sent comes in the next one."""
    outbox = kiosk(office)
    ids = [outbox.record(purchase("A"))]
    dead = outbox.freeze()
    assert dead is not None
    outbox.refused(dead, "poison")
    ids += sell(office, outbox, "B")
    outbox.anonymise([WHO])
    ids += sell(office, outbox, "C")
    found = office.collect()
    assert found.doubts == []
    assert sorted(collected_ids(office)) == sorted(ids)
    outbox.close()


def test_nor_has_one_that_is_two_epochs_back_and_the_one_between_said_nothing(
    office: Office,
) -> None:
    outbox = kiosk(office)
    ids = [outbox.record(purchase("A"))]
    dead = outbox.freeze()
    assert dead is not None
    outbox.refused(dead, "poison")
    ids += sell(office, outbox, "B")
    outbox.anonymise([WHO])  # begins an epoch, of which nothing is frozen
    outbox.work(lambda db: begin_again(db, outbox))
    ids += sell(office, outbox, "C")
    found = office.collect()
    assert found.doubts == []
    assert sorted(collected_ids(office)) == sorted(ids)
    outbox.close()


def test_dropped_impressions_are_told_as_such(office: Office) -> None:
    outbox = kiosk(office, quota=3_000)
    for _ in range(30):
        outbox.record(purchase(kind="shown"))
    sell(office, outbox, "A")
    (doubt,) = office.collect().doubts
    assert doubt.kind == "dropped"
    assert "none of them a purchase" in doubt.text
    outbox.close()


def test_two_starts_taking_turns_are_a_clone(office: Office) -> None:
    identity = office.keys.identity("S1", "k1")
    boots = ["b" * 32, "c" * 32, "b" * 32]
    for n, boot in enumerate(boots, start=1):
        made = stamp(identity, n, boot=boot, clock=1000 + n)
        put(office, *craft(identity, [(purchase(), made)], first=n))
    (doubt,) = office.collect().doubts
    assert doubt.kind == "clone"
    assert "take turns" in doubt.text


def test_a_clock_that_goes_backwards_is_a_clone(office: Office) -> None:
    identity = office.keys.identity("S1", "k1")
    for n, clock in enumerate([5000, 4000], start=1):
        put(office, *craft(identity, [(purchase(), stamp(identity, n, clock=clock))], first=n))
    (doubt,) = office.collect().doubts
    assert doubt.kind == "clone"
    assert "goes backwards" in doubt.text


def test_one_id_with_two_contents_counts_once_and_is_told(office: Office) -> None:
    identity = office.keys.identity("S1", "k1")
    put(office, *craft(identity, [(purchase("A"), stamp(identity, 1))]))
    put(office, *craft(identity, [(purchase("B"), stamp(identity, 1, clock=1001))], first=2))
    found = office.collect()
    assert [doubt.kind for doubt in found.doubts] == ["altered"]
    assert read_dataset(office.out).transactions["item_id"].to_list() == ["A"]


def test_a_customer_erased_in_between_is_nobody_in_all_of_it(office: Office) -> None:
    """The first version arrived and its answer was lost; the second one has no customer."""
    outbox = kiosk(office)
    outbox.record(purchase())
    frozen = outbox.freeze()
    assert frozen is not None
    FolderInbox(office.inbox).put(frozen.key, frozen.content)
    found = office.collect()
    assert found.written is not None
    assert found.written.transactions == 1
    outbox.anonymise([WHO])
    send(outbox, FolderInbox(office.inbox))
    found = office.collect()
    assert (found.events, found.repeated, found.doubts) == (0, 1, [])
    assert found.written is not None
    assert (found.written.transactions, found.written.anonymous) == (0, 1)
    for path in office.out.iterdir():
        assert not path.is_file() or WHO.hex().encode() not in path.read_bytes(), path
    outbox.close()


def test_a_file_replaced_after_it_was_read_is_told_and_loses_nothing(office: Office) -> None:
    identity = office.keys.identity("S1", "k1")
    key, content = craft(identity, [(purchase("A"), stamp(identity, 1))])
    put(office, key, content)
    office.collect()
    (office.inbox / key).write_bytes(craft(identity, [(purchase("B"), stamp(identity, 2))])[1])
    found = office.collect()
    assert {doubt.kind for doubt in found.doubts} == {"changed", "clone"}
    assert sorted(read_dataset(office.out).transactions["item_id"]) == ["A", "B"]


def test_a_kiosk_that_lost_its_outbox_is_told(office: Office) -> None:
    for folder in ("one", "two"):
        outbox = Outbox(office.folder / folder, office.keys.identity("S1", "k1"))
        sell(office, outbox, "A")
        outbox.close()
    doubts = office.collect().doubts
    assert {doubt.kind for doubt in doubts} == {"anew"}
    assert "events.db was lost" in doubts[0].advice


def test_a_file_that_is_being_written_is_left(office: Office) -> None:
    folder = office.inbox / "events" / "S1" / "k1" / ("e" * 32)
    folder.mkdir(parents=True)
    (folder / ".0123456789abcdef").write_bytes(b"half")
    assert office.collect().refused == 0


def test_killed_at_any_step_the_next_run_is_right(office: Office) -> None:
    outbox = kiosk(office)
    ids = [id_ for n in range(4) for id_ in sell(office, outbox, f"i{n}", "B")]
    outbox.close()
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "import c2rec.export.collect as c\n"
        "from tests.offices import Office\n"
        "from c2rec.export.keys import Keys\n"
        "left = int(sys.argv[2])\n"
        "def cut(wrapped):\n"
        "    def run(*args, **options):\n"
        "        global left\n"
        "        left -= 1\n"
        "        if left < 0: os._exit(9)\n"
        "        return wrapped(*args, **options)\n"
        "    return run\n"
        "c._TOGETHER = 1\n"
        "for name in ('_take', '_prove', 'write_tables', 'find_doubts'):\n"
        "    setattr(c, name, cut(getattr(c, name)))\n"
        "Office(Path(sys.argv[1]), Keys(Path(sys.argv[1]) / 'keys')).collect()\n"
    )
    # nothing, one and three batches committed, all; then before the tables, and after them
    for step in (0, 1, 3, 5, 2, 1):
        command = [sys.executable, "-c", script, str(office.folder), str(step)]
        done = subprocess.run(command, check=False, timeout=60)
        assert done.returncode == 9, "or the test shows nothing"
    found = office.collect()
    assert found.doubts == []
    assert sorted(collected_ids(office)) == sorted(ids)


def test_one_collects_at_a_time(office: Office) -> None:
    def report(_: str) -> None:
        with pytest.raises(PublishError, match="another collect is at work"):
            office.collect()

    office.collect(report=report)


def test_other_keys_refuse_nothing_for_ever(office: Office, tmp_path: Path) -> None:
    """The wrong folder once, and the right one then."""
    outbox = kiosk(office)
    ids = sell(office, outbox, "A", "B")
    outbox.close()
    wrong = Office(office.folder, make_keys(tmp_path / "others", passphrase=None))
    assert (wrong.collect().refused, wrong.collect().refused) == (1, 0)
    assert office.collect().events == 2
    assert sorted(collected_ids(office)) == sorted(ids)
    assert office.collect().doubts == []


def test_keys_that_cannot_be_read_refuse_no_batch(office: Office, tmp_path: Path) -> None:
    sell(office, outbox := kiosk(office), "A")
    outbox.close()
    with pytest.raises(PublishError, match=r"customer\.key"):
        Office(office.folder, Keys(tmp_path / "empty")).collect()
    assert office.collect().events == 1


def test_an_inbox_that_is_not_there_is_no_quiet_day(office: Office) -> None:
    options = [str(office.folder / "nowhere"), str(office.out), "--keys", str(office.keys.folder)]
    with pytest.raises(PublishError, match="is no folder with what kiosks sent"):
        CliRunner().invoke(collect_command, options, catch_exceptions=False)
    assert not office.out.exists()


def test_a_damaged_database_says_what_to_do(office: Office) -> None:
    sell(office, outbox := kiosk(office), "A")
    outbox.close()
    office.out.mkdir()
    (office.out / "collected.db").write_bytes(b"no database" * 100)
    with pytest.raises(PublishError, match="move it away: all of them are read anew then"):
        office.collect()
    (office.out / "collected.db").unlink()
    assert office.collect().events == 1


def test_who_has_a_tombstone_is_nobody_in_what_head_office_collected(office: Office) -> None:
    """Also in events that come after the tombstone was read, and in runs that don't read it."""
    outbox = kiosk(office)
    sell(office, outbox, "A", "B")
    office.collect()
    assert WHO.hex() in pl.read_parquet(office.out / "transactions.parquet")["customer_id"]
    found = office.collect(erased=frozenset([WHO]))
    assert found.made_nameless == 2
    assert found.written is not None
    assert (found.written.transactions, found.written.anonymous) == (0, 2)
    sell(office, outbox, "C")
    found = office.collect()
    assert found.made_nameless == 1
    assert found.written is not None
    assert (found.written.transactions, found.written.anonymous) == (0, 3)
    outbox.close()


def test_batches_that_name_the_erased_are_deleted_and_lose_no_purchase(office: Office) -> None:
    other = b"\x07" * 16
    outbox = kiosk(office)
    sell(office, outbox, "A")
    outbox.record(replace(purchase("B"), customer=other.hex()))
    send(outbox, FolderInbox(office.inbox))
    (office.inbox / "events" / "junk").write_bytes(b"of " + WHO.hex().encode())
    office.collect(erased=frozenset([WHO]))
    named = [path for path in office.batches() if WHO.hex().encode() in path.read_bytes()]
    gone = forget_batches(FolderStorage(office.inbox), office.out)
    assert [office.inbox / name for name in gone] == [p for p in named if p.name != "junk"] != []
    for path in [*office.out.rglob("*"), *office.inbox.rglob("events/S1/**/*")]:
        content = path.read_bytes() if path.is_file() and path.name != "collected.db" else b""
        assert WHO.hex().encode() not in content, path
    db = sqlite3.connect(office.out / "collected.db")
    customers = [each for (each,) in db.execute("SELECT customer FROM events ORDER BY rowid")]
    db.close()
    assert customers == [None, other.hex()]
    found = office.collect()  # nothing that is gone is missed
    assert (found.events, found.doubts[0].kind, len(found.doubts)) == (0, "refused", 1)
    assert found.written is not None
    assert (found.written.transactions, found.written.anonymous) == (1, 1)
    assert forget_batches(FolderStorage(office.inbox), office.out) == []
    outbox.close()


def test_a_batch_that_was_not_taken_yet_is_not_deleted(office: Office) -> None:
    outbox = kiosk(office)
    sell(office, outbox, "A")
    office.collect(erased=frozenset([WHO]))
    sell(office, outbox, "B")
    (late,) = [path for path in office.batches() if path.name == "2-2"]
    assert len(forget_batches(FolderStorage(office.inbox), office.out)) == 1
    assert late.is_file()
    outbox.close()


def test_the_command_reads_who_is_erased_from_the_repository(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    with open_repository(head.repo, head.keys) as repository:
        add_tombstones(repository, head.keys, ["C0000001"])
        repository.commit()
    office = Office(tmp_path, head.keys)
    office.inbox.mkdir()
    outbox = kiosk(office)
    who = pseudonym(head.keys.customer_key, "C0000001").hex()
    outbox.record(replace(purchase("A"), customer=who))
    send(outbox, FolderInbox(office.inbox))
    outbox.close()
    command = [str(office.inbox), str(office.out), "--keys", str(head.keys.folder)]
    options = ["--repository", str(head.repo), "--delete-erased"]
    done = CliRunner().invoke(collect_command, [*command, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "1 events lost the name of an erased customer" in done.output
    assert "1 batches that named erased customers are deleted" in done.output
    assert office.batches() == []
    bad = CliRunner().invoke(collect_command, [*command, "--repository", str(tmp_path / "no")])
    assert isinstance(bad.exception, PublishError)
    assert "nothing is published there" in str(bad.exception)


def test_a_database_damaged_further_in_says_so_too(office: Office) -> None:
    outbox = kiosk(office)
    sell(office, outbox, *(f"i{n}" for n in range(100)))
    outbox.close()
    office.collect()
    path = office.out / "collected.db"
    query = "SELECT rootpage FROM sqlite_master WHERE name = 'files'"
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute(query).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)
    with pytest.raises(PublishError, match="move it away: all of them are read anew then"):
        office.collect()


_LIMITED = """
import resource, sys
from c2rec.export.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, 1 << 15))
main()
"""


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(office: Office) -> None:
    outbox = kiosk(office)
    ids = sell(office, outbox, *(f"i{n}" for n in range(200)))
    outbox.close()
    arguments = ["collect", str(office.inbox), str(office.out), "--keys", str(office.keys.folder)]
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "free space on its disk" in done.stderr
    office.collect()
    assert sorted(collected_ids(office)) == sorted(ids)
