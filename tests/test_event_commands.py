"""record, queue and collect: from a command in a store to a table at head office."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import time_machine
from click.testing import CliRunner

from c2rec.export.cli import cli as export_cli
from c2rec.runtime.home.identity import identity_path, pseudonym
from c2rec.store_kiosk.cli import main
from c2rec.train.transactions import read_dataset
from tests.kiosks import Server, serving
from tests.offices import Office, make_office


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return make_office(tmp_path)


@pytest.fixture
def server(office: Office) -> Iterator[Server]:
    with serving(office.inbox) as running:
        yield running


@pytest.fixture
def home(office: Office, server: Server) -> Path:
    home = office.folder / "home"
    home.mkdir()
    identity_path(home).write_text(office.keys.identity("Store 1", "k1").to_json())
    (home / "kiosk.toml").write_text(f'repository = "/nowhere"\nevents = "{server.url}"\n')
    return home


def kiosk(home: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["--home", str(home), *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_from_the_store_to_training_data(home: Path, office: Office) -> None:
    bought = ["--customer", "C1", "--quantity", "2", "--price", "1.5", "--price", "3"]
    event_id = kiosk(home, "record", "bought", "A", "B", *bought).strip()
    assert len(event_id) == 32
    kiosk(home, "record", "bought", "A")
    shown = json.loads(kiosk(home, "record", "shown", "A", "B", "--session", "s1", "--json"))
    assert "2 new" in kiosk(home, "queue")
    assert "3 events sent in 1 batches" in kiosk(home, "queue", "--send")
    arguments = [
        "collect",
        str(office.inbox),
        str(office.out),
        "--keys",
        str(office.folder / "keys"),
    ]
    result = CliRunner().invoke(export_cli, arguments)
    assert result.exit_code == 0, result.output
    assert "Store 1/k1: 1 shown, 2 bought" in result.output
    rows = read_dataset(office.out).transactions
    who = pseudonym(office.keys.customer_key, "C1").hex()
    assert rows.select("customer_id", "item_id", "quantity", "price", "store_id").rows() == [
        (who, "A", 2, 1.5, "Store 1"),
        (who, "B", 2, 3.0, "Store 1"),
    ]
    impressions = pl.read_parquet(office.out / "impressions.parquet")
    seen = impressions.filter(pl.col("event_id") == shown["event_id"])
    assert seen.select("item_id", "position", "session").rows() == [("A", 1, "s1"), ("B", 2, "s1")]
    result = CliRunner().invoke(export_cli, [*arguments, "--json"])
    document = json.loads(result.output)
    assert (document["schema"], document["files"], document["refused_now"]) == (1, 0, 0)
    groups = ("gaps", "clones", "refused", "doubts")
    assert [document[group] for group in groups] == [[], [], [], []]
    assert document["written"]["transactions"] == 2
    (office.inbox / "events" / "noise").write_bytes(b"noise")
    document = json.loads(CliRunner().invoke(export_cli, [*arguments, "--json"]).output)
    assert document["refused_now"] == 1
    assert document["refused"][0]["line"].startswith("refused: events/noise: it is no batch")


def test_no_id_of_a_customer_leaves_the_kiosk(home: Path, office: Office) -> None:
    kiosk(home, "record", "bought", "A", "--customer", "somebody@example.com")
    kiosk(home, "queue", "--send")
    for folder in (home, office.inbox):
        for path in folder.rglob("*"):
            assert not path.is_file() or b"somebody@" not in path.read_bytes(), path


def test_the_queue_tells_what_is_refused_and_tries_again(home: Path, server: Server) -> None:
    kiosk(home, "record", "bought", "A")
    server.fault = lambda _method, _path: 422
    assert "Dead letter of 1 events" in kiosk(home, "queue", "--send")
    server.fault = lambda _method, _path: 503
    output = kiosk(home, "queue", "--retry-dead", "--send", code=1)
    assert "1 dead letters wait to be sent again" in output
    assert "Not all could be sent: the server answered 503" in output
    server.fault = lambda _method, _path: None
    document = json.loads(kiosk(home, "queue", "--send", "--json"))
    assert (document["events"], document["sent"], document["failures"]) == (0, 1, 0)
    assert document["this_time"]["events"] == 1


def test_a_home_that_was_never_enrolled_says_how(tmp_path: Path) -> None:
    for command in (["record", "bought", "A"], ["queue"]):
        assert "enrol it: c2rec-kiosk" in kiosk(tmp_path, *command, code=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["bought", "A", "--quantity", "1", "--quantity", "2"], "given 2 times for 1 items"),
        (["bought", "A", "--quantity", "0"], "quantity is 0; allowed: a whole number from 1"),
        (["bought", "A", "--price", "nan"], "price is nan; allowed: a number from 0"),
        (["shown", "A", "--price", "1"], "allowed: with 'bought' alone"),
        (["bought", " A"], "item is ' A'; allowed: text of 1 to 256 characters"),
        (["shown", *["A"] * 201], "number of items is 201; allowed: 1 to 200"),
        (["sold", "A"], "'sold' is not one of"),
    ],
)
def test_an_event_that_cannot_be_is_refused(home: Path, arguments: list[str], text: str) -> None:
    assert text in " ".join(kiosk(home, "record", *arguments, code=2).split())
    assert "Recorded in all 0" in kiosk(home, "queue")


@pytest.mark.parametrize("customer", ["", "C" * 1001, "C\udcff"])
def test_an_id_that_can_be_nobodys_is_refused(home: Path, customer: str) -> None:
    output = kiosk(home, "record", "bought", "A", "--customer", customer, code=2)
    assert "allowed: an id as in the transactions, 1 to 1000 characters" in output
    assert "0 events wait" in kiosk(home, "queue")


def test_when_due_heeds_the_wait_after_a_failure(home: Path, server: Server) -> None:
    kiosk(home, "record", "bought", "A")
    server.fault = lambda _method, _path: 503
    kiosk(home, "queue", "--send", code=1)
    server.fault = lambda _method, _path: None
    asked = len(server.requests)
    assert "too early after the last failure" in kiosk(home, "queue", "--send", "--when-due")
    assert len(server.requests) == asked
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=10), tick=True):
        assert "1 events sent" in kiosk(home, "queue", "--send", "--when-due")
    assert "goes with --send" in kiosk(home, "queue", "--when-due", code=2)
