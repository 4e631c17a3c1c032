"""Where a repository lies: a folder, or a bucket."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from c2rec.runtime.errors import MissingExtraError, PublishError
from c2rec.runtime.home.disk import alone, make_folder

LOCK = ".publisher-lock"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a repository."""

    name: str
    """Relative to the repository, with slashes."""
    bytes: int
    modified: datetime


class Storage(Protocol):
    """A repository's files; every method raises PublishError where it can't do its work."""

    def list(self, folder: str) -> Iterator[Entry]:
        """Yield every file below a folder, at any depth."""

    def read(self, name: str) -> bytes | None:
        """Content of a file; None where there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, or replace it, whole or not at all."""

    def create(self, name: str, content: bytes) -> bool:
        """Put a file there as ``write`` does; False where there is one already."""

    def exists(self, name: str) -> bool:
        """Whether a file is there."""

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""


def open_storage(repo: str | Path) -> Storage:
    """Open a repository by its folder or URL; a folder is made with the first file.

    Raises:
        PublishError: the URL can't be understood, or can't be written to.
        MissingExtraError: it is no folder, and the extra for buckets is not installed.
    """
    if str(repo).startswith(("http://", "https://")):
        raise PublishError(
            f"REPO is {str(repo)!r}, where kiosks may read a repository, and nobody can write one; "
            "allowed: the folder that the web server serves, or a bucket such as s3://bucket/prefix"
        )
    if "://" not in str(repo):
        return FolderStorage(Path(repo))
    try:
        from c2rec.export.bucket import BucketStorage
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed; install it with: pip install 'c2rec[bucket]'"
        ) from error
    return BucketStorage(str(repo))


class FolderStorage:
    """A repository in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def list(self, folder: str) -> Iterator[Entry]:
        """Yield every file below a folder, at any depth."""
        with _folder_errors(self.folder / folder):
            for path in sorted((self.folder / folder).rglob("*")):
                if path.is_file():
                    status = path.stat()
                    modified = datetime.fromtimestamp(status.st_mtime, UTC)
                    name = path.relative_to(self.folder).as_posix()
                    yield Entry(name, status.st_size, modified)

    def read(self, name: str) -> bytes | None:
        """Content of a file; None where there is none."""
        with _folder_errors(self.folder / name):
            try:
                return (self.folder / name).read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, or replace it: temporary name, fsync, rename, fsync of the folder."""
        path = self.folder / name
        with _folder_errors(path), _temporary(path, content) as temporary:
            temporary.replace(path)

    def create(self, name: str, content: bytes) -> bool:
        """Put a file there as ``write`` does; False where there is one already."""
        path = self.folder / name
        with _folder_errors(path), _temporary(path, content) as temporary:
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                return False
        return True

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        with _folder_errors(self.folder / name):
            return (self.folder / name).is_file()

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        with _folder_errors(self.folder / name):
            (self.folder / name).unlink(missing_ok=True)


@contextmanager
def only_publisher(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; the system releases it however the process ends.

    Raises:
        PublishError: another process holds it, or the folder can't be written.
    """
    busy = f"another publisher is at work in {folder}; wait for it to end, then try again"
    with ExitStack() as held:
        with _folder_errors(folder / LOCK):
            make_folder(folder)
            held.enter_context(alone(folder / LOCK, PublishError(busy)))
        yield


@contextmanager
def _temporary(path: Path, content: bytes) -> Iterator[Path]:
    """Write a file under a temporary name, synced; afterwards sync what was done with it."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _folder_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PublishError(
            f"{path}: can't be read or written: {error.strerror}; nothing that kiosks read has "
            "changed; mend it and run the command again"
        ) from error
