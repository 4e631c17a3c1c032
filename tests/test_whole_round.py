"""The whole round on real parts: from purchases to a kiosk's answer, and back to training data."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.web_servers import Nginx, nginx

BIN = Path(sys.executable).parent
STORE, DEVICE, CUSTOMER = "S001", "K1", "C0000001"

if not os.environ.get("C2REC_REQUIRE_NGINX"):
    pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


def run(folder: Path, command: str) -> str:
    program, *arguments = command.split()
    done = subprocess.run(
        [str(BIN / program), *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def answer(folder: Path, command: str) -> Any:
    return json.loads(run(folder, f"{command} --json"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx(tmp_path_factory.mktemp("nginx")) as running:
        yield running


def test_fit_publish_sync_recommend_sell_collect_and_fit_again(
    server: Nginx, tmp_path: Path
) -> None:
    kiosk = "c2rec-kiosk --home kiosk"
    # head office
    run(tmp_path, "c2rec-train simulate --out data --customers 300 --items 120 --seed 7")
    run(tmp_path, "c2rec-train fit data --out run --epochs 3")
    run(tmp_path, "c2rec-export bundle run --out bundle")
    run(tmp_path, "c2rec-export keys init keys")
    run(tmp_path, f"c2rec-export publish bundle {server.repository} --keys keys")
    run(
        tmp_path, f"c2rec-export keys kiosk --keys keys --store {STORE} --device {DEVICE} --out kit"
    )
    # the store
    certificate, key = server.tls.issue("kiosk", common_name=DEVICE, unit=STORE)
    run(
        tmp_path,
        f"{kiosk} enrol kit --repository {server.url} --events {server.url}"
        f" --ca-bundle {server.tls.ca} --client-cert {certificate} --client-key {key}",
    )
    assert answer(tmp_path, f"{kiosk} sync")["outcome"] == "installed"
    told = answer(tmp_path, f"{kiosk} recommend {CUSTOMER} -k 5")
    assert (told["tier"], len(told["items"])) == ("personal", 5)
    items = [item["item_id"] for item in told["items"]]
    assert answer(tmp_path, f"{kiosk} recommend --basket {items[0]}")["tier"] == "basket"
    by = f"--customer {CUSTOMER} --release {told['release']} --tier personal --path {told['path']}"
    run(tmp_path, f"{kiosk} record shown {' '.join(items)} {by}")
    run(tmp_path, f"{kiosk} record bought {items[0]} {by} --price 9.5")
    sent = answer(tmp_path, f"{kiosk} queue --send")
    assert (sent["events"], sent["dead"], sent["error"]) == (0, [], None)
    # head office again
    known = f"--customers {tmp_path / 'data' / 'transactions.parquet'} --items data/items.parquet"
    collect = f"c2rec-export collect {server.inbox} collected --keys keys {known}"
    report = answer(tmp_path, collect)
    assert report["refused"] == report["gaps"] == report["clones"] == []
    collected = pl.read_parquet(tmp_path / "collected" / "transactions.parquet")
    assert collected.select("customer_id", "item_id", "channel", "store_id", "price").rows() == [
        (CUSTOMER, items[0], "offline", STORE, 9.5)
    ]
    shown = pl.read_parquet(tmp_path / "collected" / "impressions.parquet")
    assert len(shown) >= len(items)
    before = pl.read_parquet(tmp_path / "data" / "transactions.parquet")
    (tmp_path / "together").mkdir()
    # the simulated years are long ago: their last purchase is made the one of today
    later = collected["timestamp"].max() - before["timestamp"].max()  # type: ignore[operator] # times
    before = before.with_columns(pl.col("timestamp") + later)
    both = pl.concat([before, collected.select(before.columns).cast(before.schema)])
    both.write_parquet(tmp_path / "together" / "transactions.parquet")
    shutil.copy(tmp_path / "data" / "items.parquet", tmp_path / "together")
    run(tmp_path, "c2rec-train validate together")
    run(tmp_path, "c2rec-train fit together --out again --epochs 2")
    run(tmp_path, "c2rec-export bundle again --out again-bundle")
    run(tmp_path, f"c2rec-export publish again-bundle {server.repository} --keys keys")
    synced = answer(tmp_path, f"{kiosk} sync")
    assert (synced["outcome"], synced["seq"]) == ("installed", 2)
    again = answer(tmp_path, f"{kiosk} recommend {CUSTOMER} -k 120")
    assert items[0] not in [item["item_id"] for item in again["items"]]  # bought, and learned
    # and who asks to be forgotten is
    run(tmp_path, f"{kiosk} erase {CUSTOMER} --receipt receipt.json")
    assert answer(tmp_path, f"{kiosk} recommend {CUSTOMER}")["tier"] == "store-popular"
