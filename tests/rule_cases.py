"""Rules drawn at random, a shop to try them in, and what they come to, item by item in Python."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from c2rec.runtime.options import Options
from c2rec.runtime.records import CHANNELS, Channel
from c2rec.runtime.rules import Price
from tests.release import Release, make_release, reseal

ITEMS = 40
COLUMNS = ("category", "brand", "price")
TODAY = 18_480
"""2020-08-06, in days since 1970; the purchases were made in July."""
Table = dict[str, Any]


def make_shop(folder: Path, rules: Table | None = None) -> Release:
    """Write a bundle whose items have a category, most a brand, and some a price."""
    release = make_release(folder, items=ITEMS)
    rng = np.random.default_rng(7)
    lines = []
    for item_id, name in zip(release.item_ids, release.names, strict=True):
        row = {"item_id": item_id, "name": name, "category": f"c{rng.integers(5)}"}
        row["brand"] = f"b{rng.integers(4)}" if rng.random() < 0.8 else ""
        row["price"] = rng.choice(["", "cheap", "nan", "-1", "5", "10.0", "20", "40"])
        lines.append(json.dumps(row))
    (release.folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    if rules is not None:
        (release.folder / "rules.toml").write_text(to_toml(rules))
    reseal(release.folder)
    return release


def rows_of(release: Release) -> list[dict[str, str]]:
    """What the bundle says of its items."""
    return [json.loads(line) for line in (release.folder / "items.jsonl").read_text().splitlines()]


def to_toml(rules: Table) -> str:
    """Write a rules.toml."""
    lines = ["format = 1"]
    for name, value in rules.items():
        tables = value if isinstance(value, list) else [value]
        for table in tables:
            lines.append(f"[[{name}]]" if isinstance(value, list) else f"[{name}]")
            lines += [f"{key} = {_toml(each)}" for key, each in table.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {_toml(each)}' for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


# --- drawn at random


@st.composite
def selectors(draw: st.DrawFn, item_ids: list[str]) -> Table:
    """One or more conditions."""
    found: Table = {}
    kinds = draw(st.sets(st.sampled_from(["items", "where", "price"]), min_size=1, max_size=2))
    if "items" in kinds:
        ids = st.sampled_from([*item_ids, "no such"])
        found["items"] = draw(st.lists(ids, min_size=1, max_size=12))
    if "where" in kinds:
        found["where"] = draw(wheres())
    if "price" in kinds:
        low, high = sorted(draw(st.tuples(PRICES, PRICES)))
        found["price"] = draw(
            st.sampled_from([{"from": low, "to": high}, {"from": low}, {"to": high}])
        )
    return found


PRICES = st.sampled_from([0, 5, 9.99, 10.0, 15, 20, 100])


def wheres() -> st.SearchStrategy[Table]:
    """Values by column."""
    values = {"category": [f"c{n}" for n in range(6)], "brand": [f"b{n}" for n in range(5)]}
    return st.dictionaries(
        st.sampled_from(sorted(values)), st.none(), min_size=1, max_size=2
    ).flatmap(
        lambda columns: st.fixed_dictionaries(
            {
                column: st.lists(st.sampled_from(values[column]), min_size=1, max_size=3)
                for column in columns
            }
        )
    )


@st.composite
def rule_tables(draw: st.DrawFn, item_ids: list[str]) -> Table:
    """What a rules.toml may say."""
    found: Table = {}
    selector = selectors(item_ids)

    def some(extra: dict[str, st.SearchStrategy[Any]], most: int) -> list[Table]:
        each = st.tuples(selector, st.fixed_dictionaries(extra)).map(lambda two: two[0] | two[1])
        return draw(st.lists(each, max_size=most))

    tables = {
        "deny": some({}, 2),
        "allow": some({}, 2) if draw(st.booleans()) else [],
        "boost": some({"factor": st.sampled_from([1.5, 4, 50.0])}, 2),
        "bury": some({"factor": st.sampled_from([0.01, 0.5])}, 2),
        "bought": some({"days": st.sampled_from([0, 12, 25, 400])}, 2),
        "at_most": draw(
            st.lists(
                st.fixed_dictionaries(
                    {"per": st.sampled_from(COLUMNS), "n": st.integers(1, 4)},
                ),
                max_size=1,
            )
        ),
    }
    found |= {name: table for name, table in tables.items() if table}
    if draw(st.booleans()):
        found["diversity"] = {"weight": draw(st.sampled_from([0, 0.3, 0.8, 1]))}
    if draw(st.booleans()):
        found["session"] = {"repeats": draw(st.integers(1, 3))}
    stock = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "unknown": st.sampled_from(["shown", "hidden"]),
                "least": st.integers(1, 3),
            },
        )
    )
    if stock:
        found["stock"] = stock
    return found


def shelves(item_ids: list[str]) -> st.SearchStrategy[dict[str, tuple[float | None, int | None]]]:
    """Price and stock by item id."""
    offer = st.tuples(st.none() | PRICES, st.none() | st.integers(0, 4))
    return st.dictionaries(st.sampled_from([*item_ids, "no such"]), offer, max_size=30)


def write_shelf(path: Path, shelf: dict[str, tuple[float | None, int | None]]) -> None:
    """Write a shelf.csv, as a till would: beside the old one, and renamed."""
    import csv

    with path.with_suffix(".new").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "price", "stock"])
        for item_id, (price, stock) in shelf.items():
            cells = ["" if each is None else each for each in (price, stock)]
            writer.writerow([item_id, *cells])
    path.with_suffix(".new").replace(path)


# --- what it comes to


@dataclass
class Case:
    """A request, and all that holds for it."""

    release: Release
    of_release: Table
    of_store: Table
    shelf: dict[str, tuple[float | None, int | None]]
    customer: int | None
    basket: list[str]
    channel: Channel
    k: int
    options: Options
    slope: float = 1.0
    items: list[dict[str, str]] = field(default_factory=list)

    @property
    def tables(self) -> list[Table]:
        """Both files."""
        return [self.of_release, self.of_store]

    def price(self, row: int) -> float | None:
        """What an item costs."""
        on_shelf = self.shelf.get(self.release.item_ids[row], (None, None))[0]
        if on_shelf is not None:
            return on_shelf
        text = self.items[row]["price"]
        return float(text) if text in ("5", "10.0", "20", "40") else None

    def has(self, selector: Table, row: int) -> bool:
        """Whether a selector has an item."""
        if "items" in selector and self.release.item_ids[row] not in selector["items"]:
            return False
        for column, values in selector.get("where", {}).items():
            if self.items[row][column] not in values:
                return False
        if "price" in selector:
            price = self.price(row)
            low, high = selector["price"].get("from", 0), selector["price"].get("to", 1e99)
            return price is not None and low <= price <= high
        return True

    def single(self, table: str, name: str, default: Any) -> Any:
        """A value of which the store's wins."""
        for rules in reversed(self.tables):
            if name in rules.get(table, {}):
                return rules[table][name]
        return default

    def hidden(self, row: int) -> bool:
        """Whether rules, stock or wishes keep an item from everybody who asks so."""
        for rules in self.tables:
            if any(self.has(rule, row) for rule in rules.get("deny", [])):
                return True
            if "allow" in rules and not any(self.has(rule, row) for rule in rules["allow"]):
                return True
        stock = self.shelf.get(self.release.item_ids[row], (None, None))[1]
        if stock is None and self.single("stock", "unknown", "shown") == "hidden":
            return True
        if stock is not None and stock < self.single("stock", "least", 1):
            return True
        for column, values in self.options.where.items():
            if self.items[row][column] not in values:
                return True
        asked = self.options.price
        if asked is not None:
            price = self.price(row)
            return price is None or not asked.low <= price <= asked.high
        return False

    def left_out(self, row: int) -> bool:
        """Whether this shopper has it, had it too lately, or doesn't want it."""
        item_id = self.release.item_ids[row]
        if item_id in self.basket or item_id in self.options.dismissed:
            return True
        windows = [
            rule["days"]
            for rules in self.tables
            for rule in rules.get("bought", [])
            if self.has(rule, row)
        ]
        window = max(windows) if windows else 10**9
        return any(
            item == row and where == CHANNELS.index(self.channel) and max(TODAY - day, 0) < window
            for item, where, day in self.purchases()
        )

    def purchases(self) -> list[tuple[int, int, int]]:
        """Item, channel and day of what the customer bought."""
        if self.customer is None:
            return []
        first, last = self.release.customers["history_offsets"][self.customer : self.customer + 2]
        days = self.release.customers["history_days"][first:last].tolist()
        history = self.release.history(self.customer)
        return [(item, where, day) for (item, where), day in zip(history, days, strict=True)]

    def factor(self, row: int) -> float:
        """What its odds are multiplied by."""
        product = 1.0
        for rules in self.tables:
            for rule in [*rules.get("boost", []), *rules.get("bury", [])]:
                if self.has(rule, row):
                    product *= rule["factor"]
        return product

    def values(self) -> np.ndarray:
        """What items are ranked by."""
        release, number = self.release, CHANNELS.index(self.channel)
        factors = np.array([self.factor(row) for row in range(ITEMS)])
        history = [] if self.customer is None else release.history(self.customer)
        rows = sorted({release.item_ids.index(i) for i in self.basket if i in release.item_ids})
        history += [(row, number) for row in rows if (row, number) not in history]
        if not history:
            sold = release.items["popularity"][number]
            return (sold * factors.astype(np.float32)).astype(np.float64)
        scores, _ = release.score(*release.encode(history), number, history)
        return scores + np.log(factors) / self.slope

    def caps(self) -> list[tuple[str, int]]:
        """Column and n of each."""
        found = [
            (rule["per"], rule["n"]) for rules in self.tables for rule in rules.get("at_most", [])
        ]
        return [*found, *self.options.at_most.items()]

    def expected(self) -> list[int]:
        """Rows of the answer, chosen one by one from the ranking of all items."""
        values = self.values()
        ranking = sorted(range(ITEMS), key=lambda row: (-values[row], row))
        ranking = [row for row in ranking if not self.hidden(row) and not self.left_out(row)]
        most = self.single("session", "repeats", 10**9)
        shown = self.options.times_shown
        stale = [row for row in ranking if shown.get(self.release.item_ids[row], 0) >= most]
        fresh = [row for row in ranking if row not in stale]
        weight = self.options.diversity
        if weight is None:
            weight = self.single("diversity", "weight", 0)
        chosen: list[int] = []
        if weight:
            pool = fresh[: max(50, 5 * self.k)]
            while len(chosen) < self.k:
                open_ = [row for row in pool if row not in chosen and self.room(row, chosen)]
                if not open_:
                    break
                chosen.append(self.most_marginal(open_, chosen, pool, values, weight))
        for row in [*fresh, *stale]:
            if len(chosen) < self.k and row not in chosen and self.room(row, chosen):
                chosen.append(row)
        return chosen

    def room(self, row: int, chosen: list[int]) -> bool:
        """Whether no cap is in the way."""
        for column, n in self.caps():
            value = self.items[row][column]
            if value and sum(self.items[other][column] == value for other in chosen) >= n:
                return False
        return True

    def most_marginal(
        self,
        open_: list[int],
        chosen: list[int],
        pool: list[int],
        values: np.ndarray,
        weight: float,
    ) -> int:
        """The next item by maximal marginal relevance."""
        vectors = self.release.items["item_embeddings"].astype(np.float64)
        low, high = min(values[pool]), max(values[pool])

        def gain(row: int) -> float:
            relevance = (values[row] - low) / (high - low) if high > low else 1.0
            alike = [
                vectors[row] @ vectors[other] / np.linalg.norm(vectors[row])
                / np.linalg.norm(vectors[other])
                for other in chosen
            ]  # fmt: skip
            return float((1 - weight) * relevance - weight * max(alike, default=0.0))

        return max(open_, key=lambda row: (round(gain(row), 9), -pool.index(row)))


@st.composite
def options(draw: st.DrawFn, item_ids: list[str]) -> Options:
    """What a request may ask for."""
    low, high = sorted(draw(st.tuples(PRICES, PRICES)))
    ids = st.sampled_from(item_ids)
    return Options(
        where=draw(st.just({}) | wheres()),
        price=draw(st.none() | st.just(Price(low, high))),
        at_most=draw(
            st.dictionaries(st.sampled_from(["category", "brand"]), st.integers(1, 4), max_size=1)
        ),
        diversity=draw(st.none() | st.sampled_from([0.0, 0.5])),
        dismissed=draw(st.lists(ids, max_size=4)),
        times_shown=draw(st.dictionaries(ids, st.integers(1, 4), max_size=12)),
    )
