"""Customers who were erased, as marks from which nobody's id can be read.

A mark is HMAC-SHA256, cut to 128 bits, of a customer's id or pseudonym, under a salt that this home
drew for itself. Nothing that is built later holds a customer with a mark. Whoever has the disk can
try ids against the marks, as with any digest of something short; pseudonyms are too long for that.
"""

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias

from c2rec.runtime.home.identity import Identity, pseudonym
from c2rec.runtime.home.state import now_text, read_tables

Origin: TypeAlias = Literal["head office", "kiosk"]
_SALT_BYTES, _MARK_BYTES = 16, 16


class Tombstones:
    """The marks of a home.

    Args:
        salt: of the home.
        marks: 32 hex digits each.
        identity: the kiosk's, by which a plain id is found under its pseudonym too.
    """

    def __init__(self, salt: bytes, marks: Iterable[str], identity: Identity | None) -> None:
        self.marks = frozenset(marks)
        self.salt = salt
        self._identity = identity

    def mark(self, name: str) -> str:
        """The mark of an id or a pseudonym."""
        text = name.encode(errors="surrogateescape")
        return hmac.digest(self.salt, text, hashlib.sha256)[:_MARK_BYTES].hex()

    def marks_of(self, customer_id: str) -> tuple[str, ...]:
        """Marks of a plain id: its own and, at an enrolled kiosk, that of its pseudonym."""
        if self._identity is None:
            return (self.mark(customer_id),)
        hidden = pseudonym(self._identity.customer_key, customer_id).hex()
        return self.mark(customer_id), self.mark(hidden)

    def covers(self, name: str) -> bool:
        """Whether a customer, by plain id or by pseudonym as 32 hex digits, was erased."""
        return bool(self.marks) and any(mark in self.marks for mark in self.marks_of(name))


def read_tombstones(home: Path, identity: Identity | None) -> Tombstones:
    """Read a home's tombstones.

    Raises:
        HomeError: the state can't be read.
    """
    tables = read_tables(home, ("tombstones", "salt"))
    salt = next((bytes.fromhex(row["value"]) for row in tables.get("salt", [])), b"")
    return Tombstones(salt, (row["id"] for row in tables.get("tombstones", [])), identity)


def salted(db: sqlite3.Connection, identity: Identity | None) -> Tombstones:
    """The tombstones, with a salt that is drawn if there is none yet; in ``changing_state``."""
    found = db.execute("SELECT value FROM salt").fetchone()
    salt = secrets.token_bytes(_SALT_BYTES) if found is None else bytes.fromhex(found[0])
    if found is None:
        db.execute("INSERT INTO salt (value) VALUES (?)", [salt.hex()])
    return Tombstones(salt, (mark for (mark,) in db.execute("SELECT id FROM tombstones")), identity)


def bury(db: sqlite3.Connection, marks: Iterable[str], origin: Origin) -> None:
    """Store marks, in ``changing_state``."""
    db.executemany(
        "INSERT OR IGNORE INTO tombstones (id, at, origin) VALUES (?, ?, ?)",
        [(mark, now_text(), origin) for mark in sorted(marks)],
    )
