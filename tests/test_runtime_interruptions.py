"""Installs cut short: whenever it happens, the old release serves on."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from c2rec.runtime.errors import HomeError
from c2rec.runtime.home.state import find_state, read_state
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.install import install
from tests.homes import NEW, OLD, assert_old_serves, files_of, files_with, make_homes
from tests.release import make_release


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_homes(folder)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return shutil.copytree(made, tmp_path / "place")


INSTALL = """
import sys
from pathlib import Path
{prelude}
from c2rec.runtime.release.install import install
install(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def start_install(bundle: Path, home: Path, prelude: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", INSTALL.format(prelude=prelude), str(bundle), str(home)],
        stderr=subprocess.PIPE,
    )


def test_killed_at_any_moment_the_old_release_serves_on(place: Path) -> None:
    """Kill an install at random moments, from its first write on, until one gets through."""
    rng, home, killed = np.random.default_rng(7), place / "home", 0
    big = make_release(place / "big", items=3000, customers=6000, size=16, name=NEW).folder
    for _ in range(12):
        (home / "lock").unlink(missing_ok=True)
        process = start_install(big, home)
        while not (home / "lock").exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        recommender = Recommender.open(home)
        assert recommender.recommend("c000003").tier == "personal"
        assert recommender.warnings == []
        recommender.close()
        if read_state(home).active.release == NEW:
            install(place / "old", home)
    assert killed, "or the test shows nothing"
    assert install(big, home).release == NEW
    assert files_of(home) == files_with(place / "old", big)


@pytest.mark.parametrize(
    "step", ["install.build_cache", "golden.check_golden", "flip.sha256_of", "flip.activate"]
)
def test_ended_at_a_step_the_next_install_succeeds(place: Path, step: str) -> None:
    """``os._exit`` in the middle is what a power cut is to the process."""
    module, _, name = step.partition(".")
    prelude = f"import os; from c2rec.runtime.release import {module} as m; m.{name} = "
    prelude += "lambda *a, **k: os._exit(9)"
    process = start_install(place / "new", place / "home", prelude)
    process.communicate(timeout=60)
    assert process.returncode == 9
    state = find_state(place / "home")
    assert state is not None
    assert state.active.release == OLD
    assert install(place / "new", place / "home").release == NEW
    assert files_of(place / "home") == files_with(place / "old", place / "new")


def test_an_interrupted_first_flip_is_no_release(tmp_path: Path, made: Path) -> None:
    (tmp_path / "state.db").touch()
    assert find_state(tmp_path) is None
    assert install(made / "old", tmp_path).changed


@pytest.mark.parametrize("limit", [0, 20_000, 200_000])
def test_a_full_disk_is_one_clear_error(place: Path, limit: int) -> None:
    prelude = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    big = make_release(place / "big", items=3000, customers=3000, size=16, name=NEW).folder
    process = start_install(big, place / "home", prelude)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "HomeError: can't write to the home folder" in stderr.decode().splitlines()[-1]
    assert_old_serves(place / "home")


def test_too_little_space_is_told_before_anything_is_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(place)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(HomeError, match=r"has 1 MiB free; release .* needs 17 MiB"):
        install(place / "new", place / "home")
    assert_old_serves(place / "home")


def test_a_cut_in_the_middle_of_a_flip_is_rolled_back_by_the_next_reader(place: Path) -> None:
    """A hot journal beside state.db, as SIGKILL leaves it."""
    path = place / "home" / "state.db"
    script = (
        "import sqlite3, os, sys\n"
        "db = sqlite3.connect(sys.argv[1])\n"
        "db.execute('PRAGMA cache_size = 1')\n"  # so that pages are written before the commit
        "db.execute('PRAGMA cache_spill = 1')\n"
        "db.execute('UPDATE generations SET release = ?', ['x' * 200_000])\n"
        "os._exit(9)\n"
    )
    process = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert process.returncode == 9
    assert path.with_name("state.db-journal").stat().st_size > 0
    assert read_state(place / "home").active.release == OLD
