"""Fault 4: a server that drips, so that no pause is ever too long."""

import time
from http.server import BaseHTTPRequestHandler

import pytest

from c2rec.runtime.errors import NetworkError
from tests.faults.place import Place
from tests.faults.server import Reply


def test_a_dripping_server_ends_at_the_deadline(fresh: Place) -> None:
    """Even the heads of the answers drip."""
    with fresh.served() as server:
        server.drip = 0.05
        fresh.settings(deadline=0.4)
        with pytest.raises(NetworkError, match=r"is too slow: the 0\.4 seconds allowed are over"):
            fresh.sync()
    fresh.safe()


def test_a_blob_that_drips_ends_at_the_deadline_and_is_kept_as_far_as_it_came(fresh: Place) -> None:
    with fresh.served() as server:

        def slow(path: str, reply: Reply) -> Reply:
            if path.startswith("blob/"):
                server.drip = 0.05
            return reply

        server.fault = slow
        fresh.settings(deadline=1.0)
        with pytest.raises(NetworkError, match="is too slow"):
            fresh.sync()
    assert list((fresh.home / "blob").glob("*.part"))
    fresh.safe()


def begin_and_wait(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.wfile.write(content[:10])
    handler.wfile.flush()
    time.sleep(0.7)


def test_a_server_that_stops_in_the_middle_is_the_network(fresh: Place) -> None:
    def stuck(path: str, reply: Reply) -> Reply:
        if path.startswith("blob/"):
            reply.write = begin_and_wait
        return reply

    with fresh.served() as server:
        server.fault = stuck
        fresh.settings(read_timeout=0.2)
        with pytest.raises(NetworkError, match="has stopped sending"):
            fresh.sync()
    fresh.safe()
