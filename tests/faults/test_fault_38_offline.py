"""Faults 38 and 40: six weeks offline, and deltas that don't lead where they should."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from c2rec.runtime.erasure.erase import take_tombstones
from c2rec.runtime.errors import TrustError
from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.home.identity import EVERY_STORE
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.sync.documents import index_json, parse_index
from c2rec.store_kiosk.doctor import diagnose
from tests.faults.forged import put_blob, sign_release
from tests.faults.place import OLD, Place


def customers_of(place: Place) -> dict[str, bytes]:
    """What the active generation holds of each customer."""
    cache = Cache(generation_path(place.home, place.state.active.name))
    try:
        return {row[0]: b"|".join(row[1:]) for row in cache.shard_rows(EVERY_STORE, 0)}
    finally:
        cache.close()


def as_a_new_kiosk_has_it(place: Place) -> dict[str, bytes]:
    """The same of a kiosk that never had anything else."""
    from c2rec.runtime.home.enrol import enrol
    from c2rec.runtime.home.settings import Settings
    from tests.faults.place import make_kit

    home = place.home.with_name("another")
    kit = make_kit(place.head, place.home.with_name("another kit"), device="K2")
    enrol(home, kit, Settings(repository=str(place.head.repo)))
    another = Place(place.head, home)
    another.sync()
    return customers_of(another)


def test_after_six_weeks_offline_one_sync_heals(place: Place) -> None:
    later = datetime.now(UTC) + timedelta(days=42)
    with time_machine.travel(later, tick=True):
        with pytest.raises(TrustError, match=r"stale: timestamp\.json has expired"):
            place.sync()
        found = [f for f in diagnose(place.home) if f.check in ("sync", "signatures")]
        text = " ".join(finding.text for finding in found)
        assert {finding.verdict for finding in found} == {"warning"}
        assert "the last good sync was at" in text
        assert "expired at" in text
        # head office has published many times meanwhile: no delta reaches back so far
        for customers in range(31, 38):
            place.head.publish(customers=customers)
        assert place.sync().seq == 8
        place.answers(place.head.releases[-1].manifest.release)
        assert customers_of(place) == as_a_new_kiosk_has_it(place)


def publish_changed(place: Place) -> None:
    """A release of the same space, in which customers have come."""
    place.head.publish(customers=33)


def fetched(place: Place) -> list[str]:
    """Sync by HTTP; what was asked for."""
    with place.served() as server:
        assert place.sync().outcome == "installed"
        return server.requests


def change_index(place: Place, change: Any) -> None:
    """Sign another index for release 2."""
    release = place.head.release(2)
    index = (place.head.repo / "blob" / release.index_of(EVERY_STORE).sha256).read_bytes()
    shards = list(parse_index(index, space=release.space)[EVERY_STORE])
    forged = index_json(release.space, {EVERY_STORE: [change(each) for each in shards]})
    listed = [put_blob(place.head, forged.encode()).document()]
    sign_release(place.head, 2, lambda document: document.update(indexes=listed))


def test_a_delta_leads_where_the_whole_shard_does(place: Place) -> None:
    publish_changed(place)
    shard = the_only_shard(place)
    asked = fetched(place)
    assert f"blob/{shard.deltas[0].blob.sha256}" in asked
    assert f"blob/{shard.blob.sha256}" not in asked
    assert customers_of(place) == as_a_new_kiosk_has_it(place)


def the_only_shard(place: Place) -> Any:
    release = place.head.release(2)
    index = (place.head.repo / "blob" / release.index_of(EVERY_STORE).sha256).read_bytes()
    (shard,) = parse_index(index, space=release.space)[EVERY_STORE]
    return shard


def test_a_delta_for_another_base_is_not_fetched(place: Place) -> None:
    from dataclasses import replace

    publish_changed(place)
    shard = the_only_shard(place)
    change_index(
        place, lambda each: replace(each, deltas=(replace(each.deltas[0], base="0" * 64),))
    )
    asked = fetched(place)
    assert f"blob/{shard.blob.sha256}" in asked
    assert f"blob/{shard.deltas[0].blob.sha256}" not in asked
    assert customers_of(place) == as_a_new_kiosk_has_it(place)


@pytest.mark.parametrize("wrong", ["base", "result", "garbage"])
def test_a_delta_that_leads_elsewhere_gives_way_to_the_whole_shard(
    place: Place, wrong: str
) -> None:
    """Signed so: its base is not what its index says, or what comes out is another shard."""
    from dataclasses import replace

    from c2rec.runtime.sync.sealed import seal, unseal
    from c2rec.runtime.sync.shards import decode_delta, encode_delta

    publish_changed(place)
    shard = the_only_shard(place)
    (delta,) = shard.deltas
    key = place.head.keys.store_key(EVERY_STORE)
    sealed = (place.head.repo / "blob" / delta.blob.sha256).read_bytes()
    opened = decode_delta(unseal(key, sealed, name="delta"), name="delta", size=8, items=40)
    if wrong == "base":
        content = encode_delta(replace(opened, base="1" * 64))
    elif wrong == "result":
        content = encode_delta(replace(opened, removed=opened.changed.ids[:1]))
    else:
        content = b"no safetensors file"
    blob = put_blob(place.head, seal(key, content))
    change_index(place, lambda each: replace(each, deltas=(replace(delta, blob=blob),)))
    asked = fetched(place)
    assert f"blob/{blob.sha256}" in asked
    assert f"blob/{shard.blob.sha256}" in asked
    assert customers_of(place) == as_a_new_kiosk_has_it(place)


def test_the_base_is_what_was_read_and_not_what_is_noted(place: Place) -> None:
    """A customer erased here: the installed shard is no longer what its index said."""
    (gone, *_) = sorted(customers_of(place))
    take_tombstones(place.home, frozenset([bytes.fromhex(gone)]), place.head.identity())
    assert place.sync().outcome == "up to date"
    assert gone not in customers_of(place)
    publish_changed(place)
    shard = the_only_shard(place)
    asked = fetched(place)
    assert f"blob/{shard.blob.sha256}" in asked
    assert gone not in customers_of(place)
    expected = as_a_new_kiosk_has_it(place)
    assert expected.pop(gone)
    assert customers_of(place) == expected


def test_customers_who_have_left_the_store_are_gone(place: Place) -> None:
    place.head.publish(customers=20)
    fetched(place)
    assert len(customers_of(place)) == 20
    assert customers_of(place) == as_a_new_kiosk_has_it(place)
    assert place.state.previous is not None
    assert place.state.previous.release == OLD
