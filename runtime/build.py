"""Writing a release's cache, from a bundle, in bounded memory; ``cache.py`` reads it."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from c2rec.runtime.bundle import Bundle
from c2rec.runtime.tensors import CHUNK_BYTES, expected_tensors

_SCHEMA: dict[str, tuple[dict[str, type], str | tuple[str, str] | None]] = {
    "manifest": ({"json": str}, None),
    "graphs": ({"name": str, "onnx": bytes}, "name"),
    "arrays": ({"name": str, "dtype": str, "shape": str}, "name"),
    "chunks": ({"name": str, "position": int, "data": bytes}, ("name", "position")),
    "items": ({"row": int, "item_id": str, "name": str, "metadata": str}, "row"),
    "customers": (
        {
            "customer_id": str,
            "components": bytes,
            "has": bytes,
            "history_items": bytes,
            "history_channels": bytes,
        },
        "customer_id",
    ),
}
_ROWS_AT_ONCE = 500


def build_cache(
    bundle: Bundle, path: Path, *, report: Callable[[str], None] = lambda _: None
) -> None:
    """Write a cache.

    Args:
        bundle: a checked bundle.
        path: a file that doesn't exist yet. It is not synced to disk, and what an error leaves
            of it is the caller's to remove.
        report: called with what is being done.

    Raises:
        ReleaseError: the bundle has changed since it was checked.
        OSError, sqlite3.Error: the file can't be written.
    """
    with closing(sqlite3.connect(path)) as connection:
        # Nobody reads the file before it is complete and synced, so SQLite needn't sync; the
        # journal, for sqlite-utils to roll back by, holds only pages that existed before.
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA synchronous = OFF")
        db = Database(connection, execute_plugins=False)
        with db.atomic():
            for name, (columns, key) in _SCHEMA.items():
                db.table(name).create(columns, pk=key, not_null=columns.keys())
            db.table("items").create_index(["item_id"], unique=True)
            _insert(db, "manifest", iter([{"json": bundle.manifest.to_json()}]))
            graphs = [name for name in bundle.manifest.files if name.endswith(".onnx")]
            _insert(db, "graphs", ({"name": n, "onnx": bundle.graph(n)} for n in graphs))
            for prefix, file in (("", "items.safetensors"), ("golden/", "golden.safetensors")):
                report(f"storing {file}")
                _store_arrays(db, bundle, file, prefix)
            report("storing items")
            _insert(db, "items", _item_rows(bundle))
            report("storing customers")
            _insert(db, "customers", _customer_rows(bundle))


def _insert(db: Database, table: str, rows: Iterator[dict[str, Any]]) -> None:
    db.table(table).insert_all(rows, batch_size=_ROWS_AT_ONCE)


def _store_arrays(db: Database, bundle: Bundle, file: str, prefix: str) -> None:
    tensors = bundle.tensors(file)
    for name, spec in expected_tensors(bundle.manifest)[file].items():
        shape, stored = json.dumps(tensors.shape(name)), prefix + name
        db.table("arrays").insert({"name": stored, "dtype": spec.dtype, "shape": shape})
        position = 0
        for rows in tensors.chunks(name):
            # A row of a (2, items) tensor may be long: SQLite takes a gigabyte, we far less.
            data = memoryview(rows.tobytes())
            for start in range(0, len(data), 2 * CHUNK_BYTES):
                piece = bytes(data[start : start + 2 * CHUNK_BYTES])
                db.execute("INSERT INTO chunks VALUES (?, ?, ?)", [stored, position, piece])
                position += 1


def _item_rows(bundle: Bundle) -> Iterator[dict[str, Any]]:
    for row, item in enumerate(bundle.items()):
        yield {
            "row": row,
            "item_id": item.item_id,
            "name": item.name,
            "metadata": json.dumps(item.metadata, ensure_ascii=False),
        }


def _customer_rows(bundle: Bundle) -> Iterator[dict[str, Any]]:
    for block in bundle.customers():
        for i, customer_id in enumerate(block.customer_ids):
            bought = slice(int(block.offsets[i]), int(block.offsets[i + 1]))
            yield {
                "customer_id": customer_id,
                "components": block.components[i].tobytes(),
                "has": block.has[i].tobytes(),
                "history_items": block.history_items[bought].tobytes(),
                "history_channels": block.history_channels[bought].tobytes(),
            }
