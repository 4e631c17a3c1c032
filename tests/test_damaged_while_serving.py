"""A release that breaks while it serves: what is known by then is left out all the same."""

import gc
import json
import sqlite3
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.experiment import assign
from c2rec.runtime.release.install import install
from c2rec.runtime.rules.options import Options
from c2rec.runtime.rules.store_side import StoreSide
from c2rec.runtime.sync.sync import sync
from tests.enrolled import enrol, lists_for, publish_lists
from tests.experiments import NAME, SHARES, add_experiment
from tests.release import Release, make_release
from tests.repositories import make_head
from tests.rule_cases import make_shop

CUSTOMER = 5


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return make_shop(tmp_path_factory.mktemp("shop") / "bundle")


def damage(
    shop: Release, home: Path, statement: str, values: tuple[object, ...] = ()
) -> Recommender:
    """Open a release in which something was damaged that its digest would tell at a start."""
    install(shop.folder, home)
    path = generation_path(home, shop.manifest.release)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement, values)
    return Recommender(Cache(path), store=StoreSide(home))


def ids_of(recommender: Recommender, **asked: object) -> list[str]:
    """What is shown; the tier must be by what sells."""
    answer = recommender.recommend(f"c{CUSTOMER:06}", k=40, **asked)  # type: ignore[arg-type]
    assert answer.tier == "store-popular"
    (warning,) = recommender.warnings
    assert warning.endswith("answering by popularity")
    return [item.item_id for item in answer.items]


@pytest.mark.parametrize("field", [None, "goes_with", "instead_of"])
def test_where_who_asks_can_not_be_read_the_basket_is_left_out(
    shop: Release, tmp_path: Path, field: str | None
) -> None:
    recommender = damage(shop, tmp_path, "DROP TABLE customers")
    options = Options() if field is None else Options(**{field: "i000003"})  # type: ignore[arg-type]
    found = ids_of(recommender, basket=["i000007", "no such", "été"], options=options)
    recommender.close()
    gone = {"i000007", "été"} | (set() if field is None else {"i000003"})
    assert set(found) == set(shop.item_ids) - gone


# columns of a table, and what becomes of them: none comes from outside
SPOILED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "rows that no item has": (
        "history_items",
        lambda old: np.full(len(old) // 4, 99_999, np.int32).tobytes(),
    ),
    "rows below 0": ("history_items", lambda old: np.full(len(old) // 4, -5, np.int32).tobytes()),
    "an item too few": ("history_items", lambda old: old[:-4]),
    "no items": ("history_items", lambda _: b""),
    "a channel too few": ("history_channels", lambda old: old[:-1]),
    "a day too few": ("history_days", lambda old: old[:-4]),
    "other components": ("components", lambda old: old[:-12]),
    "a flag too few": ("has", lambda old: old[:-1]),
}


@pytest.mark.parametrize("spoiled", SPOILED)
@pytest.mark.parametrize("rules", ["", '[[bought]]\nitems = ["i000001"]\ndays = 3\n'])
def test_a_customer_s_row_that_does_not_fit_is_damage_and_no_crash(
    shop: Release, tmp_path: Path, spoiled: str, rules: str
) -> None:
    column, change = SPOILED[spoiled]
    (tmp_path / "rules.toml").write_text(f"format = 1\n{rules}")
    recommender = damage(
        shop,
        tmp_path,
        f"UPDATE customers SET {column} = ? WHERE customer_id = ?",  # noqa: S608 - see above
        (change(of_customer(shop, tmp_path / "other", column)), f"c{CUSTOMER:06}"),
    )
    ids_of(recommender, basket=["i000007"])
    recommender.close()


def of_customer(shop: Release, home: Path, column: str) -> bytes:
    install(shop.folder, home)
    path = generation_path(home, shop.manifest.release)
    with closing(sqlite3.connect(path)) as db:
        query = f"SELECT {column} FROM customers WHERE customer_id = ?"  # noqa: S608 - see above
        (found,) = db.execute(query, [f"c{CUSTOMER:06}"]).fetchone()
    return bytes(found)


def test_where_the_basket_can_not_be_read_what_was_bought_is_left_out(
    shop: Release, tmp_path: Path
) -> None:
    """An index is damaged that finds items by their ids; their names can be read."""
    install(shop.folder, tmp_path)
    path = generation_path(tmp_path, shop.manifest.release)
    overwrite(path, "type = 'index' AND tbl_name = 'items'")
    recommender = Recommender(Cache(path))
    found = ids_of(recommender, basket=["i000007"])
    recommender.close()
    bought = {shop.item_ids[item] for item, where in shop.history(CUSTOMER) if where == 0}
    assert bought
    assert set(found) == set(shop.item_ids) - bought


def overwrite(path: Path, which: str) -> None:
    """Overwrite the page at the root of a table or an index."""
    with closing(sqlite3.connect(path)) as db:
        query = f"SELECT rootpage FROM sqlite_schema WHERE {which}"  # noqa: S608 - of a test
        ((page,),) = db.execute(query).fetchall()
        ((size,),) = db.execute("PRAGMA page_size").fetchall()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.parametrize("arm", SHARES)
def test_a_list_is_obeyed_where_the_customer_can_not_be_read_and_kept_from_a_holdout(
    tmp_path: Path, arm: str
) -> None:
    """What was bought online is left out in each arm."""
    head = make_head(tmp_path / "head", publish=False)
    head.publish(customers=100, change=add_experiment)
    kiosk = enrol(head, tmp_path / "home")
    everybody = [f"c{n:06}" for n in range(3, 100)]
    listed = ["i000030", "i000017", "i000008"]
    bought = [("i000008", 1_900_000_000), ("i000009", 1_900_000_000)]
    publish_lists(head, lists_for(everybody, items=listed, bought=bought))
    assert sync(kiosk.home).warnings == []
    of_arm = {assign(NAME, SHARES, kiosk.pseudonym(each).hex()): each for each in everybody}
    recommender = Recommender.open(kiosk.home)
    overwrite(recommender._cache.path, "name = 'customers'")
    answer = recommender.recommend(of_arm[arm], k=40)
    recommender.close()
    (warning,) = recommender.warnings
    assert warning.endswith("answering by popularity")
    assert (answer.tier, answer.arm, answer.model) == ("store-popular", f"{NAME}/{arm}", None)
    held = arm == "holdout"
    assert answer.path == ("offline" if held else "rank-fusion")
    assert (answer.online_as_of is None) == held
    found = [item.item_id for item in answer.items]
    assert set(found) == set(head.releases[0].item_ids) - {"i000008", "i000009"}


def test_an_explanation_falls_back_as_the_answer_does(tmp_path: Path) -> None:
    """The arm's own graph can't be run: the main model answers, and that is explained."""
    release = make_release(tmp_path / "bundle")
    add_experiment(release.folder)
    install(release.folder, tmp_path / "home")
    path = generation_path(tmp_path / "home", release.manifest.release)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE graphs SET onnx = x'6a' WHERE name = 'challenger.scorer.onnx'")
    recommender = Recommender(Cache(path))
    customers = [f"c{n:06}" for n in range(3, 30)]
    customer = next(c for c in customers if assign(NAME, SHARES, c) == "challenger")
    answer = recommender.recommend(customer)
    found = recommender.explain(answer.items[2].item_id, customer)
    recommender.close()
    assert (answer.arm, answer.model) == (f"{NAME}/challenger", "main")
    assert (found.arm, found.model, found.place) == (answer.arm, "main", 3)
    assert found.value == answer.items[2].score
    (warning,) = recommender.warnings
    assert warning.endswith("the main model answers for arm challenger")


def test_of_an_arm_that_was_repaired_the_old_engine_is_let_go(tmp_path: Path) -> None:
    """Filters that are kept ready for it must not keep it: it maps the arm's whole model."""
    release = make_release(tmp_path / "bundle")
    add_experiment(release.folder)
    install(release.folder, tmp_path / "home")
    (tmp_path / "home" / "rules.toml").write_text('format = 1\n[[deny]]\nitems = ["i000001"]\n')
    recommender = Recommender.open(tmp_path / "home")
    customers = [f"c{n:06}" for n in range(3, 30)]
    customer = next(c for c in customers if assign(NAME, SHARES, c) == "challenger")
    recommender.recommend(customer)
    models = recommender._models
    ((side, model),) = models._own.values()
    engine, path = weakref.ref(model.tiers._engine), side._side.path
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").replace(path)
    del side, model
    models.follow({})
    gc.collect()
    assert engine() is None
    assert recommender.recommend(customer).model == "challenger"
    recommender.close()


def spoil_tensor(path: Path, name: str, values: np.ndarray) -> None:
    """Write over a tensor of an item side, in place."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    first, last = json.loads(content[8 : 8 + length])[name]["data_offsets"]
    with path.open("r+b") as file:
        file.seek(8 + length + first)
        file.write(np.resize(values, (last - first) // values.itemsize).tobytes())


@pytest.mark.parametrize("value", [np.nan, -np.inf, -7.0, np.inf, 3e38])
@pytest.mark.parametrize("field", [None, "goes_with", "instead_of"])
@pytest.mark.parametrize("factor", [0.5, 1000])
def test_where_what_sells_is_damaged_nothing_denied_is_shown(
    shop: Release, tmp_path: Path, value: float, field: str | None, factor: float
) -> None:
    """Numbers below that which marks what may not be shown would let it through."""
    install(shop.folder, tmp_path)
    denied = shop.item_ids[:20]
    kind = "boost" if factor > 1 else "bury"
    text = f"format = 1\n[[deny]]\nitems = {denied}\n".replace("'", '"')
    text += f"[[{kind}]]\nprice = {{from = 0}}\nfactor = {factor}\n"
    (tmp_path / "rules.toml").write_text(text)
    recommender = Recommender(
        Cache(generation_path(tmp_path, shop.manifest.release)), store=StoreSide(tmp_path)
    )
    spoil_tensor(recommender._cache.items_path, "popularity", np.array([value], np.float32))
    options = Options() if field is None else Options(**{field: "i000000"})  # type: ignore[arg-type]
    answer = recommender.recommend(k=30, options=options)
    recommender.close()
    assert {item.item_id for item in answer.items} == set(shop.item_ids[20:])


def test_neighbours_that_are_no_items_are_damage_and_no_crash(tmp_path: Path) -> None:
    """Where the online list's items are scored one by one, too."""
    head = make_head(tmp_path / "head", publish=False)
    head.publish()
    kiosk = enrol(head, tmp_path / "home")
    publish_lists(head, lists_for(["c000005"]))
    sync(kiosk.home)
    recommender = Recommender.open(kiosk.home)
    spoil_tensor(recommender._cache.items_path, "neighbour_items", np.array([10**9], np.int32))
    answer = recommender.recommend("c000005")
    with pytest.raises(ReleaseError, match="arrays don't fit each other"):
        recommender.explain("i000003", "c000005")
    recommender.close()
    assert answer.tier == "store-popular"
    (warning,) = recommender.warnings
    assert warning.endswith("answering by popularity")
