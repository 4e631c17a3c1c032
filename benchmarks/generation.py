"""How long a kiosk takes from downloaded shards to a generation that serves.

Run from the checkout: ``python -m benchmarks.generation [--customers 200000] [--items 50000]``.
It makes a random release, publishes it into a folder and syncs a kiosk with it. Beside it stands
what SQLite itself takes to insert the same rows in one plain transaction, with the settings that it
has by default, and how long an event waits for its commit while the generation is built.
"""

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from c2rec.export.keys import make_keys
from c2rec.export.kit import write_kit
from c2rec.export.publish import publish
from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.home.enrol import enrol
from c2rec.runtime.home.settings import Settings
from c2rec.runtime.home.state import read_state
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.sync.sync import sync
from tests.release import make_release, reseal

LIMIT, LONGEST_EVENT = 3.0, 0.1
"""Multiple of SQLite's own time, and seconds."""
_FEW = 1000
_EVENTS = """
import json, sqlite3, sys, threading, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA synchronous = FULL")
db.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, body TEXT)")
told = threading.Thread(target=sys.stdin.readline, daemon=True)
told.start()
print("ready", flush=True)
times = []
while told.is_alive():
    started = time.perf_counter()
    db.execute("INSERT INTO events (body) VALUES (?)", ["x" * 300])
    times.append(time.perf_counter() - started)
    time.sleep(0.02)
print(json.dumps(times))
"""


def make_bundle(folder: Path, customers: int, items: int, size: int) -> Path:
    """Write a bundle: a few random customers, many times over."""
    make_release(folder, items=items, customers=_FEW, size=size)
    copies = customers // _FEW
    tensors = load_file(folder / "customers.safetensors")
    lengths = np.diff(tensors["history_offsets"])
    many = {name: np.concatenate([tensors[name]] * copies) for name in tensors}
    many["history_offsets"] = np.concatenate([[0], np.cumsum(np.tile(lengths, copies))])
    save_file(many, folder / "customers.safetensors")
    ids = [f"c{number:08}" for number in range(copies * _FEW)]
    (folder / "customers.jsonl").write_text("".join(json.dumps(each) + "\n" for each in ids))
    (folder / "stores.jsonl").write_text('["S1"]\n' * len(ids))

    def count(document: dict[str, Any]) -> None:
        interactions = len(many["history_items"])
        document["counts"] |= {"customers": len(ids), "interactions": interactions}

    reseal(folder, count)
    return folder


def plain_insert(path: Path, to: Path) -> float:
    """Seconds that SQLite takes to insert all rows of a generation in one plain transaction."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        made = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        rows = {name: db.execute(f"SELECT * FROM {name}").fetchall() for name, _ in made}  # noqa: S608 - our own names
        indexes = db.execute("SELECT sql FROM sqlite_master WHERE type = 'index'").fetchall()
    started = time.perf_counter()
    with closing(sqlite3.connect(to)) as db, db:
        db.execute("PRAGMA page_size = 16384")
        db.execute("BEGIN")
        for name, sql in made:
            db.execute(sql)
            if rows[name]:
                places = ", ".join("?" * len(rows[name][0]))
                db.executemany(f"INSERT INTO {name} VALUES ({places})", rows[name])  # noqa: S608 - our own names
        for (sql,) in indexes:
            if sql is not None:
                db.execute(sql)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        bundle = make_bundle(place / "bundle", options.customers, options.items, options.size)
        keys = make_keys(place / "keys", passphrase=None)
        publish(bundle, place / "repo", keys, visitors=False)
        write_kit(keys, "S1", "K1", place / "kit")
        builds, plains, events = [], [], []
        path, held = place, 0
        for run in range(options.runs):
            home = place / f"home-{run}"
            enrol(home, place / "kit", Settings(repository=str(place / "repo")))
            steps: list[tuple[float, str]] = []
            waiting = start_events(place, run)
            sync(home, report=partial(note, steps))
            ended = time.perf_counter()
            Recommender.open(home).close()
            events += stop_events(waiting)
            began = max(at for at, text in steps if text.startswith("fetching"))
            builds.append(ended - began)
            path = generation_path(home, read_state(home).active.name)
            plains.append(plain_insert(path, place / f"plain-{run}.db"))
            cache = Cache(path)
            held = len(cache.customer_ids())
            cache.close()
            told = [(at, text) for at, text in steps if at >= began]
            for (at, text), (then, _) in zip(told, [*told[1:], (ended, "")], strict=True):
                if then - at > 0.1 and not text.startswith("storing customers: shard"):
                    print(f"  {then - at:6.2f} s  {text}", file=sys.stderr)
        build, plain = statistics.median(builds), statistics.median(plains)
        print(f"{held:,} customers, {options.items:,} items, {path.stat().st_size / 1e6:.0f} MB")
        print(f"build and flip    {build:.2f} s")
        print(f"plain transaction {plain:.2f} s; ratio {build / plain:.2f}, limit {LIMIT}")
        longest = max(events)
        usual = sorted(events)[int(0.99 * len(events))]
        print(
            f"{len(events)} events meanwhile, 99 of 100 within {usual * 1000:.0f} ms, "
            f"the slowest {longest * 1000:.0f} ms"
        )
        if build > LIMIT * plain or longest > LONGEST_EVENT:
            raise SystemExit("a limit is exceeded")


def note(steps: list[tuple[float, str]], text: str) -> None:
    """Note when a step begins."""
    steps.append((time.perf_counter(), text))


def start_events(place: Path, run: int) -> "subprocess.Popen[str]":
    """Record events in a process of its own."""
    command = [sys.executable, "-c", _EVENTS, str(place / f"events-{run}.db")]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    if process.stdout is not None:
        process.stdout.readline()  # it is ready
    return process


def stop_events(process: "subprocess.Popen[str]") -> list[float]:
    """Seconds that each took."""
    output, _ = process.communicate("enough\n")
    times: list[float] = json.loads(output)
    return times


if __name__ == "__main__":
    main()
