"""Releases that head office would never make, validly signed by it."""

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from c2rec.export.rings import point_ring
from c2rec.export.signed import open_repository
from c2rec.runtime.home.identity import EVERY_STORE
from c2rec.runtime.sync.documents import BlobRef, ShardRef, index_json, parse_index
from c2rec.runtime.sync.sealed import seal, unseal
from tests.repositories import Head, newest


def put_blob(head: Head, content: bytes) -> BlobRef:
    """Put a blob into the repository."""
    digest = sha256(content).hexdigest()
    (head.repo / "blob" / digest).write_bytes(content)
    return BlobRef(digest, len(content))


def sign_release(head: Head, seq: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a release's document, and sign what comes out, whatever it is."""
    with open_repository(head.repo, head.keys) as repository:
        content = repository.read_target(f"rel/{seq}.json")
        assert content is not None
        document = json.loads(content)
        change(document)
        repository.write_target(f"rel/{seq}.json", json.dumps(document).encode())
        repository.commit()


def resign_in_place(head: Head, role: str, change: Callable[[Any], None]) -> None:
    """Rewrite a role's newest metadata, signed by its stolen key; nothing else is touched."""
    metadata = newest(head, role)
    change(metadata.signed)
    metadata.signatures.clear()
    for signer in head.keys.signers(role).values():
        metadata.sign(signer, append=True)
    name = f"{metadata.signed.version}.{role}.json" if role != "timestamp" else "timestamp.json"
    (head.repo / "metadata" / name).write_bytes(metadata.to_bytes())


def the_shard(head: Head, seq: int) -> tuple[ShardRef, bytes]:
    """The one shard of a release, opened."""
    release = head.release(seq)
    index = (head.repo / "blob" / release.index_of(EVERY_STORE).sha256).read_bytes()
    (shard,) = parse_index(index, space=release.space)[EVERY_STORE]
    sealed = (head.repo / "blob" / shard.blob.sha256).read_bytes()
    return shard, unseal(head.keys.store_key(EVERY_STORE), sealed, name="shard")


def sign_shard(head: Head, seq: int, opened: bytes, **fields: Any) -> None:
    """Put another shard into a release."""
    shard, _ = the_shard(head, seq)
    blob = put_blob(head, seal(head.keys.store_key(EVERY_STORE), opened))
    forged = replace(shard, blob=blob, deltas=(), **fields)
    index = index_json(head.release(seq).space, {EVERY_STORE: [forged]})
    listed = [put_blob(head, index.encode()).document()]
    sign_release(head, seq, lambda document: document.update(indexes=listed))


def point(head: Head, seq: int, **options: Any) -> None:
    """Let the ring take a release."""
    with open_repository(head.repo, head.keys) as repository:
        point_ring(repository, "stable", seq, **options)
        repository.commit()
