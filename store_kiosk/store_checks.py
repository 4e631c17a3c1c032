"""Whether what a store says itself can be used: its ``rules.toml`` and its ``shelf.csv``.

A kiosk serves on with a faulty file, by what was read before, and only its log says so.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from c2rec.runtime.errors import DataError, HomeError
from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.home.state import find_state
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.rules.rules import Rules
from c2rec.runtime.rules.rules_file import (
    RULES,
    parse_rules,
    read_rules_text,
    unknown_columns,
)
from c2rec.runtime.rules.shelf import SHELF, read_shelf
from c2rec.store_kiosk.findings import Check, Found

_MEND = "mend it, and rename it over the old one"


def _rules(home: Path) -> Found:
    """The store's rules, and those of the release."""
    with _active(home) as cache:
        columns = None if cache is None else frozenset[str]().union(*cache.every_metadata())
        known = None if cache is None else frozenset(cache.item_ids())
        text = None if cache is None else cache.about("rules")
    if text is not None:
        file = f"the release's {RULES}"
        parsed = parse_rules(text, file=file, origin="release")
        errors = [*parsed.errors, *unknown_columns(parsed.rules, columns or (), file)]
        if errors:
            yield (
                "warning",
                "\n".join(errors) + "; the release's other rules hold",
                "upgrade this kiosk, or have head office mend them and publish again",
            )
        else:
            yield "ok", f"{file}: {_count(parsed.rules)}", None
    path = home / RULES
    if not path.exists():
        return
    try:
        parsed = parse_rules(read_rules_text(path), file=str(path), origin="store")
        errors = list(parsed.errors)
        if columns is not None:
            errors += unknown_columns(parsed.rules, columns, str(path))
    except DataError as error:
        errors = [str(error)]
    if errors:
        yield "failure", "\n".join(errors) + "; the store's rules don't hold", _MEND
        return
    yield from _named(f"{path}: {_count(parsed.rules)}", _ids(parsed.rules), known)


def _shelf(home: Path) -> Found:
    path = home / SHELF
    if not path.exists():
        return
    try:
        shelf = read_shelf(path)
    except DataError as error:
        yield "failure", f"{error}; price and stock are not known", _MEND
        return
    with _active(home) as cache:
        known = None if cache is None else frozenset(cache.item_ids())
    sold_out = sum(offer.stock == 0 for offer in shelf.offers.values())
    text = f"{path}: {len(shelf.offers):,} items, {sold_out:,} of them sold out"
    yield from _named(text, frozenset(shelf.offers), known)


def _named(text: str, ids: frozenset[str], known: frozenset[str] | None) -> Found:
    """Say how many of some items the release knows; where it is none, they are other ids."""
    if not ids or known is None:
        yield "ok", text, None
    elif known.isdisjoint(ids):
        yield (
            "warning",
            f"{text}; the release knows none of the {len(ids):,} items that it names",
            "compare its item ids with those of the release: c2rec-kiosk recommend --json",
        )
    else:
        unknown = len(ids - known)
        yield "ok", f"{text}; the release doesn't know {unknown:,}" if unknown else text, None


def _ids(rules: Rules) -> frozenset[str]:
    """Items that any rule names."""
    every = (*rules.deny, *rules.allow, *rules.weigh, *rules.bought)
    return frozenset[str]().union(*(rule.selector.items or () for rule in every))


def _count(rules: Rules) -> str:
    every = (rules.deny, rules.allow, rules.weigh, rules.bought, rules.at_most)
    single = (rules.diversity, rules.repeats, rules.unknown_stock, rules.least_stock)
    number = sum(map(len, every)) + sum(each is not None for each in single)
    return f"{number:,} rules" if number != 1 else "1 rule"


@contextmanager
def _active(home: Path) -> Iterator[Cache | None]:
    """The active release; None where there is none, or where it can't be read."""
    try:
        state = find_state(home)
        cache = None if state is None else Cache(generation_path(home, state.active.name))
    except HomeError:  # which the check of the release tells
        cache = None
    if cache is None:
        yield None
        return
    with closing(cache):
        yield cache


STORE_CHECKS: dict[str, Check] = {"rules": _rules, "shelf": _shelf}
