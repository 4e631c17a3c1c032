"""Purchases and items from Parquet or CSV, read and checked.

A dataset is a folder with ``transactions.parquet`` or ``transactions.csv`` and, optionally,
``items.parquet`` or ``items.csv``:

| transactions | |
| --- | --- |
| customer_id, item_id | text, or whole numbers, which are read as text |
| channel | ``offline`` or ``online`` |
| timestamp | a date or a date and time; without a zone it is UTC |
| quantity | optional, a whole number from 1, 1 where empty |
| price | optional, a number from 0 |
| store_id | optional, text |

Items have ``item_id`` and any further columns, read as text; ``name`` is what people are shown.
Other columns of transactions are ignored. Nothing is dropped in silence: a bad row is an error.
"""

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from c2rec.runtime.errors import DataError
from c2rec.runtime.records import CHANNELS

REQUIRED = ("customer_id", "item_id", "channel", "timestamp")
OPTIONAL = ("quantity", "price", "store_id")
ID_LENGTH = 256
"""Characters that an id may have."""
MAX_QUANTITY = 1_000_000
SHOWN = 5
"""Problems that an error message shows."""

_ID = f"text of 1 to {ID_LENGTH} characters, without control characters or spaces around it"
_TIMESTAMP = "an ISO 8601 date or date and time from 1970 to 2099, such as 2020-07-27 or 2020-07-27T18:05:00Z"
_PRICE = "a number from 0, or nothing"
_QUANTITY = f"a whole number from 1 to {MAX_QUANTITY}, or nothing"


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that can't be used."""

    file: str
    row: int
    """From 1; the header of a CSV file isn't counted."""
    column: str
    value: str
    """As text, shortened."""
    allowed: str

    def __str__(self) -> str:
        """One line for a person."""
        return (
            f"{self.file}: row {self.row}: {self.column} is {self.value}; allowed: {self.allowed}"
        )


@dataclass(frozen=True, slots=True)
class Dataset:
    """Checked transactions and items."""

    transactions: pl.DataFrame
    """customer_id, item_id, channel, store_id String; timestamp Datetime[μs, UTC]; quantity
    Int64; price Float64; store_id and price may be null."""
    items: pl.DataFrame | None
    """item_id and further columns, all String without nulls."""
    fingerprint: str
    """sha256 of the files, hex."""


Facts = dict[str, int | str]


def read_dataset(folder: Path) -> Dataset:
    """Read a dataset.

    Raises:
        DataError: a file is missing or unreadable, or rows are bad; the first are shown.
    """
    dataset, problems = _read(folder)
    if dataset is None:
        shown = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
        more = f"\n  … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(
            f"{folder}: {len(problems)} values can't be used:{shown}{more}\n"
            f"See them all with: c2rec-train validate {folder}"
        )
    return dataset


def find_problems(folder: Path) -> tuple[list[Problem], Facts | None]:
    """Check a dataset.

    Returns:
        Every bad value, and where there is none, what the dataset holds.

    Raises:
        DataError: a file is missing or can't be read as a table with the columns needed.
    """
    dataset, problems = _read(folder)
    return problems, None if dataset is None else facts(dataset)


def facts(dataset: Dataset) -> Facts:
    """Count what a dataset holds."""
    table = dataset.transactions
    per_channel = table.group_by("customer_id").agg(pl.col("channel").n_unique() > 1)
    days = table["timestamp"].dt.date()
    counts: Facts = {
        "transactions": table.height,
        "customers": per_channel.height,
        "items": table["item_id"].n_unique(),
    }
    for name in CHANNELS:
        counts[f"{name}_transactions"] = table.filter(pl.col("channel") == name).height
    counts["customers_in_both_channels"] = int(per_channel["channel"].sum())
    counts["first_day"], counts["last_day"] = str(days.min()), str(days.max())
    return counts


def read_table(path: Path) -> pl.DataFrame:
    """Read a Parquet file, or a CSV file with every value as text.

    Raises:
        DataError: the file can't be read, or has no rows.
    """
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path)
        else:
            table = pl.read_csv(path, infer_schema=False, encoding="utf8")
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{path}: is empty") from error
    except (PolarsError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        kind = "Parquet" if path.suffix == ".parquet" else "UTF-8 CSV"
        raise DataError(f"{path}: can't be read as {kind}: {first}") from error
    if table.height == 0:
        raise DataError(f"{path}: has no rows")
    return table


def require_columns(path: Path, table: pl.DataFrame, names: Sequence[str]) -> None:
    """Make sure that a table has the columns needed.

    Raises:
        DataError: one is missing; it names the columns found and the likeliest meant.
    """
    for name in names:
        if name not in table.columns:
            near = difflib.get_close_matches(
                name, {c: c.lower() for c in table.columns}.values(), 1, 0.5
            )
            meant = next((c for c in table.columns if near and c.lower() == near[0]), None)
            hint = f"; rename '{meant}' if that is it" if meant else ""
            raise DataError(
                f"{path}: column '{name}' is missing; it has: {', '.join(table.columns)}{hint}"
            )


def _read(folder: Path) -> tuple[Dataset | None, list[Problem]]:
    path = _find(folder, "transactions")
    if path is None:
        raise DataError(
            f"{folder}: has no transactions.parquet or transactions.csv; "
            "make them with c2rec-train simulate or import-hm, or write your own"
        )
    items_path = _find(folder, "items")
    transactions, problems = _check_transactions(path)
    items = None
    if items_path is not None:
        items, item_problems = _check_items(items_path)
        problems = item_problems + problems
        if items is not None and transactions is not None:
            known = pl.col("item_id").is_in(items["item_id"].implode())
            allowed = f"an item_id of {items_path.name}"
            problems += _problems(path.name, transactions, "item_id", ~known, allowed)
    if problems or transactions is None:
        return None, problems
    digest = hashlib.sha256()
    for each in (path, items_path):
        if each is not None:
            with each.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return Dataset(transactions.drop("row"), items, digest.hexdigest()), []


def _find(folder: Path, stem: str) -> Path | None:
    found = [
        path for path in (folder / f"{stem}.parquet", folder / f"{stem}.csv") if path.exists()
    ]
    if len(found) > 1:
        raise DataError(f"{folder}: has both {stem}.parquet and {stem}.csv; keep one")
    return found[0] if found else None


def _check_transactions(path: Path) -> tuple[pl.DataFrame | None, list[Problem]]:
    """Parse and check; the table, with a column ``row``, is None where a row is bad."""
    raw = read_table(path)
    require_columns(path, raw, REQUIRED)
    raw = raw.select(name for name in (*REQUIRED, *OPTIONAL) if name in raw.columns)
    raw = raw.with_row_index("row", offset=1)
    for name in ("customer_id", "item_id", "channel", "store_id"):
        if name in raw.columns:
            raw = raw.with_columns(_as_text(path, raw, name))
    problems: list[Problem] = []

    def check(column: str, bad: pl.Expr, allowed: str) -> None:
        problems.extend(_problems(path.name, raw, column, bad, allowed))

    for name in ("customer_id", "item_id"):
        check(name, _bad_id(name), _ID)
    check(
        "channel",
        ~pl.col("channel").is_in(list(CHANNELS)).fill_null(value=False),
        " or ".join(CHANNELS),
    )
    timestamp = _timestamp(path, raw)
    year = timestamp.dt.year()
    check("timestamp", (timestamp.is_null() | (year < 1970) | (year > 2099)), _TIMESTAMP)
    parsed = {
        "customer_id": pl.col("customer_id"),
        "item_id": pl.col("item_id"),
        "channel": pl.col("channel"),
        "timestamp": timestamp,
        "quantity": pl.lit(1, pl.Int64),
        "price": pl.lit(None, pl.Float64),
        "store_id": pl.lit(None, pl.String),
    }
    if "quantity" in raw.columns:
        given, number = _number(path, raw, "quantity")
        fits = number.is_finite() & (number == number.floor()) & number.is_between(1, MAX_QUANTITY)
        check("quantity", given & ~fits.fill_null(value=False), _QUANTITY)
        parsed["quantity"] = number.cast(pl.Int64, strict=False).fill_null(1)
    if "price" in raw.columns:
        given, number = _number(path, raw, "price")
        fits = number.is_finite() & (number >= 0)
        check("price", given & ~fits.fill_null(value=False), _PRICE)
        parsed["price"] = number
    if "store_id" in raw.columns:
        empty = pl.col("store_id").is_null() | (pl.col("store_id") == "")
        check("store_id", ~empty & _bad_id("store_id"), f"{_ID}, or nothing")
        parsed["store_id"] = pl.when(~empty).then(pl.col("store_id"))
    if problems:
        problems.sort(key=lambda problem: problem.row)
        return None, problems
    table = raw.select("row", **parsed)
    problems = _repeated(path.name, table)
    return (None if problems else table), problems


def _check_items(path: Path) -> tuple[pl.DataFrame | None, list[Problem]]:
    raw = read_table(path)
    require_columns(path, raw, ["item_id"])
    raw = raw.with_columns(_as_text(path, raw, "item_id"))
    for name, dtype in raw.schema.items():
        if dtype.is_nested() or dtype == pl.Binary:
            raise DataError(f"{path}: column '{name}' is {dtype}; allowed: text, numbers, dates")
    table = raw.with_columns(pl.all().cast(pl.String).fill_null("")).with_row_index("row", offset=1)
    problems = _problems(path.name, table, "item_id", _bad_id("item_id"), _ID)
    again = ~pl.col("item_id").is_first_distinct() & ~_bad_id("item_id")
    problems += _problems(path.name, table, "item_id", again, "each item_id once")
    problems.sort(key=lambda problem: problem.row)
    return (None if problems else table.drop("row")), problems


def _problems(
    file: str, table: pl.DataFrame, column: str, bad: pl.Expr, allowed: str
) -> list[Problem]:
    rows = table.filter(bad).select("row", pl.col(column).cast(pl.String))
    return [Problem(file, row, column, _shown(value), allowed) for row, value in rows.iter_rows()]


def _shown(value: str | None) -> str:
    if value is None:
        return "empty"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _repeated(file: str, table: pl.DataFrame) -> list[Problem]:
    """Rows that equal an earlier one in every column."""
    values = table.drop("row")
    hashes = values.hash_rows(seed=0)
    if hashes.n_unique() == table.height:  # the usual case, without comparing rows
        return []
    suspects = table.filter(hashes.is_duplicated())
    first = suspects.group_by(values.columns).agg(first=pl.col("row").min())
    pairs = suspects.join(first, on=values.columns, nulls_equal=True).filter(
        pl.col("row") > pl.col("first")
    )
    return [
        Problem(
            file,
            row,
            "row",
            f"the same as row {earlier}",
            "each row once; add them up in the column quantity",
        )
        for row, earlier in pairs.sort("row").select("row", "first").iter_rows()
    ]


def _as_text(path: Path, table: pl.DataFrame, name: str) -> pl.Expr:
    dtype = table.schema[name]
    if dtype == pl.String or dtype.is_integer() or dtype in (pl.Categorical, pl.Enum, pl.Null):
        return pl.col(name).cast(pl.String)
    raise DataError(f"{path}: column '{name}' is {dtype}; allowed: text or whole numbers")


def _bad_id(name: str) -> pl.Expr:
    column = pl.col(name)
    bad = (
        (column == "")
        | (column != column.str.strip_chars())
        | column.str.contains(r"\p{Cc}")
        | (column.str.len_chars() > ID_LENGTH)
    )
    return bad.fill_null(value=True)


def _number(path: Path, table: pl.DataFrame, name: str) -> tuple[pl.Expr, pl.Expr]:
    """Whether there is a value, and the value as Float64, null where it is no number."""
    dtype = table.schema[name]
    if not (dtype.is_numeric() or dtype in (pl.String, pl.Null)):
        raise DataError(f"{path}: column '{name}' is {dtype}; allowed: numbers")
    given = pl.col(name).is_not_null()
    if dtype == pl.String:
        given &= pl.col(name) != ""
    return given, pl.col(name).cast(pl.Float64, strict=False)


def _timestamp(path: Path, table: pl.DataFrame) -> pl.Expr:
    """The column as Datetime[μs, UTC], null where it can't be read."""
    dtype, column = table.schema["timestamp"], pl.col("timestamp")
    utc = pl.Datetime("us", "UTC")
    if dtype == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        return column.dt.convert_time_zone("UTC").cast(utc)
    if dtype != pl.String:
        raise DataError(f"{path}: column 'timestamp' is {dtype}; allowed: {_TIMESTAMP}")
    # one spelling of what ISO 8601 allows several: T between, a numeric zone
    text = column.str.replace(r"^(\d{4}-\d\d-\d\d) ", "${1}T").str.replace(r"[Zz]$", "+00:00")
    date = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    readings = [date.dt.replace_time_zone("UTC")]
    for clock in ("%H:%M:%S%.f", "%H:%M"):
        local = text.str.to_datetime(f"%Y-%m-%dT{clock}", time_unit="us", strict=False)
        zoned = text.str.to_datetime(f"%Y-%m-%dT{clock}%:z", time_unit="us", strict=False)
        readings += [local.dt.replace_time_zone("UTC"), zoned.dt.convert_time_zone("UTC")]
    return pl.coalesce(readings)
