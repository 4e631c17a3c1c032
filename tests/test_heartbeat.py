"""Signs of life: what the serving process tells a service manager, over a real socket."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from c2rec.runtime.errors import HomeError
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.home.identity import identity_path
from c2rec.runtime.home.state import read_state
from c2rec.runtime.release.install import install
from c2rec.store_kiosk.heartbeat import beat
from c2rec.store_kiosk.notify import Manager, find_manager, status_line
from c2rec.store_kiosk.problems import RefusedError
from tests.kiosk_page import make_home
from tests.kiosks import make_identity
from tests.release import make_release

COMMAND = [sys.executable, "-m", "c2rec.store_kiosk.cli"]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        yield listening


def told(listening: socket.socket) -> dict[str, str]:
    """The assignments of the next datagram."""
    text = listening.recv(4096).decode()
    return dict(line.split("=", 1) for line in text.splitlines())


@contextmanager
def serving(
    home: Path, listening: socket.socket, watchdog_s: float = 0.2
) -> Iterator["subprocess.Popen[str]"]:
    """A page that is served for a manager, with a sign of life every quarter of ``watchdog_s``."""
    address = listening.getsockname()
    name = "@" + address[1:].decode() if isinstance(address, bytes) else address
    process = subprocess.Popen(
        [*COMMAND, "--home", str(home), "serve", "--port", "0", "--no-token"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": str(int(watchdog_s * 1e6))},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_it_is_ready_and_alive_after_answers_of_its_own(
    tmp_path: Path, manager: socket.socket
) -> None:
    home = make_home(tmp_path)
    identity_path(home).write_text(make_identity().to_json())
    with serving(home, manager) as process:
        first = told(manager)
        assert (first["READY"], first["WATCHDOG"]) == ("1", "1")
        assert re.fullmatch(r"Release \S+ answers: \w+, [\d.]+ ms", first["STATUS"])
        for _ in range(8):
            beat = told(manager)
            assert beat.keys() == {"WATCHDOG", "STATUS"}
        process.send_signal(signal.SIGTERM)
        while "STOPPING" not in (last := told(manager)):
            assert last["WATCHDOG"] == "1"
        printed, logged = process.communicate(timeout=60)
    assert last == {"STOPPING": "1"}
    assert printed.startswith("Serving ")
    events = [json.loads(line)["event"] for line in logged.splitlines()]
    assert "request" not in events  # what it answers itself is none
    assert events[0] == "started"
    outbox = Outbox(home, make_identity())
    assert outbox.work(lambda db: db.execute("SELECT count(*) FROM events").fetchone()) == (0,)
    outbox.close()


def test_the_model_answers_it_where_there_is_one(tmp_path: Path, manager: socket.socket) -> None:
    """A damaged one gives way to what sells, which is told, and is an answer too."""
    home = make_home(tmp_path)
    with serving(home, manager):
        assert re.search(r": (personal|basket),", told(manager)["STATUS"])
    path = home / "gen" / f"{read_state(home).active.name}.db"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with serving(home, manager):
        assert ": store-popular," in told(manager)["STATUS"]


def test_without_a_release_the_start_is_drawn_out_until_there_is_one(
    tmp_path: Path, manager: socket.socket
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with serving(home, manager):
        for _ in range(3):
            waits = told(manager)
            assert waits.keys() == {"STATUS", "EXTEND_TIMEOUT_USEC"}
            assert "no release is installed" in waits["STATUS"]
        make_home(tmp_path / "made")
        shutil.copytree(tmp_path / "made" / "home", home, dirs_exist_ok=True)
        while "READY" not in (last := told(manager)):
            assert "WATCHDOG" not in last
        assert last["WATCHDOG"] == "1"


def test_its_own_answers_prove_no_release_on_trial(tmp_path: Path, manager: socket.socket) -> None:
    """Else one that fails shoppers alone would be confirmed before it fails."""
    home = make_home(tmp_path)
    make_release(tmp_path / "next", name="2020-08-27-00000002", seed=1)
    install(tmp_path / "next", home)
    assert read_state(home).trial is not None
    with serving(home, manager):
        for _ in range(12):
            assert told(manager)["WATCHDOG"] == "1"
        trial = read_state(home).trial
    assert trial is not None
    assert trial.starts == 1


def test_an_abstract_socket_will_do(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0c2rec-test-{os.getpid()}")
        listening.settimeout(60)
        with serving(home, listening):
            assert told(listening)["READY"] == "1"


def test_a_manager_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    Manager(str(tmp_path / "nobody"), 1.0).tell("WATCHDOG=1")


def test_a_manager_that_reads_nothing_holds_nobody_up(
    tmp_path: Path, manager: socket.socket
) -> None:
    listener = Manager(str(tmp_path / "notify"), 1.0)
    for _ in range(10_000):  # far more than its queue holds
        listener.tell("WATCHDOG=1")
    assert told(manager) == {"WATCHDOG": "1"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": ""}, None),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, None),
        ({"NOTIFY_SOCKET": "/run/n"}, Manager("/run/n", None)),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1500000"}, Manager("/run/n", 1.5)),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "0"}, Manager("/run/n", None)),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "soon"}, Manager("/run/n", None)),
        (
            {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
            Manager("/run/n", None),  # it is another process that is watched
        ),
    ],
)
def test_the_environment_says_who_wants_to_be_told(
    environment: dict[str, str], found: Manager | None
) -> None:
    assert find_manager(environment) == found


def test_a_status_can_t_smuggle_an_assignment_in() -> None:
    assert status_line("a release\nWATCHDOG=1\r\n") == "STATUS=a release WATCHDOG=1"


async def _beat_for(manager: Manager, outcomes: list[object], reported: list[str]) -> None:
    """Beat until every outcome of an answer has come about."""
    done = asyncio.Event()

    async def answer() -> str:
        if not outcomes:
            done.set()
            await asyncio.Event().wait()  # never
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    beating = asyncio.create_task(beat(manager, answer, reported.append))
    await asyncio.wait_for(done.wait(), 60)
    beating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beating


def test_what_is_not_answered_is_no_sign_of_life(tmp_path: Path, manager: socket.socket) -> None:
    """Errors of every kind pass, and the next answer counts again."""
    errors = [RefusedError("busy"), HomeError("the disk is gone"), ZeroDivisionError("C123")]
    outcomes: list[object] = ["one", *errors, ZeroDivisionError("again"), "two"]
    reported: list[str] = []
    listener = Manager(str(tmp_path / "notify"), 0.04)
    asyncio.run(_beat_for(listener, outcomes, reported))
    assert told(manager) == {"READY": "1", "WATCHDOG": "1", "STATUS": "one"}
    assert told(manager) == {"STATUS": "Can't recommend: the disk is gone"}
    assert told(manager) == {"WATCHDOG": "1", "STATUS": "two"}
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)
    # once, and without what may name a shopper
    assert reported == ["the kiosk could not answer itself: ZeroDivisionError"]
