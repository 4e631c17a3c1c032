"""What an unattended kiosk logs: one shape, and nothing of a shopper."""

import json
import logging
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.home.settings import changed, read_settings, settings_path
from c2rec.store_kiosk.cli import main
from c2rec.store_kiosk.foreign import foreign_logs
from c2rec.store_kiosk.logs import Logger
from tests.enrolled import Kiosk, make_kiosk
from tests.kiosk_page import TOKEN, serve_page
from tests.terminals import all_shown

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
CUSTOMER = "c000003"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Kiosk:
    return make_kiosk(tmp_path_factory.mktemp("made"))


@pytest.fixture
def kiosk(made: Kiosk, tmp_path: Path) -> Kiosk:
    """A copy whose events go to a folder."""
    home = Path(shutil.copytree(made.home, tmp_path / "home"))
    (tmp_path / "events").mkdir()
    settings = changed(read_settings(home), events=str(tmp_path / "events"))
    settings_path(home).write_text(settings.to_toml())
    return Kiosk(home, made.head, made.identity)


def run(kiosk: Kiosk, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(kiosk.home), *arguments], env=environment)


def entries(log: str) -> list[dict[str, Any]]:
    """The lines, each of which has the one shape."""
    found = [json.loads(line) for line in log.splitlines()]
    for entry in found:
        assert list(entry)[:3] == ["time", "level", "event"]
        assert MOMENT.fullmatch(entry["time"])
        assert entry["level"] in ("info", "warning", "error")
    return found


# --- the shape


def test_a_line_is_json_or_text() -> None:
    lines: list[str] = []
    fields = {"route": None, "status": 200, "message": 'a "b"\nc', "name": "x"}
    Logger("json", lines.append).log("info", "request", fields)
    Logger("text", lines.append).log("info", "request", fields)
    assert entries(lines[0])[0] | fields == entries(lines[0])[0]
    assert MOMENT.match(lines[1])
    assert lines[1].partition(" ")[2] == (
        'info request route=null status=200 message="a \\"b\\"�c" name=x'
    )
    assert "\n" not in lines[0] + lines[1]


# --- sync and queue


def test_a_sync_is_one_line(kiosk: Kiosk) -> None:
    result = run(kiosk, "sync", "--log-format", "json")
    assert (result.exit_code, result.stdout) == (0, "")
    (entry,) = entries(result.stderr)
    assert (entry["level"], entry["event"]) == ("info", "sync")
    assert (entry["outcome"], entry["seq"]) == ("up to date", 2)
    assert entry["bytes"] > 0
    assert entry["seconds"] >= 0


def test_the_document_goes_to_standard_output_beside_the_log(kiosk: Kiosk) -> None:
    result = run(kiosk, "sync", "--json", C2REC_LOG_FORMAT="json")
    assert json.loads(result.stdout)["outcome"] == "up to date"
    assert [entry["event"] for entry in entries(result.stderr)] == ["sync"]


def test_without_being_asked_a_person_reads_text(kiosk: Kiosk) -> None:
    result = run(kiosk, "sync")
    assert result.stdout.startswith("Release 2020-07-27-00000002 (seq 2) is active already;")
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("command", "error"),
    [(["sync"], "NetworkError"), (["queue", "--send"], "HomeError")],
)
def test_a_failure_is_a_line_too(
    kiosk: Kiosk, tmp_path: Path, command: list[str], error: str
) -> None:
    settings = changed(read_settings(kiosk.home), repository=str(tmp_path / "gone"))
    settings_path(kiosk.home).write_text(settings.to_toml())
    if command[0] == "queue":
        (kiosk.home / "push.lock").unlink(missing_ok=True)
        (kiosk.home / "push.lock").mkdir()
    result = run(kiosk, *command, "--log-format", "json")
    assert (result.exit_code, result.stdout) == (1, "")
    (entry,) = entries(result.stderr)
    assert (entry["level"], entry["event"]) == ("error", "failed")
    assert (entry["command"], entry["error"]) == (command[0], error)
    assert entry["message"]
    text = run(kiosk, *command)
    assert text.stderr == f"Error: {entry['message']}\n"


def test_what_was_sent_is_a_line(kiosk: Kiosk) -> None:
    result = run(kiosk, "queue", "--send", "--log-format", "json")
    assert (result.exit_code, result.stdout) == (0, "")
    (entry,) = entries(result.stderr)
    assert (entry["event"], entry["events"], entry["batches"]) == ("send", 4, 2)
    assert (entry["refused"], entry["conflicts"], entry["waiting"]) == (0, 0, 0)


def test_what_could_not_be_sent_is_a_line_with_why(kiosk: Kiosk, tmp_path: Path) -> None:
    settings = changed(read_settings(kiosk.home), events="http://127.0.0.1:9")
    settings_path(kiosk.home).write_text(settings.to_toml())
    result = run(kiosk, "queue", "--send", "--log-format", "json")
    assert result.exit_code == 1
    (entry,) = entries(result.stderr)
    assert (entry["level"], entry["event"], entry["events"]) == ("error", "send", 0)
    assert "127.0.0.1" in entry["message"]
    assert entry["waiting"] == 4


@pytest.mark.parametrize("asked", ["a flag", "a variable", "the file"])
def test_what_is_wrong_with_the_file_is_a_line_too(kiosk: Kiosk, asked: str) -> None:
    path = settings_path(kiosk.home)
    flags = ["--log-format", "json"] if asked == "a flag" else []
    environment = {"C2REC_LOG_FORMAT": "json"} if asked == "a variable" else {}
    if asked == "the file":
        path.write_text(path.read_text() + '[sync]\nlog-format = "json"\n')
    path.write_text(path.read_text() + "[synk]\n")
    result = run(kiosk, "sync", *flags, **environment)
    first, second = entries(result.stderr)
    assert (first["event"], first["level"]) == ("warning", "warning")
    assert "[synk] is no command's" in first["message"]
    assert second["event"] == "sync"
    if asked != "the file":
        path.write_text("repository = ")
        result = run(kiosk, "sync", *flags, **environment)
        (entry,) = entries(result.stderr)
        assert (result.exit_code, entry["event"]) == (1, "failed")
        assert "not valid TOML" in entry["message"]


def test_a_warning_is_text_for_a_person(kiosk: Kiosk) -> None:
    path = settings_path(kiosk.home)
    path.write_text(path.read_text() + "[synk]\n")
    for command in (["sync"], ["recommend"]):
        result = run(kiosk, *command)
        assert result.exit_code == 0
        assert result.stderr.startswith(f"Warning: {path}: [synk] is no command's")


# --- nothing of a shopper


def test_the_log_of_a_whole_session_holds_nothing_of_it(kiosk: Kiosk, tmp_path: Path) -> None:
    """Scans, answers, events, a sync, sending, wrong requests, a damaged home: all are logged."""
    shelf = tmp_path / "shelf.csv"
    shelf.write_text("item_id,code,price,stock\ni000004,4006381333931,9.9,1\n")
    logged: list[str] = []
    with serve_page(kiosk.home, shelf=shelf) as served:
        session = served.session()
        secret = session.rpartition("/")[2]
        served.json("POST", f"{session}/scans", {"code": CUSTOMER})
        served.json("POST", f"{session}/scans", {"code": "4006381333931"})
        answer = served.json("POST", f"{session}/recommendations", {})
        item = answer["items"][0]["item_id"]
        served.json("POST", f"{session}/details", {"item_id": item})
        served.json("POST", f"{session}/dismissals", {"item_id": item})
        for path in (f"/{CUSTOMER}", f"/api/data?card={CUSTOMER}", f"{session}/{CUSTOMER}"):
            served.ask("GET", path, Referer=CUSTOMER, User_Agent=CUSTOMER)
        served.ask("POST", f"{session}/scans", {"code": CUSTOMER + "\x00"})
        served.ask("POST", f"{session}/scans", CUSTOMER.encode())
        served.ask("GET", "/api/data", Authorization=f"Bearer {TOKEN}x")
        shelf.write_text("item_id,code,price,stock\ni000004,4006381333931,cheap,1\n")
        served.json("POST", f"{session}/recommendations", {})  # the shelf is read again: a warning
        for name in ("events.db-wal", "events.db-shm", "events.db"):
            (kiosk.home / name).unlink(missing_ok=True)
        (kiosk.home / "events.lock").unlink()
        (kiosk.home / "events.lock").mkdir()
        served.json("POST", f"{session}/details", {"item_id": item})
        served.ask("DELETE", session)
        logged += served.log
    (kiosk.home / "events.lock").rmdir()
    for command in (["sync"], ["queue", "--send"]):
        logged += run(kiosk, *command, "--log-format", "json").stderr.splitlines()
    found = entries("\n".join(logged))
    events = {entry["event"] for entry in found}
    assert {"request", "warning", "sync", "send"} <= events, events
    who = kiosk.pseudonym(CUSTOMER).hex()
    text = "\n".join(logged)
    for each in (CUSTOMER, who, secret, TOKEN, item, "4006381333931"):
        assert each not in text


def test_serve_logs_text_for_a_person_who_asks(made: Kiosk) -> None:
    command = [sys.executable, "-c", "from c2rec.store_kiosk.cli import main; main()"]
    process = subprocess.Popen(
        [*command, "--home", str(made.home), "serve", "--port", "0", "--no-token"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "C2REC_LOG_FORMAT": "text"},
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[1]
        script = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1]).read()"
        subprocess.run([sys.executable, "-c", script, f"{address}api/health"], check=True)
    finally:
        process.terminate()
        _, logged = process.communicate(timeout=30)
    lines = logged.splitlines()
    assert f" info started address={address} version=" in lines[0]
    line = next(line for line in lines if "/api/health" in line)
    assert MOMENT.match(line)
    assert " info request method=GET route=/api/health status=200 ms=" in line


def test_what_libraries_log_has_the_one_shape_too(made: Kiosk) -> None:
    """No HTTP, and a wish for a web socket: uvicorn warns of both."""
    command = [sys.executable, "-c", "from c2rec.store_kiosk.cli import main; main()"]
    process = subprocess.Popen(
        [*command, "--home", str(made.home), "serve", "--port", "0", "--no-token"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "C2REC_LOG_FORMAT": "json"},
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().split()[1].rpartition(":")[2].strip("/"))
        upgrade = f"GET /{CUSTOMER} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
        for sent in (f"GET /{CUSTOMER}\0\r\n\r\n", f"{upgrade}Upgrade: websocket\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), 20) as connection:
                connection.sendall(sent.encode())
                assert connection.recv(100).startswith(b"HTTP/1.1 4")
    finally:
        process.terminate()
        _, logged = process.communicate(timeout=30)
    warnings = {each["message"] for each in entries(logged) if each["event"] == "warning"}
    assert "uvicorn: Invalid HTTP request received." in warnings
    assert "uvicorn: Unsupported upgrade request." in warnings
    assert CUSTOMER not in logged


def test_of_an_error_that_a_library_logs_the_class_and_the_line_are_told() -> None:
    lines: list[str] = []
    logger = logging.getLogger("asyncio")
    with foreign_logs(Logger("json", lines.append), "asyncio"):
        try:
            raise ValueError(CUSTOMER)
        except ValueError:
            logger.exception("Exception in callback %s", CUSTOMER)
        logger.warning("Task was destroyed\n%s", CUSTOMER)
        logger.info("nothing to tell")
    first, second = entries("\n".join(lines))
    assert re.fullmatch(r"asyncio: ValueError at test_kiosk_logs\.py:\d+", first["message"])
    assert second["message"] == "asyncio: Task was destroyed"
    assert logger.propagate
    assert logger.handlers == []


def test_an_outbox_that_waits_is_there(kiosk: Kiosk) -> None:
    """The fixture's events, without which the tests above would show little."""
    outbox = Outbox(kiosk.home, kiosk.identity)
    try:
        assert len(outbox.ready()) == 1
    finally:
        outbox.close()


def test_a_person_at_a_terminal_reads_text_of_serve_too(made: Kiosk) -> None:
    outside, inside = pty.openpty()
    command = [sys.executable, "-c", "from c2rec.store_kiosk.cli import main; main()"]
    nowhere = ["serve", "--host", "203.0.113.1"]
    done = subprocess.run(
        [*command, "--home", str(made.home), *nowhere],
        stdout=subprocess.PIPE,
        stderr=inside,
        timeout=60,
        env=os.environ | {"C2REC_LOG_FORMAT": ""},
    )
    os.close(inside)
    shown = all_shown(outside)
    assert (done.returncode, done.stdout) == (1, b"")
    assert shown.startswith("Error: can't listen on 203.0.113.1 port 8765")
