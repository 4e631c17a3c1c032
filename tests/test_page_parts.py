"""What the page's server is made of: shelf, sessions, pictures, token, desk."""

import asyncio
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from c2rec.runtime.errors import DataError, NotInstalledError, ServeError
from c2rec.runtime.home.state import copy_path, state_path
from c2rec.runtime.release.install import install
from c2rec.runtime.rules.options import Options
from c2rec.runtime.rules.shelf import Offer, read_shelf
from c2rec.store_kiosk.desk import Asked, Desk
from c2rec.store_kiosk.pictures import Pictures
from c2rec.store_kiosk.problems import RefusedError
from c2rec.store_kiosk.sessions import MOST, Session, Sessions
from c2rec.store_kiosk.tokens import find_token
from c2rec.store_kiosk.worker import Worker
from tests.kiosk_page import CARD, make_home, name_of, write_picture, write_shelf
from tests.release import make_release

# --- the shelf


def shelf_of(folder: Path, text: str) -> Path:
    path = folder / "shelf.csv"
    path.write_text(text)
    return path


def test_a_shelf_is_read_with_what_it_knows(tmp_path: Path) -> None:
    text = '\ufeffitem_id,code,price,stock\r\na,1,9.90,3\r\n"b,c",,,\r\na,2,,\r\nd,,5,0\r\n'
    shelf = read_shelf(shelf_of(tmp_path, text))
    assert shelf.offers == {"a": Offer(9.9, 3), "b,c": Offer(), "d": Offer(5.0, 0)}
    assert shelf.items_by_code == {"1": "a", "2": "a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its columns are none; allowed: item_id and any of code, price, stock"),
        ("price\n3\n", "its columns are price; allowed"),
        ("item_id,colour\na,red\n", "its columns are item_id, colour; allowed"),
        (
            "item_id,stock,stock\na,0,5\n",
            "stock, stock; allowed: item_id and any of code, price",
        ),
        ("item_id,price\na,1_0\n", "row 2: price is '1_0'"),
        ("item_id,price\na,٣\n", "row 2: price is '٣'"),
        ("item_id,stock\na,9999999999\n", "allowed: a whole number of up to 9 digits, or empty"),
        ("item_id,price\na\n", "row 2: has 1 cells; allowed: 2"),
        ("item_id,price\n,3\n", "row 2: item_id is empty"),
        ("item_id,price\na,1\nb,cheap\n", "row 3: price is 'cheap'; allowed"),
        ("item_id,price\na,nan\n", "row 2: price is 'nan'"),
        ("item_id,price\na,-1\n", "row 2: price is '-1'"),
        ("item_id,stock\na,1.5\n", "row 2: stock is '1.5'; allowed: a whole number"),
        ("item_id,stock\na,٣\n", "row 2: stock is '٣'"),
        ("item_id,code\na,1\nb,1\n", "row 3: code '1' is a's already"),
        ('item_id\n"a\n', "is no CSV in UTF-8"),
    ],
)
def test_a_bad_shelf_is_named_with_row_and_value(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read_shelf(shelf_of(tmp_path, text))


def test_a_shelf_that_is_not_there_or_no_text_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be read: No such file"):
        read_shelf(tmp_path / "none.csv")
    (tmp_path / "shelf.csv").write_bytes(b"item_id\n\xff\n")
    with pytest.raises(DataError, match="is no CSV in UTF-8"):
        read_shelf(tmp_path / "shelf.csv")


# --- sessions


def test_a_session_that_nobody_touches_is_forgotten() -> None:
    now = [0.0]
    sessions = Sessions(10, clock=lambda: now[0])
    first, second = sessions.start(), sessions.start()
    assert first
    assert second
    now[0] = 9
    assert sessions.find(first) is not None
    now[0] = 18
    assert sessions.find(second) is None
    assert sessions.find(first) is not None
    now[0] = 29
    sessions.sweep()
    assert len(sessions) == 0


def test_an_answer_that_comes_after_another_card_leaves_nothing_with_its_shopper() -> None:
    session = Session(0.0)
    session.show_card("one")
    visit = session.visit
    assert session.answered("all", ("a", "b"), arm="new", visit=visit)
    assert not session.answered("all", ("a", "b"), arm="new", visit=visit)
    assert session.related_to("like a", ("c",), arm="new", visit=visit)
    session.show_card("two")
    assert not session.answered("more", ("a", "c"), arm="new", visit=visit)
    assert not session.related_to("like b", ("c",), arm="new", visit=visit)
    session.touch("a", visit=visit)
    kept = [session.shown, session.arm, session.question, session.related, session.tapped]
    assert kept == [(), None, None, None, set()]
    assert session.times_before("anything") == {}
    assert session.answered("all", ("a",), arm=None, visit=session.visit)


def test_there_is_an_end_to_sessions() -> None:
    now = [0.0]
    sessions = Sessions(10, clock=lambda: now[0])
    assert len({sessions.start() for _ in range(MOST)} - {None}) == MOST
    assert sessions.start() is None
    now[0] = 11
    assert sessions.start() is not None


# --- pictures and tokens


def test_only_pictures_in_the_folder_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    write_picture(folder / "a b.PNG")
    (tmp_path / "secret.png").touch()
    (folder / "script.svg").touch()
    pictures = Pictures(folder)
    assert pictures.find("a b") == (folder / "a b.PNG", "image/png")
    assert pictures.address("a b") == "/pictures/a%20b"
    for item_id in ("../secret", "script", "", "."):
        assert pictures.find(item_id) is None
        assert pictures.address(item_id) is None


def test_a_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = find_token(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert find_token(path) == token
    assert find_token(None) != find_token(None)


@pytest.mark.parametrize(
    "content", [b"", b"short\n", b"a" * 201, b"sixteen letters !", b"\xff" * 20]
)
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(ServeError, match="holds no token; allowed: one line of 16 to 200"):
        find_token(path)


def test_a_token_that_a_full_disk_cut_off_is_made_anew(tmp_path: Path) -> None:
    """Or a kiosk that ran out of room, or lost its power, would never start again by itself."""
    path = tmp_path / "token"
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from c2rec.store_kiosk.tokens import find_token\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "find_token(Path(sys.argv[1]))\n"
    )
    command = [sys.executable, "-B", "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "can't be written: File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert find_token(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    find_token(path)
    path.chmod(0o640)
    with pytest.raises(ServeError, match=f"run: chmod 600 {path}"):
        find_token(path)
    with pytest.raises(ServeError, match="can't be written: No such file"):
        find_token(tmp_path / "no" / "folder")


# --- the queue


def test_the_queue_has_an_end_and_an_order() -> None:
    async def fill() -> list[int]:
        worker, going = Worker(3), Event()
        done: list[int] = []

        def wait(number: int) -> None:
            assert going.wait(20)
            done.append(number)

        waiting = [asyncio.create_task(worker.run(wait, number)) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(RefusedError) as refused:
            await worker.run(wait, 3)
        assert refused.value.code == "busy"
        going.set()
        await asyncio.gather(*waiting)
        await worker.run(done.append, 4)  # there is room again
        worker.close()
        return done

    assert asyncio.run(fill()) == [0, 1, 2, 4]


# --- the desk


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def desk(home: Path) -> Iterator[Desk]:
    desk = Desk(home)
    yield desk
    desk.close()


def test_the_desk_says_what_a_code_is(desk: Desk) -> None:
    product = desk.identify("i000004")
    assert (product.kind, product.product and product.product.name) == ("product", name_of(4))
    assert desk.identify(CARD).kind == "card"
    assert desk.identify(CARD).known
    for code in ("nobody", "4006381333931", "c000000"):  # who bought nothing is not known
        assert desk.identify(code).kind == "unknown"


def test_a_pattern_says_what_a_card_is(home: Path) -> None:
    desk = Desk(home, cards=re.compile("c[0-9]+|i000004"))
    assert desk.identify("i000004").kind == "card"
    assert desk.identify("i000005").kind == "product"
    assert (desk.identify("c999999").kind, desk.identify("c999999").known) == ("card", False)
    assert desk.identify("d000003").kind == "unknown"
    desk.close()


def test_the_desk_follows_the_shelf_and_keeps_it_when_it_turns_bad(
    home: Path, tmp_path: Path
) -> None:
    warnings: list[str] = []
    path = write_shelf(tmp_path / "shelf.csv")
    desk = Desk(home, shelf=path, report=warnings.append)
    scanned = desk.identify("4006381333931").product
    assert scanned is not None
    assert (scanned.item_id, scanned.offer) == ("i000004", Offer(13.9, 1))
    assert "i000005" not in {item.item_id for item in desk.recommend(Asked(), 50).items}
    path.write_text("item_id,stock\ni000004,much\n")
    product = desk.product("i000004")
    assert product is not None
    assert product.offer == Offer(13.9, 1)
    assert len(warnings) == 1
    assert "row 2: stock is 'much'" in warnings[0]
    path.write_text("item_id,stock\ni000004,0\n")
    items = {item.item_id for item in desk.recommend(Asked(), 50).items}
    desk.close()
    assert "i000005" in items
    assert "i000004" not in items
    assert len(warnings) == 1


def test_what_may_be_shown_and_what_was_dismissed_is_kept_to(desk: Desk) -> None:
    best = [item.item_id for item in desk.recommend(Asked(CARD), 4).items]
    gone = Options(dismissed=best[1:2])
    without = [i.item_id for i in desk.recommend(Asked(CARD, options=gone), 3).items]
    assert without == [best[0], *best[2:4]]
    only = desk.recommend(Asked(CARD, only=best[:3], without=best[:1], options=gone), 4)
    assert [item.item_id for item in only.items] == best[2:3]


def test_an_item_is_explained_as_it_is_recommended(desk: Desk) -> None:
    for asked in (Asked(CARD, ["i000004"]), Asked(None, ["i000004"]), Asked()):
        answer = desk.recommend(asked, 3)
        for item in answer.items:
            explained = desk.explain(asked, item.item_id)
            assert explained.tier == answer.tier
            assert explained.items == (item,)
    assert desk.explain(Asked(None, ["i000004"]), "i000004").items == ()


def test_the_desk_follows_a_new_release(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError):
        Desk(tmp_path / "home").freshness()
    home = make_home(tmp_path)
    desk = Desk(home)
    assert desk.freshness().release == "2020-07-27-00000001"
    make_release(tmp_path / "new", name="new", seed=1)
    install(tmp_path / "new", home)
    assert desk.recommend(Asked(CARD), 3).release == "new"
    assert desk.freshness().release == "new"
    product = desk.product("i000004")
    desk.close()
    assert product is not None
    assert product.name == "Item 4"


def test_a_damaged_new_release_leaves_the_old_one_answering(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    warnings: list[str] = []
    desk = Desk(home, report=warnings.append)
    assert desk.freshness().release == "2020-07-27-00000001"
    make_release(tmp_path / "new", name="new", seed=1)
    install(tmp_path / "new", home)
    (home / "gen" / "new.db").write_bytes(b"no database" * 999)
    assert desk.recommend(Asked(CARD), 3).release == "2020-07-27-00000001"
    product = desk.product("i000004")
    desk.close()
    assert product is not None
    assert product.name == name_of(4)
    assert len(warnings) == 1
    assert "answering from the previous release" in warnings[0]


def test_a_home_that_is_spoiled_while_it_is_open_goes_on_answering(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    warnings: list[str] = []
    desk = Desk(home, report=warnings.append)
    before = desk.recommend(Asked(CARD), 3).items
    for path in (state_path(home), copy_path(home)):
        path.write_bytes(b"no database" * 999)
    for _ in range(2):
        assert desk.recommend(Asked(CARD), 3).items == before
    desk.close()
    assert len([each for each in warnings if "what was open answers on" in each]) == 1
