"""The command as a process: terminal, pipes, signals, environment, and what it loads."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from c2rec.runtime.release.install import install
from tests.release import make_release
from tests.terminals import all_shown

NAME = "2020-07-27-00000001"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, and a home with it installed."""
    folder = tmp_path_factory.mktemp("made")
    make_release(folder / "bundle", name=NAME)
    install(folder / "bundle", folder / "home")
    return folder


@pytest.fixture
def home(made: Path) -> Path:
    return made / "home"


def process(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from c2rec.store_kiosk.cli import main; main()"]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_progress_is_shown_on_a_terminal(made: Path, tmp_path: Path) -> None:
    outside, inside = pty.openpty()
    command = [sys.executable, "-c", "from c2rec.store_kiosk.cli import main; main()"]
    arguments = ["--home", str(tmp_path), "install", str(made / "bundle")]
    subprocess.run([*command, *arguments], stderr=inside, stdout=subprocess.PIPE, check=True)
    os.close(inside)
    shown = all_shown(outside)
    assert "checking items.safetensors" in shown
    assert shown.endswith("\r\x1b[K")


def test_home_comes_from_the_environment(home: Path) -> None:
    environment = {**os.environ, "C2REC_HOME": str(home)}
    done = process("status", "--json", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["home"] == str(home)


def test_home_is_else_the_user_s_data_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    environment.pop("C2REC_HOME", None)
    done = process("status", env=environment)
    assert done.returncode == 1
    assert f"no release is installed in {tmp_path / 'c2rec'}" in done.stderr


def test_a_reader_that_leaves_ends_it_quietly(home: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", "from c2rec.store_kiosk.cli import main; main()"]
    arguments = ["--home", str(home), "recommend", "-k", "40"]
    done = subprocess.run(
        [*command, *arguments], stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_ctrl_c_ends_it_quietly(home: Path) -> None:
    start = (
        "import signal, c2rec.runtime.recommender as r\n"
        # where the tests run in the background, SIGINT is ignored from the start
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "r.Recommender.open = lambda home, **_: signal.raise_signal(signal.SIGINT)\n"
        "from c2rec.store_kiosk.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, "--home", str(home), "recommend"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_bytes_that_are_no_text_are_an_unknown_customer(home: Path) -> None:
    command = [sys.executable, "-c", "from c2rec.store_kiosk.cli import main; main()"]
    done = subprocess.run(
        [*map(os.fsencode, [*command, "--home", str(home)]), b"recommend", b"\xff"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "For customer �, offline" in done.stdout.decode()


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["status"], {"numpy", "onnxruntime", "sqlite_utils", "safetensors", "platformdirs"}),
        (["recommend", "c000003"], {"sqlite_utils", "safetensors", "platformdirs"}),
        (["recommend"], {"onnxruntime", "sqlite_utils", "safetensors", "platformdirs"}),
    ],
)
def test_a_command_loads_only_what_it_needs(
    home: Path, arguments: list[str], absent: set[str]
) -> None:
    start = (
        "import atexit, sys\n"
        f"loaded = lambda: sorted({absent!r} & sys.modules.keys())\n"
        "atexit.register(lambda: print(loaded(), file=sys.stderr))\n"
        "from c2rec.store_kiosk.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, "--home", str(home), *arguments],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"[]\n")


def test_a_full_standard_output_is_one_line(home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "c2rec.store_kiosk.cli", "--home", str(home), "status"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode != 0
    assert "can't write to standard output" in done.stderr
    assert "Traceback" not in done.stderr


def test_latin_1_output_shows_what_it_can(home: Path) -> None:
    command = [sys.executable, "-m", "c2rec.store_kiosk.cli", "--home", str(home), "recommend"]
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr


def test_an_empty_home_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "c2rec.store_kiosk.cli", "--home", "", "status"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "is empty" in done.stderr
