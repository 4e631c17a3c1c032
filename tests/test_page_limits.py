"""What a page's server does when it is asked too much, too slowly, or nonsense."""

import http.client
import json
import os
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from c2rec.store_kiosk import server
from tests.kiosk_page import CARD, TOKEN, Served, make_home, serve_page

HEAD = (
    "POST /api/sessions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer "
    + TOKEN
    + "\r\nContent-Type: application/json\r\n"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("limits"))


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Served]:
    with serve_page(home) as served:
        yield served


@pytest.fixture
def hasty(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server whose patience ends after half a second."""
    monkeypatch.setattr(server.Protocol, "deadline_s", 0.5)
    with serve_page(home) as served:
        yield served


def works(served: Served) -> bool:
    session = served.session()
    served.json("POST", f"{session}/scans", {"code": CARD})
    items = served.json("POST", f"{session}/recommendations", {})["items"]
    served.json("DELETE", session)
    return len(items) == 6


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def test_no_part_of_an_answer_waits_for_another_to_be_acknowledged(served: Served) -> None:
    """Or each answer on a connection that is kept open would take 40 ms."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.request("GET", "/api/health")
    assert connection.getresponse().read()
    (server,) = served.servers
    accepted = [each.transport.get_extra_info("socket") for each in server.server_state.connections]
    assert accepted
    assert all(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in accepted)
    connection.close()


# --- too much


def test_ten_megabytes_of_junk_are_refused_before_they_are_read(served: Served) -> None:
    """The answer comes while most of the body has not even been sent."""
    with socket.create_connection(("127.0.0.1", served.port), 20) as connection:
        connection.sendall(
            (HEAD + "Content-Length: 10000000\r\n\r\n").format(port=served.port).encode()
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        junk = os.urandom(100_000)
        for _ in range(100):  # what still comes is thrown away, and the next request is answered
            connection.sendall(junk)
        connection.sendall(
            f"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode()
        )
        answer = b""
        while b'{"status": "up"}' not in answer:
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
    status, headers, _ = served.ask("POST", "/api/sessions", os.urandom(10_000_000))
    assert (status, headers["content-type"]) == (413, "application/problem+json")
    assert works(served)


def test_ten_megabytes_in_chunks_are_refused(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    chunks = (b"[" * 100_000 for _ in range(100))
    connection.request("POST", "/api/sessions", chunks, headers, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 413
    assert json.loads(response.read())["type"] == "urn:c2rec:problem:too-large"
    connection.close()
    assert works(served)


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00" * 20 + b"\r\n\r\n",  # as TLS begins
        b"GET / HTTP/1.1\r\n" + b"A" * 100 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET " + b"/" * 20_000 + b" HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(served: Served, junk: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), 20) as connection:
        connection.sendall(junk)
        answer = all_of(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"urn:c2rec:problem:bad-http" in answer
    assert works(served)


def test_two_hundred_at_once_do_not_stop_it(served: Served) -> None:
    """Each is answered, or told to come back; then all is as before."""
    session = served.session()
    served.json("POST", f"{session}/scans", {"code": CARD})
    together = Barrier(200)

    def ask(_: int) -> int:
        together.wait(30)
        status, headers, content = served.ask("POST", f"{session}/recommendations", {"k": 6})
        if status == 503:
            assert int(headers["retry-after"]) >= 1
            assert headers["content-type"] == "application/problem+json"
        else:
            assert len(json.loads(content)["items"]) == 6
        return status

    with ThreadPoolExecutor(200) as threads:
        answered = Counter(threads.map(ask, range(200)))
    served.json("DELETE", session)
    assert set(answered) <= {200, 503}
    assert answered[200] >= 64
    assert works(served)


# --- too slowly


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "GET / HT",
        "GET /api/health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n",
        HEAD + "Content-Length: 20\r\n\r\n{{",
        HEAD + "Transfer-Encoding: chunked\r\n\r\n5\r\n{{",
        HEAD + "Content-Length: 10000000\r\n\r\n{{",
    ],
)
def test_a_client_that_stops_in_the_middle_is_let_go(hasty: Served, sent: str) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), 20) as connection:
        connection.sendall(sent.format(port=hasty.port).encode())
        answer = all_of(connection)  # ends, for the server closes
    assert b" 200 " not in answer
    assert works(hasty)


def test_a_client_that_drips_is_let_go(hasty: Served) -> None:
    """Though something comes all the time."""
    with socket.create_connection(("127.0.0.1", hasty.port), 20) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{hasty.port}\r\n".encode())
        connection.settimeout(0.05)
        for _ in range(400):
            try:
                connection.sendall(b"a: b\r\n")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            raise AssertionError("it is still open")
    assert works(hasty)


def test_a_connection_that_is_kept_open_outlives_the_deadline_of_a_request(hasty: Served) -> None:
    import time

    connection = http.client.HTTPConnection("127.0.0.1", hasty.port, timeout=20)
    for _ in range(2):
        connection.request("GET", "/api/health")
        response = connection.getresponse()
        assert response.read() == b'{"status": "up"}'
        assert connection.sock is not None
        time.sleep(0.7)
    connection.close()


def test_many_connections_that_say_nothing_leave_room(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One too many is closed at once, and the others are let go in time."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 20)
    monkeypatch.setattr(server.Protocol, "deadline_s", 3.0)
    with serve_page(home) as served:
        silent = [socket.create_connection(("127.0.0.1", served.port), 20) for _ in range(20)]
        with socket.create_connection(("127.0.0.1", served.port), 20) as one_too_many:
            assert all_of(one_too_many) == b""
        silent[0].setblocking(False)
        with pytest.raises(BlockingIOError):  # still open
            silent[0].recv(1)
        silent[0].settimeout(20)
        for connection in silent:
            assert all_of(connection) == b""
            connection.close()
        assert works(served)
