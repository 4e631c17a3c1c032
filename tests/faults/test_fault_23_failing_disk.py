"""Faults 23 and 24: the disk fails at any write, rename or sync, or is full.

A library that is loaded before the C library lets the nth call fail, in Python and in SQLite alike.
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from c2rec.runtime.errors import HomeError
from c2rec.runtime.home.state import read_state
from c2rec.runtime.recommender import Recommender
from tests.faults.place import CUSTOMER, OLD, Place

CC = shutil.which("cc")
pytestmark = pytest.mark.skipif(CC is None, reason="needs a C compiler")
_SYNC = """
import sys
from pathlib import Path
from c2rec.runtime.errors import C2RecError
from c2rec.runtime.sync.sync import sync
try:
    sync(Path(sys.argv[1]))
except C2RecError as error:
    print(f"{type(error).__name__}: {error}")
    sys.exit(1)
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("shim") / "failing_calls.so"
    source = Path(__file__).with_name("failing_calls.c")
    assert CC is not None
    command = [CC, "-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    command += ["-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


def run(place: Place, shim: Path, *, at: int, error: int, on: bool = False) -> tuple[int, str, int]:
    """Sync with a failing disk.

    Args:
        place: whose kiosk.
        shim: the library.
        at: the number of the call that fails, 0 for none.
        error: its errno.
        on: whether all further calls fail too.

    Returns:
        Exit status, what was printed, and how many calls there were.
    """
    counted = place.home.with_name("calls")
    environment = os.environ | {
        "LD_PRELOAD": str(shim),
        "FAIL_AT": str(at),
        "FAIL_ERRNO": str(error),
        "FAIL_UNDER": str(place.home),
        "FAIL_COUNT": str(counted),
    }
    if on:
        environment["FAIL_ON"] = "1"
    command = [sys.executable, "-c", _SYNC, str(place.home)]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout, int(counted.read_text())


def still_serves(home: Path) -> None:
    """Whichever release is active, it answers undisturbed."""
    recommender = Recommender.open(home, thorough=True)
    assert recommender.recommend(CUSTOMER).tier == "personal"
    assert recommender.warnings == []
    recommender.close()


def heal(place: Place) -> None:
    assert place.sync().outcome in ("installed", "up to date")
    assert place.state.active.seq == 2
    place.answers(place.head.releases[-1].manifest.release)


@pytest.mark.parametrize(
    ("error", "part"), [(errno.EIO, 1 / 8), (errno.ENOSPC, 1 / 2), (errno.EIO, 7 / 8)]
)
def test_a_call_fails_and_the_next_sync_completes(
    fresh: Place, shim: Path, tmp_path: Path, error: int, part: float
) -> None:
    kept = shutil.copytree(fresh.home, tmp_path / "kept", symlinks=True)
    status, printed, calls = run(fresh, shim, at=0, error=error)
    assert (status, printed) == (0, "")
    fail_once(fresh, kept, shim, at=round(part * calls), error=error)


@pytest.mark.soak
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_whichever_call_fails_the_next_sync_completes(
    fresh: Place, shim: Path, tmp_path: Path, error: int
) -> None:
    kept = shutil.copytree(fresh.home, tmp_path / "kept", symlinks=True)
    _, _, calls = run(fresh, shim, at=0, error=error)
    statuses = [fail_once(fresh, kept, shim, at=at, error=error) for at in range(1, calls + 1)]
    assert sum(statuses) > calls // 2


def fail_once(place: Place, kept: Path, shim: Path, *, at: int, error: int) -> int:
    """Let one call fail in a sync, and show that it was safe."""
    shutil.rmtree(place.home)
    shutil.copytree(kept, place.home, symlinks=True)
    status, printed, _ = run(place, shim, at=at, error=error)
    assert status == 0 or printed.startswith(("HomeError", "SyncError")), (at, printed)
    assert len(printed.splitlines()) == status
    assert read_state(place.home).active.seq in (1, 2)
    still_serves(place.home)
    heal(place)
    return status


@pytest.mark.parametrize("part", [0, 1 / 3, 2 / 3])
def test_a_disk_that_is_full_from_some_moment_on_is_one_clear_error(
    fresh: Place, shim: Path, tmp_path: Path, part: float
) -> None:
    kept = shutil.copytree(fresh.home, tmp_path / "kept", symlinks=True)
    _, _, calls = run(fresh, shim, at=0, error=errno.ENOSPC)
    shutil.rmtree(fresh.home)
    shutil.copytree(kept, fresh.home, symlinks=True)
    status, printed, _ = run(fresh, shim, at=1 + round(part * calls), error=errno.ENOSPC, on=True)
    assert status == 1
    assert "No space left on device" in printed or "disk is full" in printed, printed
    assert fresh.state.active.seq == 1
    fresh.answers(OLD)
    heal(fresh)


def test_too_little_space_is_told_and_a_smaller_release_installs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what the release that didn't fit had left goes first."""
    place.head.publish(seed=1, items=3000, customers=3000, size=32)
    usage = shutil.disk_usage(place.home)._replace(free=18 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(HomeError, match=r"has 18 MiB free; seq 2 needs \d\d MiB; free some space"):
        place.sync()
    place.answers(OLD)
    place.head.publish(seed=2)
    place.safe(seq=3)


def test_what_fills_the_disk_is_removed_first(
    fresh: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that was cut has left all that it fetched: it mustn't stop the next one for ever."""
    blob = fresh.home / "blob" / ("0" * 64 + ".part")
    blob.write_bytes(b"x" * 100_000)
    real = shutil.disk_usage

    def usage(path: Path) -> object:
        return real(path)._replace(free=(1 << 20) if blob.exists() else (1 << 30))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    fresh.safe()
