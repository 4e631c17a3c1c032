"""The main job on real purchases, as a retailer would run it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.real_rules import check

ROOT = Path(__file__).parent.parent
FOLDER = Path(os.environ.get("C2REC_HM_DATA", ROOT.parent / "shared" / "data" / "hm_july2020"))
BIN = Path(sys.executable).parent

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(
        not FOLDER.is_dir(), reason="no H&M sample; set C2REC_HM_DATA to its folder"
    ),
]


def run(command: str, folder: Path) -> str:
    program, *arguments = command.split()
    done = subprocess.run(
        [str(BIN / program), *arguments], cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hm")
    run(
        f"c2rec-train import-hm {FOLDER}/transactions_train.csv --articles {FOLDER}/articles.csv"
        " --item product --out hm",
        folder,
    )
    run("c2rec-train fit hm --out hm-run --valid-days 3 --test-days 5 --seed 1", folder)
    run("c2rec-export bundle hm-run --out hm-bundle", folder)
    run("c2rec-kiosk --home hm-kiosk install hm-bundle", folder)
    return folder


@pytest.fixture(scope="module")
def evaluation(workplace: Path) -> Any:  # parsed JSON
    return json.loads(run("c2rec-train evaluate hm-run --json", workplace))


def test_the_import_is_clean(workplace: Path) -> None:
    facts = json.loads(run("c2rec-train validate hm --json", workplace))["facts"]
    assert facts["customers"] == 2852
    assert facts["customers_in_both_channels"] == 1131


def test_the_evaluation_has_the_documented_shape(evaluation: Any) -> None:
    slices = {"with_repeats", "whole", "new_items", "new_customers"}
    others = {"schema", "k", "channels", "baselines", "cold", "held_out", "diagnosis"}
    assert set(evaluation) == others | slices
    assert evaluation["held_out"] is None
    assert all(set(evaluation[name]) == {"channels", "baselines"} for name in slices)
    for channels in (evaluation["channels"], *evaluation["baselines"].values()):
        assert set(channels) == {"offline", "online"}
        for figures in channels.values():
            assert set(figures) == {"customers", "hr", "ndcg", "recall"}
            assert 0 < figures["ndcg"] < figures["hr"] < 1


def test_c2rec_beats_popularity_in_both_channels(evaluation: Any) -> None:
    """For one seed; docs/results.md has the average over three."""
    for channel, times in (("offline", 1.0), ("online", 1.8)):
        ours = evaluation["channels"][channel]["ndcg"]
        assert ours > times * max(
            baseline[channel]["ndcg"] for baseline in evaluation["baselines"].values()
        )


def test_everybody_and_the_whole_catalogue_are_ranked_better_than_by_popularity(
    evaluation: Any,
) -> None:
    for channel in ("offline", "online"):
        whole = evaluation["whole"]["channels"][channel]
        assert whole["customers"] > evaluation["channels"][channel]["customers"]
        for baseline in evaluation["whole"]["baselines"].values():
            assert whole["ndcg"] > baseline[channel]["ndcg"]


def test_the_check_holds_against_the_run(workplace: Path) -> None:
    checked = json.loads(run("c2rec-export check hm-bundle --against hm-run --json", workplace))
    assert checked["ok"]
    assert checked["parity"]["requests"] == 512


def test_the_kiosk_answers_a_customer_a_basket_and_a_stranger(workplace: Path) -> None:
    kiosk = "c2rec-kiosk --home hm-kiosk recommend"
    personal = json.loads(run(f"{kiosk} 0 -k 10 --json", workplace))
    assert (personal["tier"], len(personal["items"])) == ("personal", 10)
    for item in personal["items"]:
        assert sum(item["attention"].values()) == pytest.approx(1, abs=1e-5)
    two = ",".join(item["item_id"] for item in personal["items"][:2])
    basket = json.loads(run(f"{kiosk} --basket {two} --json", workplace))
    assert basket["tier"] == "basket"
    assert not {item["item_id"] for item in basket["items"]} & set(two.split(","))
    stranger = json.loads(run(f"{kiosk} nobody --channel online --json", workplace))
    assert (stranger["tier"], stranger["channel"]) == ("store-popular", "online")
    status = json.loads(run("c2rec-kiosk --home hm-kiosk status --json", workplace))
    assert status["release"] == personal["release"]


def test_rules_stock_and_wishes_are_obeyed_exactly(workplace: Path) -> None:
    shutil.copytree(workplace / "hm-kiosk", workplace / "hm-rules")
    assert check(workplace / "hm-rules", customers=20) > 50
