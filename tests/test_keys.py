"""Head office's keys: made, opened, handed to kiosks, and replaced."""

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, Root

from c2rec.export.keys import OFFLINE, PATHS, ROLES, Keys, make_keys
from c2rec.export.kit import write_kit
from c2rec.export.rotation import rotate
from c2rec.export.signed import open_repository
from c2rec.export.upkeep import resign
from c2rec.runtime.errors import PublishError
from c2rec.runtime.home.identity import derived_key, parse_identity, pseudonym
from tests.repositories import (
    make_head,
    replace_by_another_repository,
    resign_all,
    rotate_key,
    scores_key_signs_a_release,
    sign_with,
)
from tests.repository_reader import read_repository, tuf_client


def test_every_private_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", passphrase=None)
    secret = [*keys.folder.rglob("*.pem"), keys.folder / "customer.key", keys.folder / "stores.key"]
    assert len(secret) == len(ROLES) + 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700
    assert len(list((keys.folder / "offline").iterdir())) == len(OFFLINE)


def test_each_role_has_another_key_and_its_own_paths(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", passphrase=None)
    keyids = [keyid for role in ROLES for keyid in keys.signers(role)]
    assert len(set(keyids)) == len(ROLES)
    delegations = keys.targets()[0].signed.delegations
    assert delegations is not None
    assert delegations.roles is not None
    assert {name: role.paths for name, role in delegations.roles.items()} == {
        name: [path] for name, path in PATHS.items()
    }
    assert all(role.terminating for role in delegations.roles.values())


def test_a_passphrase_encrypts_private_keys(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", passphrase=b"right")
    for path in keys.folder.rglob("*.pem"):
        assert b"ENCRYPTED" in path.read_bytes()
    assert keys.signers("release")
    with pytest.raises(PublishError, match="the passphrase doesn't open it"):
        Keys(keys.folder, b"wrong").signers("release")
    with pytest.raises(PublishError, match=r"is encrypted; give --passphrase-file"):
        Keys(keys.folder).signers("release")


def test_keys_are_not_made_over_others(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", passphrase=None)
    before = keys.customer_key
    with pytest.raises(PublishError, match="is there already; choose another"):
        make_keys(tmp_path / "keys", passphrase=None)
    assert keys.customer_key == before
    (tmp_path / "file").write_text("")
    with pytest.raises(PublishError, match="is there already"):
        make_keys(tmp_path / "file", passphrase=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "keys"]


@pytest.mark.parametrize(("number", "threshold"), [(1, 2), (0, 0), (3, 0), (21, 1)])
def test_a_threshold_that_nobody_can_meet_is_refused(
    tmp_path: Path, number: int, threshold: int
) -> None:
    with pytest.raises(PublishError, match=r"allowed: 1 to 20 keys"):
        make_keys(tmp_path / "keys", passphrase=None, root_keys=number, threshold=threshold)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "customer.key").unlink(), "customer.key: can't be read: No such file"),
        (lambda f: (f / "customer.key").write_text("ab"), "customer.key is damaged; allowed: 64"),
        (lambda f: (f / "customer.key").write_text("zz" * 32), "customer.key is damaged"),
        (lambda f: shutil.rmtree(f / "metadata"), "is no folder of keys: .* keys init"),
        (lambda f: (f / "metadata" / "1.root.json").write_text("{}"), "1.root.json is damaged"),
        (
            lambda f: shutil.copy(
                f / "metadata" / "1.targets.json", f / "metadata" / "1.root.json"
            ),
            "is targets metadata; allowed: root",
        ),
    ],
)
def test_a_damaged_folder_says_what_is_wrong(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    keys = make_keys(tmp_path / "keys", passphrase=None)
    damage(keys.folder)
    with pytest.raises(PublishError, match=message):
        open_all(keys)


def open_all(keys: Keys) -> None:
    keys.root()
    assert keys.customer_key


def test_a_private_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    keys = make_keys(tmp_path / "keys", passphrase=None)
    (path,) = keys.files("data")
    pem = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    path.write_bytes(pem)
    with pytest.raises(PublishError, match="is no ed25519 key"):
        keys.signers("data")
    path.write_bytes(b"no key")
    with pytest.raises(PublishError, match="or it is damaged"):
        keys.signers("data")


@pytest.mark.parametrize("store", ["S12", "../../etc/passwd", "a/b.c", "Köln 3", "."])
def test_a_kit_holds_keys_of_its_store_alone(tmp_path: Path, store: str) -> None:
    keys = make_keys(tmp_path / "keys", passphrase=None)
    write_kit(keys, store, "K1", tmp_path / "kit")
    assert sorted(path.name for path in (tmp_path / "kit").iterdir()) == [
        "identity.json",
        "root.json",
    ]
    identity = parse_identity((tmp_path / "kit" / "identity.json").read_bytes())
    assert (identity.store, identity.device) == (store, "K1")
    assert identity.customer_key == keys.customer_key
    assert identity.store_key == derived_key(keys.stores_key, f"store:{store}")
    assert identity.device_key == derived_key(keys.stores_key, f"device:{store}\0K1")
    other = keys.identity("another", "K1")
    assert other.store_key != identity.store_key
    assert other.device_key != identity.device_key
    assert pseudonym(other.customer_key, "c") == pseudonym(identity.customer_key, "c")
    assert keys.stores_key.hex() not in (tmp_path / "kit" / "identity.json").read_text()
    mode = (tmp_path / "kit" / "identity.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    root = Metadata[Root].from_bytes((tmp_path / "kit" / "root.json").read_bytes())
    assert root.signed.version == 1


def test_a_kit_is_not_written_over_another(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", passphrase=None)
    write_kit(keys, "S1", "K1", tmp_path / "kit")
    with pytest.raises(PublishError, match="is there already; choose another --out"):
        write_kit(keys, "S2", "K1", tmp_path / "kit")
    with pytest.raises(PublishError, match="store is ''; allowed: 1 to 100 printable"):
        write_kit(keys, "", "K1", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("role", ROLES)
def test_a_rotated_key_counts_no_longer_and_kiosks_follow(tmp_path: Path, role: str) -> None:
    head = make_head(tmp_path)
    old = dict(head.keys.signers(role))
    before = read_repository(head.repo, head.keys)
    done = rotate(head.keys, role)
    assert set(done.revoked) == set(old)
    assert not set(done.new) & set(old)
    # nothing has changed for kiosks yet, and then all at once
    assert read_repository(head.repo, head.keys).ring == before.ring
    resign_all(head)
    assert read_repository(head.repo, head.keys).ring == before.ring
    assert set(head.keys.signers(role)) == set(done.new)  # the old files are gone
    client = tuf_client(head.repo, head.root, tmp_path / "client")
    client.refresh()
    root = head.keys.root().signed
    delegator = head.keys.targets()[0].signed if role in PATHS else root
    assert set(delegator.get_delegated_role(role).keyids) == set(done.new)
    for signed in (*PATHS, "snapshot", "timestamp"):
        verifier = head.keys.targets()[0].signed if signed in PATHS else root
        newest = max(
            (head.repo / "metadata").glob(f"*{signed}.json"), key=lambda p: p.stat().st_mtime_ns
        )
        md: Metadata[Root] = Metadata.from_file(str(newest))
        verifier.verify_delegate(signed, md.signed_bytes, md.signatures)
    head.publish(seed=2)
    assert read_repository(head.repo, head.keys).ring.seq == 2


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "release", "channel", "data"])
def test_what_a_revoked_key_signs_is_refused(tmp_path: Path, role: str) -> None:
    head = make_head(tmp_path)
    sign_with(head, role, head.keys.signers(role))  # in force, it is believed
    read_repository(head.repo, head.keys)
    sign_with(head, role, rotate_key(head, role))
    client = tuf_client(head.repo, head.root, tmp_path / "client")
    with pytest.raises(UnsignedMetadataError):
        client.get_targetinfo(PATHS.get(role, "x").replace("*", "1.json"))
    with pytest.raises(PublishError, match=f"{role} metadata is not signed by the key of role"):
        head.publish(seed=2)


def test_a_scores_key_cannot_sign_a_release(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    scores_key_signs_a_release(head, 2, b"a model of theirs")
    client = tuf_client(head.repo, head.root, tmp_path / "client")
    assert client.get_targetinfo("rel/2.json") is None
    assert client.get_targetinfo("rel/1.json") is not None


def test_publishing_needs_no_offline_key(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    shutil.move(head.keys.folder / "offline", tmp_path / "safe")
    head.publish(seed=2)
    resign_all(head)
    assert read_repository(head.repo, head.keys).ring.seq == 2
    for role in ("root", "targets", "release", "timestamp"):
        with pytest.raises(PublishError, match=r"offline has 0 of the 1 (root|targets) keys"):
            rotate(head.keys, role)
        assert len(head.keys.files(role)) == (role not in OFFLINE)  # nothing was made in vain


def test_a_new_root_needs_the_threshold_of_the_old_ones(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", passphrase=b"x", root_keys=3, threshold=2)
    first, second, _third = keys.files("root")
    kept = second.read_bytes()
    first.unlink()
    done = rotate(keys, "root")  # two of three
    assert len(done.new) == 3
    new = keys.root()
    old = Metadata[Root].from_bytes(keys.roots()[0])
    for root in (old, new):
        root.signed.verify_delegate("root", new.signed_bytes, new.signatures)
    a, b, _c = keys.files("root")
    a.unlink()
    b.unlink()
    (keys.folder / "offline" / second.name).write_bytes(kept)  # a revoked one doesn't help
    with pytest.raises(PublishError, match="has 1 of the 2 root keys that have to sign"):
        rotate(keys, "root")


def test_a_copy_with_some_keys_takes_a_rotation_over(tmp_path: Path) -> None:
    """The machine that signs scores needs nothing but its own keys after others were replaced."""
    head = make_head(tmp_path)
    copy = Path(shutil.copytree(head.keys.folder, tmp_path / "copy"))
    shutil.rmtree(copy / "offline")
    for role in ("root", "targets", "release"):
        rotate(head.keys, role)
    resign_all(head)
    with open_repository(head.repo, Keys(copy)) as repository:
        resign(repository)
    assert len(Keys(copy).roots()) == 3
    assert read_repository(head.repo, head.keys).ring.seq == 1


def test_a_root_that_ours_does_not_vouch_for_is_not_taken_over(tmp_path: Path) -> None:
    head, thief = make_head(tmp_path / "head"), make_keys(tmp_path / "thief", passphrase=None)
    rotate(thief, "root")
    (head.repo / "metadata" / "2.root.json").write_bytes(thief.roots()[1])
    with pytest.raises(PublishError, match="root metadata is not signed by the key of role root"):
        head.publish(seed=2)
    assert len(head.keys.roots()) == 1


def test_kiosks_follow_over_many_rotations(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    for role in ("root", "timestamp", "targets", "root", "snapshot", "scores"):
        rotate(head.keys, role)
        resign_all(head)
    client = tuf_client(head.repo, head.root, tmp_path / "client")
    client.refresh()
    assert json.loads(head.keys.roots()[-1])["signed"]["version"] == 6
    assert read_repository(head.repo, head.keys).ring.seq == 1


def test_another_repository_is_not_taken_for_ours(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    replace_by_another_repository(head)
    with (
        pytest.raises(PublishError, match="was made with other keys than those in"),
        open_repository(head.repo, head.keys),
    ):
        pass
    with pytest.raises(RepositoryError):
        tuf_client(head.repo, head.root, tmp_path / "client").refresh()
