"""Taking online scores in a sync: fetched, built beside, and put in service at one go."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from c2rec.runtime.erasure.tombstones import read_tombstones
from c2rec.runtime.errors import TrustError
from c2rec.runtime.fields import moment_text
from c2rec.runtime.home.disk import home_errors, sha256_of
from c2rec.runtime.home.identity import Identity
from c2rec.runtime.home.state import changing_state, find_floors, raise_floors, read_tables
from c2rec.runtime.release.flip import check_space
from c2rec.runtime.sync.documents import BlobRef
from c2rec.runtime.sync.download import fetch_blobs, read_blob
from c2rec.runtime.sync.online_documents import OnlineScores
from c2rec.runtime.sync.online_store import build_scores, scores_path
from c2rec.runtime.sync.source import Source


def take_scores(
    home: Path,
    document: OnlineScores,
    identity: Identity,
    source: Source,
    floor: str,
    *,
    report: Callable[[str], None] = lambda _: None,
) -> bool:
    """Take online scores in the place of older ones.

    Args:
        home: the home folder, whose lock the caller holds.
        document: verified.
        identity: the kiosk's.
        source: the repository.
        floor: name of the floor below which they are not taken.
        report: called with what is being done.

    Returns:
        Whether they are new.

    Raises:
        TrustError: newer ones were signed before.
        ReleaseError: they are not what the format allows.
        NetworkError, SyncError: a blob can't be fetched.
        HomeError: the home can't be written.
    """
    named = read_tables(home, ("scores",)).get("scores", [])
    _remove_others(home, {row["file"] for row in named})
    least = find_floors(home).get(floor, 0)
    if document.seq < least:
        raise TrustError(
            f"they have seq {document.seq}, below {least}, which head office has signed before"
        )
    if named and named[0]["seq"] == document.seq and _is_whole(home, named[0]):
        return False

    def blob(wanted: BlobRef) -> bytes:
        what = f"a part of the online scores {document.seq}"
        check_space(home, 3 * wanted.bytes, what)  # what is fetched, and a file made of it
        fetch_blobs(source, home, [(wanted, what)])
        return read_blob(home, wanted, what)

    report("taking online scores")
    path = scores_path(home, document.seq)
    digest = build_scores(
        document, blob, identity, path, erased=read_tombstones(home, identity).covers
    )
    with changing_state(home) as db:
        db.execute("DELETE FROM scores")
        row = [document.seq, path.name, digest, moment_text(document.as_of)]
        db.execute("INSERT INTO scores (seq, file, sha256, as_of) VALUES (?, ?, ?, ?)", row)
        raise_floors(db, {floor: document.seq})
    _remove_others(home, {path.name})
    return True


def _is_whole(home: Path, row: Mapping[str, Any]) -> bool:
    """Whether the file that the state names is there, to its last bit."""
    path = home / "scores" / row["file"]
    with home_errors(f"can't read the online scores {path}"):
        return path.is_file() and sha256_of(path) == str(row["sha256"])


def _remove_others(home: Path, names: set[str]) -> None:
    """Remove scores that don't answer, whole or not."""
    with suppress(FileNotFoundError), home_errors(f"can't write to the home folder {home}"):
        folder = home / "scores"
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in names and not path.is_dir():
                path.unlink()
