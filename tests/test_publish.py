"""What publishing puts into a repository, and what it leaves alone."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st

from c2rec.export.customers import Customers, power_of_two
from c2rec.export.publish import promote_release
from c2rec.export.rings import find_ring, halt_ring, parse_waves
from c2rec.export.signed import open_repository
from c2rec.export.tombstones import add_tombstones
from c2rec.runtime.errors import PublishError, ReleaseError
from c2rec.runtime.home.identity import pseudonym
from c2rec.runtime.release.bundle import read_bundle
from c2rec.runtime.release.item_file import tensors_in
from c2rec.runtime.sync.documents import ShardRef, parse_index
from c2rec.runtime.sync.shards import apply_delta
from c2rec.runtime.sync.visitors import encode_visitors, find_visitor, seal_row
from tests.release import change_tensor, make_release
from tests.repositories import Head, make_head
from tests.repository_reader import read_blob, read_deltas, read_repository

STORES = ["S1", "S2", "../a.b/c", "Köln 3"]


def spread_stores(customers: int = 30) -> list[list[str]]:
    """Customers of no, one and two stores."""
    return [sorted({STORES[n % 4], STORES[n % 3]}) if n % 5 else [] for n in range(customers)]


def erase(head: Head, *customers: str) -> None:
    with open_repository(head.repo, head.keys) as repository:
        add_tombstones(repository, head.keys, customers)
        repository.commit()


def test_every_store_gets_its_customers_and_no_others(tmp_path: Path) -> None:
    head, stores = make_head(tmp_path, publish=False), spread_stores()
    head.publish(stores=stores)
    made, seen = head.releases[0], read_repository(head.repo, head.keys)
    expected: dict[str, set[bytes]] = {}
    for customer, listed in zip(made.customer_ids, stores, strict=True):
        for store in listed:
            expected.setdefault(store, set()).add(pseudonym(head.keys.customer_key, customer))
    customers = seen.customers()
    assert {store: set(rows) for store, rows in customers.items()} == expected
    ends = made.customers["history_offsets"]
    for row, customer in enumerate(made.customer_ids):
        bought = slice(ends[row], ends[row + 1])
        for store in stores[row]:
            assert customers[store][pseudonym(head.keys.customer_key, customer)] == (
                made.customers["components"][row].tobytes(),
                made.customers["has"][row].tobytes(),
                made.customers["history_items"][bought].tobytes(),
                made.customers["history_channels"][bought].tobytes(),
                made.customers["history_days"][bought].tobytes(),
            )


def test_a_store_cannot_open_what_is_for_another(tmp_path: Path) -> None:
    from c2rec.runtime.sync.sealed import unseal

    head = make_head(tmp_path, publish=False)
    head.publish(stores=spread_stores())
    ((ref, _),) = read_repository(head.repo, head.keys).shards["S1"]
    with pytest.raises(ReleaseError, match="can't be opened with this kiosk's key"):
        unseal(head.keys.store_key("S2"), read_blob(head.repo, ref.blob), name="shard")


def test_no_customer_id_and_no_vector_lies_open(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    made = head.releases[0]
    everything = b"".join(path.read_bytes() for path in head.repo.rglob("*") if path.is_file())
    assert not any(customer.encode() in everything for customer in made.customer_ids)
    rows = made.customers["components"][1:]  # the first bought nothing
    assert not any(row.tobytes() in everything for row in rows)
    assert made.items["item_embeddings"][0].tobytes() in everything  # the search would find them


def test_a_visitor_s_row_opens_with_the_card_alone(tmp_path: Path) -> None:
    head = make_head(tmp_path, publish=False)
    head.publish(stores=spread_stores())
    made, release = head.releases[0], head.release(1)
    assert release.visitors is not None
    (bucket,) = (read_blob(head.repo, blob) for blob in release.visitors)
    key = head.keys.customer_key
    for row, customer in enumerate(made.customer_ids):
        found = find_visitor(bucket, customer, key, size=8, items=40, name="visitors")
        assert found is not None
        assert found.components[0].tobytes() == made.customers["components"][row].tobytes()
        pairs = zip(found.history_items.tolist(), found.history_channels.tolist(), strict=True)
        assert list(pairs) == made.history(row)
        assert found.history_days.tolist() == made.days(row)
    assert find_visitor(bucket, "nobody", key, size=8, items=40, name="visitors") is None
    assert find_visitor(bucket, "c000001", b"x" * 32, size=8, items=40, name="visitors") is None
    head.publish(seed=2, options={"visitors": False})
    assert head.release(2).visitors is None


def test_a_damaged_bucket_of_visitors_is_refused(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    release, key = head.release(1), head.keys.customer_key
    assert release.visitors is not None
    bucket = read_blob(head.repo, release.visitors[0])
    for content in (b"", b"x" * 99, bucket[:-1], bucket.replace(b'"ids"', b'"idz"')):
        with pytest.raises(ReleaseError, match="visitors"):
            find_visitor(content, "c000001", key, size=8, items=40, name="visitors")
    flipped = bytearray(bucket)
    tensors, _ = tensors_in(np.frombuffer(bucket, np.uint8), "visitors")
    for at in range(len(bucket) - len(tensors["rows"]), len(bucket)):  # the rows stand last
        flipped[at] ^= 1
    with pytest.raises(ReleaseError, match="visitors"):
        find_visitor(bytes(flipped), "c000029", key, size=8, items=40, name="visitors")


def test_a_visitor_s_row_that_holds_another_is_refused(tmp_path: Path) -> None:
    """Validly sealed under the visitor's key: head office's mistake, not a thief's work."""
    made = make_release(tmp_path / "b")
    customers = Customers(read_bundle(made.folder), b"k" * 32, frozenset())
    (rows,) = customers.visitors(1)
    (one, key, _), (_, _, row) = rows[:2]
    bucket = encode_visitors([one], [seal_row(key, row)])
    (name,) = (each for each in made.customer_ids if pseudonym(b"k" * 32, each) == one)
    with pytest.raises(ReleaseError, match="the row of a customer holds another"):
        find_visitor(bucket, name, b"k" * 32, size=8, items=40, name="visitors")


def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    head, stores = make_head(tmp_path, publish=False), spread_stores()
    head.publish(stores=stores)
    blobs = {path: path.stat().st_mtime_ns for path in (head.repo / "blob").iterdir()}
    before = read_repository(head.repo, head.keys)
    changed = stores.index(["S1"])
    head.publish(stores=stores, rebought=[changed])
    assert {path: path.stat().st_mtime_ns for path in blobs} == blobs
    after = read_repository(head.repo, head.keys)
    for store, shards in before.shards.items():
        same = [ref.content for ref, _ in shards] == [ref.content for ref, _ in after.shards[store]]
        assert same == (store not in stores[changed])
        if same:
            assert [ref.blob for ref, _ in after.shards[store]] == [ref.blob for ref, _ in shards]


def test_deltas_lead_from_the_last_three_releases_to_the_new_one(tmp_path: Path) -> None:
    head = make_head(tmp_path, publish=False)
    seen = []
    for customers, rebought in ((30, []), (29, []), (29, [5]), (30, [5, 7]), (30, [7])):
        head.publish(customers=customers, rebought=rebought)
        seen.append(read_repository(head.repo, head.keys))
    for number, state in enumerate(seen):
        ((ref, shard),) = state.shards["all"]
        deltas = read_deltas(head.repo, head.keys, state.release, "all", ref)
        earlier = [each.shards["all"][0][1] for each in seen[max(0, number - 3) : number]]
        assert {delta.base for delta in deltas} == {each.content() for each in earlier}
        for delta in deltas:
            (old,) = (each for each in earlier if each.content() == delta.base)
            assert apply_delta(old, delta).content() == shard.content()
        assert all(delta.blob.bytes < ref.blob.bytes for delta in ref.deltas)


def test_deltas_of_a_shard_that_stays_are_kept(tmp_path: Path) -> None:
    """A kiosk that missed a release finds its way from the one before."""
    head = make_head(tmp_path)
    head.publish(rebought=[4])
    ((before, _),) = read_repository(head.repo, head.keys).shards["all"]
    head.publish(rebought=[4], name="another", options={"ring": "stable"})
    ((after, _),) = read_repository(head.repo, head.keys).shards["all"]
    assert len(before.deltas) == 1
    assert after == before


def test_another_space_has_no_deltas(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    head.publish(seed=1)
    seen = read_repository(head.repo, head.keys)
    assert seen.release.space != head.release(1).space
    assert all(not ref.deltas for shards in seen.shards.values() for ref, _ in shards)


def test_a_delta_that_is_no_smaller_than_the_shard_is_not_written(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    head.publish(encoder="table", seed=5)
    head.publish(encoder="table", seed=5, rebought=range(30))  # every row is another
    seen = read_repository(head.repo, head.keys)
    assert seen.release.space == head.release(2).space
    ((ref, _),) = seen.shards["all"]
    assert ref.content != read_shards_of(head, 2)[0].content
    assert ref.deltas == ()


def read_shards_of(head: Head, seq: int) -> tuple[ShardRef, ...]:
    release = head.release(seq)
    return parse_index(read_blob(head.repo, release.indexes[0]), space=release.space)["all"]


def test_a_base_that_is_gone_costs_only_its_delta(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    ((old, _),) = read_repository(head.repo, head.keys).shards["all"]
    (head.repo / "blob" / old.blob.sha256).unlink()
    head.publish(rebought=[3])
    ((ref, _),) = read_repository(head.repo, head.keys).shards["all"]
    assert ref.deltas == ()
    head.publish(customers=29)
    ((ref, _),) = read_repository(head.repo, head.keys).shards["all"]
    assert len(ref.deltas) == 1


def test_a_lost_or_cut_blob_is_written_again(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    blobs = sorted((head.repo / "blob").iterdir())
    blobs[0].unlink()
    for path in blobs[1:]:
        path.write_bytes(path.read_bytes()[:-1])
    made = head.releases[0]
    head.releases.clear()
    from c2rec.export.publish import publish

    publish(made.folder, head.repo, head.keys, again=True)
    read_repository(head.repo, head.keys)


def test_erased_customers_are_in_no_shard_and_no_visitor_s_row(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    erase(head, "c000003", "c000007", "c000003", "who never was")
    head.publish(name="next")
    seen = read_repository(head.repo, head.keys)
    gone = {pseudonym(head.keys.customer_key, each) for each in ("c000003", "c000007")}
    assert seen.tombstones > gone
    assert len(seen.tombstones) == 3
    ((ref, shard),) = seen.shards["all"]
    assert len(shard.ids) == 28
    assert not gone & {each.tobytes() for each in shard.ids}
    (delta,) = read_deltas(head.repo, head.keys, seen.release, "all", ref)
    assert {each.tobytes() for each in delta.removed} == gone
    assert seen.release.visitors is not None
    (bucket,) = (read_blob(head.repo, blob) for blob in seen.release.visitors)
    key = head.keys.customer_key
    assert find_visitor(bucket, "c000003", key, size=8, items=40, name="visitors") is None
    assert find_visitor(bucket, "c000004", key, size=8, items=40, name="visitors") is not None


def test_a_release_may_have_nobody_at_all(tmp_path: Path) -> None:
    head = make_head(tmp_path, publish=False)
    head.publish(stores=[[]] * 30)
    assert read_repository(head.repo, head.keys).shards == {}
    erase(head, *head.releases[0].customer_ids)
    head.publish(name="next")
    assert read_repository(head.repo, head.keys).shards == {}
    head.publish(name="erased-in-stores", stores=[["S1"]] * 30)
    assert read_repository(head.repo, head.keys).shards == {}


def test_many_stores_are_spread_over_indexes(tmp_path: Path) -> None:
    head = make_head(tmp_path, publish=False)
    head.publish(stores=[[f"S{n % 90:03}"] for n in range(180)], customers=180)
    seen = read_repository(head.repo, head.keys)  # which finds each store where it must be
    assert len(seen.release.indexes) == 8
    assert len(seen.shards) == 90


def test_a_large_store_is_cut_and_stays_cut_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from c2rec.export import customers

    monkeypatch.setattr(customers, "_SHARD_BYTES", (1000, 6000, 9000))
    head = make_head(tmp_path, publish=False)
    head.publish(customers=200)
    first = read_repository(head.repo, head.keys).shards["all"]
    assert len(first) == 8
    assert sum(len(shard.ids) for _, shard in first) == 200
    head.publish(customers=190)
    second = read_repository(head.repo, head.keys).shards["all"]
    assert len(second) == 8
    assert any(ref.deltas for ref, _ in second)
    head.publish(customers=20)  # too few for eight
    assert len(read_repository(head.repo, head.keys).shards["all"]) == 1


@given(
    total=st.integers(0, 10**10),
    previous=st.none() | st.integers(0, 12).map(lambda n: 2**n),
    best=st.integers(2, 10**6),
)
def test_parts_are_a_power_of_two_of_a_fitting_size(
    total: int, previous: int | None, best: int
) -> None:
    least, most = best // 4, best * 2
    parts = power_of_two(total, previous, least, best, most)
    assert parts & (parts - 1) == 0
    assert total / parts <= most
    assert parts == 1 or total / parts >= least
    assert power_of_two(total, parts, least, best, most) == parts


def test_old_releases_are_named_no_longer_unless_a_ring_takes_them(tmp_path: Path) -> None:
    head = make_head(tmp_path, publish=False)
    head.publish(seed=1, options={"ring": "pilot"})
    for seed in range(2, 8):
        head.publish(seed=seed)
    with open_repository(head.repo, head.keys) as repository:
        names = repository.target_names("release")
    assert names == [f"rel/{n}.json" for n in (1, 4, 5, 6, 7)]
    assert read_repository(head.repo, head.keys, ring="pilot").ring.seq == 1


def test_rings_are_halted_resumed_and_promoted(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    head.publish(seed=2, options={"ring": "pilot", "waves": parse_waves("2026-12-01T06:00:00Z=1")})
    with open_repository(head.repo, head.keys) as repository:
        halt_ring(repository, "pilot", halt=True)
        repository.commit()
    ring = read_repository(head.repo, head.keys, ring="pilot").ring
    assert (ring.seq, ring.halt, len(ring.waves)) == (2, True, 1)
    with open_repository(head.repo, head.keys) as repository:
        promote_release(repository, 2, "stable", floor=1)
        halt_ring(repository, "pilot", halt=False)
        repository.commit()
    assert not read_repository(head.repo, head.keys, ring="pilot").ring.halt
    ring = read_repository(head.repo, head.keys).ring
    assert (ring.seq, ring.floor) == (2, 1)
    with open_repository(head.repo, head.keys) as repository:
        promote_release(repository, 1, "stable")  # back
        repository.commit()
        again = find_ring(repository, "stable")
    assert again is not None
    assert (again.seq, again.floor) == (1, 1)


def test_what_was_opened_but_not_changed_is_not_written(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    before = {path: path.read_bytes() for path in head.repo.rglob("*.json")}
    with open_repository(head.repo, head.keys) as repository:
        assert not repository.commit()
    assert {path: path.read_bytes() for path in head.repo.rglob("*.json")} == before


def test_one_publisher_at_a_time(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    with (
        open_repository(head.repo, head.keys),
        pytest.raises(PublishError, match=r"another publisher is at work in .*; wait"),
    ):
        head.publish(seed=2)


def test_a_publisher_elsewhere_is_noticed(tmp_path: Path) -> None:
    """Two machines with a copy of the keys each, and a bucket, which has no lock."""
    head = make_head(tmp_path)
    from c2rec.export.signed import SignedRepository
    from c2rec.export.storage import FolderStorage

    slow = SignedRepository(FolderStorage(head.repo), head.keys)
    halt_ring(slow, "stable", halt=True)
    head.publish(seed=2)
    with pytest.raises(PublishError, match=r"another publisher (has published|is at work)"):
        slow.commit()
    seen = read_repository(head.repo, head.keys)
    assert (seen.ring.seq, seen.ring.halt) == (2, False)


BAD: dict[str, tuple[dict[str, object], str]] = {
    "a seq that was": ({"seq": 1}, "--seq 1; the repository is at 1; allowed: a greater number"),
    "a seq without end": ({"seq": 2**60}, "--seq 1152921504606846976; the repository is at 1"),
    "a floor above": ({"floor": 3}, r"floor would be 3, above the release 2"),
    "a ring of a path": ({"ring": "../x"}, r"a ring can't be named '\.\./x'; allowed: 1 to 50"),
    "no version": ({"min_runtime": "new"}, "--min-runtime 'new'; allowed: a version"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_options_are_refused_and_nothing_changes(tmp_path: Path, case: str) -> None:
    options, message = BAD[case]
    head = make_head(tmp_path)
    before = read_repository(head.repo, head.keys).ring
    with pytest.raises(PublishError, match=message):
        head.publish(seed=2, options=dict(options))
    assert read_repository(head.repo, head.keys).ring == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2026-12-02T00:00:00Z=0.1,2026-12-01T00:00:00Z=1", "allowed: later times"),
        ("2026-12-01T00:00:00Z=0.5,2026-12-02T00:00:00Z=0.1", "shares that don't fall"),
        ("2026-12-01T00:00:00Z=0.5,2026-12-01T00:00:00Z=1", "allowed: later times"),
        ("2026-12-01=0.5", "a wave is '2026-12-01=0.5'; allowed: a time in UTC and a share"),
        ("2026-12-01T00:00:00Z", "allowed: a time in UTC and a share"),
        ("2026-12-01T00:00:00Z=2", "allowed: a share from 0 to 1"),
        ("2026-12-01T00:00:00Z=nan", "allowed: a share from 0 to 1"),
    ],
)
def test_waves_that_fall_or_cannot_be_read_are_refused(text: str, message: str) -> None:
    with pytest.raises(PublishError, match=message):
        parse_waves(text)


def test_waves_are_read_in_order() -> None:
    waves = parse_waves(" 2026-12-01T06:00:00Z=0.01, 2026-12-02T06:00:00Z=1,")
    assert [(wave.at.day, wave.share) for wave in waves] == [(1, 0.01), (2, 1.0)]
    assert parse_waves("") == ()


def test_a_bundle_is_not_published_twice_unless_asked(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    from c2rec.export.publish import publish

    made = head.releases[0]
    with pytest.raises(PublishError, match=r"is published already, as 1; .* promote REPO 1"):
        publish(made.folder, head.repo, head.keys)
    done = publish(made.folder, head.repo, head.keys, again=True)
    assert (done.seq, done.blobs_written) == (2, 0)


def test_a_floor_does_not_fall(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    head.publish(seed=2, options={"floor": 2})
    with pytest.raises(PublishError, match=r"--floor 1 is below ring stable's floor, 2"):
        head.publish(seed=3, options={"floor": 1})
    with (
        open_repository(head.repo, head.keys) as repository,
        pytest.raises(PublishError, match="ring stable's floor would be 2, above the release 1"),
    ):
        promote_release(repository, 1, "stable")


def test_an_unknown_ring_or_release_is_refused(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    with open_repository(head.repo, head.keys) as repository:
        with pytest.raises(PublishError, match="there is no ring 'beta'; the repository has: stab"):
            halt_ring(repository, "beta", halt=True)
        with pytest.raises(PublishError, match="there is no release 9; the repository has: 1"):
            promote_release(repository, 9, "stable")


def test_a_bad_bundle_changes_nothing(tmp_path: Path) -> None:
    head = make_head(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in head.repo.rglob("*") if path.is_file()}
    made = make_release(tmp_path / "bad", seed=2)
    change_tensor(made.folder, "customers.safetensors", "has", lambda has: has + 2)
    from c2rec.export.publish import publish

    with pytest.raises(ReleaseError, match="tensor 'has' at"):
        publish(made.folder, head.repo, head.keys)
    after = {path: path.stat().st_mtime_ns for path in head.repo.rglob("*") if path.is_file()}
    assert after == before


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    for role in ("release", "channel", "snapshot", "timestamp"):
        head = make_head(tmp_path / role)
        (path,) = head.keys.files(role)
        path.unlink()
        with pytest.raises(PublishError, match=rf"the key of role {role} is not in .*{path.name}"):
            head.publish(seed=2)
        assert read_repository(head.repo, head.keys).ring.seq == 1


def test_the_scores_key_may_live_elsewhere(tmp_path: Path) -> None:
    head = make_head(tmp_path, publish=False)
    (path,) = head.keys.files("scores")
    secret = path.read_bytes()
    path.unlink()
    head.publish()
    head.publish(seed=2)
    assert not list((head.repo / "metadata").glob("*scores.json"))
    path.write_bytes(secret)
    head.publish(seed=3)
    assert list((head.repo / "metadata").glob("*scores.json"))
    assert read_repository(head.repo, head.keys).ring.seq == 3


def newer_format(head: Head) -> None:
    with open_repository(head.repo, head.keys) as repository:
        content = repository.read_target("rel/1.json")
        assert content is not None
        document = json.loads(content) | {"format": 2}
        repository.write_target("rel/1.json", json.dumps(document).encode())
        repository.commit()


def remove(pattern: str) -> Callable[[Head], None]:
    def change(head: Head) -> None:
        for path in head.repo.glob(pattern):
            path.unlink()

    return change


def cut(pattern: str) -> Callable[[Head], None]:
    def change(head: Head) -> None:
        for path in head.repo.glob(pattern):
            path.write_bytes(path.read_bytes()[:-9])

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (newer_format, r"rel/1\.json: format is 2, newer than the 1 .*; upgrade it"),
        (remove("metadata/*.snapshot.json"), r"1\.snapshot\.json is missing or damaged; restore"),
        (remove("metadata/1.root.json"), r"has a metadata/timestamp\.json but no root"),
        (remove("targets/rel/*"), r"targets/rel/.*\.1\.json is missing or damaged; restore"),
        (cut("targets/channel/*"), r"targets/channel/.*\.stable\.json is missing or damaged"),
        (cut("metadata/timestamp.json"), r"timestamp\.json is damaged"),
        (cut("metadata/*.release.json"), r"1\.release\.json is missing or damaged"),
    ],
)
def test_a_damaged_or_newer_repository_is_left_as_it_is(
    tmp_path: Path, damage: Callable[[Head], None], message: str
) -> None:
    head = make_head(tmp_path)
    damage(head)
    before = {path: path.read_bytes() for path in head.repo.rglob("*.json")}
    with pytest.raises(PublishError, match=message):
        head.publish(seed=2)
    assert {path: path.read_bytes() for path in head.repo.rglob("*.json")} == before


def test_a_store_with_another_s_key_gets_no_delta(tmp_path: Path) -> None:
    """As after stores.key was made anew: the old shards can't be opened."""
    head, stores = make_head(tmp_path, publish=False), [["S1"]] * 30
    head.publish(stores=stores)
    (head.keys.folder / "stores.key").write_text("ab" * 32)
    head.publish(stores=stores, rebought=[3])
    ((ref, shard),) = read_repository(head.repo, head.keys).shards["S1"]
    assert ref.deltas == ()
    assert len(shard.ids) == 30


@time_machine.travel("2026-12-01T00:00:00Z", tick=False)
def test_two_publishers_make_the_same_blobs(tmp_path: Path) -> None:
    """Sealing and cutting depend on nothing but the keys and the bundle."""
    head = make_head(tmp_path, publish=False)
    head.publish(stores=spread_stores())
    from c2rec.export.publish import publish

    publish(head.releases[0].folder, tmp_path / "other", head.keys)
    names = {path.name for path in (head.repo / "blob").iterdir()}
    assert {path.name for path in (tmp_path / "other" / "blob").iterdir()} == names


def test_a_bundle_as_the_publisher_reads_it_is_in_order(tmp_path: Path) -> None:
    made = make_release(tmp_path / "b", stores=spread_stores())
    listed = [stores for block in read_bundle(made.folder).customers() for stores in block.stores]
    assert [list(each) for each in listed] == spread_stores()
