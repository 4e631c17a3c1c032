"""The signed documents of a repository, and the indexes they name.

``docs/repository-format.md`` is the contract. Each class has ``to_json``, and a function that reads
and checks it; head office writes by the same classes that a kiosk reads by.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import pairwise
from typing import Any, TypeVar

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.fields import FORMAT, Fields, moment_text, read_document
from c2rec.runtime.release.manifest import MANIFEST, Manifest, parse_manifest

_Ref = TypeVar("_Ref")

LARGEST_SEQ = 2**53
LARGEST_BLOB = 1 << 30
"""A greater blob is refused, in bytes."""
MOST_BUCKETS = 1 << 20
STAYING = ("customers.safetensors", "customers.jsonl", "stores.jsonl")
"""Files of a bundle that don't travel as they are: customers travel as shards."""


@dataclass(frozen=True, slots=True)
class BlobRef:
    """A blob: ``blob/<sha256>``."""

    sha256: str
    bytes: int

    def document(self) -> dict[str, Any]:
        """Arrange as JSON."""
        return {"sha256": self.sha256, "bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class Wave:
    """From when on a share of the kiosks may install."""

    at: datetime
    share: float


@dataclass(frozen=True, slots=True)
class Ring:
    """Which release the kiosks of a ring take: ``channel/<ring>.json``."""

    ring: str
    seq: int
    floor: int
    halt: bool
    waves: tuple[Wave, ...]
    issued_at: datetime

    def share(self, now: datetime) -> float:
        """The share of kiosks that may install at a time, 0 to 1."""
        reached = [wave.share for wave in self.waves if wave.at <= now]
        return 1.0 if not self.waves else max(reached, default=0.0)

    def to_json(self) -> str:
        """Write the document."""
        waves = [{"at": moment_text(wave.at), "share": wave.share} for wave in self.waves]
        document = {"format": FORMAT, "ring": self.ring, "seq": self.seq, "floor": self.floor}
        document |= {"halt": self.halt, "waves": waves, "issued_at": moment_text(self.issued_at)}
        return json.dumps(document, indent=1) + "\n"


def wave_place(device: str, seq: int) -> float:
    """A kiosk's place in a release's waves: 0 <= place < 1, another for each release."""
    digest = sha256(f"{device}\0{seq}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def parse_ring(content: bytes, name: str) -> Ring:
    """Read a ring's document; ``name`` is that of the ring.

    Raises:
        ReleaseError: it is not what the format allows.
    """
    fields = read_document(f"channel/{name}.json", content)
    if fields.text("ring") != name:
        raise fields.refused("ring", repr(name))
    seq = fields.integer("seq", 1, LARGEST_SEQ)
    waves = tuple(
        Wave(wave.moment("at"), wave.number("share", 0, 1))
        for wave in fields.objects("waves", longest=100)
    )
    keys = [(wave.at, wave.share) for wave in waves]
    if any(one[0] > two[0] or one[1] > two[1] for one, two in pairwise(keys)):
        raise fields.refused("waves", "times and shares that don't fall")
    return Ring(
        ring=name,
        seq=seq,
        floor=fields.integer("floor", 0, seq),
        halt=fields.flag("halt"),
        waves=waves,
        issued_at=fields.moment("issued_at"),
    )


@dataclass(frozen=True, slots=True)
class PublishedRelease:
    """What a release is made of: ``rel/<seq>.json``."""

    seq: int
    issued_at: datetime
    min_runtime: str
    space: str
    manifest: Manifest
    files: Mapping[str, tuple[BlobRef, ...]]
    indexes: tuple[BlobRef, ...]
    visitors: tuple[BlobRef, ...] | None

    @property
    def bytes(self) -> int:
        """Size of the files, without customers."""
        return sum(blob.bytes for blobs in self.files.values() for blob in blobs)

    def index_of(self, store: str) -> BlobRef:
        """The index that has a store's entry."""
        return pick(self.indexes, store)

    def to_json(self) -> str:
        """Write the document."""
        visitors = self.visitors
        document = {
            "format": FORMAT,
            "seq": self.seq,
            "issued_at": moment_text(self.issued_at),
            "min_runtime": self.min_runtime,
            "space": self.space,
            "manifest": json.loads(self.manifest.to_json()),
            "files": {name: _documents(blobs) for name, blobs in self.files.items()},
            "indexes": _documents(self.indexes),
            "visitors": None if visitors is None else _documents(visitors),
        }
        return json.dumps(document, indent=1) + "\n"


def index_number(store: str, indexes: int) -> int:
    """Which of a release's indexes has a store's entry."""
    return int.from_bytes(sha256(store.encode()).digest()[:8], "big") % indexes


def travelling(manifest: Manifest) -> list[str]:
    """Names of the files of a bundle that travel as they are, ascending."""
    return sorted(name for name in manifest.files if name not in STAYING)


def parse_release(content: bytes, seq: int) -> PublishedRelease:
    """Read a release's document; ``seq`` is the number it must have.

    Raises:
        ReleaseError: it is not what the format allows.
    """
    fields = read_document(f"rel/{seq}.json", content)
    if fields.integer("seq", 1, LARGEST_SEQ) != seq:
        raise fields.refused("seq", str(seq))
    manifest = parse_manifest(json.dumps(fields.value("manifest")))
    listed = fields.object("files")
    expected = set(travelling(manifest))
    if set(listed.names()) != expected:
        raise fields.refused("files", f"exactly {', '.join(sorted(expected))}")
    files = {name: blob_refs(listed, name) for name in sorted(expected)}
    for name, blobs in files.items():
        total, said = sum(blob.bytes for blob in blobs), manifest.files[name].bytes
        if total != said:
            raise ReleaseError(
                f"{fields.where}: the blobs of {name} have {total} bytes; {MANIFEST} says {said}"
            )
    indexes = blob_refs(fields, "indexes")
    if not indexes:
        raise fields.refused("indexes", "at least one blob")
    return PublishedRelease(
        seq=seq,
        issued_at=fields.moment("issued_at"),
        min_runtime=fields.text("min_runtime"),
        space=fields.digest("space"),
        manifest=manifest,
        files=files,
        indexes=indexes,
        visitors=None if fields.is_null("visitors") else blob_refs(fields, "visitors"),
    )


@dataclass(frozen=True, slots=True)
class DeltaRef:
    """A sealed delta."""

    base: str
    """Content of the shard that it changes."""
    blob: BlobRef


@dataclass(frozen=True, slots=True)
class ShardRef:
    """A sealed shard of a store, and deltas that lead to it."""

    bucket: int
    buckets: int
    rows: int
    content: str
    blob: BlobRef
    deltas: tuple[DeltaRef, ...] = ()

    def document(self) -> dict[str, Any]:
        """Arrange as JSON."""
        deltas = [{"base": delta.base, "blob": delta.blob.document()} for delta in self.deltas]
        document = {"bucket": self.bucket, "buckets": self.buckets, "rows": self.rows}
        return document | {
            "content": self.content,
            "blob": self.blob.document(),
            "deltas": deltas,
        }


def index_json(space: str, stores: Mapping[str, Sequence[ShardRef]]) -> str:
    """Write an index of stores."""
    listed = {store: [shard.document() for shard in stores[store]] for store in sorted(stores)}
    document = {"format": FORMAT, "space": space, "stores": listed}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def parse_index(content: bytes, *, space: str) -> dict[str, tuple[ShardRef, ...]]:
    """Read an index of stores.

    Raises:
        ReleaseError: it is not what the format allows, or of another space.
    """
    fields = read_document("index of stores", content)
    if fields.digest("space") != space:
        raise fields.refused("space", f"{space}, the release's")
    return parse_stores(fields, _shard)


def parse_stores(
    fields: Fields, read: Callable[[Fields, int, int], _Ref]
) -> dict[str, tuple[_Ref, ...]]:
    """Read the field ``stores`` of an index: for each store its buckets.

    Args:
        fields: the index.
        read: reads one bucket's entry, of which its number and the count are read already.

    Raises:
        ReleaseError: it is not what the format allows.
    """
    stores = fields.object("stores")
    found = {}
    for store in stores.names():
        entries = stores.objects(store, longest=MOST_BUCKETS)
        shards = []
        for number, entry in enumerate(entries):
            bucket = entry.integer("bucket", 0, MOST_BUCKETS)
            if (bucket, entry.integer("buckets", 1, MOST_BUCKETS)) != (number, len(entries)):
                raise stores.refused(store, "each bucket once, in order")
            shards.append(read(entry, bucket, len(entries)))
        found[store] = tuple(shards)
    return found


def tombstones_json(ids: Sequence[str], issued_at: datetime) -> str:
    """Write the tombstones; ``ids`` are pseudonyms, 32 hex digits."""
    document = {"format": FORMAT, "issued_at": moment_text(issued_at), "ids": sorted(set(ids))}
    return json.dumps(document, indent=0) + "\n"


def parse_tombstones(content: bytes) -> frozenset[bytes]:
    """Read the tombstones: pseudonyms.

    Raises:
        ReleaseError: it is not what the format allows.
    """
    fields = read_document("tomb/tombstones.json", content)
    fields.moment("issued_at")
    ids = fields.value("ids")
    allowed = "a list of 32 hex digits each"
    if not isinstance(ids, list):
        raise fields.refused("ids", allowed)
    found = set()
    for each in ids:
        try:
            found.add(bytes.fromhex(each))
        except (TypeError, ValueError) as error:
            raise fields.refused("ids", allowed) from error
    if any(len(each) != 16 for each in found):
        raise fields.refused("ids", allowed)
    return frozenset(found)


def _shard(fields: Fields, bucket: int, buckets: int) -> ShardRef:
    return ShardRef(
        bucket=bucket,
        buckets=buckets,
        rows=fields.integer("rows", 0, 10**9),
        content=fields.digest("content"),
        blob=blob_ref(fields.object("blob")),
        deltas=tuple(
            DeltaRef(each.digest("base"), blob_ref(each.object("blob")))
            for each in fields.objects("deltas", longest=100)
        ),
    )


def pick(indexes: Sequence[BlobRef], store: str) -> BlobRef:
    """Choose, of a document's indexes, the one that has a store's entry."""
    return indexes[index_number(store, len(indexes))]


def blob_refs(fields: Fields, name: str) -> tuple[BlobRef, ...]:
    """Read a list of blob references."""
    return tuple(blob_ref(each) for each in fields.objects(name, longest=MOST_BUCKETS))


def blob_ref(fields: Fields) -> BlobRef:
    """Read a blob reference."""
    return BlobRef(fields.digest("sha256"), fields.integer("bytes", 1, LARGEST_BLOB))


def _documents(blobs: Sequence[BlobRef]) -> list[dict[str, Any]]:
    return [blob.document() for blob in blobs]
