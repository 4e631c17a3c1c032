"""A TUF repository in a folder that signs whatever it is told to, and a kiosk that reads it.

The product's own publisher refuses most of what a client has to survive: this one doesn't.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from c2rec.runtime.home.disk import only_one
from c2rec.runtime.home.settings import Settings
from c2rec.runtime.sync.source import open_source
from c2rec.runtime.sync.trust import ROOT, Repository, open_repository

TOP = ("root", "targets", "snapshot", "timestamp")


def in_days(days: float) -> datetime:
    """A moment as TUF writes it, seen from now."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


@dataclass
class TufRepository:
    """Metadata to change, the keys that sign it, and the folder that it is published to.

    A new one has a key for each role and version 1 of all.
    """

    folder: Path
    signed: dict[str, Any] = field(default_factory=dict)
    """What each role says now: tuf's Root, Targets, Snapshot or Timestamp."""
    signers: dict[str, list[CryptoSigner]] = field(default_factory=dict)
    """Whose signatures the next version gets, by role."""

    def __post_init__(self) -> None:
        (self.folder / "metadata").mkdir(parents=True)
        later = in_days(30)
        self.signed = {
            "root": Root(expires=later),
            "targets": Targets(expires=later),
            "snapshot": Snapshot(expires=later),
            "timestamp": Timestamp(expires=later),
        }
        for role in TOP:
            self.signed[role].version = 0  # publishing adds one
            self.set_keys(role, [CryptoSigner.generate_ed25519()])
        self.publish(*TOP)

    def set_keys(self, role: str, keys: list[CryptoSigner], *, threshold: int = 1) -> None:
        """Let the root name other keys for a role, which sign it from now on."""
        root = self.signed["root"]
        root.roles[role].keyids.clear()
        for key in keys:
            root.add_key(key.public_key, role)
        root.roles[role].threshold = threshold
        self.signers[role] = list(keys)

    def delegate(
        self, delegator: str, role: str, paths: list[str], *, terminating: bool = False
    ) -> CryptoSigner:
        """Let a role delegate names to another, with a key of its own, which is returned."""
        signer = CryptoSigner.generate_ed25519()
        targets = self.signed[delegator]
        known = targets.delegations.roles if targets.delegations else {}
        known[role] = DelegatedRole(role, [], 1, terminating, paths)
        targets.delegations = targets.delegations or Delegations({}, known)
        targets.add_key(signer.public_key, role)
        if role not in self.signed:
            self.signed[role] = Targets(expires=in_days(30))
            self.signed[role].version = 0
            self.signers[role] = [signer]
        return signer

    def add(self, role: str, name: str, content: bytes) -> None:
        """Let a role sign a target, and put its file there."""
        target = TargetFile.from_data(name, content, ["sha256"])
        self.signed[role].targets[name] = target
        folder, slash, last = name.rpartition("/")
        path = self.folder / f"targets/{folder}{slash}{target.hashes['sha256']}.{last}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def publish(self, *roles: str) -> None:
        """Publish the next version of roles, targets first: who lists others comes after them."""
        order = {"root": 0, "snapshot": 2, "timestamp": 3}
        for role in sorted(roles, key=lambda role: order.get(role, 1)):
            self.signed[role].version += 1
            self.write(role, self.content(role))
            meta = MetaFile(self.signed[role].version)
            if role == "snapshot":
                self.signed["timestamp"].snapshot_meta = meta
            elif order.get(role, 1) == 1:
                self.signed["snapshot"].meta[f"{role}.json"] = meta

    def content(self, role: str) -> bytes:
        """A role as it is signed now."""
        metadata = Metadata(self.signed[role])
        for signer in self.signers[role]:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def path(self, role: str) -> Path:
        """Where a role's version of now lies."""
        number = "" if role == "timestamp" else f"{self.signed[role].version}."
        return self.folder / "metadata" / f"{number}{quote(role, safe='')}.json"

    def write(self, role: str, content: bytes) -> None:
        """Put content where a role's version of now lies."""
        self.path(role).write_bytes(content)


@dataclass(frozen=True)
class Reader:
    """The part of a kiosk that reads a repository."""

    home: Path
    repository: str
    """A folder, or a URL."""

    @contextmanager
    def opened(self) -> Iterator[Repository]:
        """Ask the repository what is newest."""
        with (
            only_one(self.home),
            open_source(Settings(repository=self.repository)) as source,
            open_repository(self.home, source) as repository,
        ):
            yield repository

    def refresh(self) -> dict[str, int]:
        """Ask what is newest; the versions that are trusted then."""
        with self.opened():
            return self.trusted()

    def target(self, name: str) -> bytes | None:
        """Read one target."""
        with self.opened() as repository:
            return repository.target(name)

    def trusted(self) -> dict[str, int]:
        """Versions in the cache, by the name of their file without ``.json``."""
        return {
            path.stem: Metadata[Any].from_file(str(path)).signed.version
            for path in sorted((self.home / "tuf").glob("*.json"))
        }


def make_reader(repository: TufRepository, home: Path, *, url: str | None = None) -> Reader:
    """Enrol a reader with the repository's first root."""
    home.mkdir()
    (home / ROOT).write_bytes((repository.folder / "metadata" / "1.root.json").read_bytes())
    return Reader(home, url or str(repository.folder))
