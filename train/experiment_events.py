"""What kiosks showed to whom, from the tables that ``c2rec-export collect`` wrote."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from polars.exceptions import PanicException, PolarsError

from c2rec.runtime.errors import DataError
from c2rec.train.columns import ID_RULE, bad_id, text_columns, timestamp_column
from c2rec.train.tables import ROW, Problem, Table, read_table, refuse_problems
from c2rec.train.transactions import read_dataset

KINDS = ("shown", "tapped", "bought", "dismissed")
PURCHASES: dict[str, pl.DataType | type[pl.DataType]] = {
    "customer_id": pl.String,
    "item_id": pl.String,
    "channel": pl.String,
    "timestamp": pl.Datetime("us", "UTC"),
}
"""Columns of purchases."""
_AHEAD = timedelta(days=1)
"""How far a kiosk's clock may be ahead of head office's, as ``collect`` has it."""
_TEXTS = ("event_id", "kind", "customer_id", "item_id", "store_id", "device", "arm")
_COLUMNS = (*_TEXTS, "timestamp", "impossible")
_LABEL = r"^[^/\p{Cc}\s]{1,98}/[^/\p{Cc}\s]{1,98}$"
"""What events call an arm; 100 characters at most is what an event allows."""


@dataclass(frozen=True, slots=True)
class Events:
    """What happened at kiosks."""

    rows: pl.DataFrame
    """event_id, kind, customer_id, item_id, store_id, device, arm String; timestamp
    Datetime[μs, UTC]. A row for each item of an event; customer_id and arm may be null, and arm is
    one of the experiment that was chosen."""
    name: str
    """Of the experiment."""
    impossible: int
    """Rows left out because their time can't be so, as ``collect`` found."""
    future: int
    """Rows left out because their time is yet to come."""


def read_events(collected: Path, now: datetime, name: str | None) -> Events:
    """Read ``impressions.parquet``.

    Args:
        collected: the folder that ``collect`` wrote.
        now: with a zone; what is more than a day later is left out.
        name: of the experiment; None: the only one.

    Raises:
        DataError: it is missing, can't be read, or rows are bad, of which the first are shown; or
            it has no such experiment, or several.
    """
    path = collected / "impressions.parquet"
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file; {collected} has to be a folder that "
            "c2rec-export collect INBOX OUT wrote, its OUT"
        )
    table = text_columns(read_table(path, _COLUMNS), *_TEXTS)
    if table.rows.schema["impossible"] != pl.Boolean:
        found = table.rows.schema["impossible"]
        raise DataError(f"{path}: column 'impossible' is {found}; allowed: true or false")
    moment = timestamp_column(table, "timestamp")
    problems = _problems(table)
    problems += table.problems(moment.bad, "timestamp", moment.allowed)
    problems += _contradictions(table)
    refuse_problems(
        str(path),
        sorted(problems, key=lambda problem: problem.row),
        "\nWrite it anew with: c2rec-export collect",
    )
    rows = table.rows.with_columns(timestamp=moment.value)
    impossible = pl.col("impossible").fill_null(value=False)
    future = pl.col("timestamp") > now.astimezone(UTC) + _AHEAD
    good = rows.filter(~impossible & ~future).select(*_TEXTS, "timestamp")
    chosen = _choose(good, path, name)
    own = pl.col("arm").str.starts_with(f"{chosen}/")
    return Events(
        rows=good.with_columns(arm=pl.when(own).then(pl.col("arm").str.slice(len(chosen) + 1))),
        name=chosen,
        impossible=rows.filter(impossible).height,
        future=rows.filter(~impossible & future).height,
    )


def read_purchases(collected: Path) -> pl.DataFrame:
    """Read the purchases that kiosks recorded, of known customers; there may be none.

    Returns:
        As ``Dataset.transactions``.

    Raises:
        DataError: ``transactions.parquet`` is missing, can't be read, or rows are bad.
    """
    path = collected / "transactions.parquet"
    with suppress(PolarsError, PanicException, OSError):  # read_dataset says it better
        table = pl.scan_parquet(path, glob=False)
        if table.select(pl.len()).collect().item() == 0:
            return pl.DataFrame(schema=PURCHASES)
    return read_dataset(collected).transactions.select(list(PURCHASES))


def read_both_channels(data: Path, now: datetime) -> pl.DataFrame:
    """Read the purchases of a dataset.

    Args:
        data: its folder.
        now: with a zone.

    Returns:
        As ``Dataset.transactions``.

    Raises:
        DataError: it can't be read, rows are bad, or purchases are in the future.
    """
    purchases = read_dataset(data).transactions
    late = purchases.filter(pl.col("timestamp") > now.astimezone(UTC) + _AHEAD)
    if late.height:
        row = late.row(0, named=True)
        raise DataError(
            f"{data}: {late.height} purchases are in the future, such as that of "
            f"{row['item_id']!r} at {row['timestamp']:%Y-%m-%d %H:%M} UTC; it is "
            f"{now.astimezone(UTC):%Y-%m-%d %H:%M} UTC; correct timestamp, or leave them out"
        )
    return purchases


def _choose(rows: pl.DataFrame, path: Path, name: str | None) -> str:
    """Name the experiment to tell of."""
    labels = rows["arm"].unique().drop_nulls()
    names = labels.str.split("/").list.first().unique().sort()
    if names.is_empty():
        raise DataError(
            f"{path}: no event has an arm, so that there is no experiment to tell of; the release "
            "has to carry one, and kiosks to have it"
        )
    there = ", ".join(names.head(20).to_list())
    if name is None and len(names) > 1:
        raise DataError(f"{path}: has {len(names)} experiments; say --name with one of: {there}")
    if name is not None and name not in names:
        raise DataError(f"{path}: has no experiment {name!r}; it has: {there}")
    return str(names[0]) if name is None else name


def _problems(table: Table) -> list[Problem]:
    optional = pl.col("customer_id").is_not_null()
    arm = pl.col("arm").is_not_null()
    rules = {
        "event_id": (bad_id("event_id"), ID_RULE),
        "kind": (
            ~pl.col("kind").is_in(list(KINDS)).fill_null(value=False),
            " or ".join(KINDS),
        ),
        "customer_id": (optional & bad_id("customer_id"), f"{ID_RULE}, or nothing"),
        "item_id": (bad_id("item_id"), ID_RULE),
        "store_id": (bad_id("store_id"), ID_RULE),
        "device": (bad_id("device"), ID_RULE),
        "arm": (
            arm & ~pl.col("arm").str.contains(_LABEL).fill_null(value=False),
            "experiment/arm, 100 characters at most, as in spring/main, or nothing",
        ),
    }
    problems = list(table.ragged)
    for column, (bad, allowed) in rules.items():
        problems += table.problems(bad, column, allowed)
    return problems


def _contradictions(table: Table) -> list[Problem]:
    """Rows of one event that don't agree on what an event has once.

    An event that is there twice is no problem: all that is asked of a customer is whether they
    did something.
    """
    once = ["kind", "customer_id", "timestamp", "store_id", "device", "arm"]
    parts = table.rows.select("event_id", once=pl.struct(once).hash(seed=0)).unique()
    several = parts.filter(pl.col("event_id").is_duplicated())["event_id"].unique()
    if several.is_empty():
        return []
    rows = table.rows.filter(pl.col("event_id").is_in(several.implode()))
    first = rows.group_by("event_id", maintain_order=True).first()
    pairs = rows.join(first, on="event_id", how="left", suffix="_first", maintain_order="left")
    problems = []
    for name in once:
        other = pairs.filter(~pl.col(name).eq_missing(pl.col(f"{name}_first")))
        for row, value, event in other.select(
            ROW, pl.col(name).cast(pl.String), "event_id"
        ).iter_rows():
            allowed = f"the same in all rows of event {event}"
            problems.append(table.problem(row, name, repr(value), allowed))
    return problems
