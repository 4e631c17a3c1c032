"""Writing blobs: named by their content, never twice, and some at once.

A disk that has to sync each file, and a bucket that answers each request after a while, both take
many of them in the time of one.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from c2rec.export.storage import Storage
from c2rec.runtime.errors import PublishError, ReleaseError
from c2rec.runtime.release.manifest import ListedFile
from c2rec.runtime.sync.documents import BlobRef

PIECE_BYTES = 4 << 20
"""Files are cut into blobs of so many bytes at most, and tensors from each other: where nothing but
what sells has changed, a kiosk fetches that tensor alone."""


TOGETHER = 8
"""Blobs that are written at once; as many more may wait, in memory."""


class Blobs:
    """The blobs of a repository; ``with`` it, and at its end all of them are there.

    Args:
        storage: the repository.
        mend: read what is there before it is taken for the same, and write it again where it is
            damaged.
    """

    def __init__(self, storage: Storage, *, mend: bool = False) -> None:
        self._storage = storage
        self._mend = mend
        self._there: dict[str, int] | None = None
        self.written = 0
        """Blobs that were not there before."""
        self.bytes_written = 0
        self._pool = ThreadPoolExecutor(TOGETHER, thread_name_prefix="blobs")
        self._going: dict[str, Future[None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for what is being written; what was not begun is left after an error.

        Raises:
            PublishError: a blob could not be written.
        """
        self._pool.shutdown(cancel_futures=error is not None)
        if error is None:
            self._settle(0)

    def put(self, content: bytes) -> BlobRef:
        """Write a blob, unless it is there.

        Raises:
            PublishError: it, or one before it, could not be written.
        """
        blob = BlobRef(sha256(content).hexdigest(), len(content))
        if not self.has(blob) or (self._mend and self.find(blob) is None):
            path = blob_path(blob)
            self._going[path] = self._pool.submit(self._storage.write, path, content)
            self._settle(2 * TOGETHER)
            self._sizes()[path] = blob.bytes
            self.written += 1
            self.bytes_written += len(content)
        return blob

    def _settle(self, most: int) -> None:
        """Wait until so many blobs at most are on their way."""
        while len(self._going) > most:
            self._going.pop(next(iter(self._going))).result()

    def has(self, blob: BlobRef) -> bool:
        """Whether a blob is there, with its length."""
        return self._sizes().get(blob_path(blob)) == blob.bytes

    def find(self, blob: BlobRef) -> bytes | None:
        """Content of a blob; None where it is missing or damaged."""
        if (going := self._going.pop(blob_path(blob), None)) is not None:
            going.result()
        content = self._storage.read(blob_path(blob))
        if content is None or sha256(content).hexdigest() != blob.sha256:
            return None
        return content

    def get(self, blob: BlobRef) -> bytes:
        """Content of a blob.

        Raises:
            PublishError: it is missing or damaged.
        """
        content = self.find(blob)
        if content is None:
            raise PublishError(
                f"{blob_path(blob)} is missing or damaged; restore it from a backup of the "
                "repository"
            )
        return content

    def _sizes(self) -> dict[str, int]:
        """What is there; one list costs less than to ask a bucket for each."""
        if self._there is None:
            self._there = {entry.name: entry.bytes for entry in self._storage.list("blob")}
        return self._there

    def put_file(self, path: Path, listed: ListedFile) -> tuple[BlobRef, ...]:
        """Write a file in pieces.

        Raises:
            ReleaseError: it is not what the manifest lists.
            PublishError: it can't be read.
        """
        digest, blobs = hashlib.sha256(), []
        for piece in _pieces(path):
            digest.update(piece)
            blobs.append(self.put(piece))
        if digest.hexdigest() != listed.sha256:
            raise ReleaseError(f"{path.name} has changed since it was checked; publish again")
        return tuple(blobs)


def _tensor_starts(path: Path) -> list[int]:
    """Where the header and the tensors of a checked safetensors file begin; of others, the file."""
    if path.suffix != ".safetensors":
        return [0]
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return [0, *sorted(8 + length + entry["data_offsets"][0] for entry in header.values())]


def blob_path(blob: BlobRef) -> str:
    """Where a blob lies."""
    return f"blob/{blob.sha256}"


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            for first, last in pairwise([*_tensor_starts(path), path.stat().st_size]):
                for start in range(first, last, PIECE_BYTES):
                    yield file.read(min(PIECE_BYTES, last - start))
    except OSError as error:
        raise PublishError(f"{path}: can't be read: {error.strerror}") from error
