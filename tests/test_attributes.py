"""Item columns as numbers, worked out by hand."""

import polars as pl

from c2rec.train.attributes import LEAST_ITEMS, WORDS, attribute_rows


def rows_of(**columns: list[str]) -> list[list[int]]:
    ids = [f"i{row:03d}" for row in range(len(next(iter(columns.values()))))]
    return attribute_rows(pl.DataFrame({"item_id": ids, **columns}), ids).tolist()


def test_values_are_numbered_through_the_columns_and_what_one_item_has_is_left_out() -> None:
    rows = rows_of(colour=["red", "blue", "red", "", "blue", "pink"], size=["s", "m", "s"] * 2)
    assert rows == [[2, 4], [1, 3], [2, 4], [0, 4], [1, 3], [0, 4]]


def test_a_column_that_says_the_same_of_all_or_something_else_of_each_is_left_out() -> None:
    assert rows_of(brand=["x"] * 4, code=["a1", "a2", "a3", "a4"]) == [[]] * 4


def test_items_outside_the_table_have_no_attributes() -> None:
    table = pl.DataFrame({"item_id": ["a", "b"], "colour": ["red", "red"]})
    assert attribute_rows(table, ["a", "c", "b"]).tolist() == [[1], [0], [1]]
    assert attribute_rows(None, ["a", "c"]).shape == (2, 0)


def test_words_of_a_text_are_values_where_enough_items_and_not_too_many_share_them() -> None:
    texts = [f"Warm thing number{row}" for row in range(60)]
    for row in (3, 10, 27):
        texts[row] += " Striped, striped"
    texts[5] += " polka"  # one item alone: says nothing
    rows = rows_of(colour=["red", "blue"] * 30, text=texts)
    assert rows[3] == [1, 3], "words are told apart from values of other columns"
    assert rows[10] == [2, 3]
    assert [row[1] for row in rows].count(3) == LEAST_ITEMS
    assert rows[5] == [1, 0], "'warm' and 'thing' are everywhere, 'polka' nowhere else"


def test_of_many_words_the_rarest_are_kept() -> None:
    words = [f"w{place:02d}" for place in range(20)]
    texts = [f"item {row}" for row in range(100)]
    for place, word in enumerate(words):  # w00 in 3 items, w01 in 4 and so on up to 10
        for row in range(min(10, 3 + place)):
            texts[row] += " " + word
    rows = rows_of(text=texts)
    assert sum(value > 0 for value in rows[0]) == WORDS
    kept = set(rows[0])
    assert set(rows[2]) == kept
    assert {1, 2, 3} <= kept, "w00, w01 and w02, numbered by their spelling"


def test_markup_and_odd_characters_are_words_or_nothing() -> None:
    texts = [f"<b>Größe</b> {row} & more" for row in range(40)] + ["", "  ", "&&& ???"]
    rows = rows_of(text=texts)
    assert len({tuple(row) for row in rows}) == 1, "every word is in all of them"


def test_columns_may_have_any_name() -> None:
    assert rows_of(times=["a", "b"] * 2, number=["x", "x", "y", "y"]) == [
        [1, 3], [2, 3], [1, 4], [2, 4],
    ]  # fmt: skip
