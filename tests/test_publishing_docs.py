"""What docs/publishing.md tells an operator to type works, in a folder and in a bucket."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from moto.server import ThreadedMotoServer

from c2rec.export.keys import Keys
from c2rec.export.storage import open_storage
from tests.release import make_release
from tests.repository_reader import read_repository

PAGE = (Path(__file__).parent.parent / "docs" / "publishing.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def server() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_every_block_runs_in_order(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_release(tmp_path / "bundle", stores=[["S12"]] * 30)
    make_release(tmp_path / "next-bundle", name="next", stores=[["S12"]] * 30, rebought=[3])
    assert urllib3.request("PUT", f"{server}/retailer-releases").status == 200
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        "PATH": path,
        "AWS_ENDPOINT": server,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    done = subprocess.run(
        ["sh", "-eu"],
        input="\n".join(BLOCKS),
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    keys = Keys(tmp_path / "keys")
    seen = read_repository(tmp_path / "repo", keys)
    assert (seen.ring.seq, seen.ring.halt, len(seen.tombstones)) == (3, False, 1)
    assert read_repository(tmp_path / "repo", keys, ring="pilot").ring.seq == 2
    assert not (tmp_path / "keys" / "offline").exists()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bucket = open_storage("s3://retailer-releases/c2rec")
    assert bucket.exists("metadata/timestamp.json")
    assert len(list(bucket.list("targets/rel"))) == 2


def test_the_page_tells_of_every_command() -> None:
    from c2rec.export.cli import cli

    for name in cli.commands:
        if name not in ("bundle", "check", "online-scores", "collect", "completion", "kiosk-pack"):
            assert f"c2rec-export {name}" in PAGE, name
