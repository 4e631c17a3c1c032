"""Reading a release's cache: two immutable files in ``HOME/gen``.

``<digest>.items.safetensors`` is the release's items.safetensors, mapped into memory, and shared
by releases that have it in common, and ``<name>.db`` an SQLite file. An arm with a model of its own
has another item side, and graphs and arrays under its name (``item_side.py``).

| table | holds |
| --- | --- |
| `manifest` | the text of manifest.json |
| `graphs` | the ONNX graphs |
| `arrays`, `chunks` | golden answers and what the engine scans: dtype and shape, bytes in pieces |
| `items` | item id, name and metadata by row |
| `customers` | a customer's embeddings and history, in one row |
| `shards` | which shards the customers came in, and which rows of `customers` each is |
| `about` | `customers`: whether their ids are plain ids or pseudonyms; `seq`, `space`, `store`; \
`rules`: rules.toml, if the release has one |

``build.py`` writes it. numpy is imported where an array is read, and the manifest parsed where it
is asked for, so that a report stays quick.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from c2rec.runtime.home.disk import ITEMS, kept_path
from c2rec.runtime.release.item_side import ItemSide, cache_errors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    import numpy as np
    import numpy.typing as npt

    from c2rec.runtime.release.manifest import Manifest


class Customer(NamedTuple):
    """What a release knows of one customer.

    A named tuple, for a dataclass takes most of a millisecond to make and ``status`` imports this.
    """

    components: npt.NDArray[np.float32]
    """(3, d)"""
    has: npt.NDArray[np.bool_]
    """(3,)"""
    history_items: npt.NDArray[np.int32]
    """(n,) rows of the items bought"""
    history_channels: npt.NDArray[np.uint8]
    """(n,) 0 offline, 1 online"""
    history_days: npt.NDArray[np.int32]
    """(n,) the last purchase of the item in the channel, days since 1970-01-01 UTC"""


class Cache:
    """An open cache file; use it in the thread that opened it.

    Args:
        path: the file.

    Raises:
        HomeError: here and in every method: the file is missing, is no cache, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._reading():
            if not path.is_file():
                raise FileNotFoundError(2, "the file is missing")
            self._db = self._connect(path)
            try:
                self._manifest_json = self._one("SELECT json FROM manifest")
                self._side = self._open_side()
            except BaseException:
                self._db.close()
                raise

    @property
    def items_path(self) -> Path:
        """Where the item side lies."""
        return self._side.path

    def close(self) -> None:
        """Close the files."""
        self._side.close()
        self._db.close()

    def reopen(self, path: Path) -> None:
        """Read on from another file with the same release, from which customers were erased.

        Until it returns, the old file is read, though it be deleted.
        """
        with self._reading():
            new = self._connect(path)
            try:
                (text,) = new.execute("SELECT json FROM manifest").fetchone() or ("",)
                if text != self._manifest_json:
                    raise ValueError("it holds another release than before")
            except BaseException:
                new.close()
                raise
            self._db.close()
            self.path, self._db = path, new

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        # immutable: no lock, no journal, and it can lie on a read-only file system
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        return sqlite3.connect(uri, uri=True)

    def manifest(self) -> Manifest:
        """The release's manifest."""
        with self._reading():
            return _parsed(self._manifest_json)

    def manifest_document(self) -> dict[str, Any]:
        """The release's manifest.json as it was checked at the install, parsed alone."""
        import json

        with self._reading():
            document: dict[str, Any] = json.loads(self._manifest_json)
        return document

    def graph(self, name: str) -> bytes:
        """Content of one of the bundle's ONNX graphs."""
        with self._reading():
            return bytes(self._one("SELECT onnx FROM graphs WHERE name = ?", [name]))

    def array(self, name: str) -> npt.NDArray[Any]:
        """Map a tensor of items.safetensors, read only.

        Or load an array: ``golden/`` and one of golden's tensors, ``scan/`` and one of
        ``quantise``'s; those of an arm's own model have its name and a dot before.
        """
        if "/" not in name:
            with self._reading():
                return self._side.array(name)
        import json

        import numpy as np

        with self._reading():
            dtype = self._one("SELECT dtype FROM arrays WHERE name = ?", [name])
            shape = json.loads(self._one("SELECT shape FROM arrays WHERE name = ?", [name]))
            values: npt.NDArray[Any] = np.empty(shape, dtype=dtype)
            target, filled = values.reshape(-1).view(np.uint8), 0
            pieces = "SELECT data FROM chunks WHERE name = ? ORDER BY position"
            for (data,) in self._db.execute(pieces, [name]):
                target[filled : filled + len(data)] = np.frombuffer(data, np.uint8)
                filled += len(data)
            if filled != len(target):
                raise ValueError(f"array {name!r} has {filled} bytes instead of {len(target)}")
        return values

    def _open_side(self) -> ItemSide:
        document = self.manifest_document()
        try:
            listed = document["files"][ITEMS]
            path = kept_path(self.path.parent, ITEMS, listed["sha256"])
            return ItemSide(path, listed["bytes"], partial(_parsed, self._manifest_json))
        except (KeyError, TypeError) as error:
            raise ValueError(f"its manifest lacks {error}") from error

    def item_row(self, item_id: str) -> int | None:
        """Row of an item, or None where the release doesn't know it."""
        if not _storable(item_id):
            return None
        with self._reading():
            found = self._db.execute("SELECT row FROM items WHERE item_id = ?", [item_id])
            row = found.fetchone()
        return None if row is None else int(row[0])

    def item_rows(self, item_ids: Iterable[str]) -> tuple[npt.NDArray[np.int64], int]:
        """Rows of the items that the release knows, int64, and how many ids it doesn't."""
        import json

        import numpy as np

        wanted = set(item_ids)
        # json_each would take what stands before a NUL for the whole id
        known = json.dumps([each for each in wanted if _storable(each) and "\0" not in each])
        query = "SELECT row FROM items WHERE item_id IN (SELECT value FROM json_each(?))"
        with self._reading():
            rows = [row for (row,) in self._db.execute(query, [known])]
        return np.array(rows, np.int64), len(wanted) - len(rows)

    def item_names(self, rows: Sequence[int]) -> list[tuple[str, str]]:
        """(item id, name) of items, in the order of ``rows``."""
        query = "SELECT item_id, name FROM items WHERE row = ?"
        with self._reading():
            found = [self._db.execute(query, [int(row)]).fetchone() for row in rows]
            if None in found:
                raise ValueError("an item is missing")
        return found

    def item_ids(self) -> list[str]:
        """Ids of all items, by row."""
        with self._reading():
            found = self._db.execute("SELECT item_id FROM items ORDER BY row")
            return [item_id for (item_id,) in found]

    def every_metadata(self) -> list[dict[str, str]]:
        """The further columns of all items, by row."""
        import json

        with self._reading():
            found = self._db.execute("SELECT metadata FROM items ORDER BY row")
            # one document of all takes less than one by one
            rows: list[dict[str, str]] = json.loads(f"[{','.join(text for (text,) in found)}]")
            return rows

    def about(self, name: str) -> str | None:
        """What the table ``about`` says: ``customers``, ``seq`` or ``space``; None for nothing."""
        with self._reading():
            row = self._db.execute("SELECT value FROM about WHERE name = ?", [name]).fetchone()
        return None if row is None else str(row[0])

    def shard_rows(
        self, store: str, bucket: int
    ) -> list[tuple[str, bytes, bytes, bytes, bytes, bytes]]:
        """Rows of ``customers`` that came in a shard, in the order in which they were stored."""
        query = (
            "SELECT customer_id, components, has, history_items, history_channels, history_days"
            " FROM customers, shards WHERE store = ? AND bucket = ?"
            " AND customers.rowid BETWEEN first AND last ORDER BY customers.rowid"
        )
        with self._reading():
            return self._db.execute(query, [store, bucket]).fetchall()

    def shards(self) -> dict[tuple[str, int], tuple[int, str]]:
        """Shards that the customers came in: ``{(store, bucket): (buckets, content)}``."""
        with self._reading():
            rows = self._db.execute("SELECT store, bucket, buckets, content FROM shards")
            return {(store, bucket): (buckets, content) for store, bucket, buckets, content in rows}

    def item_metadata(self, row: int) -> dict[str, str]:
        """The further columns of an item."""
        import json

        with self._reading():
            found = self._one("SELECT metadata FROM items WHERE row = ?", [row])
            metadata: dict[str, str] = json.loads(found)
        return metadata

    def customer(self, customer_id: str) -> Customer | None:
        """What is known of a customer, or None; the id is plain or a pseudonym, see ``about``."""
        import numpy as np

        if not _storable(customer_id):
            return None
        query = (
            "SELECT components, has, history_items, history_channels, history_days FROM customers"
            " WHERE customer_id = ?"
        )
        with self._reading():
            row = self._db.execute(query, [customer_id]).fetchone()
            if row is None:
                return None
            components, has, items, channels, days = row
            size, count = self._shape
            found = Customer(
                components=np.frombuffer(components, np.float32).reshape(3, size),
                has=np.frombuffer(has, np.uint8).astype(np.bool_).reshape(3),
                history_items=np.frombuffer(items, np.int32),
                history_channels=np.frombuffer(channels, np.uint8),
                history_days=np.frombuffer(days, np.int32),
            )
            length = len(found.history_items)
            if not length == len(found.history_channels) == len(found.history_days):
                raise ValueError("a customer's history has items, channels or days alone")
            if length and not 0 <= found.history_items.min() <= found.history_items.max() < count:
                raise ValueError("a customer's history names a row that no item has")
            return found

    @cached_property
    def _shape(self) -> tuple[int, int]:
        """Size of an embedding, and how many items there are."""
        manifest = self.manifest()
        return manifest.embedding_size, manifest.counts.items

    def count_customers(self) -> int:
        """How many customers are here: of a release that came by sync, the store's own."""
        with self._reading():
            return int(self._one("SELECT count(*) FROM customers"))

    def customer_ids(self) -> list[str]:
        """Ids of all customers, as the release has them."""
        with self._reading():
            return [each for (each,) in self._db.execute("SELECT customer_id FROM customers")]

    def some_customer(self) -> str | None:
        """Id of a customer, as the release has it, the same each time; None where it has none."""
        with self._reading():
            row = self._db.execute("SELECT customer_id FROM customers LIMIT 1").fetchone()
        return None if row is None else str(row[0])

    def draw_customers(self, count: int, seed: int) -> list[str]:
        """Ids of customers drawn at random, each once: ``count``, or all where there are fewer."""
        import numpy as np

        with self._reading():
            # rows are numbered in the order in which they were stored; erased ones are missing
            numbers = [number for (number,) in self._db.execute("SELECT rowid FROM customers")]
            drawn = np.random.default_rng(seed).permutation(numbers)[:count]
            query = "SELECT customer_id FROM customers WHERE rowid = ?"
            return [self._one(query, [number]) for number in drawn.tolist()]

    def _one(self, query: str, values: Sequence[str | int] = ()) -> Any:
        row = self._db.execute(query, values).fetchone()
        if row is None:
            raise ValueError(f"nothing found by {query!r} {list(values)}")
        return row[0]

    def _reading(self) -> AbstractContextManager[None]:
        return cache_errors(self.path)


def _storable(text: str) -> bool:
    """Whether SQLite can hold it: a command line may pass bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parsed(text: str) -> Manifest:
    from c2rec.runtime.release.manifest import parse_manifest

    return parse_manifest(text)
