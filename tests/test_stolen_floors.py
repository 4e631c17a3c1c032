"""A number that a thief signed, and nobody can reach any more, goes with the thief's key."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from c2rec.export.cli import cli
from c2rec.export.signed import open_repository
from c2rec.runtime.errors import SyncError, TrustError
from c2rec.runtime.home.state import changing_state, find_floors, raise_floors
from c2rec.runtime.sync.documents import LARGEST_SEQ
from tests.enrolled import lists_for, publish_lists
from tests.faults.place import CUSTOMER, OLD, Place, make_place
from tests.repositories import rotate_key


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def sign(place: Place, target: str, **fields: object) -> None:
    """Change a document as the thief of its key would."""
    with open_repository(place.head.repo, place.head.keys) as repository:
        content = repository.read_target(target)
        assert content is not None
        repository.write_target(target, json.dumps(json.loads(content) | fields).encode())
        repository.commit()


def promote(place: Place, *options: str) -> str:
    head = place.head
    command = ["promote", str(head.repo), "1", "--ring", "stable", "--keys", str(head.keys.folder)]
    done = CliRunner().invoke(cli, [*command, *options])
    return done.output + str(done.exception or "")


def test_a_ring_beyond_reach_is_back_with_another_key(place: Place) -> None:
    sign(place, "channel/stable.json", seq=LARGEST_SEQ, floor=LARGEST_SEQ)
    with pytest.raises(SyncError, match="has no release"):
        place.sync()
    assert "above the release 1" in promote(place)
    assert "ring stable: release 1, before 9007199254740992; floor 0" in promote(
        place, "--forget-floor"
    )
    with pytest.raises(TrustError, match="if the key of channel was stolen"):
        place.sync()  # the thief may be head office itself, as long as the key is the same
    place.answers(OLD)
    rotate_key(place.head, "channel")
    assert place.sync().outcome == "up to date"
    place.head.publish(seed=1)
    place.safe()


def test_online_scores_beyond_reach_are_back_with_another_key(place: Place) -> None:
    lists = lists_for([CUSTOMER])
    publish_lists(place.head, lists)
    assert place.sync().warnings == []
    (floor,) = (name for name in find_floors(place.home) if name.startswith("scores "))
    with changing_state(place.home) as db:  # what a thief of all three keys gets a kiosk to do
        raise_floors(db, {floor: LARGEST_SEQ})
    publish_lists(place.head, lists)
    (warning,) = place.sync().warnings
    assert "below 9007199254740992" in warning
    rotate_key(place.head, "scores")
    assert place.sync().warnings == []


def test_head_office_counts_anew_after_a_number_beyond_reach(place: Place) -> None:
    publish_lists(place.head, lists_for([CUSTOMER]))
    sign(place, "scores/index.json", seq=LARGEST_SEQ)
    assert publish_lists(place.head, lists_for([CUSTOMER])) == 1
