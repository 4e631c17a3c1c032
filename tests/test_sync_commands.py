"""The commands of a kiosk that syncs, as an operator runs them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from c2rec.export.signed import open_repository
from c2rec.runtime.home.settings import settings_path
from c2rec.runtime.sync.sync import turn
from c2rec.store_kiosk.cli import main
from tests.faults.place import CUSTOMER, OLD, Place, copy_place, make_kit, make_place


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("made"))


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    return copy_place(made, tmp_path / "place")


def run(place: Place, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["--home", str(place.home), *map(str, arguments)])


def document(place: Place, *arguments: object, status: int = 0) -> Any:
    done = run(place, *arguments, "--json")
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


# --- enrol


def test_a_new_kiosk_is_enrolled_syncs_and_answers(made: Place, tmp_path: Path) -> None:
    place = Place(made.head, tmp_path / "new home")
    kit = make_kit(made.head, tmp_path / "kit", device="K7")
    done = run(place, "enrol", kit, "--repository", made.head.repo)
    assert (done.exit_code, done.output) == (
        0,
        "Kiosk K7 of store S1 is enrolled, ring stable; now run: c2rec-kiosk sync\n",
    )
    assert (place.home / "identity.json").stat().st_mode & 0o777 == 0o600
    done = run(place, "sync")
    assert re.fullmatch(rf"Release {OLD} \(seq 1\) is active; [\d,]+ bytes moved\.\n", done.output)
    assert document(place, "recommend", CUSTOMER)["tier"] == "personal"


@pytest.mark.parametrize("file", ["identity.json", "root.json"])
@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_a_kit_that_cannot_be_used_changes_nothing(
    place: Place, tmp_path: Path, file: str, damage: str
) -> None:
    kit = make_kit(place.head, tmp_path / "kit", device="K7")
    (kit / file).unlink()
    if damage == "garbage":
        (kit / file).write_text("{}")
    before = {path: path.read_bytes() for path in place.home.rglob("*") if path.is_file()}
    done = run(place, "enrol", kit, "--repository", place.head.repo)
    assert done.exit_code == 1
    assert str(kit) in done.stderr
    assert {path: path.read_bytes() for path in place.home.rglob("*") if path.is_file()} == before


def test_a_setting_that_cannot_be_is_refused(place: Place, tmp_path: Path) -> None:
    kit = make_kit(place.head, tmp_path / "kit")
    done = run(place, "enrol", kit, "--repository", "ftp://host")
    assert done.exit_code == 2
    assert "--repository is 'ftp://host'; allowed" in done.stderr


def test_in_another_store_its_customers_are_taken(place: Place, tmp_path: Path) -> None:
    stores = [["S1"] if number % 2 else ["S2"] for number in range(30)]
    place.head.publish(seed=1, stores=stores)
    place.sync()
    assert document(place, "recommend", "c000003")["tier"] == "personal"
    assert document(place, "recommend", "c000004")["tier"] == "store-popular"
    kit = make_kit(place.head, tmp_path / "kit", store="S2", device="K1")
    run(place, "enrol", kit, "--repository", place.head.repo)
    assert document(place, "sync")["outcome"] == "installed"
    assert document(place, "recommend", "c000003")["tier"] == "store-popular"
    assert document(place, "recommend", "c000004")["tier"] == "personal"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--repository", ""], 2, "is empty; allowed: an http(s) URL, or a folder"),
        (["--repository", "https://x", "--ca-bundle", "kit/root.json"], 1, "ca_bundle"),
        (["--repository", "https://x", "--client-cert", "kit/root.json"], 1, "client_cert"),
    ],
)
def test_what_could_never_work_is_refused_when_it_is_enrolled(
    place: Place, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(place.home.parent)
    before = settings_path(place.home).read_bytes()
    done = run(place, "enrol", "kit", *options)
    assert (done.exit_code, message in done.stderr) == (code, True)
    assert settings_path(place.home).read_bytes() == before


def test_a_kit_that_is_spoiled_is_named(place: Place) -> None:
    kit = place.home.parent / "kit"
    (kit / "identity.json").write_bytes(b"\xff\xfe garbage")
    done = run(place, "enrol", kit, "--repository", place.head.repo)
    assert done.exit_code == 1
    assert "kit/identity.json: not valid JSON" in done.stderr
    assert "c2rec-export keys kiosk" in done.stderr


def test_a_kit_of_two_head_offices_is_refused(place: Place, tmp_path: Path) -> None:
    kit = make_kit(place.head, tmp_path / "kit")
    other = make_kit(make_place(tmp_path / "other").head, tmp_path / "other kit")
    before = settings_path(place.home).read_bytes()
    (kit / "root.json").write_bytes((other / "root.json").read_bytes())
    done = run(place, "enrol", kit, "--repository", place.head.repo)
    assert done.exit_code == 1
    assert f"{kit}: root.json is not the one that was made with identity.json" in done.stderr
    assert settings_path(place.home).read_bytes() == before


def test_a_kit_that_does_not_say_which_root_it_had_is_believed(
    place: Place, tmp_path: Path
) -> None:
    kit = make_kit(place.head, tmp_path / "kit")
    text = json.loads((kit / "identity.json").read_text())
    del text["root_sha256"]
    (kit / "identity.json").write_text(json.dumps(text))
    assert run(place, "enrol", kit, "--repository", place.head.repo).exit_code == 0


def test_enrolling_leaves_the_options_of_commands_as_they_are(place: Place, tmp_path: Path) -> None:
    tables = "# ours\n[serve]\nport = 9000 # the browser knows it\n\n[recommend]\nk = 5\n"
    path = settings_path(place.home)
    path.write_text(path.read_text() + "deadline = 9.0\n\n" + tables)
    kit = make_kit(place.head, tmp_path / "kit")
    done = run(place, "enrol", kit, "--repository", place.head.repo, "--ring", "pilot")
    assert done.exit_code == 0, done.stderr
    text = path.read_text()
    assert text.endswith(tables.removeprefix("# ours\n"))
    assert 'ring = "pilot"' in text
    assert "deadline" not in text


def test_another_head_office_is_believed_once_it_is_enrolled_with(
    place: Place, tmp_path: Path
) -> None:
    """Its versions are lower than those that this kiosk has seen."""
    for seed in (1, 2):
        place.head.publish(seed=seed)
    place.sync()
    other = make_place(tmp_path / "other")
    kit = make_kit(other.head, tmp_path / "kit")
    run(place, "enrol", kit, "--repository", other.head.repo)
    assert document(place, "sync")["seq"] == 1
    assert document(place, "recommend", CUSTOMER)["tier"] == "personal"


# --- sync


def test_sync_tells_what_it_did_as_json(place: Place) -> None:
    said = document(place, "sync")
    assert said.pop("bytes") > 0
    assert said == {
        "schema": 1,
        "outcome": "up to date",
        "seq": 1,
        "release": OLD,
        "previous": None,
        "erased": 0,
        "warnings": [],
    }


def test_a_sync_that_fails_is_one_line_and_is_noted(place: Place) -> None:
    place.settings(repository="http://127.0.0.1:9")
    done = run(place, "sync")
    assert (done.exit_code, done.stdout) == (1, "")
    assert re.fullmatch(r"Error: 127\.0\.0\.1:9 can't be reached: .*refused.*\n", done.stderr)
    status = document(place, "status")
    assert not status["sync"]["ok"]
    assert "can't be reached" in status["sync"]["text"]
    assert status["sync"]["last_good"].endswith("Z")
    assert "failed: 127.0.0.1:9 can't be reached" in run(place, "status").output


@pytest.mark.parametrize("damage", ["missing", "cut", "altered"])
def test_a_root_that_this_disk_lost_is_not_the_repositorys_fault(place: Place, damage: str) -> None:
    root = place.home / "root.json"
    content = root.read_bytes()
    root.unlink()
    if damage != "missing":
        root.write_bytes(content[:-9] if damage == "cut" else content.replace(b"202", b"203"))
    done = run(place, "sync")
    assert done.exit_code == 1
    assert "enrol the kiosk again" in done.stderr
    assert str(root) in done.stderr
    assert "repository" not in done.stderr


def test_a_kiosk_that_is_not_enrolled_can_not_sync(place: Place) -> None:
    (place.home / "kiosk.toml").unlink()
    done = run(place, "sync")
    assert done.exit_code == 1
    assert "is not enrolled" in done.stderr


def test_jitter_gives_each_kiosk_its_own_while(place: Place, tmp_path: Path) -> None:
    turns = set()
    for number in range(20):
        kit = make_kit(place.head, tmp_path / f"kit{number}", device=f"K{number}")
        assert run(place, "enrol", kit, "--repository", place.head.repo).exit_code == 0
        assert 0 <= turn(place.home) < 1
        turns.add(round(turn(place.home), 6))
    assert len(turns) == 20
    assert max(turns) - min(turns) > 0.5
    assert document(place, "sync", "--jitter", "0.01")["outcome"] in ("installed", "up to date")


# --- status and rollback


def test_status_tells_store_ring_trial_and_sync(place: Place) -> None:
    status = document(place, "status")
    assert (status["store"], status["device"], status["ring"]) == ("S1", "K1", "stable")
    assert (status["seq"], status["trial"]["answers"]) == (1, 0)
    for _ in range(5):
        run(place, "recommend", CUSTOMER)
    assert document(place, "status")["trial"] is None
    assert "1, confirmed" in run(place, "status").output


def test_rollback_goes_back_and_stays_there(place: Place) -> None:
    place.head.publish(seed=1)
    place.sync()
    new = place.head.releases[-1].manifest.release
    said = document(place, "rollback")
    assert (said["release"], said["seq"]) == (OLD, 1)
    assert said["given_up"] == {"release": new, "seq": 2}
    assert document(place, "recommend", CUSTOMER)["release"] == OLD
    done = run(place, "rollback")
    assert done.exit_code == 1
    assert "holds no release but the active one" in done.stderr
    done = run(place, "sync")
    assert done.exit_code == 1
    assert "seq 2 is known to be bad here: rolled back by hand" in done.stderr


# --- doctor


def verdicts(place: Place, status: int) -> dict[str, tuple[str, str]]:
    said = document(place, "doctor", status=status)
    return {f"{c['check']} {c['verdict']}": (c["text"], c["fix"]) for c in said["checks"]}


def healthy(place: Place) -> None:
    """The data of a test's release is years old; nothing else is to be told."""
    told = [name for name in verdicts(place, 1) if not name.endswith(" ok")]
    assert told == ["release warning"]


def test_a_healthy_kiosk_is_told_so(place: Place) -> None:
    healthy(place)
    lines = run(place, "doctor").output.splitlines()
    assert any(re.match(r"ok +enrolment +kiosk K1 of store S1, ring stable", x) for x in lines)


def test_an_erasure_that_did_not_end_is_told(place: Place) -> None:
    """What it has put aside holds pieces of the customer until it is run again."""
    (place.home / "erasing").mkdir()
    (place.home / "erasing" / "a-mark.json").write_text("{}")
    text, fix = verdicts(place, 2)["erasure failure"]
    assert "1 erasures were begun and did not end" in text
    assert "c2rec-kiosk erase CUSTOMER" in fix


def test_the_doctor_changes_nothing(place: Place) -> None:
    run(place, "doctor")  # it notes what it has read whole
    before = {path: path.read_bytes() for path in place.home.rglob("*") if path.is_file()}
    run(place, "doctor")
    assert {path: path.read_bytes() for path in place.home.rglob("*") if path.is_file()} == before


def test_keys_that_others_can_read_are_a_failure(place: Place) -> None:
    path = place.home / "identity.json"
    path.chmod(0o644)
    text, fix = verdicts(place, 2)["keys failure"]
    assert "others can read the kiosk's keys" in text
    assert fix == f"chmod 600 {path}"


def test_a_flipped_bit_is_a_failure_until_it_is_repaired(place: Place) -> None:
    path = place.home / "gen" / f"{place.state.active.name}.db"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    text, fix = verdicts(place, 2)["release failure"]
    assert "the active release is damaged" in text
    assert fix == "c2rec-kiosk sync"
    place.sync()
    healthy(place)


def test_a_home_with_nothing_is_a_failure(tmp_path: Path, made: Place) -> None:
    place = Place(made.head, tmp_path)
    found = verdicts(place, 2)
    assert found["release failure"][1] == "c2rec-kiosk sync, or c2rec-kiosk install BUNDLE"
    assert found["enrolment warning"][1] == "c2rec-kiosk enrol KIT --repository URL"


def test_a_clock_that_is_behind_is_a_failure(place: Place) -> None:
    import time_machine

    with time_machine.travel("2020-01-01T00:00:00Z"):
        text, fix = verdicts(place, 2)["clock failure"]
    assert "this machine's clock says 2020-01-01" in text
    assert "NTP" in fix


def test_little_space_is_a_warning(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(place.home)._replace(free=20 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    text, _ = verdicts(place, 1)["space warning"]
    assert text == "20 MiB are free, a new release may need 256 MiB"


def test_what_cannot_be_read_is_a_failure_and_the_other_checks_go_on(place: Place) -> None:
    (place.home / "kiosk.toml").write_text("repository = 5")
    found = verdicts(place, 2)
    assert "repository is 5" in found["enrolment failure"][0]
    assert "release ok" in found


def test_a_repository_that_is_stale_is_told(place: Place) -> None:
    import time_machine

    with open_repository(place.head.repo, place.head.keys) as repository:
        assert repository.target_names("channel")
    with time_machine.travel("2027-06-01T00:00:00Z"):
        found = verdicts(place, 1)
    assert "expired at" in found["signatures warning"][0]
    assert "the last good sync was at" in found["sync warning"][0]
