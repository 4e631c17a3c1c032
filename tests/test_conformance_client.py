"""The client that the public conformance suite tests is ours, and tells a refusal from a bug."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.server import Server, serve
from tests.tuf_repository import TOP, TufRepository, in_days

CLIENT = Path(__file__).parent / "conformance_client.py"


@dataclass
class Client:
    """The client's process, as the suite starts it."""

    metadata: Path
    artifacts: Path
    url: str

    def run(self, *arguments: str) -> int:
        command = [sys.executable, str(CLIENT), "--metadata-dir", str(self.metadata), *arguments]
        return subprocess.run(command, check=False).returncode

    def refresh(self) -> int:
        return self.run("--metadata-url", f"{self.url}/metadata/", "refresh")

    def download(self, *names: str, targets: str = "targets/") -> int:
        where = ["--metadata-url", f"{self.url}/metadata/"]
        where += ["--target-base-url", f"{self.url}/{targets}", "--target-dir", str(self.artifacts)]
        wanted = [part for name in names for part in ("--target-name", name)]
        return self.run(*where, *wanted, "download")


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    return TufRepository(tmp_path / "repository")


@pytest.fixture
def server(repository: TufRepository) -> Iterator[Server]:
    with serve(repository.folder) as server:
        yield server


@pytest.fixture
def client(repository: TufRepository, server: Server, tmp_path: Path) -> Client:
    client = Client(tmp_path / "metadata", tmp_path / "artifacts", server.url)
    client.metadata.mkdir()
    client.artifacts.mkdir()
    assert client.run("init", str(repository.folder / "metadata" / "1.root.json")) == 0
    assert server.requests == []
    return client


def test_what_is_trusted_is_shown_byte_for_byte(repository: TufRepository, client: Client) -> None:
    repository.publish("root")

    assert client.refresh() == 0

    shown = {path.stem: path.read_bytes() for path in client.metadata.glob("*.json")}
    assert shown == {role: repository.path(role).read_bytes() for role in TOP}


def test_targets_are_downloaded_in_order_up_to_one_that_is_missing(
    repository: TufRepository, client: Client
) -> None:
    for name in ("one", "a/two", "three"):
        repository.add("targets", name, name.encode())
    repository.publish(*TOP)

    assert client.download("one", "a/two", "nothing", "three") == 1
    assert {path.name for path in client.artifacts.iterdir()} == {"one", "a%2Ftwo"}
    assert client.download("a/two", "three") == 0
    assert (client.artifacts / "three").read_bytes() == b"three"


def test_a_refusal_exits_with_1(repository: TufRepository, client: Client) -> None:
    repository.signed["timestamp"].expires = in_days(-1)
    repository.publish("timestamp")

    assert client.refresh() == 1


def test_anything_else_doesnt_pass_for_a_refusal(client: Client) -> None:
    assert client.download("one", targets="elsewhere/") == 70
