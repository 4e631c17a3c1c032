"""Servers of events that answer what no server should: nothing of it harms the outbox."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from c2rec.runtime.errors import NetworkError
from c2rec.runtime.events.inbox import WebInbox
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.push import send
from c2rec.runtime.events.waiting import count_waiting
from c2rec.runtime.home.settings import Settings
from c2rec.runtime.sync.source import WebSource
from tests.kiosks import make_identity, purchase

SETTINGS = Settings(repository="/nowhere", connect_timeout=5.0, read_timeout=5.0)


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a server that reads a request, and lets a function write what it likes."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with suppress(OSError):  # it is closed
            while True:
                connection, _ = server.accept()
                with connection, suppress(OSError):  # whoever asked has gone
                    connection.settimeout(5)
                    connection.recv(1 << 20)
                    answer(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def head(*lines: str) -> Callable[[socket.socket], None]:
    """An answer without a body."""
    text = "\r\n".join([*lines, "Content-Length: 0", "Connection: close", "", ""])
    return lambda connection: connection.sendall(text.encode())


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path / "home", make_identity())
    made.record(purchase())
    yield made
    made.close()


@pytest.mark.parametrize("wait", ["nan", "-1", "-inf", "soon"])
def test_a_wait_that_is_none_is_chosen_here(outbox: Outbox, wait: str) -> None:
    with answering(head("HTTP/1.1 503 Busy", f"Retry-After: {wait}")) as url:
        sent = send(outbox, WebInbox(url, SETTINGS))
    assert sent.error == "the server answered 503"
    assert outbox.aside() == []  # the file is not taken for damaged
    assert 15 <= outbox.delivery().not_before - outbox.now() <= 30
    assert count_waiting(outbox).events == 1


def test_events_are_not_sent_elsewhere_wherever_that_is(outbox: Outbox) -> None:
    with answering(head("HTTP/1.1 307 Away", "Location: http://[::no")) as url:
        sent = send(outbox, WebInbox(url, SETTINGS))
    assert sent.error == "the server answered 307"


def test_a_release_is_not_fetched_elsewhere_wherever_that_is() -> None:
    with (
        answering(head("HTTP/1.1 302 Away", "Location: http://[::no")) as url,
        WebSource(Settings(repository=url), 5.0) as source,
        pytest.raises(NetworkError, match="sends elsewhere"),
    ):
        source.read("metadata/timestamp.json")


@pytest.mark.parametrize("begins", ["", "HTTP/1.1 201 Created\r\nContent-Length: 200\r\n\r\n"])
def test_a_server_that_drips_is_too_slow(begins: str) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(begins.encode())
        for _ in range(200):  # no pause is ever too long
            connection.sendall(b"a")
            time.sleep(0.02)

    with answering(drip) as url, pytest.raises(NetworkError, match="too slow"):
        WebInbox(url, SETTINGS, seconds=0.3).put("events/a", b"content")
