"""What expires, signing anew, and removing what nobody needs."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from tuf.api.exceptions import ExpiredMetadataError

from c2rec.export.garbage import Collected, collect_garbage
from c2rec.export.keys import LIFE, Keys
from c2rec.export.publish import publish
from c2rec.export.rotation import rotate
from c2rec.export.signed import open_repository
from c2rec.export.storage import FolderStorage
from c2rec.export.tombstones import add_tombstones
from c2rec.export.upkeep import expiries, renew_offline, resign
from c2rec.runtime.errors import PublishError
from tests.repositories import Head, make_head
from tests.repository_reader import read_repository, tuf_client

START = datetime(2026, 12, 1, tzinfo=UTC)


def soon(head: Head, days: float = 14) -> set[str]:
    found = expiries(FolderStorage(head.repo), warn_days=days)
    return {each.role for each in found if each.soon}


def sign_anew(head: Head) -> tuple[list[str], list[str]]:
    left = renew_offline(head.keys)
    with open_repository(head.repo, head.keys) as repository:
        done, more = resign(repository)
    return done, [*left, *more]


def sweep(head: Head, *, days: float = 7, dry_run: bool = False) -> Collected:
    with open_repository(head.repo, head.keys) as repository:
        return collect_garbage(repository, grace_days=days, dry_run=dry_run)


def age(head: Head, days: float) -> None:
    """Let the repository's files be older than they are."""
    import os

    for path in head.repo.rglob("*"):
        if path.is_file():
            moment = path.stat().st_mtime - days * 86400
            os.utime(path, (moment, moment))


def test_each_role_expires_in_its_time(tmp_path: Path) -> None:
    with time_machine.travel(START, tick=False):
        head = make_head(tmp_path)
        found = {each.role: each.expires for each in expiries(FolderStorage(head.repo))}
        assert found == {role: START + life for role, life in LIFE.items()}
        assert soon(head) == set()
    with time_machine.travel(START + timedelta(days=1, hours=1), tick=False):
        assert soon(head) == {"scores", "timestamp"}
    with time_machine.travel(START + timedelta(days=80), tick=False):
        assert soon(head) == {role for role in LIFE if role != "root"}
        assert soon(head, days=3) == {"scores", "timestamp", "snapshot"}
    with time_machine.travel(START + timedelta(days=360), tick=False):
        assert soon(head) == set(LIFE)


def test_daily_signing_needs_the_offline_keys_once_in_eleven_weeks(tmp_path: Path) -> None:
    with time_machine.travel(START, tick=False):
        head = make_head(tmp_path)
    visits, away = [], tmp_path / "safe"
    shutil.move(head.keys.folder / "offline", away)
    for day in range(1, 96):
        with time_machine.travel(START + timedelta(days=day), tick=False):
            _, left = sign_anew(head)
            if left:
                assert set(left) <= {"root", "targets"}
                shutil.copytree(away, head.keys.folder / "offline")
                _, left = sign_anew(head)
                assert left == []
                shutil.rmtree(head.keys.folder / "offline")
                visits.append(day)
            assert soon(head) == set()
    assert visits == [79]
    with time_machine.travel(START + timedelta(days=95), tick=False):
        assert read_repository(head.repo, head.keys).ring.seq == 1


def test_without_signing_anew_a_kiosk_refuses_an_old_timestamp(tmp_path: Path) -> None:
    with time_machine.travel(START, tick=False):
        head = make_head(tmp_path)
    with time_machine.travel(START + timedelta(days=3), tick=False):
        with pytest.raises(ExpiredMetadataError):
            tuf_client(head.repo, head.root, tmp_path / "client").refresh()
        sign_anew(head)
        tuf_client(head.repo, head.root, tmp_path / "client").refresh()


def test_signing_anew_without_a_role_s_key_says_so_and_signs_the_rest(tmp_path: Path) -> None:
    with time_machine.travel(START, tick=False):
        head = make_head(tmp_path)
    (path,) = head.keys.files("release")
    path.unlink()
    with time_machine.travel(START + timedelta(days=85), tick=False):
        done, left = sign_anew(head)
        assert left == ["release"]
        assert set(done) >= {"channel", "data", "scores", "snapshot", "timestamp"}
        assert soon(head) == {"release"}


def test_the_timestamp_s_key_has_to_be_there(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    (path,) = head.keys.files("timestamp")
    path.unlink()
    with pytest.raises(PublishError, match=rf"key of role timestamp is not in .*{path.name}"):
        sign_anew(head)


def test_a_wrong_passphrase_is_told_not_passed_over(tmp_path: Path) -> None:
    with time_machine.travel(START, tick=False):
        head = make_head(tmp_path, passphrase=b"right")
    wrong = Head(tmp_path, Keys(head.keys.folder, b"wrong"))
    with (
        time_machine.travel(START + timedelta(days=85), tick=False),
        pytest.raises(PublishError, match="the passphrase doesn't open it"),
    ):
        renew_offline(wrong.keys)


def test_upkeep_of_nothing_is_refused(tmp_path: Path) -> None:
    head = make_head(tmp_path, publish=False)
    for work in (sign_anew, sweep):
        with pytest.raises(PublishError, match="nothing is published there yet; begin with"):
            work(head)
    with pytest.raises(PublishError, match=r"timestamp\.json is missing; give a repository"):
        expiries(FolderStorage(head.repo))


def test_garbage_is_what_no_state_of_the_grace_period_names(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    kept_longer = read_repository(head.repo, head.keys).release
    for seed in range(1, 6):
        head.publish(seed=seed)  # the first is named no longer
    assert sweep(head).files == 0  # all of it is young
    age(head, 6)
    sign_anew(head)
    assert sweep(head).files == 0  # what was current six days ago may still be fetched
    read_repository(head.repo, head.keys)
    age(head, 3)
    sign_anew(head)
    before = {path for path in head.repo.rglob("*") if path.is_file()}
    dry = sweep(head, dry_run=True)
    assert {path for path in head.repo.rglob("*") if path.is_file()} == before
    done = sweep(head)
    assert done == dry
    after = {path for path in head.repo.rglob("*") if path.is_file()}
    assert len(before - after) == done.files > 5
    assert not (head.repo / "blob" / kept_longer.indexes[0].sha256).exists()
    assert (head.repo / "metadata" / "1.root.json").exists()
    read_repository(head.repo, head.keys)
    assert sweep(head).files == 0


def test_every_release_that_is_named_stays_whole(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    for customers in (29, 28, 27):
        head.publish(customers=customers)
    age(head, 30)
    sweep(head, days=0)
    from c2rec.export.publish import promote_release

    for seq in (1, 2, 3, 4):
        with open_repository(head.repo, head.keys) as repository:
            promote_release(repository, seq, "stable")
            repository.commit()
        ((ref, _),) = read_repository(head.repo, head.keys).shards["all"]
        for delta in ref.deltas:
            assert (head.repo / "blob" / delta.blob.sha256).exists()


def test_what_a_killed_publisher_left_goes_after_the_grace_period(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    orphans = [
        head.repo / "blob" / ("ab" * 32),
        head.repo / "blob" / ".half.tmp",
        head.repo / "metadata" / "9.snapshot.json",
        head.repo / "targets" / "rel" / ("ab" * 32 + ".9.json"),
    ]
    for path in orphans:
        path.write_bytes(b"{}" if path.suffix == ".json" else b"half")
    orphans[2].write_bytes((head.repo / "metadata" / "1.snapshot.json").read_bytes())
    assert sweep(head).files == 0
    age(head, 8)
    assert sweep(head, days=7).files == 3  # the newer snapshot was never replaced
    assert [path.exists() for path in orphans] == [False, False, True, False]
    read_repository(head.repo, head.keys)


def test_garbage_is_not_collected_where_the_state_is_not_whole(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    head.publish(seed=2)
    age(head, 30)
    index = head.release(2).indexes[0].sha256
    (head.repo / "blob" / index).unlink()
    before = sorted(head.repo.rglob("*"))
    with pytest.raises(PublishError, match=rf"blob/{index} is missing; .* nothing was removed"):
        sweep(head)
    (head.repo / "blob" / index).write_bytes(b"no json")
    with pytest.raises(PublishError, match=rf"blob/{index} is damaged; .* nothing was removed"):
        sweep(head)
    (head.repo / "blob" / index).unlink()
    assert sorted(head.repo.rglob("*")) == before


def test_nothing_goes_for_a_digit_that_the_disk_changed(tmp_path: Path) -> None:
    """An index that names another shard, and not the one that it was signed with."""
    head = make_head(tmp_path)
    age(head, 30)
    index = head.repo / "blob" / head.release(1).indexes[0].sha256
    shard = json.loads(index.read_text())["stores"]["all"][0]["blob"]["sha256"]
    index.write_text(
        index.read_text().replace(shard, shard[:-1] + ("1" if shard[-1] == "0" else "0"))
    )
    with pytest.raises(PublishError, match=rf"blob/{index.name} is damaged"):
        sweep(head)
    assert (head.repo / "blob" / shard).exists()


def test_an_erased_customer_s_old_blobs_go(tmp_path: Path) -> None:
    """Tombstone, publish again, wait, collect: nothing of them is left to be opened."""
    head = make_head(tmp_path)
    old = {path.name for path in (head.repo / "blob").iterdir()}
    ((ref, _),) = read_repository(head.repo, head.keys).shards["all"]
    with open_repository(head.repo, head.keys) as repository:
        add_tombstones(repository, head.keys, ["c000004"])
        repository.commit()
    publish(head.releases[0].folder, head.repo, head.keys, again=True, keep=1)
    age(head, 30)
    sweep(head, days=7)
    left = {path.name for path in (head.repo / "blob").iterdir()}
    assert ref.blob.sha256 in old - left
    assert len(read_repository(head.repo, head.keys).tombstones) == 1


def test_the_root_s_history_stays_after_rotations(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    for _ in range(3):
        rotate(head.keys, "root")
        sign_anew(head)
    age(head, 30)
    sweep(head, days=0)
    names = {path.name for path in (head.repo / "metadata").glob("*.root.json")}
    assert names == {f"{n}.root.json" for n in (1, 2, 3, 4)}
    tuf_client(head.repo, head.root, tmp_path / "client").refresh()
    newest = json.loads((head.repo / "metadata" / "timestamp.json").read_bytes())
    assert newest["signed"]["version"] == 4
