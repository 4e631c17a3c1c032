"""What a sync costs on the wire, counted by a real web server."""

from typing import Any

import pytest

from tests.faults.place import Place, make_place

CUSTOMERS = 6000
SIZES: dict[str, Any] = {"items": 4000, "customers": CUSTOMERS, "size": 32}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = make_place(tmp_path_factory.mktemp("traffic"))
    place.head.publish(seed=3, **SIZES)
    return place


def moved(place: Place) -> tuple[int, list[str]]:
    """Sync; bytes sent by the server, and what was asked for."""
    with place.served() as server:
        synced = place.sync()
        assert synced.moved == server.sent
        return server.sent, server.requests


def test_what_a_sync_moves(place: Place) -> None:
    whole, _ = moved(place)
    assert whole > 2_000_000

    # nothing new: the timestamp, and a question for a newer root that has no answer
    nothing, asked = moved(place)
    assert asked == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert nothing == (place.head.repo / "metadata" / "timestamp.json").stat().st_size

    # one in a hundred customers bought something: deltas
    rebought = range(7, CUSTOMERS, 100)
    place.head.publish(seed=3, rebought=rebought, **SIZES)
    changed, asked = moved(place)
    assert place.state.active.seq == 3
    assert changed <= 0.02 * whole, f"{changed / whole:.2%}"

    # the same again: no customer's row is fetched
    place.head.publish(seed=3, rebought=rebought, **SIZES)
    same, _ = moved(place)
    assert place.state.active.seq == 4
    assert same < changed
    place.answers(place.head.releases[-1].manifest.release)
