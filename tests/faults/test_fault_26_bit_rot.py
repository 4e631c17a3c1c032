"""Faults 26 and 28: bits that the disk lost, and a state.db that is gone."""

import shutil
from pathlib import Path

import pytest

from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.home.state import find_floors, read_tables
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.whole import whole_cache
from c2rec.store_kiosk.doctor import diagnose
from tests.faults.place import CUSTOMER, OLD, Place


def rot(path: Path, part: float) -> None:
    """Flip a bit in a file, as a disk does: nothing but the content changes."""
    import os

    status = path.stat()
    content = bytearray(path.read_bytes())
    content[int(part * (len(content) - 1))] ^= 4
    with path.open("r+b") as file:  # the inode stays
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def files_of(place: Place) -> dict[str, Path]:
    """The file of the active generation, and its items."""
    active = place.state.active
    cache = whole_cache(place.home, active, thorough=False)
    cache.close()
    return {"cache": generation_path(place.home, active.name), "items": cache.items_path}


@pytest.mark.parametrize("part", [0, 0.3, 0.5, 0.8, 1])
@pytest.mark.parametrize("file", ["cache", "items"])
def test_a_flipped_bit_is_found_when_a_process_starts_to_serve(
    fresh: Place, file: str, part: float
) -> None:
    """The previous release answers, and the next sync repairs the active one."""
    fresh.sync()
    new = fresh.state.active
    rot(files_of(fresh)[file], part)
    recommender = Recommender.open(fresh.home, thorough=True)
    answer = recommender.recommend(CUSTOMER)
    recommender.close()
    assert (answer.release, answer.tier) == (OLD, "personal")
    assert "is damaged: its sha256 is" in recommender.warnings[0]
    assert "answering from the previous release" in recommender.warnings[0]
    assert fresh.sync().outcome == "installed"
    assert fresh.state.active.sha256 == new.sha256
    assert fresh.state.previous is not None
    assert fresh.state.previous.release == OLD
    fresh.answers(new.release)


def test_where_there_is_no_other_release_what_sells_is_answered(place: Place) -> None:
    rot(files_of(place)["cache"], 0.9)
    recommender = Recommender.open(place.home, thorough=True)
    answer = recommender.recommend(CUSTOMER)
    recommender.close()
    assert (answer.tier, len(answer.items)) == ("store-popular", 10)
    assert "answering by what sells" in recommender.warnings[0]
    assert place.sync().outcome == "installed"
    place.answers(OLD)


def test_a_file_that_was_written_to_is_found_by_every_command(fresh: Place) -> None:
    fresh.sync()
    path = files_of(fresh)["cache"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    recommender = Recommender.open(fresh.home)
    assert recommender.recommend(CUSTOMER).release == OLD
    recommender.close()


@pytest.mark.parametrize("damage", ["deleted", "overwritten", "emptied"])
def test_a_lost_state_is_rebuilt_with_its_floors(fresh: Place, damage: str) -> None:
    fresh.sync()
    floors, state = find_floors(fresh.home), fresh.state
    path = fresh.home / "state.db"
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "emptied" else b"\xa5" * path.stat().st_size)
    assert (fresh.state.active, fresh.state.previous) == (state.active, state.previous)
    fresh.answers(state.active.release)
    fresh.head.publish(seed=2)
    assert fresh.sync().seq == 3
    after = find_floors(fresh.home)
    assert after["timestamp"] > floors["timestamp"]
    assert after.keys() == floors.keys()
    # it is state.db itself that was made anew, and not its copy that is read
    (fresh.home / "state.json").unlink()
    assert read_tables(fresh.home, ("generations",))["generations"]
    fresh.answers(fresh.head.releases[-1].manifest.release)


def test_state_and_copy_lost_the_next_sync_installs_anew(place: Place) -> None:
    (place.home / "state.db").unlink()
    (place.home / "state.json").unlink()
    shutil.rmtree(place.home / "tuf")
    assert place.sync().outcome == "installed"
    place.answers(OLD)


@pytest.mark.parametrize("file", ["state.json", "whole.json", "tuf/timestamp.json"])
def test_a_file_of_brackets_is_damage_like_any_other(place: Place, file: str) -> None:
    place.sync()
    (place.home / file).write_bytes(b"[" * 100_000)
    diagnose(place.home)
    place.sync()
    assert (place.home / file).read_bytes() != b"[" * 100_000
