"""What was bought here, where files are spoiled, locked or gone, and where somebody is erased."""

import os
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from c2rec.runtime.erasure.erase import erase, take_tombstones
from c2rec.runtime.events.bought_file import bought_path
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.outbox_file import OutboxFile
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.install import install
from c2rec.store_kiosk.doctor import diagnose
from tests.buying import CUSTOMER, OTHER, STRANGER, best, buy, copy_of, ids, make_synced, opened
from tests.enrolled import Kiosk
from tests.release import make_release


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Kiosk:
    return make_synced(tmp_path_factory.mktemp("made"))


@pytest.fixture
def kiosk(made: Kiosk, tmp_path: Path) -> Kiosk:
    return copy_of(made, tmp_path / "home")


# --- whatever is wrong


def noise(home: Path) -> None:
    for path in home.glob("events.db*"):
        path.write_bytes(os.urandom(40_000))


def gone(home: Path) -> None:
    for path in home.glob("events.db*"):
        path.unlink()


def a_folder(home: Path) -> None:
    gone(home)
    (home / "events.db").mkdir()


@pytest.mark.parametrize("spoil", [noise, gone, a_folder])
def test_whatever_becomes_of_events_db_it_is_left_out(
    kiosk: Kiosk, spoil: Callable[[Path], None]
) -> None:
    first, *rest = best(kiosk)
    buy(kiosk, first)
    spoil(kiosk.home)
    assert best(kiosk)[:9] == rest


def test_doctor_says_when_it_can_not_be_used(kiosk: Kiosk) -> None:
    def found() -> list[tuple[str, str]]:
        return [
            (each.verdict, each.text) for each in diagnose(kiosk.home) if each.check == "bought"
        ]

    assert found() == []
    buy(kiosk, best(kiosk)[0])
    ((verdict, text),) = found()
    assert (verdict, str(bought_path(kiosk.home)) in text) == ("ok", True)
    bought_path(kiosk.home).unlink()
    bought_path(kiosk.home).mkdir()
    ((verdict, text),) = found()
    assert (verdict, "it is no file" in text) == ("warning", True)


def test_an_answer_waits_for_no_lock(kiosk: Kiosk) -> None:
    """Who waited would be given up on after 20 s, with a warning."""
    first, *rest = best(kiosk)
    buy(kiosk, first)
    file = OutboxFile(kiosk.home)
    with file.locked():
        assert best(kiosk)[:9] == rest
    file.unlock()


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def huge(path: Path) -> None:
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("spoil", [as_folder, as_pipe, huge])
def test_a_file_that_can_t_be_read_is_told_and_answered_without(
    kiosk: Kiosk, spoil: Callable[[Path], None]
) -> None:
    first, *rest = best(kiosk)
    buy(kiosk, first)
    path = bought_path(kiosk.home)
    with opened(kiosk) as recommender:
        assert ids(recommender.recommend(CUSTOMER))[:9] == rest
        spoil(path)
        assert ids(recommender.recommend(CUSTOMER))[:9] == rest, "it is known still"
        assert ids(recommender.recommend(CUSTOMER))[:9] == rest
        (warning,) = recommender.warnings
        assert str(path) in warning
    with opened(kiosk) as recommender:
        assert ids(recommender.recommend(CUSTOMER))[0] == first
        assert len(recommender.warnings) == 1


@pytest.mark.parametrize("spoil", [as_folder, as_pipe, huge])
def test_a_purchase_counts_for_head_office_though_it_can_t_be_written_here(
    kiosk: Kiosk, spoil: Callable[[Path], None]
) -> None:
    bought_path(kiosk.home).touch()
    spoil(bought_path(kiosk.home))
    buy(kiosk, "i000001")
    with closing(Outbox(kiosk.home, kiosk.identity)) as outbox:
        frozen = outbox.freeze()
        assert frozen is not None
        assert frozen.count == 1


def test_what_else_is_in_the_file_is_passed_over(kiosk: Kiosk) -> None:
    first, second, *rest = best(kiosk)
    buy(kiosk, first)
    path, who = bought_path(kiosk.home), kiosk.pseudonym(CUSTOMER).hex()
    with path.open("ab") as file:
        file.write(b"\n\xff\xfe\n" + os.urandom(100).replace(b"\n", b"") + b"\n")
        file.write(f"{who}\n{who} \n{who} 18000\n{who} -1 i000001\n{who} 9999999 x\n".encode())
        file.write(f"{who} 20000 ".encode() + b"\xff\n")
        file.write(f"{who} 200".encode())  # the power was cut here
    buy(kiosk, second)
    assert best(kiosk)[:8] == rest
    assert path.read_bytes().endswith(f" {second}\n".encode())


def test_a_line_that_is_being_written_is_read_once_it_is_whole(kiosk: Kiosk) -> None:
    first, *rest = best(kiosk)
    line = f"{kiosk.pseudonym(CUSTOMER).hex()} 20000 {first}\n"
    path = bought_path(kiosk.home)
    with opened(kiosk) as recommender:
        for end in (0, 10, len(line) - 1):
            path.write_text(line[:end])
            assert ids(recommender.recommend(CUSTOMER))[0] == first
        path.write_text(line)
        assert ids(recommender.recommend(CUSTOMER))[:9] == rest
        path.unlink()
        assert ids(recommender.recommend(CUSTOMER))[0] == first


def test_a_file_with_the_inode_of_one_before_it_is_read_from_its_start(kiosk: Kiosk) -> None:
    """As two erasures may leave it."""
    first, *rest = best(kiosk)
    buy(kiosk, first)
    path = bought_path(kiosk.home)
    others = f"{kiosk.pseudonym(OTHER).hex()} 20000 i000001\n" * 9
    with opened(kiosk) as recommender:
        assert ids(recommender.recommend(CUSTOMER))[:9] == rest
        path.write_text(others)
        assert ids(recommender.recommend(CUSTOMER))[0] == first


def test_a_kiosk_that_is_not_enrolled_reads_none(tmp_path: Path) -> None:
    release = make_release(tmp_path / "bundle")
    install(release.folder, tmp_path / "home")
    bought_path(tmp_path / "home").mkdir()
    recommender = Recommender.open(tmp_path / "home")
    assert recommender.recommend(CUSTOMER).tier == "personal"
    assert recommender.warnings == []
    recommender.close()


# --- erased


def bytes_left(kiosk: Kiosk, customer: str) -> list[str]:
    """Files in which a customer's id or pseudonym is."""
    who = kiosk.pseudonym(customer)
    patterns = [customer.encode(), who, who.hex().encode()]
    files = [path for path in kiosk.home.rglob("*") if path.is_file()]
    return [path.name for path in files if any(each in path.read_bytes() for each in patterns)]


def test_who_is_erased_bought_nothing_here(kiosk: Kiosk, tmp_path: Path) -> None:
    first, other = best(kiosk)[0], best(kiosk, OTHER)[0]
    buy(kiosk, first)
    path = bought_path(kiosk.home)
    with opened(kiosk) as recommender:
        assert first not in ids(recommender.recommend(CUSTOMER, k=1000))
        buy(kiosk, other, "i000001", "i000002", customer=OTHER)  # the new file is longer than that
        old = sha256(path.read_bytes()).hexdigest()
        document = erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
        assert first in ids(recommender.recommend(CUSTOMER, k=1000))
        assert other not in ids(recommender.recommend(OTHER, k=1000))
    assert bytes_left(kiosk, CUSTOMER) == []
    assert document["rewritten"][-1] == {
        "file": "bought.txt",
        "old_sha256": old,
        "new_sha256": sha256(path.read_bytes()).hexdigest(),
    }
    buy(kiosk, first)  # a till has the card still
    assert bytes_left(kiosk, CUSTOMER) == []
    assert path.read_bytes().count(b"\n") == 3


def test_what_was_left_of_an_earlier_file_goes_too(kiosk: Kiosk, tmp_path: Path) -> None:
    buy(kiosk, "i000001")
    path = bought_path(kiosk.home)
    path.rename(f"{path}.tmp")
    erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")
    assert bytes_left(kiosk, CUSTOMER) == []


def test_who_is_in_this_file_alone_was_found(kiosk: Kiosk, tmp_path: Path) -> None:
    buy(kiosk, "i000001", customer=STRANGER)
    for path in kiosk.home.glob("events.db*"):
        path.unlink()
    document = erase(kiosk.home, STRANGER, tmp_path / "receipt.json")
    assert document["found"]
    assert [each["file"] for each in document["rewritten"]] == ["bought.txt"]
    assert document["searched"]["events_made_nameless"] == 0
    assert bytes_left(kiosk, STRANGER) == []
    again = erase(kiosk.home, STRANGER, tmp_path / "again.json")
    assert not again["found"]


def test_whom_head_office_erases_bought_nothing_here(kiosk: Kiosk) -> None:
    buy(kiosk, "i000001")
    buy(kiosk, "i000002", customer=OTHER)
    assert take_tombstones(kiosk.home, frozenset([kiosk.pseudonym(CUSTOMER)]), kiosk.identity) == 1
    assert bytes_left(kiosk, CUSTOMER) == []
    assert kiosk.pseudonym(OTHER).hex() in bought_path(kiosk.home).read_text()


def test_an_item_that_is_called_as_a_customer_is_keeps_nobody_from_being_erased(
    kiosk: Kiosk, tmp_path: Path
) -> None:
    buy(kiosk, CUSTOMER, customer=OTHER)
    with closing(Outbox(kiosk.home, kiosk.identity)) as outbox:
        frozen = outbox.freeze()
        assert frozen is not None
        outbox.arrived(frozen)
    for path in kiosk.home.glob("events.db*"):
        path.unlink()
    assert erase(kiosk.home, CUSTOMER, tmp_path / "receipt.json")["found"]
