"""What a store says itself: ``HOME/rules.toml`` and ``HOME/shelf.csv``, followed as they change.

Both are looked at before each answer, which costs two calls of ``stat``; a file that was replaced
counts from the next answer on. What can't be used is told, and the last that could be is kept.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from c2rec.runtime.errors import DataError
from c2rec.runtime.home.watch import FileStamp, file_stamp
from c2rec.runtime.rules.rules import Rules
from c2rec.runtime.rules.rules_file import (
    RULES,
    Parsed,
    parse_rules,
    read_rules_text,
    unknown_columns,
)
from c2rec.runtime.rules.shelf import SHELF, Shelf, read_shelf


class Said(NamedTuple):
    """What a store says now; another object where that is something else than before."""

    rules: Rules
    shelf: Shelf


class StoreSide:
    """Follows a store's own files; use it in one thread.

    Args:
        home: the home folder.
        shelf: what is read instead of ``HOME/shelf.csv``.
    """

    def __init__(self, home: Path, *, shelf: Path | None = None) -> None:
        self._rules_path, self._shelf_path = home / RULES, shelf or home / SHELF
        self._rules_stamp: FileStamp = None
        self._shelf_stamp: FileStamp = None
        self._parsed = Parsed(Rules(), ())
        self._good = Rules()
        self._shelf = Shelf()
        self._columns: frozenset[str] | None = None
        self._said = Said(Rules(), self._shelf)
        self._warnings: list[str] = []

    def look(self, columns: Callable[[], Iterable[str]]) -> Said:
        """Tell what the store says now.

        Args:
            columns: of the items of the release that answers; asked for where rules name any.
        """
        self._look_at_shelf()
        if self._look_at_rules() or self._other_columns(columns):
            self._said = Said(self._rules(columns), self._shelf)
        elif self._said.shelf is not self._shelf:  # or was, when the columns could not be read
            self._said = self._said._replace(shelf=self._shelf)
        return self._said

    def _look_at_shelf(self) -> None:
        stamp = file_stamp(self._shelf_path)
        if stamp == self._shelf_stamp:
            return
        self._shelf_stamp = stamp
        try:
            self._shelf = read_shelf(self._shelf_path)
        except DataError as error:  # what was read before is better than nothing
            self._warnings.append(f"{error}; prices and stock are those read before")

    def _look_at_rules(self) -> bool:
        stamp = file_stamp(self._rules_path)
        if stamp == self._rules_stamp:
            return False
        self._rules_stamp, self._columns = stamp, None
        self._parsed = Parsed(Rules(), ())
        if stamp is not None:
            try:
                text = read_rules_text(self._rules_path)
                self._parsed = parse_rules(text, file=str(self._rules_path), origin="store")
            except DataError as error:
                self._parsed = Parsed(Rules(), (str(error),))
        return True

    def _other_columns(self, columns: Callable[[], Iterable[str]]) -> bool:
        """Whether the release has other columns than the rules were checked against."""
        if not (self._parsed.rules.columns or self._good.columns):
            return False
        return self._columns != frozenset(columns())

    def _rules(self, columns: Callable[[], Iterable[str]]) -> Rules:
        """The rules of the file; where it can't be used, the last good ones and what it denies."""
        parsed, errors = self._parsed, list(self._parsed.errors)
        known: frozenset[str] = frozenset()
        if parsed.rules.columns or self._good.columns:
            known = self._columns = frozenset(columns())
            errors += unknown_columns(parsed.rules, known, str(self._rules_path))
        if not errors:
            self._good = parsed.rules
            return self._good
        good, denied = self._good.fitting(known), parsed.rules.fitting(known).deny
        instead = "the store's rules are those read before" if good else "the store has no rules"
        if denied:
            instead += ", and what this file denies is not shown"
        self._warnings.append("\n".join(errors) + f"; until it is mended, {instead}")
        return replace(good, deny=good.deny + denied)

    def take_warnings(self) -> list[str]:
        """What couldn't be used since this was last asked, for an operator to read."""
        taken, self._warnings = self._warnings, []
        return taken
