"""Sending events: each arrives once, whatever answers, and what is refused stops nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from c2rec.runtime.errors import HomeError, NetworkError
from c2rec.runtime.events.batches import parse_batch
from c2rec.runtime.events.inbox import FolderInbox, open_inbox
from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.push import due, send
from c2rec.runtime.events.waiting import count_waiting
from c2rec.runtime.home.settings import Settings
from tests.kiosks import Server, make_identity, purchase, serving


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path / "home", make_identity())
    yield made
    made.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "inbox") as running:
        yield running


def arrived(folder: Path) -> list[str]:
    """Ids of all events in all files of an inbox, repeated ones repeated."""
    identity = make_identity()
    return [
        record.stamp.event_id
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for record in parse_batch(path.read_bytes(), identity.device_key).records
    ]


def freeze_each(outbox: Outbox, count: int) -> list[str]:
    """Record events, each in a batch of its own."""
    ids = []
    for n in range(count):
        ids.append(outbox.record(purchase(f"i{n}")))
        outbox.freeze()
    return ids


def test_to_a_folder(outbox: Outbox, tmp_path: Path) -> None:
    ids = [outbox.record(purchase(f"i{n}")) for n in range(5)]
    (tmp_path / "inbox").mkdir()
    inbox = FolderInbox(tmp_path / "inbox")
    sent = send(outbox, inbox)
    assert (sent.events, sent.batches, sent.error) == (5, 1, None)
    assert arrived(tmp_path / "inbox") == ids
    assert count_waiting(outbox).events == 0
    assert send(outbox, inbox).events == 0
    (path,) = (path for path in (tmp_path / "inbox").rglob("*") if path.is_file())
    assert inbox.put(path.relative_to(tmp_path / "inbox").as_posix(), b"other").outcome == "exists"
    assert arrived(tmp_path / "inbox") == ids, "nothing is ever replaced"


def test_a_folder_that_is_not_mounted_is_not_made(outbox: Outbox, tmp_path: Path) -> None:
    outbox.record(purchase())
    sent = send(outbox, FolderInbox(tmp_path / "inbox"))
    assert sent.error is not None
    assert "is it mounted?" in sent.error
    assert not (tmp_path / "inbox").exists()
    assert count_waiting(outbox).events == 1


def test_to_a_web_server(outbox: Outbox, server: Server) -> None:
    ids = [outbox.record(purchase(f"i{n}")) for n in range(5)]
    assert send(outbox, server.inbox()).error is None
    assert arrived(server.folder) == ids
    assert [path.name for path in server.folder.glob("events/*")] == ["Store%201"]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_refused_for_good_is_a_dead_letter_and_others_flow(
    outbox: Outbox, server: Server, status: int
) -> None:
    ids = freeze_each(outbox, 3)
    server.fault = lambda _, path: status if path.endswith("/2-2") else None
    sent = send(outbox, server.inbox())
    assert (sent.events, sent.error, len(sent.refused)) == (2, None, 1)
    (dead,) = count_waiting(outbox).dead
    assert (dead.events, dead.reason) == (1, f"the server answered {status}")
    server.fault = lambda _method, _path: None
    assert send(outbox, server.inbox()).events == 0, "a dead letter is left"
    assert outbox.retry_dead() == 1
    assert send(outbox, server.inbox()).events == 1
    assert sorted(arrived(server.folder)) == sorted(ids)


@pytest.mark.parametrize("status", [302, 401, 403, 404, 405, 407, 408, 429, 500, 503, 511])
def test_what_is_not_about_the_batch_is_tried_later(
    outbox: Outbox, server: Server, status: int
) -> None:
    ids = freeze_each(outbox, 5)
    server.fault = lambda _method, _path: status
    sent = send(outbox, server.inbox(), chance=lambda: 1.0)
    assert (sent.events, sent.refused, sent.error) == (0, [], f"the server answered {status}")
    assert len(server.requests) == 3, "it stops asking"
    assert not due(outbox)
    assert outbox.delivery().not_before == pytest.approx(outbox.now() + 30, abs=5)
    server.fault = lambda _method, _path: None
    assert send(outbox, server.inbox()).error is None
    assert due(outbox)
    assert sorted(arrived(server.folder)) == sorted(ids)


def test_waits_grow_to_an_hour(outbox: Outbox, server: Server) -> None:
    outbox.record(purchase())
    server.fault = lambda _method, _path: 503
    waits = []
    for _ in range(9):
        send(outbox, server.inbox(), chance=lambda: 1.0)
        waits.append(round(outbox.delivery().not_before - outbox.now()))
    assert waits == pytest.approx([30, 60, 120, 240, 480, 960, 1920, 3600, 3600], abs=5)


def test_two_kiosks_do_not_wait_alike(outbox: Outbox, server: Server) -> None:
    outbox.record(purchase())
    server.fault = lambda _method, _path: 503
    send(outbox, server.inbox(), chance=lambda: 0.0)
    assert outbox.delivery().not_before == pytest.approx(outbox.now() + 15, abs=5)


def test_a_clock_set_back_does_not_stop_sending(tmp_path: Path, server: Server) -> None:
    time = [2_000_000_000.0]
    outbox = Outbox(tmp_path / "home", make_identity(), clock=lambda: time[0])
    outbox.record(purchase())
    server.fault = lambda _method, _path: 503
    send(outbox, server.inbox())
    assert not due(outbox)
    time[0] = 1_700_000_000.0
    assert due(outbox)
    outbox.close()


def test_batches_that_the_server_chokes_on_do_not_stop_new_ones(
    outbox: Outbox, server: Server
) -> None:
    freeze_each(outbox, 4)
    server.fault = lambda method, _path: 500 if method == "PUT" else None
    send(outbox, server.inbox())
    send(outbox, server.inbox())
    server.fault = lambda _, path: 500 if path.rsplit("-")[-1] in "1234" else None
    new = [outbox.record(purchase("new"))]
    assert send(outbox, server.inbox()).events == 1
    assert arrived(server.folder) == new


@pytest.mark.parametrize("method", ["PUT", "both"])
def test_a_captive_portal_takes_nothing(outbox: Outbox, server: Server, method: str) -> None:
    ids = [outbox.record(purchase())]
    server.fault = lambda asked, _: "page" if method in (asked, "both") else None
    sent = send(outbox, server.inbox())
    assert sent.error is not None
    assert count_waiting(outbox).events == 1
    assert count_waiting(outbox).conflicts == ()
    server.fault = lambda _method, _path: None
    assert send(outbox, server.inbox()).error is None
    assert arrived(server.folder) == ids


def test_a_success_of_another_kind_is_believed_once_it_was_read_back(
    outbox: Outbox, server: Server
) -> None:
    """As of a bucket, which answers 200."""
    outbox.record(purchase())
    frozen = outbox.freeze()
    assert frozen is not None
    path = server.folder / frozen.key
    path.parent.mkdir(parents=True)
    path.write_bytes(frozen.content)
    server.fault = lambda method, _path: 200 if method == "PUT" else None
    assert send(outbox, server.inbox()).events == 1


def test_a_batch_cut_off_at_the_server_goes_under_another_name(
    outbox: Outbox, server: Server
) -> None:
    ids = [outbox.record(purchase())]
    frozen = outbox.freeze()
    assert frozen is not None
    path = server.folder / frozen.key
    path.parent.mkdir(parents=True)
    path.write_bytes(frozen.content[:50])
    sent = send(outbox, server.inbox())
    assert (sent.events, sent.conflicts, sent.error) == (1, [frozen.key], None)
    path.unlink()
    assert arrived(server.folder) == ids


def test_a_server_that_conflicts_for_ever_is_left_alone(outbox: Outbox, server: Server) -> None:
    freeze_each(outbox, 2)

    def fault(method: str, path: str) -> int | None:
        if method == "PUT":
            (server.folder / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            (server.folder / path.lstrip("/")).write_bytes(b"{}")
            return 412
        return None

    server.fault = fault
    sent = send(outbox, server.inbox())
    assert len(sent.conflicts) == 3
    assert sent.error is not None
    assert count_waiting(outbox).events == 2


def test_the_deadline_ends_it(outbox: Outbox, server: Server) -> None:
    freeze_each(outbox, 3)
    sent = send(outbox, server.inbox(), deadline=-1)
    assert sent.error == "the deadline of -1 s was reached"
    assert server.requests == []


def test_one_sends_at_a_time(outbox: Outbox, server: Server) -> None:
    outbox.record(purchase())
    seen = list[str]()

    def fault(_method: str, _path: str) -> None:
        with pytest.raises(HomeError, match="another process is sending") as caught:
            send(outbox, server.inbox())
        seen.append(str(caught.value))

    server.fault = fault
    assert send(outbox, server.inbox()).events == 1
    assert len(seen) == 1


def test_recording_goes_on_while_a_batch_is_on_its_way(outbox: Outbox, server: Server) -> None:
    outbox.record(purchase("A"))
    server.fault = lambda _method, _path: _record_if_few(outbox)
    assert send(outbox, server.inbox()).events == 3
    assert count_waiting(outbox).recorded == 3


def _record_if_few(outbox: Outbox) -> None:
    if count_waiting(outbox).recorded < 3:
        outbox.record(purchase("B"))


def test_settings_without_a_place_for_events_say_so() -> None:
    with pytest.raises(NetworkError, match="no place for events"):
        open_inbox(Settings(repository="/nowhere"))
