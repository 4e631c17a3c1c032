"""Faults 14 to 16: the TUF cache wiped and an old repository replayed; a clock that is wrong."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from c2rec.export.signed import open_repository
from c2rec.runtime.errors import TrustError
from c2rec.runtime.home.state import changing_state, find_floors, raise_floors
from c2rec.runtime.sync.documents import Ring
from tests.faults.place import OLD, Place


@pytest.mark.parametrize("lost", ["cache", "cache and state.db", "cache and the state's copy"])
def test_an_old_repository_is_refused_though_the_cache_is_wiped(place: Place, lost: str) -> None:
    old = place.head.copy_repo("old")
    place.head.publish(seed=1)
    place.sync()
    shutil.rmtree(place.home / "tuf")
    if lost == "cache and state.db":
        (place.home / "state.db").unlink()
    elif lost == "cache and the state's copy":
        (place.home / "state.json").unlink()
    place.settings(repository=str(old))
    with pytest.raises(TrustError, match="older than what this kiosk has seen"):
        place.sync()
    assert place.state.active.seq == 2
    place.answers(place.head.releases[-1].manifest.release)
    place.settings(repository=str(place.head.repo))
    assert place.sync().outcome == "up to date"


def test_an_old_state_restored_alone_does_not_lower_the_floors(place: Place) -> None:
    kept = place.home.with_name("kept.db")
    shutil.copy(place.home / "state.db", kept)
    before = find_floors(place.home)["timestamp"]
    place.head.publish(seed=1)
    place.sync()
    seen = find_floors(place.home)["timestamp"]
    shutil.copy(kept, place.home / "state.db")
    assert find_floors(place.home)["timestamp"] == seen > before


def test_a_clock_years_ahead_is_told_as_such(fresh: Place) -> None:
    with time_machine.travel(datetime(2038, 1, 19, tzinfo=UTC), tick=True):
        with pytest.raises(TrustError, match=r"clock says 2038-01-19 .* check the clock"):
            fresh.sync()
        fresh.answers(OLD)
    fresh.safe()


def test_a_clock_at_2020_does_not_make_expired_metadata_good(fresh: Place) -> None:
    """Head office is known to have signed after this repository's expiry."""
    later = datetime.now(UTC) + timedelta(days=5)
    with changing_state(fresh.home) as db:
        raise_floors(db, {"time": int(later.timestamp())})
    with time_machine.travel(datetime(2020, 1, 1, tzinfo=UTC), tick=True):
        with pytest.raises(TrustError, match=r"stale: .* has expired .* set the clock"):
            fresh.sync()
        fresh.answers(OLD)
    with changing_state(fresh.home) as db:
        db.execute("DELETE FROM floors WHERE name = 'time'")
    fresh.safe()


def test_a_clock_at_2020_takes_what_is_good_and_is_told_of(fresh: Place) -> None:
    with time_machine.travel(datetime(2020, 1, 1, tzinfo=UTC), tick=True):
        synced = fresh.sync()
    assert synced.outcome == "installed"
    assert "clock says 2020-01-01" in synced.warnings[0]


def test_a_head_office_whose_clock_was_ahead_stops_no_kiosk(place: Place) -> None:
    """It signed a ring of 2040 once; the floor for time is the signature's own end at most."""
    moment = (datetime.now(UTC) + timedelta(days=5000)).replace(microsecond=0)
    ring = Ring("stable", 1, 0, False, (), moment)
    with open_repository(place.head.repo, place.head.keys) as repository:
        repository.write_target("channel/stable.json", ring.to_json().encode())
        repository.commit()
    place.sync()
    assert find_floors(place.home)["time"] < (datetime.now(UTC) + timedelta(days=3)).timestamp()
    place.head.publish(seed=1)
    assert place.sync().outcome == "installed"
