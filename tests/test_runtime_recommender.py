"""What is recommended, to whom, from where, and why."""

import gc
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from c2rec.runtime.engine import engine
from c2rec.runtime.engine.scorer import Encoder, Scorer
from c2rec.runtime.errors import NotInstalledError, RequestError
from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.ranking import top_k
from c2rec.runtime.reasons import CATALOGUE, POPULAR
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.records import CHANNELS, Channel
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.install import install
from tests.release import Release, change_tensor, make_release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return make_release(tmp_path_factory.mktemp("release") / "bundle")


@pytest.fixture(scope="module")
def home(release: Release) -> Path:
    home = release.folder.parent / "home"
    install(release.folder, home)
    return home


@pytest.fixture
def recommender(home: Path) -> Iterator[Recommender]:
    recommender = Recommender.open(home)
    yield recommender
    recommender.close()


@pytest.fixture
def cache(home: Path, release: Release) -> Iterator[Cache]:
    cache = Cache(generation_path(home, release.manifest.release))
    yield cache
    cache.close()


def open_changed(folder: Path, release: Release) -> Recommender:
    install(release.folder, folder / "home")
    return Recommender.open(folder / "home")


def expected_rows(scores: np.ndarray, left_out: set[int], k: int) -> list[int]:
    rows = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    return [row for row in rows if row not in left_out][:k]


# --- ranking


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 12)),
        elements=st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 2.0]),  # many ties
    ),
    st.integers(1, 14),
)
def test_top_k_is_a_stable_sort(scores: np.ndarray, k: int) -> None:
    for row, best in zip(scores.tolist(), top_k(scores, k).tolist(), strict=True):
        assert best == sorted(range(len(row)), key=lambda column: (-row[column], column))[:k]


def test_top_k_ranks_counts_that_float32_cannot_tell_apart() -> None:
    assert top_k(np.array([[2**40, 2**40 + 1]]), 1).tolist() == [[1]]


# --- scoring


def test_a_batch_scores_as_its_customers_do_one_by_one(release: Release, cache: Cache) -> None:
    scorer = Scorer(cache)
    components = release.customers["components"]
    has = release.customers["has"].astype(np.bool_)
    histories = [release.history(row) for row in range(len(has))]
    items = np.zeros((len(has), max(map(len, histories))), np.int64)
    weights = np.zeros(items.shape, np.float32)
    for row, history in enumerate(histories):
        items[row, : len(history)] = [item for item, _ in history]
        weights[row, : len(history)] = 1
    for channel in (0, 1):
        scores, attention = scorer.score(components, has, channel, items, weights)
        for row, history in enumerate(histories):
            bought = items[[row], : len(history)]
            ones = np.ones(bought.shape, np.float32)
            one, alpha = scorer.score(components[[row]], has[[row]], channel, bought, ones)
            np.testing.assert_allclose(one[0], scores[row], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(alpha[0], attention[row], rtol=1e-5, atol=1e-6)


def test_padding_changes_no_embedding(release: Release, cache: Cache) -> None:
    encoder, history = Encoder(cache), np.array([[3, 5, 9]])
    short, _ = encoder.encode(history, np.array([[0, 1, 0]]), np.ones((1, 3), np.float32))
    padded, has = encoder.encode(
        np.array([[3, 5, 9, 1]]), np.array([[0, 1, 0, 1]]), np.array([[1, 1, 1, 0]], np.float32)
    )
    np.testing.assert_allclose(short, padded, rtol=1e-6)
    np.testing.assert_allclose(padded[0], release.encode([(3, 0), (5, 1), (9, 0)])[0], rtol=1e-5)
    assert has.tolist() == [[True, True, True]]


# --- tiers


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("customer", [1, 2, 3, 17])
def test_a_known_customer_gets_what_the_formula_says(
    release: Release, recommender: Recommender, customer: int, channel: Channel
) -> None:
    number = CHANNELS.index(channel)
    vectors, has = release.customers["components"][customer], release.customers["has"][customer]
    scores, attention = release.score(vectors, has, number, release.history(customer))
    left_out = {item for item, where in release.history(customer) if where == number}

    answer = recommender.recommend(release.customer_ids[customer], k=7, channel=channel)

    rows = expected_rows(scores, left_out, 7)
    assert answer.tier == "personal"
    assert [item.item_id for item in answer.items] == [release.item_ids[row] for row in rows]
    assert [item.name for item in answer.items] == [release.names[row] for row in rows]
    np.testing.assert_allclose([item.score for item in answer.items], scores[rows], rtol=1e-4)
    alphas = [[i.attention.shared, i.attention.offline, i.attention.online] for i in answer.items]
    np.testing.assert_allclose(alphas, attention[:, rows].T, atol=1e-5)


def test_a_basket_joins_what_a_customer_bought(release: Release, recommender: Recommender) -> None:
    history = release.history(3)
    basket = [row for row in range(40) if (row, 1) not in history][:2]
    bought_here = next(item for item, channel in history if channel == 1)
    joined = [*history, *((row, 1) for row in basket)]
    components, has = release.encode(joined)
    scores, _ = release.score(components, has, 1, joined)
    left_out = {*basket, *(item for item, channel in history if channel == 1)}

    answer = recommender.recommend(
        release.customer_ids[3],
        # in the basket and in the history: counted once, as in training
        basket=[release.item_ids[row] for row in [*basket, bought_here, basket[0]]],
        channel="online",
    )

    assert answer.tier == "personal"
    expected = [release.item_ids[row] for row in expected_rows(scores, left_out, 10)]
    assert [item.item_id for item in answer.items] == expected


@pytest.mark.parametrize("customer", [None, "nobody", "c000000"])
def test_a_basket_alone_is_enough(
    release: Release, recommender: Recommender, customer: str | None
) -> None:
    """c000000 is known, and has bought nothing."""
    basket = [(4, 0), (39, 0)]
    components, has = release.encode(basket)
    scores, _ = release.score(components, has, 0, basket)

    answer = recommender.recommend(customer, basket=["i000004", "no such", "été", "no such"])

    assert answer.tier == "basket"
    assert answer.customer_id == customer
    assert answer.unknown_items == ("no such",)
    expected = [release.item_ids[row] for row in expected_rows(scores, {4, 39}, 10)]
    assert [item.item_id for item in answer.items] == expected
    assert {item.reason.kind for item in answer.items} <= {"basket", "popular", "catalogue"}
    names = {name for item in answer.items for name in item.reason.names}
    assert names == {"Item 4", "Item 39"}


@pytest.mark.parametrize("channel", CHANNELS)
def test_without_customer_or_known_item_the_channel_s_best_sellers_come(
    release: Release, recommender: Recommender, channel: Channel
) -> None:
    sold = release.items["popularity"][CHANNELS.index(channel)]
    answer = recommender.recommend(basket=["no such"], k=40, channel=channel)
    assert answer.tier == "store-popular"
    rows = expected_rows(sold, set(), 40)
    assert [item.item_id for item in answer.items] == [release.item_ids[row] for row in rows]
    assert [item.score for item in answer.items] == sold[rows].tolist()
    for item in answer.items:
        assert item.reason == (POPULAR[channel] if item.score else CATALOGUE)


def test_where_nothing_was_sold_the_catalogue_answers(tmp_path: Path) -> None:
    release = make_release(tmp_path / "bundle", sold_online=False)
    recommender = open_changed(tmp_path, release)
    assert recommender.recommend().tier == "store-popular"
    answer = recommender.recommend("nobody", channel="online", k=3)
    recommender.close()
    assert answer.tier == "catalogue"
    assert [item.item_id for item in answer.items] == release.item_ids[:3]
    assert {item.reason for item in answer.items} == {CATALOGUE}


def test_a_table_release_ranks_by_the_table_and_leaves_the_basket_out(tmp_path: Path) -> None:
    release = make_release(tmp_path / "bundle", encoder="table")
    recommender = open_changed(tmp_path, release)
    components, has = release.customers["components"][1], release.customers["has"][1]
    history = release.history(1)
    in_basket = next(row for row in range(40) if (row, 1) not in history)
    # what a table can't embed still speaks through its neighbours
    scores, _ = release.score(components, has, 1, [*history, (in_basket, 1)])
    left_out = {in_basket, *(item for item, channel in history if channel == 1)}
    best = expected_rows(scores, left_out, 10)
    basket = [release.item_ids[in_basket]]
    answer = recommender.recommend("c000001", basket=basket, channel="online")
    anyone = recommender.recommend(basket=basket)
    recommender.close()
    assert [item.item_id for item in answer.items] == [release.item_ids[row] for row in best]
    assert anyone.tier == "store-popular"


def test_numbers_that_overflow_fall_through_to_what_sells(tmp_path: Path) -> None:
    release = make_release(tmp_path / "bundle")

    def enlarge(components: np.ndarray) -> np.ndarray:
        components[20] = 3e38
        return components

    change_tensor(release.folder, "customers.safetensors", "components", enlarge)
    recommender = open_changed(tmp_path, release)
    answer = recommender.recommend("c000020")
    recommender.close()
    assert answer.tier == "store-popular"


# --- what is left out, and how many are left


@given(data=st.data())
def test_whatever_is_asked_exclusions_and_length_hold(
    home: Path, release: Release, data: st.DataObject
) -> None:
    ids = st.sampled_from([*release.customer_ids, "nobody"]) | st.none() | st.text(max_size=3)
    customer = data.draw(ids)
    basket = data.draw(st.lists(st.sampled_from([*release.item_ids, "no such"]) | st.text()))
    channel = data.draw(st.sampled_from(CHANNELS))
    k = data.draw(st.integers(1, 60))
    recommender = Recommender.open(home)
    answer = recommender.recommend(customer, basket=basket, k=k, channel=channel)
    recommender.close()

    left_out = set(basket) & set(release.item_ids)
    if customer in release.customer_ids:
        bought = release.history(release.customer_ids.index(customer))
        number = CHANNELS.index(channel)
        left_out |= {release.item_ids[item] for item, where in bought if where == number}
    shown = [item.item_id for item in answer.items]
    assert len(shown) == len(set(shown)) == min(k, 40 - len(left_out))
    assert not set(shown) & left_out
    scores = [item.score for item in answer.items]
    assert scores == sorted(scores, reverse=True)
    for item in answer.items:
        alphas = [item.attention.shared, item.attention.offline, item.attention.online]
        assert sum(alphas) == pytest.approx(1 if answer.tier in ("personal", "basket") else 0)


def test_a_basket_with_everything_leaves_nothing(
    release: Release, recommender: Recommender
) -> None:
    for customer in (None, "c000005"):
        assert recommender.recommend(customer, basket=release.item_ids).items == ()


def test_an_id_that_is_not_unicode_is_unknown(recommender: Recommender) -> None:
    answer = recommender.recommend("\udcff", basket=["\udcff"])
    assert answer.tier == "store-popular"
    assert answer.unknown_items == ("\udcff",)


# --- items


def test_an_item_is_told_with_its_further_columns(recommender: Recommender) -> None:
    item = recommender.item("i000004")
    assert item is not None
    assert (item.item_id, item.name, item.metadata) == ("i000004", "Item 4", {"colour": "red"})
    assert recommender.item("no such") is None


# --- requests that can't be


@pytest.mark.parametrize("k", [0, -1, 1001])
def test_k_out_of_range_is_refused(recommender: Recommender, k: int) -> None:
    with pytest.raises(RequestError, match=rf"k is {k}; allowed: 1 to 1000"):
        recommender.recommend(k=k)


def test_an_unknown_channel_is_refused(recommender: Recommender) -> None:
    with pytest.raises(RequestError, match="channel is 'phone'; allowed: offline or online"):
        recommender.recommend(channel="phone")  # type: ignore[arg-type]


def test_a_home_without_release_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError, match=r"no release is installed .* install BUNDLE"):
        Recommender.open(tmp_path)


# --- always


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("UPDATE graphs SET onnx = x'6a756e6b' WHERE name = 'scorer.onnx'", "scorer.onnx"),
        ("DELETE FROM chunks WHERE name = 'scan/codes/0'", "scan/codes/0"),
        ("UPDATE customers SET components = x'00'", "damaged"),
        ("DROP TABLE customers", "no such table: customers"),
    ],
)
def test_what_the_model_needs_is_damaged_and_the_shopper_is_answered_all_the_same(
    release: Release, tmp_path: Path, damage: str, named: str
) -> None:
    install(release.folder, tmp_path)
    path = generation_path(tmp_path, release.manifest.release)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(damage)
    recommender = Recommender(Cache(path))
    answer = recommender.recommend("c000003", k=5)
    recommender.close()
    assert answer.tier == "store-popular"
    assert len(answer.items) == 5
    (warning,) = recommender.warnings
    assert named in warning
    assert warning.endswith("answering by popularity")


# --- filters


def test_only_what_may_be_shown_is_shown(recommender: Recommender, release: Release) -> None:
    best = [item.item_id for item in recommender.recommend("c000003", k=40).items]
    shown = recommender.shown(only=[*best[4:12], "no such item"], without=[best[5]])
    assert shown.unknown == 1
    for customer in ("c000003", None):
        everything = recommender.recommend(customer, k=40).items
        expected = [item for item in everything if item.item_id in {*best[4:12]} - {best[5]}]
        assert list(recommender.recommend(customer, k=40, shown=shown).items) == expected
        assert len(expected) > 3


def test_a_filter_leaves_the_rest_of_the_answer_as_it_was(recommender: Recommender) -> None:
    answer = recommender.recommend("c000003", k=5)
    without = recommender.shown(without=[answer.items[0].item_id])
    after = recommender.recommend("c000003", k=4, shown=without)
    assert after.items == answer.items[1:]
    assert recommender.recommend("c000003", k=5).items == answer.items


def test_where_nothing_may_be_shown_the_answer_is_empty(recommender: Recommender) -> None:
    nothing = recommender.shown(only=[])
    assert recommender.recommend("c000003", shown=nothing).items == ()
    assert recommender.recommend(shown=nothing).items == ()


def test_a_filter_of_another_release_is_refused(recommender: Recommender, tmp_path: Path) -> None:
    other = make_release(tmp_path / "other", name="other", items=60)
    install(other.folder, tmp_path / "home")
    opened = Recommender.open(tmp_path / "home")
    shown = opened.shown(without=["i000050"])
    opened.close()
    with pytest.raises(RequestError, match="shown was made for release other; allowed"):
        recommender.recommend("c000003", shown=shown)


def test_neighbours_that_are_no_items_are_answered_by_popularity(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SMALL", 0)
    monkeypatch.setattr(engine, "SMALL_CATALOGUE", 0)
    install(release.folder, tmp_path)
    (path,) = (tmp_path / "gen").glob("*.safetensors")
    content = bytearray(path.read_bytes())
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    first, last = header["neighbour_items"]["data_offsets"]
    start = 8 + int.from_bytes(content[:8], "little")
    content[start + first : start + last] = b"\x7f" * (last - first)
    path.write_bytes(content)
    recommender = Recommender(Cache(generation_path(tmp_path, release.manifest.release)))
    for _ in range(3):
        assert recommender.recommend("c000003").tier == "store-popular"
    recommender.close()
    (warning,) = recommender.warnings
    assert warning.endswith("answering by popularity")


def test_a_closed_recommender_leaves_no_file_open(home: Path) -> None:
    """Nor waits for the garbage collector to find what holds each other."""

    def files() -> list[str]:
        found = (path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
        return [str(path) for path in found if path.is_relative_to(home)]

    gc.collect()
    gc.disable()
    try:
        recommender = Recommender.open(home)
        assert recommender.recommend("c000003", basket=["i000001"]).tier == "personal"
        assert files()
        recommender.close()
        del recommender
        assert files() == []
    finally:
        gc.enable()
