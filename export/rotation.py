"""New keys for a role, and longer life for what the offline keys have signed.

Each step leaves a folder of keys that works: the new key's file comes first, then the metadata that
names it, and the old key's file goes last. The repository learns of it with the next command that
publishes or signs there.
"""

from copy import deepcopy
from dataclasses import dataclass

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Targets

from c2rec.export.keys import PATHS, ROLES, Keys, expiry
from c2rec.runtime.errors import PublishError


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did."""

    role: str
    new: tuple[str, ...]
    """Keyids."""
    revoked: tuple[str, ...]
    root_version: int
    targets_version: int


def rotate(keys: Keys, role: str) -> Rotated:
    """Replace the keys of a role by new ones; the old ones count no longer.

    Raises:
        PublishError: no such role, or an offline key that has to sign is not at hand.
    """
    if role not in ROLES:
        raise PublishError(f"there is no role {role!r}; allowed: {', '.join(ROLES)}")
    root, (targets, _) = keys.root(), keys.targets()
    if role in PATHS:
        _targets_signers(keys, root)  # refused before anything is made
        revoked = list(targets.signed.get_delegated_role(role).keyids)
    else:
        _root_signers(keys, root)
        revoked = list(root.signed.roles[role].keyids)
    old = {keyid: signer for keyid, signer in keys.signers(role).items() if keyid in revoked}
    fresh = [keys.generate(role) for _ in revoked]
    if role in PATHS:
        _delegate(keys, root, targets, role, fresh, revoked)
    else:
        if role == "targets":  # under both keys, for it has to hold under both roots
            _resign_targets(keys, root, targets, [*fresh, *old.values()])
        _new_root(keys, root, role, fresh, revoked)
    if role not in ("snapshot", "timestamp"):
        # those two sign together with the new ones once more, for readers of the old root
        forget_old(keys, role)
    return Rotated(
        role=role,
        new=tuple(signer.public_key.keyid for signer in fresh),
        revoked=tuple(revoked),
        root_version=keys.root().signed.version,
        targets_version=keys.targets()[0].signed.version,
    )


def renew(keys: Keys, role: str) -> None:
    """Sign root or targets anew, with a new expiry and no other change.

    Raises:
        PublishError: an offline key that has to sign is not at hand.
    """
    root, (targets, _) = keys.root(), keys.targets()
    if role == "root":
        _new_root(keys, root, "root", [], [])
    else:
        _resign_targets(keys, root, targets, _targets_signers(keys, root))


def forget_old(keys: Keys, role: str) -> None:
    """Remove the files of a role's keys that count no longer.

    Raises:
        PublishError: a file can't be removed.
    """
    delegator = keys.targets()[0].signed if role in PATHS else keys.root().signed
    valid = {keyid[:16] for keyid in delegator.get_delegated_role(role).keyids}
    for path in keys.files(role):
        if path.name.split(".")[1] not in valid:
            try:
                path.unlink()
            except OSError as error:
                raise PublishError(
                    f"{path}: can't be removed: {error.strerror}; the key counts no longer, remove "
                    "it by hand"
                ) from error


def _delegate(
    keys: Keys,
    root: Metadata[Root],
    targets: Metadata[Targets],
    role: str,
    fresh: list[CryptoSigner],
    revoked: list[str],
) -> None:
    changed = deepcopy(targets)
    for signer in fresh:
        changed.signed.add_key(signer.public_key, role)
    for keyid in revoked:
        changed.signed.revoke_key(keyid, role)
    _resign_targets(keys, root, changed, _targets_signers(keys, root))


def _resign_targets(
    keys: Keys, root: Metadata[Root], targets: Metadata[Targets], signers: list[CryptoSigner]
) -> None:
    changed = deepcopy(targets)
    changed.signed.version += 1
    changed.signed.expires = expiry("targets")
    changed.signatures.clear()
    for signer in signers:
        changed.sign(signer, append=True)
    root.signed.verify_delegate("targets", changed.signed_bytes, changed.signatures)
    keys.store_metadata(changed)


def _new_root(
    keys: Keys,
    root: Metadata[Root],
    role: str,
    fresh: list[CryptoSigner],
    revoked: list[str],
) -> None:
    old = _root_signers(keys, root)
    changed = deepcopy(root)
    changed.signed.version += 1
    changed.signed.expires = expiry("root")
    for signer in fresh:
        changed.signed.add_key(signer.public_key, role)
    for keyid in revoked:
        changed.signed.revoke_key(keyid, role)
    changed.signatures.clear()
    for signer in [*old, *(fresh if role == "root" else [])]:
        changed.sign(signer, append=True)
    keys.store_metadata(changed)


def _root_signers(keys: Keys, root: Metadata[Root]) -> list[CryptoSigner]:
    return _signers(keys, root, "root")


def _targets_signers(keys: Keys, root: Metadata[Root]) -> list[CryptoSigner]:
    return _signers(keys, root, "targets")


def _signers(keys: Keys, root: Metadata[Root], role: str) -> list[CryptoSigner]:
    wanted = root.signed.roles[role]
    at_hand = [signer for keyid, signer in keys.signers(role).items() if keyid in wanted.keyids]
    if len(at_hand) < wanted.threshold:
        raise PublishError(
            f"{keys.folder / 'offline'} has {len(at_hand)} of the {wanted.threshold} {role} keys "
            f"that have to sign; bring it back, with {role}.*.pem, for this command"
        )
    return at_hand
