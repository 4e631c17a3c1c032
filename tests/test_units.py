"""What install --systemd writes, and what systemd's own tools say of it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from c2rec.runtime.errors import RequestError
from c2rec.runtime.home.settings import Settings
from c2rec.store_kiosk.cli import main
from c2rec.store_kiosk.commands.install import make_plan
from c2rec.store_kiosk.units import Plan, make_units
from tests.service_manager import USER

ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(
    ANALYZE is None and not os.environ.get("C2REC_REQUIRE_SYSTEMD"),
    reason="systemd-analyze is not installed",
)
NAMES = {
    "c2rec-kiosk.service",
    "c2rec-sync.service",
    "c2rec-sync.timer",
    "c2rec-send.service",
    "c2rec-send.timer",
}


def run(home: Path | str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), "install", *arguments])


def written(folder: Path, home: Path | str, *arguments: str) -> dict[str, str]:
    """The units that a call writes."""
    done = run(home, "--systemd", "--to", str(folder), *arguments)
    assert done.exit_code == 0, done.stderr
    return {path.name: path.read_text() for path in folder.iterdir()}


def exec_start(unit: str) -> str:
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    return str(line)


@pytest.fixture
def plan() -> Plan:
    return Plan(command=("/opt/c2rec/bin/c2rec-kiosk",), home=Path("/var/lib/c2rec"))


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A checkout may lie where no service finds it; then the program is called by another name."""
    beside = Path(sys.executable).with_name("c2rec-kiosk")
    if not beside.is_relative_to(tempfile.gettempdir()):
        yield
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        link = Path(folder, "c2rec-kiosk")
        link.symlink_to(beside)
        monkeypatch.setattr(sys, "argv", [str(link)])
        yield


# --- the command


def test_units_are_written_whole_and_told_of(tmp_path: Path) -> None:
    units = written(tmp_path / "units", "/var/lib/c2rec", "--watchdog", "30")
    assert units.keys() == NAMES
    assert "WatchdogSec=30\n" in units["c2rec-kiosk.service"]
    done = run("/var/lib/c2rec", "--systemd", "--to", str(tmp_path / "units"), "--watchdog", "30")
    assert f"Wrote {tmp_path}/units/c2rec-kiosk.service" in done.output
    assert "useradd --system" in done.output
    assert "systemctl enable --now --no-block c2rec-kiosk.service c2rec-sync.timer" in done.output
    again = {path.name: path.read_text() for path in (tmp_path / "units").iterdir()}
    assert again == units


def test_they_can_be_shown_and_nothing_is_written(tmp_path: Path) -> None:
    done = run("/var/lib/c2rec", "--systemd", "--print", "--to", str(tmp_path / "units"))
    assert done.exit_code == 0
    assert done.output.count("\n[Unit]\n") == 5
    assert done.output.startswith(f"# {tmp_path}/units/c2rec-kiosk.service\n")
    assert not (tmp_path / "units").exists()


def test_the_page_gets_its_options_and_its_token_from_a_file(tmp_path: Path) -> None:
    units = written(tmp_path, "/var/lib/c2rec", "--", "--language", "de", "--port", "8000")
    serve = exec_start(units["c2rec-kiosk.service"])
    assert serve.endswith("serve --token-file /var/lib/c2rec/page-token --language de --port 8000")
    units = written(tmp_path, "/var/lib/c2rec", "--", "--no-token")
    assert exec_start(units["c2rec-kiosk.service"]).endswith("serve --no-token")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--systemd", "--", "--port", "70000"], "70000 is not in the range"),
        (["--systemd", "--", "--wrong"], "No such option"),
        (["--systemd", "--", "--token-file", "token"], "token is no absolute path"),
        (["--systemd", "--watchdog", "2"], "2 is not in the range 5<=x<=3600"),
        (["--watchdog", "30", "bundle"], "--watchdog goes with --systemd"),
        (["--print", "bundle"], "--print goes with --systemd"),
        (["--to", "/etc", "bundle"], "--to goes with --systemd"),
        (["one", "two"], "Give one BUNDLE"),
        ([], "Give one BUNDLE"),
    ],
)
def test_what_can_t_be_is_refused_before_anything_is_written(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    to = ["--to", str(tmp_path / "units")] if "--systemd" in arguments else []
    done = run("/var/lib/c2rec", *to, *arguments)
    assert done.exit_code in (1, 2)
    assert message in done.stderr
    assert not (tmp_path / "units").exists()


def test_a_folder_that_can_t_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("/var/lib/c2rec", "--systemd", "--to", str(tmp_path / "file" / "units"))
    assert done.exit_code == 1
    assert "run it as root, or name another folder: --to" in done.stderr


def test_a_temporary_home_is_refused(tmp_path: Path) -> None:
    """A service has a /tmp of its own."""
    done = run("/tmp/home", "--systemd", "--to", str(tmp_path / "units"))  # noqa: S108 - refused
    assert done.exit_code == 2
    assert "lies in a folder for what is temporary" in done.stderr


# --- what the units say


def test_the_page_reaches_this_machine_alone_unless_it_has_to(tmp_path: Path) -> None:
    denied = "IPAddressDeny=any\nIPAddressAllow=localhost\n"
    units = written(tmp_path / "a", "/var/lib/c2rec")
    assert denied in units["c2rec-kiosk.service"]
    assert "IPAddressDeny" not in units["c2rec-sync.service"]
    units = written(tmp_path / "b", "/var/lib/c2rec", "--", "--host", "192.0.2.1")
    assert "IPAddressDeny" not in units["c2rec-kiosk.service"]


def planned(settings: Settings | None, **table: object) -> Plan:
    return make_plan(Path("/var/lib/c2rec"), settings, table, (), user=USER, watchdog=60)


def test_options_in_the_kiosk_s_file_are_followed() -> None:
    """They are not repeated in the unit: serve reads them itself."""
    assert planned(None, port=9000).serve == ("--token-file", "/var/lib/c2rec/page-token")
    assert planned(None, token_file="/etc/c2rec/token").serve == ()  # noqa: S106 - a path
    assert planned(None, no_token=True).serve == ()
    assert planned(None, host="192.0.2.1").network
    assert Path("/home/a/pictures") in planned(None, token_file="/home/a/pictures").reads  # noqa: S106


def test_settings_of_the_kiosk_are_followed() -> None:
    plan = planned(Settings(repository="/home/releases", events="/mnt/usb", visitors=True))
    assert (plan.network, plan.sends, plan.events) == (True, True, Path("/mnt/usb"))
    assert Path("/home/releases") in plan.reads
    plan = planned(Settings(repository="https://a.example", events="https://b.example"))
    assert (plan.network, plan.sends, plan.events) == (False, True, None)
    plan = planned(Settings(repository="https://a.example", client_cert="/etc/c2rec/a.pem"))
    assert (plan.sends, Path("/etc/c2rec/a.pem") in plan.reads) == (False, True)
    plan = planned(None)
    assert (plan.network, plan.sends, plan.events) == (False, True, None)


def test_a_repository_in_a_temporary_folder_is_refused() -> None:
    with pytest.raises(RequestError, match="temporary"):
        planned(Settings(repository="/tmp/releases"))  # noqa: S108 - refused


def test_events_that_go_nowhere_are_not_sent(plan: Plan) -> None:
    assert make_units(plan).keys() == NAMES
    assert make_units(replace(plan, sends=False)).keys() == {n for n in NAMES if "send" not in n}
    unit = make_units(replace(plan, events=Path("/mnt/my usb")))["c2rec-send.service"]
    assert 'ReadWritePaths="-/mnt/my usb"\n' in unit


def test_homes_of_users_are_hidden_unless_something_is_read_there(plan: Plan) -> None:
    assert "ProtectHome=yes" in make_units(plan)["c2rec-kiosk.service"]
    for changed in (
        replace(plan, home=Path("/home/kiosk/c2rec")),
        replace(plan, command=("/home/kiosk/venv/bin/c2rec-kiosk",)),
        replace(plan, reads=(Path("/home/kiosk/pictures"),)),
    ):
        for name, unit in make_units(changed).items():
            assert name.endswith(".timer") or "ProtectHome=read-only" in unit


@pytest.mark.parametrize("field", ["home", "command", "serve", "user"])
def test_a_line_feed_can_t_smuggle_a_line_in(field: str) -> None:
    fields = {
        "command": ("/opt/c2rec-kiosk",),
        "home": Path("/srv/home"),
        "serve": ("--language", "de"),
        "user": "c2rec",
    }
    evil = {
        "command": ("/opt/c2rec-kiosk\nUser=root",),
        "home": Path("/srv/home\nUser=root"),
        "serve": ("--language", "de\nUser=root"),
        "user": "c2rec\nUser=root",
    }
    with pytest.raises(RequestError, match="characters that no unit can hold"):
        Plan(**(fields | {field: evil[field]}))  # type: ignore[arg-type]


@pytest.mark.parametrize("user", ["", "a b", "c2rec\\", "-c2rec", "c" * 33])
def test_a_user_who_can_t_be_is_refused(user: str) -> None:
    """Without a name the services would run as root."""
    with pytest.raises(RequestError, match="is no user; allowed: letters"):
        Plan(command=("/opt/c2rec-kiosk",), home=Path("/srv/home"), user=user)


# --- what systemd's tools say


@needs_systemd
@pytest.mark.parametrize("home", ["/var/lib/c2rec", '/srv/it\'s 100% "$HOME" \\ mine', "/home/a b"])
def test_systemd_finds_nothing_wrong(tmp_path: Path, home: str) -> None:
    written(tmp_path, home, "--", "--cards", 'C[0-9]{7}|"\\d+$"')
    paths = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run(
        ["systemd-analyze", "verify", *paths], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("network", [False, True])
def test_every_service_is_rated_ok(tmp_path: Path, plan: Plan, network: bool) -> None:
    """Exposure of 10 is the worst, up to 5.0 is OK. Versions count differently: 252's is held."""
    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True)
    for name, text in make_units(replace(plan, network=network)).items():
        if name.endswith(".timer"):
            continue
        path = tmp_path / name
        path.write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        found = re.search(r"Overall exposure level for \S+: (\d\.\d) OK", done.stdout)
        assert found is not None, done.stdout
        if version.stdout.startswith("systemd 252 "):
            alone = name == "c2rec-kiosk.service" and not network
            assert found[1] == ("1.3" if alone else "1.4")
