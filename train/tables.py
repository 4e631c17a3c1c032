"""Tables on disk: CSV and Parquet read with their problems, Parquet written whole or not at all."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import NoDataError, PanicException, PolarsError

from c2rec.runtime.errors import DataError
from c2rec.train.csv_fields import FieldCount, QuoteError, count_fields
from c2rec.train.files import replace_file

ROW = "\0row"
"""Column of 1-based row numbers; no file can have one of this name."""
SHOWN = 5
"""Problems that an error message shows."""

_ALIASES = {
    "customer": "customer_id",
    "user_id": "customer_id",
    "item": "item_id",
    "product_id": "item_id",
    "article_id": "item_id",
    "sales_channel": "channel",
    "date": "timestamp",
    "time": "timestamp",
    "datetime": "timestamp",
    "qty": "quantity",
    "unit_price": "price",
}
"""Other people's names for columns."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A value, or a row, that can't be used."""

    file: str
    row: int
    """From 1; the header of a CSV file isn't counted."""
    column: str
    """``row`` where it is the row as a whole."""
    value: str
    """As text, shortened."""
    allowed: str
    line: int | None = None
    """From 1, in a CSV file; None where values that span lines make it another."""

    def __str__(self) -> str:
        """One line for a person."""
        place = f"row {self.row}" if self.line is None else f"row {self.row} (line {self.line})"
        return f"{self.file}: {place}: {self.column} is {self.value}; allowed: {self.allowed}"


@dataclass(frozen=True, slots=True)
class Table:
    """A file that was read."""

    path: Path
    rows: pl.DataFrame
    """The columns asked for that the file has, and ``ROW``, uint32. Those of a CSV are String."""
    ragged: list[Problem]
    """CSV rows with too many or too few fields; they are not among ``rows``."""
    lines: bool
    """Whether row n is line n + 1 of the file."""

    def problem(self, row: int, column: str, value: str, allowed: str) -> Problem:
        """Report something about a row."""
        return Problem(self.path.name, row, column, value, allowed, row + 1 if self.lines else None)

    def problems(self, bad: pl.Expr, column: str, allowed: str) -> list[Problem]:
        """Report a column's value in every row where ``bad`` is true."""
        found = self.rows.filter(bad).select(ROW, pl.col(column).cast(pl.String))
        return [
            self.problem(row, column, shown(value), allowed) for row, value in found.iter_rows()
        ]


@dataclass(frozen=True, slots=True)
class Scan:
    """A file whose columns are known to be there, before its values are read."""

    path: Path
    rows: pl.LazyFrame
    """As those of ``Table``, with the ragged ones."""
    count: FieldCount | None
    """Of a CSV file."""
    fields: int
    """Of the header."""

    def read(self) -> Table:
        """Read it all.

        Raises:
            DataError: the file can't be read, or has no rows.
        """
        rows, ragged = self.collect(pl.all()), self.ragged
        if ragged.height:
            rows = rows.filter(~pl.col(ROW).is_in(ragged[ROW].implode()))
        return Table(self.path, rows, self._ragged_problems(ragged), self._lines)

    def collect(self, *columns: pl.Expr) -> pl.DataFrame:
        """Read these columns of all rows, ragged ones too, with a piece of the file in memory.

        Raises:
            DataError: the file can't be read, or has no rows.
        """
        rows = self._collect(self.rows.select(*columns))
        if self.count is not None and rows.height != self.count.rows:
            raise _unreadable(self.path, f"{rows.height} rows or {self.count.rows}?{self._hint}")
        if rows.height == 0:
            raise DataError(f"{self.path}: has no rows")
        return rows

    def problems(self, rules: Mapping[str, tuple[pl.Expr, str]]) -> tuple[list[Problem], int]:
        """Report what can't be used, without holding all of it.

        Args:
            rules: by column, what is true where its value can't be used, and what is allowed.

        Returns:
            The first problems by row, as many as are shown, and how many there are.

        Raises:
            DataError: the file can't be read.
        """
        rows, ragged = self.rows, self.ragged
        if ragged.height:
            rows = rows.filter(~pl.col(ROW).is_in(ragged[ROW].implode()))
        sums = (bad.sum().alias(name) for name, (bad, _) in rules.items())
        counts = self._collect(rows.select(sums)).row(0, named=True)
        problems = self._ragged_problems(ragged.head(SHOWN))
        for name, (bad, allowed) in rules.items():
            if counts[name]:
                first = self._collect(rows.filter(bad).select(ROW, name).head(SHOWN))
                table = Table(self.path, first, [], self._lines)
                problems += table.problems(pl.lit(value=True), name, allowed)
        problems.sort(key=lambda problem: problem.row)
        return problems[:SHOWN], ragged.height + sum(counts.values())

    @property
    def ragged(self) -> pl.DataFrame:
        """``ROW`` and ``fields`` of CSV rows with too many or too few fields."""
        schema = {ROW: pl.UInt32, "fields": pl.Int64}
        return pl.DataFrame([] if self.count is None else self.count.ragged, schema, orient="row")

    @property
    def _lines(self) -> bool:
        return self.count is not None and self.count.one_line_each

    @property
    def _hint(self) -> str:
        ragged = self.ragged
        return f"; look at row {ragged[ROW][0]}, is a quote amiss?" if ragged.height else ""

    def _ragged_problems(self, ragged: pl.DataFrame) -> list[Problem]:
        table = Table(self.path, ragged, [], self._lines)
        allowed = f"{self.fields} fields, as in the header"
        return [
            table.problem(row, "row", f"{fields} fields" if fields > 1 else "1 field", allowed)
            for row, fields in ragged.iter_rows()
        ]

    def _collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        try:
            return rows.collect(engine="streaming")
        except (PolarsError, PanicException, OSError) as error:
            raise _unreadable(self.path, _text(error) + self._hint) from error


def shown(value: str | None) -> str:
    """Quote a value for a message, shortened."""
    if value is None or value == "":
        return "empty"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def refuse_problems(
    what: str, problems: Sequence[Problem], advice: str, number: int | None = None
) -> None:
    """Raise if there are problems.

    Args:
        what: they are problems of.
        problems: the first of them by row, at least ``SHOWN`` if there are as many.
        advice: what to do, after them.
        number: how many there are; None means as many as given.

    Raises:
        DataError: it shows the first of them, their number, and the advice.
    """
    if problems:
        number = len(problems) if number is None else number
        first = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
        more = f"\n  … and {number - SHOWN} more" if number > SHOWN else ""
        count = "1 problem" if number == 1 else f"{number} problems"
        raise DataError(f"{what}: {count}:{first}{more}{advice}")


def read_table(path: Path, required: Sequence[str], optional: Sequence[str] | None = ()) -> Table:
    """Read a Parquet file, or a CSV file with every value as text.

    Args:
        path: a file whose name ends in ``.parquet``, or a CSV file.
        required: columns that it must have.
        optional: columns to read where it has them; None reads all that there are.

    Raises:
        DataError: the file can't be read, has no rows, or lacks a column, maybe because it is
            there under another name.
    """
    return scan_table(path, required, optional).read()


def scan_table(path: Path, required: Sequence[str], optional: Sequence[str] | None = ()) -> Scan:
    """Look at a file before its values are read; arguments as of ``read_table``.

    Raises:
        DataError: the file can't be read, or lacks a column; a CSV has a quote amiss.
    """
    names = _header(path)
    _require(path, names, required, optional or ())
    wanted = [name for name in names if optional is None or name in (*required, *optional)]
    if path.suffix == ".parquet":
        rows = pl.scan_parquet(path, glob=False).select(wanted).with_row_index(ROW, offset=1)
        return Scan(path, rows, None, len(names))
    try:
        count = count_fields(path, len(names))
    except QuoteError as error:
        raise _unreadable(path, str(error)) from error
    rows = pl.scan_csv(
        path,
        infer_schema=False,
        glob=False,
        truncate_ragged_lines=True,  # they are known, and left out
    )
    rows = rows.select(wanted).with_row_index(ROW, offset=1)
    return Scan(path, rows, count, len(names))


def refuse_to_replace(out: Path, *, force: bool) -> None:
    """Make sure that writing a dataset destroys none.

    Raises:
        DataError: the folder holds Parquet files of a dataset and ``force`` is not given, or CSV
            files, which are never ours to replace.
    """
    for stem in ("transactions", "items"):
        if (out / f"{stem}.csv").exists():
            raise DataError(
                f"{out / stem}.csv: is in the way, a dataset is Parquet or CSV; "
                "choose another --out, or move it away"
            )
        if (out / f"{stem}.parquet").exists() and not force:
            raise DataError(
                f"{out / stem}.parquet: is there already; choose another --out, "
                "or add --force to replace it"
            )


def write_dataset(
    out: Path, transactions: pl.DataFrame | pl.LazyFrame, items: pl.DataFrame
) -> None:
    """Write both tables as Parquet, each whole or not at all, transactions last.

    What takes long, writing the transactions, comes before either file is replaced. Columns that
    ``transactions`` is lazy about are made as they are written, never all at once.

    Raises:
        DataError: one can't be written; the disk may be full.
    """
    path = out / "transactions.parquet"

    def write(temporary: Path) -> None:
        _write(path, transactions, temporary)
        write_table(out / "items.parquet", items)

    out.mkdir(parents=True, exist_ok=True)
    replace_file(path, write)


def write_table(path: Path, rows: pl.DataFrame) -> None:
    """Write a table as Parquet, whole or not at all.

    Raises:
        DataError: it can't be written; the disk may be full.
    """
    replace_file(path, lambda temporary: _write(path, rows, temporary))


def _write(path: Path, rows: pl.DataFrame | pl.LazyFrame, temporary: Path) -> None:
    try:
        rows.lazy().sink_parquet(temporary)
    except (PolarsError, PanicException, OSError) as error:
        raise DataError(f"{path}: can't be written: {_text(error)}") from error


def _header(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: a path that is no text in UTF-8; rename it") from error
    try:
        if path.suffix == ".parquet":
            return pl.scan_parquet(path, glob=False).collect_schema().names()
        names = pl.scan_csv(path, infer_schema=False, glob=False).collect_schema().names()
    except NoDataError as error:
        raise DataError(f"{path}: is empty") from error
    except (PolarsError, PanicException, OSError) as error:
        raise _unreadable(path, _text(error)) from error
    if any("\0" in name or "\N{REPLACEMENT CHARACTER}" in name for name in names):
        raise _unreadable(path, "its first line is no text in UTF-8")
    for name in names:
        if f"{name}_duplicated_0" in names:  # how polars names the second one
            raise DataError(f"{path}: column '{name}' is there more than once")
    return names


def _require(
    path: Path, names: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> None:
    for name in required:
        if name not in names:
            meant = _meant(name, names)
            hint = f"; rename '{meant}' if that is it" if meant else ""
            if len(names) == 1 and any(separator in names[0] for separator in ";\t|"):
                hint = "; separate columns by commas"
            raise DataError(f"{path}: column '{name}' is missing; it has: {', '.join(names)}{hint}")
    for name in optional:
        for other in names:
            if name not in names and _plain(other) == _plain(name):
                raise DataError(
                    f"{path}: column '{other}' is not read; rename it to '{name}' if that is it, "
                    f"or to something else; it has: {', '.join(names)}"
                )


def _plain(name: str) -> str:
    """Strip what people write differently: Store-ID, storeid and store_id are one."""
    lower = name.strip().lower()
    lower = _ALIASES.get(lower.replace(" ", "_"), lower)
    return "".join(character for character in lower if character.isalnum())


def _meant(name: str, names: Sequence[str]) -> str | None:
    plain = {_plain(other): other for other in reversed(names)}
    near = difflib.get_close_matches(_plain(name), plain, 1, 0.6)
    return plain[near[0]] if near else None


def _unreadable(path: Path, why: str) -> DataError:
    kind = "Parquet" if path.suffix == ".parquet" else "CSV in UTF-8"
    return DataError(f"{path}: can't be read as {kind}: {why}")


def _text(error: Exception) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return first if len(first) <= 200 else f"{first[:199]}…"
