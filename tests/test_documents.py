"""The signed documents of a repository come back as written, and nothing else is believed."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.release.bundle import read_bundle
from c2rec.runtime.sync.documents import (
    BlobRef,
    DeltaRef,
    PublishedRelease,
    Ring,
    ShardRef,
    Wave,
    index_json,
    parse_index,
    parse_release,
    parse_ring,
    parse_tombstones,
    tombstones_json,
    travelling,
    wave_place,
)
from tests.release import make_release

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
SPACE = "ab" * 32
BLOB = BlobRef("cd" * 32, 7)
RING = Ring("stable", 12, 9, False, (Wave(NOW, 0.1), Wave(NOW + timedelta(days=1), 1)), NOW)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> PublishedRelease:
    folder = tmp_path_factory.mktemp("release") / "bundle"
    make_release(folder)
    manifest = read_bundle(folder).manifest
    files = {
        name: (BlobRef(manifest.files[name].sha256, manifest.files[name].bytes),)
        for name in travelling(manifest)
    }
    return PublishedRelease(12, NOW, "0.1.0", SPACE, manifest, files, (BLOB, BLOB), None)


def spoiled(text: str, path: list[str | int], value: Any) -> bytes:
    """A document with one field replaced, or with ``...`` left out."""
    document = json.loads(text)
    *before, last = path
    place = document
    for part in before:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(document).encode()


def test_documents_come_back_as_they_were_written(release: PublishedRelease) -> None:
    assert parse_ring(RING.to_json().encode(), "stable") == RING
    assert parse_release(release.to_json().encode(), 12) == release
    shards = [
        ShardRef(0, 2, 5, SPACE, BLOB),
        ShardRef(1, 2, 0, SPACE, BLOB, (DeltaRef(SPACE, BLOB),)),
    ]
    index = index_json(SPACE, {"S12": shards, "été": []})
    assert parse_index(index.encode(), space=SPACE) == {"S12": tuple(shards), "été": ()}
    ids = ["00" * 16, "ff" * 16]
    assert parse_tombstones(tombstones_json(ids, NOW).encode()) == set(map(bytes.fromhex, ids))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], 2, "format is 2, newer than the 1 that this version reads; upgrade it"),
        (["format"], True, "format is True; allowed: a whole number from 1 to 1"),
        (["format"], ..., "format is missing"),
        (["ring"], "canary", "ring is 'canary'; allowed: 'stable'"),
        (["seq"], 0, "seq is 0; allowed: a whole number from 1"),
        (["seq"], 1.0, "seq is 1.0"),
        (["floor"], 13, "floor is 13; allowed: a whole number from 0 to 12"),
        (["halt"], 0, "halt is 0; allowed: true or false"),
        (["waves"], {}, "waves is {}; allowed: a list"),
        (["waves", 0, "share"], 1.5, r"waves\[0\]: share is 1.5; allowed: a number from 0 to 1"),
        (["waves", 0, "share"], float("nan"), "share is nan"),
        (["waves", 1, "share"], 0.05, "allowed: times and shares that don't fall"),
        (["waves", 0, "at"], "2026-03-01T00:00:00Z", "allowed: times and shares that don't fall"),
        (["waves", 0, "at"], "2026-01-31", "at is '2026-01-31'; allowed: a time in UTC"),
        (["issued_at"], "2026-01-31T09:30:00+00:00", "issued_at is"),
        (["issued_at"], 7, "issued_at is 7; allowed: a time in UTC"),
    ],
)
def test_a_ring_is_refused_by_field(path: list[str | int], value: Any, message: str) -> None:
    with pytest.raises(ReleaseError, match=message):
        parse_ring(spoiled(RING.to_json(), path, value), "stable")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["seq"], 11, "seq is 11; allowed: 12"),
        (["space"], "AB" * 32, "space is 'AB.*allowed: 64 lower-case hex digits"),
        (["files", "scorer.onnx"], ..., "files is .*; allowed: exactly"),
        (["files", "../../etc/passwd"], [], "files is .*; allowed: exactly"),
        (["files", "scorer.onnx", 0, "bytes"], 1, "the blobs of scorer.onnx have 1 bytes"),
        (["files", "scorer.onnx", 0, "bytes"], 1 << 40, "bytes is 1099511627776; allowed"),
        (["files", "scorer.onnx", 0, "sha256"], "../x", "sha256 is '../x'; allowed: 64"),
        (["indexes"], [], r"indexes is \[\]; allowed: at least one blob"),
        (["visitors"], ..., "visitors is missing"),
        (["manifest", "release"], "../x", "release is '../x'"),
        (["min_runtime"], "1\n2", "min_runtime is"),
    ],
)
def test_a_release_is_refused_by_field(
    release: PublishedRelease, path: list[str | int], value: Any, message: str
) -> None:
    with pytest.raises(ReleaseError, match=message):
        parse_release(spoiled(release.to_json(), path, value), 12)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b"<html>hello</html>"])
def test_what_is_no_document_is_named(content: bytes) -> None:
    with pytest.raises(ReleaseError, match=r"channel/stable.json is "):
        parse_ring(content, "stable")


def test_an_index_of_another_space_is_refused() -> None:
    text = index_json("cd" * 32, {})
    with pytest.raises(ReleaseError, match=r"space is 'cdcd.*allowed: abab.*, the release's"):
        parse_index(text.encode(), space=SPACE)


def test_a_bucket_that_is_missing_is_refused() -> None:
    text = index_json(SPACE, {"S12": [ShardRef(1, 2, 5, SPACE, BLOB)]})
    with pytest.raises(ReleaseError, match=r"S12 is .*; allowed: each bucket once, in order"):
        parse_index(text.encode(), space=SPACE)


def test_a_wave_is_reached_by_its_share_of_kiosks() -> None:
    before, between, after = (NOW + timedelta(days=days) for days in (-1, 0.5, 2))
    assert [RING.share(moment) for moment in (before, between, after)] == [0, 0.1, 1]
    assert Ring("all", 1, 0, False, (), NOW).share(before) == 1
    places = [wave_place(f"S{store}/K{device}", 12) for store in range(1000) for device in (1, 2)]
    assert 0.08 < sum(place < 0.1 for place in places) / len(places) < 0.12
    assert sum(a < 0.1 and wave_place(f"S{i}/K1", 13) < 0.1 for i, a in enumerate(places[::2])) < 30


@given(st.binary(max_size=200))
def test_random_bytes_never_get_through(content: bytes) -> None:
    for parse in (
        lambda: parse_ring(content, "stable"),
        lambda: parse_release(content, 1),
        lambda: parse_index(content, space=SPACE),
        lambda: parse_tombstones(content),
    ):
        with pytest.raises(ReleaseError):
            parse()


def test_the_format_document_names_every_field(release: PublishedRelease) -> None:
    text = (Path(__file__).parent.parent / "docs" / "repository-format.md").read_text()
    shard = ShardRef(0, 1, 5, SPACE, BLOB).document()
    for document in (json.loads(RING.to_json()), json.loads(release.to_json()), shard):
        for name in document:
            assert f"`{name}`" in text or f'"{name}"' in text, name
