"""What a kiosk remembers outlasts damage, old copies, and an upgrade that is still to come."""

import json
import re
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from c2rec.runtime.erasure.erase import erase, take_tombstones
from c2rec.runtime.erasure.tombstones import read_tombstones
from c2rec.runtime.errors import NotInstalledError, SyncError, TooNewError
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.home.enrol import enrol
from c2rec.runtime.home.identity import find_identity, pseudonym
from c2rec.runtime.home.settings import Settings, settings_path
from c2rec.runtime.home.state import (
    State,
    changing_state,
    find_state,
    go_back,
    read_state,
    read_tables,
    state_path,
)
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release import trial
from c2rec.runtime.sync.documents import BlobRef
from c2rec.runtime.sync.sync import sync
from c2rec.store_kiosk.desk import Asked, Desk
from c2rec.store_kiosk.doctor import diagnose
from tests.faults.place import CUSTOMER, Place, copy_place, make_kit, make_place
from tests.kiosks import purchase


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("made"))


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    return copy_place(made, tmp_path / "place")


def hidden(place: Place) -> bytes:
    """The customer's pseudonym."""
    identity = find_identity(place.home)
    assert identity is not None
    return pseudonym(identity.customer_key, CUSTOMER)


def tier(place: Place) -> str:
    recommender = Recommender.open(place.home)
    try:
        return recommender.recommend(CUSTOMER).tier
    finally:
        recommender.close()


def files_with(place: Place, text: bytes) -> list[Path]:
    return [p for p in place.home.rglob("*") if p.is_file() and text in p.read_bytes()]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-4000] ^= 1
    path.write_bytes(content)


def test_an_old_state_put_back_brings_nobody_back(place: Place) -> None:
    old = state_path(place.home).read_bytes()
    erase(place.home, CUSTOMER, place.home.parent / "receipt.json")
    state_path(place.home).write_bytes(old)
    identity = find_identity(place.home)
    assert read_tombstones(place.home, identity).covers(hidden(place).hex()), "before any write too"
    place.head.publish(seed=1)
    assert place.sync().outcome == "installed"
    assert tier(place) == "store-popular"
    assert not files_with(place, hidden(place).hex().encode())


def test_a_damaged_previous_release_keeps_nobody(place: Place) -> None:
    place.head.publish(seed=1)
    place.sync()
    previous = place.state.previous
    assert previous is not None
    flip(place.home / "gen" / f"{previous.name}.db")
    identity = find_identity(place.home)
    assert identity is not None
    assert take_tombstones(place.home, frozenset({hidden(place)}), identity) == 1
    assert not files_with(place, hidden(place).hex().encode())
    assert place.state.previous is None
    erase(place.home, "c000004", place.home.parent / "receipt.json")  # nothing stands in its way


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE generations SET release = CAST(x'ff' AS TEXT)",
        "ALTER TABLE generations RENAME COLUMN installed_at TO hnstalled_at",
        "UPDATE trial SET answers = 'x'",
    ],
)
def test_a_state_that_is_not_as_made_is_read_from_its_copy(place: Place, damage: str) -> None:
    before = place.state
    with closing(sqlite3.connect(state_path(place.home))) as db, db:
        db.execute(damage)
    assert find_state(place.home) == before
    assert place.sync().outcome == "up to date"
    assert place.state.active == before.active
    assert list(place.home.glob("damaged.state.db*"))


def test_a_salt_that_is_not_hex_is_damage(place: Place) -> None:
    erase(place.home, CUSTOMER, place.home.parent / "receipt.json")
    salt = read_tables(place.home, ("salt",))["salt"]
    with closing(sqlite3.connect(state_path(place.home))) as db, db:
        db.execute("UPDATE salt SET value = 'no hex'")
    assert read_tables(place.home, ("salt",))["salt"] == salt
    assert place.sync().outcome == "up to date"
    assert tier(place) == "store-popular"


def test_going_back_leaves_only_the_release_that_was_meant(place: Place) -> None:
    """In between, a sync may have taken another."""
    before = place.state.active
    place.head.publish(seed=1)
    place.sync()
    after = place.state
    assert go_back(place.home, "three starts without an answer", name=before.name) == after
    assert go_back(place.home, "the same", name=after.active.name).active.seq == before.seq


def test_a_sync_beside_a_start_keeps_its_good_release(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start has seen three failed ones; the release that it gives up is gone by then."""
    place.head.publish(seed=1)
    place.sync()
    failing = place.state.active
    with changing_state(place.home) as db:
        db.execute("UPDATE trial SET starts = 3")
    place.head.publish(seed=2)

    def and_then_a_sync(home: Path) -> State:
        seen = read_state(home)
        sync(home)
        return seen

    monkeypatch.setattr(trial, "read_state", and_then_a_sync)
    state, _ = trial.begin(place.home)
    assert state.active.seq == 3
    assert read_tables(place.home, ("bad",))["bad"] == []
    assert place.state.previous == failing


def test_a_release_that_is_too_new_is_taken_after_the_upgrade(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.head.publish(seed=1)
    index = place.head.release(2).indexes[0]
    from c2rec.runtime.sync import assemble

    def too_new(*_args: object, **_options: object) -> None:
        raise TooNewError(f"index {index.sha256[:8]} is of format 2; upgrade it")

    with monkeypatch.context() as patch:
        patch.setattr(assemble, "build_cache", too_new)
        with pytest.raises(TooNewError):
            place.sync()
    assert read_tables(place.home, ("bad",))["bad"] == []
    assert place.sync().outcome == "installed"


def test_a_damaged_blob_is_mended_by_publishing_again(place: Place) -> None:
    made = place.head.publish(seed=1)
    blob: BlobRef = max(place.head.release(2).files["items.safetensors"], key=lambda b: b.bytes)
    path = place.head.repo / "blob" / blob.sha256
    good = path.read_bytes()
    path.write_bytes(bytes(len(good)))
    with pytest.raises(SyncError, match="is damaged"):
        place.sync()
    from c2rec.export.publish import publish

    again = publish(place.head.releases[-1].folder, place.head.repo, place.head.keys, again=True)
    assert (again.seq, again.blobs_written >= 1) == (made.seq + 1, True)
    assert path.read_bytes() == good
    assert place.sync().outcome == "installed"


def test_publishing_again_supersedes_what_was_opened(place: Place) -> None:
    recommender = Recommender.open(place.home)
    assert not recommender.superseded
    from c2rec.export.publish import publish

    publish(place.head.releases[-1].folder, place.head.repo, place.head.keys, again=True)
    sync(place.home)
    assert read_state(place.home).active.release == recommender.manifest.release
    assert recommender.superseded
    recommender.close()


def test_a_password_in_an_address_is_its_owners_alone(place: Place, tmp_path: Path) -> None:
    kit = shutil.copytree(place.home.parent / "kit", tmp_path / "kit")
    home = tmp_path / "enrolled"
    enrol(home, kit, Settings(repository="https://user:secret@releases.example.com/r"))
    assert stat.S_IMODE(settings_path(home).stat().st_mode) == 0o600
    told = json.dumps([finding.text for finding in diagnose(home)])
    assert "from https://releases.example.com/r" in told
    assert not re.search("user|secret", told.replace("user's", ""))


def test_an_id_that_is_no_text_is_nobodys(place: Place) -> None:
    recommender = Recommender.open(place.home)
    assert recommender.recommend("\ud800").tier == "store-popular"
    recommender.close()


def test_what_answers_in_place_of_a_damaged_release_gives_way_to_the_repaired_one(
    place: Place,
) -> None:
    flip(place.home / "gen" / f"{place.state.active.name}.db")
    recommender = Recommender.open(place.home, thorough=True)
    desk = Desk(place.home)
    asked = Asked(CUSTOMER)
    assert recommender.recommend(CUSTOMER).tier == "store-popular"
    assert desk.recommend(asked, 3).tier == "store-popular"
    assert not recommender.superseded, "nothing better is there"
    assert place.sync().outcome == "installed"
    assert recommender.superseded
    assert desk.recommend(asked, 3).tier == "personal"
    recommender.close()
    desk.close()


def test_a_damaged_delta_is_made_up_for_by_the_whole_shard(place: Place) -> None:
    place.head.publish(rebought=range(3, 6))
    release = place.head.release(2)
    index = json.loads((place.head.repo / "blob" / release.indexes[0].sha256).read_bytes())
    deltas = [d["blob"] for shards in index["stores"].values() for s in shards for d in s["deltas"]]
    assert deltas, "or the test shows nothing"
    for blob in deltas:
        (place.head.repo / "blob" / blob["sha256"]).write_bytes(bytes(blob["bytes"]))
    assert place.sync().outcome == "installed"
    assert tier(place) == "personal"


def test_a_store_that_no_release_knows_is_told(place: Place, tmp_path: Path) -> None:
    place.head.publish(stores=[["S1"]] * 30)
    make_kit(place.head, tmp_path / "kit", store="NOPE")
    enrol(tmp_path / "home", tmp_path / "kit", Settings(repository=str(place.head.repo)))
    (warning,) = sync(tmp_path / "home").warnings
    assert "knows no customers of store 'NOPE'" in warning
    told = [finding for finding in diagnose(tmp_path / "home") if finding.check == "enrolment"]
    assert [finding.verdict for finding in told] == ["warning", "ok"]
    assert place.sync().warnings == []


def test_a_recovery_that_was_cut_off_hides_nobody_from_an_erasure(place: Place) -> None:
    """events.db lies beside its place; it comes back at the next opening."""
    identity = find_identity(place.home)
    assert identity is not None
    outbox = Outbox(place.home, identity)
    outbox.record(purchase("i000001", hidden(place)))
    outbox.close()
    events = place.home / "events.db"
    events.rename(place.home / "events.db.recovered")
    assert take_tombstones(place.home, frozenset({hidden(place)}), identity) == 1
    Outbox(place.home, identity).close()
    assert not files_with(place, hidden(place).hex().encode())


def test_an_enrolled_kiosk_without_a_release_is_told_to_sync(place: Place, tmp_path: Path) -> None:
    kit = place.home.parent / "kit"
    enrol(tmp_path / "home", kit, Settings(repository=str(place.head.repo)))
    with pytest.raises(NotInstalledError, match=r"take one: c2rec-kiosk --home .* sync"):
        Recommender.open(tmp_path / "home")
