"""``HOME/kiosk.toml``: where a kiosk takes releases from, where its events go, and how.

::

    repository = "https://releases.example.com/c2rec"   # or a folder: "/srv/c2rec"
    events = "https://events.example.com"               # optional; or a folder
    ring = "stable"

    [serve]                                             # options of a command
    port = 8765

``c2rec-kiosk enrol`` writes the settings, an operator may edit them. Every field has its docstring
in ``Settings``, and a variable of the environment, such as ``C2REC_RING``, which goes before the
file. Tables are for the command line (``store_kiosk/config.py``), and let alone here. Reading
imports neither numpy nor urllib3, so that a command that only reports stays quick.
"""

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
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
        for name in _RULES:
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if trouble := setting_trouble(name, value):
                raise IdentityError(trouble)
        if self.client_key is not None and self.client_cert is None:
            raise _refused("client_key", self.client_key, "nothing without client_cert")

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


def variable(name: str) -> str:
    """The variable of the environment for a setting."""
    return f"C2REC_{name.upper()}"


def read_settings(home: Path) -> Settings:
    """Read a kiosk's settings.

    Raises:
        IdentityError: there are none, or they can't be used.
    """
    settings = find_settings(home)
    if settings is None:
        raise IdentityError(
            f"{home} is not enrolled: it has no {SETTINGS} with a repository; "
            f"enrol it: c2rec-kiosk --home {home} enrol KIT --repository URL"
        )
    return settings


def find_settings(home: Path) -> Settings | None:
    """Read a kiosk's settings; None where it was never enrolled.

    Raises:
        IdentityError: the file can't be read, or a setting in it or in the environment is wrong.
    """
    document, given = read_document(home), from_environment(os.environ)
    try:
        values = settings_in(document or {}) | given
        if "repository" in values:
            return Settings(**values)
    except IdentityError as error:
        raise IdentityError(f"{settings_path(home)}: {error}") from error
    if document is None or any(map(_is_table, document.values())):
        return None  # the options of commands alone enrol nobody
    raise IdentityError(
        f"{settings_path(home)}: repository is missing; allowed: an http(s) URL, or a folder"
    )


def read_document(home: Path) -> dict[str, Any] | None:
    """Read kiosk.toml, settings and tables, unchecked; None where there is none.

    Raises:
        IdentityError: it can't be read, or is no TOML.
    """
    path = settings_path(home)
    try:
        return parse_document(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise IdentityError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise IdentityError(f"{path}: byte {error.start} is no UTF-8") from error
    except IdentityError as error:
        raise IdentityError(f"{path}: {error}") from error


def parse_document(text: str) -> dict[str, Any]:
    """Parse the text of kiosk.toml.

    Raises:
        IdentityError: it is no TOML.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise IdentityError(f"not valid TOML: {error}") from error


def settings_in(document: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a document, each checked by itself.

    Raises:
        IdentityError: one is unknown or wrong.
    """
    values = {name: value for name, value in document.items() if not _is_table(value)}
    for name, value in values.items():
        if name not in _RULES:
            raise IdentityError(f"{name} is not a setting; allowed: {', '.join(_RULES)}")
        if trouble := setting_trouble(name, value):
            raise IdentityError(trouble)
    return values


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that the environment gives, each checked by itself; an empty one gives none.

    Raises:
        IdentityError: one is wrong; the message names the variable.
    """
    values: dict[str, Any] = {}
    for field in fields(Settings):
        text = environment.get(variable(field.name))
        if not text:
            continue
        values[field.name] = value = _typed(text, field.default)
        if trouble := setting_trouble(field.name, value, as_name=variable(field.name)):
            raise IdentityError(trouble)
    return values


def setting_trouble(name: str, value: object, *, as_name: str | None = None) -> str | None:
    """Say what is wrong with a setting that is given; None where nothing is."""
    is_right, allowed = _RULES[name]
    return None if is_right(value) else str(_refused(as_name or name, value, allowed))


def without_password(place: str) -> str:
    """An address without name, password and query, which may be a key, for people to see."""
    named = re.sub(r"://[^/\s]*@", "://***@", place)
    # a password with a slash: what stands before it is then no host and port
    named = re.sub(r"://[^/@\s]+:(?!\d+/)[^@\s]*@", "://***@", named)
    return re.sub(r"(://[^?\s'\"]*)\?[^\s'\"]*", r"\1?***", named)


def tables_text(text: str) -> str:
    """The part of kiosk.toml's text that settings are not in, comments and all.

    Raises:
        IdentityError: it is no TOML.
    """
    tables = {name: value for name, value in parse_document(text).items() if _is_table(value)}
    lines = text.splitlines(keepends=True)
    starts = [n for n, line in enumerate(lines) if line.lstrip().startswith("[")]
    for start in starts:  # one of these is in no longer string
        rest = "".join(lines[start:])
        try:
            if parse_document(rest) == tables:
                return rest
        except IdentityError:
            continue
    written = (
        f"{_toml(name)}.{_toml(key)} = {_toml(value)}\n"
        for name, table in tables.items()
        for key, value in table.items()
    )
    return "".join(written)


def changed(settings: Settings, **values: object) -> Settings:
    """Settings with other values for some fields, checked again."""
    return Settings(**(asdict(settings) | values))


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _typed(text: str, default: object) -> object:
    """A variable's text as the type that the setting has, or else as it is."""
    if isinstance(default, bool):
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if isinstance(default, float):
        try:
            return float(text)
        except ValueError:
            return text
    return text


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


def _is_seconds(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0.01 <= value <= 7 * 86400  # type: ignore[operator] # it is a number


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


_OPTIONAL = ("events", "ca_bundle", "client_cert", "client_key")
"""Settings that may be None."""
_PLACE = (_is_place, "an http(s) URL, or the absolute path of a folder")
_PEM = (_is_path, "the absolute path of a PEM file")
_SECONDS = (_is_seconds, "seconds, 0.01 to 604800")
_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "repository": _PLACE,
    "events": _PLACE,
    "ring": (_is_ring, "1 to 50 of a–z 0–9 _ -"),
    "ca_bundle": _PEM,
    "client_cert": _PEM,
    "client_key": _PEM,
    "connect_timeout": _SECONDS,
    "read_timeout": _SECONDS,
    "deadline": _SECONDS,
    "visitors": (_is_bool, "true or false"),
    "visitors_deadline": _SECONDS,
}
"""Whether a field can be so, and what is allowed, in the order of the fields."""


def _toml(value: object) -> str:
    # a JSON string of printable characters is a TOML string
    return json.dumps(value, ensure_ascii=False)


def _refused(name: str, value: object, allowed: str) -> IdentityError:
    text = without_password(repr(value))
    shown = text if len(text) <= 80 else text[:79] + "…"
    return IdentityError(f"{name} is {shown}; allowed: {allowed}")
