"""Faults 17 and 18: captive portals and dead servers are the network, and never an attack."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from c2rec.runtime.errors import NetworkError, SyncError
from tests.faults.place import OLD, Place
from tests.faults.server import PORTAL, Reply


def page(path: str, reply: Reply) -> Reply:
    return Reply(200, PORTAL, {"Content-Type": "text/html"})


def elsewhere(path: str, reply: Reply) -> Reply:
    return Reply(302, PORTAL, {"Location": "http://127.0.0.1:9/login"})


def page_not_found(path: str, reply: Reply) -> Reply:
    return Reply(404, PORTAL, {"Content-Type": "text/html"})


def network_login(path: str, reply: Reply) -> Reply:
    return Reply(511, PORTAL)


def other_json(path: str, reply: Reply) -> Reply:
    return Reply(200, b'{"login": "required"}', {"Content-Type": "application/json"})


def roots_are_missing_then_a_page(path: str, reply: Reply) -> Reply:
    """What python-tuf takes for "no newer root" is not the end of it."""
    return Reply(404, b"") if path.endswith("root.json") else page(path, reply)


def page_for_blobs(path: str, reply: Reply) -> Reply:
    return page(path, reply) if path.startswith("blob/") else reply


def page_for_targets(path: str, reply: Reply) -> Reply:
    return page(path, reply) if path.startswith("targets/") else reply


def broken(status: int) -> Callable[[str, Reply], Reply]:
    return lambda path, reply: Reply(status, PORTAL)


@pytest.mark.parametrize(
    "fault",
    [
        page,
        elsewhere,
        page_not_found,
        network_login,
        other_json,
        roots_are_missing_then_a_page,
        page_for_blobs,
        page_for_targets,
        broken(500),
        broken(503),
        broken(407),
    ],
)
def test_what_answers_in_the_repositorys_place_is_the_network(
    fresh: Place, fault: Callable[[str, Reply], Reply]
) -> None:
    with fresh.served() as server:
        server.fault = fault
        with pytest.raises(NetworkError) as caught:
            fresh.sync()
    assert "signed" not in str(caught.value)
    fresh.safe()


@pytest.mark.parametrize("status", [500, 503])
def test_a_broken_answer_for_a_root_is_not_no_newer_root(fresh: Place, status: int) -> None:
    """The rest of the repository would be good."""
    with fresh.served() as server:
        server.fault = lambda path, reply: (
            Reply(status, b"") if path.endswith("root.json") else reply
        )
        with pytest.raises(NetworkError, match=f"status {status}"):
            fresh.sync()
    fresh.answers(OLD)
    fresh.safe()


def test_a_server_that_is_down_is_the_network(fresh: Place) -> None:
    with fresh.served() as server:
        url = server.url
    fresh.settings(repository=url)
    with pytest.raises(NetworkError, match=r"127.0.0.1:\d+ can't be reached: .*refused"):
        fresh.sync()
    fresh.settings(repository=str(fresh.head.repo))
    fresh.safe()


def test_a_name_that_nobody_knows_is_the_network(fresh: Place) -> None:
    fresh.settings(repository="http://releases.invalid/c2rec")
    with pytest.raises(NetworkError, match=r"releases.invalid can't be reached: .*resol|.*[Nn]ame"):
        fresh.sync()
    fresh.settings(repository=str(fresh.head.repo))
    fresh.safe()


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A bare socket server: what answers is no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def run() -> None:
            server.settimeout(0.05)
            while not ended.is_set():
                with suppress(TimeoutError):
                    connection, _ = server.accept()
                    with connection, suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


def hang_up(connection: socket.socket) -> None:
    pass


def say_nothing(connection: socket.socket) -> None:
    connection.settimeout(1)
    while connection.recv(1000):
        pass


def talk_nonsense(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"220 mail.example.com ESMTP\r\n")


def stop_in_the_head(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("answer", [hang_up, say_nothing, talk_nonsense, stop_in_the_head])
def test_what_is_no_web_server_is_the_network(
    fresh: Place, answer: Callable[[socket.socket], None], scheme: str
) -> None:
    with listening(answer) as address:
        fresh.settings(repository=f"{scheme}://{address}", read_timeout=0.2, connect_timeout=0.2)
        with pytest.raises(NetworkError):
            fresh.sync()
    fresh.settings(repository=str(fresh.head.repo))
    fresh.safe()


def test_a_share_that_is_not_mounted_is_the_network(fresh: Place) -> None:
    aside = fresh.head.repo.with_name("aside")
    fresh.head.repo.rename(aside)
    fresh.head.repo.mkdir()
    with pytest.raises(NetworkError, match="is its disk or share mounted"):
        fresh.sync()
    fresh.head.repo.rmdir()
    aside.rename(fresh.head.repo)
    fresh.safe()


def test_a_missing_blob_is_told_and_taken_later(fresh: Place) -> None:
    """Fault 19."""
    blob = fresh.head.release(2).files["items.safetensors"][-1]
    path = fresh.head.repo / "blob" / blob.sha256
    aside = path.with_name("aside")
    path.rename(aside)
    with (
        fresh.served(),
        pytest.raises(SyncError, match=r"a part of items.safetensors is missing: .* answers 404"),
    ):
        fresh.sync()
    aside.rename(path)
    fresh.safe()
