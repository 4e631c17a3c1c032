"""Copying an immutable SQLite file without some of its customers.

The rows are never written to the new file, so it has no free page or gap that could still hold
them.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path


def customers_to_go(path: Path, gone: Callable[[str], bool]) -> list[int]:
    """Rowids of the customers of a file who are erased.

    Args:
        path: a generation, or online scores.
        gone: whether a customer, by what the file calls them, is erased.

    Raises:
        OSError, sqlite3.Error: the file can't be read.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as db:
        rows = db.execute("SELECT rowid, customer_id FROM customers")
        return [rowid for rowid, name in rows if gone(name)]


def copy_without(source: Path, target: Path, rowids: list[int]) -> None:
    """Copy a file without rows of ``customers``; the other rows keep their numbers.

    Args:
        source: a generation, or online scores.
        target: a file that doesn't exist; it is not synced to disk.
        rowids: the rows to leave out.

    Raises:
        OSError, sqlite3.Error: a file can't be read or written.
    """
    with closing(sqlite3.connect(f"{target.absolute().as_uri()}?mode=rwc", uri=True)) as db:
        db.isolation_level = None
        db.execute("ATTACH ? AS old", [f"{source.absolute().as_uri()}?mode=ro&immutable=1"])
        (page_size,) = db.execute("PRAGMA old.page_size").fetchone()
        db.execute(f"PRAGMA main.page_size = {int(page_size)}")
        # Nobody reads the new file before it is complete and synced.
        db.execute("PRAGMA main.journal_mode = OFF")
        db.execute("PRAGMA main.synchronous = OFF")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("CREATE TEMP TABLE gone (number INTEGER PRIMARY KEY)")
        db.execute("BEGIN")
        db.executemany("INSERT INTO temp.gone VALUES (?)", [[each] for each in rowids])
        made = db.execute(
            "SELECT type, name, sql FROM old.sqlite_master"
            " WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
        ).fetchall()
        for kind, name, sql in made:
            if kind == "table":
                db.execute(sql)
                columns = [row[1] for row in db.execute(f"PRAGMA old.table_info({_quoted(name)})")]
                listed = ", ".join(["rowid", *map(_quoted, columns)])
                where = ""
                if name == "customers":
                    where = " WHERE rowid NOT IN (SELECT number FROM temp.gone)"
                db.execute(
                    f"INSERT INTO main.{_quoted(name)} ({listed})"  # noqa: S608 - its own names
                    f" SELECT {listed} FROM old.{_quoted(name)}{where}"
                )
        for kind, _, sql in made:
            if kind != "table":
                db.execute(sql)
        db.execute("COMMIT")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
