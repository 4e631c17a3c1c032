"""Schema of ``state.db``, step by step; imported only where an install or a sync writes."""

from sqlite_utils import Database, Migrations

STATE = Migrations("c2rec-state")


@STATE()
def m001_generations(db: Database) -> None:
    """One row per role, ``active`` or ``previous``, naming the release that holds it."""
    db.table("generations").create(
        {"role": str, "release": str, "installed_at": str, "sha256": str},
        pk="role",
        not_null={"release", "installed_at", "sha256"},
    )


@STATE()
def m002_sync(db: Database) -> None:
    """What a kiosk that syncs remembers.

    - ``generations``: ``seq`` is null for a bundle installed by hand, ``name`` that of the file in
      ``gen/`` without ``.db``.
    - ``trial``: at most one row, while the active generation has not proved itself: the
      file's ``name``, ``starts`` that came to nothing so far, good ``answers`` so far.
    - ``floors``: ``name`` is ``seq``, ``time`` (seconds since 1970, UTC), ``root``,
      ``timestamp`` or ``snapshot``: nothing below ``value`` is believed.
    - ``bad``: releases that are not taken again.
    - ``tombstones``: ``id`` is the mark of a customer's id or pseudonym, see ``tombstones.py``;
      ``origin`` is ``head office`` or ``kiosk``.
    - ``salt``: at most one row, as hex: what marks are made with.
    - ``scores``: at most one row, the online scores that answer: ``file`` is its name.
    - ``outcomes``: ``what`` is ``sync`` or ``good sync``: when it was last, and what came of it.
    """
    generations = db.table("generations")
    generations.add_column("seq", int)
    generations.add_column("name", str)
    db.execute("UPDATE generations SET name = release")
    _create(db, "trial", {"name": str, "starts": int, "answers": int}, "name")
    _create(db, "floors", {"name": str, "value": int}, "name")
    _create(db, "bad", {"seq": int, "release": str, "reason": str, "at": str}, "seq")
    _create(db, "tombstones", {"id": str, "at": str, "origin": str}, "id")
    _create(db, "salt", {"value": str}, "value")
    _create(db, "scores", {"seq": int, "file": str, "sha256": str, "as_of": str}, "seq")
    _create(db, "outcomes", {"what": str, "at": str, "ok": int, "text": str}, "what")


def _create(db: Database, table: str, columns: dict[str, type], key: str) -> None:
    db.table(table).create(columns, pk=key, not_null=columns.keys() - {key})


EVENTS = Migrations("c2rec-events")


@EVENTS()
def m001_outbox(db: Database) -> None:
    """The outbox, ``events.db``.

    - ``events``: what waits. ``carve`` reads these columns, in this order, without SQLite.
      ``sequence`` is the number in the epoch, ``crc`` the checksum of customer and body, ``batch``
      null until the event is frozen.
    - ``batches``: frozen ones, ``state`` is ``ready`` or ``dead``; ``first_id`` and ``last_id`` are
      the rows of ``events`` between which its own lie.
    - ``outbox``: one row. ``next`` is the next sequence, ``covered`` the last one in a frozen
      batch, ``arrived`` counts this epoch's events that arrived, ``bytes`` are those that wait.
    - ``conflicts``: batches under whose name lay another content.
    - ``counters``: since the file was made: ``recorded``, ``sent``, ``dropped <kind>``,
      ``refused <kind>``; and ``unwiped``, not 0 while an erasure has to be finished.
    - ``delivery``: one row: how the last attempts went, times in seconds since 1970.
    """
    db.execute(
        "CREATE TABLE events (id INTEGER PRIMARY KEY, customer TEXT, kind TEXT NOT NULL,"
        " body TEXT NOT NULL, crc INTEGER NOT NULL, sequence INTEGER NOT NULL, batch INTEGER)"
    )
    db.execute(
        "CREATE TABLE batches (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL,"
        " sha256 TEXT NOT NULL, content BLOB NOT NULL, count INTEGER NOT NULL,"
        " first_id INTEGER NOT NULL, last_id INTEGER NOT NULL,"
        " state TEXT NOT NULL, reason TEXT, attempts INTEGER NOT NULL DEFAULT 0)"
    )
    db.execute(
        "CREATE TABLE outbox (one INTEGER PRIMARY KEY CHECK (one = 1), store TEXT NOT NULL,"
        " device TEXT NOT NULL, epoch TEXT NOT NULL, reason TEXT NOT NULL, previous TEXT,"
        " previous_arrived INTEGER, next INTEGER NOT NULL, covered INTEGER NOT NULL,"
        " arrived INTEGER NOT NULL, bytes INTEGER NOT NULL)"
    )
    db.execute(
        "CREATE TABLE conflicts (key TEXT NOT NULL, ours TEXT NOT NULL, theirs TEXT NOT NULL,"
        " at TEXT NOT NULL)"
    )
    db.execute("CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)")
    db.execute(
        "CREATE TABLE delivery (one INTEGER PRIMARY KEY CHECK (one = 1), failures INTEGER NOT NULL,"
        " not_before REAL NOT NULL, error TEXT, sent_at REAL)"
    )
    db.execute("INSERT INTO delivery VALUES (1, 0, 0, NULL, NULL)")
    db.execute("PRAGMA user_version = 1")
