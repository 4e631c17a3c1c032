"""Import of files in the layout of Kaggle's H&M competition."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest

from c2rec.runtime.errors import DataError
from c2rec.train.hm import import_hm
from c2rec.train.tables import write_dataset
from c2rec.train.transactions import find_problems, read_dataset

CUSTOMER = "00a1" * 16
HEADER = "t_dat,customer_id,article_id,price,sales_channel_id"
ROWS = (
    f"2020-07-01,{CUSTOMER},0108775015,0.02,1",
    f"2020-07-01,{CUSTOMER},0108775044,0.04,1",
    f"2020-07-01,{CUSTOMER},0108775044,0.06,2",
    "2020-07-02,7,0000001001,0.5,2",
)
ARTICLE_HEADER = (
    "article_id,product_code,prod_name,product_type_no,product_type_name,product_group_name,"
    "graphical_appearance_no,graphical_appearance_name,colour_group_code,colour_group_name,"
    "perceived_colour_value_id,perceived_colour_value_name,perceived_colour_master_id,"
    "perceived_colour_master_name,department_no,department_name,index_code,index_name,"
    "index_group_no,index_group_name,section_no,section_name,garment_group_no,"
    "garment_group_name,detail_desc"
)


def article(article_id: str, name: str, colour: str, text: str = '"Soft, light."') -> str:
    return (
        f"{article_id},1,{name},1,Vest,Upper body,1,Solid,9,{colour},4,Dark,5,Black,16,Basics,"
        f"A,Women,1,Ladies,16,Everyday,1002,Jersey,{text}"
    )


ARTICLES = (
    article("0108775044", "Strap top", "White"),
    article("0108775015", "Strap top", "Black"),
    article("0000001001", "Socks", "Red", ""),
    article("0000002001", "Never sold", "Red"),
)


def files(
    folder: Path,
    rows: tuple[str, ...] = ROWS,
    articles: tuple[str, ...] = ARTICLES,
    header: str = HEADER,
) -> tuple[tuple[Path, Path], Path]:
    (folder / "t.csv").write_text("\n".join([header, *rows, ""]))
    (folder / "a.csv").write_text("\n".join([ARTICLE_HEADER, *articles, ""]))
    return (folder / "t.csv", folder / "a.csv"), folder / "out"


def test_products(tmp_path: Path) -> None:
    sources, out = files(tmp_path)
    import_hm(*sources, out, item="product")
    assert find_problems(out)[0] == []
    dataset = read_dataset(out)
    assert dataset.transactions.drop("store_id").rows() == [
        (CUSTOMER, "0108775", "offline", datetime(2020, 7, 1, tzinfo=UTC), 2, pytest.approx(0.03)),
        (CUSTOMER, "0108775", "online", datetime(2020, 7, 1, tzinfo=UTC), 1, 0.06),
        ("7", "0000001", "online", datetime(2020, 7, 2, tzinfo=UTC), 1, 0.5),
    ]
    assert dataset.items is not None
    top = dataset.items.row(by_predicate=pl.col("item_id") == "0108775", named=True)
    assert top == {
        "item_id": "0108775",
        "name": "Strap top",
        "product_type": "Vest",
        "product_group": "Upper body",
        "appearance": "Solid",
        "colour": "Black",  # of the first article by id, not by place
        "department": "Basics",
        "index": "Women",
        "index_group": "Ladies",
        "section": "Everyday",
        "garment_group": "Jersey",
        "description": "Soft, light.",
    }
    assert dataset.items["item_id"].to_list() == ["0000001", "0108775"]
    assert dataset.items["description"].to_list()[0] == ""


def test_articles(tmp_path: Path) -> None:
    sources, out = files(tmp_path)
    import_hm(*sources, out, item="article")
    dataset = read_dataset(out)
    assert dataset.transactions["item_id"].to_list() == [
        "0108775015",
        "0108775044",
        "0108775044",
        "0000001001",
    ]
    assert dataset.transactions["quantity"].to_list() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("row", "column", "value", "allowed"),
    [
        ("2020-07-01,7,0108775015,0.02,3", "sales_channel_id", "'3'", "1 (store) or 2 (online)"),
        ("2020-07-01,7,0108775015,0.02,", "sales_channel_id", "empty", "1 (store)"),
        ("01/07/2020,7,0108775015,0.02,1", "t_dat", "'01/07/2020'", "2020-07-27"),
        ("2020-07-32,7,0108775015,0.02,1", "t_dat", "'2020-07-32'", "2020-07-27"),
        ("2020-07-01,7,0108775015,free,1", "price", "'free'", "a number from 0"),
        ("2020-07-01,7,0108775015,-1,1", "price", "'-1'", "a number from 0"),
        ("2020-07-01,7,0108775015,nan,1", "price", "'nan'", "a number from 0"),
        ("2020-07-01,,0108775015,0.02,1", "customer_id", "empty", "1 to 256 characters"),
        ("2020-07-01,7,108775015,0.02,1", "article_id", "'108775015'", "an article_id of a.csv"),
        ("2020-07-01,7,0108775015,0.02", "row", "4 fields", "5 fields"),
    ],
)
def test_a_bad_row_is_named(
    tmp_path: Path, row: str, column: str, value: str, allowed: str
) -> None:
    sources, out = files(tmp_path, (*ROWS, row))
    with pytest.raises(DataError) as caught:
        import_hm(*sources, out, item="product")
    for part in ("t.csv", "row 5 (line 6)", f"{column} is {value}", allowed):
        assert part in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("articles", "message"),
    [
        ((*ARTICLES, ARTICLES[0]), "row 5 (line 6): article_id is '0108775044'; allowed: each"),
        ((*ARTICLES, article("123", "x", "y")), "article_id is '123'; allowed: more than 3"),
        ((*ARTICLES, "0000003001,1"), "row is 2 fields; allowed: 25 fields"),
    ],
)
def test_a_bad_article_is_named(tmp_path: Path, articles: tuple[str, ...], message: str) -> None:
    sources, out = files(tmp_path, articles=articles)
    with pytest.raises(DataError) as caught:
        import_hm(*sources, out, item="product")
    assert message in str(caught.value)
    assert "a.csv" in str(caught.value)


def test_another_files_columns(tmp_path: Path) -> None:
    (transactions, articles), out = files(tmp_path)
    with pytest.raises(DataError, match=r"a\.csv: column 't_dat' is missing; it has: article_id"):
        import_hm(articles, articles, out, item="product")
    with pytest.raises(DataError, match=r"t\.csv: column 'prod_name' is missing"):
        import_hm(transactions, transactions, out, item="product")


def test_a_dataset_is_replaced_only_if_asked(tmp_path: Path) -> None:
    sources, out = files(tmp_path)
    import_hm(*sources, out, item="product")
    before = read_dataset(out).fingerprint
    with pytest.raises(DataError, match=r"transactions.parquet: is there already; .*--force"):
        import_hm(*sources, out, item="article")
    assert read_dataset(out).fingerprint == before
    import_hm(*sources, out, item="article", force=True)
    assert read_dataset(out).fingerprint != before
    assert sorted(path.name for path in out.iterdir()) == ["items.parquet", "transactions.parquet"]


def test_a_csv_dataset_is_never_replaced(tmp_path: Path) -> None:
    sources, out = files(tmp_path)
    out.mkdir()
    (out / "transactions.csv").write_text("mine")
    with pytest.raises(DataError, match="is in the way"):
        import_hm(*sources, out, item="product", force=True)
    assert (out / "transactions.csv").read_text() == "mine"


def test_the_first_problems_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    bad = (
        "2020-07-01,7,0108775015,0.02",  # row 5
        "2020-07-01, 7,0108775015,0.02,3",
        "yesterday,,1,free,0",
    )
    sources, out = files(tmp_path, (*ROWS, *bad, *ROWS, *bad * 10))
    with pytest.raises(DataError) as caught:
        import_hm(*sources, out, item="product")
    first, *shown, last = str(caught.value).splitlines()
    assert first.endswith("t.csv: 88 problems:")
    assert [line.split(" is ")[0] for line in shown] == [
        "  t.csv: row 5 (line 6): row",
        "  t.csv: row 6 (line 7): customer_id",
        "  t.csv: row 6 (line 7): sales_channel_id",
        "  t.csv: row 7 (line 8): t_dat",
        "  t.csv: row 7 (line 8): customer_id",
    ]
    assert last == "  … and 83 more"


@pytest.mark.parametrize("item", ["product", "article"])
def test_rows_in_any_order_are_added_up_as_polars_does_in_one_go(
    tmp_path: Path, item: Literal["product", "article"]
) -> None:
    """A customer, named long or short, buys the same thing in many rows of a shuffled file."""
    rng = np.random.default_rng(1)
    rows = [
        (
            f"20{18 + year}-02-1{day}",
            f"{who:064x}" if who % 2 else f"{who:x}",
            ("0108775015", "0108775044", "0000001001")[article],
            repr(price),
            str(channel),
        )
        for year, day, who, article, channel, price in zip(
            *(rng.integers(0, high, 20_000).tolist() for high in (3, 10, 40, 3)),
            rng.integers(1, 3, 20_000).tolist(),
            rng.random(20_000).tolist(),
            strict=True,
        )
    ]
    sources, out = files(tmp_path, tuple(",".join(row) for row in rows))
    import_hm(*sources, out, item=item)
    expected = (
        pl.DataFrame(rows, HEADER.split(","), orient="row")
        .select(
            "customer_id",
            item_id=pl.col("article_id").str.head(-3 if item == "product" else 10),
            channel=pl.col("sales_channel_id").replace({"1": "offline", "2": "online"}),
            timestamp=pl.col("t_dat").str.to_date(),
            price=pl.col("price").cast(pl.Float64),
        )
        .group_by("customer_id", "item_id", "channel", "timestamp")
        .agg(quantity=pl.len().cast(pl.Int64), price=pl.col("price").mean())
        .sort("timestamp", "customer_id", "channel", "item_id")
    )
    written = pl.read_parquet(out / "transactions.parquet")
    assert written.schema == expected.schema
    assert written.drop("price").equals(expected.drop("price"))
    assert written["price"].to_list() == pytest.approx(expected["price"].to_list(), rel=1e-12)
    assert written.filter(pl.col("quantity") > 1).height > 0


def interrupt_at(stage: int) -> Callable[[str], None]:
    """A person who loses patience."""
    seen = []

    def report(text: str) -> None:
        seen.append(text)
        if len(seen) == stage:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_what_is_interrupted_leaves_what_was_there(tmp_path: Path, stage: int) -> None:
    sources, out = files(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        import_hm(*sources, out, item="product", report=interrupt_at(stage))
    assert not out.exists()
    import_hm(*sources, out, item="product")
    before = read_dataset(out).fingerprint
    with pytest.raises(KeyboardInterrupt):
        import_hm(*sources, out, item="article", force=True, report=interrupt_at(stage))
    assert read_dataset(out).fingerprint == before


def test_transactions_that_can_not_be_written_leave_what_was_there(tmp_path: Path) -> None:
    sources, out = files(tmp_path)
    items = pl.DataFrame({"item_id": ["new"]})
    broken = pl.LazyFrame({"price": ["free"]}).cast(pl.Float64)
    with pytest.raises(DataError, match=r"transactions\.parquet: can't be written: "):
        write_dataset(out, broken, items)
    assert list(out.iterdir()) == []
    import_hm(*sources, out, item="product")
    before = read_dataset(out).fingerprint
    with pytest.raises(DataError, match=r"transactions\.parquet: can't be written: "):
        write_dataset(out, broken, items)
    assert read_dataset(out).fingerprint == before


_LIMITED = """
import resource
from c2rec.train.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
main()
"""


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    (transactions, articles), out = files(tmp_path)
    arguments = ["import-hm", str(transactions), "--articles", str(articles), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert f"{out / 'transactions.parquet'}: can't be written: " in done.stderr
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("item", ["product", "article"])
def test_the_same_files_give_the_same_bytes(
    tmp_path: Path, item: Literal["product", "article"]
) -> None:
    sources, out = files(tmp_path)
    import_hm(*sources, out, item=item)
    import_hm(*sources, tmp_path / "again", item=item)
    assert read_dataset(out).fingerprint == read_dataset(tmp_path / "again").fingerprint


def test_articles_whose_ids_are_numbers_have_lost_their_zeros(tmp_path: Path) -> None:
    (transactions, articles), out = files(tmp_path)
    as_numbers = tmp_path / "a.parquet"
    pl.read_csv(articles).write_parquet(as_numbers)
    with pytest.raises(DataError, match=r"a\.parquet: article_id is Int64; allowed: text, leading"):
        import_hm(transactions, as_numbers, out, item="product")
    assert not out.exists()
