"""Fault 44: SQLite before 3.51.3 may damage a file with a write-ahead log, where one connection
commits while another runs a checkpoint. It is told, and the outbox's lock prevents it."""

import json
import multiprocessing
import sqlite3
import threading
from contextlib import closing
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from click.testing import CliRunner

from c2rec.runtime.events.outbox import Outbox
from c2rec.runtime.events.outbox_file import OutboxFile, has_wal_bug
from c2rec.runtime.home.identity import identity_path
from c2rec.store_kiosk.cli import main
from tests.kiosks import make_identity, purchase


def test_it_is_told(tmp_path: Path) -> None:
    identity_path(tmp_path).write_text(make_identity().to_json())
    result = CliRunner().invoke(main, ["--home", str(tmp_path), "queue", "--json"])
    document = json.loads(result.output)
    assert document["sqlite"] == sqlite3.sqlite_version
    assert document["wal_bug"] is has_wal_bug()


def test_no_two_connections_ever_work_at_once(tmp_path: Path) -> None:
    """Which is what the bug needs: every use of a connection, in any process, is alone."""
    outbox = Outbox(tmp_path, make_identity())
    other = OutboxFile(tmp_path)
    entered = threading.Event()

    def enter() -> None:
        with other.locked():
            entered.set()

    thread = threading.Thread(target=enter)

    def look(_: sqlite3.Connection) -> bool:
        thread.start()
        return entered.wait(0.3)

    assert outbox.work(look) is False
    thread.join(10)
    assert entered.is_set()
    other.unlock()
    outbox.close()


def test_writers_and_checkpoints_of_many_processes_leave_the_file_whole(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, make_identity())
    context = multiprocessing.get_context("spawn")
    queue: SimpleQueue[int] = context.SimpleQueue()
    processes = [context.Process(target=_work, args=(tmp_path, n, queue)) for n in range(4)]
    for process in processes:
        process.start()
    recorded = sum(queue.get() for _ in processes)
    for process in processes:
        process.join()
    outbox.close()
    with closing(sqlite3.connect(tmp_path / "events.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert db.execute("SELECT count(*) FROM events").fetchone()[0] == recorded
    assert not (tmp_path / "set-aside").exists()


def _work(home: Path, number: int, queue: "SimpleQueue[int]") -> None:
    outbox = Outbox(home, make_identity())
    for n in range(40):
        outbox.record(purchase(f"{number} {n}"))
        if n % 3 == number % 3:
            outbox.work(lambda db: db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone())
    outbox.close()
    queue.put(40)
