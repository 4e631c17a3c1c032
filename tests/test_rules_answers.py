"""Answers under rules, stock and wishes: against a choice made item by item in Python."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2rec.runtime.engine import engine
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.install import install
from c2rec.runtime.rules import assortment
from c2rec.runtime.rules.store_side import StoreSide
from tests.release import Release
from tests.rule_cases import (
    ITEMS,
    TODAY,
    Case,
    make_shop,
    random_case,
    to_toml,
    write_shelf,
)

AT = datetime(1970, 1, 1, 9, tzinfo=UTC) + timedelta(days=TODAY)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return make_shop(tmp_path_factory.mktemp("shop") / "bundle")


@pytest.fixture(scope="module")
def home(shop: Release) -> Path:
    home = shop.folder.parent / "home"
    install(shop.folder, home)
    return home


@pytest.fixture(scope="module")
def opened(home: Path) -> Iterator[Recommender]:
    recommender = Recommender.open(home)
    yield recommender
    recommender.close()


def answer_rows(recommender: Recommender, case: Case) -> list[int]:
    """Rows of the items recommended."""
    release = case.release
    answer = recommender.recommend(
        None if case.customer is None else release.customer_ids[case.customer],
        basket=case.basket,
        k=case.k,
        channel=case.channel,
        at=AT,
        options=case.options,
    )
    return [release.item_ids.index(item.item_id) for item in answer.items]


@pytest.mark.parametrize("searched", [False, True])
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_mix_of_rules_stock_and_wishes_is_answered_as_item_by_item(
    opened: Recommender, shop: Release, home: Path, seed: int, searched: bool
) -> None:
    """All promises at once, and that the store's files count from the next answer on."""
    case = random_case(seed, shop)
    case.of_release = {}
    (home / "new").write_text(to_toml(case.of_store))
    (home / "new").replace(home / "rules.toml")
    write_shelf(home / "shelf.csv", case.shelf)
    with pytest.MonkeyPatch.context() as patch:
        if searched:  # by bounds, as a great catalogue is
            patch.setattr(engine, "SMALL", 0)
            patch.setattr(engine, "SMALL_CATALOGUE", 0)
        if seed % 3 == 0:
            patch.setattr(assortment, "MOST_GROUPS", 1)
        found = answer_rows(opened, case)
    assert not opened.warnings
    check_promises(case, found)
    assert found == case.expected()


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_rules_of_the_release_and_of_the_store_hold_together(
    shop: Release, home: Path, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    case = random_case(seed, shop)
    place = tmp_path_factory.mktemp("both")
    shutil.copytree(home / "gen", place / "gen")
    path = place / "gen" / f"{shop.manifest.release}.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO about VALUES ('rules', ?)", [to_toml(case.of_release)])
    (place / "rules.toml").write_text(to_toml(case.of_store))
    write_shelf(place / "shelf.csv", case.shelf)
    recommender = Recommender(Cache(path), store=StoreSide(place))
    found = answer_rows(recommender, case)
    recommender.close()
    assert not recommender.warnings
    check_promises(case, found)
    assert found == case.expected()


def check_promises(case: Case, found: list[int]) -> None:
    """What a store relies on, whatever the order."""
    assert len(found) == len(set(found)) <= case.k
    for row in found:
        item_id = case.release.item_ids[row]
        assert not case.hidden(row)
        assert not case.left_out(row)
        assert case.shelf.get(item_id, (None, None))[1] != 0
    for column, n in case.caps():
        values = [case.items[row][column] for row in found]
        assert all(values.count(value) <= n for value in values if value)
    if len(found) < case.k:  # nothing is left that could be added
        for row in set(range(ITEMS)) - set(found):
            assert case.hidden(row) or case.left_out(row) or not case.room(row, found)
