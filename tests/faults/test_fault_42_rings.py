"""Fault 42 and its like: halts, waves, floors, and releases that this version can't serve."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from c2rec.export.rings import halt_ring
from c2rec.export.signed import open_repository
from c2rec.runtime.errors import SyncError, TrustError
from c2rec.runtime.home.state import changing_state, find_floors, raise_floors
from c2rec.runtime.release.rollback import roll_back
from c2rec.runtime.sync.documents import Wave, wave_place
from tests.faults.forged import point, sign_release
from tests.faults.place import DEVICE, OLD, STORE, Place


def halt(place: Place, *, on: bool) -> None:
    with open_repository(place.head.repo, place.head.keys) as repository:
        halt_ring(repository, "stable", halt=on)
        repository.commit()


def test_who_is_late_does_not_install_what_was_halted(fresh: Place) -> None:
    """In the first wave, this kiosk was not; then head office stopped."""
    now = datetime.now(UTC).replace(microsecond=0)
    place = wave_place(f"{STORE}/{DEVICE}", 2)
    waves = (Wave(now - timedelta(hours=1), place / 2), Wave(now + timedelta(hours=1), 1.0))
    point(fresh.head, 2, waves=waves)
    synced = fresh.sync()
    assert (synced.outcome, synced.release) == ("waiting", OLD)
    assert "not this kiosk's turn yet" in synced.text()
    halt(fresh, on=True)
    with time_machine.travel(now + timedelta(hours=2), tick=True):
        synced = fresh.sync()
        assert (synced.outcome, synced.release) == ("halted", OLD)
        assert "head office has halted seq 2" in synced.text()
        fresh.answers(OLD)
        halt(fresh, on=False)
        fresh.safe()


def test_who_has_installed_it_keeps_it_though_it_is_halted(fresh: Place) -> None:
    fresh.sync()
    halt(fresh, on=True)
    assert fresh.sync().outcome == "up to date"
    fresh.answers(fresh.head.releases[-1].manifest.release)


def test_a_kiosk_in_the_wave_installs(fresh: Place) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    place = wave_place(f"{STORE}/{DEVICE}", 2)
    point(fresh.head, 2, waves=(Wave(now - timedelta(hours=1), (1 + place) / 2),))
    fresh.safe()


def test_head_office_can_go_back_to_a_release(fresh: Place) -> None:
    fresh.sync()
    point(fresh.head, 1)
    assert fresh.sync().outcome == "installed"
    fresh.answers(OLD)


def test_below_the_floor_nothing_is_installed(fresh: Place) -> None:
    """The floor was signed before; a stolen channel key takes it away again."""
    (floor,) = (name for name in find_floors(fresh.home) if name.startswith("seq stable "))
    with changing_state(fresh.home) as db:
        raise_floors(db, {floor: 3})
    with pytest.raises(TrustError, match="takes seq 2, below the floor of 3"):
        fresh.sync()
    fresh.answers(OLD)
    fresh.head.publish(seed=2)
    fresh.safe(seq=3)


def test_a_floor_that_was_signed_is_remembered(fresh: Place) -> None:
    point(fresh.head, 2, floor=2)
    fresh.sync()
    floors = find_floors(fresh.home)
    assert [value for name, value in floors.items() if name.startswith("seq stable ")] == [2]


def test_a_ring_that_is_not_there_is_told(fresh: Place) -> None:
    fresh.settings(ring="beta")
    with pytest.raises(SyncError, match=r"has no ring 'beta'; check `ring` in kiosk\.toml"):
        fresh.sync()
    fresh.settings(ring="stable")
    fresh.safe()


def test_a_release_for_a_newer_runtime_is_not_taken(fresh: Place) -> None:
    sign_release(fresh.head, 2, lambda document: document.update(min_runtime="99.1"))
    with pytest.raises(SyncError, match=r"needs c2rec 99.1, this is \d.*pip install --upgrade"):
        fresh.sync()
    fresh.answers(OLD)
    sign_release(fresh.head, 2, lambda document: document.update(min_runtime="0.1.0"))
    fresh.safe()


def test_what_was_rolled_back_by_hand_is_not_taken_again(fresh: Place) -> None:
    fresh.sync()
    before, after = roll_back(fresh.home)
    assert (before.seq, after.seq) == (2, 1)
    fresh.answers(OLD)
    with pytest.raises(SyncError, match="seq 2 is known to be bad here: rolled back by hand"):
        fresh.sync()
    fresh.head.publish(seed=2)
    fresh.safe(seq=3)
