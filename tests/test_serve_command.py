"""The command that serves the page, as a process."""

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kiosk_page import make_home

COMMAND = [sys.executable, "-c", "from c2rec.store_kiosk.cli import main; main()"]
ADDRESS = re.compile(r"Serving http://127\.0\.0\.1:(\d+)/(?:\?token=(\S+))?\n")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("serve"))


@contextmanager
def serving(home: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", int, str | None]]:
    """The running command, its port, and the token that it printed."""
    process = subprocess.Popen(
        [*COMMAND, "--home", str(home), "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        found = ADDRESS.fullmatch(process.stdout.readline())
        assert found is not None
        yield process, int(found[1]), found[2]
    finally:
        process.kill()
        process.communicate()


def status_of(port: int, path: str, token: str | None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def refused(home: Path, *options: str) -> str:
    done = subprocess.run(
        [*COMMAND, "--home", str(home), "serve", "--port", "0", *options],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_tells_the_token_once(home: Path, end: signal.Signals) -> None:
    with serving(home) as (process, port, token):
        assert token
        assert status_of(port, "/api/data", token) == 200
        assert status_of(port, "/api/data", None) == 401
        process.send_signal(end)
        printed, logged = process.communicate(timeout=30)
    assert process.returncode in (0, -end, 130, 128 + end)
    assert printed == ""
    assert token not in logged
    assert "Traceback" not in logged
    assert logged.count('"route": "/api/data", "status": 200') == 1


def test_a_token_in_a_file_is_not_printed_and_stays(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "token"
    for _ in range(2):
        with serving(home, "--token-file", str(path)) as (_, port, printed):
            assert printed is None
            assert status_of(port, "/api/data", path.read_text().strip()) == 200


def test_no_token_has_to_be_said(home: Path) -> None:
    with serving(home, "--no-token") as (_, port, token):
        assert token is None
        assert status_of(port, "/api/data", None) == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--no-token", "--host", "203.0.113.1"], "goes with this machine's own address alone"),
        (["--no-token", "--token-file", "t"], "without --token-file"),
        (["--no-token", "--allow-host", "kiosk"], "goes with this machine's own address alone"),
        (["--warning", "19"], "19 is not in the range 20<=x<=600"),
        (["--currency", "euro"], "is no code such as EUR"),
        (["--cards", "("], "'(' is no regular expression"),
        (["--host", "203.0.113.1"], "can't listen on 203.0.113.1 port 0"),
        (["--language", "fr"], "'fr' is not one of 'en', 'de', 'ko'"),
    ],
)
def test_what_can_t_be_served_is_one_clear_error(
    home: Path, options: list[str], message: str
) -> None:
    assert message in refused(home, *options)


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    nowhere = ["--host", "203.0.113.1"]  # so that it ends in any case
    assert f"{tmp_path / 'home'} is no folder" in refused(tmp_path / "home", *nowhere)


def test_a_port_that_is_taken_is_a_failure_and_no_wrong_usage(home: Path) -> None:
    with serving(home) as (_, port, _):
        done = subprocess.run(
            [*COMMAND, "--home", str(home), "serve", "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert f"can't listen on 127.0.0.1 port {port}" in done.stderr


def test_without_its_extra_the_command_names_it(home: Path) -> None:
    start = (
        "import sys; sys.modules['starlette'] = None\n"
        "from c2rec.store_kiosk.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, "--home", str(home), "serve"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "pip install 'c2rec[page]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_starts_without_a_release_and_says_so(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as (_, port, token):
        assert status_of(port, "/api/health", None) == 200
        assert status_of(port, "/api/data", token) == 503
