"""A release's manifest.json: what it may say, read and written in one place.

``docs/release-format.md`` is the contract. Nothing here imports numpy, so that a command that
only reports stays quick. Fields that format 1 doesn't know are ignored; a changed meaning gets
a greater ``format``, which is refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

from c2rec.runtime.errors import ReleaseError, TooNewError
from c2rec.runtime.records import CHANNELS

EncoderName: TypeAlias = Literal["history", "table"]
AttentionName: TypeAlias = Literal["softmax", "sigmoid"]

MANIFEST = "manifest.json"
FORMAT = 1
"""The greatest format that this version reads, and the one that it writes."""

MANIFEST_BYTES = 1 << 20
"""A longer manifest.json is refused unread."""

_FILES = (
    "scorer.onnx",
    "items.safetensors",
    "items.jsonl",
    "customers.safetensors",
    "customers.jsonl",
    "stores.jsonl",
    "golden.safetensors",
)
OPTIONAL_FILES: tuple[str, ...] = ("rules.toml",)
"""What a bundle may hold besides."""
_NAME_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_HEX_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class ListedFile:
    """How a file of a bundle must be."""

    sha256: str
    """64 lower-case hex digits."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Lengths of a release's arrays."""

    items: int
    customers: int
    interactions: int
    """Rows of all customers' histories together."""


class ChannelCalibration(NamedTuple):
    """Makes probabilities of scores: sigmoid(slope * score + intercept)."""

    slope: float
    """Above 0: a greater score is a greater probability."""
    intercept: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """What manifest.json says; making one checks every field.

    Raises:
        ReleaseError: a field can't be so; the message names it, its value and what is allowed.
    """

    release: str
    created_at: str
    """UTC, as in ``2026-01-31T09:30:00Z``."""
    producer: str
    encoder: EncoderName
    attention: AttentionName
    """How scorer.onnx makes weights of logits."""
    embedding_size: int
    """d, of every embedding."""
    space: str
    """Digest of what gives meaning to customers' rows and vectors, 64 hex digits."""
    counts: Counts
    data_from: str
    """First day of the data, as in ``2020-07-01``."""
    data_to: str
    """Last day of the data."""
    files: Mapping[str, ListedFile]
    calibration: tuple[ChannelCalibration, ChannelCalibration] | None = None
    """Offline and online; None where it is not known."""
    format: int = FORMAT

    def __post_init__(self) -> None:
        _check_format(self.format)
        _check_name("release", self.release)
        _check_moment("created_at", self.created_at)
        _check_producer("producer", self.producer)
        if self.encoder not in get_args(EncoderName):
            raise _refused("encoder", self.encoder, " or ".join(map(repr, get_args(EncoderName))))
        if self.attention not in get_args(AttentionName):
            allowed_names = " or ".join(map(repr, get_args(AttentionName)))
            raise _refused("attention", self.attention, allowed_names)
        # Bounds far above any retailer, and low enough that no product of them overflows int64.
        _check_int("embedding_size", self.embedding_size, 1, 4096)
        _check_int("counts.items", self.counts.items, 1, 10**7)
        _check_int("counts.customers", self.counts.customers, 1, 10**9)
        _check_int("counts.interactions", self.counts.interactions, 1, 10**11)
        _check_digest("space", self.space)
        for field, day in (("data.from", self.data_from), ("data.to", self.data_to)):
            _check_day(field, day)
        if self.data_from > self.data_to:
            raise _refused("data.from", self.data_from, f"a day up to data.to, {self.data_to}")
        for channel, each in zip(CHANNELS, self.calibration or (), strict=False):
            _check_number(f"calibration.{channel}.slope", each.slope, 1e-6, 1e6)
            _check_number(f"calibration.{channel}.intercept", each.intercept, -1e6, 1e6)
        for name, listed in self.files.items():
            _check_name("file name", name)
            _check_digest(f"files.{name}.sha256", listed.sha256)
            _check_int(f"files.{name}.bytes", listed.bytes, 1, 2**44)
        allowed = required_files(self.encoder)
        for name in sorted(set(allowed) ^ set(self.files)):
            if name in OPTIONAL_FILES:
                continue
            what = "not a file of format 1" if name in self.files else "missing"
            raise ReleaseError(
                f"{MANIFEST}: files: {name!r} is {what}; allowed: exactly {', '.join(allowed)}, "
                f"and perhaps {', '.join(OPTIONAL_FILES)}"
            )

    @property
    def bytes(self) -> int:
        """Size of all listed files together."""
        return sum(listed.bytes for listed in self.files.values())

    def to_json(self) -> str:
        """Write the text of manifest.json, ending in a newline."""
        counts, files = self.counts, self.files
        document = {
            "format": self.format,
            "release": self.release,
            "created_at": self.created_at,
            "producer": self.producer,
            "encoder": self.encoder,
            "attention": self.attention,
            "embedding_size": self.embedding_size,
            "space": self.space,
            "counts": {
                "items": counts.items,
                "customers": counts.customers,
                "interactions": counts.interactions,
            },
            "data": {"from": self.data_from, "to": self.data_to},
            "files": {
                name: {"sha256": files[name].sha256, "bytes": files[name].bytes}
                for name in sorted(files)
            },
        }
        if self.calibration is not None:
            pairs = zip(CHANNELS, self.calibration, strict=True)
            document["calibration"] = {channel: each._asdict() for channel, each in pairs}
        return json.dumps(document, indent=2) + "\n"


def required_files(encoder: EncoderName) -> tuple[str, ...]:
    """Names of the files that a bundle with this encoder must hold, manifest.json left out."""
    return (*_FILES, "encoder.onnx") if encoder == "history" else _FILES


def parse_manifest(text: str | bytes) -> Manifest:
    """Read manifest.json.

    Args:
        text: the file's content; bytes are UTF-8.

    Raises:
        ReleaseError: not JSON, a field missing or wrong, or a newer format.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError, digits
        raise ReleaseError(f"{MANIFEST} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise _refused("the document", document, "an object")
    _check_format(_get(document, "format"))  # before the rest, which may mean something else
    counts, data = _get_object(document, "counts"), _get_object(document, "data")
    files = _get_object(document, "files")
    listed = {name: _get_object(files, name, "files.") for name in files}
    return Manifest(
        release=_get(document, "release"),
        created_at=_get(document, "created_at"),
        producer=_get(document, "producer"),
        encoder=_get(document, "encoder"),
        attention=_get(document, "attention"),
        embedding_size=_get(document, "embedding_size"),
        space=_get(document, "space"),
        counts=Counts(
            items=_get(counts, "items", "counts."),
            customers=_get(counts, "customers", "counts."),
            interactions=_get(counts, "interactions", "counts."),
        ),
        data_from=_get(data, "from", "data."),
        data_to=_get(data, "to", "data."),
        files={
            name: ListedFile(
                sha256=_get(entry, "sha256", f"files.{name}."),
                bytes=_get(entry, "bytes", f"files.{name}."),
            )
            for name, entry in listed.items()
        },
        calibration=_parse_calibration(document),
        format=document["format"],
    )


def _parse_calibration(
    document: Mapping[str, Any],
) -> tuple[ChannelCalibration, ChannelCalibration] | None:
    if document.get("calibration") is None:
        return None
    channels = _get_object(document, "calibration")
    offline, online = (_get_object(channels, name, "calibration.") for name in CHANNELS)
    return (
        ChannelCalibration(
            _get(offline, "slope", "calibration.offline."),
            _get(offline, "intercept", "calibration.offline."),
        ),
        ChannelCalibration(
            _get(online, "slope", "calibration.online."),
            _get(online, "intercept", "calibration.online."),
        ),
    )


def shown(value: object) -> str:
    """A value as an error message shows it: escaped, and cut at 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _refused(field: str, value: object, allowed: str) -> ReleaseError:
    return ReleaseError(f"{MANIFEST}: {field} is {shown(value)}; allowed: {allowed}")


def _get(fields: Mapping[str, Any], name: str, path: str = "") -> Any:
    if name not in fields:
        raise ReleaseError(f"{MANIFEST}: {path}{name} is missing")
    return fields[name]


def _get_object(fields: Mapping[str, Any], name: str, path: str = "") -> Mapping[str, Any]:
    value = _get(fields, name, path)
    if not isinstance(value, dict):
        raise _refused(path + name, value, "an object")
    return cast(Mapping[str, Any], value)


def _check_format(value: object) -> None:
    if type(value) is int and value > FORMAT:
        raise TooNewError(
            f"{MANIFEST}: format is {shown(value)}, newer than the {FORMAT} that this version "
            "reads; upgrade it: pip install --upgrade c2rec"
        )
    _check_int("format", value, 1, FORMAT)


def _check_int(field: str, value: object, low: int, high: int) -> None:
    # not isinstance: JSON's true is no count
    if type(value) is not int or not low <= value <= high:
        raise _refused(field, value, f"a whole number from {low} to {high}")


def _check_number(field: str, value: object, low: float, high: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= cast(float, value) <= high:  # NaN is refused here
        raise _refused(field, value, f"a number from {low:g} to {high:g}")


def _check_name(field: str, value: object) -> None:
    """Check what becomes part of a path: it must not lead anywhere else."""
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= 100
        or value[0] in "._-"
        or not _NAME_LETTERS.issuperset(value)
    ):
        raise _refused(field, value, "1 to 100 of A–Z a–z 0–9 . _ -, the first of A–Z a–z 0–9")


def _check_producer(field: str, value: object) -> None:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 200:
        raise _refused(field, value, "up to 200 printable characters")


def _check_digest(field: str, value: object) -> None:
    if not isinstance(value, str) or len(value) != 64 or not _HEX_DIGITS.issuperset(value):
        raise _refused(field, value, "64 lower-case hex digits")


def _check_day(field: str, value: object) -> None:
    try:  # fromisoformat reads other forms too: only this one comes back the same
        right = isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        right = False
    if not right:
        raise _refused(field, value, "a day of the calendar, as in 2020-07-27")


def _check_moment(field: str, value: object) -> None:
    try:
        right = isinstance(value, str) and (
            datetime.fromisoformat(value).strftime("%Y-%m-%dT%H:%M:%SZ") == value
        )
    except ValueError:
        right = False
    if not right:
        raise _refused(field, value, "a time in UTC, as in 2026-01-31T09:30:00Z")
