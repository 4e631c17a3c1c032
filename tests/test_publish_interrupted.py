"""Publishing that is ended at any moment: what kiosks read is the old state or the new one."""

import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from c2rec.export.keys import Keys
from c2rec.export.publish import publish
from c2rec.export.rotation import rotate
from c2rec.export.signed import SignedRepository
from c2rec.export.storage import Entry, FolderStorage
from c2rec.export.upkeep import resign
from c2rec.runtime.errors import PublishError
from tests.release import make_release
from tests.repositories import Head, make_head
from tests.repository_reader import read_repository


class Ended(BaseException):
    """As a kill would end it: nothing catches it."""


class EndingStorage:
    """A folder whose writer ends at one of its writes, before it or in the middle.

    Args:
        folder: the repository.
        writes: how many writes succeed; then comes the end.
    """

    def __init__(self, folder: Path, writes: int) -> None:
        self._files = FolderStorage(folder)
        self._left = writes

    def list(self, folder: str) -> Iterator[Entry]:
        return self._files.list(folder)

    def read(self, name: str) -> bytes | None:
        return self._files.read(name)

    def exists(self, name: str) -> bool:
        return self._files.exists(name)

    def write(self, name: str, content: bytes) -> None:
        self._write(name, content)
        self._files.write(name, content)

    def create(self, name: str, content: bytes) -> bool:
        self._write(name, content)
        return self._files.create(name, content)

    def delete(self, name: str) -> None:
        self._write(name, b"")
        self._files.delete(name)

    def _write(self, name: str, content: bytes) -> None:
        if self._left == 0:
            path = self._files.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.tmp").write_bytes(content[: len(content) // 2])
            raise Ended
        self._left -= 1


def test_ended_at_any_write_the_old_release_stays_and_the_next_run_completes(
    tmp_path: Path,
) -> None:
    head = make_head(tmp_path)
    old = read_repository(head.repo, head.keys)
    made = make_release(tmp_path / "next", name="next", rebought=[3, 8])
    writes = -1
    for writes in range(1000):
        repo = Path(shutil.copytree(head.repo, tmp_path / f"repo-{writes}"))
        try:
            publish(made.folder, EndingStorage(repo, writes), head.keys)
            break
        except Ended:
            seen = read_repository(repo, head.keys)
        assert seen.ring == old.ring
        assert seen.customers() == old.customers()
        publish(made.folder, repo, head.keys)
        seen = read_repository(repo, head.keys)
        assert (seen.ring.seq, seen.release.manifest.release) == (2, "next")
        assert seen.customers() != old.customers()
    # blobs, a release, a ring, their metadata, a snapshot and the timestamp
    assert writes > 10


def test_the_first_publish_ended_again_and_again_completes(tmp_path: Path) -> None:
    head = make_head(tmp_path, publish=False)
    made = make_release(tmp_path / "first")
    writes = -1
    for writes in range(1000):
        try:
            publish(made.folder, EndingStorage(head.repo, writes), head.keys)
            break
        except Ended:
            assert not (head.repo / "metadata" / "timestamp.json").exists()
    assert writes > 2
    assert read_repository(head.repo, head.keys).ring.seq == 1


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "release"])
def test_a_rotation_ended_at_any_write_leaves_kiosks_content(tmp_path: Path, role: str) -> None:
    head = make_head(tmp_path)
    rotate(head.keys, role)
    for writes in range(100):
        try:
            resign(SignedRepository(EndingStorage(head.repo, writes), head.keys))
        except Ended:
            assert read_repository(head.repo, head.keys).ring.seq == 1
        else:
            break
    else:
        pytest.fail("never completed")
    assert writes > 2
    assert read_repository(head.repo, head.keys).ring.seq == 1
    newest = len(head.keys.roots())
    assert (head.repo / "metadata" / f"{newest}.root.json").exists()


def test_a_full_disk_is_one_clear_line_and_nothing_changes(tmp_path: Path) -> None:
    """A real limit on the size of files, which only its process can reach."""
    head = make_head(tmp_path)
    old = read_repository(head.repo, head.keys)
    made = make_release(tmp_path / "next", name="next", seed=2)
    largest = (made.folder / "items.safetensors").stat().st_size
    for limit in (100, largest // 2):
        done = subprocess.run(
            command(head, made.folder),
            preexec_fn=partial(limit_files, limit),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        *_, last = done.stderr.splitlines()
        assert last.startswith(f"Error: {head.repo}")
        assert "can't be read or written: File too large; nothing that kiosks read has" in last
        assert "Traceback" not in done.stderr
        assert read_repository(head.repo, head.keys).ring == old.ring
        assert not list(head.repo.rglob("*.tmp"))
    assert publish(made.folder, head.repo, head.keys).seq == 2
    assert read_repository(head.repo, head.keys).ring.seq == 2


def command(head: Head, bundle: Path) -> list[str]:
    publishing = [sys.executable, "-m", "c2rec.export.cli", "publish", str(bundle), str(head.repo)]
    return [*publishing, "--keys", str(head.keys.folder)]


def limit_files(limit: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.parametrize("tries", range(3))
def test_a_process_that_is_killed_leaves_nothing_half(tmp_path: Path, tries: int) -> None:
    head = make_head(tmp_path)
    old = read_repository(head.repo, head.keys)
    made = make_release(tmp_path / "next", name="next", seed=2)
    process = subprocess.Popen(
        command(head, made.folder),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    stages = ("publishing items.jsonl", "publishing visitors", "signing")
    for line in process.stderr:
        if line.startswith(stages[tries]):
            process.kill()
            break
    process.stderr.close()
    process.wait(timeout=60)
    seen = read_repository(head.repo, head.keys)
    assert seen.ring == old.ring or seen.ring.seq == 2
    if seen.ring == old.ring:
        publish(made.folder, head.repo, head.keys)
    assert read_repository(head.repo, head.keys).ring.seq == 2


@pytest.mark.parametrize("what", ["repo", "keys", "bundle"])
def test_a_folder_that_is_a_file_is_one_clear_line(tmp_path: Path, what: str) -> None:
    head = make_head(tmp_path, publish=False)
    made = make_release(tmp_path / "b")
    (tmp_path / "file").write_text("")
    repo = tmp_path / "file" if what == "repo" else head.repo
    keys = Keys(tmp_path / "file") if what == "keys" else head.keys
    bundle = tmp_path / "file" if what == "bundle" else made.folder
    with pytest.raises(Exception, match=r"file") as caught:
        publish(bundle, repo, keys)
    assert type(caught.value).__name__ in ("PublishError", "ReleaseError")
    assert "\n" not in str(caught.value)


def test_a_timestamp_that_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    slow = SignedRepository(FolderStorage(head.repo), head.keys)
    resign(SignedRepository(FolderStorage(head.repo), head.keys))
    there = (head.repo / "metadata" / "timestamp.json").read_bytes()
    with pytest.raises(PublishError, match="another publisher"):
        resign(slow)
    assert (head.repo / "metadata" / "timestamp.json").read_bytes() == there
