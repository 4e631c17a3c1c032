"""Tables on disk: CSV and Parquet, opened as they are, and Parquet written whole or not at all.

polars fills a short CSV row up with nothing and, where it reads some columns only, drops the end
of a long one. So the bytes of a CSV file are counted first, and rows with another number of
fields than the header are known by number before polars sees them.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.exceptions import ColumnNotFoundError, PolarsError

from c2rec.runtime.errors import DataError

ROW = "\0row"
"""Name of the column with 1-based row numbers; no file can have a column of this name."""

_CHUNK_BYTES = 1 << 24
_QUOTE, _COMMA, _RETURN, _LINE_END = (ord(character) for character in '",\r\n')


@dataclass(frozen=True, slots=True)
class RaggedRow:
    """A CSV row with too many or too few fields."""

    row: int
    """1-based, the header not counted."""
    fields: int
    """How many it has; 0 for an empty line."""


@dataclass(frozen=True, slots=True)
class Table:
    """A file that can be read as a table, and has rows."""

    path: Path
    rows: pl.LazyFrame
    """All columns, with ``ROW`` (uint32, from 1) before them. CSV columns are text."""
    schema: pl.Schema
    """Of the file's own columns."""
    ragged: tuple[RaggedRow, ...]
    """CSV rows whose number of fields is not the header's."""
    one_line_per_row: bool
    """Whether row n of the data is line n + 1 of the file; False for Parquet."""


def open_table(path: Path) -> Table:
    """Open a Parquet or CSV file, by the end of its name.

    Raises:
        DataError: the file is missing, empty, has a header only, repeats a column, or is not
            what its name says.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if path.suffix == ".parquet":
        return _open_parquet(path)
    return _open_csv(path)


def collect(table: Table, frame: pl.LazyFrame) -> pl.DataFrame:
    """Run a query on a table.

    Raises:
        DataError: the file is damaged further down.
    """
    try:
        return frame.collect(engine="streaming")
    except ColumnNotFoundError:
        raise
    except PolarsError as error:
        raise _unreadable(table.path, error) from error


def fingerprint(paths: Iterable[Path]) -> str:
    """Hash files by name and content: sha256, hex."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.name} {digest}\n".encode())
    return total.hexdigest()


def write_dataset(
    out: Path,
    *,
    transactions: pl.DataFrame | pl.LazyFrame,
    items: pl.DataFrame,
    beside: dict[str, bytes] | None = None,
) -> None:
    """Write ``items.parquet``, further files, and at last ``transactions.parquet``.

    Every file is written under a temporary name first, so that what was there stays whole if
    anything fails. CSV files of a former dataset are removed.

    Args:
        out: folder, made if it is missing.
        transactions: in the form that ``transactions.read_dataset`` returns.
        items: likewise.
        beside: further files by name.
    """
    out.mkdir(parents=True, exist_ok=True)
    beside = beside or {}
    names = ["items.parquet", *beside, "transactions.parquet"]
    temporary = {name: out / f"{name}.tmp" for name in names}
    try:
        items.write_parquet(temporary["items.parquet"])
        for name, data in beside.items():
            temporary[name].write_bytes(data)
        transactions.lazy().sink_parquet(temporary["transactions.parquet"], engine="streaming")
        for path in temporary.values():
            _sync(path)
        for former in ("items.csv", "transactions.csv"):
            (out / former).unlink(missing_ok=True)
        for name, path in temporary.items():
            path.replace(out / name)
        _sync(out)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


def refuse_existing(out: Path, *, force: bool) -> None:
    """Refuse a folder that holds a dataset, unless it may be replaced.

    Raises:
        DataError: ``out`` is a file, or has transactions or items and ``force`` is False.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file; name a folder for the dataset")
    there = [
        name
        for stem in ("transactions", "items")
        for name in (f"{stem}.parquet", f"{stem}.csv")
        if (out / name).exists()
    ]
    if there and not force:
        raise DataError(
            f"{out}: has {' and '.join(there)} already; choose another folder, or add --force "
            "to replace them"
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_parquet(path: Path) -> Table:
    try:
        rows = pl.scan_parquet(path, glob=False, row_index_name=ROW, row_index_offset=1)
        schema = rows.collect_schema()
        height = rows.select(pl.len()).collect().item()
    except (PolarsError, OSError) as error:
        raise DataError(f"{path}: not a Parquet file, or damaged: {_first_line(error)}") from error
    _require_rows(path, height)
    own = pl.Schema({name: dtype for name, dtype in schema.items() if name != ROW})
    return Table(path, rows, own, (), one_line_per_row=False)


def _open_csv(path: Path) -> Table:
    options = {"infer_schema": False, "glob": False, "truncate_ragged_lines": True}
    try:
        rows = pl.scan_csv(path, row_index_name=ROW, row_index_offset=1, **options)  # type: ignore[arg-type]  # one dict, many types
        names = [name for name in rows.collect_schema().names() if name != ROW]
    except PolarsError as error:
        raise _unreadable(path, error) from error
    _check_header(path, names)
    return Table(path, rows, pl.Schema(dict.fromkeys(names, pl.String)), (), False)


def _check_header(path: Path, names: Sequence[str]) -> None:
    text = ", ".join(names)
    if "\0" in text or "\N{REPLACEMENT CHARACTER}" in text:
        raise DataError(f"{path}: its header is not UTF-8 text; save the file as UTF-8 CSV")
    for name in names:
        if f"{name}_duplicated_0" in names:
            raise DataError(f"{path}: the header has the column {name} more than once")


def _require_rows(path: Path, height: int) -> None:
    if height == 0:
        raise DataError(f"{path}: has no rows")


def _unreadable(path: Path, error: Exception) -> DataError:
    kind = "Parquet file" if path.suffix == ".parquet" else "CSV file in UTF-8"
    return DataError(f"{path}: not a {kind}, or damaged: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
