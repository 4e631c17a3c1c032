"""Repositories of releases for tests: good ones, and ones that somebody has tampered with.

``Head`` is a head office with one repository in a folder; the functions below it do what a thief or
a bad day would do. All of it is the product's own publisher, or python-tuf with the stolen key.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, TargetFile

from c2rec.export.keys import Keys, make_keys
from c2rec.export.publish import Published, publish
from c2rec.export.rotation import rotate
from c2rec.export.signed import open_repository, target_path
from c2rec.export.upkeep import resign
from c2rec.runtime.home.identity import Identity
from c2rec.runtime.sync.documents import PublishedRelease, parse_release
from tests.release import Release, make_release


@dataclass
class Head:
    """A head office: keys, a repository, and bundles that were published to it."""

    folder: Path
    keys: Keys
    releases: list[Release] = field(default_factory=list)
    """Bundles by the order of publishing."""

    @property
    def repo(self) -> Path:
        """The repository's folder."""
        return self.folder / "repo"

    @property
    def root(self) -> bytes:
        """The root that a kiosk starts from."""
        return self.keys.roots()[0]

    def identity(self, store: str = "all", device: str = "K1") -> Identity:
        return self.keys.identity(store, device)

    def publish(
        self,
        *,
        name: str | None = None,
        options: dict[str, Any] | None = None,
        change: Callable[[Path], object] = lambda _: None,
        **bundle: Any,
    ) -> Published:
        """Make a bundle and publish it.

        Args:
            name: of the release; by default another for each.
            options: of ``publish``, such as ``ring`` or ``waves``.
            change: made to the bundle before.
            bundle: of ``make_release``, such as ``seed``, ``stores`` or ``customers``; the same
                seed gives the same space.
        """
        number = len(self.releases) + 1
        name = name or f"2020-07-27-{number:08x}"
        made = make_release(self.folder / f"bundle-{number}", name=name, **bundle)
        change(made.folder)
        self.releases.append(made)
        return publish(made.folder, self.repo, self.keys, **(options or {}))

    def release(self, seq: int) -> PublishedRelease:
        """The document of a release that is published."""
        with open_repository(self.repo, self.keys) as repository:
            content = repository.read_target(f"rel/{seq}.json")
        assert content is not None
        return parse_release(content, seq)

    def copy_repo(self, to: str) -> Path:
        """Keep the repository as it is now, to replay it later."""
        return Path(shutil.copytree(self.repo, self.folder / to))


def make_head(folder: Path, *, passphrase: bytes | None = None, publish: bool = True) -> Head:
    """Make keys and a repository, with one release unless told otherwise."""
    head = Head(folder, make_keys(folder / "keys", passphrase=passphrase))
    if publish:
        head.publish()
    return head


def replace_by_another_repository(head: Head) -> Head:
    """Fault 11: in the repository's place stands another one, with other keys.

    Returns:
        The head office of the other one.
    """
    other = make_head(head.folder / "other")
    other.publish(seed=9)
    shutil.rmtree(head.repo)
    shutil.copytree(other.repo, head.repo)
    return other


def rotate_key(head: Head, role: str) -> dict[str, CryptoSigner]:
    """Replace a role's keys, and tell kiosks.

    Returns:
        The signers that count no longer, by keyid, as a thief has them.
    """
    old = dict(head.keys.signers(role))
    rotate(head.keys, role)
    resign_all(head)
    return old


def resign_all(head: Head) -> None:
    """Sign timestamp and snapshot anew, and bring what the offline keys have signed."""
    with open_repository(head.repo, head.keys) as repository:
        resign(repository)


def sign_with(
    head: Head,
    role: str,
    signers: Mapping[str, CryptoSigner],
    change: Callable[[Any], None] = lambda _: None,
) -> None:
    """Fault 12: put up a new version of a role's metadata, signed by stolen or revoked keys.

    Snapshot and timestamp are signed by head office's own keys, as by a thief who has these too;
    so nothing but the role's key can refuse it.

    Args:
        head: whose repository it is.
        role: a delegated role, snapshot or timestamp.
        signers: who signs it.
        change: made to the metadata before.
    """
    metadata, folder = newest(head, role), head.repo / "metadata"
    metadata.signed.version += 1
    change(metadata.signed)
    _sign(metadata, signers)
    if role == "timestamp":
        (folder / "timestamp.json").write_bytes(metadata.to_bytes())
        return
    version, content = metadata.signed.version, metadata.to_bytes()
    (folder / f"{version}.{role}.json").write_bytes(content)
    info = MetaFile(version, len(content), {"sha256": sha256(content).hexdigest()})
    if role != "snapshot":

        def name_it(signed: Any) -> None:
            signed.meta[f"{role}.json"] = info

        sign_with(head, "snapshot", head.keys.signers("snapshot"), name_it)
        return

    def point_at_it(signed: Any) -> None:
        signed.snapshot_meta = info

    sign_with(head, "timestamp", head.keys.signers("timestamp"), point_at_it)


def newest(head: Head, role: str) -> Metadata[Any]:
    """The metadata of a role that is in force."""
    folder = head.repo / "metadata"
    timestamp: Metadata[Any] = Metadata.from_file(str(folder / "timestamp.json"))
    if role == "timestamp":
        return timestamp
    version = timestamp.signed.snapshot_meta.version
    snapshot: Metadata[Any] = Metadata.from_file(str(folder / f"{version}.snapshot.json"))
    if role == "snapshot":
        return snapshot
    version = snapshot.signed.meta[f"{role}.json"].version
    return Metadata.from_file(str(folder / f"{version}.{role}.json"))


def _sign(metadata: Metadata[Any], signers: Mapping[str, CryptoSigner]) -> None:
    metadata.signatures.clear()
    for signer in signers.values():
        metadata.sign(signer, append=True)


def scores_key_signs_a_release(head: Head, seq: int, content: bytes) -> None:
    """Fault 13: the thief of the scores, snapshot and timestamp keys names a model of theirs."""
    with open_repository(head.repo, head.keys) as repository:
        name = f"rel/{seq}.json"
        with repository.edit_targets("scores") as targets:
            targets.targets[name] = TargetFile.from_data(name, content, ["sha256"])
            digest = targets.targets[name].hashes["sha256"]
        repository.storage.write(target_path(name, digest), content)
        repository.commit()
