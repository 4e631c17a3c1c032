"""How long a process takes from its start to its first answer, and how much memory it then has."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from c2rec.runtime.errors import HomeError

STARTS = 5
"""Processes started for one figure; it is the median."""

_ANSWER = """
import json, sys, time
from pathlib import Path
from c2rec.runtime.recommender import Recommender
home, customers, k = json.load(sys.stdin)
recommender = Recommender.to_measure(Path(home))
answer = recommender.recommend(customers[0], k=k)
answered = time.monotonic()
for customer in customers[1:]:
    recommender.recommend(customer, k=k)
from c2rec.store_kiosk.machine import resident_mb
why = recommender.warnings[0] if recommender.warnings else f"it answers by {answer.tier}"
found = {"answered": answered, "personal": answer.tier == "personal", "why": why}
print(json.dumps(found | {"rss_mb": resident_mb()}))
"""

_IMPORT = """
import os, time
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime
answered = time.monotonic()
import json
print(json.dumps({"answered": answered}))
"""


class Opened(NamedTuple):
    """What was measured of fresh processes."""

    first_ms: float
    """From the start of the process to its first answer, milliseconds."""
    rss_mb: float | None
    """Resident memory after all answers, MB."""


def open_fresh(home: Path, customers: Sequence[str], k: int) -> Opened:
    """Start processes that open a home's release and answer for customers, one after the other.

    Args:
        home: the home folder.
        customers: ids of customers who have bought something, at least one.
        k: how many items each is told.

    Raises:
        HomeError: the process fails, or answers without the model.
    """
    times, rss = [], None
    for _ in range(STARTS):
        ms, told = _start(_ANSWER, json.dumps([str(home), list(customers), k]))
        if not told["personal"]:
            raise HomeError(f"a process that opens {home} can't use the model: {told['why']}")
        times.append(ms)
        rss = told["rss_mb"]
    return Opened(statistics.median(times), rss)


def import_onnxruntime_ms() -> float:
    """From the start of a process that does nothing but import onnxruntime, milliseconds."""
    return statistics.median(_start(_IMPORT, "")[0] for _ in range(STARTS))


def _start(script: str, given: str) -> tuple[float, dict[str, Any]]:
    # -P: the current folder's files are no modules of ours
    command = [sys.executable, "-P", "-c", script]
    started = time.monotonic()  # the system's clock: the other process reads the same
    done = subprocess.run(  # noqa: S603 - this Python, and the scripts above
        command, input=given, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise HomeError(f"a fresh process can't answer: {reason}")
    told: dict[str, Any] = json.loads(done.stdout)
    return (told["answered"] - started) * 1000, told
