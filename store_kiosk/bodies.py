"""Reading the bodies of requests: small, JSON, and every field checked."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from c2rec.runtime.errors import EventError
from c2rec.runtime.events.events import MAX_ITEMS, MAX_PRICE, MAX_QUANTITY, EventItem
from c2rec.runtime.rules.options import MOST_N
from c2rec.runtime.rules.rules import Price
from c2rec.store_kiosk.problems import RefusedError

MOST_BYTES = 65_536
"""A longer body is refused before it is read."""
LONGEST_CODE = 128
"""Characters of a scanned code."""
LONGEST_ID = 256
"""Characters of an item's id."""
MOST_IDS = 2000
"""Ids in a list."""

MOST_COLUMNS = 20
"""Columns that a request may look at."""
MOST_PRICE = 1e12

MOST_BOUGHT_BYTES = 10_000
"""Of the ids of all items that are bought at once, in UTF-8: they are one event."""

_RECEIPT = re.compile("[A-Za-z0-9._:/-]{1,64}")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_Choice = TypeVar("_Choice", bound=str)


class Body:
    """An object; every method takes a field's name, and refuses what it can't use."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def only_has(self, names: Sequence[str]) -> None:
        """Refuse fields that have no meaning here: they may be misspelt."""
        if set(self._values) - set(names):
            allowed = ", ".join(names) or "none"
            raise RefusedError("bad-field", f"there are unknown fields; allowed: {allowed}")

    def code(self) -> str:
        """What a scanner read."""
        value = self._values.get("code")
        allowed = f"allowed: 1 to {LONGEST_CODE} characters, none that controls"
        if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_CODE:
            raise RefusedError("bad-field", f"code is of another kind or length; {allowed}")
        if _CONTROLS.search(value) or not _is_text(value):
            raise RefusedError("bad-field", f"code has control characters; {allowed}")
        return value

    def item_id(self) -> str:
        """The id of an item."""
        return _id("item_id", self._values.get("item_id"))

    def ids(self, name: str) -> list[str] | None:
        """A list of ids; None where there is none."""
        values = self._values.get(name)
        if values is None:
            return None
        if not isinstance(values, list) or len(values) > MOST_IDS:
            raise RefusedError("bad-field", f"{name} is not allowed: a list of up to {MOST_IDS}")
        return [_id(name, each) for each in values]

    def bought(self) -> tuple[EventItem, ...]:
        """Items with how many and for how much each."""
        allowed = f"allowed: 1 to {MAX_ITEMS} objects"
        values = self._values.get("items")
        if not isinstance(values, list) or not 1 <= len(values) <= MAX_ITEMS:
            raise RefusedError("bad-field", f"items is not allowed; {allowed}")
        items = []
        for value in values:
            if not isinstance(value, dict):
                raise RefusedError("bad-field", f"items is not allowed; {allowed}")
            line = Body(value)
            line.only_has(("item_id", "quantity", "price"))
            quantity = line.whole("quantity", 1, 1, MAX_QUANTITY)
            try:
                items.append(
                    EventItem(item=line.item_id(), quantity=quantity, price=value.get("price"))
                )
            except EventError as error:  # its message has what was sent
                raise RefusedError(
                    "bad-field",
                    "an item_id has control characters or spaces around it, or a price is no "
                    f"number from 0 to {MAX_PRICE:.0f}",
                ) from error
        if sum(len(each.item.encode()) for each in items) > MOST_BOUGHT_BYTES:
            raise RefusedError("bad-field", f"items: allowed: ids of {MOST_BOUGHT_BYTES} bytes")
        return tuple(items)

    def receipt(self) -> str | None:
        """The till's own name of a purchase; None where there is none."""
        value = self._values.get("receipt")
        if value is None or (isinstance(value, str) and _RECEIPT.fullmatch(value)):
            return value
        allowed = "1 to 64 letters, digits, . _ : / and -"
        raise RefusedError("bad-field", f"receipt is not allowed: {allowed}")

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number."""
        value = self._values.get(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # to JSON, 6.0 is a whole number
        if type(value) is not int or not low <= value <= high:  # JSON's true is no number
            raise RefusedError("bad-field", f"{name} is not allowed: {low} to {high}")
        return value

    def share(self, name: str) -> float | None:
        """A number from 0 to 1; None where there is none."""
        value = self._values.get(name)
        return None if value is None else _number(name, value, 1)

    def price(self, name: str) -> Price | None:
        """A range of prices; None where there is none."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict) or not set(value) <= {"from", "to"}:
            raise RefusedError("bad-field", f"{name} is not allowed: an object with from and to")
        ends = Price()
        low = _number(name, value.get("from", ends.low), MOST_PRICE)
        high = _number(name, value["to"], MOST_PRICE) if "to" in value else ends.high
        return Price(min(low, high), max(low, high))

    def categories(self, name: str) -> dict[str, tuple[str, ...]]:
        """Values by column; empty where there are none."""
        return {
            column: tuple(self._texts(name, values))
            for column, values in self._by_column(name).items()
        }

    def counts(self, name: str) -> dict[str, int]:
        """Counts by column; empty where there are none."""
        columns = self._by_column(name)
        # each under the field's own name: an error never repeats what was sent
        return {c: Body({name: n}).whole(name, 0, 1, MOST_N) for c, n in columns.items()}

    def _by_column(self, name: str) -> Mapping[str, Any]:
        value = self._values.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or len(value) > MOST_COLUMNS:
            raise RefusedError(
                "bad-field", f"{name} is not allowed: an object of up to {MOST_COLUMNS} columns"
            )
        return value

    def _texts(self, name: str, values: Any) -> list[str]:
        if not isinstance(values, list) or not 1 <= len(values) <= MOST_IDS:
            raise RefusedError("bad-field", f"{name} is not allowed: lists of 1 to {MOST_IDS}")
        return [_id(name, each) for each in values]

    def choice(self, name: str, default: _Choice, allowed: Sequence[_Choice]) -> _Choice:
        """One of a few words."""
        value = self._values.get(name, default)
        for each in allowed:
            if value == each:
                return each
        raise RefusedError("bad-field", f"{name} is not allowed: {', '.join(allowed)}")


async def read_body(request: Request, names: Sequence[str]) -> Body:
    """Read a request's body, an object with no other fields than these.

    Raises:
        RefusedError: it is too large, no JSON, or no such object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError("not-json")
    if int(request.headers.get("content-length", "0")) > MOST_BYTES:  # digits: h11 saw to that
        raise RefusedError("too-large", f"allowed: {MOST_BYTES} bytes")
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MOST_BYTES:
            raise RefusedError("too-large", f"allowed: {MOST_BYTES} bytes")
    try:
        values = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise RefusedError("bad-json") from error
    if not isinstance(values, dict):
        raise RefusedError("bad-json")
    body = Body(values)
    body.only_has(names)
    return body


def _id(name: str, value: object) -> str:
    if isinstance(value, str) and 1 <= len(value) <= LONGEST_ID and _is_text(value):
        return value
    raise RefusedError("bad-field", f"{name} is not allowed: ids of 1 to {LONGEST_ID} characters")


def _number(name: str, value: Any, high: float) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= high:  # NaN neither
        raise RefusedError("bad-field", f"{name} is not allowed: a number from 0 to {high:g}")
    return float(value)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half a character, which JSON can spell
        return False
    return True
