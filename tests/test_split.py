"""Periods, k-core and vocabulary, against rules spelled out in plain Python."""

import os
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2rec.runtime.errors import DataError
from c2rec.train.hm import import_hm
from c2rec.train.split import Purchases, all_history, k_core, split
from c2rec.train.transactions import Dataset, read_dataset

Row = tuple[str, str, str, int]
"""Customer, item, channel, and day counted from FIRST."""

FIRST = date(2020, 1, 1)


def dataset(rows: list[Row], hour: int = 23) -> Dataset:
    return Dataset(
        pl.DataFrame(
            {
                "customer_id": [row[0] for row in rows],
                "item_id": [row[1] for row in rows],
                "channel": [row[2] for row in rows],
                "timestamp": [
                    datetime(2020, 1, 1, hour, tzinfo=UTC) + timedelta(days=row[3]) for row in rows
                ],
                "quantity": [2] * len(rows),
            }
        ),
        None,
        "",
    )


def named(purchases: Purchases, customers: list[str], items: list[str]) -> list[Row]:
    return [
        (
            customers[customer],
            items[item],
            ("offline", "online")[channel],
            int(day) - (FIRST - date(1970, 1, 1)).days,
        )
        for customer, item, channel, day in zip(
            purchases.customers, purchases.items, purchases.channels, purchases.days, strict=True
        )
    ]


BOTH: list[Row] = [
    ("b", "x", "online", 0),
    ("b", "x", "offline", 1),
    ("a", "y", "online", 1),
    ("a", "x", "online", 2),
    ("a", "x", "online", 0),
]


def test_training_is_distinct_purchases_sorted_with_last_day_and_units() -> None:
    parts = split(dataset(BOTH), test_days=0, valid_days=0, min_interactions=1)
    assert parts.vocabulary.customer_ids == ["a", "b"]
    assert parts.vocabulary.item_ids == ["x", "y"]
    assert named(parts.train, ["a", "b"], ["x", "y"]) == [
        ("a", "x", "online", 2),
        ("a", "y", "online", 1),
        ("b", "x", "offline", 1),
        ("b", "x", "online", 0),
    ]
    assert parts.train.quantities.tolist() == [4, 2, 2, 2]
    types = [array.dtype for array in (parts.train.customers, parts.train.items, parts.train.days)]
    assert types == [np.int32] * 3
    assert parts.train.channels.dtype == np.int8
    assert len(parts.valid.items) == len(parts.test.items) == 0


def test_training_is_sorted_by_channel_before_item() -> None:
    rows: list[Row] = [("a", "x", "online", 0), ("a", "y", "offline", 0)]
    parts = split(dataset(rows), test_days=0, valid_days=0, min_interactions=1)
    assert parts.train.channels.tolist() == [0, 1]
    assert parts.train.items.tolist() == [1, 0]


@pytest.mark.parametrize("hour", [0, 23])
def test_periods_are_utc_days_counted_from_the_last(hour: int) -> None:
    rows = BOTH + [("a", "x", "online", day) for day in (3, 4, 5, 6, 9)]
    parts = split(dataset(rows, hour), test_days=4, valid_days=3, min_interactions=1)
    names = parts.vocabulary.customer_ids, parts.vocabulary.item_ids
    assert max(row[3] for row in named(parts.train, *names)) == 2
    assert [row[3] for row in named(parts.valid, *names)] == [5]  # of 3, 4 and 5
    assert [row[3] for row in named(parts.test, *names)] == [9]


def test_what_training_does_not_know_is_left_out_and_counted() -> None:
    later: list[Row] = [
        ("a", "x", "online", 5),
        ("a", "x", "online", 5),
        ("new", "x", "online", 5),
        ("a", "new", "online", 5),
        ("new", "new", "offline", 5),
    ]
    parts = split(dataset(BOTH + later), test_days=1, valid_days=0, min_interactions=1)
    names = parts.vocabulary.customer_ids, parts.vocabulary.item_ids
    assert named(parts.test, *names) == [("a", "x", "online", 5)]
    assert parts.cold == {
        "offline": {"rows": 1, "unknown_customer": 0, "unknown_item": 0, "unknown_both": 1},
        "online": {"rows": 4, "unknown_customer": 1, "unknown_item": 1, "unknown_both": 0},
    }


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (BOTH, (2, 1, 1), "spans 3 days; --valid-days 1 and --test-days 2 leave none"),
        (BOTH, (0, 0, 3), "none of the 4 is of a customer and an item with at least 3"),
        (BOTH[:1] + BOTH[2:], (0, 0, 1), "there is no offline purchase in training"),
        ([*BOTH, ("new", "x", "online", 3)], (0, 1, 1), "none of the 1 purchases in the 1 valid"),
        (
            [*BOTH, ("a", "x", "online", 40)],
            (2, 3, 1),
            "3 validation days, 2020-02-06 to 2020-02-08: the one before is of 2020-01-03",
        ),
    ],
)
def test_a_period_without_purchases(
    rows: list[Row], options: tuple[int, int, int], message: str
) -> None:
    test_days, valid_days, k = options
    with pytest.raises(DataError) as caught:
        split(dataset(rows), test_days=test_days, valid_days=valid_days, min_interactions=k)
    assert message in str(caught.value)


def plain_core(rows: set[tuple[str, str, str]], k: int) -> set[tuple[str, str, str]]:
    while True:
        customers = Counter(row[0] for row in rows)
        items = Counter(row[1] for row in rows)
        kept = {row for row in rows if customers[row[0]] >= k and items[row[1]] >= k}
        if kept == rows:
            return rows
        rows = kept


few = st.sampled_from("abcdef")


@given(
    st.sets(st.tuples(few, few, st.sampled_from(["offline", "online"])), min_size=1),
    st.integers(1, 5),
)
@settings(max_examples=200, deadline=None)
def test_k_core_is_what_repeated_removal_leaves(rows: set[tuple[str, str, str]], k: int) -> None:
    columns = ["customer_id", "item_id", "channel"]
    found = k_core(pl.DataFrame(sorted(rows), schema=columns, orient="row"), k)
    assert set(found.rows()) == plain_core(rows, k)
    assert found.height == len(set(found.rows()))


def test_the_core_looks_at_training_alone_and_at_distinct_purchases() -> None:
    rows = [
        *BOTH,
        *[("a", "y", "online", day) for day in range(3)],
        *[("c", "y", "online", day) for day in range(3)],
        ("b", "y", "online", 3),
        ("c", "x", "online", 3),
    ]
    parts = split(dataset(rows), test_days=1, valid_days=0, min_interactions=2)
    # c has one distinct purchase; without it y has one, and without y so has a
    assert parts.vocabulary.customer_ids == ["b"]
    assert {parts.vocabulary.item_ids[item] for item in parts.train.items} == {"x"}
    assert parts.cold["online"] == {
        "rows": 2,
        "unknown_customer": 1,
        "unknown_item": 1,
        "unknown_both": 0,
    }


def test_all_history_is_of_everyone_and_every_period() -> None:
    rows = [*BOTH, ("new", "x", "offline", 9), ("new", "z", "offline", 9)]
    customers, purchases = all_history(dataset(rows), ["x", "y"])
    assert customers == ["a", "b", "new"]
    assert named(purchases, customers, ["x", "y"]) == [
        ("a", "x", "online", 2),
        ("a", "y", "online", 1),
        ("b", "x", "offline", 1),
        ("b", "x", "online", 0),
        ("new", "x", "offline", 9),
    ]


def test_the_catalogue_holds_what_was_sold_too_rarely_and_what_is_only_listed() -> None:
    rows: list[Row] = [
        *BOTH,
        ("c", "rare", "online", 1),
        ("c", "listed", "offline", 5),
        ("d", "x", "online", 5),
        ("d", "unlisted", "online", 5),
    ]
    items = pl.DataFrame({"item_id": ["y", "listed", "x"]})
    data = replace(dataset(rows), items=items)
    parts = split(data, test_days=1, valid_days=0, min_interactions=2)
    assert parts.vocabulary.customer_ids == ["b"]
    catalogue = ["listed", "rare", "x", "y"]
    assert parts.vocabulary.item_ids == catalogue
    assert {catalogue[item] for item in parts.train.items} == {"x"}
    assert parts.everyone_ids == ["a", "b", "c", "d"]
    before = named(parts.everyone.train, parts.everyone_ids, catalogue)
    assert ("c", "rare", "online", 1) in before
    assert len(before) == 5
    assert named(parts.everyone.test, parts.everyone_ids, catalogue) == [
        ("c", "listed", "offline", 5),
        ("d", "x", "online", 5),
    ]
    # to the model all but x is unknown
    assert parts.cold["online"] == {
        "rows": 2,
        "unknown_customer": 1,
        "unknown_item": 0,
        "unknown_both": 1,
    }


def test_ids_are_ordered_by_code_point() -> None:
    ids = ["Z", "a", "é", "\U0001f455", "\uffff", "10", "9"]
    rows: list[Row] = [
        (name, name, channel, 0) for name in ids for channel in ("offline", "online")
    ]
    parts = split(dataset(rows), test_days=0, valid_days=0, min_interactions=2)
    assert parts.vocabulary.customer_ids == sorted(ids)
    assert parts.train.items.tolist() == [row for row in range(len(ids)) for _ in range(2)]


def test_held_out_customers_are_in_no_training_and_have_their_test_purchases_kept() -> None:
    rows: list[Row] = [
        (f"c{customer}", f"i{item}", channel, day)
        for customer in range(10)
        for item in range(3)
        for channel in ("offline", "online")
        for day in (0, 9)
    ]
    whole = split(dataset(rows), test_days=1, valid_days=0, min_interactions=2)
    parts = split(dataset(rows), test_days=1, valid_days=0, min_interactions=2, held_out=0.3)
    out = {parts.everyone_ids[row] for row in parts.held_out.customers}
    assert len(out) == 3
    assert set(parts.vocabulary.customer_ids) == set(whole.vocabulary.customer_ids) - out
    assert len(parts.held_out.items) == 3 * 3 * 2
    assert len(parts.everyone.train.items) == len(whole.everyone.train.items)
    again = split(dataset(rows), test_days=1, valid_days=0, min_interactions=2, held_out=0.3)
    assert again.vocabulary == parts.vocabulary
    assert len(whole.held_out.items) == 0


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("valid_days", "test_days", "expected"),
    [(0, 0, (56_191, 2_848, 3_156)), (3, 5, (40_503, 2_511, 2_547))],
)
def test_hm_sample(
    tmp_path: Path, valid_days: int, test_days: int, expected: tuple[int, int, int]
) -> None:
    beside = Path(__file__).parents[2] / "shared" / "data" / "hm_july2020"
    data = Path(os.environ.get("C2REC_HM_DATA", beside))
    if not data.exists():
        pytest.skip("no H&M sample; name its folder in C2REC_HM_DATA")
    import_hm(data / "transactions_train.csv", data / "articles.csv", tmp_path, item="product")
    parts = split(
        read_dataset(tmp_path), test_days=test_days, valid_days=valid_days, min_interactions=5
    )
    found = (
        len(parts.train.items),
        len(parts.vocabulary.customer_ids),
        len(set(parts.train.items.tolist())),
    )
    assert found == expected
