"""A thief's version that nobody can reach any more is forgotten once its key is, and only then.

python-tuf forgets it with the old key's metadata, TUF specification, section 5.3.11. The floors in
the state, which outlast its cache, have to let go at the same moment and not before.
"""

import shutil
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from c2rec.runtime.errors import TrustError
from c2rec.runtime.home.state import find_floors
from c2rec.runtime.sync.trust import forget
from tests.tuf_repository import TOP, Reader, TufRepository, make_reader

FAR = 1_000_000


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    return TufRepository(tmp_path / "repository")


@pytest.fixture
def reader(repository: TufRepository, tmp_path: Path) -> Reader:
    return make_reader(repository, tmp_path / "home")


def fast_forward(repository: TufRepository, reader: Reader, role: str) -> None:
    """The thief of a role's key publishes a version far ahead, and a kiosk takes it."""
    repository.signed[role].version = FAR - 1
    repository.publish(role, "timestamp")
    assert reader.refresh()[role] == repository.signed[role].version >= FAR


def begin_anew(repository: TufRepository, role: str) -> None:
    """Go back to the version before, which is 1, and publish the next one."""
    repository.signed[role].version = 1
    repository.publish("snapshot", "timestamp")


@pytest.mark.parametrize("wiped", [False, True], ids=["cache kept", "cache lost"])
@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_other_keys_end_a_fast_forward(
    repository: TufRepository, reader: Reader, role: str, wiped: bool
) -> None:
    fast_forward(repository, reader, role)
    repository.set_keys("timestamp", [CryptoSigner.generate_ed25519()])
    repository.set_keys("snapshot", [CryptoSigner.generate_ed25519()])
    repository.publish("root")
    if wiped:
        forget(reader.home)

    begin_anew(repository, role)

    assert reader.refresh()[role] == 2
    assert find_floors(reader.home)[role] == 2


@pytest.mark.parametrize("wiped", [False, True], ids=["cache kept", "cache lost"])
@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_the_same_keys_dont(
    repository: TufRepository, reader: Reader, role: str, wiped: bool
) -> None:
    fast_forward(repository, reader, role)
    repository.publish("root")  # another root, with the same keys
    if wiped:
        forget(reader.home)

    begin_anew(repository, role)

    with pytest.raises(TrustError, match="older than what this kiosk has seen"):
        reader.refresh()
    assert find_floors(reader.home)[role] >= FAR


def test_another_snapshot_key_lets_targets_begin_anew(
    repository: TufRepository, reader: Reader
) -> None:
    repository.delegate("targets", "unwanted", ["*"])
    repository.publish("unwanted")
    fast_forward_targets(repository, reader)
    repository.set_keys("snapshot", [CryptoSigner.generate_ed25519()])
    del repository.signed["snapshot"].meta["unwanted.json"]
    repository.signed["targets"].version = 1

    repository.publish(*TOP)

    assert reader.refresh()["targets"] == 2


def test_the_same_snapshot_key_doesnt(repository: TufRepository, reader: Reader) -> None:
    fast_forward_targets(repository, reader)
    repository.signed["targets"].version = 1

    repository.publish(*TOP)

    with pytest.raises(TrustError, match="older than what this kiosk has seen"):
        reader.refresh()
    assert reader.trusted()["targets"] == FAR


def fast_forward_targets(repository: TufRepository, reader: Reader) -> None:
    repository.signed["targets"].version = FAR - 1
    repository.publish("targets", "snapshot", "timestamp")
    assert reader.refresh()["targets"] == FAR


def test_floors_hold_again_after_a_recovery(repository: TufRepository, reader: Reader) -> None:
    fast_forward(repository, reader, "timestamp")
    repository.set_keys("timestamp", [CryptoSigner.generate_ed25519()])
    repository.publish("root")
    begin_anew(repository, "timestamp")
    reader.refresh()
    old = repository.path("timestamp").read_bytes()
    repository.publish("timestamp")
    assert reader.refresh()["timestamp"] == 3

    forget(reader.home)  # python-tuf remembers nothing: the floors alone can tell
    repository.write("timestamp", old)

    with pytest.raises(TrustError, match=r"timestamp\.json has version 2, this kiosk has seen 3"):
        reader.refresh()


def test_the_old_key_is_worth_nothing_after_a_recovery(
    repository: TufRepository, reader: Reader, tmp_path: Path
) -> None:
    fast_forward(repository, reader, "timestamp")
    stolen = repository.path("timestamp").read_bytes()
    repository.set_keys("timestamp", [CryptoSigner.generate_ed25519()])
    repository.publish("root")
    begin_anew(repository, "timestamp")
    reader.refresh()

    repository.write("timestamp", stolen)

    with pytest.raises(TrustError, match="not signed by the keys"):
        reader.refresh()
    assert reader.trusted()["timestamp"] == 2


def test_a_role_that_the_snapshot_lists_no_longer_is_a_rollback(
    repository: TufRepository, reader: Reader
) -> None:
    repository.delegate("targets", "release", ["rel/*"])
    repository.publish("release", *TOP)
    reader.refresh()
    del repository.signed["snapshot"].meta["release.json"]

    repository.publish("snapshot", "timestamp")

    with pytest.raises(TrustError):
        reader.refresh()
    assert reader.trusted()["snapshot"] == 2


def test_a_timestamp_whose_number_stays_is_not_another(
    repository: TufRepository, reader: Reader
) -> None:
    """Who changes a timestamp without a new number doesn't get a client to follow."""
    reader.refresh()
    before = (reader.home / "tuf" / "timestamp.json").read_bytes()
    repository.signed["timestamp"].snapshot_meta.version = 100
    repository.write("timestamp", repository.content("timestamp"))

    assert reader.refresh()["snapshot"] == 1
    assert (reader.home / "tuf" / "timestamp.json").read_bytes() == before


def test_a_cache_of_another_kiosk_is_no_worse_than_none(
    repository: TufRepository, reader: Reader, tmp_path: Path
) -> None:
    """A cache whose root leads elsewhere is not believed: trust begins at the enrolled root."""
    stranger = TufRepository(tmp_path / "elsewhere")
    other = make_reader(stranger, tmp_path / "other")
    other.refresh()
    reader.refresh()
    shutil.rmtree(reader.home / "tuf")
    shutil.copytree(other.home / "tuf", reader.home / "tuf", symlinks=True)

    repository.publish("timestamp")

    assert reader.refresh()["timestamp"] == 2
