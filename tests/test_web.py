"""One way to speak HTTP: proxies, certificates, redirects and an end to all waiting."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import urllib3

from c2rec.runtime.errors import IdentityError
from c2rec.runtime.home.settings import Settings
from c2rec.runtime.sync.web import ended_after, web_pool
from tests.web_servers import Authority


class Echo(BaseHTTPRequestHandler):
    """Tells who was asked for what, or sends elsewhere."""

    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        secret = self.headers.get("Proxy-Authorization", "")
        content = f"{self.path} {secret}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        pass


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Echo)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def get(url: str, settings: Settings) -> tuple[int, str]:
    pool = web_pool(url, settings, attempts=1)
    try:
        answer = pool.request("GET", url)
        return answer.status, answer.data.decode()
    finally:
        pool.clear()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


PLAIN = Settings(repository="http://h", connect_timeout=2, read_timeout=2)


def test_no_redirect_is_followed() -> None:
    with serving() as url:
        assert get(f"{url}/elsewhere", PLAIN)[0] == 302


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.replace("://", "://me:s%20cret@"))
        status, text = get("http://releases.invalid/x", PLAIN)
        assert status == 200
        assert text == "http://releases.invalid/x Basic bWU6cyBjcmV0"


def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1")
    with serving() as url:
        assert get(f"{url}/x", PLAIN) == (200, "/x ")


def test_a_proxy_that_is_no_url_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "ftp://me:secret@host:99999/")
    with pytest.raises(IdentityError, match="HTTP_PROXY can't be used") as caught:
        web_pool("http://h", PLAIN)
    assert "secret" not in str(caught.value)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("tls"))
    authority.issue("server", common_name="127.0.0.1")
    authority.issue("kiosk", common_name="K1", unit="S1")
    return authority


def server_context(tls: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tls.ca))
    context.load_cert_chain(tls.folder / "server.pem", tls.folder / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_a_bundle_and_a_client_certificate_are_used(tls: Authority) -> None:
    with serving(server_context(tls)) as url:
        settings = Settings(
            repository=url,
            ca_bundle=str(tls.ca),
            client_cert=str(tls.folder / "kiosk.pem"),
            client_key=str(tls.folder / "kiosk.key"),
        )
        assert get(f"{url}/x", settings)[0] == 200
        with pytest.raises(urllib3.exceptions.MaxRetryError, match="certificate verify failed"):
            get(f"{url}/x", Settings(repository=url))


@pytest.mark.parametrize(
    ("field", "file"), [("ca_bundle", "missing.pem"), ("ca_bundle", "kiosk.key")]
)
def test_a_bundle_that_cannot_be_used_is_told(tls: Authority, field: str, file: str) -> None:
    settings = Settings(repository="https://h", **{field: str(tls.folder / file)})  # type: ignore[arg-type]
    with pytest.raises(IdentityError, match=rf"kiosk.toml: {field} .*{file} can't be used"):
        web_pool("https://h", settings)


def test_a_client_certificate_that_cannot_be_used_is_told(tls: Authority) -> None:
    cert, key = str(tls.folder / "kiosk.pem"), str(tls.folder / "server.key")
    settings = Settings(repository="https://h", client_cert=cert, client_key=key)
    with pytest.raises(IdentityError, match=r"client_cert .*kiosk\.pem with its key can't be used"):
        web_pool("https://h", settings)


def test_what_waits_is_ended_in_its_own_thread_alone(tmp_path: Path) -> None:
    """Two threads wait for the same silent server; the time of one is over."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        settings = Settings(repository=url, read_timeout=1.5)
        ended: dict[str, float] = {}

        def wait(name: str, seconds: float) -> None:
            with ended_after(seconds) as over:
                try:
                    get(url, settings)
                except urllib3.exceptions.HTTPError:
                    ended[name] = time.monotonic()
                assert over.is_set() == (name == "short")

        threads = [
            threading.Thread(target=wait, args=("short", 0.2)),
            threading.Thread(target=wait, args=("long", 30)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ended["short"] < ended["long"]
