"""Reading rules, following a store's files, and what becomes of a file that can't be used."""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2rec.runtime.errors import DataError, HomeError, ReleaseError, RequestError, TooNewError
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.bundle import read_bundle
from c2rec.runtime.release.install import install
from c2rec.runtime.rules.options import Options
from c2rec.runtime.rules.policy import Touch
from c2rec.runtime.rules.rules import Price, Rules, Selector
from c2rec.runtime.rules.rules_file import check_rules, parse_rules, read_rules_text
from c2rec.runtime.rules.shelf import Offer
from c2rec.runtime.rules.store_side import StoreSide
from c2rec.store_kiosk.desk import Asked, Desk
from tests.release import Release, make_release, reseal
from tests.rule_cases import make_shop, rows_of, to_toml

ITEM = 'items = ["a"]'


def rules_of(text: str) -> Rules:
    return check_rules("format = 1\n" + text, file="rules.toml", origin="store")


# --- reading


def test_a_file_is_read_as_it_says() -> None:
    rules = rules_of(
        '[[deny]]\nname = "recalled"\nitems = ["a", "b"]\n'
        '[[allow]]\nwhere = {category = ["x", "y"], brand = "z"}\nprice = {to = 5}\n'
        "[[bury]]\nprice = {from = 1, to = 2.5}\nfactor = 0.5\n"
        '[[bought]]\nitems = ["a"]\ndays = 0\n'
        '[[at_most]]\nper = "category"\nn = 2\n'
        "[diversity]\nweight = 1\n[session]\nrepeats = 3\n"
        '[stock]\nunknown = "hidden"\nleast = 2\n'
    )
    assert rules.deny[0].selector == Selector(items=frozenset({"a", "b"}))
    where = (("brand", frozenset({"z"})), ("category", frozenset({"x", "y"})))
    assert rules.allow[0].selector == Selector(where=where, price=Price(0, 5))
    assert rules.weigh[0].selector.price == Price(1, 2.5)
    assert [rule.title for rule in (*rules.deny, *rules.weigh)] == ["recalled", "bury 1"]
    assert (rules.weigh[0].factor, rules.bought[0].days) == (0.5, 0)
    assert (rules.at_most[0].column, rules.at_most[0].n) == ("category", 2)
    assert (rules.diversity, rules.repeats) == (1.0, 3)
    assert (rules.unknown_stock, rules.least_stock) == ("hidden", 2)
    assert rules.columns == {"category", "brand"}
    assert not rules_of("")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deny = 3", "deny is 3; allowed: tables [[deny]]"),
        ("[[denied]]", "'denied' is unknown; allowed: format, deny, allow"),
        ("[[deny]]", "deny 1: says of no items what it is about; allowed: one or more of items"),
        ("[[deny]]\nitems = []", "deny 1: items is []; allowed: a list of one or more item ids"),
        ('[[deny]]\nitems = "a"', "deny 1: items is 'a'; allowed: a list"),
        ('[[deny]]\nitems = ["a", 3]', "deny 1: items is ['a', 3]"),
        ("[[deny]]\nwhere = {}", "deny 1: where is {}; allowed: a table such as"),
        ("[[deny]]\nwhere = {size = 42}", "deny 1: where: size is 42; allowed: a text in quotes"),
        ("[[deny]]\nwhere = {size = []}", "deny 1: where: size is []"),
        ("[[deny]]\nprice = {}", "deny 1: price is {}; allowed: a table such as {from = 10"),
        ("[[deny]]\nprice = {from = nan}", "deny 1: price: from is nan; allowed: a number from 0"),
        ("[[deny]]\nprice = {from = 2, to = 1}", "deny 1: price: from is 2.0; allowed: a number"),
        ("[[deny]]\nprice = {form = 2}", "deny 1: price: 'form' is unknown; allowed: from, to"),
        (f"[[deny]]\n{ITEM}\nfactor = 2", "deny 1: 'factor' is unknown; allowed: name, items"),
        (f'[[deny]]\n{ITEM}\nname = ""', "deny 1: name is ''; allowed: 1 to 80 printable"),
        (f'[[deny]]\n{ITEM}\nname = "a\\u001b"', "deny 1: name is 'a\\x1b'; allowed: 1 to 80"),
        (f"[[boost]]\n{ITEM}", "boost 1: factor is missing; allowed: a number from 0.001 to 1000"),
        (f"[[boost]]\n{ITEM}\nfactor = 0.5", "boost 1: factor is 0.5; allowed: above 1 to"),
        (f"[[boost]]\n{ITEM}\nfactor = inf", "boost 1: factor is inf"),
        (f"[[boost]]\n{ITEM}\nfactor = true", "boost 1: factor is True"),
        (f"[[bury]]\n{ITEM}\nfactor = 2", "bury 1: factor is 2.0; allowed: 0.001 to below 1"),
        (f"[[bury]]\n{ITEM}\nfactor = 0", "bury 1: factor is 0; allowed: a number from 0.001"),
        (f"[[bought]]\n{ITEM}\ndays = 1.5", "bought 1: days is 1.5; allowed: a whole number"),
        (f"[[bought]]\n{ITEM}\ndays = -1", "bought 1: days is -1"),
        ("[[at_most]]\nn = 2", "at_most 1: per is missing; allowed: a column of the items"),
        ('[[at_most]]\nper = "x"\nn = 0', "at_most 1: n is 0; allowed: a whole number from 1"),
        ('[[at_most]]\nper = "x"\nn = true', "at_most 1: n is True"),
        ("[diversity]", "diversity is {}; allowed: one table, [diversity], with weight"),
        ("[diversity]\nweight = nan", "diversity: weight is nan; allowed: a number from 0 to 1"),
        ("[[diversity]]\nweight = 1", "diversity is [{'weight': 1}]; allowed: one table"),
        ("[session]\nrepeats = 0", "session: repeats is 0; allowed: a whole number from 1"),
        ('[stock]\nunknown = "maybe"', "stock: unknown is 'maybe'; allowed: \"shown\" or"),
        ("[stock]\nleast = 0", "stock: least is 0"),
        ("[stock]\nlast = 1", "stock: 'last' is unknown; allowed: unknown, least"),
        ('[[deny]]\nname = "x"\nitems = [1]', "deny 1 ('x'): items is [1]"),
        ("x = ", "is not valid TOML"),
        (f"x = {'9' * 5000}", "is not valid TOML"),
        ("".join(f"[[deny]]\n{ITEM}\n" for _ in range(501)), "there are 501 rules; allowed: 500"),
    ],
)
def test_what_is_wrong_is_named_with_rule_field_value_and_what_is_allowed(
    text: str, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        rules_of(text)
    assert str(caught.value).startswith(f"rules.toml: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "format is missing; allowed: 1"),
        ("format = 2", "format is 2, newer than the 1 that this version reads; upgrade it: pip"),
        ("format = true", "format is True; allowed: 1"),
        ("format = '1'", "format is '1'; allowed: 1"),
    ],
)
def test_another_format_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_rules(text, file="rules.toml", origin="store")


def test_of_a_faulty_file_all_that_is_wrong_is_told_and_what_it_denies_is_known() -> None:
    parsed = parse_rules(
        f"format = 1\n[[deny]]\n{ITEM}\n[[deny]]\nitems = 3\n[[boost]]\n{ITEM}\n",
        file="rules.toml",
        origin="store",
    )
    assert [error.split(" is ")[0] for error in parsed.errors] == [
        "rules.toml: deny 2: items",
        "rules.toml: boost 1: factor",
    ]
    assert [rule.number for rule in parsed.rules.deny] == [1]


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    for prefix in ("", "format = 1\n", "format = 1\n[[deny]]\n", "format = 1\n[stock]\n"):
        parsed = parse_rules(prefix + text, file="rules.toml", origin="store")
        assert parsed.errors or parsed.rules is not None


def test_a_file_that_is_no_text_or_too_long_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(b"\xff")
    with pytest.raises(DataError, match="byte 0 is no UTF-8"):
        read_rules_text(path)
    path.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(DataError, match="longer than the 1,048,576 bytes"):
        read_rules_text(path)
    with pytest.raises(DataError, match=r"none.toml: can't be read"):
        read_rules_text(tmp_path / "none.toml")


# --- wishes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Options(where={"a": []}), "where: a is []; allowed: one or more values"),
        (lambda: Options(where={"a": "b"}), "where: a is 'b'"),
        (lambda: Options(price=Price(5, 1)), "price is 5 to 1; allowed: two numbers from 0"),
        (lambda: Options(price=Price(float("nan"), 1)), "price is nan to 1"),
        (lambda: Options(at_most={"a": 0}), "at_most: a is 0; allowed: 1 to 1000"),
        (lambda: Options(diversity=float("nan")), "diversity is nan; allowed: 0 to 1"),
    ],
)
def test_a_wish_that_can_t_be_is_refused(make: Callable[[], Options], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        make()
    assert str(caught.value).startswith(message)


# --- a store's files


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return make_shop(tmp_path_factory.mktemp("shop") / "bundle")


@pytest.fixture
def home(shop: Release, tmp_path: Path) -> Path:
    install(shop.folder, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def kiosk(home: Path) -> Iterator[Recommender]:
    recommender = Recommender.open(home)
    yield recommender
    recommender.close()


def say(home: Path, text: str) -> None:
    """Replace the store's rules."""
    (home / "new").write_text(text)
    (home / "new").replace(home / "rules.toml")


def shown(kiosk: Recommender) -> set[str]:
    return {item.item_id for item in kiosk.recommend(k=40).items}


def test_the_next_answer_after_a_file_was_replaced_obeys_it(
    home: Path, kiosk: Recommender, shop: Release
) -> None:
    assert shown(kiosk) == set(shop.item_ids)
    say(home, 'format = 1\n[[deny]]\nitems = ["i000003"]\n')
    assert shown(kiosk) == set(shop.item_ids) - {"i000003"}
    (home / "shelf.csv").write_text("item_id,stock\ni000004,0\n")
    assert shown(kiosk) == set(shop.item_ids) - {"i000003", "i000004"}
    (home / "rules.toml").unlink()
    assert shown(kiosk) == set(shop.item_ids) - {"i000004"}
    assert not kiosk.warnings


def test_a_file_that_turns_bad_leaves_the_last_good_rules_and_denies_what_it_denies(
    home: Path, kiosk: Recommender, shop: Release
) -> None:
    say(home, 'format = 1\n[[deny]]\nitems = ["i000003"]\n[[allow]]\nprice = {from = 0}\n')
    allowed = shown(kiosk)
    assert 3 < len(allowed) < 40
    recalled = min(allowed)
    say(home, f'format = 1\n[[deny]]\nitems = ["{recalled}"]\n[[deny]]\nitem = ["i000009"]\n')
    assert shown(kiosk) == allowed - {recalled}
    assert "deny 2: 'item' is unknown" in kiosk.warnings[-1]
    say(home, "[[[")
    assert shown(kiosk) == allowed
    assert "is not valid TOML" in kiosk.warnings[-1]
    say(home, "format = 1\n")
    assert shown(kiosk) == set(shop.item_ids)
    assert len(kiosk.warnings) == 2


@pytest.mark.parametrize(
    "faulty",
    [
        '[deny]\nitems = ["i000003"]\n',
        '[[deny]]\nname = ""\nitems = ["i000003"]\n',
        '[[deny]]\nitems = ["i000003"]\nreason = "recalled"\n',
    ],
)
def test_a_slip_in_what_denies_does_not_show_it(
    home: Path, kiosk: Recommender, shop: Release, faulty: str
) -> None:
    """Also where no good file was ever read."""
    say(home, "format = 1\n" + faulty)
    assert shown(kiosk) == set(shop.item_ids) - {"i000003"}
    (warning,) = kiosk.warnings
    assert warning.endswith(
        "until it is mended, the store has no rules, and what this file denies is not shown"
    )


def test_a_slip_in_another_rule_denies_nothing(
    home: Path, kiosk: Recommender, shop: Release
) -> None:
    say(home, 'format = 1\n[[boost]]\nitems = ["i000003"]\nfactor = 0\n')
    assert shown(kiosk) == set(shop.item_ids)
    (warning,) = kiosk.warnings
    assert warning.endswith("until it is mended, the store has no rules")


def test_of_many_errors_the_first_are_told_and_the_rest_counted() -> None:
    parsed = parse_rules("format = 1\n" + "[[deny]]\n" * 400, file="rules.toml", origin="store")
    assert len(parsed.errors) == 21
    assert parsed.errors[-1] == "rules.toml: and 380 more"


@pytest.mark.parametrize("count", [13, 120])
@pytest.mark.parametrize(("kind", "factor"), [("boost", 1000), ("bury", 0.001)])
@pytest.mark.parametrize("customer", [None, "c000005"])
def test_many_factors_on_one_item_stay_numbers(
    home: Path,
    kiosk: Recommender,
    shop: Release,
    count: int,
    kind: str,
    factor: float,
    customer: str | None,
) -> None:
    """Multiplied without end they would come to infinity or 0, and those times 0 to no number."""
    rule = f"[[{kind}]]\nitems = {shop.item_ids[:20]}\nfactor = {factor}\n"
    say(home, "format = 1\n" + (rule * count).replace("'", '"'))
    answer = kiosk.recommend(customer, k=40)
    assert kiosk.warnings == []
    assert all(math.isfinite(item.score) for item in answer.items)
    assert answer.tier == ("store-popular" if customer is None else "personal")
    first = [item.item_id in shop.item_ids[:20] for item in answer.items if item.score]
    assert first == sorted(first, reverse=kind == "boost")


def test_a_column_that_the_items_lack_is_told_with_those_they_have(
    home: Path, kiosk: Recommender, shop: Release
) -> None:
    say(home, 'format = 1\n[[deny]]\nitems = ["i000003"]\n[[allow]]\nwhere = {size = "S"}\n')
    assert shown(kiosk) == set(shop.item_ids) - {"i000003"}
    assert (
        "allow 1: where: the items have no column 'size'; allowed: brand, category, price"
        in (kiosk.warnings[-1])
    )
    with pytest.raises(RequestError, match="at_most: the items have no column 'size'"):
        kiosk.recommend(options=Options(at_most={"size": 1}))


def test_a_shelf_that_turns_bad_leaves_what_was_known(home: Path, kiosk: Recommender) -> None:
    (home / "shelf.csv").write_text("item_id,stock\ni000004,0\n")
    assert "i000004" not in shown(kiosk)
    (home / "shelf.csv").write_text("item_id,stock\ni000004,many\n")
    assert "i000004" not in shown(kiosk)
    (home / "shelf.csv").unlink()
    assert "i000004" not in shown(kiosk)
    assert [each.rpartition("; ")[2] for each in kiosk.warnings] == [
        "prices and stock are those read before"
    ] * 2


def test_a_shelf_that_came_while_the_columns_could_not_be_read_counts(tmp_path: Path) -> None:
    """The release is read for them; what was noticed by then must not be forgotten."""

    def fail() -> list[str]:
        raise HomeError("can't read")

    store = StoreSide(tmp_path)
    say(tmp_path, 'format = 1\n[[deny]]\nwhere = {category = "c1"}\n')
    store.look(lambda: ["category"])
    (tmp_path / "shelf.csv").write_text("item_id,stock\na,0\n")
    with pytest.raises(HomeError):
        store.look(fail)
    assert store.look(lambda: ["category"]).shelf.offers == {"a": Offer(None, 0)}


def test_new_rules_look_at_the_shelf_that_stays(home: Path, kiosk: Recommender) -> None:
    (home / "shelf.csv").write_text("item_id,price,stock\ni000004,,0\ni000005,777,\n")
    assert "i000004" not in shown(kiosk)
    say(home, "format = 1\n[[deny]]\nprice = {from = 777, to = 777}\n")
    assert not {"i000004", "i000005"} & shown(kiosk)
    (home / "shelf.csv").write_text("item_id,price\ni000005,7\n")
    assert {"i000004", "i000005"} < shown(kiosk)


def test_two_writes_that_leave_length_and_time_are_told_apart_by_renaming(
    home: Path, kiosk: Recommender
) -> None:
    for item in ("i000003", "i000004", "i000003"):
        say(home, f'format = 1\n[[deny]]\nitems = ["{item}"]\n')
        os.utime(home / "rules.toml", ns=(1, 1))
        assert item not in shown(kiosk)


# --- what an answer says


def test_a_short_answer_says_what_kept_how_many_back(
    home: Path, kiosk: Recommender, shop: Release
) -> None:
    rows = rows_of(shop)
    say(
        home,
        'format = 1\n[[deny]]\nname = "recalled"\nitems = ["i000003", "i000004"]\n'
        '[[at_most]]\nper = "category"\nn = 1\n',
    )
    (home / "shelf.csv").write_text("item_id,stock\ni000005,0\ni000004,0\n")
    gone = Options(dismissed=["i000006"], where={"brand": ["b1", "b2"]})
    answer = kiosk.recommend(basket=["i000007"], k=20, options=gone)
    told = {(note.kind, note.rule): note.items for note in answer.notes}
    others = sum(row["brand"] not in ("b1", "b2") for row in rows)
    caps = told.pop(("cap", "at most 1 per category"))
    assert told == {
        ("denied", "recalled"): 2,
        ("sold out", ""): 2,
        ("category", ""): others,
        ("basket", ""): 1,
        ("dismissed", ""): 1,
    }
    left = [
        row
        for row in rows
        if row["brand"] in ("b1", "b2") and row["item_id"] not in [f"i00000{n}" for n in "34567"]
    ]
    assert caps == len(left) - len(answer.items)
    assert len(answer.items) == len({row["category"] for row in left})
    assert kiosk.recommend(k=1).notes == ()
    assert answer.notes[0].words("en") == "not to be shown “recalled”: 2"


def test_each_rule_that_touches_an_item_is_told(
    home: Path, kiosk: Recommender, shop: Release
) -> None:
    category = rows_of(shop)[3]["category"]
    say(
        home,
        'format = 1\n[[deny]]\nname = "recalled"\nitems = ["i000003"]\n'
        '[[allow]]\nname = "few"\nitems = ["i000009"]\n'
        f'[[boost]]\nwhere = {{category = "{category}"}}\nfactor = 3\n'
        '[[bury]]\nitems = ["i000009"]\nfactor = 0.5\n'
        f'[[bought]]\nwhere = {{category = "{category}"}}\ndays = 9\n'
        '[[at_most]]\nper = "category"\nn = 2\n[stock]\nunknown = "hidden"\nleast = 4\n',
    )
    (home / "shelf.csv").write_text("item_id,stock\ni000003,2\n")
    kiosk.keep_up()
    assert kiosk.policy is not None
    assert kiosk.policy.touching(3) == [
        Touch("recalled", "store", "denied", None),
        Touch("few", "store", "not allowed", None),
        Touch("sold out", "shelf", "sold out", 2.0),
        Touch("boost 1", "store", "boosted", 3.0),
        Touch("bought 1", "store", "window", 9),
        Touch("at most 2 per category", "store", "cap", 2),
    ]
    assert [each.effect for each in kiosk.policy.touching(9)][:2] == ["stock unknown", "buried"]


# --- rules of a release


def test_rules_travel_in_a_bundle(tmp_path: Path) -> None:
    shop = make_shop(tmp_path / "bundle", {"deny": [{"items": ["i000003"]}]})
    install(shop.folder, tmp_path / "home")
    kiosk = Recommender.open(tmp_path / "home")
    assert shown(kiosk) == set(shop.item_ids) - {"i000003"}
    say(tmp_path / "home", 'format = 1\n[[deny]]\nitems = ["i000004"]\n')
    assert shown(kiosk) == set(shop.item_ids) - {"i000003", "i000004"}
    say(tmp_path / "home", "nonsense")
    assert shown(kiosk) == set(shop.item_ids) - {"i000003", "i000004"}
    kiosk.close()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("format = 1\n[[deny]]\n", ReleaseError, "rules.toml: deny 1: says of no items"),
        ("format = 2\n", TooNewError, "format is 2, newer"),
        ("\xff", ReleaseError, "rules.toml: is not valid TOML"),
    ],
)
def test_a_bundle_with_faulty_rules_is_refused(
    tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    shop = make_shop(tmp_path / "bundle")
    (shop.folder / "rules.toml").write_text(text)
    reseal(shop.folder)
    with pytest.raises(error, match=message):
        read_bundle(shop.folder)


def test_rules_of_a_release_for_columns_that_it_lacks_are_left_out_and_told(tmp_path: Path) -> None:
    """Head office's own check refuses them; another exporter may not."""
    rules = {"deny": [{"items": ["i000003"]}], "allow": [{"where": {"size": ["S"]}}]}
    shop = make_shop(tmp_path / "bundle", rules)
    install(shop.folder, tmp_path / "home")
    kiosk = Recommender.open(tmp_path / "home")
    assert shown(kiosk) == set(shop.item_ids) - {"i000003"}
    kiosk.close()
    assert len(kiosk.warnings) == 1
    assert "the items have no column 'size'" in kiosk.warnings[0]
    assert to_toml(rules).startswith("format = 1")


def test_rules_outlive_a_release_that_lacks_their_columns(tmp_path: Path) -> None:
    """As long as the process lives; what needs no column holds all the same."""
    shop, home = make_shop(tmp_path / "bundle"), tmp_path / "home"
    install(shop.folder, home)
    warnings: list[str] = []
    desk = Desk(home, report=warnings.append)
    say(
        home,
        'format = 1\n[[deny]]\nitems = ["i000003"]\n[[allow]]\nwhere = {category = ["c1", "c2"]}\n'
        '[[at_most]]\nper = "brand"\nn = 1\n',
    )
    category = {row["item_id"]: row["category"] for row in rows_of(shop)}
    brand = {row["item_id"]: row["brand"] for row in rows_of(shop)}

    def asked() -> list[str]:
        return [item.item_id for item in desk.recommend(Asked(), 50).items]

    before = asked()
    assert {category[item] for item in before} <= {"c1", "c2"}
    assert len({brand[item] for item in before if brand[item]}) <= 4
    bare = make_release(tmp_path / "bare", name="2020-08-27-00000002")
    install(bare.folder, home)
    assert set(asked()) == set(bare.item_ids) - {"i000003"}
    assert len(warnings) == 1
    assert "allow 1: where: the items have no column 'category'; allowed: colour" in warnings[0]
    again = make_shop(tmp_path / "again")
    reseal(again.folder, lambda document: document.update(release="2020-09-27-00000003"))
    install(again.folder, home)
    assert asked() == before
    desk.close()
    assert len(warnings) == 1
