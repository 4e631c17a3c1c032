"""Removing what nothing reachable refers to.

A kiosk in the middle of a sync follows the state that it began with: so the states that were
current within the grace period are kept whole. A state ends when the next snapshot is written.
Versions of the root are kept for ever.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from tuf.api.metadata import Snapshot, Targets

from c2rec.export.blobs import blob_path
from c2rec.export.keys import PATHS, parse_metadata
from c2rec.export.signed import TIMESTAMP, SignedRepository, target_path
from c2rec.export.storage import Entry, Storage
from c2rec.runtime.errors import PublishError
from c2rec.runtime.sync.documents import BlobRef

GRACE_DAYS = 7.0


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed, or would be."""

    files: int
    bytes: int
    kept_files: int
    kept_bytes: int


def collect_garbage(
    repository: SignedRepository, *, grace_days: float = GRACE_DAYS, dry_run: bool = False
) -> Collected:
    """Remove files that no state of the grace period refers to, and that are older than it.

    Args:
        repository: opened for change, so that no publisher is at work.
        grace_days: how long what was replaced stays.
        dry_run: only count.

    Raises:
        PublishError: nothing was published, or the current state is not whole.
    """
    if repository.is_new:
        raise PublishError("nothing is published there yet; begin with: c2rec-export publish")
    storage, since = repository.storage, datetime.now(UTC) - timedelta(days=grace_days)
    entries = [
        entry for folder in ("metadata", "targets", "blob") for entry in storage.list(folder)
    ]
    kept = {TIMESTAMP}
    kept |= {entry.name for entry in entries if entry.name.endswith(".root.json")}
    current = repository.timestamp().snapshot_meta.version
    for version in _snapshots(entries, current, since):
        _reach(storage, version, kept, strict=version == current)
    old = [entry for entry in entries if entry.name not in kept and entry.modified < since]
    if not dry_run:
        for entry in old:
            storage.delete(entry.name)
    freed = sum(entry.bytes for entry in old)
    total = sum(entry.bytes for entry in entries)
    return Collected(len(old), freed, len(entries) - len(old), total - freed)


def _snapshots(entries: list[Entry], current: int, since: datetime) -> list[int]:
    """Versions of the snapshots that were current within the grace period, and newer ones."""
    written = {
        int(number): entry.modified
        for entry in entries
        if (number := entry.name.removeprefix("metadata/").removesuffix(".snapshot.json")).isdigit()
    }
    kept = [current]
    for version in written.keys() - {current}:
        # two: a run that was ended may have left the next one, which was never current
        after = sorted(later for later in written if version < later <= current)[:2]
        if not after or max(written[later] for later in after) >= since:
            kept.append(version)
    return kept


def _reach(storage: Storage, version: int, names: set[str], *, strict: bool) -> None:
    """Add the names of all files of one state to ``names``; what is there was walked already.

    Raises:
        PublishError: a part of it is damaged or, with ``strict``, missing.
    """
    name = f"metadata/{version}.snapshot.json"
    content = _read(storage, name, strict=strict)
    if content is None:
        return
    names.add(name)
    for role in ("targets", *PATHS):
        info = parse_metadata(content, name, Snapshot).signed.meta.get(f"{role}.json")
        role_name = f"metadata/{info.version}.{role}.json" if info is not None else ""
        role_content = _read(storage, role_name, strict=strict) if role_name else None
        if role_content is None:
            continue
        names.add(role_name)
        targets = parse_metadata(role_content, role_name, Targets).signed.targets
        for target, target_info in targets.items():
            path = target_path(target, target_info.hashes["sha256"])
            if path not in names:
                names.add(path)
                _reach_blobs(storage, path, names, strict=strict)


def _reach_blobs(storage: Storage, path: str, names: set[str], *, strict: bool) -> None:
    """Add the blobs that a document names, and those that its indexes name."""
    digest = path.rpartition("/")[2].partition(".")[0]
    document = _read_json(storage, path, digest, strict=strict)
    names |= {blob_path(blob) for blob in _references(document)}
    indexes = document.get("indexes", []) if isinstance(document, dict) else []
    for index in _references(indexes):
        listed = _read_json(storage, blob_path(index), index.sha256, strict=strict)
        names |= {blob_path(blob) for blob in _references(listed)}


def _references(value: Any) -> Iterator[BlobRef]:
    """Yield every blob reference in a JSON value."""
    if isinstance(value, dict):
        if value.keys() == {"sha256", "bytes"}:
            yield BlobRef(value["sha256"], value["bytes"])
        else:
            for each in value.values():
                yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _read(storage: Storage, name: str, *, strict: bool) -> bytes | None:
    content = storage.read(name)
    if content is None and strict:
        raise PublishError(
            f"{name} is missing; restore it from a backup of the repository: nothing was removed"
        )
    return content


def _read_json(storage: Storage, name: str, digest: str, *, strict: bool) -> Any:
    content = _read(storage, name, strict=strict)
    if content is None:
        return None
    if sha256(content).hexdigest() != digest:  # one other digit, and a blob would go that is named
        raise PublishError(
            f"{name} is damaged; restore it from a backup of the repository: nothing was removed"
        )
    return json.loads(content)
