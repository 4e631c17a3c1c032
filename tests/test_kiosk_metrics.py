"""What Prometheus is told of a home, by the command and by the page's server."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from c2rec.runtime.home.state import changing_state, find_state, note_outcome
from c2rec.store_kiosk.cli import main
from c2rec.store_kiosk.guard import PUBLIC
from c2rec.store_kiosk.metrics import HomeCollector, text_of
from tests.enrolled import AS_OF, Kiosk, make_kiosk
from tests.kiosk_page import CARD, TOKEN, Served, make_home, serve_page

_BASE_UNITS = re.compile(
    "_(info|total|seconds|bytes|seq|items|customers|installed|on_trial|success|waiting|readable|"
    "failed_starts|given_up|findings|send_failures|dead_letters|conflicts)$"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Kiosk:
    return make_kiosk(tmp_path_factory.mktemp("made"))


@pytest.fixture
def home(made: Kiosk, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.home, tmp_path / "home"))


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), "metrics", *arguments])


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def told(home: Path, *arguments: str) -> dict[str, float]:
    """Values by the name of the sample, and labels where it has any."""
    result = run(home, *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return values(result.stdout)


def values(text: str) -> dict[str, float]:
    found = {}
    for family in families(text).values():
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


# --- the command


def test_it_tells_the_home_as_it_is(home: Path) -> None:
    found = told(home, "--no-doctor")
    state = find_state(home)
    assert state is not None
    release, previous = state.active.release, "2020-07-27-00000001"
    labels = f"encoder=history,previous={previous},release={release}"
    assert found[f"c2rec_release_info{{{labels}}}"] == 1
    assert found["c2rec_release_seq"] == 2
    assert found["c2rec_release_installed"] == 1
    assert found["c2rec_release_items"] == 40
    assert found["c2rec_release_customers"] == 30
    assert found["c2rec_release_data_end_timestamp_seconds"] == seconds("2020-07-27T00:00:00Z")
    assert found["c2rec_release_installed_timestamp_seconds"] == seconds(state.active.installed_at)
    assert (found["c2rec_release_on_trial"], found["c2rec_release_failed_starts"]) == (1, 0)
    assert found["c2rec_online_scores_timestamp_seconds"] == AS_OF.timestamp()
    assert found["c2rec_online_scores_seq"] == 1
    assert found["c2rec_last_sync_success"] == 1
    assert found["c2rec_last_sync_timestamp_seconds"] <= time.time()
    assert found["c2rec_metadata_expiry_timestamp_seconds{role=timestamp}"] > time.time()
    assert found["c2rec_events_waiting{kind=bought,state=new}"] == 1
    assert found["c2rec_events_waiting{kind=bought,state=frozen}"] == 1
    assert found["c2rec_events_waiting{kind=tapped,state=new}"] == 0
    assert found["c2rec_events_recorded_total"] == 4
    assert found["c2rec_events_oldest_timestamp_seconds"] <= time.time()
    assert found["c2rec_dead_letters"] == 0
    assert 0 < found["c2rec_disk_free_bytes"] < found["c2rec_disk_size_bytes"]
    assert {v for k, v in found.items() if k.startswith("c2rec_part_readable")} == {1}
    assert not any(name.startswith("c2rec_doctor") for name in found)


def test_a_failed_sync_and_a_release_given_up_are_told(home: Path) -> None:
    good = told(home, "--no-doctor")["c2rec_last_good_sync_timestamp_seconds"]
    note_outcome(home, "sync", ok=False, text="the network is gone")
    with changing_state(home) as db:
        db.execute("UPDATE trial SET starts = 2")
        db.execute("INSERT INTO bad (seq, release, reason, at) VALUES (7, 'x', 'y', 'z')")
    found = told(home, "--no-doctor")
    assert found["c2rec_last_sync_success"] == 0
    assert found["c2rec_last_good_sync_timestamp_seconds"] == good
    assert found["c2rec_release_failed_starts"] == 2
    assert found["c2rec_releases_given_up"] == 1


def test_the_doctor_s_verdicts_are_counted(home: Path) -> None:
    found = told(home)
    assert found["c2rec_doctor_findings{check=keys,verdict=failure}"] == 1  # the tests' umask
    (home / "identity.json").chmod(0o600)
    found = told(home)
    assert found["c2rec_doctor_findings{check=keys,verdict=failure}"] == 0
    assert found["c2rec_doctor_findings{check=keys,verdict=ok}"] == 1


def test_it_changes_nothing(home: Path) -> None:
    def look() -> dict[str, tuple[int, int]]:
        files = [path for path in home.rglob("*") if path.is_file()]
        return {str(each): (each.stat().st_mtime_ns, each.stat().st_size) for each in files}

    before = look()
    told(home, "--no-doctor")
    assert look() == before


def test_every_metric_has_help_type_and_a_name_as_prometheus_wants_it(home: Path) -> None:
    text = run(home).stdout
    for family in families(text).values():
        name = family.name + ("_total" if family.type == "counter" else "")
        assert family.documentation.endswith("."), name
        assert family.type in ("gauge", "counter"), name
        assert _BASE_UNITS.search(name), name
        assert text.count(f"# HELP {name} ") == text.count(f"# TYPE {name} ") == 1
        assert {sample.name for sample in family.samples} <= {name}
    assert "_created" not in text


def test_what_can_t_be_read_is_said_and_the_rest_is_told(home: Path) -> None:
    state = find_state(home)
    assert state is not None
    (home / "gen" / f"{state.active.name}.db").write_bytes(b"no cache")
    (home / "events.db").write_bytes(b"no database, and long enough to be looked at" * 100)
    (home / "tuf" / "timestamp.json").write_text("{}")
    found = told(home, "--no-doctor")
    readable = {k: v for k, v in found.items() if k.startswith("c2rec_part_readable")}
    unreadable = {k.split("=")[1].strip("}") for k, v in readable.items() if v == 0}
    assert unreadable == {"release", "events", "signatures"}
    assert found["c2rec_last_sync_success"] == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 100_000, b"\xff\0"])
def test_whatever_lies_in_a_file_of_the_home_the_rest_is_told(home: Path, content: bytes) -> None:
    (home / "tuf" / "timestamp.json").write_bytes(content)
    text = text_of(HomeCollector(home))
    assert 'c2rec_part_readable{part="signatures"} 0.0' in text
    assert 'c2rec_part_readable{part="release"} 1.0' in text


def test_a_home_with_nothing_in_it_is_no_error(tmp_path: Path) -> None:
    found = told(tmp_path, "--no-doctor")
    assert found["c2rec_release_installed"] == 0
    assert found["c2rec_kiosk_info{device=,ring=,store=,version=0.1.0}"] == 1
    assert {v for k, v in found.items() if k.startswith("c2rec_part_readable")} == {1}
    missing = told(tmp_path / "none", "--no-doctor")
    assert missing["c2rec_part_readable{part=disk}"] == 0


def test_a_textfile_is_replaced_whole(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "c2rec.prom"
    path.write_text("old")
    result = run(home, "--no-doctor", "--textfile", str(path))
    assert (result.exit_code, result.output) == (0, "")
    assert values(path.read_text())["c2rec_release_seq"] == 2
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["c2rec.prom"]


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("c2rec.txt", 2, "is read by nobody; allowed: a name that ends in .prom"),
        ("no/c2rec.prom", 1, "can't write"),
    ],
)
def test_a_textfile_that_can_not_be_is_refused(
    home: Path, tmp_path: Path, name: str, code: int, message: str
) -> None:
    result = run(home, "--no-doctor", "--textfile", str(tmp_path / name))
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr


# --- the server


@pytest.fixture(scope="module")
def page_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("page"))


@pytest.fixture
def served(page_home: Path) -> Iterator[Served]:
    with serve_page(page_home) as served:
        yield served


def scrape(served: Served) -> dict[str, float]:
    status, headers, body = served.ask("GET", "/metrics")
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return values(body.decode())


def test_the_server_counts_requests_and_answers_and_tells_the_home(served: Served) -> None:
    session = served.session()
    served.json("POST", f"{session}/scans", {"code": CARD})
    for _ in range(2):
        served.json("POST", f"{session}/recommendations", {})
    served.ask("POST", "/api/sessions/no-such/recommendations", {})
    served.ask("GET", "/nothing/here")
    found = scrape(served)
    route = "/api/sessions/{session}/recommendations"
    counted = "c2rec_http_requests_total"
    assert found[f"{counted}{{method=POST,route={route},status=200}}"] == 2
    assert found[f"{counted}{{method=POST,route={route},status=404}}"] == 1
    assert found[f"{counted}{{method=GET,route=none,status=404}}"] == 1
    assert found[f"c2rec_http_request_duration_seconds_count{{route={route}}}"] == 3
    assert found[f"c2rec_http_request_duration_seconds_bucket{{le=+Inf,route={route}}}"] == 3
    assert 0 < found[f"c2rec_http_request_duration_seconds_sum{{route={route}}}"] < 60
    assert found["c2rec_answers_total{path=offline,tier=personal}"] == 2
    assert found["process_resident_memory_bytes"] > 1e6
    assert found["c2rec_release_items"] == 40
    assert not any("_created" in name for name in found)


def test_no_label_holds_what_a_shopper_brought(served: Served) -> None:
    session = served.session()
    served.json("POST", f"{session}/scans", {"code": CARD})
    answer = served.json("POST", f"{session}/recommendations", {})
    served.ask("GET", f"/pictures/{answer['items'][0]['item_id']}")
    served.ask("GET", f"/{CARD}?card={CARD}")
    served.ask(CARD.upper(), "/api/data")
    _, _, body = served.ask("GET", "/metrics")
    text = body.decode()
    forbidden = [CARD, CARD.upper(), TOKEN, session.rpartition("/")[2]]
    for each in [*forbidden, *(item["item_id"] for item in answer["items"])]:
        assert each not in text


def test_paths_that_nobody_knows_make_no_new_series(served: Served) -> None:
    before = len(scrape(served))
    served.ask("GET", "/x")
    again = len(scrape(served))
    for number in range(30):
        served.ask("GET", f"/x{number}")
        served.ask("DELETE", f"/api/sessions/s{number}")
    assert len(scrape(served)) - again < 25  # of one more route and method
    assert again > before


def test_metrics_need_the_token_unless_they_are_open(page_home: Path) -> None:
    with serve_page(page_home) as served:
        assert served.ask("GET", "/metrics", Authorization="none")[0] == 401
    with serve_page(page_home, metrics_open=True) as served:
        assert served.ask("GET", "/metrics", Authorization="none")[0] == 200
        assert served.ask("GET", "/metrics/x", Authorization="none")[0] == 401
        assert served.ask("GET", "/api/data", Authorization="none")[0] == 401
        assert served.ask("GET", "/metrics", Authorization="none", Host="evil")[0] == 421
    assert not any(path.startswith("/metrics") for path in PUBLIC)


def test_every_metric_is_in_the_documentation(home: Path, served: Served) -> None:
    served.json("POST", f"{served.session()}/recommendations", {})
    names = {*families(run(home).stdout), *families(served.ask("GET", "/metrics")[2].decode())}
    page = (Path(__file__).parent.parent / "docs" / "running.md").read_text()
    for name in names:
        assert re.search(rf"`{name}(_total)?[`{{]", page) or name.startswith("process_"), name


def test_without_a_release_the_server_still_tells(tmp_path: Path) -> None:
    with serve_page(tmp_path / "home") as served:
        assert scrape(served)["c2rec_part_readable{part=release}"] == 1


def test_only_metrics_and_serve_load_the_library(page_home: Path) -> None:
    for command, loaded in ((["status"], False), (["metrics", "--no-doctor"], True)):
        script = (
            "import atexit, sys\n"
            "atexit.register(lambda: print('prometheus_client' in sys.modules, file=sys.stderr))\n"
            "from c2rec.store_kiosk.cli import main\n"
            "main()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, "--home", str(page_home), *command],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, f"{loaded}\n")
