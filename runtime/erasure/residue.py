"""Searching every byte of a home for what it must no longer hold of a customer.

Files are searched as they lie on disk, free pages, logs and temporary files included, and not
through SQLite, which shows live rows alone. A vector is searched for in pieces, since SQLite may
cut a value where a page ends. A hit is not yet a finding: two customers who bought the same have
the same vector, one id may be part of another, and an item may be called what a customer is. So of
a vector in an SQLite file it is asked whether a live row has it, for the customer's own rows are
known to be gone; and of an id, whether it stands by itself.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from c2rec.runtime.events.bought_file import bought_path

PIECE = 64
"""Bytes of a vector that are searched for at a time."""
FEWEST = 6
"""A shorter id is among any bytes by chance: it is looked for as a whole value alone."""
_AT_ONCE = 1 << 22
_HEADER = b"SQLite format 3\0"
_PLAIN = 8
"""A piece with fewer different bytes says nothing: zeros, or small whole numbers."""


@dataclass(frozen=True, slots=True)
class Traces:
    """What to search for."""

    names: frozenset[bytes]
    """The id, in every way that it may be written."""
    pseudonyms: frozenset[bytes]
    """The pseudonym, as bytes and as hex: so long that any hit is a finding."""
    vectors: frozenset[bytes]
    """Pieces of vectors and lists."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Bytes that should not be there."""

    file: str
    """Relative to the home."""
    offset: int
    what: str
    """``id``, ``pseudonym`` or ``vector``."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search covered."""

    files: int
    bytes: int
    shared: int
    """Patterns that are there, but as somebody else's or as part of something else."""
    findings: tuple[Finding, ...]


def written(name: str) -> set[bytes]:
    """Every way in which an id may be written in a file."""
    ways = {name.encode(errors="surrogateescape"), json.dumps(name)[1:-1].encode()}
    ways |= {name.encode(codec, errors="surrogatepass") for codec in ("utf-16-le", "utf-16-be")}
    return {each for each in ways if len(each) >= FEWEST} if len(name) >= FEWEST else set()


def pieces(value: bytes) -> set[bytes]:
    """Pieces of a value by which it is recognised wherever it was cut; none if it is too plain."""
    starts = range(0, max(1, len(value) - PIECE + 1), PIECE)
    cut = {value[start : start + PIECE] for start in starts} | {value[-PIECE:]}
    return {each for each in cut if len(each) >= PIECE // 2 and len(set(each)) >= _PLAIN}


def search(home: Path, traces: Traces, *, skip: Iterable[Path] = ()) -> Searched:
    """Search all files of a home.

    Args:
        home: the home folder.
        traces: what for.
        skip: files that are left out.

    Raises:
        OSError, sqlite3.Error: a file can't be read.
    """
    files = total = shared = 0
    found: list[Finding] = []
    skipped = set(skip)
    for path in sorted(home.rglob("*")):
        if path.is_symlink() or not path.is_file() or path in skipped:
            continue
        files, total = files + 1, total + path.stat().st_size
        for what, pattern, offset in _hits(path, traces):
            if _is_anothers(path, pattern, what):
                shared += 1
            else:
                found.append(Finding(path.relative_to(home).as_posix(), offset, what))
    return Searched(files, total, shared, tuple(found))


def _hits(path: Path, traces: Traces) -> list[tuple[str, bytes, int]]:
    """Each pattern that a file holds, and where first."""
    kinds = {"id": traces.names, "pseudonym": traces.pseudonyms, "vector": traces.vectors}
    wanted = [(what, each) for what, patterns in kinds.items() for each in sorted(patterns)]
    overlap = max((len(each) for _, each in wanted), default=1) - 1
    first: dict[tuple[str, bytes], int] = {}
    with path.open("rb") as file:
        base, rest = 0, b""
        while part := file.read(_AT_ONCE):
            data = rest + part
            for what, pattern in wanted:
                if (what, pattern) not in first and (at := data.find(pattern)) >= 0:
                    first[what, pattern] = base + at
            rest = data[-overlap:] if overlap else b""  # what is searched for may lie across
            base += len(data) - len(rest)
    return [(what, pattern, at) for (what, pattern), at in first.items()]


def _is_anothers(path: Path, pattern: bytes, what: str) -> bool:
    """Whether bytes that were found are not the customer's."""
    if what == "pseudonym":
        return False
    if what == "id" and path.name == bought_path(path.parent).name:
        return True  # customers are there by pseudonym alone: it is an item
    with path.open("rb") as file:
        is_database = file.read(len(_HEADER)) == _HEADER
    if what == "vector":
        if is_database:
            return any(pattern in value for _, value in _live_values(path))
        return path.suffix == ".safetensors"  # the item side: who bought one item has its vector
    if is_database:
        having = [(table, value) for table, value in _live_values(path) if pattern in value]
        named = [value for table, value in having if table != "items"]
        return bool(having) and all(_is_within_words(value, pattern) for value in named)
    return _is_within_words(path.read_bytes(), pattern)


def _live_values(path: Path) -> Iterator[tuple[str, bytes]]:
    """Table and content of each text and each blob in an SQLite file."""
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"  # takes no lock, makes no file
    with closing(sqlite3.connect(uri, uri=True)) as db:
        names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        tables = [name for (name,) in db.execute(names)]
        db.text_factory = bytes
        for table in tables:
            quoted = '"' + table.replace('"', '""') + '"'
            for row in db.execute(f"SELECT * FROM {quoted}"):  # noqa: S608 - its own names
                yield from ((table, value) for value in row if isinstance(value, bytes))


def _is_within_words(data: bytes, pattern: bytes) -> bool:
    """Whether a text has the bytes only as a part of longer runs of letters and digits."""
    if b"\0" in data:
        return False  # no text
    at = -1
    while (at := data.find(pattern, at + 1)) >= 0:
        around = data[max(0, at - 1) : at] + data[at + len(pattern) : at + len(pattern) + 1]
        if not any(chr(byte).isalnum() for byte in around):
            return False
    return True
