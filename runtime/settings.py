"""``HOME/kiosk.toml``: where a kiosk takes releases from, where its events go, and how.

::

    repository = "https://releases.example.com/c2rec"   # or a folder: "/srv/c2rec"
    events = "https://events.example.com"               # optional; or a folder
    ring = "stable"

``c2rec-kiosk enrol`` writes it, an operator may edit it. Every field has its docstring in
``Settings``. Reading it imports neither numpy nor urllib3, so that a command that only reports
stays quick.
"""

import json
import re
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from c2rec.runtime.errors import IdentityError

SETTINGS = "kiosk.toml"
_RING = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a kiosk reaches head office; making one checks every field.

    Raises:
        IdentityError: a field can't be so; the message names it, its value and what is allowed.
    """

    repository: str
    """An http or https URL, or the absolute path of a folder."""
    events: str | None = None
    """Where events go: a URL, or the absolute path of a folder; None: they stay here."""
    ring: str = "stable"
    """Whose releases it takes: 1 to 50 of a–z 0–9 _ -."""
    ca_bundle: str | None = None
    """Absolute path of the certificates to trust instead of the system's, PEM."""
    client_cert: str | None = None
    """Absolute path of the certificate that this kiosk shows, PEM; https alone."""
    client_key: str | None = None
    """Absolute path of its key, PEM without a password; None: in the same file."""
    connect_timeout: float = 10.0
    """Seconds to reach a server, and then for each TLS step."""
    read_timeout: float = 30.0
    """Seconds without a byte before a server counts as gone."""
    deadline: float = 3600.0
    """Seconds that a whole sync may take."""
    visitors: bool = False
    """Whether a customer whom the store doesn't know is looked up in the repository."""
    visitors_deadline: float = 1.5
    """Seconds that such a customer waits at most."""

    def __post_init__(self) -> None:
        for name in ("repository", "events"):
            value = getattr(self, name)
            if (name == "repository" or value is not None) and not _is_place(value):
                raise _refused(name, value, "an http(s) URL, or the absolute path of a folder")
        if not _is_ring(self.ring):
            raise _refused("ring", self.ring, "1 to 50 of a–z 0–9 _ -")
        for name in ("ca_bundle", "client_cert", "client_key"):
            value = getattr(self, name)
            if value is not None and not _is_path(value):
                raise _refused(name, value, "the absolute path of a PEM file")
        if self.client_key is not None and self.client_cert is None:
            raise _refused("client_key", self.client_key, "nothing without client_cert")
        for name in ("connect_timeout", "read_timeout", "deadline", "visitors_deadline"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0.01 <= value <= 7 * 86400:
                raise _refused(name, value, "seconds, 0.01 to 604800")
        if not isinstance(self.visitors, bool):
            raise _refused("visitors", self.visitors, "true or false")

    def to_toml(self) -> str:
        """Write the text of kiosk.toml: the fields that are not as by default."""
        lines = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                lines.append(f"{field.name} = {_toml(value)}\n")
        return "".join(lines)


def is_url(place: str) -> bool:
    """Whether a repository, or a place for events, is behind a server and no folder."""
    return place.startswith(("http://", "https://"))


def settings_path(home: Path) -> Path:
    """Where a kiosk's settings lie."""
    return home / SETTINGS


def read_settings(home: Path) -> Settings:
    """Read a kiosk's settings.

    Raises:
        IdentityError: there are none, or the file can't be used.
    """
    settings = find_settings(home)
    if settings is None:
        raise IdentityError(
            f"{home} is not enrolled: it has no {SETTINGS}; "
            f"enrol it: c2rec-kiosk --home {home} enrol KIT --repository URL"
        )
    return settings


def find_settings(home: Path) -> Settings | None:
    """Read a kiosk's settings; None where it was never enrolled.

    Raises:
        IdentityError: the file can't be read, or is wrong.
    """
    path = settings_path(home)
    try:
        return parse_settings(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IdentityError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise IdentityError(f"{path}: byte {error.start} is no UTF-8") from error
    except IdentityError as error:
        raise IdentityError(f"{path}: {error}") from error


def parse_settings(text: str) -> Settings:
    """Read the text of kiosk.toml.

    Raises:
        IdentityError: it is no TOML, or a field is unknown, missing or wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise IdentityError(f"not valid TOML: {error}") from error
    known = [field.name for field in fields(Settings)]
    for name in document:
        if name not in known:
            raise IdentityError(f"{name} is not a setting; allowed: {', '.join(known)}")
    if "repository" not in document:
        raise IdentityError("repository is missing; allowed: an http(s) URL, or a folder")
    return Settings(**document)


def changed(settings: Settings, **values: object) -> Settings:
    """Settings with other values for some fields, checked again."""
    return Settings(**(asdict(settings) | values))


def _is_place(value: object) -> bool:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 2000:
        return False
    if not is_url(value):
        return value.startswith("/")
    try:
        parts = urlsplit(value)
        return bool(parts.hostname) and parts.port != 0 and not parts.query and not parts.fragment
    except ValueError:
        return False


def _is_ring(value: object) -> bool:
    return isinstance(value, str) and _RING.fullmatch(value) is not None


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/") and value.isprintable()


def _toml(value: object) -> str:
    # a JSON string of printable characters is a TOML string
    return json.dumps(value, ensure_ascii=False)


def _refused(name: str, value: object, allowed: str) -> IdentityError:
    text = repr(value)
    shown = text if len(text) <= 80 else text[:79] + "…"
    return IdentityError(f"{name} is {shown}; allowed: {allowed}")
