"""Faults 10 and 41: validly signed, and yet another space's, or not what the format allows."""

import json
import pickle
import shutil
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from c2rec.runtime.errors import C2RecError, ReleaseError, SyncError
from c2rec.runtime.sync.shards import Shard, decode_shard, encode_shard
from tests.faults.forged import put_blob, sign_release, sign_shard, the_shard
from tests.faults.place import OLD, Place
from tests.release import change_tensor


def refused(place: Place, message: str) -> None:
    """The release is refused and marked bad; the next good one installs."""
    with pytest.raises(ReleaseError, match=message):
        place.sync()
    place.answers(OLD)
    with pytest.raises(SyncError, match=r"seq 2 is known to be bad here: .*next release"):
        place.sync()
    place.head.publish(seed=2)
    place.safe(seq=3)


def test_a_shard_of_another_space_is_refused(fresh: Place) -> None:
    """Customers of the release before, signed into this one."""
    shard, content = the_shard(fresh.head, 1)
    sign_shard(fresh.head, 2, content, content=shard.content)
    refused(fresh, r"shard 0 of 1 of store 'all' is of space")


def test_an_index_of_another_space_is_refused(fresh: Place) -> None:
    indexes = [blob.document() for blob in fresh.head.release(1).indexes]
    sign_release(fresh.head, 2, lambda document: document.update(indexes=indexes))
    refused(fresh, "index of stores: space is")


def with_nan(shard: Shard) -> Shard:
    shard.components[3, 1, 2] = np.nan
    return shard


def spoiled(place: Place, change: Callable[[Shard], Shard]) -> None:
    release = place.head.release(2)
    size, items = release.manifest.embedding_size, release.manifest.counts.items
    _, content = the_shard(place.head, 2)
    shard = decode_shard(bytes(bytearray(content)), name="shard", size=size, items=items)
    tensors = {name: getattr(shard, name).copy() for name in ("ids", "components", "has")}
    copied = Shard(
        shard.space, shard.store, shard.bucket, shard.buckets, **tensors,
        history_offsets=shard.history_offsets.copy(),
        history_items=shard.history_items.copy(),
        history_channels=shard.history_channels.copy(),
        history_days=shard.history_days.copy(),
    )  # fmt: skip
    changed = change(copied)
    sign_shard(place.head, 2, encode_shard(changed), content=changed.content())


def test_a_nan_in_a_customer_is_refused(fresh: Place) -> None:
    spoiled(fresh, with_nan)
    refused(fresh, r"tensor 'components' at \[3, 1, 2\] is nan; allowed: finite numbers")


def test_an_item_that_is_none_is_refused(fresh: Place) -> None:
    def beyond(shard: Shard) -> Shard:
        shard.history_items[0] = 10_000
        return shard

    spoiled(fresh, beyond)
    refused(fresh, "tensor 'history_items' at .* is 10000; allowed")


class Exploit:
    """Unpickled, it would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('unpickled')",)


def huge(content: bytes) -> bytes:
    """Dimensions for which no machine has the memory."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["components"]["shape"][0] = 10**12
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def long_header(content: bytes) -> bytes:
    return (2**62).to_bytes(8, "little") + content[8:]


@pytest.mark.parametrize(
    "change", [lambda _: pickle.dumps(Exploit()), huge, long_header, lambda _: b"{}"]
)
def test_a_shard_that_is_none_is_refused(fresh: Place, change: Callable[[bytes], bytes]) -> None:
    _, content = the_shard(fresh.head, 2)
    sign_shard(fresh.head, 2, change(content))
    refused(fresh, r"shard 0 of 1 of store 'all'")


def test_a_nan_in_the_embeddings_is_refused(fresh: Place) -> None:
    def spoil(values: Any) -> Any:
        values[1, 1] = np.nan
        return values

    bundle = fresh.head.releases[1].folder
    change_tensor(bundle, "items.safetensors", "item_embeddings", spoil)
    content = (bundle / "items.safetensors").read_bytes()
    blob = put_blob(fresh.head, content).document()

    def change(document: dict[str, Any]) -> None:
        document["files"]["items.safetensors"] = [blob]
        document["manifest"]["files"]["items.safetensors"] = blob

    sign_release(fresh.head, 2, change)
    refused(fresh, r"'item_embeddings' at \[1, 1\] is nan")


def test_a_release_that_answers_otherwise_here_is_marked_bad(fresh: Place) -> None:
    """Fault 31: the golden answers are another release's."""
    bundle = fresh.head.releases[1].folder
    change_tensor(bundle, "golden.safetensors", "top_scores", lambda scores: scores + 1)
    blob = put_blob(fresh.head, (bundle / "golden.safetensors").read_bytes()).document()

    def change(document: dict[str, Any]) -> None:
        document["files"]["golden.safetensors"] = [blob]
        document["manifest"]["files"]["golden.safetensors"] = blob

    sign_release(fresh.head, 2, change)
    refused(fresh, r"golden customer 0, channel offline: scores differ")


def rename_file(document: dict[str, Any]) -> None:
    document["files"]["../../escaped"] = document["files"].pop("items.jsonl")


def rename_release(document: dict[str, Any]) -> None:
    document["manifest"]["release"] = "../../escaped"


def name_a_blob(document: dict[str, Any]) -> None:
    document["files"]["items.jsonl"][0]["sha256"] = "../../../escaped"


def name_a_digest(document: dict[str, Any]) -> None:
    document["manifest"]["files"]["items.jsonl"]["sha256"] = "/../../escaped" + "0" * 50


def claim_much(document: dict[str, Any]) -> None:
    document["files"]["items.jsonl"][0]["bytes"] = 2**60


def claim_dimensions(document: dict[str, Any]) -> None:
    document["manifest"]["embedding_size"] = 10**9


@pytest.mark.parametrize(
    "change",
    [rename_file, rename_release, name_a_blob, name_a_digest, claim_much, claim_dimensions],
)
def test_names_that_lead_elsewhere_and_huge_numbers_are_refused(
    fresh: Place, change: Callable[[dict[str, Any]], None]
) -> None:
    good = json.loads(fresh.head.release(2).to_json())
    sign_release(fresh.head, 2, change)
    before = {path for path in fresh.home.parent.rglob("*") if fresh.home not in path.parents}
    with pytest.raises(C2RecError, match=r"allowed|says"):
        fresh.sync()
    after = {path for path in fresh.home.parent.rglob("*") if fresh.home not in path.parents}
    assert before == after
    sign_release(fresh.head, 2, lambda document: document.update(good))
    fresh.safe()


def test_a_blob_that_never_ends_is_cut_at_its_length(fresh: Place) -> None:
    """A server that sends more than was signed fills no disk."""
    blob = max(fresh.head.release(2).files["items.safetensors"], key=lambda each: each.bytes)
    path = fresh.head.repo / "blob" / blob.sha256
    good = path.read_bytes()
    with path.open("ab") as file:
        file.truncate(1 << 30)
    with pytest.raises(SyncError, match=f"came with {blob.bytes + 1} bytes"):
        fresh.sync()
    assert not list((fresh.home / "blob").glob(f"{blob.sha256}*"))
    path.write_bytes(good)
    assert sha256(good).hexdigest() == blob.sha256
    shutil.rmtree(fresh.home / "blob")
    fresh.safe()
