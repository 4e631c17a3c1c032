"""Fault 39: a customer is erased, then a rollback or a sync of a release that has them."""

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from c2rec.export.keys import Keys
from c2rec.export.signed import open_repository
from c2rec.export.tombstones import add_tombstones
from c2rec.runtime.erasure.erase import erase, take_tombstones, unfinished
from c2rec.runtime.errors import IdentityError, RequestError
from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.home.identity import identity_path
from c2rec.runtime.home.settings import SETTINGS, Settings
from c2rec.runtime.home.state import go_back, read_state
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.install import install
from c2rec.runtime.sync.sync import sync
from tests.enrolled import Kiosk, lists_for, make_kiosk, publish_lists
from tests.homes import make_homes
from tests.release import make_release
from tests.repositories import Head

pytestmark = pytest.mark.faults
CUSTOMER, OTHER = "c000003", "c000004"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Kiosk:
    return make_kiosk(tmp_path_factory.mktemp("made"))


@pytest.fixture
def kiosk(made: Kiosk, tmp_path: Path) -> Kiosk:
    """A copy of the kiosk and its head office that a test may change."""
    folder = Path(shutil.copytree(made.head.folder, tmp_path / "head"))
    head = Head(folder, Keys(folder / "keys"), list(made.head.releases))
    home = Path(shutil.copytree(made.home, tmp_path / "home"))
    (home / SETTINGS).write_text(Settings(repository=str(head.repo)).to_toml())
    return Kiosk(home, head, made.identity)


def vectors_of(home: Path, name: str) -> list[bytes]:
    """What the generations and the online scores hold of a customer."""
    found = []
    for path in [*(home / "gen").glob("*.db"), *(home / "scores").glob("*.db")]:
        with closing(sqlite3.connect(path)) as db:
            columns = {row[1] for row in db.execute("PRAGMA table_info(customers)")}
            for column in columns & {"components", "probabilities"}:
                query = f"SELECT {column} FROM customers WHERE customer_id = ?"  # noqa: S608
                found += [value for (value,) in db.execute(query, [name])]
    return found


def bytes_left(home: Path, patterns: list[bytes]) -> list[tuple[str, bytes]]:
    """Look for bytes in every file, as ``strings`` or an editor of disks would."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return [(path.name, each) for path in files for each in patterns if each in path.read_bytes()]


def patterns_of(kiosk: Kiosk) -> list[bytes]:
    """The customer's names, and their vectors in pieces of 32 bytes and longer."""
    hidden = kiosk.pseudonym(CUSTOMER)
    vectors = vectors_of(kiosk.home, hidden.hex())
    assert len(vectors) == 3  # two releases and the online scores
    pieces = [each[i : i + 32] for each in vectors for i in range(0, len(each) - 31, 32)]
    names = [CUSTOMER.encode(), CUSTOMER.encode("utf-16-le"), hidden, hidden.hex().encode()]
    return names + [each for each in pieces if any(each)]


def folders(document: dict[str, Any]) -> list[str]:
    """Where the files lie that were rewritten."""
    return [each["file"].split("/")[0] for each in document["rewritten"]]


def answers(home: Path, customer: str) -> tuple[str, str, list[str]]:
    recommender = Recommender.open(home)
    answer = recommender.recommend(customer)
    warnings = recommender.warnings
    recommender.close()
    return answer.tier, answer.path, warnings


def test_nothing_of_an_erased_customer_is_left_in_any_file(kiosk: Kiosk, tmp_path: Path) -> None:
    patterns = patterns_of(kiosk)
    assert answers(kiosk.home, CUSTOMER)[:2] == ("personal", "rank-fusion")
    document = erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
    assert bytes_left(kiosk.home, patterns) == []
    assert answers(kiosk.home, CUSTOMER) == ("store-popular", "offline", [])
    assert answers(kiosk.home, OTHER) == ("personal", "rank-fusion", [])
    assert json.loads((tmp_path / "receipt.json").read_text()) == document
    assert document["customer"] == {"pseudonym": kiosk.pseudonym(CUSTOMER).hex()}
    assert document["found"]
    assert [each["file"].split("/")[0] for each in document["rewritten"]] == [
        "gen",
        "gen",
        "scores",
        "bought.txt",
    ]
    assert document["searched"]["events_made_nameless"] == 2
    assert document["searched"]["vectors"] > 0
    assert unfinished(kiosk.home) == 0
    for row in document["rewritten"][:3]:
        assert not (kiosk.home / row["file"]).exists()


def test_the_purchases_of_an_erased_customer_wait_without_a_name(
    kiosk: Kiosk, tmp_path: Path
) -> None:
    erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
    with closing(sqlite3.connect(kiosk.home / "events.db")) as db:
        customers = [name for (name,) in db.execute("SELECT customer FROM events ORDER BY id")]
    other = kiosk.pseudonym(OTHER).hex()
    assert customers == [None, None, other, other]


def test_a_rollback_does_not_bring_an_erased_customer_back(kiosk: Kiosk, tmp_path: Path) -> None:
    patterns = patterns_of(kiosk)
    erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
    before = read_state(kiosk.home).active.release
    go_back(kiosk.home, "for the test")
    assert read_state(kiosk.home).active.release != before
    assert answers(kiosk.home, CUSTOMER)[0] == "store-popular"
    assert answers(kiosk.home, OTHER)[0] == "personal"
    assert bytes_left(kiosk.home, patterns) == []


def test_no_sync_brings_an_erased_customer_back(kiosk: Kiosk, tmp_path: Path) -> None:
    """Neither the same release fetched again, nor a new one, by delta or whole, nor new scores."""
    patterns = patterns_of(kiosk)
    erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
    for path in (kiosk.home / "gen").glob("*.db"):
        path.unlink()  # the active release is fetched again
    assert sync(kiosk.home).outcome == "installed"
    assert bytes_left(kiosk.home, patterns) == []
    assert answers(kiosk.home, CUSTOMER) == ("store-popular", "offline", [])
    assert answers(kiosk.home, OTHER) == ("personal", "rank-fusion", [])
    for seed, customers in ((1, 31), (2, 30)):  # of the same space, and of another
        kiosk.head.publish(seed=seed, customers=customers)
        publish_lists(kiosk.head, lists_for([CUSTOMER, OTHER]))
        assert sync(kiosk.home).outcome == "installed"
        assert answers(kiosk.home, CUSTOMER) == ("store-popular", "offline", [])
        assert answers(kiosk.home, OTHER) == ("personal", "rank-fusion", [])
    assert vectors_of(kiosk.home, kiosk.pseudonym(CUSTOMER).hex()) == []


def test_a_bundle_does_not_bring_an_erased_customer_back(tmp_path: Path) -> None:
    """A home without an identity: the customers have their plain ids."""
    make_homes(tmp_path)
    home = tmp_path / "home"
    install(tmp_path / "new", home)
    document = erase(home, CUSTOMER, tmp_path / "receipt.json")
    assert len(document["rewritten"]) == 2
    install(tmp_path / "old", home)
    install(make_release(tmp_path / "third", name="third").folder, home)
    names = [CUSTOMER.encode(), CUSTOMER.encode("utf-16-be")]
    assert bytes_left(home, names) == []
    assert answers(home, CUSTOMER) == ("store-popular", "offline", [])
    assert answers(home, OTHER) == ("personal", "offline", [])


def test_a_lost_state_does_not_bring_an_erased_customer_back(kiosk: Kiosk, tmp_path: Path) -> None:
    erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
    (kiosk.home / "state.db").unlink()
    for path in (kiosk.home / "gen").glob("*.db"):
        path.unlink()
    sync(kiosk.home)
    assert answers(kiosk.home, CUSTOMER)[0] == "store-popular"


def test_a_reader_goes_on_and_then_no_longer_knows_the_customer(
    kiosk: Kiosk, tmp_path: Path
) -> None:
    recommender = Recommender.open(kiosk.home)
    assert recommender.recommend(CUSTOMER).tier == "personal"
    old = Cache(generation_path(kiosk.home, read_state(kiosk.home).active.name))
    document = erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
    assert document["still_open_in"] == [os.getpid()]
    # what was opened before can be read to its end
    assert old.customer(kiosk.pseudonym(CUSTOMER).hex()) is not None
    old.close()
    assert recommender.recommend(CUSTOMER).tier == "store-popular"
    answer = recommender.recommend(OTHER)
    assert (answer.tier, answer.path) == ("personal", "rank-fusion")
    assert recommender.warnings == []
    again = erase(kiosk.home, CUSTOMER, tmp_path / "again.json")
    recommender.close()
    assert again["still_open_in"] == []


def test_who_was_never_there_gets_a_tombstone_and_a_receipt(kiosk: Kiosk, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (kiosk.home / "gen").iterdir()}
    document = erase(kiosk.home, "nobody-yet", tmp_path / "receipt.json")
    assert not document["found"]
    assert document["rewritten"] == []
    assert {path: path.read_bytes() for path in (kiosk.home / "gen").iterdir()} == before


def test_the_tombstone_tells_nobodys_name(kiosk: Kiosk, tmp_path: Path) -> None:
    erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
    with closing(sqlite3.connect(kiosk.home / "state.db")) as db:
        rows = db.execute("SELECT id, origin FROM tombstones").fetchall()
    assert [origin for _, origin in rows] == ["kiosk"] * 2
    assert all(CUSTOMER not in each and kiosk.pseudonym(CUSTOMER).hex() != each for each, _ in rows)


def test_a_receipt_is_never_written_over(kiosk: Kiosk, tmp_path: Path) -> None:
    erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
    with pytest.raises(RequestError, match="there already"):
        erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")


@pytest.mark.parametrize("receipt", ["receipt.json", "gen/receipt.json"])
def test_a_receipt_in_the_home_is_refused(kiosk: Kiosk, receipt: str) -> None:
    with pytest.raises(RequestError, match="outside the home"):
        erase(kiosk.home, CUSTOMER, kiosk.home / receipt)


# --- cut anywhere


def cut_at(step: int, home: Path, receipt: Path) -> bool:
    """Erase in a process that ends at its nth change of a file; tell whether it came to its end."""
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        left = [step]

        def count(event: str, args: tuple[Any, ...]) -> None:
            writes = event == "open" and isinstance(args[2], int) and args[2] & os.O_ACCMODE
            if writes or event in ("os.rename", "os.remove", "os.rmdir", "sqlite3.connect"):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)

        sys.addaudithook(count)
        try:
            erase(home, CUSTOMER, receipt)
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 0


def steps(first: int = 0) -> Iterator[int]:
    yield from range(first, 200)


def test_cut_at_any_step_the_kiosk_serves_and_the_same_command_ends_it(
    made: Kiosk, tmp_path: Path
) -> None:
    patterns, ended, step = patterns_of(made), False, 0
    for step in steps():
        home, receipt = tmp_path / f"home-{step}", tmp_path / f"receipt-{step}.json"
        shutil.copytree(made.home, home)
        ended = cut_at(step, home, receipt)
        tier, _, warnings = answers(home, OTHER)
        assert (tier, warnings) == ("personal", [])
        if receipt.exists():  # it is the last word
            assert bytes_left(home, patterns) == []
        if not receipt.exists() or unfinished(home):
            erase(home, CUSTOMER, receipt)
        document = json.loads(receipt.read_text())
        assert bytes_left(home, patterns) == []
        assert answers(home, CUSTOMER) == ("store-popular", "offline", [])
        assert folders(document) == ["gen", "gen", "scores", "bought.txt"]
        assert document["searched"]["vectors"] > 0
        assert unfinished(home) == 0
        shutil.rmtree(home)
        if ended:
            break
    assert ended
    assert step > 30, "or the test shows little"


# --- tombstones of head office


def test_whom_head_office_erases_is_gone_at_the_next_sync(kiosk: Kiosk) -> None:
    """The release stays the same one, which has them."""
    patterns, home = patterns_of(kiosk), kiosk.home
    with open_repository(kiosk.head.repo, kiosk.head.keys) as repository:
        add_tombstones(repository, kiosk.head.keys, [CUSTOMER])
        repository.commit()
    synced = sync(home)
    assert (synced.outcome, synced.erased) == ("up to date", 1)
    told = [name for name, _ in bytes_left(home, patterns)]
    assert all("tombstones" in name for name in told)  # the signed list itself
    assert answers(home, CUSTOMER) == ("store-popular", "offline", [])
    assert answers(home, OTHER) == ("personal", "rank-fusion", [])
    assert sync(home).erased == 0


def test_tombstones_that_are_known_change_no_file(kiosk: Kiosk) -> None:
    ids = frozenset([kiosk.pseudonym(CUSTOMER), kiosk.pseudonym("elsewhere")])
    assert take_tombstones(kiosk.home, ids, kiosk.identity) == 2
    before = {path: path.stat().st_mtime_ns for path in kiosk.home.rglob("*")}
    assert take_tombstones(kiosk.home, ids, kiosk.identity) == 0
    assert {path: path.stat().st_mtime_ns for path in kiosk.home.rglob("*")} == before


def test_a_damaged_release_does_not_stop_tombstones(kiosk: Kiosk) -> None:
    """It is the sync's to build it anew."""
    active = read_state(kiosk.home).active
    with generation_path(kiosk.home, active.name).open("r+b") as file:
        file.seek(40_000)
        file.write(b"\0" * 20_000)
    assert take_tombstones(kiosk.home, frozenset([kiosk.pseudonym(CUSTOMER)]), kiosk.identity) == 1
    assert read_state(kiosk.home).active == active


@pytest.mark.parametrize("what", ["gen", "scores"])
def test_what_is_damaged_beyond_reading_does_not_keep_anybody(
    kiosk: Kiosk, tmp_path: Path, what: str
) -> None:
    """No sync repairs the previous release, and online scores come anew when they come."""
    previous = read_state(kiosk.home).previous
    assert previous is not None
    (scores,) = (kiosk.home / "scores").glob("*.db")
    path = generation_path(kiosk.home, previous.name) if what == "gen" else scores
    path.write_bytes(b"no database" * 1000)
    erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
    assert not path.exists()
    assert answers(kiosk.home, CUSTOMER)[0] == "store-popular"


def test_a_kiosk_that_lost_its_identity_erases_nobody_in_name_alone(
    kiosk: Kiosk, tmp_path: Path
) -> None:
    """It can't tell which pseudonym is the customer's, and a receipt would say that none is."""
    identity_path(kiosk.home).unlink()
    with pytest.raises(IdentityError, match="enrol the kiosk again"):
        erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
    assert not (tmp_path / "receipt.json").exists()
    identity_path(kiosk.home).write_text(kiosk.identity.to_json())
    assert erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")["found"]


@pytest.mark.parametrize("files", ["replaced", "added"])
def test_an_old_state_put_back_with_its_files_brings_nobody_back(
    kiosk: Kiosk, tmp_path: Path, files: str
) -> None:
    """As of a backup of what seemed to be worth one; the copy of the state is today's."""
    old = Path(shutil.copytree(kiosk.home, tmp_path / "old"))
    patterns = patterns_of(kiosk)
    erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
    for name in ("gen", "scores"):
        if files == "replaced":
            shutil.rmtree(kiosk.home / name)
        shutil.copytree(old / name, kiosk.home / name, dirs_exist_ok=True)
    shutil.copy(old / "state.db", kiosk.home / "state.db")
    sync(kiosk.home)
    assert bytes_left(kiosk.home, patterns) == []
    assert answers(kiosk.home, CUSTOMER) == ("store-popular", "offline", [])
    assert answers(kiosk.home, OTHER) == ("personal", "rank-fusion", [])
