"""Fault 25: a full disk under events.db. Nothing is acknowledged that isn't kept; all heals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.waiting import count_waiting
from tests.kiosks import make_identity, purchase

SCRIPT = """
import resource, signal, sys
from pathlib import Path
from c2rec.runtime.errors import HomeError
from c2rec.runtime.events.outbox import Outbox
from tests.kiosks import make_identity, purchase
outbox = Outbox(Path(sys.argv[1]), make_identity())
for n in range(5):
    print(outbox.record(purchase()), flush=True)
# a file can't grow beyond that: what a full disk is to whoever writes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
refused = 0
while refused < 3:
    try:
        print(outbox.record(purchase("i" * 200)), flush=True)
    except HomeError as error:
        assert "can't use" in str(error) and "free space" in str(error), error
        refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for n in range(5):
    print(outbox.record(purchase()), flush=True)
"""


@pytest.mark.parametrize("limit", [40_000, 80_000, 300_000])
def test_what_is_refused_is_told_and_what_is_acknowledged_is_kept(
    tmp_path: Path, limit: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(limit)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    acknowledged = done.stdout.split()
    assert len(acknowledged) >= 10, "it healed"
    outbox = Outbox(tmp_path, make_identity())
    waiting = count_waiting(outbox)
    assert waiting.set_aside == 0, "a full disk is no damage"
    there = b""
    while (batch := outbox.freeze()) is not None:
        there += batch.content
    assert all(each.encode() in there for each in acknowledged)
    outbox.close()


def test_a_disk_full_from_the_start_is_one_clear_error(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from c2rec.runtime.events.outbox import Outbox\n"
        "from tests.kiosks import make_identity\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "Outbox(Path(sys.argv[1]), make_identity())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 1
    assert "HomeError: can't use" in done.stderr.splitlines()[-1]
    outbox = Outbox(tmp_path, make_identity())
    assert outbox.record(purchase())
    outbox.close()
