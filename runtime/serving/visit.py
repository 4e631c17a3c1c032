"""Serving a customer whom the kiosk's store doesn't know, from head office's repository.

Where the settings say so and the network is there, the customer's row is fetched, opened with the
id from their card, and kept in memory alone: nothing is written to the disk. A shopper waits for it
no longer than ``visitors_deadline``; after a failure nobody waits for a minute.
"""

import hashlib
import json
import threading
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np

from c2rec.runtime.erasure.tombstones import read_tombstones
from c2rec.runtime.errors import C2RecError, NetworkError, SyncError
from c2rec.runtime.home.identity import Identity, pseudonym
from c2rec.runtime.home.settings import Settings
from c2rec.runtime.release.cache import Cache, Customer
from c2rec.runtime.sync.documents import BlobRef
from c2rec.runtime.sync.shards import Shard, bucket_of
from c2rec.runtime.sync.source import open_source
from c2rec.runtime.sync.visitors import find_visitor

_PAUSE = 60.0
"""Seconds without an attempt after a failure."""
_KEPT = 100
"""Visitors in memory at once."""


class Visitors:
    """Looks visitors up, for one release; use it in the thread that opened the release.

    Args:
        home: the home folder.
        settings: where the repository is.
        identity: whose keys open a row.
        cache: the release; it says which buckets there are.

    Raises:
        HomeError: the release can't be read.
    """

    def __init__(self, home: Path, settings: Settings, identity: Identity, cache: Cache) -> None:
        self._home, self._settings, self._identity = home, settings, identity
        listed = json.loads(cache.about("visitors") or "[]")
        self._buckets = [BlobRef(each["sha256"], each["bytes"]) for each in listed]
        self._space = cache.about("space")
        manifest = cache.manifest()
        self._size, self._items = manifest.embedding_size, manifest.counts.items
        self._known: OrderedDict[str, Customer | None] = OrderedDict()
        self._not_before = 0.0

    def find(self, customer_id: str) -> Customer | None:
        """Look a customer up.

        Returns:
            None where head office doesn't know them either, or was asked in vain a moment ago.

        Raises:
            SyncError: the repository can't be reached in time, or what came is damaged.
            ReleaseError: the bucket or the row is not what the format allows.
            HomeError: the state can't be read.
        """
        if not self._buckets or read_tombstones(self._home, self._identity).covers(customer_id):
            return None
        if customer_id in self._known:
            self._known.move_to_end(customer_id)
            return self._known[customer_id]
        if time.monotonic() < self._not_before:
            return None
        try:
            found = self._fetch(customer_id)
        except C2RecError:
            self._not_before = time.monotonic() + _PAUSE
            raise
        self._known[customer_id] = found
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return found

    def _fetch(self, customer_id: str) -> Customer | None:
        hidden = pseudonym(self._identity.customer_key, customer_id)
        blob = self._buckets[bucket_of(hidden, len(self._buckets))]
        row = find_visitor(
            self._read(blob),
            customer_id,
            self._identity.customer_key,
            size=self._size,
            items=self._items,
            name=f"visitors' bucket {blob.sha256[:16]}…",
        )
        if row is None:
            return None
        if row.space != self._space:
            raise SyncError(f"a visitor's row is of space {row.space}, the release's {self._space}")
        return _customer(row)

    def _read(self, blob: BlobRef) -> bytes:
        """Fetch a bucket, in a thread: not even a name that can't be resolved may take longer."""
        came: list[bytes | C2RecError] = []

        def fetch() -> None:
            try:
                came.append(_fetch_blob(self._settings, blob))
            except C2RecError as error:
                came.append(error)

        thread = threading.Thread(target=fetch, daemon=True)
        thread.start()
        thread.join(self._settings.visitors_deadline)
        if not came:
            raise NetworkError(
                f"the repository didn't answer within {self._settings.visitors_deadline:g} seconds"
            )
        if isinstance(came[0], C2RecError):
            raise came[0]
        return came[0]


def _fetch_blob(settings: Settings, blob: BlobRef) -> bytes:
    with open_source(settings, seconds=settings.visitors_deadline) as source:
        _, pieces = source.read(f"blob/{blob.sha256}")
        content = bytearray()
        for piece in pieces:
            content += piece
            if len(content) > blob.bytes:
                break
    if hashlib.sha256(content).hexdigest() != blob.sha256:
        raise SyncError(f"blob/{blob.sha256} is damaged, or something else answers in its place")
    return bytes(content)


def _customer(row: Shard) -> Customer:
    return Customer(
        components=row.components[0],
        has=row.has[0].astype(np.bool_),
        history_items=row.history_items,
        history_channels=row.history_channels,
        history_days=row.history_days,
    )
