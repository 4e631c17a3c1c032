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
    - ``floors``: ``name`` is ``time`` (seconds since 1970, UTC), ``root``, ``timestamp``,
      ``snapshot`` or, followed by a digest of the keys that sign it, ``seq RING`` or ``scores``:
      nothing below ``value`` is believed.
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
