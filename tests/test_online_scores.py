"""Online scores from head office to the answer of a kiosk."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from c2rec.export.keys import Keys
from c2rec.export.online_lists import OnlineLists
from c2rec.export.publish import publish
from c2rec.export.signed import open_repository
from c2rec.runtime.errors import ReleaseError, SyncError
from c2rec.runtime.home.identity import Identity, pseudonym
from c2rec.runtime.home.state import changing_state, mark_bad, read_tables
from c2rec.runtime.reasons import ONLINE
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.flip import SPARE_BYTES
from c2rec.runtime.release.manifest import ChannelCalibration, Manifest, parse_manifest
from c2rec.runtime.rules.options import Options
from c2rec.runtime.serving.online import BLEND_WEIGHT, FUSION_WEIGHT, blend, fuse_ranks, log_odds
from c2rec.runtime.sync.documents import BlobRef
from c2rec.runtime.sync.online_documents import (
    OnlineScores,
    ScoresRef,
    parse_online_scores,
    parse_scores_index,
    scores_index_json,
)
from c2rec.runtime.sync.online_file import ScoresFile
from c2rec.runtime.sync.online_shards import ScoresShard, decode_scores, encode_scores
from c2rec.runtime.sync.online_store import build_scores
from c2rec.runtime.sync.sync import sync
from tests.enrolled import AS_OF, Kiosk, enrol, lists_for, publish_lists
from tests.release import Release, make_release, reseal
from tests.repositories import Head, make_head

CUSTOMER = "c000005"
OFFLINE = ChannelCalibration(1.5, -4.0)
CALIBRATION = {"offline": OFFLINE._asdict(), "online": {"slope": 1.0, "intercept": -4.0}}
LIST = ["i000030", "i000002", "no such item", "i000017"]
CHANCES = [0.9, 0.5, 0.4, 0.3]


# --- documents and shards


def document(**changes: object) -> OnlineScores:
    base = OnlineScores(
        seq=7,
        model="m",
        space=None,
        channel="offline",
        as_of=AS_OF,
        issued_at=AS_OF,
        half_life_hours=24,
        ttl_hours=72,
        indexes=(BlobRef("0" * 64, 1),),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_a_document_comes_back_as_written() -> None:
    for each in (document(), document(space="ab" * 32, half_life_hours=0.5)):
        assert parse_online_scores(each.to_json().encode()) == each


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("seq", 0, "whole number from 1"),
        ("channel", "store", "offline or online"),
        ("space", "short", "64 lower-case hex digits"),
        ("as_of", "2999-01-01T00:00:00Z", "up to issued_at"),
        ("half_life_hours", 0, "a number from 0.01"),
        ("ttl_hours", float("nan"), "a number from 0.01"),
        ("indexes", [], "at least one blob"),
        ("format", 2, "newer"),
    ],
)
def test_a_document_that_can_not_be_so_is_refused(field: str, value: object, said: str) -> None:
    fields = json.loads(document().to_json()) | {field: value}
    with pytest.raises(ReleaseError, match=said):
        parse_online_scores(json.dumps(fields).encode())


def test_an_index_of_other_scores_is_refused() -> None:
    refs = [ScoresRef(0, 1, 2, BlobRef("0" * 64, 1))]
    text = scores_index_json(7, {"s1": refs}).encode()
    assert parse_scores_index(text, seq=7) == {"s1": tuple(refs)}
    with pytest.raises(ReleaseError, match="seq is 7; allowed: 8"):
        parse_scores_index(text, seq=8)
    with pytest.raises(ReleaseError, match="each bucket once"):
        parse_scores_index(scores_index_json(7, {"s1": refs * 2}).encode(), seq=7)


def shard_of(lists: OnlineLists, keys: Keys) -> ScoresShard:
    names = [pseudonym(keys.customer_key, each) for each in lists.customer_ids]
    rows = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    ids = np.frombuffer(b"".join(names), np.uint8).reshape(-1, 16)[rows]
    return lists.shard(rows, ids, seq=1, store="all", bucket=0, buckets=1)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Head:
    return make_head(tmp_path_factory.mktemp("head"))


def test_a_shard_comes_back_as_written(head: Head) -> None:
    shard = shard_of(lists_for(["a", "b", "c"], items=LIST, bought=[("x", 5)]), head.keys)
    found = decode_scores(encode_scores(shard), name="s")
    assert (found.item_ids, found.seq, found.store) == (shard.item_ids, 1, "all")
    for name in ("ids", "offsets", "items", "probabilities", "bought_items", "bought_at"):
        np.testing.assert_array_equal(getattr(found, name), getattr(shard, name))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("probabilities", lambda a: a + 2, "above 1"),
        ("probabilities", lambda a: a - 1, "from 0"),
        ("probabilities", lambda a: a * np.float32(np.nan), "finite"),
        ("items", lambda a: a * 0 + 99, "from 0 to"),
        ("items", lambda a: a * 0, "an item twice"),
        ("offsets", lambda a: a[::-1].copy(), "don't rise"),
        ("bought_offsets", lambda a: a + 1, "don't rise"),
        ("ids", lambda a: a[::-1].copy(), "ascending"),
        ("bought_at", lambda a: a - 10**15, "from 0 to"),
    ],
)
def test_a_shard_that_can_not_be_so_is_refused(
    head: Head, name: str, change: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    shard = shard_of(lists_for(["a", "b"], items=LIST, bought=[("x", 5)]), head.keys)
    changes: dict[str, Any] = {name: change(getattr(shard, name))}
    spoiled = replace(shard, **changes)
    with pytest.raises(ReleaseError, match=said):
        decode_scores(encode_scores(spoiled), name="s")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 40,
        b"\xff" * 100,
        b"\x02\0\0\0\0\0\0\0{}",
        pytest.param(save({}, {"c2rec": "[" * 100_000}), id="deep metadata"),
        pytest.param((100_000).to_bytes(8, "little") + b"[" * 100_000, id="a deep header"),
    ],
)
def test_bytes_that_are_no_shard_are_refused(content: bytes) -> None:
    with pytest.raises(ReleaseError, match=r"^a shard is no shard of online scores: "):
        decode_scores(content, name="a shard")


# --- building


@pytest.fixture
def published(head: Head) -> tuple[OnlineScores, Callable[[BlobRef], bytes]]:
    publish_lists(head, lists_for([f"c{n:06}" for n in range(5)], items=LIST, stores=["s1"]))
    with open_repository(head.repo, head.keys) as repository:
        content = repository.read_target("scores/index.json")
    assert content is not None
    return parse_online_scores(content), lambda blob: (
        head.repo / "blob" / blob.sha256
    ).read_bytes()


def test_a_store_gets_its_own_customers_alone(
    head: Head, published: tuple[OnlineScores, Callable[[BlobRef], bytes]], tmp_path: Path
) -> None:
    for store, known in (("s1", True), ("s2", False)):
        identity = head.identity(store)
        digest = build_scores(*published, identity, tmp_path / f"{store}.db")
        assert len(digest) == 64
        file = ScoresFile(tmp_path / f"{store}.db")
        found = file.customer(_hidden(identity, "c000003"))
        file.close()
        assert (found is not None) == known
        if found is not None:
            assert found.items == LIST


def test_two_builds_are_the_same_bytes(
    head: Head, published: tuple[OnlineScores, Callable[[BlobRef], bytes]], tmp_path: Path
) -> None:
    one, two = (
        build_scores(*published, head.identity("s1"), tmp_path / name) for name in ("1.db", "2.db")
    )
    assert one == two


def test_who_is_erased_is_not_stored(
    head: Head, published: tuple[OnlineScores, Callable[[BlobRef], bytes]], tmp_path: Path
) -> None:
    identity = head.identity("s1")
    gone = _hidden(identity, "c000003")
    build_scores(*published, identity, tmp_path / "1.db", erased=gone.__eq__)
    file = ScoresFile(tmp_path / "1.db")
    assert file.customer(gone) is None
    assert file.customer(_hidden(identity, "c000004")) is not None
    file.close()
    assert gone.encode() not in (tmp_path / "1.db").read_bytes()


def test_an_error_leaves_no_file(
    head: Head, published: tuple[OnlineScores, Callable[[BlobRef], bytes]], tmp_path: Path
) -> None:
    wrong = replace(head.identity("s1"), store_key=bytes(32))
    with pytest.raises(ReleaseError, match="can't be opened with this kiosk's key"):
        build_scores(*published, wrong, tmp_path / "1.db")
    assert list(tmp_path.iterdir()) == []


def _hidden(identity: Identity, customer: str) -> str:
    return pseudonym(identity.customer_key, customer).hex()


# --- the calibration in a manifest


def test_a_manifest_without_a_calibration_is_read(head: Head) -> None:
    manifest = head.releases[0].manifest
    assert manifest.calibration is None
    pair = (ChannelCalibration(1.5, -3.0), ChannelCalibration(2.0, 0.5))
    calibrated = replace(manifest, calibration=pair)
    assert parse_manifest(calibrated.to_json()) == calibrated


@pytest.mark.parametrize("slope", [0, -1, "1", True, None, float("nan")])
def test_a_slope_that_would_turn_rankings_round_is_refused(head: Head, slope: object) -> None:
    fields = json.loads(head.releases[0].manifest.to_json())
    fields["calibration"] = CALIBRATION | {"online": {"slope": slope, "intercept": 0}}
    with pytest.raises(ReleaseError, match=r"calibration\.online\.slope"):
        parse_manifest(json.dumps(fields))


# --- answers


@pytest.fixture
def kiosk(tmp_path: Path) -> Kiosk:
    """Its release is calibrated."""
    head = make_head(tmp_path / "head", publish=False)

    def calibrate(document: dict[str, object]) -> None:
        document["calibration"] = CALIBRATION

    made = make_release(head.folder / "bundle")
    reseal(made.folder, calibrate)
    head.releases.append(replace(made, manifest=manifest_of(made)))
    publish(made.folder, head.repo, head.keys)
    return enrol(head, tmp_path / "home")


def manifest_of(release: Release) -> Manifest:
    return parse_manifest((release.folder / "manifest.json").read_text())


def online(kiosk: Kiosk, **options: object) -> Recommender:
    """Publish a list for one customer, sync, and open what answers."""
    space = options.pop("space", None)
    names = ("ttl_hours", "as_of", "channel")
    said = {name: options.pop(name) for name in names if name in options}
    lists = lists_for([CUSTOMER], items=LIST, probabilities=CHANCES, **options)  # type: ignore[arg-type]
    publish_lists(kiosk.head, lists, space=space, **said)  # type: ignore[arg-type]
    assert sync(kiosk.home).warnings == []
    return Recommender.open(kiosk.home)


def offline_order(kiosk: Kiosk) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores of what may be shown to the customer in the store, by the formula."""
    release = kiosk.head.releases[0]
    row = release.customer_ids.index(CUSTOMER)
    scores, _ = release.score(
        release.customers["components"][row],
        release.customers["has"][row],
        0,
        release.history(row),
    )
    seen = {item for item, channel in release.history(row) if channel == 0}
    order = [each for each in np.argsort(-scores, kind="stable").tolist() if each not in seen]
    return np.array(order), scores.astype(np.float32)


def listed_rows(kiosk: Kiosk, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ids = kiosk.head.releases[0].item_ids
    pairs = [(ids.index(item), place) for place, item in enumerate(LIST, 1) if item in ids]
    kept = [(row, place) for row, place in pairs if row in set(order.tolist())]
    return np.array([row for row, _ in kept]), np.array([place for _, place in kept])


def names(kiosk: Kiosk, rows: np.ndarray) -> list[str]:
    return [kiosk.head.releases[0].item_ids[row] for row in rows.tolist()]


@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_scores_of_the_same_model_are_blended(kiosk: Kiosk, k: int) -> None:
    """As if every item of the catalogue had been merged."""
    recommender = online(kiosk, space=kiosk.head.releases[0].manifest.space)
    answer = recommender.recommend(CUSTOMER, k=k)
    recommender.close()
    order, scores = offline_order(kiosk)
    rows, places = listed_rows(kiosk, order)
    weight = BLEND_WEIGHT * 2 ** -((answer.online_age_s or 0) / 3600 / 24)
    odds = log_odds(np.array(CHANCES, np.float32))
    expected = blend(
        order,
        scores[order],
        rows,
        scores[rows],
        odds[places - 1],
        least=float(odds.min()),
        calibration=OFFLINE,
        weight=weight,
        k=k,
    )
    assert (answer.path, answer.tier) == ("blend", "personal")
    assert [item.item_id for item in answer.items] == names(kiosk, expected.rows)
    np.testing.assert_allclose([i.score for i in answer.items], expected.values, atol=1e-3)


def test_scores_of_the_same_model_for_another_channel_are_joined_by_rank(kiosk: Kiosk) -> None:
    space = kiosk.head.releases[0].manifest.space
    recommender = online(kiosk, space=space, channel="online")
    assert recommender.recommend(CUSTOMER).path == "rank-fusion"
    assert recommender.recommend(CUSTOMER, channel="online").path == "blend"
    recommender.close()


@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_scores_of_another_model_are_joined_by_rank(kiosk: Kiosk, k: int) -> None:
    recommender = online(kiosk)
    answer = recommender.recommend(CUSTOMER, k=k)
    recommender.close()
    order, _ = offline_order(kiosk)
    rows, places = listed_rows(kiosk, order)
    weights = np.full(len(rows), FUSION_WEIGHT * 2 ** -((answer.online_age_s or 0) / 3600 / 24))
    expected = fuse_ranks(order[: k + len(rows)], rows, places, weights=weights, k=k)
    assert answer.path == "rank-fusion"
    assert [item.item_id for item in answer.items] == names(kiosk, expected.rows)


@pytest.mark.parametrize("same_model", [True, False])
@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_rules_hold_for_an_online_list_too(kiosk: Kiosk, k: int, same_model: bool) -> None:
    """A factor counts on both sides: for one that the list has first, for one that it lacks."""
    release = kiosk.head.releases[0]
    factors = np.ones(len(release.item_ids))
    factors[[30, 11]] = 0.01, 20.0
    text = "format = 1\n" + "".join(
        f'[[{kind}]]\nitems = ["i0000{row}"]\nfactor = {factors[row]}\n'
        for kind, row in (("bury", 30), ("boost", 11))
    )
    (kiosk.home / "rules.toml").write_text(text + '[[deny]]\nitems = ["i000017"]\n')
    recommender = online(kiosk, space=release.manifest.space if same_model else None)
    answer = recommender.recommend(CUSTOMER, k=k)
    recommender.close()
    order, scores = offline_order(kiosk)
    raised = scores.astype(np.float64) + np.log(factors) / OFFLINE.slope
    order = np.array(sorted(order[order != 17], key=lambda row: (-raised[row], row)))
    rows, places = listed_rows(kiosk, order)
    share = 2 ** -((answer.online_age_s or 0) / 3600 / 24)
    if same_model:
        odds = log_odds(np.array(CHANCES, np.float32))
        expected = blend(
            order,
            raised[order],
            rows,
            raised[rows],
            odds[places - 1] + np.log(factors[rows]),
            least=float(odds.min()),
            calibration=OFFLINE,
            weight=BLEND_WEIGHT * share,
            k=k,
        )
    else:
        weights = FUSION_WEIGHT * share * factors[rows]
        expected = fuse_ranks(order[: k + len(rows)], rows, places, weights=weights, k=k)
    assert answer.path == ("blend" if same_model else "rank-fusion")
    assert [item.item_id for item in answer.items] == names(kiosk, expected.rows)


def test_an_item_just_below_the_answer_rises_when_both_sides_have_it(kiosk: Kiosk) -> None:
    order, _ = offline_order(kiosk)
    publish_lists(kiosk.head, lists_for([CUSTOMER], items=names(kiosk, order[[1, 2]])))
    sync(kiosk.home)
    recommender = Recommender.open(kiosk.home)
    (item,) = recommender.recommend(CUSTOMER, k=1).items
    recommender.close()
    assert item.item_id == names(kiosk, order)[1]


def test_old_scores_count_for_nothing_and_their_age_is_told(kiosk: Kiosk) -> None:
    recommender = online(kiosk, ttl_hours=2.0, as_of=AS_OF - timedelta(hours=4))
    answer = recommender.recommend(CUSTOMER)
    recommender.close()
    order, _ = offline_order(kiosk)
    assert answer.path == "offline"
    assert [item.item_id for item in answer.items] == names(kiosk, order[:10])
    assert answer.online_age_s is not None
    assert answer.online_age_s >= 4 * 3600
    assert answer.online_as_of is not None


def test_who_has_no_list_is_answered_offline(kiosk: Kiosk) -> None:
    recommender = online(kiosk)
    answer = recommender.recommend("c000006")
    recommender.close()
    assert (answer.path, answer.online_as_of, answer.online_age_s) == ("offline", None, None)


def test_a_newcomer_with_a_list_gets_it_beside_what_sells(kiosk: Kiosk) -> None:
    lists = lists_for(["new"], items=LIST, probabilities=CHANCES)
    publish_lists(kiosk.head, lists)
    sync(kiosk.home)
    recommender = Recommender.open(kiosk.home)
    answer = recommender.recommend("new", k=20)
    recommender.close()
    assert (answer.tier, answer.path) == ("store-popular", "rank-fusion")
    assert "i000030" in [item.item_id for item in answer.items]


def test_what_was_bought_online_this_morning_is_not_shown_this_afternoon(kiosk: Kiosk) -> None:
    order, _ = offline_order(kiosk)
    best, second = names(kiosk, order[:2])
    now = int(datetime.now(UTC).timestamp())
    long_ago = int(datetime(2020, 7, 1, tzinfo=UTC).timestamp())  # the release knows it
    recommender = online(kiosk, bought=[(best, now), (second, long_ago)])
    found = [item.item_id for item in recommender.recommend(CUSTOMER, k=40).items]
    recommender.close()
    assert best not in found
    assert second in found
    assert len(found) == len(order) - 1


def test_what_may_not_be_shown_is_not_shown_though_the_list_has_it(kiosk: Kiosk) -> None:
    recommender = online(kiosk)
    shown = recommender.shown(without=["i000030"])
    answer = recommender.recommend(CUSTOMER, k=40, shown=shown)
    basket = recommender.recommend(CUSTOMER, k=40, basket=["i000002"])
    recommender.close()
    assert answer.path == basket.path == "rank-fusion"
    assert "i000030" not in [item.item_id for item in answer.items]
    assert "i000002" not in [item.item_id for item in basket.items]


@pytest.mark.parametrize("field", ["goes_with", "instead_of"])
def test_a_list_takes_no_part_in_what_is_asked_about_an_item(kiosk: Kiosk, field: str) -> None:
    """But what was bought online since is left out."""
    now = int(datetime.now(UTC).timestamp())
    recommender = online(kiosk, bought=[("i000009", now)])
    options = Options(**{field: "i000001"})  # type: ignore[arg-type]
    answer = recommender.recommend(CUSTOMER, k=40, options=options)
    plain = recommender.recommend(k=40, options=options)
    recommender.close()
    release = kiosk.head.releases[0]
    history = release.history(release.customer_ids.index(CUSTOMER))
    gone = {release.item_ids[item] for item, channel in history if channel == 0} | {"i000009"}
    assert (answer.path, answer.online_as_of, answer.online_age_s) == ("offline", None, None)
    expected = [item.item_id for item in plain.items if item.item_id not in gone]
    assert [item.item_id for item in answer.items] == expected


def test_the_reason_says_which_items_the_list_has_brought(kiosk: Kiosk) -> None:
    order, _ = offline_order(kiosk)
    items = names(kiosk, order[[-1, 1]])  # the last one in the store, and the second
    lists = lists_for([CUSTOMER], items=items, probabilities=[0.999, 0.9])
    publish_lists(kiosk.head, lists, space=kiosk.head.releases[0].manifest.space)
    sync(kiosk.home)
    recommender = Recommender.open(kiosk.home)
    answer = recommender.recommend(CUSTOMER, k=3)
    recommender.close()
    reasons = {item.item_id: item.reason for item in answer.items}
    assert reasons[items[0]] == ONLINE
    assert ONLINE not in {reasons[name] for name in reasons if name != items[0]}


def test_the_same_request_at_the_same_time_has_the_same_answer(kiosk: Kiosk) -> None:
    recommender = online(kiosk)
    at = AS_OF + timedelta(hours=30)
    answers = [recommender.recommend(CUSTOMER, at=at) for _ in range(2)]
    recommender.close()
    assert answers[0].items == answers[1].items
    assert answers[0].online_age_s == 30 * 3600


def test_a_clock_that_is_behind_makes_scores_no_fresher(kiosk: Kiosk) -> None:
    """Head office has signed later: that much is certain."""
    recommender = online(kiosk)
    answer = recommender.recommend(CUSTOMER, at=datetime(2020, 1, 1, tzinfo=UTC))
    (warning,) = recommender.warnings
    recommender.close()
    assert answer.online_age_s is not None
    assert answer.online_age_s >= 3600
    assert "set the clock" in warning


def test_damaged_scores_are_left_out_and_the_release_answers(kiosk: Kiosk) -> None:
    online(kiosk).close()
    (path,) = (kiosk.home / "scores").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    recommender = Recommender.open(kiosk.home)
    answer = recommender.recommend(CUSTOMER)
    (warning,) = recommender.warnings
    recommender.close()
    assert (answer.tier, answer.path) == ("personal", "offline")
    assert "damaged" in warning


# --- sync


def test_a_process_that_serves_takes_new_scores_at_the_next_request(kiosk: Kiosk) -> None:
    sync(kiosk.home)
    recommender = Recommender.open(kiosk.home)
    assert recommender.recommend(CUSTOMER).path == "offline"
    online(kiosk).close()
    assert recommender.recommend(CUSTOMER).path == "rank-fusion"
    recommender.close()


def test_new_scores_take_the_place_of_the_old_ones(kiosk: Kiosk) -> None:
    for seq in (1, 2):
        online(kiosk).close()
        assert [path.name for path in (kiosk.home / "scores").iterdir()] == [f"{seq}.db"]
        (row,) = read_tables(kiosk.home, ("scores",))["scores"]
        assert (row["seq"], row["file"]) == (seq, f"{seq}.db")


def test_older_scores_under_a_new_signature_are_refused(kiosk: Kiosk) -> None:
    online(kiosk).close()
    with open_repository(kiosk.head.repo, kiosk.head.keys) as repository:
        old = repository.read_target("scores/index.json")
    online(kiosk).close()
    assert old is not None
    with open_repository(kiosk.head.repo, kiosk.head.keys) as repository:
        repository.write_target("scores/index.json", old)
        repository.commit()
    (warning,) = sync(kiosk.home).warnings
    assert "seq 1, below 2" in warning
    (row,) = read_tables(kiosk.home, ("scores",))["scores"]
    assert row["seq"] == 2


def test_scores_that_can_not_be_taken_do_not_stop_a_sync(kiosk: Kiosk) -> None:
    publish_lists(kiosk.head, lists_for([CUSTOMER], items=LIST))
    newest = max((kiosk.head.repo / "blob").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    newest.unlink()
    synced = sync(kiosk.home)
    assert synced.outcome == "installed"
    assert "online scores were not taken" in synced.warnings[0]


def test_scores_are_taken_though_the_release_is_bad_here(kiosk: Kiosk) -> None:
    """It may stay so for days, until the next one is published."""
    sync(kiosk.home)
    with changing_state(kiosk.home) as db:
        mark_bad(db, 1, "the release", "it answered otherwise here")
    publish_lists(kiosk.head, lists_for([CUSTOMER], items=LIST))
    with pytest.raises(SyncError, match="known to be bad here"):
        sync(kiosk.home)
    (row,) = read_tables(kiosk.home, ("scores",))["scores"]
    assert row["seq"] == 1


@pytest.mark.parametrize("damage", ["a bit", "all of it"])
def test_damaged_scores_are_fetched_again_by_the_next_sync(kiosk: Kiosk, damage: str) -> None:
    publish_lists(kiosk.head, lists_for([CUSTOMER], items=LIST))
    sync(kiosk.home)
    (path,) = (kiosk.home / "scores").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "a bit" else b"")
    assert sync(kiosk.home).warnings == []
    recommender = Recommender.open(kiosk.home)
    assert (recommender.recommend(CUSTOMER).path, recommender.warnings) == ("rank-fusion", [])
    recommender.close()


def test_scores_for_which_there_is_no_room_leave_it_to_events_and_the_release(
    kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(kiosk.home)
    publish_lists(kiosk.head, lists_for([CUSTOMER], items=LIST))
    usage = shutil.disk_usage(kiosk.home)._replace(free=SPARE_BYTES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    synced = sync(kiosk.home)
    assert "online scores were not taken" in synced.warnings[0]
    assert "free some space" in synced.warnings[0]
    assert read_tables(kiosk.home, ("scores",))["scores"] == []
    monkeypatch.undo()
    assert sync(kiosk.home).warnings == []
