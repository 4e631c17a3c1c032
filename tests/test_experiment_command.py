"""c2rec-train experiment as its users meet it: from kiosks' events to an answer, or to none."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from c2rec.runtime.errors import C2RecError
from c2rec.runtime.events.events import Event, EventItem
from c2rec.runtime.events.inbox import FolderInbox
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.push import send
from c2rec.runtime.home.identity import pseudonym
from c2rec.train.cli import cli
from tests.experiment_stores import Stores
from tests.offices import make_office

PAGE = (Path(__file__).parent.parent / "docs" / "experiment-report.md").read_text()


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def answer(*arguments: str | Path) -> dict[str, Any]:
    result = call("experiment", *arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def failure(*arguments: str | Path) -> str:
    """The message of an error of ours."""
    result = call("experiment", *arguments)
    assert isinstance(result.exception, C2RecError), result.output
    return str(result.exception)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "experiment"
    arguments = ["--customers", "6000", "--days", "70", "--effect", "0.5", "--seed", "1"]
    result = call("simulate-experiment", "--out", folder, *arguments)
    assert result.exit_code == 0, result.output
    return folder


def test_a_found_effect_is_told_in_words_and_figures(simulated: Path) -> None:
    arguments = (simulated / "collected", "--data", simulated / "data", "--effect", "0.4")
    document = answer(*arguments)
    assert document["schema"] == 1
    assert document["experiment"] == "simulated"
    assert document["conclusion"] == [
        {"metric": "conversion", "arm": "challenger", "against": "main", "verdict": "better"}
    ]
    metrics = {each["metric"]: each for each in document["metrics"]}
    assert set(metrics) == {"conversion", "cross_channel", "online", "retention"}
    (compared,) = metrics["conversion"]["comparisons"]
    assert 1 < compared["ratio"]["low"] < 1.5 < compared["ratio"]["high"]
    assert compared["difference"]["low"] > 0
    assert compared["p"] == compared["p_adjusted"] < 0.05
    assert [each["arm"] for each in metrics["conversion"]["arms"]] == ["main", "challenger"]
    text = call("experiment", *arguments).output
    assert "challenger is better than main in conversion" in text
    assert "change nothing: the question was asked once" in text


def test_what_the_document_shows_is_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block, *_), (shown, *_) = (
        re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        for language in ("sh", "text")
    )
    monkeypatch.chdir(tmp_path)
    results = [call(*line.removeprefix("c2rec-train ").split()) for line in block.splitlines()]
    assert results[-1].stdout.startswith(shown.removesuffix("…\n"))


def test_too_little_says_how_many_and_how_long(simulated: Path) -> None:
    document = answer(simulated / "collected", "--effect", "0.1")
    assert document["conclusion"] is None
    plan = document["plan"]
    assert plan["needed"]["main"] > plan["followed"]["main"] > 1000
    assert plan["days_left"] > 10
    assert all(each["comparisons"] == [] for each in document["metrics"])
    assert all(each["interval"] == "always-valid" for each in document["metrics"])
    assert set(document["unavailable"]) == {"cross_channel", "online"}
    text = call("experiment", simulated / "collected", "--effect", "0.1").output
    line = f"main {plan['followed']['main']:,} of {plan['needed']['main']:,}"
    assert f"Too little to conclude: {line}" in text
    assert f"about {plan['days_left']:,} days more" in text
    assert "difference" not in text


def test_arms_that_lose_customers_are_no_ground(simulated: Path) -> None:
    document = answer(
        simulated / "collected", "--effect", "0.4", "--share", "main=0.6", "--share",
        "challenger=0.4",
    )  # fmt: skip
    assert document["conclusion"] is None
    assert document["share_mismatch"]["mismatched"]
    assert "Nothing can be concluded: the arms don't have the customers" in document["sentences"][0]


def test_a_known_baseline_fixes_the_size_from_the_first_day(simulated: Path) -> None:
    document = answer(simulated / "collected", "--effect", "0.1", "--baseline", "0.1")
    assert document["plan"]["needed"] == {"main": 14_751, "challenger": 14_751}


def test_events_of_real_kiosks_are_judged(tmp_path: Path) -> None:
    """Recorded, sent, collected, joined with the shop's purchases by id, and told of."""
    office = make_office(tmp_path)
    outbox = Outbox(tmp_path / "k1", office.keys.identity("S1", "k1"))
    table = tmp_path / "customers.csv"
    table.write_text("customer_id\n" + "\n".join(f"C{n}" for n in range(60)) + "\n")
    for n in range(60):
        who = pseudonym(office.keys.customer_key, f"C{n}").hex()
        arm = f"spring/{'main' if n % 2 else 'own'}"
        outbox.record(Event(kind="shown", items=(EventItem(item="A"),), customer=who, arm=arm))
        if n % 3 == 0:
            item = EventItem(item="A", quantity=1, price=2.0)
            outbox.record(Event(kind="bought", items=(item,), customer=who, arm=arm))
    assert send(outbox, FolderInbox(office.inbox)).error is None
    outbox.close()
    from c2rec.export.collect import read_customers

    office.collect(customers=read_customers(table, office.keys.customer_key))
    impressions = pl.read_parquet(office.out / "impressions.parquet")
    assert impressions["impossible"].to_list() == [False] * 80
    latest = impressions["timestamp"].max()
    assert isinstance(latest, datetime)
    data = tmp_path / "data"
    data.mkdir()
    pl.DataFrame(
        {
            "customer_id": [f"C{n}" for n in range(0, 60, 4)],
            "item_id": ["A"] * 15,
            "channel": ["online"] * 15,
            "timestamp": [latest + timedelta(hours=1)] * 15,
        }
    ).write_parquet(data / "transactions.parquet")
    document = answer(office.out, "--data", data)
    assert document["arms"] == [
        {"arm": "main", "customers": 30, "share": 0.5},
        {"arm": "own", "customers": 30, "share": 0.5},
    ]
    assert document["conclusion"] is None
    assert document["plan"]["followed"] == {"main": 0, "own": 0}, "no kiosk has told of a day yet"
    assert "of 0 customers who were followed" in document["sentences"][0]


def stores_of(count: int = 6, **fields: Any) -> Stores:
    """Customers in two arms."""
    stores = Stores()
    for n in range(count):
        stores.event(n, f"C{n}", arm=f"spring/{'main' if n % 2 else 'b'}", **fields)
    stores.bought = [stores.sale(1, "C0")]
    return stores


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("arm"), "column 'arm' is missing"),
        (lambda t: t.drop("impossible"), "column 'impossible' is missing"),
        (lambda t: t.rename({"customer_id": "customer"}), "rename 'customer' if that is it"),
        (lambda t: t.clear(), "has no rows"),
        (lambda t: t.with_columns(arm=pl.lit(None, pl.String)), "no event has an arm"),
        (
            lambda t: t.with_columns(arm=pl.lit("main")),
            "row 1: arm is 'main'; allowed: experiment/",
        ),
        (lambda t: t.with_columns(arm=pl.lit("a b/main")), "row 1: arm is 'a b/main'; allowed"),
        (lambda t: t.with_columns(arm=pl.lit(float("nan"))), "column 'arm' is Float64; allowed"),
        (lambda t: t.with_columns(kind=pl.lit("seen")), "row 1: kind is 'seen'; allowed: shown or"),
        (lambda t: t.with_columns(customer_id=pl.lit(" C1")), "row 1: customer_id is ' C1'"),
        (lambda t: t.with_columns(item_id=pl.lit("")), "row 1: item_id is empty; allowed: text"),
        (lambda t: t.with_columns(timestamp=pl.lit("soon")), "row 1: timestamp is 'soon'; allowed"),
        (lambda t: t.with_columns(timestamp=pl.lit(1.5)), "column 'timestamp' is Float64"),
        (lambda t: t.with_columns(impossible=pl.lit(1)), "column 'impossible' is Int32; allowed"),
        (lambda t: t.with_columns(event_id=pl.lit("e")), "arm is 'spring/main'; allowed: the same"),
        (lambda t: t.with_columns(arm=pl.lit("spring/main")), "there is one arm, main; allowed: 2"),
        (
            lambda t: t.with_columns(arm=pl.format("spring/a{}", pl.int_range(pl.len()))),
            "there are 30 arms; allowed: 2 to 20",
        ),
        (
            lambda t: t.with_columns(customer_id=pl.lit(None, pl.String)),
            "30 showings have an arm, 30 of them to nobody known",
        ),
        (
            lambda t: t.with_columns(kind=pl.lit("tapped")),
            "no customer was shown anything in an arm",
        ),
        (lambda t: t.with_columns(arm=pl.col("arm").str.replace("main", "x")), "has the arm main"),
    ],
)
def test_events_that_cannot_be_used_are_told(tmp_path: Path, change: Any, message: str) -> None:
    collected, _ = stores_of(30).write(tmp_path)
    path = collected / "impressions.parquet"
    change(pl.read_parquet(path)).write_parquet(path)
    text = failure(collected)
    assert message in text
    assert "impressions.parquet" in text or "arm" in text


def test_a_folder_that_collect_did_not_write_is_told(tmp_path: Path) -> None:
    assert "has to be a folder that c2rec-export collect INBOX OUT wrote" in failure(tmp_path)
    (tmp_path / "impressions.parquet").write_bytes(b"PAR1 or so")
    assert "can't be read as Parquet" in failure(tmp_path)
    collected, _ = stores_of().write(tmp_path / "other")
    (collected / "transactions.parquet").unlink()
    assert "has no transactions.parquet" in failure(collected)


def test_a_dataset_of_other_people_or_times_is_told(tmp_path: Path) -> None:
    stores = stores_of(120)
    stores.data = [stores.sale(2, "somebody"), stores.sale(3, "else", channel="online")]
    collected, data = stores.write(tmp_path)
    text = failure(collected, "--data", data)
    assert "none of the 120 customers of the experiment has a purchase" in text
    assert "--customers" in text
    stores.data = [stores.sale(24 * 365 * 30, "C1")]
    stores.write(tmp_path)
    assert "1 purchases are in the future" in failure(collected, "--data", data)


def test_no_purchase_at_all_is_no_conversion_but_may_be_retention(tmp_path: Path) -> None:
    stores = stores_of()
    stores.bought = []
    collected, _ = stores.write(tmp_path)
    assert "conversion can't be told: no purchase of a known customer" in failure(collected)
    assert answer(collected, "--primary", "retention")["conclusion"] is None
    assert "cross_channel can't be told: it needs purchases online" in failure(
        collected, "--primary", "cross_channel"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--share", "main"], "'main' is no share; allowed: ARM=SHARE"),
        (["--share", "main=nan"], "'main=nan' is no share"),
        (["--share", "main=1"], "a share between 0 and 1"),
        (["--share", "main=0.5", "--share", "main=0.5"], "'main' has two shares"),
        (["--effect", "nan"], "is not a number"),
        (["--effect", "0"], "0.001<=x<=10"),
        (["--baseline", "0.6", "--effect", "0.7"], "is more than everybody; allowed: less than"),
        (["--primary", "revenue"], "'revenue' is not one of"),
        (["--attribution-hours", "0"], "1<=x<=8760"),
    ],
)
def test_options_that_cannot_be_are_wrong_usage(
    tmp_path: Path, options: list[str], message: str
) -> None:
    collected, _ = stores_of().write(tmp_path)
    result = call("experiment", collected, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--share", "main=0.5", "--share", "c=0.5"], "--share c=0.5: no customer has this arm"),
        (["--share", "main=0.5"], "arm b has no --share; say one for each of: main, b"),
        (["--share", "main=0.5", "--share", "b=0.4"], "the shares add up to 0.9; allowed: 1"),
        (["--control", "c"], "no customer has the arm c; say --control with one of: b, main"),
        (["--name", "summer"], "has no experiment 'summer'; it has: spring"),
    ],
)
def test_a_plan_that_does_not_fit_the_events_is_told(
    tmp_path: Path, options: list[str], message: str
) -> None:
    collected, _ = stores_of().write(tmp_path)
    assert message in failure(collected, *options)


def test_an_event_told_twice_counts_once(tmp_path: Path) -> None:
    collected, _ = stores_of(40).write(tmp_path)
    path = collected / "impressions.parquet"
    once = answer(collected)
    table = pl.read_parquet(path)
    pl.concat([table, table]).write_parquet(path)
    assert answer(collected) == once


def test_what_has_to_be_looked_into_is_told(tmp_path: Path) -> None:
    stores = stores_of(20)
    stores.event(30, "C1", arm="spring/b")
    stores.event(31, None)
    stores.event(0, "C3", impossible=True)
    stores.event(24 * 365 * 30, "C5")
    collected, data = stores.write(tmp_path)
    document = answer(collected)
    assert document["left_out"] == {
        "customers_in_two_arms": 1,
        "showings_to_nobody_known": 1,
        "rows_with_an_impossible_time": 1,
        "rows_in_the_future": 1,
    }
    assert len(document["warnings"]) == 4
    assert "did the shares change" in document["warnings"][0]
    stores.data = [stores.sale(1, "C2")]
    stores.write(tmp_path)
    assert "only 1 of 20 customers" in answer(collected, "--data", data)["warnings"][-1]


def test_a_dataset_that_ends_before_the_kiosks_do_is_told(tmp_path: Path) -> None:
    """Else nobody would know why no customer was followed."""
    stores = stores_of(20)
    stores.event(72, "C1")
    stores.data = [stores.sale(-24, f"C{n}") for n in range(20)]
    stores.data += [stores.sale(71, f"C{n}", channel="online") for n in range(20)]
    collected, data = stores.write(tmp_path)
    document = answer(collected, "--data", data)
    assert document["plan"]["followed"] == {"main": 0, "b": 0}
    (warning,) = (each for each in document["warnings"] if "dataset" in each)
    assert "purchases in stores end on 1 Mar 2026, and kiosks tell of later days" in warning
    stores.data.append(stores.sale(25, "C1"))  # 47 hours behind
    stores.write(tmp_path)
    document = answer(collected, "--data", data)
    assert not any("dataset" in each for each in document["warnings"])


def test_a_simulated_experiment_replaces_nothing_unasked(tmp_path: Path) -> None:
    arguments = ("simulate-experiment", "--out", tmp_path, "--customers", "50", "--days", "5")
    assert call(*arguments).exit_code == 0
    again = call(*arguments)
    assert isinstance(again.exception, C2RecError)
    assert "is there already; choose another --out, or add --force" in str(again.exception)
    assert call(*arguments, "--force").exit_code == 0
    impossible = call(*arguments, "--force", "--baseline", "0.9", "--effect", "1")
    assert "make 1.8; allowed: 0 to 1" in str(impossible.exception)
