"""Faults 29 and 30: four syncs at once, and a reader of a generation that is removed."""

import subprocess
import sys

from c2rec.runtime.recommender import Recommender
from tests.faults.place import CUSTOMER, OLD, Place

_SYNC = """
import sys
from pathlib import Path
from c2rec.runtime.errors import HomeError
from c2rec.runtime.sync.sync import sync
print("ready", flush=True)
sys.stdin.readline()
try:
    print(sync(Path(sys.argv[1])).outcome)
except HomeError as error:
    print(error)
"""


def test_of_four_syncs_at_once_one_installs(fresh: Place) -> None:
    command = [sys.executable, "-c", _SYNC, str(fresh.home)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert answers.count("installed") == 1
    for answer in answers:
        assert answer in ("installed", "up to date") or "another install or sync" in answer
    fresh.answers(fresh.head.releases[-1].manifest.release)


def test_a_reader_of_a_generation_that_is_removed_finishes(fresh: Place) -> None:
    recommender = Recommender.open(fresh.home)
    path = recommender._cache.path
    fresh.sync()
    fresh.head.publish(seed=2)
    fresh.sync()
    assert not path.exists()
    answer = recommender.recommend(CUSTOMER)
    assert (answer.release, answer.tier, recommender.warnings) == (OLD, "personal", [])
    assert recommender.recommend(None).tier == "store-popular"
    recommender.close()
