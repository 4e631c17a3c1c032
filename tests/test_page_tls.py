"""The page over TLS, as a process, with a certificate that an authority of its own has signed."""

import http.client
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.kiosk_page import make_home
from tests.web_servers import Authority

COMMAND = [sys.executable, "-c", "from c2rec.store_kiosk.cli import main; main()"]
ADDRESS = re.compile(r"Serving https://127\.0\.0\.1:(\d+)/\?token=(\S+)\n")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.issue("server", common_name="127.0.0.1")
    made.issue("other", common_name="127.0.0.1")
    return made


@contextmanager
def serving(home: Path, *options: str) -> Iterator[tuple[int, str]]:
    """The port and the token of the running command."""
    process = subprocess.Popen(
        [*COMMAND, "--home", str(home), "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        found = ADDRESS.fullmatch(process.stdout.readline())
        assert found is not None
        yield int(found[1]), found[2]
    finally:
        process.terminate()
        _, logged = process.communicate()
    assert "Traceback" not in logged


@pytest.fixture(scope="module")
def served(home: Path, authority: Authority) -> Iterator[tuple[int, str]]:
    certificate, key = authority.folder / "server.pem", authority.folder / "server.key"
    with serving(home, "--certificate", str(certificate), "--private-key", str(key)) as found:
        yield found


def ask(
    port: int, authority: Authority, method: str, path: str, **headers: str
) -> http.client.HTTPResponse:
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=trusting)
    body = b"{}" if method == "POST" else None
    connection.request(method, path, body, headers | {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def test_who_trusts_its_authority_is_served(served: tuple[int, str], authority: Authority) -> None:
    port, token = served
    assert ask(port, authority, "GET", "/api/data", Authorization=f"Bearer {token}").status == 200
    assert ask(port, authority, "GET", "/api/data").status == 401


def test_the_cookie_goes_over_tls_alone(served: tuple[int, str], authority: Authority) -> None:
    port, token = served
    opened = ask(port, authority, "GET", f"/?token={token}")
    cookie = opened.headers["Set-Cookie"]
    assert "; Secure" in cookie
    kept = cookie.partition(";")[0]
    assert ask(port, authority, "GET", "/", Cookie=kept).status == 200


def test_its_own_page_may_ask_and_a_plain_one_may_not(
    served: tuple[int, str], authority: Authority
) -> None:
    port, token = served
    for scheme, status in (("https", 201), ("http", 403)):
        origin = f"{scheme}://127.0.0.1:{port}"
        bearer = f"Bearer {token}"
        headers = {"Origin": origin, "Authorization": bearer}
        assert ask(port, authority, "POST", "/api/sessions", **headers).status == status


def test_who_doesn_t_know_the_authority_or_speaks_plainly_gets_nothing(
    served: tuple[int, str], authority: Authority
) -> None:
    port, token = served
    strict = ssl.create_default_context()
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=strict)
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/api/health")
    connection.close()
    plain = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    plain.request("GET", "/api/health")
    with pytest.raises((http.client.BadStatusLine, ConnectionError)):
        plain.getresponse()
    plain.close()
    assert ask(port, authority, "GET", "/api/data", Authorization=f"Bearer {token}").status == 200


def test_handshakes_that_never_end_leave_room(home: Path, authority: Authority) -> None:
    """So many at most, or they would take all files that the process may have open."""
    certificate, key = authority.folder / "server.pem", authority.folder / "server.key"
    with serving(home, "--certificate", str(certificate), "--private-key", str(key)) as found:
        port, token = found
        begun = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(300)]
        for connection in begun[:256]:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")  # a hello of which the rest never comes
        for connection in begun[256:]:
            assert connection.recv(1) == b""
        begun[0].setblocking(False)
        with pytest.raises(BlockingIOError):  # still open
            begun[0].recv(1)
        for connection in begun:
            connection.close()
        assert answers_again(port, authority, token)


def answers_again(port: int, authority: Authority, token: str) -> bool:
    """Whether it does so as soon as it knows that others have gone."""
    for _ in range(200):
        try:
            answer = ask(port, authority, "GET", "/api/data", Authorization=f"Bearer {token}")
        except OSError:
            time.sleep(0.1)
        else:
            return answer.status == 200
    return False


def test_key_and_certificate_may_be_one_file(
    home: Path, authority: Authority, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    parts = [(authority.folder / name).read_text() for name in ("server.key", "server.pem")]
    both.write_text("".join(parts))
    with serving(home, "--certificate", str(both)) as (port, token):
        answer = ask(port, authority, "GET", "/api/data", Authorization=f"Bearer {token}")
        assert answer.status == 200


def with_password(key: Path, to: Path) -> Path:
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    to.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return to


def test_what_can_t_be_served_by_is_one_clear_error(
    home: Path, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.folder / "server.pem", authority.folder / "server.key"
    (tmp_path / "empty.pem").write_text("")
    locked = with_password(key, tmp_path / "locked.key")
    for options, message in (
        (["--private-key", key], "--private-key goes with --certificate"),
        (["--certificate", certificate], "can't be used"),
        (
            ["--certificate", certificate, "--private-key", authority.folder / "other.key"],
            "belongs",
        ),
        (["--certificate", certificate, "--private-key", locked], "without a password"),
        (["--certificate", tmp_path / "empty.pem", "--private-key", key], "can't be used"),
        (["--certificate", tmp_path / "none.pem"], "does not exist"),
    ):
        done = subprocess.run(
            [*COMMAND, "--home", str(home), "serve", "--port", "0", *map(str, options)],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode in (1, 2), options
        assert message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
