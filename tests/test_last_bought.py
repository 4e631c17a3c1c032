"""When a customer last bought each item reaches the kiosk, and moves alone."""

from pathlib import Path

import pytest

from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.home.enrol import enrol
from c2rec.runtime.home.identity import find_identity, pseudonym
from c2rec.runtime.home.settings import Settings, read_settings
from c2rec.runtime.release.cache import Cache, Customer
from c2rec.runtime.serving.visit import Visitors
from tests.faults.place import Place, make_kit
from tests.repositories import make_head
from tests.repository_reader import read_deltas, read_repository

AGAIN, ELSEWHERE = 4, 3


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A kiosk of store S1, whose customers have even numbers."""
    head = make_head(tmp_path / "head", publish=False)
    head.publish(stores=stores())
    place = Place(head, tmp_path / "home")
    enrol(place.home, make_kit(head, tmp_path / "kit"), Settings(repository=str(head.repo)))
    place.sync()
    return place


def stores() -> list[list[str]]:
    return [["S1"] if number % 2 == 0 else ["S2"] for number in range(30)]


def known(place: Place) -> dict[int, Customer]:
    """What the active release at the kiosk knows, by the customer's number."""
    cache = Cache(generation_path(place.home, place.state.active.name))
    rows = {number: cache.customer(hidden(place, number).hex()) for number in range(30)}
    cache.close()
    return {number: row for number, row in rows.items() if row is not None}


def hidden(place: Place, number: int) -> bytes:
    customer = place.head.releases[-1].customer_ids[number]
    return pseudonym(place.head.keys.customer_key, customer)


def test_a_kiosk_knows_the_days_of_its_customers(place: Place) -> None:
    made = place.head.releases[-1]
    found = {number: row.history_days.tolist() for number, row in known(place).items()}
    assert found == {number: made.days(number) for number in range(0, 30, 2)}
    assert len({day for days in found.values() for day in days}) > 10


def test_who_buys_the_same_again_travels_as_a_delta_of_one_row(place: Place) -> None:
    before = known(place)
    place.head.publish(stores=stores(), bought_again=[AGAIN])
    seen = read_repository(place.head.repo, place.head.keys)
    ((ref, _),) = seen.shards["S1"]
    (delta,) = read_deltas(place.head.repo, place.head.keys, seen.release, "S1", ref)
    assert [each.tobytes() for each in delta.changed.ids] == [hidden(place, AGAIN)]
    with place.served() as server:
        place.sync()
        assert f"blob/{ref.deltas[0].blob.sha256}" in server.requests
        assert f"blob/{ref.blob.sha256}" not in server.requests
    for number, row in known(place).items():
        old, later = before.pop(number), int(number == AGAIN)
        assert (row.history_days - later).tolist() == old.history_days.tolist()
        assert row.history_items.tolist() == old.history_items.tolist()
        assert row.components.tolist() == old.components.tolist()
    assert before == {}


def test_a_visitor_comes_with_their_days(place: Place) -> None:
    made = place.head.releases[-1]
    cache = Cache(generation_path(place.home, place.state.active.name))
    identity = find_identity(place.home)
    assert identity is not None
    visitors = Visitors(place.home, read_settings(place.home), identity, cache)
    found = visitors.find(made.customer_ids[ELSEWHERE])
    cache.close()
    assert found is not None
    assert found.history_days.tolist() == made.days(ELSEWHERE)
    assert len(made.days(ELSEWHERE)) > 0
