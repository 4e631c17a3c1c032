"""How long the kiosk's commands take as whole processes, beside importing onnxruntime alone.

Run from the checkout: ``python -m benchmarks.startup [--home HOME] [--runs 15]``. Without a home
it installs a random release. Medians of interleaved runs, so that a change in the machine's load
falls on all commands alike.
"""

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

BASE = "import onnxruntime"
LIMITS = {"status": 0.5, "recommend": 1.5, "recommend from a basket": 1.5}
"""What each command may take, as a multiple of ``BASE``."""


def kiosk(home: Path, *arguments: str) -> list[str]:
    """Command line of c2rec-kiosk, as its console script runs it."""
    start = "import sys; from c2rec.store_kiosk.cli import main; sys.exit(main())"
    return [sys.executable, "-c", start, "--home", str(home), *arguments]


def medians(commands: Mapping[str, Sequence[str]], runs: int) -> dict[str, float]:
    """Median wall time of each command in seconds, of ``runs`` interleaved runs and one warm-up.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    # bytecode is cached, as it is wherever a wheel was installed; the warm-up run writes it
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(runs + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
            if run:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--home", type=Path, help="an installed home; default: a random release")
    parser.add_argument("--customer", help="who to recommend to; default: one of the release")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home, folder = options.home, Path(temporary)
        if home is None:
            from tests.release import make_release

            home = folder / "home"
            make_release(folder / "bundle", items=2500, customers=2500, size=64)
            subprocess.run(kiosk(home, "install", str(folder / "bundle")), check=True)
        customer, item = _first(home)
        commands = {
            BASE: [sys.executable, "-c", BASE],
            "status": kiosk(home, "status"),
            "recommend": kiosk(home, "recommend", options.customer or customer),
            "recommend from a basket": kiosk(home, "recommend", "--basket", item),
        }
        took = medians(commands, options.runs)
    for name, seconds in took.items():
        ratio = seconds / took[BASE]
        limit = f"  limit {LIMITS[name]:.2f}" if name in LIMITS else ""
        print(f"{name:<24}  {seconds * 1000:6.1f} ms  {ratio:5.2f} ×{limit}")


def _first(home: Path) -> tuple[str, str]:
    """A customer who has bought something, and an item of the active release."""
    release = json.loads(
        subprocess.run(kiosk(home, "status", "--json"), check=True, capture_output=True).stdout
    )["release"]
    with closing(sqlite3.connect(home / "gen" / f"{release}.db")) as db:
        customer = db.execute(
            "SELECT customer_id FROM customers WHERE length(history_items) > 0 LIMIT 1"
        ).fetchone()[0]
        item = db.execute("SELECT item_id FROM items LIMIT 1").fetchone()[0]
    return customer, '"' + item.replace('"', '""') + '"'  # --basket is a line of CSV


if __name__ == "__main__":
    main()
