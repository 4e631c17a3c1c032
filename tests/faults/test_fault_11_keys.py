"""Faults 11 to 13: another repository, a revoked key, the scores' key on a model."""

import shutil
from pathlib import Path

import pytest

from c2rec.export.rings import point_ring
from c2rec.export.rotation import rotate
from c2rec.export.signed import open_repository
from c2rec.runtime.errors import SyncError, TrustError
from tests.faults.place import OLD, Place
from tests.repositories import make_head, scores_key_signs_a_release


def test_another_repository_is_refused(fresh: Place, tmp_path: Path) -> None:
    other = make_head(tmp_path / "other")
    fresh.settings(repository=str(other.repo))
    with pytest.raises(TrustError, match="not signed by the keys that this kiosk trusts"):
        fresh.sync()
    fresh.settings(repository=str(fresh.head.repo))
    fresh.safe()


@pytest.mark.parametrize("role", ["root", "targets", "release", "channel", "snapshot", "timestamp"])
def test_keys_can_be_replaced(fresh: Place, role: str) -> None:
    rotate(fresh.head.keys, role)
    fresh.head.publish(seed=2)
    fresh.safe(seq=3)


@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_what_a_revoked_key_has_signed_is_refused(place: Place, role: str) -> None:
    """The thief of the key keeps signing as before; the new root has been seen."""
    before = place.head.copy_repo("before")
    keys = place.head.folder / "stolen"
    shutil.copytree(place.head.keys.folder, keys)
    rotate(place.head.keys, role)
    place.head.publish(seed=1)
    place.sync()
    # what the thief serves: everything of before, beside the new root, which is public
    for root in (place.head.repo / "metadata").glob("*.root.json"):
        shutil.copy(root, before / "metadata")
    shutil.rmtree(place.home / "tuf")
    place.settings(repository=str(before))
    with pytest.raises(TrustError, match="not signed by the keys"):
        place.sync()
    place.answers(place.head.releases[-1].manifest.release)


def test_the_scores_key_can_not_sign_a_model(fresh: Place) -> None:
    """With the snapshot's and the timestamp's besides, and a ring that asks for it."""
    with open_repository(fresh.head.repo, fresh.head.keys) as repository:
        content = repository.read_target("rel/2.json")
        assert content is not None
    scores_key_signs_a_release(fresh.head, 3, content.replace(b'"seq": 2', b'"seq": 3'))
    with open_repository(fresh.head.repo, fresh.head.keys) as repository:
        point_ring(repository, "stable", 3)
        repository.commit()
    with pytest.raises(SyncError, match="no release 3"):
        fresh.sync()
    fresh.answers(OLD)
    with open_repository(fresh.head.repo, fresh.head.keys) as repository:
        point_ring(repository, "stable", 2)
        repository.commit()
    fresh.safe()
