"""What each column of transactions may hold, and how it is read.

A CSV file has text alone; a Parquet file may have numbers and times. Both end as the same types,
by the same rules.
"""

from dataclasses import dataclass

import polars as pl

from c2rec.runtime.errors import DataError
from c2rec.runtime.records import CHANNELS
from c2rec.train.tables import Table

REQUIRED = ("customer_id", "item_id", "channel", "timestamp")
OPTIONAL = ("quantity", "price", "store_id")
ID_LENGTH = 256
"""Characters that an id may have."""
ID_RULE = f"text of 1 to {ID_LENGTH} characters, without control characters or spaces around it"
MAX_QUANTITY = 1_000_000
_YEAR_2100 = 4_102_444_800
"""Seconds since 1970."""

_TIMESTAMP_RULE = (
    "an ISO 8601 date or date and time from 1970 to 2099, such as 2020-07-27 or 2020-07-27T18:05Z"
)
_ISO = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-5][0-9](\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?$"
)


@dataclass(frozen=True, slots=True)
class Column:
    """How one column is read."""

    name: str
    value: pl.Expr
    """What it becomes."""
    bad: pl.Expr
    """True where it can't be used; never null."""
    allowed: str


def text_columns(table: Table, *names: str) -> Table:
    """Read columns as text, where the table has them.

    Raises:
        DataError: one is neither text nor whole numbers.
    """
    there = [name for name in names if name in table.rows.columns]
    for name in there:
        dtype = table.rows.schema[name]
        if not (dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
            raise _wrong_type(table, name, "text or whole numbers")
    rows = table.rows.with_columns(pl.col(there).cast(pl.String))
    return Table(table.path, rows, table.ragged, table.lines)


def transaction_columns(table: Table) -> list[Column]:
    """Say how to read transactions, whose ids and channel are text already.

    Raises:
        DataError: a column is of a type that can't be read.
    """
    return [
        Column("customer_id", pl.col("customer_id"), bad_id("customer_id"), ID_RULE),
        Column("item_id", pl.col("item_id"), bad_id("item_id"), ID_RULE),
        Column(
            "channel",
            pl.col("channel"),
            ~pl.col("channel").is_in(list(CHANNELS)).fill_null(value=False),
            f"{' or '.join(CHANNELS)}, in small letters",
        ),
        timestamp_column(table, "timestamp"),
        _quantity(table),
        _price(table),
        _store(table),
    ]


def bad_id(name: str) -> pl.Expr:
    """True where a String column breaks ``ID_RULE``."""
    column = pl.col(name)
    bad = (
        (column == "")
        | (column != column.str.strip_chars())
        | column.str.contains(r"\p{Cc}")
        | (column.str.len_chars() > ID_LENGTH)
    )
    return bad.fill_null(value=True)


def timestamp_column(table: Table, name: str) -> Column:
    """Say how to read a column of times.

    Raises:
        DataError: it is of a type that can't be read.
    """
    dtype, column = table.rows.schema[name], pl.col(name)
    if dtype == pl.Date:
        value = column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    elif isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
        value = column.dt.cast_time_unit("us").dt.replace_time_zone("UTC")
    elif isinstance(dtype, pl.Datetime):
        value = column.dt.cast_time_unit("us").dt.convert_time_zone("UTC")
    elif dtype == pl.String:
        value = _parse_timestamp(column)
    else:
        raise _wrong_type(table, name, _TIMESTAMP_RULE)
    # as numbers: a date far outside the calendar makes polars panic
    seconds = value.dt.epoch("s")
    bad = ~seconds.is_between(0, _YEAR_2100, closed="left").fill_null(value=False)
    return Column(name, value, bad, _TIMESTAMP_RULE)


def _parse_timestamp(column: pl.Expr) -> pl.Expr:
    """Read ISO 8601 text, UTC where it has no zone; null where it is none."""
    full = (
        pl.when(column.str.contains(_ISO))
        .then(column)
        .str.replace(" ", "T", literal=True)
        .str.replace(r"^([0-9-]{10})$", "${1}T00:00")
        .str.replace(r"T([0-9]{2}:[0-9]{2})($|[Z+-])", "T${1}:00${2}")
        .str.replace(r"(T[0-9:.]+)$", "${1}Z")
    )
    return full.str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", time_zone="UTC", strict=False
    )


def _quantity(table: Table) -> Column:
    given, number = number_column(table, "quantity")
    whole = (number == number.floor()) & number.is_between(1, MAX_QUANTITY)
    return Column(
        "quantity",
        number.cast(pl.Int64, strict=False).fill_null(1),
        given & ~whole.fill_null(value=False),
        f"a whole number from 1 to {MAX_QUANTITY}, or nothing",
    )


def _price(table: Table) -> Column:
    given, number = number_column(table, "price")
    fits = number.is_finite() & (number >= 0)
    return Column(
        "price", number, given & ~fits.fill_null(value=False), "a number from 0, or nothing"
    )


def number_column(table: Table, name: str) -> tuple[pl.Expr, pl.Expr]:
    """Whether there is a value, and the value as Float64, null where it is no number.

    Raises:
        DataError: the column is of a type that can't be read.
    """
    dtype = table.rows.schema.get(name, pl.Null())
    if not (dtype.is_numeric() or dtype in (pl.String, pl.Null)):
        raise _wrong_type(table, name, "numbers")
    if name not in table.rows.columns:
        return pl.lit(value=False), pl.lit(None, pl.Float64)
    given = pl.col(name).is_not_null()
    if dtype == pl.String:
        given &= pl.col(name) != ""
    return given, pl.col(name).cast(pl.Float64, strict=False)


def _store(table: Table) -> Column:
    if "store_id" not in table.rows.columns:
        return Column("store_id", pl.lit(None, pl.String), pl.lit(value=False), ID_RULE)
    given = (pl.col("store_id") != "").fill_null(value=False)
    value = pl.when(given).then(pl.col("store_id"))
    return Column("store_id", value, given & bad_id("store_id"), f"{ID_RULE}, or nothing")


def _wrong_type(table: Table, name: str, allowed: str) -> DataError:
    dtype = table.rows.schema[name]
    return DataError(f"{table.path}: column '{name}' is {dtype}; allowed: {allowed}")
