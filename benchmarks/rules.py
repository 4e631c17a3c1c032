"""What rules cost: an answer with each kind of them, and reading rules and shelf anew.

Run from the checkout: ``python -m benchmarks.rules [--items 100000] [--dim 64] [--requests 300]``.
It makes a release at random and asks by turns, so that what else the machine does hits all alike.
"""

import argparse
import hashlib
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.serving import write_release
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.install import install
from c2rec.runtime.rules.options import Options
from c2rec.runtime.rules.rules import Price
from c2rec.runtime.rules.store_side import StoreSide

CUSTOMERS = 2000
CATEGORIES = 40
HARD = """
[[deny]]
where = {category = ["c3", "c17"]}
[[deny]]
items = ["i00000007", "i00000011"]
"""
KINDS = {
    "stock": "",
    "stock, deny": HARD,
    "stock, deny, at most 2 of 40 categories": HARD + '[[at_most]]\nper = "category"\nn = 2\n',
    "stock, deny, diversity": HARD + "[diversity]\nweight = 0.3\n",
    "stock, deny, one boost": HARD + '[[boost]]\nwhere = {category = "c5"}\nfactor = 2\n',
    "stock, deny, boost and bury": HARD
    + '[[boost]]\nwhere = {category = "c5"}\nfactor = 2\n'
    + '[[bury]]\nwhere = {category = "c6"}\nfactor = 0.5\n',
}


def dress(folder: Path) -> None:
    """Give the items of a bundle categories."""
    path = folder / "items.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["category"] = f"c{number * 7919 % CATEGORIES}"
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest["files"]["items.jsonl"] = listed
    (folder / "manifest.json").write_text(json.dumps(manifest))


def write_shelf(path: Path, items: int) -> None:
    """Price and stock of every item; one in ten is sold out."""
    rng = np.random.default_rng(4)
    lines = [
        f"i{row:08},{price:.2f},{stock}"
        for row, (price, stock) in enumerate(
            zip(rng.gamma(2, 20, items), rng.integers(0, 10, items), strict=True)
        )
    ]
    path.write_text("\n".join(["item_id,price,stock", *lines]) + "\n")


def open_with(home: Path, place: Path, rules: str) -> Recommender:
    """Open a home, with rules of its own."""
    place.mkdir()
    (place / "rules.toml").write_text("format = 1\n" + rules)
    return Recommender.open(home, store=StoreSide(place, shelf=home / "shelf.csv"))


def measure(home: Path, folder: Path, requests: int) -> None:
    """Ask by turns, and print."""
    bare = Recommender.open(home, store=StoreSide(folder / "nothing"))
    ways = {"no rules, no shelf": (bare, Options())}
    for number, (name, rules) in enumerate(KINDS.items()):
        ways[name] = open_with(home, folder / str(number), rules), Options()
    hard = ways["stock, deny"][0]
    ways["stock, deny, a category asked for"] = hard, Options(where={"category": ["c5"]})
    ways["stock, deny, a price range asked for"] = hard, Options(price=Price(10, 50))
    times: dict[str, list[float]] = {name: [] for name in ways}
    rng = np.random.default_rng(2)
    for number in range(requests + 10):
        customer = f"c{rng.integers(CUSTOMERS):08}"
        for name, (recommender, options) in ways.items():
            started = time.perf_counter()
            recommender.recommend(customer, options=options)
            if number >= 10:
                times[name].append((time.perf_counter() - started) * 1000)
    least = statistics.median(times["no rules, no shelf"])
    for name, found in times.items():
        p50 = statistics.median(found)
        print(f"{name}: p50 {p50:.2f} ms, {p50 / least:.2f} times")
    for name in ("shelf.csv", "rules.toml"):
        path = home / name if name == "shelf.csv" else folder / "1" / name
        taken = []
        for _ in range(5):
            path.touch()
            started = time.perf_counter()
            hard.recommend("c00000007")
            taken.append((time.perf_counter() - started) * 1000)
        print(f"the next answer after {name} was replaced: {statistics.median(taken):.0f} ms")
    for recommender in {id(each): each for each, _ in ways.values()}.values():
        recommender.close()


def main() -> None:
    """Make a release and measure it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--requests", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_release(folder / "bundle", options.items, CUSTOMERS, options.dim)
        dress(folder / "bundle")
        install(folder / "bundle", folder / "home")
        write_shelf(folder / "home" / "shelf.csv", options.items)
        measure(folder / "home", folder, options.requests)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
