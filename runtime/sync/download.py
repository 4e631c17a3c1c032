"""Fetching blobs into ``HOME/blob``: resumed where they were cut, believed by length and digest."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from c2rec.runtime.errors import NetworkError, SyncError
from c2rec.runtime.home.disk import home_errors, sync_to_disk, write_whole
from c2rec.runtime.sync.documents import BlobRef
from c2rec.runtime.sync.source import MissingError, Source

_TOLD_BYTES = 4 << 20
"""How often progress is told."""


def blob_folder(home: Path) -> Path:
    """Where blobs lie until a generation is built of them."""
    return home / "blob"


def fetch_blobs(
    source: Source,
    home: Path,
    wanted: Iterable[tuple[BlobRef, str]],
    *,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Fetch the blobs that aren't there yet, each on disk when the next one begins.

    Args:
        source: the repository.
        home: the home folder, whose lock the caller holds.
        wanted: each blob, and what it is, for messages.
        report: called with what is being done.

    Raises:
        NetworkError: the repository can't be reached, or something else answers.
        SyncError: a blob is missing, or isn't what it must be.
        HomeError: the home can't be written.
    """
    blobs = dict(wanted)
    todo = {blob: what for blob, what in blobs.items() if not has_blob(home, blob)}
    total, done, told = sum(blob.bytes for blob in todo), 0, 0

    def count(size: int) -> None:
        nonlocal done, told
        done += size
        if done - told >= _TOLD_BYTES or done == total:
            told = done
            report(f"fetching: {done / 1e6:.1f} of {total / 1e6:.1f} MB")

    with home_errors(f"can't write to {blob_folder(home)}"):
        blob_folder(home).mkdir(exist_ok=True)
        for blob, what in todo.items():
            _fetch(source, blob, blob_folder(home) / blob.sha256, what, count)
        sync_to_disk(blob_folder(home))


def has_blob(home: Path, blob: BlobRef) -> bool:
    """Whether a blob has been fetched; only whole ones have this name."""
    try:
        return (blob_folder(home) / blob.sha256).stat().st_size == blob.bytes
    except OSError:
        return False


def read_blob(home: Path, blob: BlobRef, what: str) -> bytes:
    """Read a blob that was fetched, and check it again: the disk may have lost a bit.

    Raises:
        SyncError: it isn't what it must be; it is removed, and fetched at the next sync.
        HomeError: it can't be read.
    """
    path = blob_folder(home) / blob.sha256
    with home_errors(f"can't read {path}"):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != blob.sha256:
            path.unlink()
            raise SyncError(f"{what} was damaged on this machine's disk; sync again")
    return content


def take_pieces(home: Path, file: Path, blobs: Sequence[BlobRef]) -> None:
    """Take the blobs of a new file from an old one that has the same bytes at the same place.

    Raises:
        OSError: a file can't be read or written.
    """
    blob_folder(home).mkdir(exist_ok=True)
    with suppress(FileNotFoundError), file.open("rb") as old:
        for blob in blobs:
            content = old.read(blob.bytes)
            if hashlib.sha256(content).hexdigest() == blob.sha256:
                write_whole(blob_folder(home) / blob.sha256, content)


def keep_blobs(home: Path, wanted: Iterable[BlobRef]) -> None:
    """Remove all blobs, whole or not, but those wanted."""
    names = {blob.sha256 for blob in wanted}
    with suppress(FileNotFoundError):
        for path in blob_folder(home).iterdir():
            if path.name.removesuffix(".part") not in names:
                path.unlink()


def _fetch(
    source: Source, blob: BlobRef, path: Path, what: str, count: Callable[[int], None]
) -> None:
    part = path.with_name(path.name + ".part")
    with suppress(FileNotFoundError):
        if part.stat().st_size > blob.bytes:
            part.unlink()
    resumed = part.exists()
    try:
        digest = _append(source, blob, part, what, count)
        if digest != blob.sha256 and resumed:  # what was there before may have been damaged
            part.unlink()
            digest = _append(source, blob, part, what, lambda _: None)
    except MissingError as error:
        raise SyncError(
            f"{what} is missing: {error}; it may be published in this moment: sync again"
        ) from error
    size = part.stat().st_size
    if digest == blob.sha256 and size == blob.bytes:
        part.replace(path)
        return
    with part.open("rb") as file:
        page = file.read(200).lstrip().startswith(b"<")
    part.unlink()
    if page:
        raise NetworkError(
            f"a page answers in place of {what}; is there a network that asks for a login first?"
        )
    raise SyncError(
        f"{what} is damaged: blob/{blob.sha256} came with {size} bytes and the sha256 "
        f"{digest[:16]}…, {blob.bytes} bytes were signed; head office publishes again"
    )


def _append(
    source: Source, blob: BlobRef, part: Path, what: str, count: Callable[[int], None]
) -> str:
    """Fetch what lacks of a blob, onto the disk.

    Returns:
        Sha256 of all that is there then, at most one byte more than the blob has.
    """
    digest, there = hashlib.sha256(), 0
    with part.open("ab+") as file:
        file.seek(0)
        while piece := file.read(1 << 20):
            digest.update(piece)
            there += len(piece)
        if there < blob.bytes:
            begins, pieces = source.read(f"blob/{blob.sha256}", first=there)
            if begins < there:  # the server can't resume
                file.truncate(begins)
                digest, there = hashlib.sha256(), 0
            else:
                count(there)
            for piece in pieces:
                room = blob.bytes + 1 - there
                if room <= 0:
                    break
                kept = piece[:room]
                file.write(kept)
                digest.update(kept)
                there += len(kept)
                count(len(kept))
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
