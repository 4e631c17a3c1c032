"""Online scores on a kiosk: an immutable SQLite file, ``HOME/scores/<seq>.db``.

| table | holds |
| --- | --- |
| `about` | the text of scores/index.json |
| `items` | item id by row |
| `customers` | by pseudonym, as hex: the list and what was bought, in one row |
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from c2rec.runtime.disk import home_errors, sha256_of, sync_to_disk
from c2rec.runtime.documents import BlobRef
from c2rec.runtime.errors import HomeError, ReleaseError
from c2rec.runtime.generation import stores_of
from c2rec.runtime.identity import Identity
from c2rec.runtime.online_documents import (
    OnlineScores,
    ScoresRef,
    parse_online_scores,
    parse_scores_index,
)
from c2rec.runtime.online_shards import ScoresShard, decode_scores
from c2rec.runtime.sealed import unseal

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


class CustomerList(NamedTuple):
    """What the online shop would show one customer, and what it sold them."""

    items: list[str]
    """Item ids, best first; the kiosk's release may not know them."""
    probabilities: npt.NDArray[np.float32]
    """(n,), that each is bought; 0 where it is not known"""
    bought: list[tuple[str, int]]
    """Item ids bought online, and when: seconds since 1970, UTC."""


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
        path.parent.mkdir(parents=True, exist_ok=True)
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


class ScoresFile:
    """An open file of online scores; use it in the thread that opened it.

    Args:
        path: the file.

    Raises:
        HomeError: here and in every method: the file is missing, is none of ours, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._reading():
            if not path.is_file():
                raise FileNotFoundError(2, "the file is missing")
            uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
            self._db = sqlite3.connect(uri, uri=True)
            try:
                (text,) = self._db.execute("SELECT json FROM about").fetchone() or ("",)
                self.document = parse_online_scores(text.encode())
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def customer(self, pseudonym: str) -> CustomerList | None:
        """What is known of a customer, by pseudonym as 32 hex digits, or None."""
        query = (
            "SELECT items, probabilities, bought_items, bought_at FROM customers"
            " WHERE customer_id = ?"
        )
        with self._reading():
            row = self._db.execute(query, [pseudonym]).fetchone()
            if row is None:
                return None
            items, probabilities, bought, at = row
            times = np.frombuffer(at, np.int64).tolist()
            found = CustomerList(
                self._names(items),
                np.frombuffer(probabilities, np.float32),
                list(zip(self._names(bought), times, strict=True)),
            )
            if len(found.items) != len(found.probabilities):
                raise ValueError("a list has another length than its probabilities")
        return found

    def _names(self, rows: bytes) -> list[str]:
        query = "SELECT item_id FROM items WHERE row = ?"
        names = [
            self._db.execute(query, [row]).fetchone()
            for row in np.frombuffer(rows, np.int32).tolist()
        ]
        if None in names:
            raise ValueError("an item is missing")
        return [name for (name,) in names]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        advice = "the next sync fetches them again"
        try:
            with home_errors(f"can't read the online scores {self.path}", advice):
                yield
        except (ValueError, TypeError, AttributeError, ReleaseError) as error:
            raise HomeError(
                f"the online scores {self.path} are damaged: {error}; {advice}"
            ) from error
