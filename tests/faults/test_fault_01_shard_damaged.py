"""Faults 1 to 3: a shard with a bit flipped, truncated, or with bytes appended."""

from collections.abc import Callable

import pytest

from c2rec.runtime.errors import SyncError
from tests.faults.place import Place
from tests.faults.server import Reply


def shard_of(place: Place, seq: int = 2) -> str:
    """Path of the one shard of a release."""
    from c2rec.runtime.sync.documents import parse_index

    release = place.head.release(seq)
    index = (place.head.repo / "blob" / release.index_of("all").sha256).read_bytes()
    (shard,) = parse_index(index, space=release.space)["all"]
    return f"blob/{shard.blob.sha256}"


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES: list[Callable[[bytes], bytes]] = [
    flipped,
    lambda content: content[:-1],
    lambda content: content + b"\0" * 100_000,
    lambda content: b"\0" * len(content),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=["bit flipped", "cut", "longer", "zeros"])
@pytest.mark.parametrize("by", ["folder", "web server"])
def test_a_damaged_shard_is_refused_by_name(
    fresh: Place, damage: Callable[[bytes], bytes], by: str
) -> None:
    shard = shard_of(fresh)
    path = fresh.head.repo / shard
    good = path.read_bytes()
    path.write_bytes(damage(good))
    if by == "folder":
        with pytest.raises(SyncError, match=rf"shard 0 of 1 of store 'all' is damaged: {shard}"):
            fresh.sync()
    else:
        with (
            fresh.served(),
            pytest.raises(SyncError, match=rf"store 'all' is damaged: {shard} came with"),
        ):
            fresh.sync()
    path.write_bytes(good)
    fresh.safe()


def test_a_download_that_was_cut_goes_on_where_it_was(fresh: Place) -> None:
    shard = shard_of(fresh)

    def cut(path: str, reply: Reply) -> Reply:
        if path == shard and reply.status == 200:
            reply.headers["Content-Length"] = str(len(reply.content))
            reply.content = reply.content[:1000]
        return reply

    with fresh.served() as server:
        server.fault = cut
        with pytest.raises(SyncError, match=r"127\.0\.0\.1"):
            fresh.sync()
        server.fault = None
        server.requests.clear()
        fresh.safe()
        assert f"{shard}@1000" in server.requests
