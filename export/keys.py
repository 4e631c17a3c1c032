"""The keys of head office, and the signed metadata that says which keys count.

::

    KEYS/offline/root.<keyid>.pem, targets.<keyid>.pem    may be moved away, see below
    KEYS/<role>.<keyid>.pem       release, channel, data, scores, snapshot, timestamp
    KEYS/metadata/N.root.json, N.targets.json             public, signed by the offline keys
    KEYS/customer.key, stores.key                         masters, 32 bytes in hex

What the offline keys have signed is kept here, and carried into a repository by whoever publishes
next; so ``offline/`` is needed for nothing but ``keys init``, ``keys rotate`` and their expiry. On
the other side, what a repository has of them that is newer, and signed as it must be, is taken
over: a copy of the folder with some of the keys serves on after a rotation of others.

A role's key is the file whose name has the keyid that the metadata names: while a rotation is under
way, both files may be there.
"""

import secrets
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from c2rec.runtime.errors import IdentityError, PublishError
from c2rec.runtime.home.disk import sync_to_disk
from c2rec.runtime.home.identity import (
    EVERY_STORE,
    KEY_BYTES,
    Identity,
    derived_key,
    every_store_key,
)

OFFLINE = ("root", "targets")
PATHS = {"release": "rel/*", "channel": "channel/*", "data": "tomb/*", "scores": "scores/*"}
"""What each delegated role signs."""
ONLINE = (*PATHS, "snapshot", "timestamp")
ROLES = (*OFFLINE, *ONLINE)
LIFE = {
    "root": timedelta(days=365),
    "targets": timedelta(days=92),
    "release": timedelta(days=92),
    "channel": timedelta(days=92),
    "data": timedelta(days=92),
    "scores": timedelta(days=2),
    "snapshot": timedelta(days=7),
    "timestamp": timedelta(days=2),
}
"""How long a role's signature holds."""
T = TypeVar("T", Root, Targets, Snapshot, Timestamp)
_MASTERS = ("customer.key", "stores.key")


@dataclass(frozen=True, slots=True)
class Keys:
    """A folder of keys."""

    folder: Path
    passphrase: bytes | None = None

    def signers(self, role: str) -> dict[str, CryptoSigner]:
        """The private keys of a role that are at hand, by keyid, those not in force as well.

        Raises:
            PublishError: a file can't be read, or the passphrase doesn't open it.
        """
        found = {}
        for path in self.files(role):
            signer = self._load(path)
            found[signer.public_key.keyid] = signer
        return found

    def files(self, role: str) -> list[Path]:
        """Files with private keys of a role."""
        return sorted(self._home(role).glob(f"{role}.*.pem"))

    def generate(self, role: str) -> CryptoSigner:
        """Make a new private key and store it; it counts once the metadata says so."""
        private = Ed25519PrivateKey.generate()
        signer = CryptoSigner(private)
        encryption = BestAvailableEncryption(self.passphrase) if self.passphrase else NoEncryption()
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        name = f"{role}.{signer.public_key.keyid[:16]}.pem"
        write_secret(self._home(role) / name, pem)
        return signer

    def roots(self) -> list[bytes]:
        """All versions of the root, the first one first, as they were signed.

        Raises:
            PublishError: a version is missing, or can't be read.
        """
        count = len(list((self.folder / "metadata").glob("*.root.json")))
        if count == 0:
            raise PublishError(
                f"{self.folder} is no folder of keys: it has no metadata/1.root.json; make one "
                "with: c2rec-export keys init"
            )
        return [self._public(f"{n}.root.json") for n in range(1, count + 1)]

    def root(self) -> Metadata[Root]:
        """The newest root."""
        roots = self.roots()
        return parse_metadata(roots[-1], f"{self.folder}/metadata/{len(roots)}.root.json", Root)

    def targets(self) -> tuple[Metadata[Targets], bytes]:
        """The newest targets metadata, which delegates, and its bytes."""
        versions = [
            int(path.name.split(".")[0])
            for path in (self.folder / "metadata").glob("*.targets.json")
        ]
        name = f"{max(versions, default=1)}.targets.json"
        content = self._public(name)
        return parse_metadata(content, f"{self.folder}/metadata/{name}", Targets), content

    def store_metadata(self, metadata: Metadata[Root] | Metadata[Targets]) -> None:
        """Keep a new version of root or targets; from here on it is the one in force."""
        self.adopt(f"{metadata.signed.version}.{metadata.signed.type}", metadata.to_bytes())

    def adopt(self, version: str, content: bytes) -> None:
        """Keep a new version of root or targets, which somebody has checked.

        Args:
            version: as in ``2.root``.
            content: as it was signed.
        """
        path = self.folder / "metadata" / f"{version}.json"
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            sync_to_disk(temporary)
            temporary.replace(path)
            sync_to_disk(path.parent)
        except OSError as error:
            raise PublishError(f"{path}: can't be written: {error.strerror}") from error

    @property
    def customer_key(self) -> bytes:
        """Makes pseudonyms of customer ids."""
        return self._master("customer.key")

    @property
    def stores_key(self) -> bytes:
        """Master of the stores' and devices' keys."""
        return self._master("stores.key")

    def store_key(self, store: str) -> bytes:
        """The key that seals what is for a store; that of ``all`` every kiosk has."""
        if store == EVERY_STORE:
            return every_store_key(self.customer_key)
        return derived_key(self.stores_key, f"store:{store}")

    def identity(self, store: str, device: str) -> Identity:
        """Who a kiosk is, with the keys that it gets.

        Raises:
            PublishError: the store's or the device's name can't be one.
        """
        try:
            return Identity(
                store=store,
                device=device,
                customer_key=self.customer_key,
                store_key=self.store_key(store),
                device_key=derived_key(self.stores_key, f"device:{store}\0{device}"),
            )
        except IdentityError as error:
            raise PublishError(str(error)) from error

    def _home(self, role: str) -> Path:
        return self.folder / "offline" if role in OFFLINE else self.folder

    def _public(self, name: str) -> bytes:
        path = self.folder / "metadata" / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise PublishError(
                f"{path}: can't be read: {error.strerror}; restore it from a backup, or from the "
                "repository's metadata/"
            ) from error

    def _master(self, name: str) -> bytes:
        path = self.folder / name
        try:
            key = bytes.fromhex(path.read_text().strip())
        except OSError as error:
            raise PublishError(
                f"{path}: can't be read: {error.strerror}; restore it from a backup: kiosks know "
                "no other key"
            ) from error
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:  # the message doesn't tell what the file holds
            raise PublishError(f"{path} is damaged; allowed: {2 * KEY_BYTES} hex digits")
        return key

    def _load(self, path: Path) -> CryptoSigner:
        try:
            pem = path.read_bytes()
        except OSError as error:
            raise PublishError(f"{path}: can't be read: {error.strerror}") from error
        secret = self.passphrase if b"ENCRYPTED" in pem else None
        if b"ENCRYPTED" in pem and secret is None:
            raise PublishError(
                f"{path} is encrypted; give --passphrase-file, or set C2REC_KEYS_PASSPHRASE"
            )
        try:
            private = load_pem_private_key(pem, secret)
        except ValueError as error:
            raise PublishError(
                f"{path}: the passphrase doesn't open it, or it is damaged; check "
                "--passphrase-file or C2REC_KEYS_PASSPHRASE"
            ) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise PublishError(f"{path} is no ed25519 key; allowed: what c2rec-export keys makes")
        return CryptoSigner(private)


def make_keys(
    folder: Path, *, passphrase: bytes | None, root_keys: int = 1, threshold: int = 1
) -> Keys:
    """Make all keys, and the first root and targets metadata; the folder appears complete.

    Args:
        folder: doesn't exist yet, or is empty.
        passphrase: encrypts the private keys; None leaves them open.
        root_keys: how many root keys.
        threshold: how many of them a new root needs.

    Raises:
        PublishError: the folder is not empty, or can't be written.
    """
    if not 1 <= threshold <= root_keys <= 20:
        raise PublishError(
            f"a threshold of {threshold} of {root_keys} root keys; allowed: 1 to 20 keys, and a "
            "threshold up to their number"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PublishError(f"{folder}: is there already; choose another folder")
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        parent = folder.resolve().parent
        temporary = Path(tempfile.mkdtemp(dir=parent, prefix=f".{folder.name}-"))  # mode 0700
        keys = Keys(temporary, passphrase)
        for name in _MASTERS:
            write_secret(temporary / name, secrets.token_hex(KEY_BYTES).encode() + b"\n")
        (temporary / "offline").mkdir(mode=0o700)
        _sign_first(keys, root_keys, threshold)
        temporary.replace(folder)
        sync_to_disk(parent)
    except OSError as error:
        raise PublishError(f"{folder}: can't be written: {error.strerror}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return Keys(folder, passphrase)


def write_secret(path: Path, content: bytes) -> None:
    """Write a new file that nobody but its owner can read, and sync it.

    Raises:
        PublishError: it is there already, or can't be written.
    """
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(content)
        sync_to_disk(path)
        sync_to_disk(path.parent)
    except OSError as error:
        raise PublishError(f"{path}: can't be written: {error.strerror}") from error


def expiry(role: str) -> datetime:
    """When what a role signs now expires."""
    return datetime.now(UTC).replace(microsecond=0) + LIFE[role]


def parse_metadata(content: bytes, where: str, kind: type[T]) -> Metadata[T]:
    """Read metadata of one kind.

    Raises:
        PublishError: it is something else.
    """
    try:
        metadata = Metadata[T].from_bytes(content)
    except DeserializationError as error:
        raise PublishError(f"{where} is damaged: {error}; restore it from a backup") from error
    if not isinstance(metadata.signed, kind):
        raise PublishError(f"{where} is {metadata.signed.type} metadata; allowed: {kind.type}")
    return metadata


def _sign_first(keys: Keys, root_keys: int, threshold: int) -> None:
    root = Root(expires=expiry("root"), consistent_snapshot=True)
    signers = [keys.generate("root") for _ in range(root_keys)]
    for signer in signers:
        root.add_key(signer.public_key, "root")
    root.roles["root"].threshold = threshold
    targets_signer = keys.generate("targets")
    root.add_key(targets_signer.public_key, "targets")
    for role in ("snapshot", "timestamp"):
        root.add_key(keys.generate(role).public_key, role)
    roles = {
        name: DelegatedRole(name, [], 1, terminating=True, paths=[path])
        for name, path in PATHS.items()
    }
    targets = Targets(expires=expiry("targets"), delegations=Delegations({}, roles))
    for name in PATHS:
        targets.add_key(keys.generate(name).public_key, name)
    signed_targets = Metadata(targets)
    signed_targets.sign(targets_signer)
    keys.store_metadata(signed_targets)
    signed_root = Metadata(root)
    for signer in signers:
        signed_root.sign(signer, append=True)
    keys.store_metadata(signed_root)
