"""Reading JSON documents from outside: every field is checked as it is taken."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from c2rec.runtime.errors import ReleaseError, TooNewError

FORMAT = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
MOMENT = "%Y-%m-%dT%H:%M:%SZ"
"""How times are written, in UTC."""


class Fields:
    """An object of a JSON document.

    Every method takes a field's name and raises ReleaseError where the field is missing or wrong;
    the message names document, field and value, and tells what is allowed.

    Args:
        where: the document's name, and the path in it.
        values: the object.
    """

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        self.where = where
        self._values = values

    def refused(self, name: str, allowed: str) -> ReleaseError:
        """Make the error that says a field is not what it may be."""
        text = repr(self._values[name]) if name in self._values else "missing"
        text = text if len(text) <= 80 else text[:79] + "…"
        return ReleaseError(f"{self.where}: {name} is {text}; allowed: {allowed}")

    def text(self, name: str, *, longest: int = 200) -> str:
        """A string that is not empty, of printable characters."""
        value = self._values.get(name)
        if not isinstance(value, str) or not 1 <= len(value) <= longest or not value.isprintable():
            raise self.refused(name, f"1 to {longest} printable characters")
        return value

    def digest(self, name: str) -> str:
        """A sha256."""
        value = self._values.get(name)
        if not isinstance(value, str) or not _DIGEST.fullmatch(value):
            raise self.refused(name, "64 lower-case hex digits")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        """A whole number."""
        value = self._values.get(name)
        if type(value) is not int or not low <= value <= high:  # JSON's true is no number
            raise self.refused(name, f"a whole number from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """A number."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refused(name, f"a number from {low} to {high}")
        if not low <= value <= high:  # NaN is refused here
            raise self.refused(name, f"a number from {low} to {high}")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._values.get(name)
        if not isinstance(value, bool):
            raise self.refused(name, "true or false")
        return value

    def moment(self, name: str) -> datetime:
        """A time in UTC, whole seconds."""
        value = self._values.get(name)
        try:
            found = datetime.strptime(value, MOMENT).replace(tzinfo=UTC)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise self.refused(name, "a time in UTC, as in 2026-01-31T09:30:00Z") from error
        if found.strftime(MOMENT) != value:
            raise self.refused(name, "a time in UTC, as in 2026-01-31T09:30:00Z")
        return found

    def object(self, name: str) -> "Fields":
        """An object."""
        value = self._values.get(name)
        if not isinstance(value, dict):
            raise self.refused(name, "an object")
        return Fields(f"{self.where}: {name}", value)

    def objects(self, name: str, *, longest: int) -> list["Fields"]:
        """A list of objects."""
        value = self._values.get(name)
        right = isinstance(value, list) and len(value) <= longest
        if not right or not all(isinstance(each, dict) for each in value):  # type: ignore[union-attr]
            raise self.refused(name, f"a list of at most {longest} objects")
        found: list[dict[str, Any]] = value  # type: ignore[assignment]
        return [Fields(f"{self.where}: {name}[{i}]", each) for i, each in enumerate(found)]

    def is_null(self, name: str) -> bool:
        """Whether a field is there, and null."""
        if name not in self._values:
            raise self.refused(name, "null or a value")
        return self._values[name] is None

    def names(self) -> Iterator[str]:
        """Names of all fields."""
        return iter(self._values)

    def value(self, name: str) -> Any:
        """A field's value, unchecked."""
        if name not in self._values:
            raise self.refused(name, "a value")
        return self._values[name]


def read_document(where: str, content: bytes | str) -> Fields:
    """Read a document of format 1.

    Args:
        where: its name, for messages.
        content: its bytes, UTF-8.

    Raises:
        ReleaseError: it is no JSON object, or of another format.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ReleaseError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ReleaseError(f"{where} is {values!r:.80}; allowed: a JSON object")
    fields = Fields(where, values)
    if type(values.get("format")) is int and values["format"] > FORMAT:
        raise TooNewError(
            f"{where}: format is {values['format']}, newer than the {FORMAT} that this version "
            "reads; upgrade it: pip install --upgrade c2rec"
        )
    fields.integer("format", FORMAT, FORMAT)
    return fields


def moment_text(moment: datetime) -> str:
    """Write a time as documents do: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime(MOMENT)
