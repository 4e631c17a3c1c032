"""``c2rec-kiosk erase``, and how an answer with online scores reads."""

import json
import math
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from c2rec.runtime.events.events import Event, EventItem
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.sync.sync import sync
from c2rec.store_kiosk.cli import main
from tests.enrolled import AS_OF, Kiosk, enrol, make_kiosk
from tests.repositories import make_head

CUSTOMER = "c000003"


@pytest.fixture
def kiosk(tmp_path: Path) -> Kiosk:
    return make_kiosk(tmp_path)


def run(kiosk: Kiosk, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(kiosk.home), *arguments])


def age() -> int:
    """How old online scores are by now, in whole seconds: an hour, and as long as tests run."""
    return math.ceil((datetime.now(UTC) - AS_OF).total_seconds())


def test_the_text_says_what_was_done_and_where_the_receipt_is(kiosk: Kiosk, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    result = run(kiosk, "erase", CUSTOMER, "--receipt", str(receipt))
    assert result.exit_code == 0, result.stderr
    assert "erased from 4 files" in result.stdout
    assert str(receipt) in result.stdout
    assert CUSTOMER not in result.stdout
    assert "and 2 events" in result.stdout
    again = run(kiosk, "erase", CUSTOMER, "--receipt", str(tmp_path / "again.json"))
    assert "was not found" in again.stdout


def test_who_is_in_events_alone_is_erased_from_no_files(tmp_path: Path) -> None:
    kiosk = enrol(make_head(tmp_path / "head"), tmp_path / "home")
    sync(kiosk.home)
    outbox = Outbox(kiosk.home, kiosk.identity)
    who = kiosk.pseudonym("never seen").hex()
    outbox.record(Event(kind="tapped", items=(EventItem(item="i000001"),), customer=who))
    outbox.close()
    result = run(kiosk, "erase", "never seen", "--receipt", str(tmp_path / "receipt.json"))
    assert result.exit_code == 0, result.stderr
    assert "The customer was erased from 1 events, and won't come back." in result.stdout


def test_the_json_is_the_receipt(kiosk: Kiosk, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    result = run(kiosk, "erase", CUSTOMER, "--receipt", str(receipt), "--json")
    assert json.loads(result.stdout) == json.loads(receipt.read_text())
    assert json.loads(result.stdout)["schema"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["erase", CUSTOMER], 2, "Missing option '--receipt'"),
        (["erase", "", "--receipt", "r.json"], 2, "customer is ''"),
        (["erase", CUSTOMER, "--receipt", "{home}/r.json"], 2, "outside the home"),
    ],
)
def test_what_can_not_be_done_is_told(
    kiosk: Kiosk, arguments: list[str], code: int, said: str
) -> None:
    filled = [each.format(home=kiosk.home) for each in arguments]
    result = run(kiosk, *filled)
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr


def test_an_answer_tells_the_age_of_online_scores_and_what_became_of_them(kiosk: Kiosk) -> None:
    result = run(kiosk, "recommend", CUSTOMER)
    said = re.search(r"Online scores: (\d+) min old, joined by rank \(rank-fusion\)", result.stdout)
    assert said is not None
    assert 60 <= int(said[1]) <= age() / 60 + 1
    answer = json.loads(run(kiosk, "recommend", CUSTOMER, "--json").stdout)
    assert answer["path"] == "rank-fusion"
    assert 3600 <= answer["online_age_s"] <= age()
    without = json.loads(run(kiosk, "recommend", "c000012", "--json").stdout)
    assert (without["path"], without["online_as_of"]) == ("offline", None)
    assert "Online scores" not in run(kiosk, "recommend", "c000012").stdout


def test_status_tells_of_online_scores_and_who_is_here(kiosk: Kiosk, tmp_path: Path) -> None:
    run(kiosk, "erase", CUSTOMER, "--receipt", str(tmp_path / "receipt.json"))
    document = json.loads(run(kiosk, "status", "--json").stdout)
    assert document["customers_here"] == 29
    assert document["counts"]["customers"] == 30
    scores = document["online_scores"]
    assert (scores["seq"], scores["as_of"]) == (1, f"{AS_OF:%Y-%m-%dT%H:%M:%SZ}")
    assert 3600 <= scores["age_s"] <= age()
    text = run(kiosk, "status").stdout
    said = re.search(r"^online scores +1, of .*Z, (\d+) min old$", text, re.M)
    assert said is not None
    assert 60 <= int(said[1]) <= age() / 60 + 1


def test_answering_loads_no_cryptography_and_no_sqlite_utils(kiosk: Kiosk) -> None:
    """A person waits."""
    script = (
        "import sys; from pathlib import Path\n"
        "from c2rec.runtime.recommender import Recommender\n"
        f"r = Recommender.open(Path({str(kiosk.home)!r})); a = r.recommend({CUSTOMER!r});"
        "assert a.path == 'rank-fusion';"
        "print([m for m in ('cryptography', 'sqlite_utils', 'urllib3') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
