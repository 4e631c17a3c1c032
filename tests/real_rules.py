"""Rules, stock and wishes on a release of real purchases, against all items scored and sorted."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from c2rec.runtime.engine.scorer import Scorer
from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.home.state import read_state
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.cache import Cache, Customer
from c2rec.runtime.rules.options import Options
from c2rec.runtime.rules.rules import Price
from tests.rule_cases import Shelf, Table, to_toml, write_shelf

K = 12
AT = datetime(2020, 8, 10, tzinfo=UTC)
TODAY = AT.timestamp() // 86_400


@dataclass
class Real:
    """An installed release of real purchases."""

    home: Path
    cache: Cache
    rows: list[dict[str, str]]
    item_ids: list[str]


def check(home: Path, customers: int) -> int:
    """Compare answers; how many were."""
    cache = Cache(generation_path(home, read_state(home).active.name))
    real = Real(home, cache, cache.every_metadata(), cache.item_ids())
    scorer, rng = Scorer(cache), np.random.default_rng(5)
    stock = rng.integers(0, 4, len(real.item_ids)).tolist()
    prices = rng.gamma(2, 15, len(real.item_ids)).round(2).tolist()
    shelf: Shelf = dict(zip(real.item_ids, zip(prices, stock, strict=True), strict=True))
    group = most_common(real, "product_group")
    colour = most_common(real, "colour")
    rules: Table = {
        "deny": [{"where": {"product_type": [most_common(real, "product_type")]}}],
        "allow": [{"price": {"from": 5}}, {"items": real.item_ids[:200]}],
        "boost": [{"where": {"colour": [colour]}, "factor": 3}],
        "bury": [{"price": {"from": 40}, "factor": 0.4}],
        "bought": [{"where": {"product_group": [group]}, "days": 25}],
        "at_most": [{"per": "product_type", "n": 2}],
    }
    (home / "rules.toml").write_text(to_toml(rules))
    write_shelf(home / "shelf.csv", shelf)
    recommender, compared = Recommender.open(home), 0
    for customer_id in cache.draw_customers(customers, seed=6):
        for options in (
            Options(),
            Options(where={"product_group": [group]}, price=Price(10, 60)),
            Options(at_most={"colour": 3}),
        ):
            answer = recommender.recommend(customer_id, k=K, at=AT, options=options)
            found = [real.item_ids.index(item.item_id) for item in answer.items]
            if answer.tier == "personal":
                assert found == expected(real, scorer, customer_id, rules, shelf, options)
                compared += 1
    recommender.close()
    cache.close()
    assert recommender.warnings == []
    return compared


def most_common(real: Real, column: str) -> str:
    """The value that most items have."""
    values = [row[column] for row in real.rows]
    return max(sorted(set(values)), key=values.count)


def expected(
    real: Real, scorer: Scorer, customer_id: str, rules: Table, shelf: Shelf, options: Options
) -> list[int]:
    """Score everything, sort, and take what may be shown."""
    customer = real.cache.customer(customer_id)
    assert customer is not None
    values = scores(real, scorer, customer)
    here = {item: day for item, where, day in purchases(customer) if where == 0}
    kept = []
    for row, item in enumerate(real.rows):
        price, stock = shelf[real.item_ids[row]]
        assert price is not None
        hidden = stock == 0 or item["product_type"] in rules["deny"][0]["where"]["product_type"]
        hidden |= price < 5 and row >= 200
        hidden |= any(item[column] not in asked for column, asked in options.where.items())
        hidden |= options.price is not None and not 10 <= price <= 60
        window = (
            25 if item["product_group"] in rules["bought"][0]["where"]["product_group"] else 1e9
        )
        hidden |= row in here and TODAY - here[row] < window
        if not hidden:
            kept.append(row)
        factor = 3.0 if item["colour"] in rules["boost"][0]["where"]["colour"] else 1.0
        factor *= 0.4 if price >= 40 else 1.0
        values[row] += np.log(factor) / slope(real)
    kept.sort(key=lambda row: (-values[row], row))
    chosen: list[int] = []
    caps = {"product_type": 2, **options.at_most}
    for row in kept:
        counts = {
            column: sum(real.rows[other][column] == real.rows[row][column] for other in chosen)
            for column in caps
        }
        if all(counts[column] < n for column, n in caps.items()):
            chosen.append(row)
        if len(chosen) == K:
            break
    return chosen


def scores(real: Real, scorer: Scorer, customer: Customer) -> Any:
    """What the release's graph gives all items, float64 (n,)."""
    ones = np.ones((1, len(customer.history_items)), np.float32)
    history = customer.history_items.astype(np.int64)[None]
    found, _ = scorer.score(customer.components[None], customer.has[None], 0, history, ones)
    return found[0].astype(np.float64)


def purchases(customer: Customer) -> list[tuple[int, int, int]]:
    """Item, channel and day of each."""
    arrays = customer.history_items, customer.history_channels, customer.history_days
    return list(zip(*(each.tolist() for each in arrays), strict=True))


def slope(real: Real) -> float:
    """Of the release's calibration in the store."""
    calibration = real.cache.manifest().calibration
    return 1.0 if calibration is None else calibration[0].slope
