"""The units under a real systemd: installed from a pack, sandboxed, killed, hung, and back.

Skipped where a machine has no systemd, unless C2REC_REQUIRE_SYSTEMD is set, or lets none be run.
"""

import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.home.identity import identity_path
from c2rec.runtime.home.settings import read_settings, settings_path
from c2rec.runtime.home.state import read_state
from tests.enrolled import enrol
from tests.kiosk_page import CARD, make_home, write_shelf
from tests.kiosks import make_identity, purchase
from tests.packs import unpacked
from tests.repositories import make_head
from tests.service_manager import USER, ServiceManager, service_manager, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

NAME = 'it\'s 100%high "$HOME" \\ mine'
"""A home's name in which nothing may be taken for systemd's syntax."""
PROGRAM = "/srv/kiosk/opt/current/bin/c2rec-kiosk"
SERVICE = "c2rec-kiosk.service"


@dataclass
class Kiosk:
    """A kiosk whose page systemd keeps running."""

    manager: ServiceManager
    port: int

    @property
    def home(self) -> Path:
        """As it is called here."""
        return self.manager.folder / NAME

    @property
    def shelf(self) -> Path:
        return self.manager.folder / "shelf.csv"

    def run(self, *command: str) -> str:
        """Run a command as root beside systemd."""
        done = self.manager.enter(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def give_to_user(self) -> None:
        self.run("chown", "-R", f"{USER}:", f"/srv/kiosk/{NAME}")

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        token = (self.home / "page-token").read_text().strip()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
            return response.status, json.loads(content) if content else None
        finally:
            connection.close()

    def wait(self, state: str = "active") -> dict[str, str]:
        return self.manager.wait(SERVICE, lambda found: found["ActiveState"] == state)

    def wait_for_another(self, before: dict[str, str]) -> dict[str, str]:
        """Wait until another process than before is at work."""
        return self.manager.wait(
            SERVICE,
            lambda found: (
                found["ActiveState"] == "active" and found["MainPID"] != before["MainPID"]
            ),
        )

    def end(self, process: str, what: signal.Signals) -> None:
        """Send a signal to a process of which only the number beside systemd is known."""
        self.run("kill", f"-{what.value}", process)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kiosk]:
    """A systemd with a pack installed beside it, and units written."""
    folder = tmp_path_factory.mktemp("systemd")
    folder.chmod(0o755)
    unpacked(folder).rename(folder / "pack")
    home = folder / NAME
    make_home(folder / "made")
    (folder / "made" / "home").rename(home)
    shutil.rmtree(folder / "made")
    identity_path(home).write_text(make_identity().to_json())
    identity_path(home).chmod(0o600)
    write_shelf(folder / "shelf.csv")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with service_manager(folder) as manager:
        kiosk = Kiosk(manager, port)
        python = f"PYTHON={sys.base_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
        kiosk.run(
            "env", python, "unshare", "-n", "sh", "/srv/kiosk/pack/install.sh", "/srv/kiosk/opt"
        )
        kiosk.give_to_user()
        units = ("install", "--systemd", "--to", "/srv/kiosk/units", "--watchdog", "5", "--")
        serve = ("--port", str(port), "--shelf", "/srv/kiosk/shelf.csv", "--idle", "600")
        kiosk.run(PROGRAM, "--home", f"/srv/kiosk/{NAME}", *units, *serve)
        manager.systemctl("daemon-reload")
        yield kiosk


@pytest.fixture
def kiosk(place: Kiosk) -> Iterator[Kiosk]:
    """The kiosk, its page at work."""
    place.manager.systemctl("start", SERVICE)
    yield place
    place.manager.systemctl("stop", SERVICE)
    place.manager.systemctl("reset-failed")


def status_of(kiosk: Kiosk, process: str) -> dict[str, str]:
    lines = kiosk.run("cat", f"/proc/{process}/status").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_it_answers_from_its_sandbox_as_its_own_user(kiosk: Kiosk) -> None:
    found = kiosk.wait()
    assert "answers: " in found["StatusText"]
    assert found["NRestarts"] == "0"
    told = status_of(kiosk, found["MainPID"])
    assert told["Uid"].split() == ["64321"] * 4
    assert (told["CapEff"], told["CapBnd"]) == ("0" * 16, "0" * 16)
    assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")
    mounts = kiosk.run("cat", f"/proc/{found['MainPID']}/mountinfo").splitlines()
    (root,) = (line for line in mounts if line.split(" ")[4] == "/")
    assert "ro" in root.split(" ")[5].split(",")
    session = kiosk.ask("POST", "/api/sessions", {})[1]["session"]
    assert kiosk.ask("POST", f"/api/sessions/{session}/scans", {"code": CARD})[1]["known"]
    status, answer = kiosk.ask("POST", f"/api/sessions/{session}/recommendations", {"k": 3})
    assert (status, answer["tier"], len(answer["items"])) == (200, "personal", 3)


def test_what_it_answers_itself_is_no_event_and_in_no_log(kiosk: Kiosk) -> None:
    before = kiosk.wait()
    kiosk.manager.wait(SERVICE, lambda found: later(found, before, "WatchdogTimestampMonotonic"))
    outbox = Outbox(kiosk.home, make_identity())
    events = outbox.work(lambda db: db.execute("SELECT count(*) FROM events").fetchone()[0])
    outbox.close()
    assert routes_logged(kiosk) == []
    kiosk.ask("GET", "/api/data")
    kiosk.manager.wait(SERVICE, lambda _: routes_logged(kiosk) != [])  # written after the answer
    assert routes_logged(kiosk) == ["/api/data"]
    outbox = Outbox(kiosk.home, make_identity())
    assert outbox.work(lambda db: db.execute("SELECT count(*) FROM events").fetchone()[0]) == events
    outbox.close()
    kiosk.give_to_user()


def routes_logged(kiosk: Kiosk) -> list[str]:
    """Which requests the process at work has logged, in lines that are whole."""
    *lines, _ = kiosk.manager.journal().rpartition("Serving http")[2].split("\n")
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    return [entry["route"] for entry in entries if "route" in entry]


def later(found: dict[str, str], before: dict[str, str], name: str) -> bool:
    """Whether a sign of life came since."""
    return int(found[name]) > int(before[name])


def test_a_killed_process_loses_no_acknowledged_event_and_is_back(kiosk: Kiosk) -> None:
    before = kiosk.wait()
    taps_before = tapped(kiosk)
    acknowledged = 0
    killer = threading.Timer(0.7, kiosk.end, (before["MainPID"], signal.SIGKILL))
    session = kiosk.ask("POST", "/api/sessions", {})[1]["session"]
    killer.start()
    try:
        while True:
            body = {"item_id": f"i{acknowledged % 36:06}"}
            status, answer = kiosk.ask("POST", f"/api/sessions/{session}/details", body)
            assert status == 200, answer
            acknowledged += 1
    except (OSError, HTTPException):
        pass
    killer.join()
    after = kiosk.wait_for_another(before)
    assert int(after["NRestarts"]) == int(before["NRestarts"]) + 1
    assert acknowledged > 10
    # the one that was being answered may be there too
    assert tapped(kiosk) - taps_before in (acknowledged, acknowledged + 1)
    assert kiosk.ask("GET", "/api/data")[0] == 200


def tapped(kiosk: Kiosk) -> int:
    """Taps that wait in the outbox, whole: each can be read."""
    outbox = Outbox(kiosk.home, make_identity())
    query = "SELECT body FROM events WHERE kind = 'tapped'"
    bodies = outbox.work(lambda db: db.execute(query).fetchall())
    outbox.close()
    kiosk.give_to_user()
    return len([json.loads(body) for (body,) in bodies])


def test_a_stopped_process_is_ended_by_the_watchdog_and_another_answers(kiosk: Kiosk) -> None:
    before = kiosk.wait()
    aborted = kiosk.manager.journal().count("Fatal Python error: Aborted")
    kiosk.end(before["MainPID"], signal.SIGSTOP)
    after = kiosk.wait_for_another(before)
    assert kiosk.manager.journal().count("Fatal Python error: Aborted") == aborted + 1
    assert int(after["NRestarts"]) == int(before["NRestarts"]) + 1
    assert kiosk.ask("GET", "/api/data")[0] == 200


def test_a_desk_that_hangs_is_ended_by_the_watchdog_and_says_where(kiosk: Kiosk) -> None:
    """The shelf's file is a pipe that somebody has opened, and writes nothing to."""
    before = kiosk.wait()
    pipe = kiosk.shelf.with_suffix(".pipe")
    os.mkfifo(pipe, 0o644)
    good = kiosk.shelf.with_suffix(".good")
    kiosk.shelf.rename(good)
    pipe.rename(kiosk.shelf)
    writing = opened_when_read(kiosk.shelf)
    good.rename(kiosk.shelf)  # for the next process
    assert kiosk.ask("GET", "/api/health")[0] == 200  # the event loop runs on
    after = kiosk.wait_for_another(before)
    os.close(writing)
    assert int(after["NRestarts"]) == int(before["NRestarts"]) + 1
    said = kiosk.manager.journal()
    assert "Fatal Python error: Aborted" in said
    assert "in read_shelf" in said
    assert kiosk.ask("GET", "/api/data")[0] == 200


def opened_when_read(pipe: Path) -> int:
    """Open a pipe for writing as soon as somebody reads it."""
    until = time.monotonic() + 60
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_without_a_release_it_waits_for_one_and_is_not_started_again(place: Kiosk) -> None:
    """The page is there, and says so; the start ends when a release is there."""
    held = place.home.with_name("held")
    shutil.copytree(place.home, held)
    for name in ("state.db", "state.json"):
        (place.home / name).unlink()
    place.manager.systemctl("start", "--no-block", SERVICE)
    waits = place.manager.wait(SERVICE, lambda found: "no release" in found["StatusText"])
    assert waits["ActiveState"] == "activating"
    assert place.ask("GET", "/api/data")[0] == 503
    for name in ("state.json", "state.db"):
        shutil.copy(held / name, place.home / name)
    place.give_to_user()
    found = place.wait()
    assert (found["MainPID"], found["NRestarts"]) == (waits["MainPID"], waits["NRestarts"])
    assert "answers: " in found["StatusText"]
    place.manager.systemctl("stop", SERVICE)
    shutil.rmtree(held)


def test_the_timers_services_take_a_release_and_send_events(place: Kiosk) -> None:
    """Both in their sandbox, from and to folders."""
    folder = place.manager.folder
    head = make_head(folder / "head")
    enrolled = enrol(head, folder / "enrolled")
    outbox = Outbox(enrolled.home, enrolled.identity)
    outbox.record(purchase())
    outbox.close()
    (folder / "inbox").mkdir()
    settings = read_settings(enrolled.home)
    repository = str(Path("/srv/kiosk") / head.repo.relative_to(folder))
    assert settings.repository == str(head.repo)
    toml = f'repository = "{repository}"\nevents = "/srv/kiosk/inbox"\n'
    settings_path(enrolled.home).write_text(toml)
    place.run("chown", "-R", f"{USER}:", "/srv/kiosk/enrolled", "/srv/kiosk/inbox")
    place.run("chmod", "-R", "a+rX", "/srv/kiosk/head")
    place.run(
        PROGRAM,
        "--home",
        "/srv/kiosk/enrolled",
        "install",
        "--systemd",
        "--to",
        "/srv/kiosk/others",
    )
    for kind in ("sync", "send"):
        shutil.copy(folder / "others" / f"c2rec-{kind}.service", folder / "units")
    place.manager.systemctl("daemon-reload")
    for kind in ("sync", "send"):
        place.manager.systemctl("start", f"c2rec-{kind}.service")
    assert read_state(enrolled.home).active.seq == 1
    assert len([path for path in (folder / "inbox").rglob("*") if path.is_file()]) == 1


def test_the_doctor_tells_of_the_service(kiosk: Kiosk) -> None:
    kiosk.wait()
    text, verdict = of_service(kiosk)
    assert verdict == "warning"  # nobody has enabled it
    assert "is not enabled" in text
    kiosk.manager.systemctl("stop", SERVICE)
    text, verdict = of_service(kiosk)
    assert verdict == "failure"
    assert "inactive" in text


def of_service(kiosk: Kiosk) -> tuple[str, str]:
    """The doctor's worst finding of the service."""
    done = kiosk.manager.enter(PROGRAM, "--home", f"/srv/kiosk/{NAME}", "doctor", "--json")
    document = json.loads(done.stdout)
    found = [each for each in document["checks"] if each["check"] == "service"]
    worst = next(each for each in found if each["verdict"] != "ok")
    return worst["text"], worst["verdict"]
