"""A kiosk's page, served for real on loopback from a release made at random."""

import http.client
import json
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from c2rec.runtime.release.install import install
from c2rec.store_kiosk.api import Settings
from c2rec.store_kiosk.desk import Desk
from c2rec.store_kiosk.logs import Logger
from c2rec.store_kiosk.meter import Meter
from c2rec.store_kiosk.service import Options, run
from tests.release import Release, make_release, reseal

TOKEN = "a-token-of-the-tests"  # noqa: S105 - no secret
CARD = "c000003"
"""A customer whom the release knows."""
PRODUCTS = ("i000004", "i000009")

GOODS = (
    "Linen shirt", "Wool jumper", "Denim jacket", "Cotton socks", "Rain coat",
    "Leather belt", "Silk scarf", "Canvas bag", "Running shoes", "Summer dress",
)  # fmt: skip
COLOURS = ("white", "navy", "sand", "forest")


def name_of(row: int) -> str:
    """What an item of the release is called."""
    return f"{GOODS[row % 10]}, {COLOURS[row // 10]}"


def make_home(folder: Path) -> Path:
    """Install a release of 40 items with names that people use."""
    release = make_release(folder / "bundle")
    rename(release, [name_of(row) for row in range(40)])
    install(release.folder, folder / "home")
    return folder / "home"


def rename(release: Release, names: list[str]) -> None:
    """Give the items of a bundle other names."""
    rows = [
        {"item_id": i, "name": name, "colour": COLOURS[row // 10]}
        for row, (i, name) in enumerate(zip(release.item_ids, names, strict=True))
    ]
    path = release.folder / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reseal(release.folder)


def write_shelf(path: Path) -> Path:
    """Prices and stock of most items; i000005 is sold out, and 4006381333931 is i000004."""
    lines = ["item_id,code,price,stock"]
    for row in range(36):
        code = "4006381333931" if row == 4 else ""
        lines.append(f"i{row:06},{code},{9.9 + row:.2f},{0 if row == 5 else row % 4 + 1}")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_picture(path: Path) -> None:
    """A small PNG in one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    row = b"\0" + bytes((120, 160, 140)) * 8
    head = struct.pack(">IIBBBBB", 8, 6, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(row * 6)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks))


@dataclass
class Served:
    """A page that is being served."""

    port: int
    log: list[str] = field(default_factory=list)
    """Its lines."""
    servers: list[uvicorn.Server] = field(default_factory=list)
    """The one that serves it."""

    @property
    def address(self) -> str:
        """Without the token."""
        return f"http://127.0.0.1:{self.port}/"

    def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask with the token; status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = {"Authorization": f"Bearer {TOKEN}"}
        data = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, data, sent | given)
        response = connection.getresponse()
        answered = (
            response.status,
            {k.lower(): v for k, v in response.getheaders()},
            response.read(),
        )
        connection.close()
        return answered

    def json(self, method: str, path: str, body: object = None) -> Any:
        """Ask, and expect it to work."""
        status, _, content = self.ask(method, path, body)
        assert status < 300, content
        return json.loads(content) if content else None

    def session(self) -> str:
        """Start a session; its path."""
        return f"/api/sessions/{self.json('POST', '/api/sessions', {})['session']}"


@contextmanager
def serve_page(
    home: Path,
    *,
    token: str | None = TOKEN,
    port: int = 0,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    shelf: Path | None = None,
    pictures: Path | None = None,
    cards: str | None = None,
    metrics_open: bool = False,
) -> Iterator[Served]:
    """Serve a home's page in a thread, on loopback, until the end of the block."""
    servers: list[uvicorn.Server] = []
    addresses: list[str] = []
    listening = threading.Event()
    log: list[str] = []
    logger = Logger("json", log.append)

    def ready(address: str) -> None:
        addresses.append(address)
        listening.set()

    def work() -> None:
        desk = Desk(
            home,
            shelf=shelf,
            cards=None if cards is None else re.compile(cards),
            report=logger.warn,
        )
        options = Options("127.0.0.1", port, (), token, metrics_open)
        run(
            desk,
            settings,
            options,
            pictures,
            ready,
            log=logger,
            meter=Meter(home),
            started=servers.append,
        )

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert listening.wait(20)
        yield Served(int(addresses[0].rpartition(":")[2].strip("/")), log, servers)
    finally:
        for server in servers:
            server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()
