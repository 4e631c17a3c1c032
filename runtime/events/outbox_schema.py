"""Schema of ``events.db``, step by step; imported only where the file is made."""

from sqlite_utils import Database, Migrations

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
