"""What a repository says, believed only as far as TUF and this kiosk's own floors allow.

python-tuf checks signatures, versions and expiry beside its cache, ``HOME/tuf``, and by the clock.
Both can be lost: so versions are compared with floors in the state besides, and expiry with the
latest time that head office has signed. Only the holder of the home's lock may use it: python-tuf
doesn't share its cache.

A failure is either the network's, ``NetworkError``, which goes by itself, or the repository's,
``TrustError``, which somebody has to look at. What is no TUF metadata at all is the network's: a
captive portal answers anything.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tuf.api import exceptions
from tuf.api.metadata import (
    Metadata,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.ngclient import FetcherInterface, Updater

from c2rec.runtime.errors import HomeError, IdentityError, NetworkError, TrustError
from c2rec.runtime.home.clock import clock_trouble, reference_time
from c2rec.runtime.home.disk import home_errors, sync_to_disk, write_whole
from c2rec.runtime.home.state import changing_state, find_floors, raise_floors
from c2rec.runtime.sync.source import MissingError, Source

ROOT = "root.json"
"""The root that a kiosk is enrolled with, in its home."""
_CACHE = "tuf"
_BASE = "c2rec:///"  # python-tuf joins names to a base; the source knows where they are
_LARGEST_METADATA = 8 << 20
"""Whatever length the snapshot or the timestamp says, whose keys are online."""
_LARGEST_TARGET = 64 << 20
_LARGEST_VERSION = 2**53
_ROLES = {"channel": "channel", "rel": "release", "tomb": "data", "scores": "scores"}
"""Which role signs the targets of a folder; the product's own repositories have no other folder."""


class Repository:
    """A repository whose metadata is fresh and trusted; made by ``open_repository``.

    Attributes:
        warnings: what is wrong with this machine's clock.
        expires: when the timestamp has to be signed anew at the latest.
    """

    def __init__(self, home: Path, source: Source, updater: Updater, now: datetime) -> None:
        self._cache = home / _CACHE
        self._source = source
        self._updater = updater
        self._now = now
        self.warnings: list[str] = []
        self.expires = now
        self._asked: set[str] = set()

    def target(self, name: str) -> bytes | None:
        """Read a signed document, as ``channel/stable.json``; None where the repository has none.

        Raises:
            TrustError: it is not what was signed, or its signature has expired.
            NetworkError: it can't be had now.
            HomeError: the cache can't be written.
        """
        with _sorted(self._now, self._cache):
            info = self._updater.get_targetinfo(name)
            role = _ROLES.get(name.partition("/")[0])
            if role is not None:  # python-tuf has checked any other by the clock alone
                self._check_expiry(role)
            if info is None:
                return None
            kept = self._cache / "targets" / quote(name, safe="")
            self._asked.add(kept.name)
            if self._updater.find_cached_target(info, str(kept)) is not None:
                return kept.read_bytes()
            if info.length > _LARGEST_TARGET:
                raise TrustError(
                    f"{name} has {info.length} bytes; allowed: up to {_LARGEST_TARGET}"
                )
            folder, slash, last = name.rpartition("/")
            digest = info.hashes.get("sha256") or next(iter(info.hashes.values()))
            path = quote(f"targets/{folder}{slash}{digest}.{last}")
            content = _read(self._source, path, info.length)
            info.verify_length_and_hashes(content)
            kept.parent.mkdir(exist_ok=True)
            write_whole(kept, content)
            return content

    def floor_of(self, name: str, role: str) -> str:
        """The name of a floor that counts while a role has the keys that it has now.

        A thief of a role's key can sign a number that nobody can reach any more. Once root's
        holders have given the role other keys, that number says nothing.
        """
        targets = Metadata[Targets].from_file(str(self._cache / "targets.json")).signed
        roles = (targets.delegations and targets.delegations.roles) or {}
        keys = sorted(roles[role].keyids) if role in roles else []
        return f"{name} {sha256(' '.join(keys).encode()).hexdigest()[:12]}"

    def forget_the_rest(self) -> None:
        """Remove documents from the cache that nobody has asked for, as of releases of before.

        Raises:
            OSError: one can't be removed.
        """
        folder = self._cache / "targets"
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in self._asked:
                path.unlink()

    def _check_expiry(self, role: str) -> None:
        signed = Metadata[Any].from_file(str(self._cache / f"{role}.json")).signed
        if signed.is_expired(self._now):
            raise exceptions.ExpiredMetadataError(f"{role}.json is expired")


@contextmanager
def open_repository(home: Path, source: Source) -> Iterator[Repository]:
    """Ask a repository what is newest; the caller holds the home's lock.

    Args:
        home: the home folder, with the root that it was enrolled with.
        source: the repository's files.

    Raises:
        NetworkError: it can't be reached, or something else answers.
        TrustError: what it says is refused.
        IdentityError: the root that the kiosk was enrolled with is missing or damaged.
        HomeError: the cache or the floors can't be written.
    """
    floors, clock = find_floors(home), datetime.now(UTC)
    now = reference_time(clock, floors.get("time", 0))
    cache = home / _CACHE
    with home_errors(f"can't write to {cache}"):
        cache.mkdir(exist_ok=True)
        for path in cache.glob("tmp*"):  # what python-tuf was writing when a sync was ended
            path.unlink()
    bootstrap = _own_root(home)
    trouble = clock_trouble(clock, floors.get("time", 0))
    try:
        with _sorted(now, cache, trouble):
            updater = Updater(str(cache), _BASE, fetcher=_Fetcher(source), bootstrap=bootstrap)
            updater.refresh()
            repository = Repository(home, source, updater, now)
            repository.warnings += [trouble] if trouble else []
            _check_floors(home, repository, floors)
        yield repository
    finally:
        with suppress(OSError):
            _sync(cache)


def _own_root(home: Path) -> bytes:
    """The root that the kiosk was enrolled with, which no repository is to blame for."""
    path = home / ROOT
    try:
        content = path.read_bytes()
        root = Metadata[Root].from_bytes(content)
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    except (OSError, ValueError, AttributeError, exceptions.RepositoryError) as error:
        raise IdentityError(
            f"{path}, from which this kiosk knows head office, is missing or damaged: {error}; "
            "enrol the kiosk again: c2rec-kiosk enrol KIT"
        ) from error
    return content


def forget(home: Path) -> None:
    """Remove the cache of metadata, as when a kiosk is enrolled anew."""
    with home_errors(f"can't remove {home / _CACHE}"):
        shutil.rmtree(home / _CACHE, ignore_errors=True)


def signed_at_most(moment: datetime, repository: Repository) -> int:
    """A floor for time from a signed time: always before the timestamp's expiry.

    A head office whose clock was years ahead for a day must not stop its kiosks for years.
    """
    return int(min(moment, repository.expires - timedelta(seconds=1)).timestamp())


def _check_floors(home: Path, repository: Repository, floors: Mapping[str, int]) -> None:
    """Refuse what python-tuf forgot with its cache, and raise the floors."""
    cache, now = home / _CACHE, repository._now
    root: Root = Metadata[Root].from_file(str(cache / "root.json")).signed
    timestamp = Metadata[Timestamp].from_file(str(cache / "timestamp.json")).signed
    snapshot = Metadata[Snapshot].from_file(str(cache / "snapshot.json")).signed
    found = {"root": root, "timestamp": timestamp, "snapshot": snapshot}
    renewed = _renewed(cache, root, floors.get("root", root.version))
    for role, signed in found.items():
        if signed.is_expired(now):
            raise exceptions.ExpiredMetadataError(f"{role}.json is expired")
        if signed.version > _LARGEST_VERSION:
            raise TrustError(
                f"{role}.json has version {signed.version}; allowed: up to {_LARGEST_VERSION}; "
                "its key may be stolen: head office rotates it"
            )
        least = 0 if role in renewed else floors.get(role, 0)
        if signed.version < least:
            raise exceptions.BadVersionNumberError(
                f"{role}.json has version {signed.version}, this kiosk has seen {least}"
            )
    repository._check_expiry("targets")
    repository.expires = timestamp.expires
    versions = {role: signed.version for role, signed in found.items()}
    if renewed or any(version != floors.get(role) for role, version in versions.items()):
        with changing_state(home) as db:
            db.executemany("DELETE FROM floors WHERE name = ?", [(role,) for role in renewed])
            raise_floors(db, versions)


def _renewed(cache: Path, root: Root, before: int) -> set[str]:
    """Roles whose keys have changed since a root: their versions may begin anew.

    After a stolen key has signed a version that nobody can reach any more, head office changes the
    key; TUF specification, section 5.3.11.
    """
    if root.version == before:
        return set()
    try:
        old = Metadata[Root].from_file(str(cache / "root_history" / f"{before}.root.json")).signed
    except (OSError, exceptions.RepositoryError):
        return set()
    roles = [
        role
        for role in ("timestamp", "snapshot")
        if set(old.roles[role].keyids) != set(root.roles[role].keyids)
    ]
    return {"timestamp", "snapshot"} if roles else set()


class _Fetcher(FetcherInterface):
    """Metadata for python-tuf, from a source."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def _fetch(self, url: str) -> Iterator[bytes]:
        raise NotImplementedError  # download_bytes is all that the updater calls here

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """See ``FetcherInterface``; its errors that are ours come through as they are."""
        # percent-encoded: a role's name may hold a slash, which is no folder
        name = url.removeprefix(_BASE)
        try:
            longest = min(max_length, _LARGEST_METADATA)
            content = _read(self._source, f"metadata/{name}", longest)
        except MissingError as error:
            if name.endswith(".root.json"):  # how the updater learns that there is no newer root
                raise exceptions.DownloadHTTPError(str(error), 404) from error
            raise NetworkError(
                f"{error}, which every repository has; is the repository's address right, and "
                "does no network in between ask for a login?"
            ) from error
        if not _is_metadata(content):
            raise NetworkError(
                f"something else answers in the repository's place: metadata/{name} begins with "
                f"{content[:40]!r}; is there a network that asks for a login first?"
            )
        return content


def _read(source: Source, path: str, longest: int) -> bytes:
    _, pieces = source.read(path)
    content = bytearray()
    for piece in pieces:
        content += piece
        if len(content) > longest:
            if _starts_as_page(content):
                raise NetworkError(f"a page answers in place of {path}")
            raise exceptions.DownloadLengthMismatchError(
                f"{path} is longer than the {longest} bytes allowed"
            )
    return bytes(content)


def _starts_as_page(content: bytes | bytearray) -> bool:
    return bytes(content[:200]).lstrip().startswith(b"<")


def _is_metadata(content: bytes) -> bool:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and {"signed", "signatures"} <= document.keys()


@contextmanager
def _sorted(now: datetime, cache: Path, trouble: str | None = None) -> Iterator[None]:
    """Turn errors of python-tuf and of the system into ours."""
    clock = f"; {trouble}" if trouble else ""
    try:
        yield
    except exceptions.ExpiredMetadataError as error:
        raise TrustError(
            f"the repository is stale: {_name(error)} has expired (it is {now:%Y-%m-%d %H:%M}Z "
            f"here){clock}; head office signs it anew by: c2rec-export resign"
        ) from error
    except exceptions.BadVersionNumberError as error:
        raise TrustError(
            f"the repository is older than what this kiosk has seen: {error}; an old copy may be "
            "served in its place: compare it with head office's"
        ) from error
    except exceptions.UnsignedMetadataError as error:
        raise TrustError(
            f"the repository is not signed by the keys that this kiosk trusts: {error}; check that "
            "it is head office's, or enrol the kiosk again"
        ) from error
    except exceptions.DownloadLengthMismatchError as error:
        raise TrustError(f"the repository can't be trusted: {error}") from error
    except exceptions.LengthOrHashMismatchError as error:
        raise TrustError(
            f"the repository's files don't fit together: {error}; head office publishes again"
        ) from error
    except exceptions.DownloadError as error:
        raise NetworkError(f"the repository can't be read: {error}") from error
    except exceptions.RepositoryError as error:
        raise TrustError(f"the repository can't be trusted: {error}") from error
    except OSError as error:
        raise HomeError(f"can't write to {cache}: {error.strerror}") from error


def _name(error: Exception) -> str:
    # "Final root.json is expired", "New release is expired"
    return str(error).partition(" is ")[0].split()[-1].removesuffix(".json") + ".json"


def _sync(cache: Path) -> None:
    """Make the cache outlast a power cut: python-tuf doesn't."""
    for folder, _, names in os.walk(cache):
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                sync_to_disk(path)
        sync_to_disk(Path(folder))
