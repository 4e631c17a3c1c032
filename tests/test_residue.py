"""Searching a home byte by byte: what is found, and what is somebody else's."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from c2rec.runtime.erasure.residue import PIECE, Traces, pieces, search, written
from c2rec.runtime.erasure.rewrite import copy_without, customers_to_go

CUSTOMER = "c000003"
VECTOR = np.random.default_rng(1).normal(size=64).astype(np.float32).tobytes()
HIDDEN = bytes(range(100, 116))
TRACES = Traces(
    frozenset(written(CUSTOMER)),
    frozenset({HIDDEN, HIDDEN.hex().encode()}),
    frozenset(pieces(VECTOR)),
)


def found(home: Path, traces: Traces = TRACES) -> list[tuple[str, str]]:
    return [(each.file, each.what) for each in search(home, traces).findings]


def database(path: Path, rows: list[tuple[str, bytes]]) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("CREATE TABLE customers (customer_id TEXT PRIMARY KEY, components BLOB)")
        with db:
            db.executemany("INSERT INTO customers VALUES (?, ?)", rows)


def delete(path: Path, customer: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA secure_delete = OFF")
        with db:
            db.execute("DELETE FROM customers WHERE customer_id = ?", [customer])


def test_a_deleted_row_that_is_still_in_the_file_is_found(tmp_path: Path) -> None:
    """What SQLite does without secure_delete, and shows no query."""
    path = tmp_path / "gen.db"
    database(path, [(CUSTOMER, VECTOR), ("c000004", bytes(256))])
    delete(path, CUSTOMER)
    assert ("gen.db", "id") in found(tmp_path)
    assert ("gen.db", "vector") in found(tmp_path)


def test_a_copy_without_the_row_holds_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "gen.db"
    rows = [(f"c{n:06}", np.random.default_rng(n).bytes(256)) for n in range(2000)]
    rows[3] = (CUSTOMER, VECTOR)
    database(path, rows)
    rowids = customers_to_go(path, CUSTOMER.__eq__)
    assert rowids == [4]
    (tmp_path / "new").mkdir()
    copy_without(path, tmp_path / "new" / "gen.db", rowids)
    assert found(tmp_path / "new") == []
    with closing(sqlite3.connect(tmp_path / "new" / "gen.db")) as db:
        kept = db.execute("SELECT rowid, customer_id, components FROM customers").fetchall()
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert kept == [(n + 1, *row) for n, row in enumerate(rows) if row[0] != CUSTOMER]


@pytest.mark.parametrize("cut", range(0, 257, 16))
def test_a_vector_is_found_wherever_it_was_cut(tmp_path: Path, cut: int) -> None:
    """As SQLite cuts a value that is longer than a page."""
    (tmp_path / "file").write_bytes(b"a" * 99 + VECTOR[:cut] + b"page" * 99 + VECTOR[cut:])
    assert ("file", "vector") in found(tmp_path)


@pytest.mark.parametrize("place", [0, (1 << 22) - 3, (1 << 22) - len(CUSTOMER), 1 << 22])
def test_what_lies_across_two_reads_is_found(tmp_path: Path, place: int) -> None:
    (tmp_path / "file").write_bytes(b"\0" * place + CUSTOMER.encode() + b"\0" * 9)
    (finding,) = search(tmp_path, TRACES).findings
    assert (finding.what, finding.offset) == ("id", place)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"customer": CUSTOMER}).encode(),
        CUSTOMER.encode("utf-16-le"),
        b"\x37\x7f\x06" + CUSTOMER.encode() + b"\0\1",
    ],
)
def test_an_id_is_found_however_it_is_written(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "events.db-wal").write_bytes(content)
    assert found(tmp_path) == [("events.db-wal", "id")]


def test_an_id_outside_ascii_is_found_as_json_escapes_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps({"customer": "Zoë Müller"}))
    traces = Traces(frozenset(written("Zoë Müller")), frozenset(), frozenset())
    assert found(tmp_path, traces) == [("file", "id")]


@pytest.mark.parametrize("content", [HIDDEN, b"x" + HIDDEN.hex().encode() + b"y"])
def test_a_pseudonym_is_found_as_bytes_and_as_hex(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert found(tmp_path) == [("file", "pseudonym")]


def test_somebody_with_the_same_vector_is_not_taken_for_the_customer(tmp_path: Path) -> None:
    database(tmp_path / "gen.db", [("c000004", VECTOR)])
    (tmp_path / "items.safetensors").write_bytes(VECTOR)  # who bought one item has its vector
    searched = search(tmp_path, TRACES)
    assert searched.findings == ()
    assert searched.shared == 2 * len(pieces(VECTOR))


def test_a_longer_id_is_not_taken_for_the_customers(tmp_path: Path) -> None:
    database(tmp_path / "gen.db", [("c0000031", bytes(256)), ("xc000003", bytes(256))])
    (tmp_path / "state.json").write_text('["c0000031"]')
    assert found(tmp_path) == []


def test_the_id_among_live_values_is_found(tmp_path: Path) -> None:
    database(tmp_path / "gen.db", [("c0000031", bytes(256)), (CUSTOMER, bytes(256))])
    assert found(tmp_path) == [("gen.db", "id")]


def test_an_item_may_be_called_what_a_customer_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "gen.db")) as db:
        db.execute("CREATE TABLE items (item_id TEXT)")
        with db:
            db.execute("INSERT INTO items VALUES (?)", [CUSTOMER])
    assert found(tmp_path) == []


def test_plain_pieces_and_short_ids_are_not_searched_for() -> None:
    assert pieces(bytes(1000)) == set()
    assert pieces(np.arange(3, dtype=np.int32).tobytes()) == set()
    assert written("12345") == set()
    assert len(written("123456")) == 3


def test_the_last_piece_of_a_vector_overlaps_the_one_before() -> None:
    value = np.random.default_rng(2).bytes(PIECE + 10)
    assert pieces(value) == {value[:PIECE], value[10:]}
