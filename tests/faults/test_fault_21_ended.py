"""Fault 21: a sync that ends at any step, or is killed at random."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from c2rec.runtime.home.state import read_state
from c2rec.runtime.recommender import Recommender
from tests.faults.place import CUSTOMER, OLD, Place

_SYNC = """
import os, sys
from pathlib import Path
{prelude}
from c2rec.runtime.sync.sync import sync
def report(stage):
    print(stage, flush=True)
    if stage == {step!r}:
        os._exit(9)
sync(Path(sys.argv[1]), report=report)
"""


def start(home: Path, *, step: str = "", prelude: str = "") -> subprocess.Popen[str]:
    script = _SYNC.format(step=step, prelude=prelude)
    command = [sys.executable, "-c", script, str(home)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def stages(place: Place) -> list[str]:
    """What a whole sync tells."""
    output, errors = start(place.home).communicate(timeout=60)
    assert errors == ""
    return list(dict.fromkeys(output.splitlines()))


STAGES = [
    "removing what is not needed",
    "asking what is new",
    "checking what is installed",
    "fetching: 0.0 of 0.0 MB",
    "storing items.safetensors",
    "storing what the engine scans",
    "storing customers",
    "storing customers: shard 1 of 1",
    "trying the release's golden inputs",
    "activating",
]


def test_the_steps_are_those_of_a_sync(fresh: Place) -> None:
    assert set(STAGES) <= set(stages(fresh))


@pytest.mark.parametrize("step", STAGES)
def test_ended_at_a_step_the_next_sync_completes(fresh: Place, step: str) -> None:
    process = start(fresh.home, step=step)
    process.communicate(timeout=60)
    assert process.returncode == 9
    fresh.safe()


_NTH = """
import os, pathlib
calls = 0
def ending(name):
    real = getattr(os, name)
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == {number}:
            {before}os._exit(9)
        done = real(*arguments, **options)
        if calls == {number}:
            os._exit(9)
        return done
    setattr(os, name, call)
for name in ("fsync", "replace", "unlink", "mkdir"):
    ending(name)
"""


def test_ended_before_or_after_any_call_that_changes_the_disk_it_completes(fresh: Place) -> None:
    """Python's own calls; those of SQLite are ended at random, below."""
    number, ended = 1, 0
    while True:
        before = "" if number % 2 else "pass; #"
        process = start(fresh.home, prelude=_NTH.format(number=number, before=before))
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (0, 9), errors
        state = read_state(fresh.home)
        assert state.active.seq in (1, 2)
        recommender = Recommender.open(fresh.home)
        assert recommender.recommend(CUSTOMER).tier == "personal"
        assert recommender.warnings == []
        recommender.close()
        if process.returncode == 0:
            break
        ended += 1
        # every third time only: what is cut twice in a row is another case than cut once
        number += 7
    assert ended >= 2
    assert fresh.state.active.seq == 2
    fresh.answers(fresh.head.releases[-1].manifest.release)


def test_what_python_tuf_was_writing_is_not_left_for_ever(fresh: Place) -> None:
    """It has another name each time."""
    process = start(fresh.home, prelude="import os; os.replace = lambda *_: os._exit(9)")
    process.communicate(timeout=60)
    assert process.returncode == 9
    assert list((fresh.home / "tuf").glob("tmp*"))
    fresh.safe()
    assert not list((fresh.home / "tuf").glob("tmp*"))


def test_killed_at_random_the_next_sync_completes(place: Place) -> None:
    place.head.publish(seed=1, items=500, customers=1000, size=16)
    rng, killed = random.Random(1), 0  # noqa: S311 - moments, no secrets
    started = time.perf_counter()
    output, errors = start(place.home).communicate(timeout=60)
    assert (errors, "activating" in output) == ("", True)
    lasts = time.perf_counter() - started
    for seed in range(3):
        place.head.publish(seed=seed + 2, items=500, customers=1000, size=16)
        process = start(place.home)
        time.sleep(rng.uniform(0.3, 1.0) * lasts)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        killed += process.returncode == -signal.SIGKILL
        recommender = Recommender.open(place.home, thorough=True)
        assert recommender.recommend(CUSTOMER).tier == "personal"
        assert recommender.warnings == []
        recommender.close()
    assert killed, "or the test shows nothing"
    place.sync()
    assert place.state.active.seq == 5
    place.answers(place.head.releases[-1].manifest.release)
    assert OLD not in [each.release for each in (place.state.active, place.state.previous) if each]
