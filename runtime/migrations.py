"""Schema of ``state.db``, step by step; imported only where an install writes."""

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
