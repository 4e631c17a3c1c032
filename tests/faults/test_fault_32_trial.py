"""Fault 32: a release that crashes what serves it, and power that is cut every night."""

import subprocess
import sys

import pytest

from c2rec.runtime.errors import SyncError
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.trial import FAILED_STARTS, GOOD_ANSWERS
from tests.faults.place import CUSTOMER, OLD, Place

_START = """
import os, sys
from pathlib import Path
from c2rec.runtime.recommender import Recommender
recommender = Recommender.open(Path(sys.argv[1]))
if "answer" in sys.argv[2:]:
    recommender.recommend("c000003")
print(recommender.manifest.release)
sys.stdout.flush()
os._exit(139)  # as after a segmentation fault: nothing is closed
"""


def crash(place: Place, *options: str) -> str:
    """Start what serves, and let it crash; the release that it opened."""
    command = [sys.executable, "-c", _START, str(place.home), *options]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 139
    return done.stdout.strip()


def answer(place: Place) -> None:
    recommender = Recommender.open(place.home)
    recommender.recommend(CUSTOMER)
    recommender.close()


def test_after_three_starts_that_came_to_nothing_the_previous_release_answers(
    fresh: Place,
) -> None:
    fresh.sync()
    new = fresh.state.active.release
    for _ in range(FAILED_STARTS):
        assert crash(fresh) == new
    recommender = Recommender.open(fresh.home)
    assert recommender.recommend(CUSTOMER).release == OLD
    recommender.close()
    assert f"release {new} was given up after 3 starts" in recommender.warnings[0]
    with pytest.raises(SyncError, match="seq 2 is known to be bad here: 3 starts"):
        fresh.sync()
    fresh.head.publish(seed=2)
    fresh.safe(seq=3)


def test_good_answers_confirm_and_no_later_crash_counts(fresh: Place) -> None:
    """Fifty power cuts after it."""
    fresh.sync()
    new = fresh.state.active.release
    for _ in range(GOOD_ANSWERS):
        assert fresh.state.trial is not None
        answer(fresh)
    assert fresh.state.trial is None
    for _ in range(2):
        assert crash(fresh) == new
    for _ in range(50):  # the same without a process each
        Recommender.open(fresh.home)._cache.close()
    assert fresh.state.active.release == new
    assert fresh.state.trial is None


def test_a_start_that_answered_does_not_count_though_it_crashed(fresh: Place) -> None:
    fresh.sync()
    new = fresh.state.active.release
    crash(fresh)
    crash(fresh)
    crash(fresh, "answer")
    for _ in range(FAILED_STARTS):
        assert crash(fresh) == new


def test_a_start_that_ended_in_good_order_does_not_count(fresh: Place) -> None:
    """A kiosk that is restarted all night, without a customer."""
    fresh.sync()
    for _ in range(3 * FAILED_STARTS):
        Recommender.open(fresh.home).close()
    assert fresh.state.active.seq == 2
    assert fresh.state.trial is not None
    assert fresh.state.trial.starts == 0


def test_the_first_release_has_none_to_go_back_to(place: Place) -> None:
    for _ in range(FAILED_STARTS + 2):
        assert crash(place) == OLD
    place.answers(OLD)
