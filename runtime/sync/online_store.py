"""Writing online scores on a kiosk; ``online_file.py`` reads them."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.home.disk import home_errors, make_folder, sha256_of, sync_to_disk
from c2rec.runtime.home.identity import Identity
from c2rec.runtime.sync.documents import BlobRef
from c2rec.runtime.sync.generation import stores_of
from c2rec.runtime.sync.online_documents import (
    OnlineScores,
    ScoresRef,
    parse_scores_index,
)
from c2rec.runtime.sync.online_shards import ScoresShard, decode_scores
from c2rec.runtime.sync.sealed import unseal

_SCHEMA = """
CREATE TABLE about (json TEXT NOT NULL);
CREATE TABLE items (row INTEGER PRIMARY KEY, item_id TEXT NOT NULL UNIQUE);
CREATE TABLE customers (
    customer_id TEXT PRIMARY KEY,
    items BLOB NOT NULL,
    probabilities BLOB NOT NULL,
    bought_items BLOB NOT NULL,
    bought_at BLOB NOT NULL
);
"""


def scores_path(home: Path, seq: int) -> Path:
    """Where the online scores of a number lie."""
    return home / "scores" / f"{seq}.db"


def build_scores(
    document: OnlineScores,
    blob: Callable[[BlobRef], bytes],
    identity: Identity,
    path: Path,
    *,
    erased: Callable[[str], bool] = lambda _: False,
) -> str:
    """Write a store's online scores; the file appears complete and on disk, or not at all.

    In memory is one shard at a time. Taken are the customers of the kiosk's store and of the store
    of everybody; a store that the scores don't name has none.

    Args:
        document: verified.
        blob: fetches a blob, whose length and digest it has checked.
        identity: whose store, and the key that opens its shards.
        path: the file to make; its folder is made if need be.
        erased: whether a customer, as 32 hex digits, must not be stored.

    Returns:
        Sha256 of the file, 64 hex digits.

    Raises:
        ReleaseError: an index or a shard is not what the format allows, of another store or of
            other scores, or can't be opened with this kiosk's key.
        HomeError: the file can't be written.
        Whatever ``blob`` raises.
    """
    unfinished = path.with_name(path.name + ".tmp")
    with home_errors(f"can't write the online scores {path}"):
        make_folder(path.parent)
        unfinished.unlink(missing_ok=True)
    try:
        with (
            home_errors(f"can't write the online scores {path}"),
            closing(sqlite3.connect(unfinished)) as db,
        ):
            # Nobody reads the file before it is complete and synced.
            db.execute("PRAGMA journal_mode = OFF")
            db.execute("PRAGMA synchronous = OFF")
            db.executescript(_SCHEMA)
            db.execute("INSERT INTO about VALUES (?)", [document.to_json()])
            for store in stores_of(identity):
                index = parse_scores_index(blob(document.index_of(store)), seq=document.seq)
                for ref in index.get(store, ()):
                    _insert(db, _open_shard(document, store, ref, blob(ref.blob), identity), erased)
            db.commit()
        with home_errors(f"can't write the online scores {path}"):
            digest = sha256_of(unfinished)
            sync_to_disk(unfinished)
            unfinished.replace(path)
            sync_to_disk(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)
    return digest


def _open_shard(
    document: OnlineScores, store: str, ref: ScoresRef, sealed: bytes, identity: Identity
) -> ScoresShard:
    name = f"shard {ref.bucket} of store {store!r} of the online scores {document.seq}"
    shard = decode_scores(unseal(identity.key_of(store), sealed, name=name), name=name)
    said = (shard.seq, shard.store, shard.bucket, shard.buckets, len(shard.ids))
    expected = (document.seq, store, ref.bucket, ref.buckets, ref.rows)
    if said != expected:
        raise ReleaseError(
            f"{name} says seq, store, bucket, buckets, rows are {said}; allowed: {expected}, as in "
            "the index"
        )
    return shard


def _insert(db: sqlite3.Connection, shard: ScoresShard, erased: Callable[[str], bool]) -> None:
    ids = [[each] for each in shard.item_ids]
    db.executemany("INSERT INTO items (item_id) VALUES (?) ON CONFLICT DO NOTHING", ids)
    query = "SELECT row FROM items WHERE item_id = ?"
    found = [db.execute(query, each).fetchone()[0] for each in ids]
    rows = np.array(found, np.int32)  # (items of the shard,): rows of the file
    for pseudonym, items, probabilities, bought, at in shard.customers():
        if erased(pseudonym.hex()):
            continue
        values = (rows[items], probabilities, rows[bought], at)
        db.execute(
            # a customer of the own store and of the store of everybody is stored once
            "INSERT OR IGNORE INTO customers VALUES (?, ?, ?, ?, ?)",
            [pseudonym.hex(), *(each.tobytes() for each in values)],
        )
