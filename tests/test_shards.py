"""Customers travel as shards and deltas, sealed; what is read is checked."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.release.tensors import LAST_DAY, Array
from c2rec.runtime.sync.sealed import seal, unseal
from c2rec.runtime.sync.shards import (
    Shard,
    apply_delta,
    bucket_of,
    decode_delta,
    decode_shard,
    encode_delta,
    encode_shard,
    make_delta,
)

ITEMS, SIZE, SPACE = 50, 4, "ab" * 32
DAY = 20_454
Rows = dict[bytes, list[tuple[int, int, int]]]
"""What each pseudonym bought: (item, channel, day)."""


def shard_of(rows: Rows, *, bucket: int = 0, buckets: int = 1) -> Shard:
    """A shard whose embeddings are made of the histories, but for the days."""
    ids = sorted(rows)
    flat = [purchase for each in ids for purchase in rows[each]]
    bought = [[purchase[:2] for purchase in rows[each]] for each in ids]
    seeds = [hash((each, *pairs)) % 2**32 for each, pairs in zip(ids, bought, strict=True)]
    vectors = [np.random.default_rng(seed).normal(size=(3, SIZE)) for seed in seeds]
    return Shard(
        space=SPACE,
        store="S12",
        bucket=bucket,
        buckets=buckets,
        ids=np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16),
        components=np.array(vectors, np.float32).reshape(-1, 3, SIZE),
        has=np.ones((len(ids), 3), np.uint8),
        history_offsets=np.cumsum([0, *(len(rows[each]) for each in ids)], dtype=np.int64),
        history_items=np.array([item for item, _, _ in flat], np.int32),
        history_channels=np.array([channel for _, channel, _ in flat], np.uint8),
        history_days=np.array([day for _, _, day in flat], np.int32),
    )


def read(content: bytes) -> Shard:
    return decode_shard(content, name="a shard", size=SIZE, items=ITEMS)


purchases = st.lists(
    st.tuples(st.integers(0, ITEMS - 1), st.integers(0, 1), st.integers(0, LAST_DAY)),
    unique_by=lambda purchase: purchase[:2],
    max_size=6,
)
customers = st.dictionaries(st.binary(min_size=16, max_size=16), purchases, max_size=12)


@given(customers)
def test_a_shard_comes_back_as_it_was(rows: Rows) -> None:
    shard = shard_of(rows)
    again = read(encode_shard(shard))
    assert again.content() == shard.content()
    assert [each for each, _ in again.customers()] == sorted(rows)
    assert again.history_days.tolist() == [day for each in sorted(rows) for *_, day in rows[each]]


@settings(max_examples=200)
@given(customers, customers, st.data())
def test_a_delta_leads_from_any_state_to_any_other(
    old: Rows, new: Rows, data: st.DataObject
) -> None:
    kept = data.draw(st.sets(st.sampled_from(sorted(old)))) if old else set()
    new |= {each: old[each] for each in kept}
    before, after = shard_of(old), shard_of(new)
    delta = make_delta(before, after)
    assert {each.tobytes() for each in delta.changed.ids} == {
        each for each in new if new[each] != old.get(each)
    }
    sent = decode_delta(encode_delta(delta), name="a delta", size=SIZE, items=ITEMS)
    assert apply_delta(before, sent).content() == after.content()


def test_a_day_alone_makes_a_delta_of_that_customer() -> None:
    """Who buys the same again has the same embeddings and another day."""
    rows: Rows = {bytes([i] * 16): [(i, 0, DAY), (i, 1, DAY)] for i in range(9)}
    before = shard_of(rows)
    after = shard_of(rows | {b"\4" * 16: [(4, 0, DAY + 1), (4, 1, DAY)]})
    assert after.content() != before.content()
    delta = make_delta(before, after)
    assert [each.tobytes() for each in delta.changed.ids] == [b"\4" * 16]
    sent = decode_delta(encode_delta(delta), name="a delta", size=SIZE, items=ITEMS)
    assert apply_delta(before, sent).content() == after.content()


def test_equal_customers_are_equal_bytes_and_one_blob() -> None:
    rows: Rows = {bytes([i] * 16): [(i, 0, DAY)] for i in range(9)}
    one, other = encode_shard(shard_of(rows)), encode_shard(shard_of(dict(reversed(rows.items()))))
    assert one == other
    assert seal(b"k" * 32, one) == seal(b"k" * 32, other)
    assert seal(b"k" * 32, one) != seal(b"K" * 32, one)


@pytest.mark.parametrize("what", ["space", "store", "bucket", "buckets"])
def test_a_delta_for_another_shard_is_refused(what: str) -> None:
    shard = shard_of({b"a" * 16: [(1, 0, DAY)]})
    other: Any = {"space": "cd" * 32, "store": "S13", "bucket": 1, "buckets": 2}[what]
    delta = make_delta(shard, shard)
    delta = replace(delta, changed=replace(delta.changed, **{what: other}))
    with pytest.raises(ReleaseError, match=f"a delta is for {what} "):
        apply_delta(shard, delta)


def test_a_delta_on_another_base_is_refused() -> None:
    old, new = (shard_of({b"a" * 16: [(item, 0, DAY)]}) for item in (1, 2))
    with pytest.raises(ReleaseError, match="which is installed"):
        apply_delta(new, make_delta(old, new))


def changed(name: str, values: Array | None, *, about: dict[str, object] | None = None) -> bytes:
    """A shard's file with one tensor replaced, or left out, or its metadata changed."""
    rows: Rows = {b"a" * 16: [(1, 0, DAY), (2, 1, DAY)], b"b" * 16: [(3, 0, DAY)]}
    shard = shard_of(rows)
    tensors = load(encode_shard(shard))
    tensors.pop(name, None)
    if values is not None:
        tensors[name] = values
    document: dict[str, object] = {"format": 1, "space": SPACE, "store": "S12"}
    document |= {"bucket": 0, "buckets": 1, "base": None, **(about or {})}
    return save(tensors, {"c2rec": json.dumps(document)})


IDS = np.frombuffer(b"a" * 16 + b"b" * 16, np.uint8).reshape(2, 16)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("components", np.full((2, 3, SIZE), np.nan, "f4")), r"'components' at .* is nan"),
        (changed("components", np.zeros((2, 3, 5), "f4")), r"allowed: float32 \(2, 3, 4\)"),
        (changed("components", np.zeros((2, 3, SIZE), "f8")), "F64"),
        (changed("history_items", np.array([1, 2, ITEMS], "i4")), r"is 50; allowed: .* 0 to 49"),
        (changed("history_items", np.array([1, 2], "i4")), "'history_channels' is uint8"),
        (changed("history_days", np.array([1, 2, -1], "i4")), r"is -1; allowed: .* 0 to 47481"),
        (
            changed("history_days", np.array([1, 2, 47_482], "i4")),
            r"is 47482; allowed: .* to 47481",
        ),
        (changed("history_days", np.array([1, 2], "i4")), r"int32 \(2,\); allowed: int32 \(3,\)"),
        (changed("history_offsets", np.array([0, 3, 2])), "don't rise from 0 to 3"),
        (changed("history_offsets", np.array([1, 2, 3])), "don't rise from 0 to 3"),
        (changed("history_offsets", np.array([0, 2, 2])), "don't rise from 0 to 3"),
        (changed("has", np.full((2, 3), 2, "u1")), r"is 2; allowed: whole numbers from 0 to 1"),
        (changed("ids", IDS[::-1].copy()), "allowed: ascending, each once"),
        (changed("ids", IDS[[0, 0]]), "allowed: ascending, each once"),
        (changed("more", np.zeros(1, "f4")), "'more' is not a tensor of format 1"),
        (changed("history_days", None), "'history_days' is missing"),
        (changed("ids", IDS, about={"format": 2}), "no shard of format 1"),
        (changed("ids", IDS, about={"bucket": 1}), "no shard of format 1"),
        (changed("ids", IDS, about={"buckets": 7}), "is not of bucket 0"),
        (b"", "header can't be understood|is no shard"),
        (b"\xff" * 400, "is no shard"),
        ((2**62).to_bytes(8, "little") + b"{}", "is no shard"),
        (encode_shard(shard_of({}))[:20], "is no shard"),
        (save({}, {"c2rec": "[" * 100_000}), "a shard is no shard: .*recursion"),
        (save({}, {"c2rec": "[" * 900 + "]" * 900}), "a shard is no shard"),
        ((100_000).to_bytes(8, "little") + b"[" * 100_000, "a shard: its header .*recursion"),
    ],
)
def test_what_the_format_does_not_allow_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ReleaseError, match=message):
        read(content)


def test_an_item_twice_in_a_channel_is_refused() -> None:
    content = changed("history_items", np.array([1, 1, 3], "i4"))
    assert len(read(content).ids) == 2  # in two channels it is allowed
    twice = load(content) | {"history_channels": np.zeros(3, "u1")}
    about = {"format": 1, "space": SPACE, "store": "S12", "bucket": 0, "buckets": 1, "base": None}
    with pytest.raises(ReleaseError, match="an item twice in one channel"):
        read(save(twice, {"c2rec": json.dumps(about)}))


@given(st.binary(max_size=300), st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_bit_of_what_is_sealed_is_refused(content: bytes, at: int, flip: int) -> None:
    sealed = bytearray(seal(b"k" * 32, content))
    assert unseal(b"k" * 32, bytes(sealed), name="a blob") == content
    sealed[at % len(sealed)] ^= flip
    with pytest.raises(ReleaseError, match="a blob"):
        unseal(b"k" * 32, bytes(sealed), name="a blob")


def test_what_is_sealed_shows_nothing_and_opens_with_its_key_alone() -> None:
    content = encode_shard(shard_of({b"customer-is-here": [(1, 0, DAY)]}))
    sealed = seal(b"k" * 32, content)
    assert b"customer-is-here" in content
    assert b"customer-is-here" not in sealed
    with pytest.raises(ReleaseError, match="can't be opened with this kiosk's key"):
        unseal(b"K" * 32, sealed, name="a blob")


def test_buckets_hold_about_as_many() -> None:
    rng = np.random.default_rng(0)
    drawn = [bucket_of(rng.bytes(16), 8) for _ in range(8000)]
    assert np.bincount(drawn, minlength=8).min() > 850
