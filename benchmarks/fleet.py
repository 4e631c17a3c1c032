"""What a fleet of kiosks costs one real nginx, and what it costs the publisher: nothing more.

Run from the checkout: ``python -m benchmarks.fleet [--kiosks 5000] [--stores 250] [--real 20]``;
nginx has to be installed. A few kiosks sync for real, under mutual TLS: a first install, a release
in which 1 % of the customers changed, and one sync with nothing new. What each of them asked for is
then asked for by the whole fleet, each kiosk with its own connection, as fast as the server
answers.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from c2rec.export.kit import write_kit
from c2rec.runtime.home.enrol import enrol
from c2rec.runtime.home.settings import Settings
from c2rec.runtime.sync.documents import wave_place
from c2rec.runtime.sync.sync import sync
from tests.repositories import Head, make_head
from tests.web_servers import Nginx, nginx

JITTER = 3600
"""Seconds over which a fleet spreads its syncs, as in ``c2rec-kiosk sync --jitter 3600``."""
CLIENTS = 32
"""Kiosks that are served at the same time."""


@dataclass(frozen=True)
class Trace:
    """What one kiosk asked for in one sync."""

    store: str
    paths: tuple[str, ...]
    bytes: int
    """As the kiosk counts them: bodies alone."""


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kiosks", type=int, default=5000)
    parser.add_argument("--stores", type=int, default=250)
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--real", type=int, default=20, help="kiosks that sync for real")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, nginx(Path(scratch, "nginx")) as server:
        run(Path(scratch), server, arguments)


def run(folder: Path, server: Nginx, arguments: argparse.Namespace) -> None:
    """Publish, sync for real, and repeat it for the fleet."""
    head = make_head(folder / "head", publish=False)
    # the repository lies where the server looks
    server.repository.rmdir()
    server.repository.symlink_to(head.repo, target_is_directory=True)
    stores = [f"S{number:04}" for number in range(arguments.stores)]
    customers = range(arguments.customers)
    theirs = [[stores[number % len(stores)]] for number in customers]
    options = {"customers": len(customers), "items": 2000, "size": 16, "stores": theirs}
    publish(head, options, "a release")
    homes = {store: enrolled(folder, server, head, store) for store in stores[: arguments.real]}
    report("first install", [traced(server, *each) for each in homes.items()], server, arguments)
    publish(head, options | {"rebought": customers[::100]}, "1 % of the customers changed")
    report("1 % changed", [traced(server, *each) for each in homes.items()], server, arguments)
    report("nothing new", [traced(server, *each) for each in homes.items()], server, arguments)
    turns = Counter(
        int(JITTER * wave_place(f"S{number % arguments.stores:04}/K{number}", 0))
        for number in range(arguments.kiosks)
    )
    print(
        f"spread over {JITTER} s by --jitter, at most {max(turns.values())} kiosks begin in the "
        f"same second; the mean is {arguments.kiosks / JITTER:.1f}"
    )


def publish(head: Head, options: dict[str, Any], what: str) -> None:
    """Publish a release and tell what it took: no kiosk has a part in it."""
    before = {path for path in head.repo.rglob("*") if path.is_file()}
    started = time.perf_counter()
    head.publish(seed=0, **options)
    took = time.perf_counter() - started
    new = [path for path in head.repo.rglob("*") if path.is_file() and path not in before]
    size = sum(path.stat().st_size for path in new)
    print(f"published {what}: {len(new)} files, {size / 1e6:.1f} MB, {took:.1f} s")


def enrolled(folder: Path, server: Nginx, head: Head, store: str) -> Path:
    """Make a kiosk with a certificate of its own."""
    certificate, key = server.tls.issue(store, common_name="K0", unit=store)
    write_kit(head.keys, store, "K0", folder / f"kit-{store}")
    home = folder / f"home-{store}"
    settings = Settings(
        repository=server.url,
        ca_bundle=str(server.tls.ca),
        client_cert=str(certificate),
        client_key=str(key),
    )
    enrol(home, folder / f"kit-{store}", settings)
    return home


def traced(server: Nginx, store: str, home: Path) -> Trace:
    """Sync a kiosk, and read from the server's log what it asked for."""
    before = len(server.log.read_text().splitlines())
    moved = sync(home).moved
    time.sleep(0.05)  # the log is written a little later
    lines = server.log.read_text().splitlines()[before:]
    return Trace(store, tuple(line.split('"')[1].split()[1] for line in lines), moved)


def report(
    what: str, traces: Sequence[Trace], server: Nginx, arguments: argparse.Namespace
) -> None:
    """Let the whole fleet ask for the same, and print what that took."""
    requests = [len(trace.paths) for trace in traces]
    moved = [trace.bytes for trace in traces]
    before = len(server.log.read_text().splitlines())
    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        repeated = (traces[number % len(traces)] for number in range(arguments.kiosks))
        got = sum(pool.map(lambda trace: replay(server, trace), repeated))
    took = time.perf_counter() - started
    time.sleep(0.2)
    lines = server.log.read_text().splitlines()[before:]
    per_second = Counter(line.split("[")[1].split("]")[0] for line in lines)
    figures = {
        "kiosks": arguments.kiosks,
        "requests_per_kiosk": max(requests),
        "bytes_per_kiosk": round(sum(moved) / len(moved)),
        "requests": len(lines),
        "megabytes": round(got / 1e6, 1),
        "seconds": round(took, 1),
        "peak_requests_per_second": max(per_second.values()),
    }
    print(f"{what}: {json.dumps(figures)}")


def replay(server: Nginx, trace: Trace) -> int:
    """Ask for what a kiosk asked for, over a connection of its own; bytes that came."""
    folder = server.tls.folder
    pool = urllib3.PoolManager(
        ca_certs=str(server.tls.ca),
        cert_file=str(folder / f"{trace.store}.pem"),
        key_file=str(folder / f"{trace.store}.key"),
        retries=False,
    )
    try:
        return sum(len(pool.request("GET", server.url + path).data) for path in trace.paths)
    finally:
        pool.clear()


if __name__ == "__main__":
    main()
