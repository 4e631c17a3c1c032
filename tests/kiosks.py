"""Kiosks with an outbox, and a web server where their events go, for tests to spoil."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import unquote

from c2rec.runtime.events.events import Event, EventItem, Kind
from c2rec.runtime.events.inbox import WebInbox
from c2rec.runtime.home.identity import Identity
from c2rec.runtime.home.settings import Settings, changed

Fault: TypeAlias = Literal["lose the answer", "drop", "page"] | int | None
"""What happens to a request: it is carried out and nobody hears of it, nobody hears it, a captive
portal answers it, it gets a status, or all goes well."""

WHO = b"\xab" * 16
"""A customer's pseudonym."""


def make_identity(device: str = "k1") -> Identity:
    """A kiosk that no head office has the keys of."""
    return Identity("Store 1", device, b"c" * 32, b"s" * 32, b"d" * 32)


def purchase(item: str = "A", customer: bytes | None = WHO, *, kind: Kind = "bought") -> Event:
    """An event of one item."""
    bought = {"quantity": 1, "price": 9.5} if kind == "bought" else {}
    return Event(
        kind=kind,
        items=(EventItem(item=item, **bought),),  # type: ignore[arg-type] # of the right types
        customer=None if customer is None else customer.hex(),
    )


@dataclass
class Server:
    """A web server that keeps what is PUT, and never replaces it."""

    folder: Path
    url: str = ""
    fault: Callable[[str, str], Fault] = lambda _method, _path: None
    """Is asked, for each request, what happens to it."""
    requests: list[str] = field(default_factory=list)
    """Methods asked for, in order."""

    def inbox(self) -> WebInbox:
        """A kiosk's way to it."""
        settings = Settings(repository="/nowhere", connect_timeout=5.0, read_timeout=5.0)
        return WebInbox(self.url, changed(settings, events=self.url))


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Run a server on this machine until the block ends."""
    server = Server(folder)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            fault = self._fault()
            if fault == "drop" or isinstance(fault, int):
                return self._answer(fault)
            path = folder / unquote(self.path).lstrip("/")
            with lock:
                status = 412 if path.exists() else 201
                if status == 201 and fault != "page":
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
            return self._answer(fault or status)

        def do_GET(self) -> None:
            fault = self._fault()
            path = folder / unquote(self.path).lstrip("/")
            if fault is None and path.is_file():
                return self._answer(200, path.read_bytes())
            return self._answer(fault or 404)

        def _fault(self) -> Fault:
            server.requests.append(self.command)
            return server.fault(self.command, unquote(self.path))

        def _answer(self, outcome: Fault, body: bytes = b"") -> None:
            self.close_connection = True
            if outcome in ("drop", "lose the answer") or outcome is None:
                return
            if outcome == "page":
                outcome, body = 200, b"<html><title>Welcome to our guest network</title></html>"
            assert isinstance(outcome, int)
            self.send_response(outcome)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Say nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
