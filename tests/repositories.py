"""Repositories of releases for tests: good ones, and ones that somebody has tampered with.

``Head`` is a head office with one repository in a folder; the functions below it do what a thief or
a bad day would do. All of it is the product's own publisher, or python-tuf with the stolen key.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, TargetFile

from c2rec.export.keys import Keys, make_keys
from c2rec.export.publish import Published, publish
from c2rec.export.signed import open_repository, target_path
from c2rec.runtime.documents import PublishedRelease, parse_release
from c2rec.runtime.identity import Identity
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
        self, *, name: str | None = None, options: dict[str, Any] | None = None, **bundle: Any
    ) -> Published:
        """Make a bundle and publish it.

        Args:
            name: of the release; by default another for each.
            options: of ``publish``, such as ``ring`` or ``waves``.
            bundle: of ``make_release``, such as ``seed``, ``stores`` or ``customers``; the same
                seed gives the same space.
        """
        number = len(self.releases) + 1
        name = name or f"2020-07-27-{number:08x}"
        made = make_release(self.folder / f"bundle-{number}", name=name, **bundle)
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


def tamper(head: Head, role: str, change: Callable[[Any], None], *, signed_by: str) -> None:
    """Rewrite a role's metadata in place, validly signed by one stolen key.

    Snapshot and timestamp are not touched: steal them too, to have it believed that far.
    """
    (newest,) = sorted(
        (head.repo / "metadata").glob(f"*{role}.json"), key=lambda path: path.stat().st_mtime_ns
    )[-1:]
    metadata: Metadata[Any] = Metadata.from_file(str(newest))
    change(metadata.signed)
    metadata.signatures.clear()
    for signer in head.keys.signers(signed_by).values():
        metadata.sign(signer, append=True)
    newest.write_bytes(metadata.to_bytes())


def scores_key_signs_a_release(head: Head, seq: int, content: bytes) -> None:
    """The thief of the scores, snapshot and timestamp keys publishes a model as a score."""
    with open_repository(head.repo, head.keys) as repository:
        name = f"rel/{seq}.json"
        with repository.edit_targets("scores") as targets:
            targets.targets[name] = TargetFile.from_data(name, content, ["sha256"])
            digest = targets.targets[name].hashes["sha256"]
        repository.storage.write(target_path(name, digest), content)
        repository.commit()
