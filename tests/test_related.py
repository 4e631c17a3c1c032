"""What goes with an item and what stands in for it, against brute force, and always an answer."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from c2rec.runtime.answer import Answer
from c2rec.runtime.errors import RequestError, UnknownColumnError
from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.records import CHANNELS, LANGUAGES, Channel
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.install import install
from c2rec.runtime.rules.goods import Columns
from c2rec.runtime.rules.options import Options
from c2rec.runtime.serving.categories import Categories
from c2rec.store_kiosk.cli import main
from tests.release import Release, make_release, reseal
from tests.rule_cases import ITEMS, TODAY, make_shop, random_case, to_toml, write_shelf

KINDS = ("shirts", "trousers", "socks", "hats")
"""Item n is of kind n % 4; the last two have no kind."""


def describe(release: Release) -> None:
    """Give the items of a bundle columns: kind, colour, and a text that only one has."""
    rows = [
        {
            "item_id": item_id,
            "name": name,
            "product_type": KINDS[n % 4] if n < len(release.item_ids) - 2 else "",
            "colour": f"colour {n % 7}" if n % 5 else "",
            "description": f"The finest item number {n}.",
        }
        for n, (item_id, name) in enumerate(zip(release.item_ids, release.names, strict=True))
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (release.folder / "items.jsonl").write_text(text)
    reseal(release.folder)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    release = make_release(tmp_path_factory.mktemp("related") / "bundle", items=60)
    describe(release)
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


def alike(
    release: Release, row: int, channel: int, *, kind: int | None, factors: dict[int, float] | None
) -> list[tuple[int, float]]:
    """By the formula, one item after the other: rows and scores of what is like an item."""
    vectors = release.items["item_embeddings"].astype(np.float64)
    centred = vectors - vectors.mean(0)
    found = []
    for other in range(len(vectors)):
        if other == row or (kind is not None and (other % 4 != kind or other >= 58)):
            continue
        likeness = centred[row] @ centred[other]
        likeness /= np.linalg.norm(centred[row]) * np.linalg.norm(centred[other])
        if likeness <= 0:
            continue
        # the kind alone is a category: too many items lack a colour, and texts differ
        match = float(row < 58 and other < 58 and row % 4 == other % 4)
        sold = float(release.items["popularity"][channel, other])
        factor = (factors or {}).get(other, 1.0)
        found.append((other, likeness + match + 0.1 * np.log((1 + sold) * factor)))
    return sorted(found, key=lambda each: (-round(each[1], 6), each[0]))


def ids_of(answer: Answer) -> list[str]:
    return [item.item_id for item in answer.items]


# --- instead of an item


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("row", [0, 7, 30, 58])
def test_what_is_alike_stands_in_by_the_formula(
    release: Release, recommender: Recommender, row: int, channel: Channel
) -> None:
    """Item 58 has no kind: anything can be like it."""
    kind = row % 4 if row < 58 else None
    expected = alike(release, row, CHANNELS.index(channel), kind=kind, factors=None)[:5]
    answer = recommender.recommend(
        k=5, channel=channel, options=Options(instead_of=release.item_ids[row])
    )
    assert ids_of(answer) == [release.item_ids[other] for other, _ in expected]
    np.testing.assert_allclose(
        [item.score for item in answer.items], [score for _, score in expected], atol=2e-6
    )
    assert (answer.tier, answer.tiers, answer.path) == ("similar", ("similar",), "offline")
    assert answer.instead_of == release.item_ids[row]


def test_a_rule_s_factor_weighs_what_is_alike_too(release: Release, tmp_path: Path) -> None:
    home = tmp_path / "home"
    install(release.folder, home)
    before = alike(release, 7, 0, kind=3, factors=None)
    last = before[-1][0]
    (home / "rules.toml").write_text(
        f'format = 1\n[[boost]]\nitems = ["{release.item_ids[last]}"]\nfactor = 1000\n'
    )
    recommender = Recommender.open(home)
    answer = recommender.recommend(k=60, options=Options(instead_of=release.item_ids[7]))
    recommender.close()
    expected = alike(release, 7, 0, kind=3, factors={last: 1000.0})
    assert [row for row, _ in expected] != [row for row, _ in before]
    shown = [item.item_id for item in answer.items if item.tier == "similar"]
    assert shown == [release.item_ids[row] for row, _ in expected]


def test_where_too_few_are_alike_what_goes_with_it_follows_and_says_so(
    release: Release, recommender: Recommender
) -> None:
    few = [row for row, _ in alike(release, 7, 0, kind=3, factors=None)[:2]]
    others = [row for row in range(20) if row % 4 != 3]
    shown = recommender.shown(only=[release.item_ids[row] for row in [*few, *others, 7]])
    components, has = release.encode([(7, 0)])
    scores, _ = release.score(components, has, 0, [(7, 0)])
    rest = sorted(others, key=lambda row: (-scores[row], row))

    answer = recommender.recommend(
        k=10, shown=shown, options=Options(instead_of=release.item_ids[7])
    )

    assert ids_of(answer) == [release.item_ids[row] for row in [*few, *rest[:8]]]
    assert [item.tier for item in answer.items] == ["similar"] * 2 + ["basket"] * 8
    assert (answer.tier, answer.tiers) == ("similar", ("similar", "basket"))
    name = release.names[7]
    for item in answer.items[:2]:
        assert item.reason.words("en") == f"like “{name}”"
        assert item.attention.shared == item.attention.offline == item.attention.online == 0
    spoken = {item.reason.words("en") for item in answer.items[2:]}
    assert f"goes with “{name}”" in spoken
    assert not any("basket" in words for words in spoken)  # it isn't in one


def test_what_counts_as_the_same_can_be_told(release: Release, recommender: Recommender) -> None:
    options = Options(instead_of="i000008", alike_in="colour")
    answer = recommender.recommend(k=60, options=options)
    similar = [item.item_id for item in answer.items if item.tier == "similar"]
    assert similar
    assert all(int(item_id[1:]) % 7 == 1 and int(item_id[1:]) % 5 for item_id in similar)
    with pytest.raises(UnknownColumnError, match="alike_in: the items have no column 'size'; all"):
        recommender.recommend(options=Options(instead_of="i000008", alike_in="size"))
    assert release.item_ids[8] not in ids_of(answer)


def test_diversity_does_not_push_what_is_alike_apart(recommender: Recommender) -> None:
    options = Options(instead_of="i000008", diversity=1.0)
    plain = recommender.recommend(options=Options(instead_of="i000008"))
    assert ids_of(recommender.recommend(options=options)) == ids_of(plain)


def test_at_most_holds_across_the_tiers(recommender: Recommender) -> None:
    options = Options(instead_of="i000008", at_most={"product_type": 3})
    answer = recommender.recommend(k=9, options=options)
    assert [item.tier for item in answer.items] == ["similar"] * 3 + ["basket"] * 6
    kinds = [int(i[1:]) % 4 for i in ids_of(answer) if i.startswith("i")]
    assert max(map(kinds.count, kinds)) <= 3


# --- with an item


@pytest.mark.parametrize("channel", CHANNELS)
def test_what_goes_with_an_item_is_what_goes_with_a_basket_of_it(
    release: Release, recommender: Recommender, channel: Channel
) -> None:
    answer = recommender.recommend(channel=channel, options=Options(goes_with="i000008"))
    basket = recommender.recommend(channel=channel, basket=["i000008"])
    assert ids_of(answer) == ids_of(basket)
    assert (answer.tier, answer.goes_with) == ("basket", "i000008")
    assert {item.tier for item in answer.items} == {"basket"}
    named = [item.reason for item in answer.items if item.reason.kind == "with"]
    assert named
    assert {reason.names for reason in named} == {("Item 8",)}
    assert len(named) == sum(item.reason.kind == "basket" for item in basket.items)


def test_who_asks_changes_what_is_left_out_and_nothing_else(
    release: Release, recommender: Recommender
) -> None:
    options = Options(goes_with="i000008")
    bought = {release.item_ids[item] for item, where in release.history(3) if where == 0}
    everybody = recommender.recommend(k=60, options=options)
    answer = recommender.recommend("c000003", basket=["i000009"], k=60, options=options)
    expected = [i for i in ids_of(everybody) if i not in bought | {"i000009"}]
    assert ids_of(answer) == expected
    assert answer.customer_id == "c000003"


def test_a_table_release_answers_as_if_nothing_was_asked_about(tmp_path: Path) -> None:
    """It can't encode an item, and says where the answer comes from."""
    release = make_release(tmp_path / "bundle", encoder="table", items=60)
    describe(release)
    install(release.folder, tmp_path / "home")
    recommender = Recommender.open(tmp_path / "home")
    assert recommender.recommend(options=Options(goes_with="i000008")).tier == "store-popular"
    known = recommender.recommend("c000003", options=Options(goes_with="i000008"))
    instead = recommender.recommend("c000003", k=60, options=Options(instead_of="i000008"))
    recommender.close()
    assert known.tier == "personal"
    assert "i000008" not in ids_of(known)
    assert instead.tiers == ("similar", "personal")


# --- always


@pytest.mark.parametrize("field", ["goes_with", "instead_of"])
@pytest.mark.parametrize("item", ["no such", "\udcff", ""])
def test_an_item_that_nobody_knows_is_named_and_the_shopper_answered(
    recommender: Recommender, field: str, item: str
) -> None:
    options = Options(**{field: item})  # type: ignore[arg-type]
    answer = recommender.recommend("c000003", options=options)
    plain = recommender.recommend("c000003")
    assert answer.unknown_items == (item,)
    assert (answer.tier, ids_of(answer)) == (plain.tier, ids_of(plain))


@pytest.mark.parametrize("field", ["goes_with", "instead_of"])
def test_an_item_that_is_the_only_one_leaves_nothing(recommender: Recommender, field: str) -> None:
    shown = recommender.shown(only=["i000008"])
    answer = recommender.recommend(
        shown=shown,
        options=Options(**{field: "i000008"}),  # type: ignore[arg-type]
    )
    assert answer.items == ()
    assert answer.tiers == (answer.tier,)


def test_two_questions_at_once_are_refused() -> None:
    with pytest.raises(RequestError, match="goes_with and instead_of are both given"):
        Options(goes_with="a", instead_of="b")
    with pytest.raises(RequestError, match="alike_in is given; allowed: together with instead_of"):
        Options(goes_with="a", alike_in="colour")


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_is_asked_about_the_promises_hold(
    release: Release, home: Path, data: st.DataObject
) -> None:
    ids = st.sampled_from([*release.item_ids, "no such"])
    about, field = data.draw(ids), data.draw(st.sampled_from(["goes_with", "instead_of"]))
    customer = data.draw(st.none() | st.sampled_from(release.customer_ids))
    basket = data.draw(st.lists(ids, max_size=4))
    only = data.draw(st.none() | st.lists(ids, max_size=30))
    dismissed = data.draw(st.lists(ids, max_size=4))
    kinds = data.draw(st.none() | st.sets(st.sampled_from(KINDS), min_size=1))
    channel = data.draw(st.sampled_from(CHANNELS))
    k = data.draw(st.integers(1, 70))
    options = Options(
        dismissed=dismissed,
        where={} if kinds is None else {"product_type": kinds},
        **{field: about},  # type: ignore[arg-type]
    )
    recommender = Recommender.open(home)
    shown = None if only is None else recommender.shown(only=only)
    answer = recommender.recommend(
        customer, basket=basket, k=k, channel=channel, shown=shown, options=options
    )
    recommender.close()

    left = set(release.item_ids if only is None else only) & set(release.item_ids)
    left -= {*basket, *dismissed, about}
    if customer is not None:
        number = CHANNELS.index(channel)
        history = release.history(release.customer_ids.index(customer))
        left -= {release.item_ids[item] for item, where in history if where == number}
    if kinds is not None:
        left &= {i for n, i in enumerate(release.item_ids[:58]) if KINDS[n % 4] in kinds}
    found = ids_of(answer)
    assert len(found) == len(set(found)) == min(k, len(left))
    assert set(found) <= left
    tiers = [item.tier for item in answer.items]
    assert tiers == sorted(tiers, key=lambda tier: tier != "similar")
    assert len(set(tiers)) <= 2
    if field == "goes_with":
        assert "similar" not in tiers
    for tier in set(tiers):
        scores = [item.score for item in answer.items if item.tier == tier]
        assert scores == sorted(scores, reverse=True)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Its items have what rules look at."""
    shop = make_shop(tmp_path_factory.mktemp("shop") / "bundle")
    install(shop.folder, shop.folder.parent / "home")
    return shop


@pytest.fixture(scope="module")
def opened(shop: Release) -> Iterator[Recommender]:
    recommender = Recommender.open(shop.folder.parent / "home")
    yield recommender
    recommender.close()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    row=st.integers(0, ITEMS - 1),
    field=st.sampled_from(["goes_with", "instead_of"]),
)
def test_rules_stock_and_wishes_hold_whatever_is_asked_about(
    opened: Recommender, shop: Release, seed: int, row: int, field: str
) -> None:
    case = random_case(seed, shop)
    case.of_release = {}
    about = {field: shop.item_ids[row]}
    case.options = replace(case.options, **about)  # type: ignore[arg-type]
    home = shop.folder.parent / "home"
    (home / "new").write_text(to_toml(case.of_store))
    (home / "new").replace(home / "rules.toml")
    write_shelf(home / "shelf.csv", case.shelf)

    answer = opened.recommend(
        None if case.customer is None else shop.customer_ids[case.customer],
        basket=case.basket,
        k=case.k,
        channel=case.channel,
        at=datetime(1970, 1, 1, 9, tzinfo=UTC) + timedelta(days=TODAY),
        options=case.options,
    )

    assert not opened.warnings
    found = [shop.item_ids.index(item_id) for item_id in ids_of(answer)]
    assert len(found) == len(set(found)) <= case.k
    assert not any(case.hidden(each) or case.left_out(each) or each == row for each in found)
    for column, n in case.caps():
        values = [case.items[each][column] for each in found]
        assert all(values.count(value) <= n for value in values if value)
    if len(found) < case.k:  # nothing is left that could be added
        for other in set(range(ITEMS)) - set(found) - {row}:
            assert case.hidden(other) or case.left_out(other) or not case.room(other, found)


# --- the command


def run(home: Path, *arguments: str) -> str:
    result = CliRunner().invoke(main, ["--home", str(home), "recommend", *arguments])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_the_text_says_from_which_tier_each_item_is(home: Path) -> None:
    lines = run(home, "--instead-of", "i000008", "-k", "20").splitlines()
    assert lines[0] == (
        "For anyone, offline, instead of i000008: from what is like it (similar), then from what "
        "goes with it (basket)"
    )
    head, *rows = lines[3:]
    assert head.split()[-2:] == ["tier", "reason"]
    at = head.index("tier")
    tiers = [row[at:].split()[0] for row in rows]
    assert tiers == ["similar"] * tiers.count("similar") + ["basket"] * tiers.count("basket")
    assert rows[0].endswith("like “Item 8”")
    one = run(home, "--goes-with", "i000008", "-k", "3").splitlines()
    assert one[0] == "For anyone, offline, with i000008: from what goes with it (basket)"
    assert "tier" not in one[3]


def test_the_document_says_so_too(home: Path) -> None:
    document = json.loads(run(home, "--instead-of", "i000008", "-k", "20", "--json"))
    assert (document["tier"], document["instead_of"], document["goes_with"]) == (
        "similar",
        "i000008",
        None,
    )
    assert {item["tier"] for item in document["items"]} == {"similar", "basket"}


def test_of_an_unknown_item_the_text_says_so_and_answers(home: Path) -> None:
    text = run(home, "--goes-with", "no\x07such")
    assert "For anyone, offline, with no�such: from what sells best (store-popular)" in text
    assert "Not in this release: no�such" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--goes-with", "a", "--instead-of", "b"], "goes_with and instead_of are both given"),
        (["--alike-in", "colour"], "alike_in is given; allowed: together with instead_of"),
        (["--instead-of", "i000008", "--alike-in", "size"], "the items have no column 'size'"),
    ],
)
def test_what_can_not_be_asked_is_one_error(home: Path, arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["--home", str(home), "recommend", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


# --- reasons and kinds


@pytest.mark.parametrize("language", LANGUAGES)
def test_reasons_name_the_item_in_every_language(recommender: Recommender, language: str) -> None:
    for options in (Options(goes_with="i000008"), Options(instead_of="i000008")):
        answer = recommender.recommend(k=5, options=options)
        reasons = [item.reason for item in answer.items if item.reason.kind in ("like", "with")]
        assert reasons
        for reason in reasons:
            words = reason.words(language)  # type: ignore[arg-type]
            assert "Item 8" in words
            assert "{" not in words


def test_the_kind_is_a_column_of_that_name_else_the_one_with_most_values(
    release: Release, home: Path, tmp_path: Path
) -> None:
    cache = Cache(generation_path(home, release.manifest.release))
    assert Categories(Columns(cache)).kind == "product_type"
    cache.close()
    other = make_release(tmp_path / "bundle", items=60)
    rows = [
        {"item_id": i, "name": i, "size": str(n % 3), "make": str(n % 9), "own": str(n)}
        for n, i in enumerate(other.item_ids)
    ]
    (other.folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reseal(other.folder)
    install(other.folder, tmp_path / "home")
    cache = Cache(generation_path(tmp_path / "home", other.manifest.release))
    categories = Categories(Columns(cache))
    assert categories.kind == "make"  # nobody shares "own"
    assert categories.match(3, np.array([3, 12, 6, 4])).tolist() == [1.0, 1.0, 0.5, 0.0]
    cache.close()
