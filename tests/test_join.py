"""What was collected joins what tills and the web shop know, and can be learned from."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from c2rec.runtime.errors import DataError
from c2rec.runtime.events.events import Event, EventItem
from c2rec.runtime.events.inbox import FolderInbox
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.push import send
from c2rec.runtime.home.identity import pseudonym
from c2rec.train.cli import cli
from c2rec.train.join import join
from c2rec.train.simulate import simulate
from c2rec.train.transactions import read_dataset
from tests.offices import make_office

EVENTS = (Path(__file__).parent.parent / "docs" / "events.md").read_text()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A retailer who sold until just now, as those do who have kiosks."""
    simulate(tmp_path / "DATA", customers=150, items=60, days=40, seed=1)
    path = tmp_path / "DATA" / "transactions.parquet"
    table = pl.read_parquet(path)
    now = pl.lit(datetime.now(UTC)).dt.truncate("1s") - pl.duration(minutes=1)
    table.with_columns(pl.col("timestamp") + (now - pl.col("timestamp").max())).write_parquet(path)
    return tmp_path / "DATA"


def bought(folder: Path, **columns: object) -> Path:
    """A dataset of one purchase of C0000001, later than all others."""
    row = {
        "customer_id": "C0000001",
        "item_id": "P0000003",
        "channel": "offline",
        "timestamp": datetime(2099, 3, 1, tzinfo=UTC),
        "quantity": 1,
        "price": 2.5,
        "store_id": "S1",
    }
    folder.mkdir()
    pl.DataFrame([row | columns]).write_parquet(folder / "transactions.parquet")
    return folder


def test_the_commands_of_the_document_lead_from_a_kiosk_to_a_run(data: Path) -> None:
    office = make_office(data.parent)
    (data.parent / "INBOX").symlink_to(office.inbox)
    (data.parent / "KEYS").symlink_to(data.parent / "keys")
    outbox = Outbox(data.parent / "k1", office.keys.identity("S1", "k1"))
    who = pseudonym(office.keys.customer_key, "C0000001").hex()
    for item in ("P0000003", "unknown"):
        outbox.record(Event(kind="bought", items=(EventItem(item=item, quantity=2),), customer=who))
    assert send(outbox, FolderInbox(office.inbox)).error is None
    outbox.close()
    (block,) = [
        text for text in re.findall(r"^```sh\n(.*?)^```$", EVENTS, re.M | re.S) if " join " in text
    ]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-eu"],
        input=block.replace("fit JOINED", "fit JOINED --epochs 1"),
        cwd=data.parent,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "1 customers of DATA are in the others too" in done.stdout
    before = read_dataset(data).transactions
    after = read_dataset(data.parent / "JOINED")
    assert after.transactions.height == before.height + 1
    newest = after.transactions.row(-1, named=True)
    assert (newest["customer_id"], newest["item_id"], newest["quantity"]) == (
        "C0000001",
        "P0000003",
        2,
    )
    assert after.items is not None
    assert (data.parent / "RUN" / "config.json").exists()


def test_joining_again_changes_nothing_but_what_is_new(data: Path, tmp_path: Path) -> None:
    one = bought(tmp_path / "one")
    found = join([data, one], tmp_path / "a")
    assert (found.repeated, found.shared_customers) == (0, 1)
    more = bought(tmp_path / "more", quantity=3)
    found = join([tmp_path / "a", more], tmp_path / "b")
    assert found.repeated == 1
    rows = read_dataset(tmp_path / "b").transactions
    assert rows.height == read_dataset(tmp_path / "a").transactions.height
    assert rows.row(-1, named=True)["quantity"] == 3
    others = rows.head(-1), read_dataset(data).transactions
    assert others[0].sort(pl.all()).equals(others[1].sort(pl.all()))


def test_datasets_without_prices_or_items_join_too(tmp_path: Path) -> None:
    bare = pl.read_parquet(bought(tmp_path / "one") / "transactions.parquet")
    (tmp_path / "bare").mkdir()
    bare.select("customer_id", "item_id", "channel", "timestamp").write_csv(
        tmp_path / "bare" / "transactions.csv"
    )
    found = join([tmp_path / "bare", tmp_path / "one"], tmp_path / "out")
    assert (found.transactions, found.repeated) == (2, 0), "with and without a price is not equal"
    assert not (tmp_path / "out" / "items.parquet").exists()


def test_what_cannot_be_joined_is_told(data: Path, tmp_path: Path) -> None:
    strange = bought(tmp_path / "strange", item_id="X")
    with pytest.raises(DataError, match=r"1 purchases are of items that .* such as 'X'; add them"):
        join([data, strange], tmp_path / "out")
    with pytest.raises(DataError, match="has items too; allowed: in the first dataset alone"):
        join([bought(tmp_path / "one"), data], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    join([data, tmp_path / "one"], tmp_path / "out")
    with pytest.raises(DataError, match="is there already"):
        join([data, tmp_path / "one"], tmp_path / "out")


def test_pseudonyms_that_fit_nobody_are_told(data: Path, tmp_path: Path) -> None:
    one = bought(tmp_path / "one", customer_id="ab" * 16)
    arguments = ["join", str(data), str(one), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0
    assert "No customer is the same" in result.stderr
