"""The documented web server lets kiosks do what they must, and nothing else."""

import os
import shutil
from collections.abc import Iterator

import pytest
import urllib3

from tests.web_servers import Nginx, nginx

if not os.environ.get("C2REC_REQUIRE_NGINX"):
    pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx(tmp_path_factory.mktemp("nginx")) as running:
        (running.repository / "metadata").mkdir()
        (running.repository / "blob").mkdir()
        (running.repository / "metadata" / "timestamp.json").write_text("{}")
        (running.repository / "metadata" / "1.root.json").write_text("{}")
        (running.repository / "blob" / ("a" * 64)).write_bytes(bytes(range(256)))
        yield running


def kiosk(server: Nginx, store: str = "S12", device: str = "K1") -> urllib3.PoolManager:
    """A client with the certificate of a kiosk."""
    certificate, key = server.tls.issue(f"{store}-{device}", common_name=device, unit=store)
    return urllib3.PoolManager(
        ca_certs=str(server.tls.ca), cert_file=str(certificate), key_file=str(key), retries=False
    )


def status(server: Nginx, method: str, path: str, body: bytes | None = None) -> int:
    found: int = kiosk(server).request(method, server.url + path, body=body).status
    return found


@pytest.mark.parametrize(
    ("path", "cached"),
    [
        ("/metadata/timestamp.json", "no-cache"),
        ("/metadata/1.root.json", "public, max-age=31536000, immutable"),
        (f"/blob/{'a' * 64}", "public, max-age=31536000, immutable"),
    ],
)
def test_releases_are_read_and_cached_by_what_they_are(
    server: Nginx, path: str, cached: str
) -> None:
    answer = kiosk(server).request("GET", server.url + path)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, cached)


def test_a_download_goes_on_where_it_was(server: Nginx) -> None:
    url = f"{server.url}/blob/{'a' * 64}"
    answer = kiosk(server).request("GET", url, headers={"Range": "bytes=250-"})
    assert (answer.status, answer.data) == (206, bytes(range(250, 256)))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_nobody_writes_releases(server: Nginx, method: str) -> None:
    for path in ("/metadata/timestamp.json", "/metadata/x", "/blob/x", "/targets/x", "/x"):
        assert status(server, method, path, b"{}") in (403, 404, 405)
    assert (server.repository / "metadata" / "timestamp.json").read_text() == "{}"


def test_without_a_certificate_nothing_is_served(server: Nginx) -> None:
    stranger = urllib3.PoolManager(ca_certs=str(server.tls.ca), retries=False)
    answer = stranger.request("GET", server.url + "/metadata/timestamp.json")
    assert answer.status == 400


def test_a_batch_is_created_once_and_never_replaced(server: Nginx) -> None:
    path = "/events/S12/K1/e1/1-20"
    assert status(server, "PUT", path, b"first") == 201
    assert status(server, "PUT", path, b"second") == 412
    assert kiosk(server).request("GET", server.url + path).data == b"first"
    assert (server.inbox / path[1:]).read_bytes() == b"first"
    assert status(server, "DELETE", path) in (403, 405)


@pytest.mark.parametrize(
    "path",
    [
        "/events/S12/K2/e1/1-20",
        "/events/S13/K1/e1/1-20",
        "/events/S12/K1/e1",
        "/events/S12/K1/e1/1-20/more",
        "/events/S12/K1/../K2/e1/1-20",
        "/events/S12/K1/%2e%2e/K2/e1/1-20",
        "/events/S12/K1/e1/..%2f1-20",
        "/events/S12/K1/e1/name",
    ],
)
def test_a_kiosk_writes_to_its_own_folder_alone(server: Nginx, path: str) -> None:
    before = sorted(server.inbox.rglob("*-*"))
    assert status(server, "PUT", path, b"x") == 403
    assert sorted(server.inbox.rglob("*-*")) == before


def test_a_kiosk_reads_only_what_it_wrote(server: Nginx) -> None:
    assert status(server, "PUT", "/events/S12/K1/e2/1-1", b"mine") == 201
    other = kiosk(server, device="K9").request("GET", f"{server.url}/events/S12/K1/e2/1-1")
    assert other.status == 403


def test_a_batch_that_is_too_large_is_refused(server: Nginx) -> None:
    assert status(server, "PUT", "/events/S12/K1/e3/1-9", b"x" * (5 << 20)) == 413
    assert not (server.inbox / "events/S12/K1/e3/1-9").exists()
