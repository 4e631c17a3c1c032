"""Writing a release's cache, from a bundle, in bounded memory; ``cache.py`` reads it."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
from sqlite_utils import Database

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.home.disk import ITEMS, kept_path, sha256_of, sync_to_disk
from c2rec.runtime.release.bundle import Bundle
from c2rec.runtime.release.item_file import map_tensors
from c2rec.runtime.release.quantise import quantise
from c2rec.runtime.release.tensors import CHUNK_BYTES, Array, TensorFile, expected_tensors

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
            "history_days": bytes,
        },
        "customer_id",
    ),
    "shards": (
        {"store": str, "bucket": int, "buckets": int, "content": str, "first": int, "last": int},
        ("store", "bucket"),
    ),
    "about": ({"name": str, "value": str}, "name"),
}
INSERT_CUSTOMER = "INSERT INTO customers VALUES (?, ?, ?, ?, ?, ?)"


def build_cache(
    bundle: Bundle,
    path: Path,
    *,
    fill: Callable[[sqlite3.Connection], None] | None = None,
    about: Mapping[str, str] | None = None,
    gone: Callable[[str], bool] = lambda _: False,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Write a cache: the SQLite file, and the item side beside it.

    Args:
        bundle: a checked bundle.
        path: a file that doesn't exist yet. It is not synced to disk, and what an error leaves
            of it is the caller's to remove. The item side is.
        fill: writes the rows of ``customers`` and ``shards``; None: the bundle's own customers,
            under their plain ids.
        about: what the table ``about`` says beyond whose ids the customers have.
        gone: whether one of the bundle's own customers, by plain id, is erased.
        report: called with what is being done.

    Raises:
        ReleaseError: the bundle has changed since it was checked.
        OSError, sqlite3.Error: the file can't be written.
    """
    items = {}
    for prefix in ("", *(f"{arm.name}." for arm in bundle.manifest.own_arms)):
        report(f"storing {prefix}{ITEMS}")
        items[prefix] = _keep_items(bundle, prefix + ITEMS, path.parent)
    with closing(sqlite3.connect(path)) as connection:
        # Nobody reads the file before it is complete and synced, so SQLite needn't sync; the
        # journal, for sqlite-utils to roll back by, holds only pages that existed before.
        connection.execute("PRAGMA page_size = 16384")
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -32768")  # KiB: customers' ids come in no order
        db = Database(connection, execute_plugins=False)
        with db.atomic():
            for name, (columns, key) in _SCHEMA.items():
                db.table(name).create(columns, pk=key, not_null=columns.keys())
            db.table("items").create_index(["item_id"], unique=True)
            said = {"customers": "ids" if fill is None else "pseudonyms"} | dict(about or {})
            if (rules := bundle.rules()) is not None:
                said["rules"] = rules
            connection.executemany("INSERT INTO about VALUES (?, ?)", said.items())
            db.table("manifest").insert({"json": bundle.manifest.to_json()})
            for name in bundle.manifest.files:
                if name.endswith(".onnx"):
                    db.table("graphs").insert({"name": name, "onnx": bundle.graph(name)})
            for prefix, path_of_items in items.items():
                _store_arrays(db, bundle, prefix, path_of_items, report)
            # insert_all of sqlite-utils takes three times as long
            report("storing items")
            connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", _item_rows(bundle))
            report("storing customers")
            if fill is None:
                rows = (row for row in _customer_rows(bundle) if not gone(row[0]))
                connection.executemany(INSERT_CUSTOMER, rows)
            else:
                fill(connection)


def _store_arrays(
    db: Database, bundle: Bundle, prefix: str, items: Path, report: Callable[[str], None]
) -> None:
    """Store a model's golden answers and what the engine scans; ``items`` is its item side."""
    golden = f"{prefix}golden.safetensors"
    report(f"storing {golden}")
    tensors = bundle.tensors(golden)
    for name in expected_tensors(bundle.manifest)[golden]:
        _store_array(db, f"{prefix}golden/{name}", np.concatenate(list(tensors.chunks(name))))
    report("storing what the engine scans")
    for name, array in _scanned(tensors, items):
        _store_array(db, f"{prefix}scan/{name}", array)


def _store_array(db: Database, name: str, array: Array) -> None:
    shape = json.dumps(array.shape)
    db.table("arrays").insert({"name": name, "dtype": array.dtype.name, "shape": shape})
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for position, start in enumerate(range(0, len(data), CHUNK_BYTES)):
        piece = data[start : start + CHUNK_BYTES].tobytes()
        db.execute("INSERT INTO chunks VALUES (?, ?, ?)", [name, position, piece])


def _keep_items(bundle: Bundle, name: str, folder: Path) -> Path:
    """Copy an items.safetensors to where the cache looks for it, whole and on disk or not at all.

    Raises:
        ReleaseError: it is not the file that was checked.
    """
    expected = bundle.manifest.files[name].sha256
    path = kept_path(folder, name, expected)
    if path.is_file() and (bundle.kept or sha256_of(path) == expected):
        return path
    unfinished, digest = path.with_name(path.name + ".tmp"), hashlib.sha256()
    try:
        with bundle.path(name).open("rb") as source, unfinished.open("wb") as target:
            while piece := source.read(CHUNK_BYTES):
                digest.update(piece)
                target.write(piece)
        if digest.hexdigest() != expected:
            raise ReleaseError(f"{name} has changed since it was checked; install again")
        sync_to_disk(unfinished)
        unfinished.replace(path)
        sync_to_disk(folder)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _scanned(golden: TensorFile, items: Path) -> Iterator[tuple[str, Array]]:
    components = np.concatenate(list(golden.chunks("components")))  # (g, 3, d)
    longest = np.linalg.norm(components.astype(np.float64), axis=2).max(1)  # (g,)
    reach = float(np.median(longest[longest > 0])) if longest.any() else 0.0
    with items.open("rb") as file:
        tensors = map_tensors(file)
    return quantise(tensors["item_embeddings"], tensors["item_bias"], reach)


def _item_rows(bundle: Bundle) -> Iterator[tuple[int, str, str, str]]:
    for row, item in enumerate(bundle.items()):
        yield row, item.item_id, item.name, json.dumps(item.metadata, ensure_ascii=False)


def _customer_rows(bundle: Bundle) -> Iterator[tuple[str, bytes, bytes, bytes, bytes, bytes]]:
    for block in bundle.customers():
        for i, customer_id in enumerate(block.customer_ids):
            bought = slice(int(block.offsets[i]), int(block.offsets[i + 1]))
            yield (
                customer_id,
                block.components[i].tobytes(),
                block.has[i].tobytes(),
                block.history_items[bought].tobytes(),
                block.history_channels[bought].tobytes(),
                block.history_days[bought].tobytes(),
            )
