"""Online scores from a table of another platform, and from a run."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import time_machine
from click.testing import CliRunner

from c2rec.export.bundle import calibration, space_of_run, stores_of, write_bundle
from c2rec.export.cli import cli
from c2rec.export.garbage import collect_garbage
from c2rec.export.keys import Keys, make_keys
from c2rec.export.online_lists import OnlineLists
from c2rec.export.online_run import lists_of_run
from c2rec.export.online_table import lists_of_table
from c2rec.export.publish import publish
from c2rec.export.signed import open_repository
from c2rec.export.tombstones import add_tombstones
from c2rec.runtime.errors import DataError, PublishError
from c2rec.runtime.ranking import top_k
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.records import CHANNELS, Channel
from c2rec.runtime.release.bundle import read_bundle
from c2rec.runtime.release.manifest import parse_manifest
from c2rec.runtime.sync.sync import sync
from c2rec.train.batches import PurchaseIndex
from c2rec.train.loop import ModelRanker
from c2rec.train.metrics import Wanted
from c2rec.train.probability import fit_platt
from c2rec.train.run import Run
from c2rec.train.split import all_history
from tests.enrolled import enrol, lists_for, publish_lists
from tests.release import make_release
from tests.repositories import Head, make_head
from tests.test_export import fitted

ROWS = [("b", "x", 2, 0.2), ("b", "y", 1, 0.4), ("a", "x", 1, 0.3)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def table(path: Path, *, ranks: bool = True, chances: bool = True) -> Path:
    rows = pl.DataFrame(ROWS, ["customer_id", "item_id", "rank", "probability"], orient="row")
    rows = rows.drop([*([] if ranks else ["rank"]), *([] if chances else ["probability"])])
    rows.write_parquet(path) if path.suffix == ".parquet" else rows.write_csv(path)
    return path


def listed(lists: OnlineLists, customer: str) -> list[tuple[str, float]]:
    row = lists.customer_ids.index(customer)
    part = slice(*lists.offsets[row : row + 2])
    names = [lists.item_ids[item] for item in lists.items[part].tolist()]
    return list(zip(names, lists.probabilities[part].round(6).tolist(), strict=True))


# --- tables


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(("ranks", "chances"), [(True, True), (True, False), (False, True)])
def test_a_table_of_ranks_or_probabilities_becomes_lists(
    tmp_path: Path, suffix: str, ranks: bool, chances: bool
) -> None:
    found = lists_of_table(
        table(tmp_path / f"lists.{suffix}", ranks=ranks, chances=chances), top=100
    )
    (x, p), (y, q) = ("y", 0.4 * chances), ("x", 0.2 * chances)
    assert [item for item, _ in listed(found.lists, "b")] == [x, y]
    assert [chance for _, chance in listed(found.lists, "b")] == pytest.approx([p, q])
    assert [name for name, _ in listed(found.lists, "a")] == ["x"]
    assert found.lists.stores == [["all"], ["all"]]
    assert found.as_of is None


def test_equal_probabilities_are_listed_by_item_id(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", ["customer_id,item_id,probability", "a,z,.5", "a,k,.5"])
    assert [item for item, _ in listed(lists_of_table(path, top=9).lists, "a")] == ["k", "z"]


def test_a_list_is_cut_to_the_top(tmp_path: Path) -> None:
    found = lists_of_table(table(tmp_path / "l.csv"), top=1)
    assert [item for item, _ in listed(found.lists, "b")] == ["y"]


def test_a_table_tells_stores_and_the_oldest_time(tmp_path: Path) -> None:
    lines = ["customer_id,item_id,rank,store_id,as_of"]
    lines += ["a,x,1,s7,2026-01-02T08:00Z", "b,x,1,,2026-01-01T08:00Z"]
    found = lists_of_table(write(tmp_path / "l.csv", lines), top=9)
    assert found.lists.stores == [["s7"], ["all"]]
    assert found.as_of == datetime(2026, 1, 1, 8, tzinfo=UTC)


def test_a_bundle_tells_stores_and_who_is_of_none_is_left_out(tmp_path: Path) -> None:
    stores = [["s1", "s2"], [], *[["s3"]] * 28]
    made = make_release(tmp_path / "bundle", stores=stores)
    lines = ["customer_id,item_id,rank", "c000000,x,1", "c000001,x,1", "stranger,x,1"]
    path = write(tmp_path / "l.csv", lines)
    found = lists_of_table(path, top=9, stores=read_bundle(made.folder))
    assert found.lists.stores == [["s1", "s2"], [], []]


def test_purchases_come_with_the_lists_and_without(tmp_path: Path) -> None:
    lines = ["customer_id,item_id,timestamp"]
    lines += ["b,w,2026-01-01T10:00Z", "c,x,2026-01-01T09:00Z", "b,x,2026-01-01T08:00Z"]
    bought = write(tmp_path / "bought.csv", lines)
    found = lists_of_table(table(tmp_path / "l.csv"), top=9, bought=bought).lists
    assert found.customer_ids == ["a", "b", "c"]
    assert found.bought_offsets.tolist() == [0, 0, 2, 3]
    assert [found.item_ids[item] for item in found.bought_items] == ["x", "w", "x"]
    eight = int(datetime(2026, 1, 1, 8, tzinfo=UTC).timestamp())
    assert found.bought_at.tolist() == [eight, eight + 7200, eight + 3600]
    assert listed(found, "c") == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["customer_id,item_id", "a,x"], "neither a column 'rank' nor 'probability'"),
        (["customer_id,item_id,rank", "a,x,0"], r"row 1 \(line 2\): rank is '0'; allowed: a whole"),
        (["customer_id,item_id,rank", "a,x,1.5"], "rank is '1.5'"),
        (["customer_id,item_id,rank", "a,x,1001"], "rank is '1001'"),
        (["customer_id,item_id,rank", "a,x,"], "rank is empty"),
        (
            ["customer_id,item_id,rank", "a,x,1", "a,y,1"],
            r"row 2 .*allowed: a rank once",
        ),
        (["customer_id,item_id,rank", "a,x,1", "a,x,2"], "an item once in a list"),
        (["customer_id,item_id,rank", ",x,1"], "customer_id is empty"),
        (["customer_id,item_id,rank", "a,x,1,7"], "4 fields"),
        (["customer_id,item_id,probability", "a,x,1.01"], "probability is '1.01'"),
        (["customer_id,item_id,probability", "a,x,0"], "above 0 and up to 1"),
        (["customer_id,item_id,probability", "a,x,nan"], "probability is 'nan'"),
        (["customer_id,item_id,rank,as_of", "a,x,1,yesterday"], "as_of is 'yesterday'"),
        (["customer_id,item_id,rank,store_id", "a,x,1,s", "a,y,2,t"], "the same in all rows"),
    ],
)
def test_bad_rows_are_refused_by_file_row_and_column(
    tmp_path: Path, lines: list[str], said: str
) -> None:
    with pytest.raises(DataError, match=said) as error:
        lists_of_table(write(tmp_path / "lists.csv", lines), top=100)
    assert "lists.csv" in str(error.value)


# --- runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fitted(tmp_path_factory.mktemp("run"), "history")


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fitted(tmp_path_factory.mktemp("table"), "table")


def newer_data(run: Run, folder: Path) -> tuple[Path, str, str]:
    """A dataset in which one customer buys one item online, the day after; both are told."""
    old = run.data.dataset.transactions
    last = old["timestamp"].max()
    assert isinstance(last, datetime)
    customer = old.filter(pl.col("channel") == "offline")["customer_id"][0]
    owned = set(old.filter(pl.col("customer_id") == customer)["item_id"])
    item = next(each for each in run.data.split.vocabulary.item_ids if each not in owned)
    folder.mkdir()
    pl.DataFrame(
        {
            "customer_id": [customer],
            "item_id": [item],
            "channel": ["online"],
            "timestamp": [last + timedelta(days=1)],
        }
    ).write_parquet(folder / "transactions.parquet")
    return folder, customer, item


@pytest.mark.parametrize("kind", ["run", "table_run"])
@pytest.mark.parametrize("channel", CHANNELS)
def test_a_run_lists_what_its_model_ranks_first(
    kind: str, channel: Channel, request: pytest.FixtureRequest
) -> None:
    run: Run = request.getfixturevalue(kind)
    made, here = lists_of_run(run, top=7, channel=channel), CHANNELS.index(channel)
    items, ids = run.data.index.items, run.data.split.vocabulary.item_ids
    customers, purchases = all_history(run.data.dataset, ids)
    index = PurchaseIndex(purchases, customers=len(customers), items=items)
    known = index if kind == "run" else run.data.index
    for row in range(0, len(made.lists.customer_ids), 40):
        customer = made.lists.customer_ids[row]
        scores = ModelRanker(run.model, known).scores(np.array([row]), here)
        owned, _ = index.of(np.array([customers.index(customer)]))
        bought = purchases.items[owned[purchases.channels[owned] == here]]
        scores[0, bought] = -np.inf
        expected = [ids[each] for each in top_k(scores, 7)[0].tolist()]
        assert [item for item, _ in listed(made.lists, customer)] == expected


def test_the_probabilities_of_a_run_are_calibrated_and_fall_along_a_list(run: Run) -> None:
    found = lists_of_run(run, top=5).lists
    chances = found.probabilities.reshape(-1, 5)
    assert (np.diff(chances, axis=1) <= 0).all()
    assert 0 < chances.min() <= chances.max() < 1


def test_a_new_purchase_online_is_told_and_changes_the_list(run: Run, tmp_path: Path) -> None:
    newer, customer, item = newer_data(run, tmp_path / "newer")
    before = lists_of_run(run, top=20)
    after = lists_of_run(run, top=20, newer=newer)
    row = after.lists.customer_ids.index(customer)
    bought = after.lists.bought_items[slice(*after.lists.bought_offsets[row : row + 2])]
    assert item in [after.lists.item_ids[each] for each in bought]
    assert listed(after.lists, customer) != listed(before.lists, customer)
    for_online = lists_of_run(run, top=20, newer=newer, channel="online").lists
    assert item not in [each for each, _ in listed(for_online, customer)]
    assert after.about.as_of > before.about.as_of
    assert after.about.space == before.about.space


def test_a_table_of_customers_takes_no_new_purchases(table_run: Run, tmp_path: Path) -> None:
    newer, _, _ = newer_data(table_run, tmp_path / "newer")
    with pytest.raises(PublishError, match="a table of customers"):
        lists_of_run(table_run, newer=newer)


def test_a_bundle_says_the_space_and_the_calibration_of_its_run(run: Run, tmp_path: Path) -> None:
    manifest = write_bundle(run, tmp_path / "bundle", check=lambda _: None)
    assert manifest.space == space_of_run(run)
    assert manifest.calibration == calibration(run) is not None
    assert parse_manifest((tmp_path / "bundle" / "manifest.json").read_text()) == manifest


# --- calibration


class Fixed:
    """Scores that are known."""

    def __init__(self, scores: np.ndarray) -> None:
        self._scores = scores

    def scores(self, customers: np.ndarray, channel: int) -> np.ndarray:
        del channel
        found: np.ndarray = self._scores[customers].astype(np.float32)
        return found


def drawn(run: Run, chance: Callable[[np.ndarray], np.ndarray]) -> tuple[Fixed, Wanted]:
    """Scores of everybody, and purchases drawn from them."""
    rng, items, n = np.random.default_rng(5), run.data.index.items, 300
    scores = rng.normal(0, 2, (n, items))
    bought = rng.uniform(size=scores.shape) < chance(scores)
    customers, columns = np.nonzero(bought)
    index = PurchaseIndex(run.data.index.purchases, customers=n, items=items)
    owners, targets = np.unique(customers, return_counts=True)
    everything = np.ones(items, bool)
    wanted = Wanted(
        owners, targets, customers * items + columns, index, 0, new_only=False, listed=everything
    )
    return Fixed(scores), wanted


def test_a_calibration_finds_the_probabilities_that_purchases_were_drawn_from(run: Run) -> None:
    found = fit_platt(*drawn(run, lambda s: 1 / (1 + np.exp(-(0.8 * s - 2.5)))))
    assert found is not None
    assert found.slope == pytest.approx(0.8, abs=0.08)
    assert found.intercept == pytest.approx(-2.5, abs=0.15)


def test_scores_that_are_bought_less_the_greater_they_are_have_no_calibration(run: Run) -> None:
    assert fit_platt(*drawn(run, lambda s: 1 / (1 + np.exp(0.8 * s + 2.5)))) is None


def test_nothing_bought_is_no_calibration(run: Run) -> None:
    ranker, wanted = drawn(run, lambda s: np.zeros(s.shape))
    assert fit_platt(ranker, wanted) is None


# --- publishing


def test_erased_customers_and_those_of_no_store_are_left_out(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", passphrase=None)
    head = Head(tmp_path, keys)
    head.publish()
    with open_repository(head.repo, keys) as repository:
        add_tombstones(repository, keys, ["c000003"])
        repository.commit()
    lists = lists_for(["c000003", "c000004", "c000005"], items=["i000001"])
    lists = replace(lists, stores=[["all"], ["all"], []])
    assert publish_lists(head, lists) == 1
    kiosk = enrol(head, tmp_path / "home")
    sync(kiosk.home)
    recommender = Recommender.open(kiosk.home)
    ages = [recommender.recommend(each).online_age_s for each in lists.customer_ids]
    recommender.close()
    assert [age is not None for age in ages] == [False, True, False]


def test_a_store_with_many_customers_gets_shards_of_the_right_size(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", passphrase=None)
    head = Head(tmp_path, keys)
    head.publish()
    everybody = [f"v{n:06}" for n in range(30_000)]
    publish_lists(head, lists_for(everybody))
    sizes = [path.stat().st_size for path in (head.repo / "blob").iterdir()]
    assert 500_000 < max(sizes) < 4_000_000
    kiosk = enrol(head, tmp_path / "home")
    assert sync(kiosk.home).warnings == []
    recommender = Recommender.open(kiosk.home)
    assert all(recommender.recommend(v).path == "rank-fusion" for v in everybody[::5000])
    recommender.close()


def test_garbage_is_collected_around_online_scores(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    for _ in range(2):
        publish_lists(head, lists_for(["c000004"]))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with time_machine.travel(tomorrow), open_repository(head.repo, head.keys) as opened:
        assert collect_garbage(opened, grace_days=0).files > 0
    kiosk = enrol(head, tmp_path / "home")
    assert sync(kiosk.home).warnings == []
    recommender = Recommender.open(kiosk.home)
    assert recommender.recommend("c000004").path == "rank-fusion"
    recommender.close()


@pytest.fixture
def head(run: Run, tmp_path: Path) -> Head:
    head = Head(tmp_path, make_keys(tmp_path / "keys", passphrase=None))
    write_bundle(run, tmp_path / "bundle", check=lambda _: None)
    publish(tmp_path / "bundle", head.repo, head.keys)
    return head


def command(head: Head, *arguments: str) -> tuple[int, str]:
    keys: Keys = head.keys
    result = CliRunner().invoke(
        cli, ["online-scores", *arguments, "--keys", str(keys.folder)], catch_exceptions=False
    )
    return result.exit_code, result.stdout or result.stderr


def test_the_command_publishes_a_run_and_the_kiosk_blends(head: Head, run: Run) -> None:
    newer, customer, item = newer_data(run, head.folder / "newer")
    code, said = command(
        head, str(run.folder), str(head.repo), "--newer", str(newer), "--ttl", "8000"
    )
    assert code == 0, said
    ((store, *_),) = stores_of(run.data.dataset.transactions, [customer])
    kiosk = enrol(head, head.folder / "home", store=store)
    sync(kiosk.home)
    recommender = Recommender.open(kiosk.home)
    answer = recommender.recommend(customer, k=80)
    recommender.close()
    assert answer.tier == "personal"
    assert item not in [each.item_id for each in answer.items]
    assert answer.online_as_of is not None
    with open_repository(head.repo, head.keys) as repository:
        content = repository.read_target("scores/index.json")
    assert content is not None
    assert json.loads(content)["space"] == space_of_run(run)


def test_the_command_publishes_a_table(head: Head) -> None:
    path = table(head.folder / "lists.csv")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    code, said = command(head, str(path), str(head.repo), "--as-of", now, "--json")
    assert code == 0, said
    document = json.loads(said.strip().splitlines()[-1])
    assert (document["seq"], document["customers"], document["shards"]) == (1, 2, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "has no column as_of"),
        (["--newer", "x"], "--newer is for a RUN"),
        (["--half-life", "nan"], "not a number"),
        (["--top", "0"], "not in the range"),
    ],
)
def test_options_that_do_not_fit_are_refused(head: Head, arguments: list[str], said: str) -> None:
    path = table(head.folder / "lists.csv")
    code, text = command(head, str(path), str(head.repo), *arguments)
    assert (code, said in text) == (2, True), text
