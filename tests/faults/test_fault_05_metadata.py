"""Faults 5 to 9: metadata edited, replayed, lowered by stolen keys, expired, or mixed."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from tuf.api.metadata import MetaFile

from c2rec.export.rotation import rotate
from c2rec.runtime.errors import TrustError
from tests.faults.forged import resign_in_place
from tests.faults.place import OLD, Place
from tests.repositories import resign_all, sign_with


def newest(place: Place, role: str) -> Path:
    """The file of a role's newest metadata."""
    files = (place.head.repo / "metadata").glob(f"*.{role}.json")
    return max(files, key=lambda path: int(path.name.partition(".")[0]))


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "release", "channel", "targets"])
def test_metadata_that_was_edited_is_refused(fresh: Place, role: str) -> None:
    path = fresh.head.repo / "metadata" / "timestamp.json"
    path = path if role == "timestamp" else newest(fresh, role)
    good = path.read_bytes()
    if role == "targets":  # it has not changed since the first release: only a new kiosk reads it
        shutil.rmtree(fresh.home / "tuf")
    path.write_bytes(good.replace(b'"spec_version":"1.0.3', b'"spec_version":"1.0.2'))
    assert path.read_bytes() != good
    with pytest.raises(TrustError, match=r"signed|fit together"):
        fresh.sync()
    path.write_bytes(good)
    fresh.safe()


def test_an_old_timestamp_is_refused(place: Place) -> None:
    """A copy of before, in the place of today's."""
    old = place.head.copy_repo("old")
    place.head.publish(seed=1)
    place.sync()
    place.settings(repository=str(old))
    with pytest.raises(TrustError, match="older than what this kiosk has seen"):
        place.sync()
    place.answers(place.head.releases[-1].manifest.release)
    place.settings(repository=str(place.head.repo))
    assert place.sync().outcome == "up to date"


def lower_itself(signed: Any) -> None:
    signed.version = 1


def lower_snapshot(signed: Any) -> None:
    signed.version += 1
    signed.snapshot_meta.version = 1


@pytest.mark.parametrize("change", [lower_itself, lower_snapshot])
@pytest.mark.parametrize("cache", ["kept", "wiped"])
def test_a_stolen_timestamp_key_can_lower_no_version(
    place: Place, change: Callable[[Any], None], cache: str
) -> None:
    place.head.publish(seed=1)
    place.sync()
    path = place.head.repo / "metadata" / "timestamp.json"
    good = path.read_bytes()
    resign_in_place(place.head, "timestamp", change)
    if cache == "wiped":
        shutil.rmtree(place.home / "tuf")
    # without its cache, python-tuf takes the old snapshot for a damaged one before we see it
    with pytest.raises(TrustError, match=r"older than what this kiosk has seen|fit together"):
        place.sync()
    place.answers(place.head.releases[-1].manifest.release)
    # head office's timestamp comes back, and the stolen key is replaced
    path.write_bytes(good)
    rotate(place.head.keys, "timestamp")
    place.head.publish(seed=2)
    assert place.sync().outcome == "installed"


@pytest.mark.parametrize("days", [3, 400])
def test_expired_metadata_is_refused_and_the_old_release_serves_on(fresh: Place, days: int) -> None:
    """A repository that is frozen: nobody signs its timestamp any more."""
    later = datetime.now(UTC) + timedelta(days=days)
    with time_machine.travel(later, tick=True):
        with pytest.raises(TrustError, match=r"stale: (timestamp|Final root|root)\S* .*expired"):
            fresh.sync()
        fresh.answers(OLD)
    fresh.safe()


def test_old_targets_under_a_new_number_are_refused(fresh: Place) -> None:
    path = newest(fresh, "release")
    good = path.read_bytes()
    number = int(path.name.partition(".")[0])
    shutil.copy(path.with_name(f"{number - 1}.release.json"), path)
    with pytest.raises(TrustError, match=r"fit together|older"):
        fresh.sync()
    path.write_bytes(good)
    fresh.safe()


def test_stolen_online_keys_fill_no_memory(fresh: Place) -> None:
    """They say how long the other roles' metadata is; spaces leave its signature right."""
    good, path = fresh.head.copy_repo("good"), newest(fresh, "channel")
    content = path.read_bytes() + b" " * (20 << 20)
    path.write_bytes(content)
    info = MetaFile(int(path.name.partition(".")[0]), len(content), None)

    def name_it(signed: Any) -> None:
        signed.meta["channel.json"] = info

    sign_with(fresh.head, "snapshot", fresh.head.keys.signers("snapshot"), name_it)
    with pytest.raises(TrustError, match="longer than"):
        fresh.sync()
    fresh.answers(OLD)
    shutil.rmtree(fresh.head.repo)
    good.rename(fresh.head.repo)
    for _ in range(2):  # above the thief's versions
        resign_all(fresh.head)
    fresh.safe()
