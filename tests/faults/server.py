"""A web server for a repository, on loopback, that can be told to fail."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeAlias

PORTAL = b"<!DOCTYPE html><title>Welcome to our Wi-Fi</title>" + b"<p>Please log in.</p>" * 40


@dataclass
class Reply:
    """What a server answers."""

    status: int
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)
    write: Callable[[BaseHTTPRequestHandler, bytes], None] | None = None
    """Writes the content in its own way."""


Fault: TypeAlias = Callable[[str, Reply], Reply]
"""Changes the reply to a path."""


@dataclass
class Server:
    """A running server."""

    folder: Path
    url: str = ""
    fault: Fault | None = None
    requests: list[str] = field(default_factory=list)
    """Paths asked for, with the byte that a Range begins at: ``blob/…@100``."""
    drip: float | None = None
    """Seconds between the bytes of each answer, its head included."""
    sent: int = 0
    """Bytes of bodies sent."""

    def reply(self, path: str, first: int) -> Reply:
        """Answer from the folder, and let the fault change it."""
        self.requests.append(path + (f"@{first}" if first else ""))
        try:
            content = (self.folder / path).read_bytes()
            reply = Reply(200, content)
        except OSError:
            content, reply = b"", Reply(404, b"")
        if reply.status == 200 and first:
            reply = Reply(206, reply.content[first:])
            reply.headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        return reply if self.fault is None else self.fault(path, reply)


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Serve a folder until the block ends."""
    served, ended = Server(folder), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body at once: each would wait 40 ms for an acknowledgement

        def do_GET(self) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            reply = served.reply(self.path.lstrip("/"), int(asked[1]) if asked else 0)
            if served.drip is not None:
                self._drip(served.drip, reply.content)
                return
            self.send_response(reply.status)
            headers = {"Content-Length": str(len(reply.content))} | reply.headers
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            served.sent += len(reply.content)
            try:
                if reply.write is not None:
                    reply.write(self, reply.content)
                    self.close_connection = True
                else:
                    self.wfile.write(reply.content)
                    self.wfile.flush()
            except OSError:
                self.close_connection = True  # the kiosk has gone

        def _drip(self, pause: float, content: bytes) -> None:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            self.close_connection = True
            with suppress(OSError):  # the kiosk has gone
                for byte in head + content:
                    if ended.wait(pause):
                        return
                    self.connection.sendall(bytes([byte]))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    served.url = f"http://127.0.0.1:{httpd.server_port}"
    try:
        yield served
    finally:
        ended.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()
