"""The signed document of online scores, and the indexes that it names.

``docs/repository-format.md`` is the contract.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from c2rec.runtime.fields import FORMAT, Fields, moment_text, read_document
from c2rec.runtime.records import CHANNELS, Channel
from c2rec.runtime.sync.documents import (
    LARGEST_SEQ,
    BlobRef,
    blob_ref,
    blob_refs,
    parse_stores,
    pick,
)

LONGEST_LIST = 1000
"""Items that a customer's list may have."""
MOST_HOURS = 24 * 366
"""Longest half-life and time to live."""


@dataclass(frozen=True, slots=True)
class OnlineScores:
    """What online scores are, and where they lie: ``scores/index.json``."""

    seq: int
    model: str
    """Name of what made them, for a person to read."""
    space: str | None
    """The release's space where its own model made them: its scores can then be compared."""
    channel: Channel
    """Where what the lists rank is bought."""
    as_of: datetime
    """Up to when what the customers did online is in them."""
    issued_at: datetime
    half_life_hours: float
    ttl_hours: float
    """So long after ``as_of`` they are of no use."""
    indexes: tuple[BlobRef, ...]

    def index_of(self, store: str) -> BlobRef:
        """The index that has a store's entry."""
        return pick(self.indexes, store)

    def to_json(self) -> str:
        """Write the document."""
        document = {
            "format": FORMAT,
            "seq": self.seq,
            "model": self.model,
            "space": self.space,
            "channel": self.channel,
            "as_of": moment_text(self.as_of),
            "issued_at": moment_text(self.issued_at),
            "half_life_hours": self.half_life_hours,
            "ttl_hours": self.ttl_hours,
            "indexes": [blob.document() for blob in self.indexes],
        }
        return json.dumps(document, indent=1) + "\n"


def parse_online_scores(content: bytes) -> OnlineScores:
    """Read the document.

    Raises:
        ReleaseError: it is not what the format allows.
    """
    fields = read_document("scores/index.json", content)
    as_of, issued_at = fields.moment("as_of"), fields.moment("issued_at")
    if as_of > issued_at:
        raise fields.refused("as_of", f"a time up to issued_at, {moment_text(issued_at)}")
    channel = fields.text("channel")
    if channel not in CHANNELS:
        raise fields.refused("channel", " or ".join(CHANNELS))
    indexes = blob_refs(fields, "indexes")
    if not indexes:
        raise fields.refused("indexes", "at least one blob")
    return OnlineScores(
        seq=fields.integer("seq", 1, LARGEST_SEQ),
        model=fields.text("model"),
        space=None if fields.is_null("space") else fields.digest("space"),
        channel=channel,
        as_of=as_of,
        issued_at=issued_at,
        half_life_hours=fields.number("half_life_hours", 0.01, MOST_HOURS),
        ttl_hours=fields.number("ttl_hours", 0.01, MOST_HOURS),
        indexes=indexes,
    )


@dataclass(frozen=True, slots=True)
class ScoresRef:
    """A sealed shard of a store's online scores."""

    bucket: int
    buckets: int
    rows: int
    blob: BlobRef

    def document(self) -> dict[str, Any]:
        """Arrange as JSON."""
        document = {"bucket": self.bucket, "buckets": self.buckets, "rows": self.rows}
        return document | {"blob": self.blob.document()}


def scores_index_json(seq: int, stores: Mapping[str, Sequence[ScoresRef]]) -> str:
    """Write an index of stores."""
    listed = {store: [shard.document() for shard in stores[store]] for store in sorted(stores)}
    document = {"format": FORMAT, "seq": seq, "stores": listed}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def parse_scores_index(content: bytes, *, seq: int) -> dict[str, tuple[ScoresRef, ...]]:
    """Read an index of stores; ``seq`` is that of the scores that name it.

    Raises:
        ReleaseError: it is not what the format allows, or of other scores.
    """
    fields = read_document("index of online scores", content)
    if fields.integer("seq", 1, LARGEST_SEQ) != seq:
        raise fields.refused("seq", f"{seq}, that of scores/index.json")
    return parse_stores(fields, _shard)


def _shard(fields: Fields, bucket: int, buckets: int) -> ScoresRef:
    return ScoresRef(
        bucket=bucket,
        buckets=buckets,
        rows=fields.integer("rows", 0, 10**9),
        blob=blob_ref(fields.object("blob")),
    )
