"""Reading datasets: what is accepted, and how every kind of bad row is reported."""

import gzip
import os
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2rec.runtime.errors import DataError
from c2rec.train.transactions import find_problems, read_dataset

HEADER = "customer_id,item_id,channel,timestamp"
GOOD = "c1,0012,offline,2020-07-01"


def write(folder: Path, *lines: str, header: str = HEADER, name: str = "transactions") -> Path:
    (folder / f"{name}.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return folder


def write_parquet(folder: Path, **columns: object) -> Path:
    values: dict[str, object] = {
        "customer_id": ["c1"],
        "item_id": ["i1"],
        "channel": ["offline"],
        "timestamp": [date(2020, 7, 1)],
    }
    pl.DataFrame(values | columns).write_parquet(folder / "transactions.parquet")
    return folder


def test_csv_keeps_ids_as_text_and_fills_what_is_not_given(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path, GOOD))
    assert dataset.transactions.rows(named=True) == [
        {
            "customer_id": "c1",
            "item_id": "0012",
            "channel": "offline",
            "timestamp": datetime(2020, 7, 1, tzinfo=UTC),
            "quantity": 1,
            "price": None,
            "store_id": None,
        }
    ]
    assert dataset.items is None
    assert len(dataset.fingerprint) == 64


def test_optional_columns_and_others(tmp_path: Path) -> None:
    header = f"note,{HEADER},quantity,price,store_id"
    write(tmp_path, f"x,{GOOD},3,1.5,07", f'"a, b",c2,{GOOD[3:]},,,', header=header)
    transactions = read_dataset(tmp_path).transactions
    assert transactions.columns == [*HEADER.split(","), "quantity", "price", "store_id"]
    assert transactions.select("quantity", "price", "store_id").rows() == [
        (3, 1.5, "07"),
        (1, None, None),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-07-01", datetime(2020, 7, 1, tzinfo=UTC)),
        ("2020-07-01 10:05", datetime(2020, 7, 1, 10, 5, tzinfo=UTC)),
        ("2020-07-01T10:05:06", datetime(2020, 7, 1, 10, 5, 6, tzinfo=UTC)),
        ("2020-07-01T10:05:06.25Z", datetime(2020, 7, 1, 10, 5, 6, 250_000, tzinfo=UTC)),
        ("2020-07-01T10:05+02:00", datetime(2020, 7, 1, 8, 5, tzinfo=UTC)),
        ("2020-07-01 00:05:06+0200", datetime(2020, 6, 30, 22, 5, 6, tzinfo=UTC)),
        ("2020-07-01T10:05:06-03", datetime(2020, 7, 1, 13, 5, 6, tzinfo=UTC)),
        ("1970-01-01", datetime(1970, 1, 1, tzinfo=UTC)),
        ("2099-12-31T23:59:59Z", datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_timestamps_as_text(tmp_path: Path, text: str, expected: datetime) -> None:
    write(tmp_path, f"c1,i1,online,{text}")
    assert read_dataset(tmp_path).transactions["timestamp"].to_list() == [expected]


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([date(2020, 7, 1)]),
        pl.Series([datetime(2020, 7, 1)], dtype=pl.Datetime("ns")),
        pl.Series([datetime(2020, 7, 1)], dtype=pl.Datetime("ms")),
        pl.Series([datetime(2020, 7, 1, tzinfo=UTC)]).dt.convert_time_zone("Asia/Tokyo"),
        pl.Series(["2020-07-01T02:00+02:00"]),
    ],
)
def test_timestamps_of_parquet(tmp_path: Path, values: pl.Series) -> None:
    transactions = read_dataset(write_parquet(tmp_path, timestamp=values)).transactions
    assert transactions.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert transactions["timestamp"].to_list() == [datetime(2020, 7, 1, tzinfo=UTC)]


def test_whole_numbers_and_categories_are_ids_in_parquet(tmp_path: Path) -> None:
    write_parquet(
        tmp_path,
        customer_id=pl.Series([7], dtype=pl.Int32),
        item_id=pl.Series(["i1"], dtype=pl.Categorical),
        channel=pl.Series(["online"], dtype=pl.Enum(["online", "offline"])),
    )
    row = read_dataset(tmp_path).transactions.row(0, named=True)
    assert (row["customer_id"], row["item_id"], row["channel"]) == ("7", "i1", "online")


@pytest.mark.parametrize(
    ("column", "value", "shown", "allowed"),
    [
        ("customer_id", "", "empty", "1 to 256 characters"),
        ("customer_id", " c1", "' c1'", "spaces around"),
        ("item_id", "i1\N{NO-BREAK SPACE}", r"'i1\xa0'", "spaces around"),
        ("item_id", '"a\nb"', r"'a\nb'", "control characters"),
        ("item_id", "x" * 257, "'xxx", "256"),
        ("channel", "Online", "'Online'", "offline or online, in small letters"),
        ("channel", "", "empty", "offline or online"),
        ("timestamp", "01.07.2020", "'01.07.2020'", "ISO 8601"),
        ("timestamp", "", "empty", "ISO 8601"),
        ("timestamp", "2020-02-30", "'2020-02-30'", "ISO 8601"),
        ("timestamp", "2020-7-1", "'2020-7-1'", "ISO 8601"),
        ("timestamp", " 2020-07-01", "' 2020-07-01'", "ISO 8601"),
        ("timestamp", "2020-07-01T24:00", "'2020-07-01T24:00'", "ISO 8601"),
        ("timestamp", "1969-12-31", "'1969-12-31'", "from 1970"),
        ("timestamp", "2100-01-01", "'2100-01-01'", "to 2099"),
        ("quantity", "0", "'0'", "a whole number from 1 to 1000000"),
        ("quantity", "1.5", "'1.5'", "a whole number"),
        ("quantity", "1000001", "'1000001'", "a whole number"),
        ("quantity", "nan", "'nan'", "a whole number"),
        ("quantity", "two", "'two'", "a whole number"),
        ("price", "-0.5", "'-0.5'", "a number from 0"),
        ("price", "inf", "'inf'", "a number from 0"),
        ("price", "NaN", "'NaN'", "a number from 0"),
        ("price", "9.99 EUR", "'9.99 EUR'", "a number from 0"),
        ("store_id", "a ", "'a '", "spaces around"),
    ],
)
def test_a_bad_value_is_named_with_file_row_and_column(
    tmp_path: Path, column: str, value: str, shown: str, allowed: str
) -> None:
    names = [*HEADER.split(","), "quantity", "price", "store_id"]
    good = ["c1", "0012", "offline", "2020-07-01", "1", "2", "s1"]
    bad = ["c2", *good[1:]]
    bad[names.index(column)] = value
    write(tmp_path, ",".join(good), ",".join(bad), header=",".join(names))

    problems, facts = find_problems(tmp_path)

    assert facts is None
    (problem,) = problems
    assert (problem.file, problem.row, problem.column) == ("transactions.csv", 2, column)
    assert problem.value.startswith(shown)
    assert allowed in problem.allowed
    assert len(problem.value) <= 60
    assert problem.line == (None if "\n" in value else 3)
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    for part in ("transactions.csv", "row 2", column, shown, f"c2rec-train validate {tmp_path}"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ({"customer_id": [None]}, "customer_id"),
        ({"price": [float("nan")]}, "price"),
        ({"price": [float("inf")]}, "price"),
        ({"quantity": [2.5]}, "quantity"),
        ({"quantity": [-1]}, "quantity"),
        ({"timestamp": [date(1900, 1, 1)]}, "timestamp"),
        ({"timestamp": [None]}, "timestamp"),
    ],
)
def test_a_bad_value_in_parquet(
    tmp_path: Path, values: dict[str, list[object]], column: str
) -> None:
    schema = {"timestamp": pl.Date, "customer_id": pl.String}
    frame = {name: pl.Series(value, dtype=schema.get(name)) for name, value in values.items()}
    problems, _ = find_problems(write_parquet(tmp_path, **frame))
    assert [(each.row, each.column, each.line) for each in problems] == [(1, column, None)]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("customer_id", [1.0]),
        ("item_id", [["a"]]),
        ("channel", [True]),
        ("timestamp", [1593561600]),
        ("price", [True]),
    ],
)
def test_a_column_of_the_wrong_type(tmp_path: Path, column: str, values: list[object]) -> None:
    write_parquet(tmp_path, **{column: values})
    with pytest.raises(DataError, match=f"transactions.parquet: column '{column}' is .*; allowed"):
        read_dataset(tmp_path)


def test_every_problem_is_found_and_the_first_five_are_shown(tmp_path: Path) -> None:
    rows = [f"c{n},i,shop,2020-07-0{n % 9 + 1}" for n in range(8)]
    write(tmp_path, GOOD, *rows, GOOD, ",i,offline,2020-07-01")
    problems, _ = find_problems(tmp_path)
    assert [(each.row, each.column) for each in problems] == [
        *((row, "channel") for row in range(2, 10)),
        (10, "row"),
        (11, "customer_id"),
    ]
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    text = str(caught.value)
    assert "10 problems" in text
    assert "row 6" in text
    assert "row 7" not in text
    assert "5 more" in text


def test_repeated_rows_are_not_dropped_in_silence(tmp_path: Path) -> None:
    header = HEADER + ",quantity"
    write(tmp_path, GOOD + ",1", GOOD + ",2", GOOD + "T00:00Z,1", GOOD + ",", header=header)
    problems, _ = find_problems(tmp_path)
    assert [(each.row, each.value) for each in problems] == [
        (3, "the same as row 1"),
        (4, "the same as row 1"),
    ]
    assert "add them up in the column quantity" in problems[0].allowed


def test_items(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, "0012,Jacket,", "9,,7", header="item_id,name,size", name="items")
    items = read_dataset(tmp_path).items
    assert items is not None
    assert items.rows() == [("0012", "Jacket", ""), ("9", "", "7")]


def test_items_of_parquet_are_text(tmp_path: Path) -> None:
    write(tmp_path, "c1,12,online,2020-07-01")
    columns = {"item_id": [12], "row": ["x"], "since": [date(2020, 1, 2)], "size": [None]}
    pl.DataFrame(columns).write_parquet(tmp_path / "items.parquet")
    items = read_dataset(tmp_path).items
    assert items is not None
    assert items.rows() == [("12", "x", "2020-01-02", "")]
    assert set(items.dtypes) == {pl.String}


def test_items_that_repeat_or_lack_an_id_and_transactions_of_unknown_items(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "c1,i9,online,2020-07-01")
    write(tmp_path, "0012,a", "0012,b", ",c", header="item_id,name", name="items")
    problems, _ = find_problems(tmp_path)
    assert [(each.file, each.row, each.column, each.allowed[:12]) for each in problems] == [
        ("items.csv", 2, "item_id", "each item_id"),
        ("items.csv", 3, "item_id", "text of 1 to"),
        ("transactions.csv", 2, "item_id", "an item_id o"),
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([GOOD, "c2,i1,online"], [(2, "3 fields")]),
        ([GOOD, "c2,i1,online,2020-07-01,9", GOOD + "T01:00"], [(2, "5 fields")]),
        ([GOOD, "", "c2,i1,online,2020-07-01"], [(2, "1 field")]),
        (['"a,""b",i1,online,2020-07-01', "c2,i1,online,2020-07-01,"], [(2, "5 fields")]),
    ],
)
def test_rows_with_too_many_or_too_few_fields(
    tmp_path: Path, lines: list[str], expected: list[tuple[int, str]]
) -> None:
    problems, _ = find_problems(write(tmp_path, *lines))
    assert [(each.row, each.value) for each in problems] == expected
    assert {(each.column, each.allowed) for each in problems} == {
        ("row", "4 fields, as in the header")
    }


def test_a_last_row_without_a_line_end_is_counted_too(tmp_path: Path) -> None:
    path = tmp_path / "transactions.csv"
    path.write_text(f"{HEADER}\n{GOOD}\nc2,i1")
    assert [each.row for each in find_problems(tmp_path)[0]] == [2]
    path.write_text(f"{HEADER}\r\n{GOOD}\r\nc2,i1,online,2020-07-02")
    assert read_dataset(tmp_path).transactions.height == 2


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "transactions.csv").write_bytes(f"\ufeff{HEADER}\n{GOOD}\n".encode())
    assert read_dataset(tmp_path).transactions.height == 1


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("transactions.csv", b"", "is empty"),
        ("transactions.csv", f"{HEADER}\n".encode(), "has no rows"),
        ("transactions.csv", f"{HEADER}\n\xff,i,online,2020-07-01\n".encode("latin-1"), "UTF-8"),
        ("transactions.csv", f"{HEADER}\n{GOOD}\n".encode("utf-16"), "UTF-8"),
        ("transactions.csv", bytes(range(128, 256)) * 9, "UTF-8"),
        ("transactions.csv", f'{HEADER}\n{GOOD}\n"c2,i,online,2020\n'.encode(), "row 2 opens"),
        (
            "transactions.csv",
            f'{HEADER}\nc"1,i,online,2020-07-01\nc"2,i,online,2020-07-01\n{GOOD}\n'.encode(),
            "row 1 has a quote amid",
        ),
        ("transactions.csv", f'{HEADER}\n{GOOD}\n"a"b,i,online,2020-07-01\n'.encode(), "UTF-8"),
        ("transactions.csv", gzip.compress(f"{HEADER}\n{GOOD}\n".encode(), mtime=0), "UTF-8"),
        ("transactions.csv", f"{HEADER},channel\n{GOOD},x\n".encode(), "'channel' is there more"),
        ("transactions.parquet", b"", "Parquet"),
        ("transactions.parquet", b"PAR1 and so on", "Parquet"),
        ("transactions.parquet", f"{HEADER}\n{GOOD}\n".encode(), "Parquet"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_a_truncated_parquet_file(tmp_path: Path, share: float) -> None:
    path = write_parquet(tmp_path) / "transactions.parquet"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"transactions\.parquet: can't be read as Parquet"):
        read_dataset(tmp_path)


def test_parquet_without_rows(tmp_path: Path) -> None:
    path = write_parquet(tmp_path) / "transactions.parquet"
    pl.read_parquet(path).clear().write_parquet(path)
    with pytest.raises(DataError, match="has no rows"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("header", "missing", "hint"),
    [
        ("Customer_ID,item_id,channel,timestamp", "customer_id", "rename 'Customer_ID'"),
        ("customer,item_id,channel,timestamp", "customer_id", "rename 'customer'"),
        ("customer_id,product_id,channel,timestamp", "item_id", "rename 'product_id'"),
        ("customer_id,item_id,channel,date", "timestamp", "rename 'date'"),
        ("customer_id;item_id;channel;timestamp", "customer_id", "separate columns by commas"),
        ("a,b,c,d", "customer_id", "it has: a, b, c, d"),
    ],
)
def test_a_missing_column(tmp_path: Path, header: str, missing: str, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        read_dataset(write(tmp_path, GOOD, header=header))
    assert f"column '{missing}' is missing; it has: {header.replace(',', ', ')}" in str(
        caught.value
    )
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("qty", "quantity"), ("Price", "price"), ("StoreID", "store_id"), ("store id", "store_id")],
)
def test_an_optional_column_by_another_name(tmp_path: Path, name: str, meant: str) -> None:
    with pytest.raises(DataError, match=f"'{name}' is not read; rename it to '{meant}'"):
        read_dataset(write(tmp_path, GOOD + ",1", header=f"{HEADER},{name}"))


def test_both_formats_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"both transactions\.parquet and transactions\.csv"):
        read_dataset(write_parquet(write(tmp_path, GOOD)))


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no transactions\.parquet or transactions\.csv"):
        read_dataset(tmp_path)
    with pytest.raises(DataError, match="there is no such folder"):
        read_dataset(tmp_path / "nowhere")
    (tmp_path / "transactions.csv").mkdir()
    with pytest.raises(DataError, match="there is no such file"):
        read_dataset(tmp_path)


def test_the_fingerprint_follows_the_bytes(tmp_path: Path) -> None:
    first = read_dataset(write(tmp_path, GOOD)).fingerprint
    assert read_dataset(tmp_path).fingerprint == first
    assert read_dataset(write(tmp_path, GOOD + "T01:00")).fingerprint != first
    write(tmp_path, GOOD)
    write(tmp_path, "0012", header="item_id", name="items")
    assert read_dataset(tmp_path).fingerprint != first


def test_facts(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "c1,i2,online,2020-07-03", "c2,i2,online,2020-07-02T23:59:59-05:00")
    problems, facts = find_problems(tmp_path)
    assert problems == []
    assert facts == {
        "transactions": 3,
        "customers": 2,
        "items": 2,
        "offline_transactions": 1,
        "online_transactions": 2,
        "customers_in_both_channels": 1,
        "first_day": "2020-07-01",
        "last_day": "2020-07-03",
    }


ids = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20).filter(
    lambda text: text == text.strip()
)


@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=8, unique=True), st.booleans())
@settings(max_examples=60, deadline=None)
def test_odd_ids_survive(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]], as_csv: bool
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    frame = pl.DataFrame(
        [(*pair, "online", "2020-07-01") for pair in pairs],
        schema=HEADER.split(","),
        orient="row",
    )
    if as_csv:
        frame.write_csv(folder / "transactions.csv")
    else:
        frame.write_parquet(folder / "transactions.parquet")
    assert read_dataset(folder).transactions.select("customer_id", "item_id").rows() == pairs


def test_field_counting_over_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ['"a\n,b",i1,online,2020-07-01', GOOD, "c2,i1", 'x,"""",online,2020-07-01', ",,,,,"]
    write(tmp_path, *lines)
    whole = find_problems(tmp_path)
    for size in (1, 2, 3, 7, 30):
        monkeypatch.setattr("c2rec.train.csv_fields._CHUNK", size)
        assert find_problems(tmp_path) == whole
    assert [each.row for each in whole[0] if each.column == "row"] == [3, 5]


def test_a_path_that_is_no_text_is_named(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"b\xff")
    folder.mkdir()
    (folder / "transactions.csv").write_text("customer_id,item_id,channel,timestamp\n")
    with pytest.raises(DataError, match="a path that is no text in UTF-8; rename it"):
        read_dataset(folder)
