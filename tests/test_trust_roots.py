"""Which roots and which signatures are believed: TUF specification, sections 5.3 to 5.6."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from securesystemslib.signer import CryptoSigner

from c2rec.runtime.errors import TrustError
from tests.tuf_repository import TOP, Reader, TufRepository, in_days, make_reader

KEYS = [CryptoSigner.generate_ed25519() for _ in range(6)]


class Version(NamedTuple):
    """A root: indices of the keys that it names, how many it wants, and who signs it."""

    keys: list[int]
    threshold: int
    signed_by: list[int]


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    return TufRepository(tmp_path / "repository")


@pytest.fixture
def reader(repository: TufRepository, tmp_path: Path) -> Reader:
    return make_reader(repository, tmp_path / "home")


def publish_roots(repository: TufRepository, versions: list[Version]) -> None:
    """Publish roots, the first one in place of the repository's."""
    repository.signed["root"].version = 0
    for version in versions:
        keys = [KEYS[index] for index in version.keys]
        repository.set_keys("root", keys, threshold=version.threshold)
        repository.signers["root"] = [KEYS[index] for index in version.signed_by]
        repository.publish("root")


FIRST = Version([0, 1, 2], 2, [0, 1])
TAKEN = {
    "other keys, of which the old ones approve": [FIRST, Version([3, 4], 2, [1, 2, 3, 4])],
    "one key replaced, by two who stay": [FIRST, Version([1, 2, 3], 2, [1, 2])],
    "a higher threshold": [FIRST, Version([0, 1, 2], 3, [0, 1, 2])],
    "a lower threshold": [FIRST, Version([0, 1, 2], 1, [1, 2]), Version([0, 1, 2], 1, [2])],
    "strangers sign too": [FIRST, Version([0, 1, 2], 2, [5, 0, 4, 2])],
    "all keys replaced in two steps": [
        FIRST,
        Version([2, 3, 4], 2, [0, 2, 3]),
        Version([3, 4, 5], 2, [3, 4]),
        Version([3, 4, 5], 2, [4, 5]),
    ],
}
REFUSED = {
    "approved by the old keys alone": Version([3, 4], 2, [0, 1]),
    "approved by its own keys alone": Version([3, 4], 2, [3, 4]),
    "one of two old keys": Version([1, 3, 4], 2, [1, 3, 4]),
    "one of two new keys": Version([2, 3, 4], 2, [0, 1, 3]),
    "below the threshold that it sets": Version([0, 1, 2], 3, [0, 1]),
    "above the threshold that it sets, below the old one": Version([0, 1, 2], 1, [0]),
    "nobody": Version([0, 1, 2], 2, []),
}


@pytest.mark.parametrize("versions", TAKEN.values(), ids=TAKEN.keys())
def test_a_root_that_old_and_new_keys_sign_is_taken(
    repository: TufRepository, tmp_path: Path, versions: list[Version]
) -> None:
    publish_roots(repository, versions)
    reader = make_reader(repository, tmp_path / "other")

    assert reader.refresh() == {"root": len(versions), "snapshot": 1, "targets": 1, "timestamp": 1}


@pytest.mark.parametrize("version", REFUSED.values(), ids=REFUSED.keys())
def test_a_root_without_enough_signatures_is_refused(
    repository: TufRepository, tmp_path: Path, version: Version
) -> None:
    publish_roots(repository, [FIRST, version])
    reader = make_reader(repository, tmp_path / "other")

    with pytest.raises(TrustError, match="not signed by the keys that this kiosk trusts"):
        reader.refresh()

    assert reader.trusted() == {"root": 1}


def test_one_key_doesnt_count_twice(repository: TufRepository, reader: Reader) -> None:
    repository.set_keys("timestamp", KEYS[:2], threshold=2)
    repository.publish("root")
    repository.signers["timestamp"] = KEYS[:1]
    repository.publish("timestamp")
    document = json.loads(repository.content("timestamp"))
    document["signatures"] *= 2
    repository.write("timestamp", json.dumps(document).encode())

    with pytest.raises(TrustError, match="can't be trusted"):
        reader.refresh()

    assert reader.trusted() == {"root": 2}


def test_a_root_that_names_a_key_twice_is_refused(
    repository: TufRepository, reader: Reader
) -> None:
    repository.publish("root")
    document = json.loads(repository.content("root"))
    document["signed"]["roles"]["timestamp"]["keyids"] *= 2
    repository.write("root", json.dumps(document).encode())

    with pytest.raises(TrustError, match="can't be trusted"):
        reader.refresh()

    assert reader.trusted() == {"root": 1}


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_role_needs_as_many_signatures_as_the_root_says(
    repository: TufRepository, reader: Reader, role: str
) -> None:
    repository.set_keys(role, KEYS[:3], threshold=2)
    repository.publish(*TOP)
    assert reader.refresh() == dict.fromkeys(TOP, 2)
    repository.signers[role] = [KEYS[0], KEYS[5]]
    repository.publish("targets", "snapshot", "timestamp")

    with pytest.raises(TrustError, match="1/2"):
        reader.refresh()

    assert reader.trusted()[role] == 2


@pytest.mark.parametrize("role", ["root", "snapshot", "targets"])
def test_what_lies_under_another_number_is_refused(
    repository: TufRepository, reader: Reader, role: str
) -> None:
    repository.publish(*TOP)
    there = repository.path(role)
    repository.signed[role].version = 3
    there.write_bytes(repository.content(role))

    with pytest.raises(TrustError):
        reader.refresh()

    assert reader.trusted().get(role, 1) == 1


def test_one_role_doesnt_pass_for_another(repository: TufRepository, reader: Reader) -> None:
    """A snapshot that the timestamp's key has signed, too, is no timestamp."""
    shared = [KEYS[0]]
    repository.set_keys("timestamp", shared)
    repository.set_keys("snapshot", shared)
    repository.publish(*TOP)
    repository.signed["snapshot"].meta = {
        "snapshot.json": repository.signed["timestamp"].snapshot_meta
    }
    repository.write("timestamp", repository.content("snapshot"))

    with pytest.raises(TrustError, match="can't be trusted"):
        reader.refresh()

    assert reader.trusted() == {"root": 2}


def test_an_expired_root_is_kept_and_nothing_after_it_is_asked(
    repository: TufRepository, reader: Reader
) -> None:
    reader.refresh()
    repository.signed["root"].expires = in_days(-1)
    repository.publish(*TOP)

    with pytest.raises(TrustError, match=r"stale: .*root"):
        reader.refresh()

    assert reader.trusted() == {"root": 2, "snapshot": 1, "targets": 1, "timestamp": 1}
    repository.signed["root"].expires = in_days(30)
    repository.publish("root")
    assert reader.refresh() == {"root": 3, "snapshot": 2, "targets": 2, "timestamp": 2}
