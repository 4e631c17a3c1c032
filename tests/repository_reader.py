"""Reads a repository as a kiosk must be able to: python-tuf's own client, and every blob."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from c2rec.export.keys import Keys
from c2rec.runtime.sync.documents import (
    BlobRef,
    PublishedRelease,
    Ring,
    ShardRef,
    parse_index,
    parse_release,
    parse_ring,
    parse_tombstones,
)
from c2rec.runtime.sync.sealed import unseal
from c2rec.runtime.sync.shards import Delta, Shard, decode_delta, decode_shard


class FolderFetcher(FetcherInterface):
    """Fetches ``file://`` URLs."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(unquote(urlsplit(url).path))
        if not path.is_file():
            raise DownloadHTTPError("not found", 404)
        return iter([path.read_bytes()])


@dataclass(frozen=True)
class Seen:
    """What a reader saw, every part of it checked."""

    ring: Ring
    release: PublishedRelease
    shards: dict[str, list[tuple[ShardRef, Shard]]]
    """By store."""
    tombstones: frozenset[bytes]

    def customers(self) -> dict[str, dict[bytes, tuple[bytes, ...]]]:
        """Rows by store and pseudonym."""
        return {
            store: {each: row for _, shard in shards for each, row in shard.customers()}
            for store, shards in self.shards.items()
        }


def tuf_client(repo: Path, root: bytes, folder: Path) -> Updater:
    """A fresh client that trusts ``root``."""
    folder.mkdir(parents=True, exist_ok=True)
    return Updater(
        metadata_dir=str(folder),
        metadata_base_url=f"file://{repo}/metadata/",
        target_dir=str(folder),
        target_base_url=f"file://{repo}/targets/",
        fetcher=FolderFetcher(),
        bootstrap=root,
    )


def target(client: Updater, name: str, folder: Path) -> bytes | None:
    """A target's content, or None where none is named so."""
    info = client.get_targetinfo(name)
    if info is None:
        return None
    return Path(client.download_target(info, str(folder / "target"))).read_bytes()


def read_blob(repo: Path, blob: BlobRef) -> bytes:
    content = (repo / "blob" / blob.sha256).read_bytes()
    assert (sha256(content).hexdigest(), len(content)) == (blob.sha256, blob.bytes)
    return content


def read_repository(repo: Path, keys: Keys, *, ring: str = "stable") -> Seen:
    """Follow a repository from the first root to the last row, and check all of it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        client = tuf_client(repo, keys.roots()[0], folder)
        content = target(client, f"channel/{ring}.json", folder)
        assert content is not None
        taken = parse_ring(content, ring)
        content = target(client, f"rel/{taken.seq}.json", folder)
        assert content is not None
        tombs = target(client, "tomb/tombstones.json", folder)
    release = parse_release(content, taken.seq)
    for name, blobs in release.files.items():
        joined = b"".join(read_blob(repo, blob) for blob in blobs)
        assert sha256(joined).hexdigest() == release.manifest.files[name].sha256
    for blob in release.visitors or ():
        read_blob(repo, blob)
    shards: dict[str, list[tuple[ShardRef, Shard]]] = {}
    for index in release.indexes:
        listed = parse_index(read_blob(repo, index), space=release.space)
        for store, refs in listed.items():
            assert release.index_of(store) == index
            shards[store] = [(ref, read_shard(repo, keys, release, store, ref)) for ref in refs]
            for ref, shard in shards[store]:
                assert (ref.rows, ref.content) == (len(shard.ids), shard.content())
    return Seen(taken, release, shards, parse_tombstones(tombs) if tombs else frozenset())


def read_shard(
    repo: Path, keys: Keys, release: PublishedRelease, store: str, ref: ShardRef
) -> Shard:
    opened = unseal(keys.store_key(store), read_blob(repo, ref.blob), name="shard")
    manifest = release.manifest
    return decode_shard(
        opened, name="shard", size=manifest.embedding_size, items=manifest.counts.items
    )


def read_deltas(
    repo: Path, keys: Keys, release: PublishedRelease, store: str, ref: ShardRef
) -> list[Delta]:
    """The deltas of a shard, opened."""
    manifest = release.manifest
    found = []
    for delta in ref.deltas:
        opened = unseal(keys.store_key(store), read_blob(repo, delta.blob), name="delta")
        decoded = decode_delta(
            opened, name="delta", size=manifest.embedding_size, items=manifest.counts.items
        )
        assert decoded.base == delta.base
        found.append(decoded)
    return found
