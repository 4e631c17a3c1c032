"""Reading ``rules.toml``; ``docs/rules.md`` is the contract.

A file with an error anywhere is not used. What could be read of it is given all the same, for what
a store denies must not be shown because of a slip in another line.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

from c2rec.runtime.errors import DataError
from c2rec.runtime.rules.rules import (
    Cap,
    Kind,
    Origin,
    Price,
    Rule,
    Rules,
    Selector,
    UnknownStock,
)

RULES = "rules.toml"
FORMAT = 1
RULES_BYTES = 1 << 20
"""A longer file is refused unread."""
MOST_RULES = 500
MOST_ERRORS = 20
"""So many are told one by one."""
MOST_N = 1000
MOST_DAYS = 36_500
MOST_STOCK = 1_000_000
GREATEST_FACTOR = 1000.0

_TABLES = ("deny", "allow", "boost", "bury", "bought", "at_most")
_SINGLE = ("diversity", "session", "stock")
_CONDITIONS = ("items", "where", "price")
_Given = ParamSpec("_Given")
_Value = TypeVar("_Value")


class Parsed(NamedTuple):
    """What a file says, as far as it could be read."""

    rules: Rules
    errors: tuple[str, ...]
    """What is wrong with it; each names file, rule, field, value and what is allowed."""
    newer: bool = False
    """Whether it is of a format that this version doesn't know."""


def parse_rules(text: str, *, file: str, origin: Origin) -> Parsed:
    """Read the text of a rules.toml, and all that is wrong with it.

    Args:
        text: of the file.
        file: what it is called in messages.
        origin: who made it.
    """
    if len(text.encode(errors="replace")) > RULES_BYTES:
        return Parsed(Rules(), (f"{file}: is longer than the {RULES_BYTES:,} bytes allowed",))
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError; numbers of 5,000 digits
        return Parsed(Rules(), (f"{file}: is not valid TOML: {error}",))
    return _Reader(file, origin, document).read()


def check_rules(text: str, *, file: str, origin: Origin) -> Rules:
    """Read the text of a rules.toml in which everything must be right.

    Raises:
        DataError: something is wrong.
    """
    parsed = parse_rules(text, file=file, origin=origin)
    if parsed.errors:
        raise DataError("\n".join(parsed.errors))
    return parsed.rules


def read_rules_text(path: Path) -> str:
    """Read a rules.toml.

    Raises:
        DataError: it can't be read, is too long or no UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(RULES_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    if len(content) > RULES_BYTES:
        raise DataError(f"{path}: is longer than the {RULES_BYTES:,} bytes allowed")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is no UTF-8") from error


def unknown_columns(rules: Rules, columns: Iterable[str], file: str) -> list[str]:
    """Messages about rules that look at columns which the items don't have."""
    known = sorted(columns)
    looked_at: list[tuple[str, str]] = [
        (f"{rule.kind} {_called(rule.number, rule.name)}: where", column)
        for rule in (*rules.deny, *rules.allow, *rules.weigh, *rules.bought)
        for column in rule.selector.columns
    ]
    looked_at += [
        (f"at_most {_called(cap.number, cap.name)}: per", cap.column) for cap in rules.at_most
    ]
    return [
        f"{file}: {where}: the items have no column {column!r}; "
        f"allowed: {', '.join(known) or 'none: the items have no further columns'}"
        for where, column in looked_at
        if column not in known
    ]


class _Reader:
    """Reads a document; collects what is wrong."""

    def __init__(self, file: str, origin: Origin, document: Mapping[str, Any]) -> None:
        self._file, self._origin, self._document = file, origin, document
        self._errors: list[str] = []

    def read(self) -> Parsed:
        """Read all of it."""
        self._attempt(self._check_head)
        kinds = {kind: self._rules(kind) for kind in _TABLES[:-1]}
        caps = [self._attempt(self._cap, *each) for each in self._entries("at_most")]
        stock = self._attempt(self._table, "stock", ("unknown", "least")) or {}
        rules = Rules(
            deny=kinds["deny"],
            allow=kinds["allow"],
            weigh=kinds["boost"] + kinds["bury"],
            bought=kinds["bought"],
            at_most=tuple(cap for cap in caps if cap is not None),
            diversity=self._attempt(self._diversity),
            repeats=self._attempt(self._repeats),
            unknown_stock=self._attempt(_unknown_stock, stock),
            least_stock=self._attempt(_least_stock, stock),
        )
        found = self._document.get("format")
        newer = type(found) is int and found > FORMAT
        told, more = self._errors[:MOST_ERRORS], len(self._errors) - MOST_ERRORS
        if more > 0:
            told.append(f"{self._file}: and {more:,} more")
        return Parsed(rules, tuple(told), newer)

    def _attempt(
        self, make: Callable[_Given, _Value | None], *args: _Given.args, **kwargs: _Given.kwargs
    ) -> _Value | None:
        try:
            return make(*args, **kwargs)
        except DataError as error:
            self._errors.append(f"{self._file}: {error}")
            return None

    def _diversity(self) -> float | None:
        table = self._table("diversity", ("weight",))
        return None if table is None else _number("diversity", table, "weight", 0, 1)

    def _repeats(self) -> int | None:
        table = self._table("session", ("repeats",))
        return None if table is None else _whole("session", table, "repeats", 1, MOST_N)

    def _check_head(self) -> None:
        known = ("format", *_TABLES, *_SINGLE)
        for name in self._document:
            if name not in known:
                raise DataError(f"{name!r} is unknown; allowed: {', '.join(known)}")
        if "format" not in self._document:
            raise DataError(f"format is missing; allowed: {FORMAT}")
        found = self._document["format"]
        if type(found) is int and found > FORMAT:
            raise DataError(
                f"format is {found}, newer than the {FORMAT} that this version reads; "
                "upgrade it: pip install --upgrade c2rec"
            )
        if type(found) is not int or found != FORMAT:
            raise _refused("format", found, str(FORMAT))
        count = sum(
            len(each) for name in _TABLES if isinstance(each := self._document.get(name), list)
        )
        if count > MOST_RULES:
            raise DataError(f"there are {count} rules; allowed: {MOST_RULES} at most")

    def _table(self, name: str, fields: Sequence[str]) -> Mapping[str, Any] | None:
        if name not in self._document:
            return None
        value = self._document[name]
        if not isinstance(value, dict) or not value:
            raise _refused(name, value, f"one table, [{name}], with {' or '.join(fields)}")
        _only(name, value, fields)
        return cast(Mapping[str, Any], value)

    def _entries(self, kind: str) -> list[tuple[int, Any]]:
        value = self._document.get(kind, [])
        if not isinstance(value, list):
            self._errors.append(f"{self._file}: {_refused(kind, value, f'tables [[{kind}]]')}")
            # [deny] with single brackets: what it denies is not shown all the same
            return [(1, value)] if isinstance(value, dict) else []
        return list(enumerate(value, start=1))

    def _rules(self, kind: str) -> tuple[Rule, ...]:
        found = []
        for number, entry in self._entries(kind):
            rule = self._attempt(self._rule, cast(Kind, kind), number, entry)
            found.append(self._all_the_same(number, entry) if rule is None else rule)
        return tuple(rule for rule in found if rule is not None and rule.kind == kind)

    def _all_the_same(self, number: int, entry: Any) -> Rule | None:
        """What a faulty rule would deny, where that can be read."""
        with suppress(DataError):
            if isinstance(entry, dict):
                return Rule("deny", number, "", self._origin, _selector("", entry))
        return None

    def _rule(self, kind: Kind, number: int, entry: Any) -> Rule:
        where, name = _head(kind, number, entry)
        own = {"boost": ("factor",), "bury": ("factor",), "bought": ("days",)}.get(kind, ())
        _only(where, entry, ("name", *_CONDITIONS, *own))
        rule = Rule(kind, number, name, self._origin, _selector(where, entry))
        if kind == "bought":
            days = _whole(where, entry, "days", 0, MOST_DAYS)
            return Rule(kind, number, name, self._origin, rule.selector, days=days)
        if kind in ("boost", "bury"):
            factor = _factor(kind, where, entry)
            return Rule(kind, number, name, self._origin, rule.selector, factor=factor)
        return rule

    def _cap(self, number: int, entry: Any) -> Cap:
        where, name = _head("at_most", number, entry)
        _only(where, entry, ("name", "per", "n"))
        column = entry.get("per")
        if not isinstance(column, str) or not column:
            raise _refused(f"{where}: per", column, 'a column of the items, as in "category"')
        return Cap(number, name, self._origin, column, _whole(where, entry, "n", 1, MOST_N))


def _head(kind: str, number: int, entry: Any) -> tuple[str, str]:
    """How a rule is spoken of in messages, and its name."""
    if not isinstance(entry, dict):
        raise _refused(f"{kind} {number}", entry, f"a table, [[{kind}]]")
    name = entry.get("name", "")
    if not isinstance(name, str) or ("name" in entry and not 1 <= len(name) <= 80):
        raise _refused(f"{kind} {number}: name", name, "1 to 80 printable characters")
    if not name.isprintable():
        raise _refused(f"{kind} {number}: name", name, "1 to 80 printable characters")
    return f"{kind} {_called(number, name)}", name


def _called(number: int, name: str) -> str:
    return f"{number} ({name!r})" if name else str(number)


def _selector(where: str, entry: Mapping[str, Any]) -> Selector:
    if not any(name in entry for name in _CONDITIONS):
        raise DataError(
            f"{where}: says of no items what it is about; allowed: one or more of "
            f"{', '.join(_CONDITIONS)}"
        )
    items = entry.get("items")
    if items is not None and not _texts(items):
        raise _refused(f"{where}: items", items, "a list of one or more item ids, in quotes")
    price = _price(f"{where}: price", entry["price"]) if "price" in entry else None
    conditions = _where(f"{where}: where", entry["where"]) if "where" in entry else ()
    return Selector(None if items is None else frozenset(items), conditions, price)


def _where(field: str, value: Any) -> tuple[tuple[str, frozenset[str]], ...]:
    if not isinstance(value, dict) or not value:
        raise _refused(field, value, 'a table such as {category = ["shoes", "bags"]}')
    found = []
    for column, values in value.items():
        listed = [values] if isinstance(values, str) else values
        if not _texts(listed):
            raise _refused(f"{field}: {column}", values, "a text in quotes, or a list of such")
        found.append((column, frozenset(listed)))
    return tuple(sorted(found, key=lambda each: each[0]))


def _price(field: str, value: Any) -> Price:
    if not isinstance(value, dict) or not value:
        raise _refused(field, value, "a table such as {from = 10, to = 50}")
    _only(field, value, ("from", "to"))
    low = _number(field, value, "from", 0, 1e12) if "from" in value else 0.0
    high = _number(field, value, "to", 0, 1e12) if "to" in value else float("inf")
    if low > high:
        raise _refused(f"{field}: from", low, f"a number up to to, {high}")
    return Price(low, high)


def _factor(kind: Kind, where: str, entry: Mapping[str, Any]) -> float:
    factor = _number(where, entry, "factor", 1 / GREATEST_FACTOR, GREATEST_FACTOR)
    if kind == "boost" and factor <= 1:
        raise _refused(f"{where}: factor", factor, "above 1 to 1000; less than 1 is a [[bury]]")
    if kind == "bury" and factor >= 1:
        raise _refused(f"{where}: factor", factor, "0.001 to below 1; above 1 is a [[boost]]")
    return factor


def _unknown_stock(stock: Mapping[str, Any]) -> UnknownStock | None:
    if "unknown" not in stock:
        return None
    if stock["unknown"] not in ("shown", "hidden"):
        raise _refused("stock: unknown", stock["unknown"], '"shown" or "hidden"')
    return cast(UnknownStock, stock["unknown"])


def _least_stock(stock: Mapping[str, Any]) -> int | None:
    return _whole("stock", stock, "least", 1, MOST_STOCK) if "least" in stock else None


def _only(where: str, entry: Mapping[str, Any], names: Iterable[str]) -> None:
    for name in entry:
        if name not in names:
            raise DataError(f"{where}: {name!r} is unknown; allowed: {', '.join(names)}")


def _texts(value: Any) -> bool:
    listed = isinstance(value, (list, tuple)) and len(value) > 0
    return listed and all(isinstance(each, str) and each for each in value)


def _number(where: str, entry: Mapping[str, Any], name: str, low: float, high: float) -> float:
    value = entry.get(name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= cast(float, value) <= high:  # NaN is refused here
        raise _refused(f"{where}: {name}", value, f"a number from {low:g} to {high:g}")
    return float(cast(float, value))


def _whole(where: str, entry: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = entry.get(name)
    if type(value) is not int or not low <= value <= high:  # TOML's true is no number
        raise _refused(f"{where}: {name}", value, f"a whole number from {low} to {high}")
    return value


def _refused(field: str, value: object, allowed: str) -> DataError:
    if value is None:
        return DataError(f"{field} is missing; allowed: {allowed}")
    text = repr(value)
    cut = text if len(text) <= 80 else text[:79] + "…"
    return DataError(f"{field} is {cut}; allowed: {allowed}")
