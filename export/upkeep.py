"""Keeping signatures alive: what expires when, and signing it anew."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from c2rec.export.keys import LIFE, OFFLINE, PATHS, Keys, parse_metadata
from c2rec.export.rotation import renew
from c2rec.export.signed import TIMESTAMP, SignedRepository
from c2rec.export.storage import Storage
from c2rec.runtime.errors import PublishError

WARN_DAYS = 14.0

_T = TypeVar("_T", Root, Targets, Snapshot, Timestamp)


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a role's signature in a repository ends."""

    role: str
    version: int
    expires: datetime
    soon: bool
    """Whether it is time to sign anew."""


def is_near(role: str, expires: datetime, *, warn_days: float = WARN_DAYS) -> bool:
    """Whether a role's signature ends within ``warn_days``, or is in the second half of its life.

    What lives for days only, such as a timestamp, would always be within ``warn_days``.
    """
    within = min(timedelta(days=warn_days), LIFE[role] / 2)
    return expires - datetime.now(UTC) < within


def expiries(storage: Storage, *, warn_days: float = WARN_DAYS) -> list[Expiry]:
    """Read when each role's signature ends; no key is needed, and nothing is verified.

    Raises:
        PublishError: there is no repository, or it is damaged.
    """

    def read(name: str, kind: type[_T]) -> _T:
        content = storage.read(name)
        if content is None:
            raise PublishError(
                f"{name} is missing; give a repository that c2rec-export publish has made"
            )
        return parse_metadata(content, name, kind).signed

    timestamp = read(TIMESTAMP, Timestamp)
    snapshot = read(f"metadata/{timestamp.snapshot_meta.version}.snapshot.json", Snapshot)
    number = 1
    while storage.exists(f"metadata/{number + 1}.root.json"):
        number += 1
    found: dict[str, Root | Targets | Snapshot | Timestamp] = {
        "root": read(f"metadata/{number}.root.json", Root)
    }
    for role in ("targets", *PATHS):
        info = snapshot.meta.get(f"{role}.json")
        if info is not None:
            found[role] = read(f"metadata/{info.version}.{role}.json", Targets)
    found |= {"snapshot": snapshot, "timestamp": timestamp}
    return [
        Expiry(role, md.version, md.expires, is_near(role, md.expires, warn_days=warn_days))
        for role, md in found.items()
    ]


def renew_offline(keys: Keys, report: Callable[[str], None] = lambda _: None) -> list[str]:
    """Sign root and targets anew where they near their end and the offline keys are at hand.

    Returns:
        The roles that near their end, and stay so.
    """
    left = []
    for role in OFFLINE:
        expires = (keys.root() if role == "root" else keys.targets()[0]).signed.expires
        if is_near(role, expires):
            try:
                renew(keys, role)
                report(f"signed {role} anew")
            except PublishError as error:
                if keys.files(role):  # there, but not to be opened: no reason to go on as if not
                    raise
                report(str(error))
                left.append(role)
    return left


def resign(
    repository: SignedRepository, report: Callable[[str], None] = lambda _: None
) -> tuple[list[str], list[str]]:
    """Sign timestamp and snapshot anew, and the roles that near their end; seen at once.

    Returns:
        The roles that were signed, and those that near their end without a key at hand.

    Raises:
        PublishError: nothing was published yet, or timestamp or snapshot can't be signed.
    """
    if repository.is_new:
        raise PublishError("nothing is published there yet; begin with: c2rec-export publish")
    done, left = [], []
    for role, expires in repository.role_expiries().items():
        if is_near(role, expires):
            if repository.keys.files(role):
                repository.renew(role)
                done.append(role)
                report(f"signed {role} anew")
            else:
                left.append(role)
    repository.commit(renew=True)
    return [*done, "snapshot", "timestamp"], left
