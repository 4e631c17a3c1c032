"""Rules drawn at random, a shop to try them in, and what they come to, item by item in Python."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import numpy as np

from c2rec.runtime.records import CHANNELS, Channel
from c2rec.runtime.rules.options import Options
from c2rec.runtime.rules.rules import Price
from tests.release import Release, make_release, reseal

ITEMS = 40
COLUMNS = ("category", "brand", "price")
TODAY = 18_480
"""2020-08-06, in days since 1970; the purchases were made in July."""
Table: TypeAlias = dict[str, Any]
Shelf: TypeAlias = dict[str, tuple[float | None, int | None]]


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


# --- drawn at random: by a seed, for what Hypothesis draws by itself is mostly empty


PRICES = (0, 5, 9.99, 10.0, 15, 20, 100)
VALUES = {"category": [f"c{n}" for n in range(6)], "brand": [f"b{n}" for n in range(5)]}


def some(rng: Random, most: int, make: Callable[[], Table]) -> list[Table]:
    """None or a few rules."""
    return [make() for _ in range(rng.choice([0, 0, 1, most]))]


def where(rng: Random) -> Table:
    """Values by column."""
    columns = rng.sample(sorted(VALUES), rng.choice([1, 1, 2]))
    return {column: rng.sample(VALUES[column], rng.randint(1, 3)) for column in columns}


def selector(rng: Random, item_ids: list[str]) -> Table:
    """One or two conditions."""
    low, high = sorted(rng.sample(PRICES, 2))
    made: Table = {
        "items": rng.sample([*item_ids, "no such"], rng.randint(1, 15)),
        "where": where(rng),
        "price": rng.choice([{"from": low, "to": high}, {"from": low}, {"to": high}]),
    }
    return {kind: made[kind] for kind in rng.sample(sorted(made), rng.choice([1, 1, 2]))}


def rule_tables(rng: Random, item_ids: list[str]) -> Table:
    """What a rules.toml may say."""

    def plain() -> Table:
        return selector(rng, item_ids)

    tables: Table = {
        "deny": some(rng, 2, plain),
        "allow": some(rng, 3, plain) if rng.random() < 0.3 else [],
        "boost": some(rng, 3, lambda: plain() | {"factor": rng.choice([1.5, 4, 50.0])}),
        "bury": some(rng, 2, lambda: plain() | {"factor": rng.choice([0.01, 0.5])}),
        "bought": some(rng, 3, lambda: plain() | {"days": rng.choice([0, 400, *range(10, 38)])}),
        "at_most": some(rng, 1, lambda: {"per": rng.choice(COLUMNS), "n": rng.randint(1, 4)}),
    }
    found = {name: table for name, table in tables.items() if table}
    if rng.random() < 0.4:
        found["diversity"] = {"weight": rng.choice([0, 0.3, 0.8, 1])}
    if rng.random() < 0.5:
        found["session"] = {"repeats": rng.randint(1, 3)}
    stock: Table = {"unknown": rng.choice(["shown", "hidden"]), "least": rng.randint(1, 3)}
    told = [name for name in stock if rng.random() < 0.4]
    if told:
        found["stock"] = {name: stock[name] for name in told}
    return found


def shelf(rng: Random, item_ids: list[str]) -> Shelf:
    """Price and stock by item id."""
    named = rng.sample([*item_ids, "no such"], rng.choice([0, 20, 35]))
    prices, stocks = (None, *PRICES), (None, 0, 1, 2, 3, 4)
    return {item_id: (rng.choice(prices), rng.choice(stocks)) for item_id in named}


def options(rng: Random, item_ids: list[str]) -> Options:
    """What a request may ask for."""
    if rng.random() < 0.3:
        return Options()
    low, high = sorted(rng.sample(PRICES, 2))
    return Options(
        where=where(rng) if rng.random() < 0.3 else {},
        price=Price(low, high) if rng.random() < 0.3 else None,
        at_most={"brand": rng.randint(1, 4)} if rng.random() < 0.3 else {},
        diversity=rng.choice([None, None, 0.0, 0.5]),
        dismissed=rng.sample(item_ids, rng.choice([0, 4])),
        times_shown={item_id: rng.randint(1, 4) for item_id in rng.sample(item_ids, 12)},
    )


def random_case(seed: int, release: Release) -> "Case":
    """A request, and all that holds for it."""
    rng, ids = Random(seed), release.item_ids  # noqa: S311 - no secret
    return Case(
        release,
        of_release=rule_tables(rng, ids),
        of_store=rule_tables(rng, ids),
        shelf=shelf(rng, ids),
        customer=rng.choice([None, *range(1, 30)]),
        basket=rng.sample(ids, rng.choice([0, 0, 3])),
        channel=rng.choice(CHANNELS),
        k=rng.choice([1, 3, 5, 10, 20, 45]),
        options=options(rng, ids),
        items=rows_of(release),
    )


def write_shelf(path: Path, shelf: Shelf) -> None:
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
    shelf: Shelf
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
            return np.asarray(sold * factors.astype(np.float32), np.float64)
        scores, _ = release.score(*release.encode(history), number, history)
        return np.asarray(scores + np.log(factors) / self.slope, np.float64)

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
