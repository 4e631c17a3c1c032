"""Fields of manifest.json, checked one by one; ``manifest.py`` and ``experiment.py`` share them.

Nothing here imports numpy, so that a command that only reports stays quick.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.records import CHANNELS

MANIFEST = "manifest.json"

AttentionName: TypeAlias = Literal["softmax", "sigmoid"]

_NAME_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_HEX_DIGITS = frozenset("0123456789abcdef")


class ChannelCalibration(NamedTuple):
    """Makes probabilities of scores: sigmoid(slope * score + intercept)."""

    slope: float
    """Above 0: a greater score is a greater probability."""
    intercept: float


Calibration: TypeAlias = tuple[ChannelCalibration, ChannelCalibration]
"""Offline and online."""


def parse_calibration(fields: Mapping[str, Any], path: str = "") -> Calibration | None:
    """Read the optional field ``calibration``; ``path`` is where it stands, for messages."""
    if fields.get("calibration") is None:
        return None
    channels = get_object(fields, "calibration", path)
    here = f"{path}calibration."
    offline, online = (get_object(channels, name, here) for name in CHANNELS)
    return (
        ChannelCalibration(
            get(offline, "slope", f"{here}offline."), get(offline, "intercept", f"{here}offline.")
        ),
        ChannelCalibration(
            get(online, "slope", f"{here}online."), get(online, "intercept", f"{here}online.")
        ),
    )


def calibration_document(calibration: Calibration) -> dict[str, Any]:
    """Arrange as JSON."""
    pairs = zip(CHANNELS, calibration, strict=True)
    return {channel: each._asdict() for channel, each in pairs}


def check_model(
    attention: object,
    embedding_size: object,
    space: object,
    calibration: Calibration | None,
    path: str = "",
) -> None:
    """Check what a manifest says of a model; ``path`` is where it stands, for messages."""
    if attention not in get_args(AttentionName):
        allowed_names = " or ".join(map(repr, get_args(AttentionName)))
        raise refused(f"{path}attention", attention, allowed_names)
    # Far above any retailer's, and low enough that no product of lengths overflows int64.
    check_int(f"{path}embedding_size", embedding_size, 1, 4096)
    check_digest(f"{path}space", space)
    for channel, each in zip(CHANNELS, calibration or (), strict=False):
        check_number(f"{path}calibration.{channel}.slope", each.slope, 1e-6, 1e6)
        check_number(f"{path}calibration.{channel}.intercept", each.intercept, -1e6, 1e6)


def shown(value: object) -> str:
    """A value as an error message shows it: escaped, and cut at 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def refused(field: str, value: object, allowed: str) -> ReleaseError:
    """Make the error that says a field is not what it may be."""
    return ReleaseError(f"{MANIFEST}: {field} is {shown(value)}; allowed: {allowed}")


def get(fields: Mapping[str, Any], name: str, path: str = "") -> Any:
    """A field that must be there."""
    if name not in fields:
        raise ReleaseError(f"{MANIFEST}: {path}{name} is missing")
    return fields[name]


def get_object(fields: Mapping[str, Any], name: str, path: str = "") -> Mapping[str, Any]:
    """A field that must be an object."""
    value = get(fields, name, path)
    if not isinstance(value, dict):
        raise refused(path + name, value, "an object")
    return cast(Mapping[str, Any], value)


def check_int(field: str, value: object, low: int, high: int) -> None:
    """Check a whole number."""
    # not isinstance: JSON's true is no count
    if type(value) is not int or not low <= value <= high:
        raise refused(field, value, f"a whole number from {low} to {high}")


def check_number(field: str, value: object, low: float, high: float) -> None:
    """Check a number."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= cast(float, value) <= high:  # NaN is refused here
        raise refused(field, value, f"a number from {low:g} to {high:g}")


def check_name(field: str, value: object) -> None:
    """Check what becomes part of a path: it must not lead anywhere else."""
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= 100
        or value[0] in "._-"
        or not _NAME_LETTERS.issuperset(value)
    ):
        raise refused(field, value, "1 to 100 of A–Z a–z 0–9 . _ -, the first of A–Z a–z 0–9")


def check_producer(field: str, value: object) -> None:
    """Check what made a release."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > 200:
        raise refused(field, value, "up to 200 printable characters")


def check_digest(field: str, value: object) -> None:
    """Check a sha256."""
    if not isinstance(value, str) or len(value) != 64 or not _HEX_DIGITS.issuperset(value):
        raise refused(field, value, "64 lower-case hex digits")


def check_day(field: str, value: object) -> None:
    """Check a day."""
    try:  # fromisoformat reads other forms too: only this one comes back the same
        right = isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        right = False
    if not right:
        raise refused(field, value, "a day of the calendar, as in 2020-07-27")


def check_moment(field: str, value: object) -> None:
    """Check a time in UTC."""
    try:
        right = isinstance(value, str) and (
            datetime.fromisoformat(value).strftime("%Y-%m-%dT%H:%M:%SZ") == value
        )
    except ValueError:
        right = False
    if not right:
        raise refused(field, value, "a time in UTC, as in 2026-01-31T09:30:00Z")
