"""Changing a repository's signed metadata so that a reader sees the old state or the new one.

What is signed is collected, and written in an order: the targets themselves at once, under names
that nobody refers to yet; then, in ``commit``, the metadata of the roles that changed, targets,
snapshot, and the timestamp last, which is what a reader follows. A new root comes after it, and
until then the new timestamp and snapshot carry the old keys' signatures too: so a reader of either
root is content with what it finds.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.repository import Repository

from c2rec.export.keys import OFFLINE, PATHS, Keys, expiry, parse_metadata
from c2rec.export.rotation import forget_old
from c2rec.export.storage import FolderStorage, Storage, only_publisher, open_storage
from c2rec.runtime.errors import PublishError

TIMESTAMP = "metadata/timestamp.json"


@contextmanager
def open_repository(repo: str | Path | Storage, keys: Keys) -> Iterator["SignedRepository"]:
    """Open a repository for change, alone.

    Args:
        repo: its folder or URL, or its files; a folder that isn't there is made.
        keys: head office's.

    Raises:
        PublishError: as ``SignedRepository``, or another publisher is at work.
    """
    storage = open_storage(repo) if isinstance(repo, (str, Path)) else repo
    with ExitStack() as locks:
        locks.enter_context(only_publisher(keys.folder))
        if isinstance(storage, FolderStorage):
            locks.enter_context(only_publisher(storage.folder))
        yield SignedRepository(storage, keys)


@dataclass(frozen=True, slots=True)
class _Current:
    """What the repository says now."""

    timestamp: bytes
    bytes: dict[str, bytes]
    """Snapshot, targets and delegated roles, as they were signed."""
    metadata: dict[str, Metadata[Any]]


class SignedRepository(Repository):
    """A repository's metadata, opened for change.

    ``commit`` makes the changes seen; whoever holds the repository's lock may use this.

    Args:
        storage: the repository.
        keys: head office's.

    Raises:
        PublishError: the repository was made with other keys, or with newer ones, or what is
            there is not signed as it must be.
    """

    def __init__(self, storage: Storage, keys: Keys) -> None:
        self.storage, self.keys = storage, keys
        self._root = keys.root()
        self._targets, self._targets_bytes = keys.targets()
        self._root_there = self._compare_roots()
        self._current = self._read_current()
        self._pending: dict[str, Metadata[Any]] = {}
        self._versions: dict[str, int] | None = None

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever published there."""
        return self._current is None

    def role_expiries(self) -> dict[str, datetime]:
        """When the delegated roles' signatures end."""
        there = {} if self._current is None else self._current.metadata
        return {role: there[role].signed.expires for role in PATHS if role in there}

    def target_names(self, role: str) -> list[str]:
        """Names of the targets that a delegated role signs."""
        return sorted(self._metadata_of(role).signed.targets)

    def read_target(self, name: str) -> bytes | None:
        """A target's content, checked; None where there is none.

        Raises:
            PublishError: the file is missing, or not what was signed.
        """
        target = self._metadata_of(_role_of(name)).signed.targets.get(name)
        if target is None:
            return None
        path = target_path(name, target.hashes["sha256"])
        content = self.storage.read(path)
        if content is None or sha256(content).hexdigest() != target.hashes["sha256"]:
            raise PublishError(
                f"{path} is missing or damaged; restore it from a backup of the repository"
            )
        return content

    def write_target(self, name: str, content: bytes) -> None:
        """Put a target there; it is seen after ``commit``."""
        digest = sha256(content).hexdigest()
        self.storage.write(target_path(name, digest), content)
        with self.edit_targets(_role_of(name)) as targets:
            targets.targets[name] = TargetFile.from_data(name, content, ["sha256"])

    def drop_target(self, name: str) -> None:
        """Name a target no longer; its file stays until garbage is collected."""
        with self.edit_targets(_role_of(name)) as targets:
            targets.targets.pop(name, None)

    def renew(self, role: str) -> None:
        """Sign a role anew, with a new expiry and no other change."""
        with self.edit(role):
            pass

    def commit(self, *, renew: bool = False) -> bool:
        """Make all changes seen, at once.

        Args:
            renew: sign snapshot and timestamp anew even where nothing changed.

        Returns:
            Whether anything was written.

        Raises:
            PublishError: a key is not at hand, somebody else published meanwhile, or the
                repository can't be written. What readers see is whole in any case.
        """
        self._sign_for_new_keys()
        self.do_snapshot(force=renew)
        stamped, _ = self.do_timestamp(force=renew)
        if not stamped and len(self.keys.roots()) == self._root_there:
            return False
        if self._root_there == 0:
            self._write_roots()
        for role in [*PATHS, "snapshot"]:
            if role in self._pending:
                self._create(f"{self._pending[role].signed.version}.{role}", self._bytes(role))
        if not self._targets_are_there():
            self._create(f"{self._targets.signed.version}.targets", self._targets_bytes)
        if "timestamp" in self._pending:
            there = self.storage.read(TIMESTAMP)
            if there != (None if self._current is None else self._current.timestamp):
                raise PublishError(
                    "another publisher has published meanwhile; run the command again"
                )
            self.storage.write(TIMESTAMP, self._bytes("timestamp"))
        self._write_roots()
        for role in ("snapshot", "timestamp"):  # no reader has the old root any more
            forget_old(self.keys, role)
        return True

    # What python-tuf's Repository asks for.

    def open(self, role: str) -> Metadata[Any]:
        """Give a role's metadata to change."""
        if role in self._pending:
            return self._pending[role]
        if role == "root":
            return self._root
        if role == "targets":
            return self._targets
        if self._current is not None and role in self._current.metadata:
            return deepcopy(self._current.metadata[role])
        return _first(role)

    def close(self, role: str, md: Metadata[Any]) -> None:
        """Give a role's metadata its version, expiry and signatures, and keep it for ``commit``."""
        if role not in self._pending:
            md.signed.version = max(md.signed.version, self._greatest_version(role)) + 1
        md.signed.expires = expiry(role)
        self._sign(role, md)
        self._pending[role] = md

    @property
    def targets_infos(self) -> dict[str, MetaFile]:
        """What a snapshot says of targets and the delegated roles."""
        infos = {"targets.json": _info(self._targets.signed, self._targets_bytes)}
        known = {} if self._current is None else self._current.bytes
        for role in PATHS:
            if role in self._pending:
                infos[f"{role}.json"] = _info(self._pending[role].signed, self._bytes(role))
            elif role in known and self._current is not None:
                infos[f"{role}.json"] = _info(self._current.metadata[role].signed, known[role])
        return infos

    @property
    def snapshot_info(self) -> MetaFile:
        """What a timestamp says of the snapshot."""
        if "snapshot" in self._pending:
            return _info(self._pending["snapshot"].signed, self._bytes("snapshot"))
        return deepcopy(self.timestamp().snapshot_meta)

    def _metadata_of(self, role: str) -> Metadata[Targets]:
        return self.open(role)

    def _bytes(self, role: str) -> bytes:
        return self._pending[role].to_bytes()

    def _sign(self, role: str, md: Metadata[Any]) -> None:
        delegator = self._targets.signed if role in PATHS else self._root.signed
        wanted = delegator.get_delegated_role(role)
        signers: dict[str, Signer] = dict(self.keys.signers(role))
        at_hand = [keyid for keyid in wanted.keyids if keyid in signers]
        if len(at_hand) < wanted.threshold:
            where = self.keys.folder / "offline" if role in OFFLINE else self.keys.folder
            raise PublishError(
                f"the key of role {role} is not in {where}: there is no file "
                f"{role}.{wanted.keyids[0][:16]}.pem; put it there, or run this where it is"
            )
        md.signatures.clear()
        for signer in signers.values():  # old keys too: readers of the old root want them
            md.sign(signer, append=True)

    def _sign_for_new_keys(self) -> None:
        """Sign anew what a delegation to new keys no longer covers; make what was never there."""
        for role in PATHS:
            md = self.open(role)
            try:
                self._targets.signed.verify_delegate(role, md.signed_bytes, md.signatures)
            except UnsignedMetadataError:
                there = self._current is not None and role in self._current.metadata
                if not there and not self.keys.files(role):
                    continue  # its key may live elsewhere, and sign there for the first time
                self.renew(role)

    def _compare_roots(self) -> int:
        """Find how many roots the repository has; take over newer ones that ours vouch for.

        Raises:
            PublishError: its roots are others.
        """
        ours, there = self.keys.roots(), 0
        while (content := self.storage.read(f"metadata/{there + 1}.root.json")) is not None:
            there += 1
            if there > len(ours):
                self._adopt_root(content)
            elif content != ours[there - 1]:
                raise PublishError(
                    f"the repository was made with other keys than those in {self.keys.folder} "
                    f"(its root {there} is another); give its own with --keys"
                )
        return there

    def _adopt_root(self, content: bytes) -> None:
        version = self._root.signed.version + 1
        new = parse_metadata(content, f"metadata/{version}.root.json", Root)
        if new.signed.version != version:
            raise PublishError(f"metadata/{version}.root.json has version {new.signed.version}")
        for root in (self._root, new):
            _verify([root], "root", new)
        self.keys.adopt(f"{version}.root", content)
        self._root = new

    def _read_current(self) -> _Current | None:
        timestamp = self.storage.read(TIMESTAMP)
        if timestamp is None:
            return None
        if self._root_there == 0:
            raise PublishError(
                f"the repository has a {TIMESTAMP} but no root; it is damaged: restore it"
            )
        # both: a run may have ended between a new timestamp and a new root
        where = f"metadata/{self._root_there}.root.json"
        roots = [
            parse_metadata(self.keys.roots()[self._root_there - 1], where, Root),
            self._root,
        ]
        stamp = parse_metadata(timestamp, TIMESTAMP, Timestamp)
        _verify(roots, "timestamp", stamp)
        snapshot_bytes = self._versioned("snapshot", stamp.signed.snapshot_meta)
        snapshot = parse_metadata(snapshot_bytes, "snapshot.json", Snapshot)
        _verify(roots, "snapshot", snapshot)
        contents = {"snapshot": snapshot_bytes}
        metadata: dict[str, Metadata[Any]] = {"timestamp": stamp, "snapshot": snapshot}
        delegators: list[Metadata[Any]] = roots
        for role in ("targets", *PATHS):
            info = snapshot.signed.meta.get(f"{role}.json")
            if info is None:
                continue
            contents[role] = self._versioned(role, info)
            metadata[role] = parse_metadata(contents[role], f"{role}.json", Targets)
            _verify(delegators, role, metadata[role])
            delegators = [metadata["targets"]]
        version = metadata["targets"].signed.version
        if version > self._targets.signed.version:
            self.keys.adopt(f"{version}.targets", contents["targets"])
            self._targets, self._targets_bytes = metadata["targets"], contents["targets"]
        return _Current(timestamp, contents, metadata)

    def _versioned(self, role: str, info: MetaFile) -> bytes:
        name = f"metadata/{info.version}.{role}.json"
        content = self.storage.read(name)
        expected = (info.hashes or {}).get("sha256")
        if content is None or sha256(content).hexdigest() != expected:
            raise PublishError(
                f"{name} is missing or damaged; restore it from a backup of the repository"
            )
        return content

    def _greatest_version(self, role: str) -> int:
        """The greatest version in the folder: a run that was cut short may have left it."""
        if self._versions is None:
            self._versions = {}
            for entry in self.storage.list("metadata"):
                number, _, rest = entry.name.removeprefix("metadata/").partition(".")
                if number.isdigit():
                    name = rest.removesuffix(".json")
                    self._versions[name] = max(self._versions.get(name, 0), int(number))
        return self._versions.get(role, 0)

    def _targets_are_there(self) -> bool:
        return self._current is not None and (
            self._current.bytes.get("targets") == self._targets_bytes
        )

    def _create(self, name: str, content: bytes) -> None:
        path = f"metadata/{name}.json"
        if not self.storage.create(path, content) and self.storage.read(path) != content:
            raise PublishError(
                f"{path} is there already: another publisher is at work; run the command again "
                "when it has ended"
            )

    def _write_roots(self) -> None:
        roots = self.keys.roots()
        for number in range(self._root_there + 1, len(roots) + 1):
            self._create(f"{number}.root", roots[number - 1])
        self._root_there = len(roots)


def target_path(name: str, digest: str) -> str:
    """Where a target lies: its digest before the last part of its name."""
    folder, _, base = name.rpartition("/")
    return f"targets/{folder}/{digest}.{base}"


def _role_of(name: str) -> str:
    folder = name.partition("/")[0]
    return next(role for role, path in PATHS.items() if path.startswith(f"{folder}/"))


def _first(role: str) -> Metadata[Any]:
    signed: Signed
    if role == "snapshot":
        signed = Snapshot(meta={})
    elif role == "timestamp":
        signed = Timestamp()
        signed.snapshot_meta.version = 0
    else:
        signed = Targets()
    signed.version = 0
    return Metadata(signed)


def _info(signed: Signed, content: bytes) -> MetaFile:
    return MetaFile(signed.version, len(content), {"sha256": sha256(content).hexdigest()})


def _verify(delegators: list[Metadata[Any]], role: str, md: Metadata[Any]) -> None:
    for delegator in delegators:
        try:
            delegator.signed.verify_delegate(role, md.signed_bytes, md.signatures)
        except UnsignedMetadataError:
            continue
        return
    raise PublishError(
        f"the repository's {role} metadata is not signed by the key of role {role}: somebody else "
        "has written there; restore it from a backup, and find out who can write"
    )
