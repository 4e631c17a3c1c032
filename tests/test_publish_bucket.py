"""A repository in a bucket: the same as in a folder, against a real server of the S3 protocol."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from moto.server import ThreadedMotoServer

from c2rec.export.garbage import collect_garbage
from c2rec.export.publish import publish
from c2rec.export.signed import open_repository
from c2rec.export.storage import Entry, FolderStorage, Storage, open_storage
from c2rec.runtime.errors import MissingExtraError, PublishError
from tests.release import make_release
from tests.repositories import make_head
from tests.repository_reader import read_repository


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty prefix; credentials come from the environment, as an operator gives them."""
    for name, value in {
        "AWS_ENDPOINT": server,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    assert urllib3.request("PUT", f"{server}/releases").status == 200
    return f"s3://releases/{tmp_path.name}"


def copy(storage: Storage, to: Path) -> Path:
    """Fetch a repository into a folder, as a mirror would."""
    folder = FolderStorage(to)
    for name in ("metadata", "targets", "blob"):
        for entry in storage.list(name):
            content = storage.read(entry.name)
            assert content is not None
            assert len(content) == entry.bytes
            folder.write(entry.name, content)
    return to


@pytest.fixture(params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, bucket: str) -> Storage:
    return open_storage(tmp_path / "files" if request.param == "folder" else bucket)


def test_files_are_written_read_listed_and_deleted(storage: Storage) -> None:
    assert list(storage.list("blob")) == []
    assert storage.read("blob/a") is None
    assert not storage.exists("blob/a")
    storage.write("blob/a", b"one")
    storage.write("blob/a", b"two")
    storage.write("blob/deep/er", b"")
    storage.write("blobs", b"another folder's neighbour")
    assert storage.read("blob/a") == b"two"
    assert storage.exists("blob/a")
    assert not storage.exists("blob")
    assert [(entry.name, entry.bytes) for entry in storage.list("blob")] == [
        ("blob/a", 3),
        ("blob/deep/er", 0),
    ]
    assert all(entry.modified.tzinfo is not None for entry in storage.list("blob"))
    storage.delete("blob/a")
    storage.delete("blob/a")
    assert storage.read("blob/a") is None


def test_a_file_is_created_once(storage: Storage) -> None:
    assert storage.create("metadata/1.root.json", b"one")
    assert not storage.create("metadata/1.root.json", b"two")
    assert storage.read("metadata/1.root.json") == b"one"


def test_a_bucket_holds_what_a_folder_would(bucket: str, tmp_path: Path) -> None:
    head = make_head(tmp_path)
    made = head.releases[0]
    done = publish(made.folder, bucket, head.keys)
    mirror = copy(open_storage(bucket), tmp_path / "mirror")
    assert read_repository(mirror, head.keys).customers() == (
        read_repository(head.repo, head.keys).customers()
    )
    blobs = {path.name: path.read_bytes() for path in (mirror / "blob").iterdir()}
    assert blobs == {path.name: path.read_bytes() for path in (head.repo / "blob").iterdir()}
    assert done.blobs_written == len(blobs)
    assert publish(made.folder, bucket, head.keys, again=True).blobs_written == 0


class EndingBucket:
    """A bucket whose writer ends after some writes, as a kill would end it."""

    def __init__(self, url: str, writes: int) -> None:
        self._files, self._left = open_storage(url), writes

    def list(self, folder: str) -> Iterator[Entry]:
        return self._files.list(folder)

    def read(self, name: str) -> bytes | None:
        return self._files.read(name)

    def exists(self, name: str) -> bool:
        return self._files.exists(name)

    def write(self, name: str, content: bytes) -> None:
        self._count()
        self._files.write(name, content)

    def create(self, name: str, content: bytes) -> bool:
        self._count()
        return self._files.create(name, content)

    def delete(self, name: str) -> None:
        self._count()
        self._files.delete(name)

    def _count(self) -> None:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1


def test_an_interrupted_publish_leaves_the_bucket_as_it_was(bucket: str, tmp_path: Path) -> None:
    head = make_head(tmp_path, publish=False)
    publish(make_release(tmp_path / "one").folder, bucket, head.keys)
    made = make_release(tmp_path / "two", name="two", rebought=[3])
    for writes in (0, 3, 6, 5):  # each run goes on where the one before ended
        with pytest.raises(KeyboardInterrupt):
            publish(made.folder, EndingBucket(bucket, writes), head.keys)
        mirror = copy(open_storage(bucket), tmp_path / f"mirror-{writes}")
        assert read_repository(mirror, head.keys).ring.seq == 1
    publish(made.folder, bucket, head.keys)
    mirror = copy(open_storage(bucket), tmp_path / "mirror")
    assert read_repository(mirror, head.keys).ring.seq == 2
    with open_repository(bucket, head.keys) as repository:
        done = collect_garbage(repository, grace_days=0)
    assert done.files > 0
    mirror = copy(open_storage(bucket), tmp_path / "swept")
    assert read_repository(mirror, head.keys).ring.seq == 2


def test_a_bucket_that_is_not_there_is_one_clear_line(bucket: str, tmp_path: Path) -> None:
    head = make_head(tmp_path)
    with pytest.raises(PublishError, match=r"^s3://nowhere/x/blob: .*no such bucket") as caught:
        publish(head.releases[0].folder, "s3://nowhere/x", head.keys)
    assert "\n" not in str(caught.value)
    with pytest.raises(PublishError, match=r"^s4://releases/: can't be read or written: .*s4://"):
        open_storage("s4://releases")


def test_a_server_that_is_down_is_one_clear_line(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    storage = open_storage(f"{bucket}?")
    with pytest.raises(PublishError, match=r"can't be read or written: .*credentials") as caught:
        storage.read("metadata/timestamp.json")
    assert "\n" not in str(caught.value)


def test_a_missing_extra_names_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "c2rec.export.bucket", raising=False)
    with pytest.raises(MissingExtraError, match=r"obstore is not installed; .*'c2rec\[bucket\]'"):
        open_storage("s3://releases")
