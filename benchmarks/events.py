"""How long recording an event takes, with the outbox's write-ahead log and with rollback journals.

Run from the checkout: ``python -m benchmarks.events [--folder DISK] [--events 500]``. The folder
says which disk is measured; a kiosk's flash flushes more slowly than a server's. Journals take
turns, so that a change in the disk's load falls on all alike. ``--collect`` times head office too.
"""

import argparse
import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from c2rec.runtime.events.events import Event, EventItem
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.home.identity import Identity

JOURNALS = {
    "WAL, FULL": ("WAL", "FULL"),
    "WAL, NORMAL (loses events)": ("WAL", "NORMAL"),
    "DELETE, EXTRA": ("DELETE", "EXTRA"),
    "TRUNCATE, FULL": ("TRUNCATE", "FULL"),
}
"""Journal mode and ``synchronous``; DELETE needs EXTRA for its commits to outlast a power cut."""
BLOCK = 25


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, help="where to write; default: the system's own")
    parser.add_argument("--events", type=int, default=500, help="of each kind measured")
    parser.add_argument("--collect", type=int, default=0, metavar="EVENTS", help="time collect")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        for name, times in latencies(folder, options.events).items():
            times.sort()
            p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
            print(f"{name:<28}  p50 {p50 * 1000:6.2f} ms  p99 {p99 * 1000:6.2f} ms")
        if options.collect:
            time_collect(folder, options.collect)


def latencies(folder: Path, events: int) -> dict[str, list[float]]:
    """Seconds of every insert, by what was written to."""
    identity = Identity("S1", "k1", bytes(32), bytes(32), bytes(32))
    outbox = Outbox(folder / "home", identity)
    writers: dict[str, Callable[[int], object]] = {
        "Outbox.record": lambda n: outbox.record(_event(n))
    }
    with _bare(folder) as bare:
        writers |= bare
        times: dict[str, list[float]] = {name: [] for name in writers}
        for block in range(-1, max(events // BLOCK, 1)):  # the first one warms up
            for name, write in writers.items():
                for n in range(BLOCK):
                    started = time.perf_counter()
                    write(n)
                    if block >= 0:
                        times[name].append(time.perf_counter() - started)
    outbox.close()
    return times


@contextmanager
def _bare(folder: Path) -> Iterator[dict[str, Callable[[int], object]]]:
    """The same rows, written by SQLite alone."""
    writers: dict[str, Callable[[int], object]] = {}
    open_ones = []
    for number, (name, (journal, synchronous)) in enumerate(JOURNALS.items()):
        db = sqlite3.connect(folder / f"{number}.db", isolation_level=None)
        db.execute(f"PRAGMA journal_mode = {journal}")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, body TEXT)")
        db.execute("CREATE TABLE outbox (next INTEGER)")
        db.execute("INSERT INTO outbox VALUES (0)")

        def write(_: int, db: sqlite3.Connection = db) -> None:
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO events (body) VALUES (?)", ["x" * 300])
            db.execute("UPDATE outbox SET next = next + 1")
            db.execute("COMMIT")

        writers[name] = write
        open_ones.append(db)
    try:
        yield writers
    finally:
        for db in open_ones:
            db.close()


def time_collect(folder: Path, events: int) -> None:
    """Time head office with so many purchases, in batches of 500."""
    from c2rec.export.collect import collect
    from c2rec.export.keys import make_keys
    from c2rec.export.storage import FolderStorage
    from c2rec.runtime.events.inbox import FolderInbox
    from c2rec.runtime.events.push import send

    keys = make_keys(folder / "keys", passphrase=None)
    outbox = Outbox(folder / "full", keys.identity("S1", "k1"), quota=1 << 34)
    chance = random.Random(0)  # noqa: S311 - a draw that can be repeated
    outbox.record(_event(0))
    outbox.work(lambda db: _copy(db, events, chance))
    (folder / "inbox").mkdir()
    started = time.perf_counter()
    sent = send(outbox, FolderInbox(folder / "inbox"), deadline=3600)
    took = time.perf_counter() - started
    print(f"send: {sent.events:,} events in {took:.1f} s, {sent.events / took:,.0f} a second")
    outbox.close()
    for what in ("all new", "nothing new"):
        started = time.perf_counter()
        collect(FolderStorage(folder / "inbox"), folder / "out", keys, max_per_hour=10**9)
        print(f"collect, {what}: {time.perf_counter() - started:.1f} s")


def _copy(db: sqlite3.Connection, events: int, chance: random.Random) -> None:
    """Fill the outbox with purchases in one transaction: a flush for each would take hours."""
    from c2rec.runtime.events.outbox_file import transaction
    from c2rec.runtime.events.outbox_rows import insert_event

    customer, body = db.execute("SELECT customer, body FROM events").fetchone()
    document = json.loads(body)
    with transaction(db):
        for sequence in range(2, events + 1):
            document["id"] = chance.randbytes(16).hex()
            text = json.dumps(document, separators=(",", ":"))
            insert_event(db, customer, "bought", text, sequence)
        db.execute("UPDATE outbox SET next = ?", [events + 1])


def _event(number: int) -> Event:
    items = (EventItem(item=f"item-{number:06}", quantity=1, price=19.9),)
    return Event(kind="bought", items=items, customer="ab" * 16, session="s" * 16)


if __name__ == "__main__":
    main()
