"""Fault 20: head office publishes in the middle of a sync."""

import pytest

from tests.faults.place import Place
from tests.faults.server import Reply


@pytest.mark.parametrize("moment", ["snapshot", "release.json", "targets/rel", "blob/"])
def test_one_release_is_taken_whole_and_the_next_one_later(fresh: Place, moment: str) -> None:
    published = False

    def publish(path: str, reply: Reply) -> Reply:
        nonlocal published
        if moment in path and not published:
            published = True
            fresh.head.publish(seed=2)
        return reply

    with fresh.served() as server:
        server.fault = publish
        assert fresh.sync().seq == 2
        assert published
        fresh.answers(fresh.head.releases[1].manifest.release)
        assert fresh.sync().seq == 3
        fresh.answers(fresh.head.releases[2].manifest.release)
