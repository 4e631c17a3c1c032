"""The engine finds exactly what scoring the whole catalogue finds, whatever it is given."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from c2rec.runtime.engine import engine as engine_module
from c2rec.runtime.engine import mentions as mentions_module
from c2rec.runtime.engine import search as search_module
from c2rec.runtime.engine.engine import Engine, Found, Request
from c2rec.runtime.engine.mentions import SHARED, SMALL, Tables, shrunk
from c2rec.runtime.engine.onnx_bytes import integer_product
from c2rec.runtime.engine.scorer import Said, shares
from c2rec.runtime.engine.synthetic import RandomRelease
from c2rec.runtime.errors import ReleaseError, RequestError
from c2rec.runtime.release import quantise as quantise_module
from c2rec.runtime.release.manifest import AttentionName
from c2rec.runtime.release.quantise import LANES, NOBODY, quantise, tiles
from tests.catalogues import KINDS, Array, Arrays, arrays, brute_force, cases

NAMES: list[AttentionName] = ["softmax", "sigmoid"]


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constants by which a catalogue of hundreds goes all the ways that one of millions goes."""
    monkeypatch.setattr(quantise_module, "FIRST_TILE", 64)
    monkeypatch.setattr(quantise_module, "TILE", 128)
    monkeypatch.setattr(quantise_module, "ONE_TILE", 64)
    monkeypatch.setattr(mentions_module, "SHARED", 64)
    for name, value in {"SMALL": 0, "SMALL_CATALOGUE": 0, "SHARE": 4, "AT_ONCE": 4}.items():
        monkeypatch.setattr(engine_module, name, value)
    for name, value in {"LISTED": 4, "FIRST_GUESS": 1, "TOO_MANY": 1, "TOGETHER": 40}.items():
        monkeypatch.setattr(search_module, name, value)


def assert_same(found: Found, expected: Found) -> None:
    """Ids, scores and attention alike, to the last bit."""
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.attention, expected.attention)


def try_cases(seeds: range) -> Counter[str]:
    """Compare many cases with brute force; what was seen."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for attention in NAMES:
            for case in cases(rng, attention, requests=12):
                answers = case.engine.top_k_batch(case.requests, case.k, only=case.only)
                for request, found in zip(case.requests, answers, strict=True):
                    expected = brute_force(case.engine, request, case.k, case.only)
                    assert_same(found, expected)
                    seen["cases"] += 1
                    seen["widened"] += found.widened
                    seen["scanned in part"] += 0 < found.scanned < case.engine.items
                    seen[f"{case.kind}, scanned"] += found.scanned > 0
                    allowed = case.engine.items if case.only is None else len(case.only.rows)
                    seen["listed in part"] += found.scanned == 0 and found.scored < allowed
    return seen


@pytest.mark.usefixtures("small_tiles")
def test_it_finds_what_brute_force_finds() -> None:
    seen = try_cases(range(4))
    assert seen["cases"] == 4 * 2 * len(KINDS) * 5 * 12
    assert seen["widened"] > 100, "or the test shows nothing of the second scoring"
    assert seen["scanned in part"] > 50, "or the test shows nothing of the early stop"
    assert min(seen[f"{kind}, scanned"] for kind in KINDS) > 10
    assert seen["listed in part"] > 50, "or the test shows nothing of short lists"


@pytest.mark.soak
@pytest.mark.usefixtures("small_tiles")
def test_it_finds_what_brute_force_finds_in_100_000_cases(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = try_cases(range(100, 165))
    assert seen["cases"] >= 100_000
    with capsys.disabled():
        print(f"\n{dict(seen)}")


@pytest.mark.usefixtures("small_tiles")
@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32), attention=st.sampled_from(NAMES), alone=st.booleans())
def test_one_by_one_is_as_all_together(seed: int, attention: AttentionName, alone: bool) -> None:
    rng = np.random.default_rng(seed)
    case = next(cases(rng, attention, requests=9 if alone else 17))
    together = case.engine.top_k_batch(case.requests, case.k, only=case.only)
    for request, found in zip(case.requests, together, strict=True):
        assert_same(case.engine.top_k(request, case.k, only=case.only), found)


@pytest.mark.parametrize("correlated", [True, False])
@pytest.mark.parametrize("popular", [True, False])
@pytest.mark.parametrize("size", [64, 100])
def test_a_catalogue_of_several_real_tiles(correlated: bool, popular: bool, size: int) -> None:
    release = RandomRelease(45_000, size, 3, correlated=correlated, popular=popular)
    engine = Engine(release)
    some = engine.filter(np.random.default_rng(0).random(45_000) < 0.5)
    few = engine.filter(np.random.default_rng(0).random(45_000) < 0.01)
    requests = [release.request(bought=n) for n in (1, 5, 20, 80)]
    for only in (None, some, few):
        for k in (1, 10, 100):
            for request in requests:
                found = engine.top_k(request, k, only=only)
                assert_same(found, brute_force(engine, request, k, only))
                if only is not few and k < 100:
                    assert 0 < found.scored < 45_000 / 4
    assert all(engine.top_k(request, 10).scanned == 8192 for request in requests) == popular


@pytest.mark.parametrize("popular", [True, False])
def test_a_large_batch_of_mixed_customers_finds_what_each_alone_finds(popular: bool) -> None:
    """Of both channels, of histories of several lengths, with items left out, and a filter."""
    release = RandomRelease(45_000, 64, 3, popular=popular)
    engine = Engine(release)
    some = engine.filter(np.random.default_rng(0).random(45_000) < 0.5)
    requests = [release.request(bought=n) for n in (1, 5, 20, 80) for _ in range(16)]
    firsts = [engine.top_k(request, 5).rows for request in requests]
    left = [rows[: number % 4] for number, rows in enumerate(firsts)]
    requests = [r._replace(left_out=out) for r, out in zip(requests, left, strict=True)]
    assert {request.channel for request in requests} == {0, 1}
    for only in (None, some):
        for request, found in zip(
            requests, engine.top_k_batch(requests, 10, only=only), strict=True
        ):
            assert_same(found, brute_force(engine, request, 10, only))
            assert 0 < found.scored < 45_000 / 8
            assert found.scanned < 45_000 or not popular


def test_a_batch_of_nobody_finds_nothing() -> None:
    assert Engine(RandomRelease(20_000, 8, 0)).top_k_batch([], 10) == []


def test_who_can_not_be_bounded_is_answered_among_others() -> None:
    release = RandomRelease(20_000, 8, 0)
    engine = Engine(release)
    requests = [release.request() for _ in range(6)]
    one = requests[2].components / np.abs(requests[2].components).max()
    requests[2] = requests[2]._replace(components=one * np.float32(1e36))
    found = engine.top_k_batch(requests, 10)
    for request, each in zip(requests, found, strict=True):
        assert_same(each, brute_force(engine, request, 10, None))
    assert [each.scanned > 0 for each in found] == [True, True, False, True, True, True]


def test_a_score_that_only_others_need_fails_nobody() -> None:
    """Item 7 is a candidate of the second customer; the first one's logits for it are infinite."""
    made = one_kind(20_000, 8)
    made["item_embeddings"][:, 2:] = np.random.default_rng(0).normal(size=(20_000, 6))
    made["item_embeddings"][7, :2] = 50
    made["channel_weights"][:, 0, 0] = 1e37
    neighbours: dict[str, Array] = {
        "neighbour_items": np.zeros((20_000, 1), np.int32),
        "neighbour_weights": np.zeros((20_000, 2, 1), np.float16),
    }
    engine = Engine(Arrays(made | neighbours))
    components = np.ones((2, 1, 3, 8), np.float32)
    components[0, ..., 0], components[1, ..., 0] = -3, 0
    requests = [Request(x, np.ones((1, 3), np.bool_), 0, np.arange(0)) for x in components]
    assert np.isnan(engine.scorer.score_rows(np.array([7]), *requests[0][:4])[0]), (
        "or the test shows nothing"
    )
    first, second = engine.top_k_batch(requests, 10)
    assert second.rows[0] == 7
    assert_same(first, engine.top_k(requests[0], 10))


def test_a_scan_stops_where_nothing_that_follows_can_enter() -> None:
    release = RandomRelease(200_000, 16, 0)
    engine = Engine(release)
    found = [engine.top_k(release.request(), 10) for _ in range(20)]
    assert {each.scanned for each in found} == {8192}
    assert max(each.scored for each in found) < 500


# --- what is refused


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_embedding_that_is_no_number_is_refused(value: float) -> None:
    release = RandomRelease(20_000, 8, 0)
    engine = Engine(release)
    good = release.request()
    before = engine.top_k(good, 10)
    components = good.components.copy()
    components[0, 1, 3] = value
    with pytest.raises(RequestError, match="NaN or infinite; allowed: finite numbers"):
        engine.top_k(good._replace(components=components), 10)
    assert_same(engine.top_k(good, 10), before)


def test_scores_that_are_too_large_for_float32_are_refused() -> None:
    release = RandomRelease(20_000, 8, 0)
    engine = Engine(release)
    good = release.request()
    before = engine.top_k(good, 10)
    one = good.components / np.abs(good.components).max()
    with pytest.raises(ReleaseError, match="scores are NaN or infinite"):
        engine.top_k(good._replace(components=one * np.float32(3e38)), 10)
    # products near the end of float32, where the bound would not hold
    large = good._replace(components=one * np.float32(1e36))
    assert_same(engine.top_k(large, 10), brute_force(engine, large, 10, None))
    assert_same(engine.top_k(good, 10), before)


@pytest.mark.parametrize(
    "allowed", [np.ones(2999, np.bool_), np.ones(3000, np.int64), np.ones((3000, 1), np.bool_)]
)
def test_a_filter_of_another_shape_is_refused(allowed: npt.NDArray[np.bool_]) -> None:
    engine = Engine(RandomRelease(3000, 8, 0))
    with pytest.raises(RequestError, match=r"a filter is .*; allowed: bool \(3000,\)"):
        engine.filter(allowed)


def test_where_nothing_is_left_nothing_is_found() -> None:
    release = RandomRelease(3000, 8, 0)
    engine = Engine(release)
    nothing = engine.filter(np.zeros(3000, np.bool_))
    assert len(engine.top_k(release.request(), 10, only=nothing).rows) == 0
    everything = release.request()._replace(left_out=np.arange(3000))
    assert len(engine.top_k(everything, 10).rows) == 0
    assert len(engine.top_k(everything._replace(left_out=np.arange(1, 3000)), 10).rows) == 1


def test_a_graph_that_fails_leaves_the_buffers_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    release = RandomRelease(20_000, 8, 0)
    engine = Engine(release)
    request = release.request()
    before = engine.top_k(request, 10)

    def fail(*_: object, **__: object) -> None:
        raise ReleaseError("no")

    with monkeypatch.context() as patch:
        patch.setattr(engine.scorer, "score_some", fail)
        with pytest.raises(ReleaseError, match="no"):
            engine.top_k(release.request(), 10)
    assert_same(engine.top_k(request, 10), before)


# --- its parts


@pytest.mark.parametrize("items", [1, 31, 32, 33, 8192, 12_288, 12_289, 50_000])
def test_tiles_cover_a_catalogue_and_end_at_a_group(items: int) -> None:
    cut = tiles(items)
    assert cut[0].items.start == cut[0].groups.start == 0
    for before, after in pairwise(cut):
        assert (before.items.stop, before.groups.stop) == (after.items.start, after.groups.start)
    assert items <= cut[-1].items.stop < items + LANES
    assert cut[-1].groups.stop * LANES == cut[-1].items.stop
    assert len(quantise_module.lanes(cut[-1]).reshape(-1)) == (
        cut[-1].items.stop - cut[-1].items.start
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("small_tiles")
def test_quantised_items_keep_within_what_is_told_of_them(kind: str) -> None:
    rng = np.random.default_rng(5)
    items = arrays(rng, kind, 500, 9)
    made = dict(quantise(items["item_embeddings"], items["item_bias"], 2.0))
    order, scales = made["order"], made["scales"].astype(np.float64)
    present = np.flatnonzero(order != NOBODY)
    assert sorted(order[present].tolist()) == list(range(500))
    y = items["item_embeddings"].astype(np.float64)[order[present]]
    codes = np.concatenate([made[f"codes/{n}"] for n in range(len(tiles(500)))], axis=1).T
    left = y - scales[present, None] * codes[present]
    error, length = made["errors"].astype(np.float64)
    assert (np.linalg.norm(left, axis=1) <= error * scales[present]).all()
    assert error <= 0.5 * 3 * (1 + 1e-5)
    assert (np.linalg.norm(codes.astype(np.float64), axis=1) <= length).all()
    assert np.abs(codes.astype(int)).max() <= 127
    assert (made["norms"][present] >= np.linalg.norm(y, axis=1)).all()
    assert (codes[order == NOBODY] == 0).all()


def test_the_strong_come_first() -> None:
    items = arrays(np.random.default_rng(0), "plain", 20_000, 4)
    made = dict(quantise(items["item_embeddings"], items["item_bias"], 2.0))
    norms = np.linalg.norm(items["item_embeddings"], axis=1)
    strength = items["item_bias"].max(0) + 2 * norms
    first = made["order"][:8192]
    assert strength[first].min() >= np.delete(strength, first).max()
    # groups of items that follow each other: each stronger than the next
    groups = strength[first.reshape(LANES, -1)]  # (32, groups)
    assert (groups[:, :-1].min(0) >= groups[:, 1:].max(0) - 1e-5).all()


@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 300), columns=st.integers(1, 300), rows=st.integers(1, 9))
def test_the_written_graph_is_onnx_and_multiplies(size: int, columns: int, rows: int) -> None:
    rng = np.random.default_rng(size)
    graph = integer_product(size, columns)
    items = rng.integers(-127, 128, (size, columns)).astype(np.int8)
    codes = rng.integers(1, 128, (rows, size)).astype(np.uint8)
    options = onnxruntime.SessionOptions()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(items)
    options.add_external_initializers(["items"], [value])
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (products,) = session.run(None, {"codes": codes, "zero": np.array(64, np.uint8)})
    expected = (codes.astype(np.int64) - 64) @ items.astype(np.int64)
    np.testing.assert_array_equal(products, expected)

    model = onnx.load_model_from_string(graph)
    (initializer,) = model.graph.initializer
    initializer.ClearField("external_data")
    initializer.data_location = onnx.TensorProto.DEFAULT
    initializer.raw_data = items.tobytes()
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("size", [33, 64, 128, 129, 200, 256, 600])
def test_scores_of_some_rows_are_those_of_the_whole_catalogue(size: int) -> None:
    rng = np.random.default_rng(1)
    for kind in KINDS:
        scorer = Engine(Arrays(arrays(rng, kind, 300, size))).scorer
        components = rng.normal(size=(1, 3, size)).astype(np.float32)
        history = rng.integers(0, 300, 12)
        has = np.array([[True, False, True]])
        ones = np.ones((1, 12), np.float32)
        scores, attention = scorer.score(components, has, 1, history[None], ones)
        for rows in some_rows(rng):
            some, alphas = scorer.score_rows(rows, components, has, 1, history)
            np.testing.assert_array_equal(some, scores[0, rows])
            np.testing.assert_array_equal(alphas, attention[0][:, rows])


@pytest.mark.parametrize("attention", NAMES)
def test_whose_history_says_nothing_has_the_graphs_score_without_it(
    attention: AttentionName,
) -> None:
    """No purchases, and a release that names nobody; an axis of length 0 ends some runtimes."""
    rng = np.random.default_rng(4)
    for kind in KINDS:
        made = arrays(rng, kind, 300, 8)
        nobody = made | {
            "neighbour_items": np.zeros((300, 0), np.int32),
            "neighbour_weights": np.zeros((300, 2, 0), np.float16),
        }
        components = rng.normal(size=(2, 3, 8)).astype(np.float32)
        has = rng.random((2, 3)) < 0.7
        none = np.zeros((2, 0), np.float32)
        scorer = Engine(Arrays(made, attention)).scorer
        scores, alphas = scorer.score(components, has, 1, none.astype(np.int64), none)
        made["neighbour_weights"][:] = -0.0
        quiet = Engine(Arrays(made, attention)).scorer
        history, ones = rng.integers(0, 300, (2, 9)), np.ones((2, 9), np.float32)
        expected, weights = quiet.score(components, has, 1, history, ones)
        assert (scores.tobytes(), alphas.tobytes()) == (expected.tobytes(), weights.tobytes())
        engine = Engine(Arrays(nobody, attention))
        scores, alphas = engine.scorer.score(components, has, 1, history, ones)
        assert (scores.tobytes(), alphas.tobytes()) == (expected.tobytes(), weights.tobytes())


@pytest.mark.parametrize("attention", NAMES)
@pytest.mark.parametrize("size", [1, 33, 64, 129, 256, 600])
def test_scores_of_some_rows_for_many_are_those_for_each_alone(
    size: int, attention: AttentionName
) -> None:
    rng = np.random.default_rng(2)
    for kind in KINDS:
        scorer = Engine(Arrays(arrays(rng, kind, 300, size), attention)).scorer
        components = rng.normal(size=(5, 3, size)).astype(np.float32)
        has = rng.random((5, 3)) < 0.7
        lengths = np.array([12, 0, 1, 3, 12])
        histories = [rng.integers(0, 300, length) for length in lengths]
        for rows in some_rows(rng):
            place = np.full(300, -1, np.int32)
            place[rows] = np.arange(len(rows), dtype=np.int32)
            mentions = []
            for customer, history in enumerate(histories):
                named, said = scorer.entries(1, history)
                kept = place[named.reshape(-1)] >= 0
                mentions.append(
                    (
                        np.full(int(kept.sum()), customer),
                        place[named.reshape(-1)][kept],
                        said.reshape(-1)[kept],
                    )
                )
            said_of_rows = Said(*(np.concatenate(each) for each in zip(*mentions, strict=True)))
            scores, alphas = scorer.score_some(
                rows, components, has, 1, shares(lengths), said_of_rows
            )
            for customer, history in enumerate(histories):
                one = slice(customer, customer + 1)
                ones = np.ones((1, len(history)), np.float32)
                whole, weights = scorer.score(components[one], has[one], 1, history[None], ones)
                assert scores[customer].tobytes() == whole[0, rows].tobytes()
                np.testing.assert_array_equal(alphas[customer], weights[0][:, rows])


def test_what_is_said_keeps_its_value_but_for_a_power_of_two() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = np.isfinite(halves)
    floats = shrunk(halves) * np.float32(SMALL)
    np.testing.assert_array_equal(floats[finite], halves[finite].astype(np.float32).clip(0))
    assert floats[np.isinf(halves)].tolist() == [65_536, 0]


@pytest.mark.parametrize("items", [5, 300, 12_000, 40_000])
def test_items_of_the_first_tile_share_their_place_with_nobody(items: int) -> None:
    scan = Engine(RandomRelease(items, 8, 0)).scan
    places = Tables(scan).places(scan.position)  # by row
    near = scan.tiles[0].items.stop
    first = scan.position < near
    np.testing.assert_array_equal(places[first], scan.position[first])
    assert (places[~first] >= near).all()
    assert places.max() < near + SHARED


def some_rows(rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    for count in (0, 1, 2, 17, 64, 65, 160, 300):
        yield rng.choice(300, count, replace=False)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100])
@pytest.mark.parametrize("codes", [(1, 127), (127, 127), (1, 1)])
def test_the_largest_products_are_right(size: int, codes: tuple[int, int]) -> None:
    """Pairs of them fit 16 bits, in which processors without VNNI add them.

    It says most on such a processor, or on one that is emulated: docs/engine.md tells how.
    """
    rng = np.random.default_rng(size)
    items = rng.choice(np.array([-127, 127], np.int8), (size, 333))
    items[:, :100] = 127
    whole = rng.choice(np.array(codes, np.uint8), (3, size))
    options = onnxruntime.SessionOptions()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(items)
    options.add_external_initializers(["items"], [value])
    graph = integer_product(size, 333)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (products,) = session.run(None, {"codes": whole, "zero": np.array(64, np.uint8)})
    expected = (whole.astype(np.int64) - 64) @ items.astype(np.int64)
    np.testing.assert_array_equal(products, expected)


# --- bounds that were too low once


def one_kind(items: int, size: int) -> dict[str, Array]:
    """Item arrays of zeros."""
    return {
        "item_embeddings": np.zeros((items, size), np.float32),
        "item_bias": np.zeros((2, items), np.float32),
        "attention_bias": np.zeros((2, 3, items), np.float32),
        "channel_weights": np.zeros((2, size, size), np.float32),
    }


@pytest.mark.usefixtures("small_tiles")
def test_every_mention_rounds_all_that_it_is_added_to() -> None:
    """600 purchases name an item, each with less than half a last digit of its bias."""
    made = one_kind(700, 64)
    made["item_bias"] += np.float32(1) + np.linspace(0, 7e-5, 700, dtype=np.float32)
    made["item_bias"][:, 500] = 1
    neighbours: dict[str, Array] = {
        "neighbour_items": np.full((700, 1), 500, np.int32),
        "neighbour_weights": np.full((700, 2, 1), 4.5e-5, np.float16),
    }
    engine = Engine(Arrays(made | neighbours))
    components, has = np.zeros((1, 3, 64), np.float32), np.ones((1, 3), np.bool_)
    for length in (1, 60, 600):
        request = Request(components, has, 0, np.arange(length))
        assert_same(engine.top_k(request, 5), brute_force(engine, request, 5, None))


@pytest.mark.usefixtures("small_tiles")
def test_logits_below_those_of_missing_components() -> None:
    made = one_kind(600, 4)
    made["item_embeddings"] -= np.random.default_rng(0).uniform(1, 2, (600, 4)).astype(
        np.float32
    ) * np.float32(1e10)
    made["channel_weights"] += np.eye(4, dtype=np.float32)
    made["item_embeddings"][::7] = -1e-3
    neighbours: dict[str, Array] = {
        "neighbour_items": np.zeros((600, 1), np.int32),
        "neighbour_weights": np.zeros((600, 2, 1), np.float16),
    }
    engine = Engine(Arrays(made | neighbours))
    components = np.ones((1, 3, 4), np.float32)
    request = Request(components, np.array([[True, False, False]]), 0, np.arange(0))
    assert_same(engine.top_k(request, 5), brute_force(engine, request, 5, None))


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("items", "customer"), [(0.5e38, 1e-3), (1e-4, 2e38)])
@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_near_the_end_of_float32(items: float, customer: float, sign: int) -> None:
    rng = np.random.default_rng(0)
    made = one_kind(600, 4)
    made["item_embeddings"] += (rng.uniform(0.5, 1, (600, 4)) * items).astype(np.float32)
    neighbours: dict[str, Array] = {
        "neighbour_items": np.zeros((600, 1), np.int32),
        "neighbour_weights": np.zeros((600, 2, 1), np.float16),
    }
    engine = Engine(Arrays(made | neighbours))
    components = np.full((1, 3, 4), sign * customer, np.float32)
    request = Request(components, np.ones((1, 3), np.bool_), 0, np.arange(0))
    only = engine.filter(rng.random(600) < 0.4)
    for k in (5, 500):
        for some in (None, only):
            found = engine.top_k(request, k, only=some)
            assert_same(found, brute_force(engine, request, k, some))
