"""Every number of an explanation: they add up, and ranks are those of brute force."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from c2rec.export.publish import publish
from c2rec.runtime.errors import RequestError
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.records import CHANNELS, Channel
from c2rec.runtime.release.install import install
from c2rec.runtime.release.manifest import parse_manifest
from c2rec.runtime.rules.options import Options
from c2rec.runtime.serving.explain import LOUDEST, Explanation
from c2rec.runtime.sync.sync import sync
from c2rec.store_kiosk.cli import main
from tests.enrolled import Kiosk, enrol, lists_for, publish_lists
from tests.release import Release, make_release, reseal
from tests.repositories import make_head
from tests.rule_cases import (
    ITEMS,
    TODAY,
    make_shop,
    random_case,
    to_toml,
    write_shelf,
)

AT = datetime(1970, 1, 1, 9, tzinfo=UTC) + timedelta(days=TODAY)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    release = make_release(tmp_path_factory.mktemp("explained") / "bundle")
    install(release.folder, release.folder.parent / "home")
    return release


@pytest.fixture(scope="module")
def home(release: Release) -> Path:
    return release.folder.parent / "home"


@pytest.fixture
def recommender(home: Path) -> Iterator[Recommender]:
    recommender = Recommender.open(home)
    yield recommender
    recommender.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Its items have what rules look at."""
    release = make_shop(tmp_path_factory.mktemp("shop") / "bundle")
    install(release.folder, release.folder.parent / "home")
    return release


@pytest.fixture(scope="module")
def opened(shop: Release) -> Iterator[Recommender]:
    recommender = Recommender.open(shop.folder.parent / "home")
    yield recommender
    recommender.close()


def assert_adds_up(explanation: Explanation) -> None:
    """The parts make the score that the engine ranks by."""
    score = explanation.score
    assert score is not None
    parts = [part.weight * part.affinity for part in score.parts]
    assert [part.product for part in score.parts] == parts
    total = sum(parts) + score.neighbours + score.bias
    assert score.total == pytest.approx(total, abs=1e-12)
    assert abs(score.total - score.engine) <= 1e-5
    if score.more_speakers == 0:
        assert sum(each.says for each in score.speakers) == pytest.approx(score.neighbours)


def ranks(values: np.ndarray, rows: list[int]) -> list[int]:
    return sorted(rows, key=lambda row: (-values[row], row))


# --- the score


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("customer", [1, 2, 3, 17])
def test_every_item_is_explained_as_the_formula_has_it(
    release: Release, recommender: Recommender, customer: int, channel: Channel
) -> None:
    number, history = CHANNELS.index(channel), release.history(customer)
    vectors, has = release.customers["components"][customer], release.customers["has"][customer]
    scores, attention = release.score(vectors, has, number, history)
    order = ranks(scores, list(range(40)))
    bought = {item for item, where in history if where == number}
    for row, item_id in enumerate(release.item_ids):
        found = recommender.explain(item_id, release.customer_ids[customer], channel=channel)
        assert found.score is not None
        assert_adds_up(found)
        assert found.score.engine == pytest.approx(scores[row], abs=1e-5)
        np.testing.assert_allclose(
            [part.weight for part in found.score.parts], attention[:, row], atol=1e-5
        )
        assert [part.has for part in found.score.parts] == has.astype(bool).tolist()
        assert (found.rank, found.items) == (order.index(row) + 1, 40)
        assert (found.known, found.tier, found.path) == (True, "personal", "offline")
        assert found.bars == (("bought",) if row in bought else ())
        shown = [each for each in order if each not in bought]
        assert found.shown == len(shown)
        if row in bought:
            assert (found.value, found.shown_rank, found.place) == (None, None, None)
        else:
            assert found.value == pytest.approx(scores[row], abs=1e-5)
            rank = shown.index(row) + 1
            assert found.shown_rank == rank
            assert found.place == (rank if rank <= 10 else None)


def test_the_purchases_that_speak_loudest_are_told_first(
    release: Release, recommender: Recommender
) -> None:
    history = release.history(3)
    for row, item_id in enumerate(release.item_ids):
        expected = []
        for bought, where in history:
            named = release.items["neighbour_items"][bought] == row
            says = release.items["neighbour_weights"][bought, 0].astype(np.float64)[named].sum()
            if says:
                expected.append((bought, where, says / len(history)))
        score = recommender.explain(item_id, "c000003").score
        assert score is not None
        told = [(each.item_id, each.channel, each.says) for each in score.speakers]
        expected.sort(key=lambda each: -abs(each[2]))
        assert [each[:2] for each in told] == [
            (release.item_ids[bought], CHANNELS[where]) for bought, where, _ in expected
        ]
        np.testing.assert_allclose([each[2] for each in told], [e[2] for e in expected])
        assert not any(each.in_basket for each in score.speakers)


def test_more_speakers_than_are_told_are_counted(tmp_path: Path) -> None:
    """A basket of so many that all name one item."""
    release = make_release(tmp_path / "bundle", items=10)
    install(release.folder, tmp_path / "home")
    recommender = Recommender.open(tmp_path / "home")
    found = [recommender.explain(i, basket=release.item_ids).score for i in release.item_ids]
    recommender.close()
    counts = (release.items["neighbour_items"][:, :, None] == np.arange(10)).any(1).sum(0)  # (10,)
    assert counts.max() > LOUDEST
    for score, count in zip(found, counts.tolist(), strict=True):
        assert score is not None
        assert len(score.speakers) == min(count, LOUDEST)
        assert score.more_speakers == max(count - LOUDEST, 0)


def test_a_basket_joins_what_was_bought_and_is_left_out(
    release: Release, recommender: Recommender
) -> None:
    known = {item for item, _ in release.history(3)}
    in_basket = next(row for row in range(38) if row not in known)
    history = [*release.history(3), (in_basket, 0)]
    scores, _ = release.score(*release.encode(history), 0, history)
    basket = [release.item_ids[in_basket], "no such"]
    found = recommender.explain(release.item_ids[in_basket], "c000003", basket=basket)
    assert_adds_up(found)
    assert found.score is not None
    assert found.score.engine == pytest.approx(scores[in_basket], abs=1e-5)
    assert (found.bars, found.place, found.unknown_items) == (("basket",), None, ("no such",))
    stranger = recommender.explain("i000001", "nobody", basket=["i000004"])
    assert (stranger.known, stranger.tier) == (False, "basket")
    assert_adds_up(stranger)


def test_a_table_s_components_are_taken_as_they_are(tmp_path: Path) -> None:
    release = make_release(tmp_path / "bundle", encoder="table")
    install(release.folder, tmp_path / "home")
    recommender = Recommender.open(tmp_path / "home")
    found = recommender.explain("i000001", "c000003", basket=["i000009"])
    recommender.close()
    assert_adds_up(found)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("customer", [None, "nobody", "c000000"])
def test_without_a_model_what_sells_is_told(
    release: Release, recommender: Recommender, customer: str | None, channel: Channel
) -> None:
    sold = release.items["popularity"][CHANNELS.index(channel)]
    order = ranks(sold, list(range(40)))
    for row, item_id in enumerate(release.item_ids):
        found = recommender.explain(item_id, customer, channel=channel, k=40)
        assert (found.score, found.tier) == (None, "store-popular")
        assert found.known == (customer == "c000000")
        assert found.sold == found.value == sold[row]
        assert found.rank == found.shown_rank == found.place == order.index(row) + 1
        assert found.reason.kind == ("popular" if sold[row] else "catalogue")


# --- rules


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), row=st.integers(0, ITEMS - 1))
def test_under_any_rules_ranks_and_places_are_those_of_brute_force(
    opened: Recommender, shop: Release, seed: int, row: int
) -> None:
    home, case = shop.folder.parent / "home", random_case(seed, shop)
    case.of_release, case.options = {}, Options()
    (home / "new").write_text(to_toml(case.of_store))
    (home / "new").replace(home / "rules.toml")
    write_shelf(home / "shelf.csv", case.shelf)

    found = opened.explain(
        shop.item_ids[row],
        None if case.customer is None else shop.customer_ids[case.customer],
        basket=case.basket,
        k=case.k,
        channel=case.channel,
        at=AT,
    )

    assert not opened.warnings
    values = case.values()
    may = [r for r in range(ITEMS) if not case.hidden(r) and not case.left_out(r)]
    order, expected = ranks(values, may), case.expected()
    assert found.shown == len(may)
    assert found.shown_rank == (order.index(row) + 1 if row in may else None)
    assert found.place == (expected.index(row) + 1 if row in expected else None)
    assert found.factor == pytest.approx(case.factor(row))
    plain = replace(case, of_store={})  # the same without rules
    assert found.rank == ranks(plain.values(), list(range(ITEMS))).index(row) + 1
    assert any(touch.hides for touch in found.touches) == case.hidden(row)
    assert bool(found.bars) == case.left_out(row)
    weighing = [touch.number for touch in found.touches if touch.effect in ("boosted", "buried")]
    assert np.prod([each or 0 for each in weighing]) == pytest.approx(case.factor(row))
    if found.value is not None and found.score is not None:
        assert found.value == pytest.approx(found.score.engine + np.log(found.factor), abs=1e-5)


# --- the online list


CALIBRATION = {
    "offline": {"slope": 1.5, "intercept": -4.0},
    "online": {"slope": 1.0, "intercept": -4.0},
}


@pytest.fixture
def kiosk(tmp_path: Path) -> Kiosk:
    """Its release is calibrated."""
    head = make_head(tmp_path / "head", publish=False)
    made = make_release(head.folder / "bundle")
    reseal(made.folder, lambda document: document.update(calibration=CALIBRATION))
    manifest = parse_manifest((made.folder / "manifest.json").read_text())
    head.releases.append(replace(made, manifest=manifest))
    publish(made.folder, head.repo, head.keys)
    return enrol(head, tmp_path / "home")


@pytest.mark.parametrize("blended", [True, False])
@pytest.mark.parametrize("boosted", [True, False])
def test_both_sides_of_a_merged_value_are_told_and_add_up(
    kiosk: Kiosk, blended: bool, boosted: bool
) -> None:
    release = kiosk.head.releases[0]
    items, chances = ["i000030", "i000002", "no such", "i000017"], [0.9, 0.5, 0.4, 0.3]
    lists = lists_for(["c000005"], items=items, probabilities=chances)
    publish_lists(kiosk.head, lists, space=release.manifest.space if blended else None)
    assert sync(kiosk.home).warnings == []
    if boosted:
        text = 'format = 1\n[[boost]]\nitems = ["i000002", "i000006"]\nfactor = 4\n'
        (kiosk.home / "rules.toml").write_text(text)
    recommender = Recommender.open(kiosk.home)
    at = datetime.now(UTC)
    answer = recommender.recommend("c000005", k=40, at=at)
    found = {i: recommender.explain(i, "c000005", k=40, at=at) for i in release.item_ids}
    recommender.close()
    path = "blend" if blended else "rank-fusion"
    places = {"i000030": 1, "i000002": 2, "i000017": 4}
    for position, item in enumerate(answer.items, 1):
        each = found[item.item_id]
        assert_adds_up(each)
        assert (each.path, each.place, each.shown_rank) == (path, position, position)
        assert each.value == item.score
        assert each.reason == item.reason
        assert each.online is not None
        both = each.online.from_release + each.online.from_list
        assert both == pytest.approx(item.score, abs=1e-6)
        assert each.online.place == places.get(item.item_id)
        assert each.online.age_s == answer.online_age_s
        if item.item_id in places:
            chance = chances[places[item.item_id] - 1]
            assert each.online.probability == pytest.approx(chance, abs=1e-6)
        else:
            assert each.online.probability is None


# --- what can't be explained


def test_an_item_that_nobody_knows_is_an_error_that_says_so(recommender: Recommender) -> None:
    with pytest.raises(RequestError, match=r"item 'no such' is not in release .* its 40 items"):
        recommender.explain("no such")
    with pytest.raises(RequestError, match="k is 0; allowed: 1 to 1000"):
        recommender.explain("i000001", k=0)


def test_an_item_that_is_the_only_one_left_is_the_first(tmp_path: Path) -> None:
    release = make_release(tmp_path / "bundle", items=2, customers=5)
    install(release.folder, tmp_path / "home")
    recommender = Recommender.open(tmp_path / "home")
    found = recommender.explain("j,1", basket=["été"], k=1000)
    other = recommender.explain("été", basket=["été", "j,1"], k=1000)
    recommender.close()
    assert (found.shown, found.shown_rank, found.place, found.items) == (1, 1, 1, 2)
    assert (other.shown, other.shown_rank, other.place) == (0, None, None)
    assert_adds_up(other)


# --- the command


def kiosk_command(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), *arguments])


def test_the_text_s_numbers_add_up(home: Path) -> None:
    result = kiosk_command(home, "explain", "i000001", "--customer", "c000003")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "Item 1 (i000001) for customer c000003, offline"
    sums = {
        line.split()[0]: float(line.split()[-1])
        for line in lines
        if re.match(r"(shared|offline|online|neighbours|bias|score) ", line)
    }
    total = sums.pop("score")
    assert len(sums) == 5
    assert sum(sums.values()) == pytest.approx(total, abs=5e-5)
    assert "No rule touches it." in lines
    assert re.search(r"Rank by the score, without rules: \d+ of 40", result.stdout)
    assert re.search(r"In an answer of 10: (place \d+|not in it)", result.stdout)


def test_the_document_has_every_number(home: Path, recommender: Recommender) -> None:
    result = kiosk_command(
        home, "explain", "été", "--basket", '"j,1",no such', "--channel", "online", "--json"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    found = recommender.explain("été", basket=["j,1", "no such"], channel="online")
    assert found.score is not None
    assert document["schema"] == 1
    assert document["unknown_items"] == ["no such"]
    assert document["score"]["total"] == found.score.total
    assert document["score"]["parts"][0]["component"] == "shared"
    assert (document["rank"], document["shown_rank"]) == (found.rank, found.shown_rank)
    assert document["reason"] == str(found.reason)


def test_rules_and_what_keeps_an_item_away_are_told_in_words(shop: Release) -> None:
    home = shop.folder.parent / "home"
    (home / "rules.toml").write_text(
        'format = 1\n[[deny]]\nname = "recalled"\nitems = ["i000001"]\n'
        '[[boost]]\nitems = ["i000001"]\nfactor = 2\n'
        '[[at_most]]\nper = "category"\nn = 2\n'
    )
    (home / "shelf.csv").write_text("item_id,stock\ni000001,0\n")
    text = kiosk_command(home, "explain", "i000001", "--basket", "i000001").stdout
    assert "recalled (store): never shown" in text
    assert "boost 1 (store): odds times 2" in text
    assert "at most 2 per category (store): at most 2 of its kind in an answer" in text
    assert "sold out (shelf): not shown: 0 in stock" in text
    assert "Not shown to this customer: in the basket already" in text
    assert "It may not be shown; " in text


def test_a_command_line_that_can_not_be_so_is_one_error(home: Path) -> None:
    result = kiosk_command(home, "explain", "no\x1b[31m such")
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"Error: item 'no\\x1b\[31m such' is not in release .*\n", result.stderr)
    stranger = kiosk_command(home, "explain", "i000001", "--customer", "\x07who")
    assert stranger.exit_code == 0
    assert "for customer �who, whom the release doesn't know, offline" in stranger.stdout
    assert "No model takes part." in stranger.stdout
