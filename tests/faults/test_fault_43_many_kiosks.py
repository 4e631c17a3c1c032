"""Fault 43: thousands of kiosks at once; the whole fleet is ``python -m benchmarks.fleet``."""

import os
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from c2rec.export.kit import write_kit
from c2rec.runtime.home.enrol import enrol
from c2rec.runtime.home.settings import Settings
from c2rec.runtime.home.state import read_state
from c2rec.runtime.sync.documents import wave_place
from c2rec.runtime.sync.sync import sync, turn
from tests.repositories import make_head
from tests.web_servers import Nginx, nginx

KIOSKS = 12

pytestmark = pytest.mark.faults
needs_nginx = pytest.mark.skipif(
    shutil.which("nginx") is None and not os.environ.get("C2REC_REQUIRE_NGINX"),
    reason="nginx is not installed",
)


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def asked_for(server: Nginx) -> list[str]:
    """Paths in the server's log so far."""
    return [line.split('"')[1].split()[1] for line in server.log.read_text().splitlines()]


@needs_nginx
def test_a_fleet_costs_the_publisher_nothing_and_a_kiosk_with_nothing_new_two_requests(
    tmp_path: Path,
) -> None:
    head = make_head(tmp_path / "head", publish=False)
    stores = [f"S{number}" for number in range(KIOSKS)]
    head.publish(stores=[[stores[number % KIOSKS]] for number in range(30)])
    with nginx(tmp_path / "nginx") as server:
        server.repository.rmdir()
        server.repository.symlink_to(head.repo, target_is_directory=True)
        homes = []
        for store in stores:
            certificate, key = server.tls.issue(store, common_name="K1", unit=store)
            write_kit(head.keys, store, "K1", tmp_path / f"kit-{store}")
            settings = Settings(
                repository=server.url,
                ca_bundle=str(server.tls.ca),
                client_cert=str(certificate),
                client_key=str(key),
            )
            homes.append(tmp_path / f"home-{store}")
            enrol(homes[-1], tmp_path / f"kit-{store}", settings)
        before = files_of(head.repo)
        with ThreadPoolExecutor(KIOSKS) as pool:
            assert {each.outcome for each in pool.map(sync, homes)} == {"installed"}
        assert files_of(head.repo) == before
        assert {read_state(home).active.seq for home in homes} == {1}
        first = len(asked_for(server))
        with ThreadPoolExecutor(KIOSKS) as pool:
            assert {each.outcome for each in pool.map(sync, homes)} == {"up to date"}
        asked = Counter(asked_for(server)[first:])
    assert asked == {"/metadata/timestamp.json": KIOSKS, "/metadata/2.root.json": KIOSKS}
    places = [turn(home) for home in homes]
    assert len(set(places)) == KIOSKS
    assert all(0 <= place < 1 for place in places)


def test_jitter_spreads_five_thousand_kiosks_over_its_time() -> None:
    """Two in the same of 3,600 seconds are luck, and eleven would be a mistake."""
    seconds = Counter(int(3600 * wave_place(f"S{n // 20}/K{n % 20}", 0)) for n in range(5000))
    assert max(seconds.values()) <= 10
    minutes = Counter(second // 60 for second, count in seconds.items() for _ in range(count))
    assert len(minutes) == 60
    assert max(minutes.values()) < 130
