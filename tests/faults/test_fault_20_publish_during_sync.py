"""Fault 20, head office's half: whoever reads while a release is published sees one release."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from c2rec.export.garbage import collect_garbage
from c2rec.export.publish import publish
from c2rec.export.signed import open_repository
from c2rec.export.storage import Entry, FolderStorage
from c2rec.runtime.sync.documents import parse_index, parse_release, parse_ring
from tests.release import make_release
from tests.repositories import Head, make_head
from tests.repository_reader import Seen, read_blob, read_repository, target, tuf_client

pytestmark = pytest.mark.faults


class WatchedStorage:
    """A folder that is read from the first root to the last row after every write.

    Args:
        head: the head office whose repository it is.
    """

    def __init__(self, head: Head) -> None:
        self._files, self._head = FolderStorage(head.repo), head
        self.seen: list[Seen] = []

    def list(self, folder: str) -> Iterator[Entry]:
        return self._files.list(folder)

    def read(self, name: str) -> bytes | None:
        return self._files.read(name)

    def exists(self, name: str) -> bool:
        return self._files.exists(name)

    def write(self, name: str, content: bytes) -> None:
        self._files.write(name, content)
        self._look()

    def create(self, name: str, content: bytes) -> bool:
        created = self._files.create(name, content)
        self._look()
        return created

    def delete(self, name: str) -> None:
        self._files.delete(name)
        self._look()

    def _look(self) -> None:
        self.seen.append(read_repository(self._head.repo, self._head.keys))


def test_after_every_write_a_reader_sees_the_old_release_or_the_new_one(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    made = make_release(tmp_path / "next", name="next", rebought=[3, 8])
    watched = WatchedStorage(head)
    publish(made.folder, watched, head.keys)
    numbers = [seen.ring.seq for seen in watched.seen]
    assert len(numbers) > 10
    assert numbers == [1] * (len(numbers) - 1) + [2]  # the timestamp was the last write
    for seen in watched.seen:
        assert seen.release.seq == seen.ring.seq


def test_after_every_removal_of_garbage_too(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    for seed in range(1, 6):
        head.publish(seed=seed)
    watched = WatchedStorage(head)
    with open_repository(watched, head.keys) as repository:
        done = collect_garbage(repository, grace_days=0)
    assert len(watched.seen) == done.files > 5
    assert {seen.ring.seq for seen in watched.seen} == {6}


def test_a_sync_that_began_before_finds_all_of_its_release(tmp_path: Path) -> None:
    """It holds the old timestamp and snapshot in its hands; releases and garbage come and go."""
    head = make_head(tmp_path)
    folder = tmp_path / "client"
    client = tuf_client(head.repo, head.root, folder)
    client.refresh()
    for seed in range(1, 7):
        head.publish(seed=seed)
    with open_repository(head.repo, head.keys) as repository:
        collect_garbage(repository)  # with its days of grace
    content = target(client, "channel/stable.json", folder)
    assert content is not None
    ring = parse_ring(content, "stable")
    assert ring.seq == 1
    content = target(client, "rel/1.json", folder)
    assert content is not None
    release = parse_release(content, 1)
    for blobs in release.files.values():
        for blob in blobs:
            read_blob(head.repo, blob)
    for index in release.indexes:
        for shards in parse_index(read_blob(head.repo, index), space=release.space).values():
            for shard in shards:
                read_blob(head.repo, shard.blob)
