"""Taking events out of a damaged ``events.db``, page by page, without SQLite.

SQLite finds rows through its tree, so that one overwritten page hides all below it. Here every page
of the file and of its write-ahead log is looked at by itself (https://sqlite.org/fileformat2.html),
and each cell of a leaf that has a row's shape and whose checksum is right is an event. A row that
had been sent and deleted may come back so: head office counts an event by its id, once.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096
"""Bytes of a page, as the outbox makes its file."""
_LEAF = 13
_COLUMNS = 7
_WAL_HEADER, _FRAME_HEADER = 32, 24
_LONGEST_ROW = 1 << 17


@dataclass(frozen=True, slots=True)
class Row:
    """An event as the outbox keeps it."""

    row_id: int
    customer: str | None
    body: str


def row_checksum(customer: str | None, body: str) -> int:
    """CRC-32 of what a row says."""
    return zlib.crc32(f"{customer or ''}\0{body}".encode(errors="surrogatepass"))


def carve(path: Path, wal: Path) -> list[Row]:
    """Find all rows of ``events`` that can be read, in the order they were recorded.

    Args:
        path: the damaged file; it need not exist.
        wal: its write-ahead log; it need not exist.

    Raises:
        OSError: a file can't be read.
    """
    pages = _cut(path.read_bytes(), 0, 0) if path.exists() else []
    frames = _cut(wal.read_bytes(), _WAL_HEADER, _FRAME_HEADER) if wal.exists() else []
    before = {number: page for number, (_, page) in enumerate(pages, start=1)}
    newest = before | {int.from_bytes(head[:4], "big"): page for head, page in frames}
    found = dict[str, Row]()
    for _, page in pages:
        _gather(found, page, before)
    # every version of a page is looked at: the last may be the one that was torn
    for _, page in frames:
        _gather(found, page, newest)
    return sorted(found.values(), key=lambda row: row.row_id)


def _cut(content: bytes, start: int, head: int) -> list[tuple[bytes, bytes]]:
    """Cut a file into pages, each with what is written before it."""
    ends = range(start + head + PAGE, len(content) + 1, head + PAGE)
    return [(content[end - PAGE - head : end - PAGE], content[end - PAGE : end]) for end in ends]


def _gather(found: dict[str, Row], page: bytes, pages: Mapping[int, bytes]) -> None:
    if page[0] != _LEAF:
        return
    for row in _rows(page, pages):
        try:
            event_id = json.loads(row.body)["id"]
        except (ValueError, KeyError, TypeError):
            continue
        # whose customer was erased in one version is nobody's in all
        if isinstance(event_id, str) and (event_id not in found or row.customer is None):
            found[event_id] = row


def _rows(page: bytes, pages: Mapping[int, bytes]) -> Iterator[Row]:
    cells = int.from_bytes(page[3:5], "big")
    for i in range(min(cells, (PAGE - 8) // 2)):
        at = int.from_bytes(page[8 + 2 * i : 10 + 2 * i], "big")
        try:
            row = _row(page, at, pages)
        except (IndexError, ValueError, KeyError):
            continue
        if row is not None:
            yield row


def _row(page: bytes, at: int, pages: Mapping[int, bytes]) -> Row | None:
    """Read a cell of a table's leaf: length, rowid, and a record that may go on elsewhere."""
    length, at = _varint(page, at)
    row_id, at = _varint(page, at)
    if not 0 < length <= _LONGEST_ROW:
        return None
    payload = _payload(page, at, length, pages)
    head, at = _varint(payload, 0)
    types = []
    while at < head:
        kind, at = _varint(payload, at)
        types.append(kind)
    if len(types) != _COLUMNS:
        return None
    values = list[bytes]()
    for kind in types:
        size = _size(kind)
        values.append(payload[at : at + size])
        at += size
    # id, customer, kind, body, crc, sequence, batch: as ``outbox_schema`` creates them
    customer = values[1].decode() if types[1] else None
    body = values[3].decode()
    crc = int.from_bytes(values[4], "big", signed=True)
    if types[4] in (8, 9):
        crc = types[4] - 8
    return Row(row_id, customer, body) if crc == row_checksum(customer, body) else None


def _payload(page: bytes, at: int, length: int, pages: Mapping[int, bytes]) -> bytes:
    if length <= PAGE - 35:
        return page[at : at + length]
    least = (PAGE - 12) * 32 // 255 - 23
    here = least + (length - least) % (PAGE - 4)
    here = here if here <= PAGE - 35 else least
    payload = page[at : at + here]
    following = int.from_bytes(page[at + here : at + here + 4], "big")
    while len(payload) < length and following:
        more = pages[following]
        payload += more[4 : 4 + length - len(payload)]
        following = int.from_bytes(more[:4], "big")
    return payload


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        byte = content[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | content[at + 8], at + 9


def _size(kind: int) -> int:
    """Bytes that a value of a serial type takes."""
    if kind >= 12:
        return (kind - 12) // 2
    return (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[kind]
