"""A customer whom the store doesn't know is served from the repository, and never written down."""

import time
from pathlib import Path

import pytest

from c2rec.runtime.answer import Answer
from c2rec.runtime.erasure.erase import take_tombstones
from c2rec.runtime.home.identity import pseudonym
from c2rec.runtime.recommender import Recommender
from tests.faults.place import Place, make_place
from tests.faults.server import PORTAL, Reply

HERE, ELSEWHERE, NOBODY = "c000004", "c000003", "c999999"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A kiosk of store S1, whose customers have even numbers."""
    made = make_place(tmp_path / "place")
    stores = [["S1"] if number % 2 == 0 else ["S2"] for number in range(30)]
    made.head.publish(seed=1, stores=stores)
    made.sync()
    return made


def ask(recommender: Recommender, customer: str) -> Answer:
    answer = recommender.recommend(customer)
    assert len(answer.items) == 10
    return answer


def test_a_visitor_is_served_as_at_home(place: Place, tmp_path: Path) -> None:
    home_store = place.home.with_name("other home")
    from c2rec.runtime.home.enrol import enrol
    from c2rec.runtime.home.settings import Settings
    from tests.faults.place import make_kit

    kit = make_kit(place.head, tmp_path / "kit", store="S2")
    enrol(home_store, kit, Settings(repository=str(place.head.repo)))
    Place(place.head, home_store).sync()
    at_home = Recommender.open(home_store)
    expected = ask(at_home, ELSEWHERE)
    at_home.close()
    assert expected.tier == "personal"
    with place.served() as server:
        recommender = Recommender.open(place.home, visitors=True)
        assert ask(recommender, HERE).tier == "personal"
        assert server.requests == []
        answer = ask(recommender, ELSEWHERE)
        assert (answer.tier, answer.items) == ("personal", expected.items)
        assert len(server.requests) == 1
        assert ask(recommender, ELSEWHERE).items == expected.items
        assert len(server.requests) == 1, "asked twice"
        assert ask(recommender, NOBODY).tier == "store-popular"
        assert recommender.warnings == []
        recommender.close()


def test_nothing_of_a_visitor_is_written(place: Place) -> None:
    before = {path: path.read_bytes() for path in place.home.rglob("*") if path.is_file()}
    recommender = Recommender.open(place.home, visitors=True)
    assert ask(recommender, ELSEWHERE).tier == "personal"
    recommender.close()
    key = place.head.keys.customer_key
    hidden = pseudonym(key, ELSEWHERE)
    after = {path: path.read_bytes() for path in place.home.rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    changed = [path for path in after if after[path] != before[path]]
    assert [path.name for path in changed] == ["state.db"], "the trial's counters are there"
    assert hidden not in after[changed[0]]
    assert hidden.hex().encode() not in after[changed[0]]


def test_without_the_setting_nobody_is_looked_up(place: Place) -> None:
    with place.served() as server:
        recommender = Recommender.open(place.home)
        assert ask(recommender, ELSEWHERE).tier == "store-popular"
        recommender.close()
        place.settings(visitors=True)
        recommender = Recommender.open(place.home)
        assert ask(recommender, ELSEWHERE).tier == "personal"
        recommender.close()
        recommender = Recommender.open(place.home, visitors=False)
        assert ask(recommender, ELSEWHERE).tier == "store-popular"
        recommender.close()
        assert len(server.requests) == 1


def test_a_network_that_is_down_is_asked_once_a_minute(place: Place) -> None:
    with place.served() as server:
        server.fault = lambda path, reply: Reply(200, PORTAL)
        recommender = Recommender.open(place.home, visitors=True)
        for customer in (ELSEWHERE, ELSEWHERE, "c000005", "c000007"):
            assert ask(recommender, customer).tier == "store-popular"
        assert ask(recommender, HERE).tier == "personal"
        assert len(server.requests) == 1
        recommender.close()
    (warning,) = recommender.warnings
    assert "something else answers in its place; answering visitors as anyone" in warning


def test_a_slow_network_is_not_waited_for(place: Place) -> None:
    with place.served() as server:
        server.drip = 0.05
        place.settings(visitors=True, visitors_deadline=0.2)
        recommender = Recommender.open(place.home)
        started = time.monotonic()
        assert ask(recommender, ELSEWHERE).tier == "store-popular"
        assert time.monotonic() - started < 30, "as long as the answer would have dripped"
        recommender.close()
    (warning,) = recommender.warnings
    assert "0.2 seconds" in warning


def test_an_erased_visitor_is_anyone(place: Place) -> None:
    recommender = Recommender.open(place.home, visitors=True)
    assert ask(recommender, ELSEWHERE).tier == "personal"
    gone = pseudonym(place.head.keys.customer_key, ELSEWHERE)
    take_tombstones(place.home, frozenset([gone]), place.head.identity("S1"))
    assert ask(recommender, ELSEWHERE).tier == "store-popular"
    recommender.close()
