"""Making a kiosk head office's own: who it is, whom it trusts, and where it looks.

A kit is the folder that ``c2rec-export keys kiosk`` makes: ``identity.json`` and ``root.json``. It
holds keys, and doesn't travel with the repository.
"""

import hashlib
import json
import os
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from c2rec.runtime.errors import IdentityError
from c2rec.runtime.home.disk import home_errors, only_one, write_whole
from c2rec.runtime.home.identity import Identity, identity_path, parse_identity
from c2rec.runtime.home.settings import Settings, settings_path, tables_text
from c2rec.runtime.home.state import changing_state
from c2rec.runtime.sync.trust import ROOT, forget
from c2rec.runtime.sync.web import check_certificates

_VERSIONS = ("root", "timestamp", "snapshot")


def enrol(home: Path, kit: Path, settings: Settings) -> Identity:
    """Enrol a kiosk, or enrol it anew; what is installed serves on.

    Args:
        home: the home folder, made if need be.
        kit: the folder that head office made for this kiosk.
        settings: where it takes releases from.

    Raises:
        IdentityError: the kit can't be used, or a certificate of the settings.
        HomeError: the home can't be written, or a sync is running.
    """
    identity = parse_kit_identity(kit)
    root = _read(kit, ROOT)
    try:
        signed = Metadata[Root].from_bytes(root).signed
        right = isinstance(signed, Root)
    except RepositoryError as error:
        raise IdentityError(f"{kit / ROOT} is no TUF root: {error}") from error
    if not right:
        raise IdentityError(f"{kit / ROOT} is no TUF root, but {signed.type} metadata")
    _check_one_kit(kit, root)
    check_certificates(settings)
    with only_one(home), home_errors(f"can't write to the home folder {home}"):
        path = home / ROOT
        if path.exists() and path.read_bytes() != root and not _succeeds(home, signed, root):
            # Another head office, or the same with new keys: the old one's versions say nothing of
            # it. Only who holds a kit can do this.
            forget(home)
            with changing_state(home) as db:
                db.executemany("DELETE FROM floors WHERE name = ?", [(n,) for n in _VERSIONS])
                db.execute("DELETE FROM floors WHERE name LIKE 'seq %' OR name LIKE 'scores %'")
                db.execute("DELETE FROM bad")
        _write_secret(identity_path(home), identity.to_json().encode())
        write_whole(path, root)
        # the last: with it, the kiosk is enrolled; a URL in it may hold a password
        _write_secret(settings_path(home), _with_tables(home, settings).encode())
    return identity


def _check_one_kit(kit: Path, root: bytes) -> None:
    """Refuse a root that is not the one that head office put beside the identity.

    Raises:
        IdentityError: it is another one. An older kit does not say which it was.
    """
    said = json.loads(_read(kit, "identity.json")).get("root_sha256")
    if said is not None and said != hashlib.sha256(root).hexdigest():
        raise IdentityError(
            f"{kit}: {ROOT} is not the one that was made with identity.json, but of another kit, "
            "perhaps another head office's; bring the folder as c2rec-export keys kiosk made it"
        )


def _with_tables(home: Path, settings: Settings) -> str:
    """The text of kiosk.toml with other settings; options of commands stay as they are."""
    try:
        tables = tables_text(settings_path(home).read_text("utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, IdentityError):
        tables = ""  # nobody could read them
    return settings.to_toml() + (f"\n{tables}" if tables else "")


def _succeeds(home: Path, signed: Root, root: bytes) -> bool:
    """Whether a root is a later one of those that this kiosk trusts already."""
    known = home / "tuf" / "root_history" / f"{signed.version}.root.json"
    return known.exists() and known.read_bytes() == root


def parse_kit_identity(kit: Path) -> Identity:
    """Read whom a kit is for.

    Raises:
        IdentityError: it can't be read.
    """
    content = _read(kit, "identity.json")
    try:
        return parse_identity(content)
    except IdentityError as error:
        raise IdentityError(
            f"{kit / 'identity.json'}: {error}; head office makes the kit anew: "
            "c2rec-export keys kiosk"
        ) from error


def _read(kit: Path, name: str) -> bytes:
    try:
        return (kit / name).read_bytes()
    except OSError as error:
        raise IdentityError(
            f"{kit / name}: can't be read: {error.strerror}; allowed: the folder that "
            "c2rec-export keys kiosk has made"
        ) from error


def _write_secret(path: Path, content: bytes) -> None:
    """Write a file that its owner alone may read, at no moment anybody else."""
    before = os.umask(0o077)
    try:
        write_whole(path, content)
    finally:
        os.umask(before)
