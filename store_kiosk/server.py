"""The page's web server: uvicorn, with limits on time and connections that it lacks."""

import asyncio
import json
import socket
import ssl
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from c2rec.runtime.errors import ServeError

MOST_CONNECTIONS = 256
"""More are closed as they come; those whose TLS handshake has not ended count, too."""
DEADLINE_S = 10.0
"""From the first byte of a request, or from connecting, to the end of its answer."""
HEAD_BYTES = 16_384
"""Longest request line and headers."""


class Protocol(H11Protocol):
    """Closes a connection whose request takes too long to come, or its answer to go."""

    deadline_s = DEADLINE_S
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        # asyncio does so for sockets that name their protocol, which accepted ones don't: an answer
        # is written in two parts, and the second waits 40 ms for the first to be acknowledged
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request, or all of it."""
        self._watch()
        super().data_received(data)
        self._unwatch_between_requests()

    def on_response_complete(self) -> None:
        """Stop waiting, unless the rest of a refused request is still to come."""
        super().on_response_complete()
        self._unwatch_between_requests()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        document = {"type": "urn:c2rec:problem:bad-http", "title": msg, "status": 400}
        body = json.dumps(document).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.deadline_s, self.transport.abort)

    def _unwatch_between_requests(self) -> None:
        # a connection kept open is closed by uvicorn's own, longer wait
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self._unwatch()

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Listener(socket.socket):
    """Accepts so many connections at once; one more is closed as it comes.

    Here, and not in the protocol, which hears of a connection only after its TLS handshake: those
    that never end it would take all the files that the process may have open.
    """

    def __init__(self, bound: socket.socket) -> None:
        super().__init__(bound.family, bound.type, bound.proto, fileno=bound.detach())
        self._accepted: list[socket.socket] = []

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept one.

        Raises:
            BlockingIOError: there is none, or it was one too many.
        """
        connection, address = super().accept()
        self._accepted = [each for each in self._accepted if each.fileno() >= 0]
        if len(self._accepted) >= MOST_CONNECTIONS:
            connection.close()
            raise BlockingIOError("too many connections")
        self._accepted.append(connection)
        return connection, address


def listen(host: str, port: int) -> Listener:
    """Bind a port; 0 for any that is free.

    Raises:
        ServeError: it can't be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
    except OSError as error:
        raise ServeError(
            f"can't listen on {host} port {port}: {error.strerror}; "
            "allowed: an address of this machine and a free port, as in --port 8766"
        ) from error
    return Listener(bound)


def make_server(app: ASGIApp, tls: ssl.SSLContext | None = None) -> uvicorn.Server:
    """Make a server, to be run with sockets of ``listen``; it speaks plain HTTP without ``tls``."""
    options: dict[str, Any] = {
        "http": Protocol,
        "ws": "none",
        "loop": "asyncio",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": 30,
        "timeout_graceful_shutdown": 3,
        "h11_max_incomplete_event_size": HEAD_BYTES,
    }
    config = uvicorn.Config(app, **options)
    config.load()
    config.ssl = tls  # an option since uvicorn 0.47 alone
    return uvicorn.Server(config)
