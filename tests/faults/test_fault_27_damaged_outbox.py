"""Fault 27: pages of events.db are overwritten. It is set aside, a new epoch begins with what can
be read, and recording goes on."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from c2rec.runtime.events.batches import parse_batch
from c2rec.runtime.events.carve import PAGE, carve
from c2rec.runtime.events.inbox import FolderInbox
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.push import send
from c2rec.runtime.events.waiting import count_waiting
from tests.kiosks import WHO, make_identity, purchase
from tests.offices import make_office

EVENTS = 200
EVENTS_ROOT = 4
"""Page of events.db where the tree of its events begins."""


Fill: TypeAlias = Callable[[Path], list[str]]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Fill:
    """Makes a home whose outbox was closed: all is in the file and its log is gone."""
    template = tmp_path_factory.mktemp("filled")
    outbox = Outbox(template, make_identity())
    ids = [outbox.record(purchase(f"i{n}", WHO if n % 2 else None)) for n in range(EVENTS)]
    outbox.close()

    def fill(home: Path) -> list[str]:
        shutil.copy(template / "events.db", home / "events.db")
        return ids

    return fill


Pages: TypeAlias = Callable[[int], list[int]]


def overwrite(path: Path, pages: Pages, filler: Callable[[int], bytes]) -> None:
    content = bytearray(path.read_bytes())
    for page in pages(len(content) // PAGE):
        content[(page - 1) * PAGE : page * PAGE] = filler(page)
    path.write_bytes(content)


NOISE: Callable[[int], bytes] = lambda page: random.Random(page).randbytes(PAGE)  # noqa: E731, S311 - a table of fillers
ZEROS: Callable[[int], bytes] = lambda _: bytes(PAGE)  # noqa: E731 - a table of fillers


def read_all(outbox: Outbox) -> list[str]:
    """Ids of all events that can still be sent."""
    while outbox.freeze() is not None:
        pass
    batches = [outbox.frozen(number) for number, _ in outbox.ready()]
    return [
        record.stamp.event_id
        for batch in batches
        if batch is not None
        for record in parse_batch(batch.content, outbox.identity.device_key).records
    ]


@pytest.mark.parametrize("filler", [NOISE, ZEROS], ids=["noise", "zeros"])
@pytest.mark.parametrize(
    ("pages", "least"),
    [
        (lambda _: [1], EVENTS),  # the schema: SQLite can open nothing
        (lambda _: [EVENTS_ROOT], EVENTS),  # SQLite finds no row
        (lambda count: list(range(1, count + 1, 7)), EVENTS * 3 // 4),
        (lambda count: list(range(1, count + 1)), 0),
    ],
    ids=["schema", "root of the tree", "every seventh", "all"],
)
def test_what_can_be_read_is_sent_in_a_new_epoch(
    tmp_path: Path, filled: Fill, filler: Callable[[int], bytes], pages: Pages, least: int
) -> None:
    ids = filled(tmp_path)
    path = tmp_path / "events.db"
    overwrite(path, pages, filler)
    damaged = path.read_bytes()
    outbox = Outbox(tmp_path, make_identity())
    new = outbox.record(purchase())
    found = read_all(outbox)
    waiting = count_waiting(outbox)
    assert (waiting.reason, waiting.set_aside) == ("damaged", 1)
    assert found[-1] == new
    assert set(found[:-1]) <= set(ids)
    assert found[:-1] == [each for each in ids if each in set(found)], "in their order"
    assert len(found) - 1 >= least
    (aside,) = (tmp_path / "set-aside").glob("*.db")
    assert aside.read_bytes() == damaged
    outbox.close()


def test_the_page_of_the_events_is_known(tmp_path: Path, filled: Fill) -> None:
    filled(tmp_path)
    outbox = Outbox(tmp_path, make_identity())
    query = "SELECT rootpage FROM sqlite_master WHERE name = 'events'"
    assert outbox.work(lambda db: db.execute(query).fetchone()) == (EVENTS_ROOT,)
    outbox.close()


def test_all_that_head_office_gets_is_what_was_recorded(tmp_path: Path) -> None:
    """Random pages, five times over; what is recorded after each damage is never lost."""
    office = make_office(tmp_path)
    identity = office.keys.identity("S1", "k1")
    home, known, safe = tmp_path / "home", set[str](), set[str]()
    chance = random.Random(3)  # noqa: S311 - a draw that can be repeated
    for _ in range(5):
        outbox = Outbox(home, identity)
        made = {outbox.record(purchase(f"i{n}")) for n in range(60)}
        known |= made
        if chance.random() < 0.5:
            outbox.freeze()
        outbox.close()
        page = chance.randrange(1, (home / "events.db").stat().st_size // PAGE + 1)
        overwrite(home / "events.db", lambda _, page=page: [page], NOISE)  # type: ignore[misc] # mypy can't infer it
        outbox = Outbox(home, identity)
        after = outbox.record(purchase("after"))
        known.add(after)
        safe.add(after)
        sent = send(outbox, FolderInbox(office.inbox))
        assert sent.error is None
        outbox.close()
    found = office.collect()
    import polars as pl

    collected = set(pl.read_parquet(office.out / "impressions.parquet")["event_id"])
    assert safe <= collected <= known
    assert len(collected) > len(known) * 0.8
    assert {doubt.kind for doubt in found.doubts} <= {"damaged", "gap"}


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_file_cut_short(tmp_path: Path, filled: Fill, size: int) -> None:
    filled(tmp_path)
    path = tmp_path / "events.db"
    path.write_bytes(path.read_bytes()[:size])
    outbox = Outbox(tmp_path, make_identity())
    new = outbox.record(purchase())
    assert read_all(outbox)[-1] == new
    outbox.close()


_KILLED = """
import os, sys
from pathlib import Path
from c2rec.runtime.events.outbox import Outbox
from tests.kiosks import make_identity, purchase
outbox = Outbox(Path(sys.argv[1]), make_identity())
print(*[outbox.record(purchase(f"i{n}")) for n in range(9)], flush=True)
os._exit(9)
"""


@pytest.mark.parametrize("damage", ["emptied", "gone"])
def test_a_file_that_is_gone_but_for_its_log(tmp_path: Path, damage: str) -> None:
    """SQLite deletes a log without a file."""
    home = tmp_path / "home"
    command = [sys.executable, "-c", _KILLED, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (home / "events.db-wal").stat().st_size > PAGE
    (home / "events.db").unlink()
    if damage == "emptied":
        (home / "events.db").touch()
    outbox = Outbox(home, make_identity())
    assert count_waiting(outbox).reason == "damaged"
    assert read_all(outbox) == done.stdout.split()
    outbox.close()


def test_a_row_that_rotted_is_found_by_its_checksum(tmp_path: Path, filled: Fill) -> None:
    """SQLite doesn't see that an id was changed."""
    ids = filled(tmp_path)
    path = tmp_path / "events.db"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"i77"', b'"i78"'))
    outbox = Outbox(tmp_path, make_identity())
    assert read_all(outbox) == [each for n, each in enumerate(ids) if n != 77]
    assert count_waiting(outbox).reason == "damaged"
    outbox.close()


def test_a_frozen_batch_that_rotted_is_made_anew(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, make_identity())
    event_id = outbox.record(purchase())
    frozen = outbox.freeze()
    assert frozen is not None
    outbox.work(lambda db: db.execute("UPDATE batches SET content = replace(content, 'A', 'B')"))
    assert outbox.frozen(frozen.number) is None
    assert read_all(outbox) == [event_id]
    outbox.close()


def test_another_process_with_the_old_file_open_loses_nothing(tmp_path: Path, filled: Fill) -> None:
    """It finds that its file was put aside, and opens the new one."""
    filled(tmp_path)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from c2rec.runtime.events.outbox import Outbox\n"
        "from tests.kiosks import make_identity, purchase\n"
        "outbox = Outbox(Path(sys.argv[1]), make_identity())\n"
        "for line in sys.stdin: print(outbox.record(purchase()), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None

        def ask() -> str:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdin.write("\n")
            other.stdin.flush()
            return other.stdout.readline().strip()

        acknowledged = [ask()]
        outbox = Outbox(tmp_path, make_identity())
        outbox.work(lambda db: db.execute("UPDATE events SET crc = 1 WHERE id = 5"))
        outbox.freeze()
        assert count_waiting(outbox).reason == "damaged"
        for _ in range(3):
            acknowledged += [ask(), outbox.record(purchase())]
        other.stdin.close()
        other.wait(timeout=60)
    acknowledged.append(outbox.record(purchase()))
    there = read_all(outbox)
    assert [each in there for each in acknowledged] == [True] * len(acknowledged)
    assert count_waiting(outbox).set_aside == 1
    outbox.close()


@pytest.mark.parametrize("step", range(6))
def test_cut_off_while_it_is_set_aside(tmp_path: Path, filled: Fill, step: int) -> None:
    ids = filled(tmp_path)
    overwrite(tmp_path / "events.db", lambda _: [1], NOISE)
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from c2rec.runtime.events import outbox_file as f\n"
        "from c2rec.runtime.events.outbox import Outbox\n"
        "from tests.kiosks import make_identity\n"
        "left = int(sys.argv[2])\n"
        "def cut(wrapped):\n"
        "    def run(*args, **options):\n"
        "        global left\n"
        "        left -= 1\n"
        "        if left < 0: os._exit(9)\n"
        "        return wrapped(*args, **options)\n"
        "    return run\n"
        "f.sync_to_disk = cut(f.sync_to_disk)\n"
        "Path.rename, Path.replace = cut(Path.rename), cut(Path.replace)\n"
        "Outbox(Path(sys.argv[1]), make_identity())\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(step)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 9
    outbox = Outbox(tmp_path, make_identity())
    assert read_all(outbox) == ids
    assert len(list((tmp_path / "set-aside").glob("*.db"))) == 1
    outbox.close()


def test_damaged_files_do_not_pile_up(tmp_path: Path, filled: Fill) -> None:
    for _ in range(5):
        filled(tmp_path)
        overwrite(tmp_path / "events.db", lambda _: [1], NOISE)
        outbox = Outbox(tmp_path, make_identity())
        outbox.close()
    assert len(list((tmp_path / "set-aside").iterdir())) == 3


def test_carving_reads_long_rows_over_several_pages(tmp_path: Path) -> None:
    from c2rec.runtime.events.events import Event, EventItem

    outbox = Outbox(tmp_path, make_identity())
    lengths = [1, 40, 100, 180]
    for length in lengths:
        items = tuple(EventItem(item=f"{n:030}") for n in range(length))
        outbox.record(Event(kind="shown", items=items, customer=WHO.hex()))
    for closed in (False, True):
        if closed:
            outbox.close()
        rows = carve(tmp_path / "events.db", tmp_path / "events.db-wal")
        assert [len(json.loads(row.body)["items"]) for row in rows] == lengths
        assert {row.customer for row in rows} == {WHO.hex()}


def test_carving_noise_finds_nothing_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "noise"
    for seed in range(5):
        chance = random.Random(seed)  # noqa: S311 - a draw that can be repeated
        pages = [b"\x0d" + chance.randbytes(PAGE - 1) for _ in range(20)]
        path.write_bytes(b"".join(pages))
        assert carve(path, tmp_path / "none") == []
