"""The engine's benchmark: what it tells, not how long anything takes."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.comparison import Comparison, compare, measure
from benchmarks.engine import KINDS, main
from benchmarks.engine_report import table, write
from benchmarks.rivals import K, Rival, floors, plain
from c2rec.runtime.engine.engine import Engine, Filter, Found, Request
from c2rec.runtime.engine.synthetic import RandomRelease

ITEMS = 20_000


@pytest.fixture(autouse=True)
def without_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether faiss and usearch are installed must make no difference."""
    for name in ("faiss", "usearch", "usearch.index"):
        monkeypatch.setitem(sys.modules, name, None)


def compared() -> Comparison:
    release = RandomRelease(ITEMS, 8, 1)
    return compare(release, "random", requests=4, hnsw_limit=ITEMS, compiled=False)


def test_everyone_that_can_be_made_is_timed_and_held_against_the_plain_graph() -> None:
    comparison = compared()
    assert [each.name for each in comparison.measured] == [
        *("plain graph", "engine", "numpy", "PyTorch", "read int8", "read float32")
    ]
    for each in comparison.measured:
        assert 0 < each.median <= each.p99
        if each.name.startswith("read"):
            assert each.recall is each.same is None
        else:
            assert each.recall == 1
    assert comparison.exact
    assert (comparison.items, comparison.size, comparison.requests) == (ITEMS, 8, 4)
    assert 0 < comparison.scanned <= 1.02  # the last group is filled up
    assert comparison.batch_gain > 0 < comparison.masked_ratio


def test_what_is_not_installed_is_left_out_with_the_command_that_installs_it() -> None:
    reasons = {each.name: each.reason for each in compared().absent}
    assert "`pip install faiss-cpu`" in reasons["faiss flat"]
    assert "`pip install usearch`" in reasons["usearch HNSW"]
    assert reasons["torch.compile"] == "not asked for"


def test_large_catalogues_get_no_hnsw_graph() -> None:
    release = RandomRelease(ITEMS, 8, 1)
    found = compare(release, "random", requests=2, hnsw_limit=ITEMS - 1, compiled=False)
    reasons = {each.name: each.reason for each in found.absent}
    assert f"--hnsw-limit {ITEMS - 1}" in reasons["faiss HNSW"]


def test_a_wrong_answer_of_the_engine_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Engine.top_k

    def wrong(engine: Engine, request: Request, k: int, *, only: Filter | None = None) -> Found:
        found = right(engine, request, k + 1, only=only)
        return found._replace(rows=np.delete(found.rows, k - 1))  # the k-th is passed over

    monkeypatch.setattr(Engine, "top_k", wrong)
    comparison = compared()
    engine = comparison.of("engine")
    assert engine.same == 0
    assert engine.recall == pytest.approx((K - 1) / K)
    assert not comparison.exact
    assert "**NO**" in table([comparison])
    kind = next(iter(KINDS))
    arguments = ["--items", f"{ITEMS}", "--dims", "8", "--kinds", kind, "--requests", "2"]
    assert main([*arguments, "--no-compile"]) == 1


def test_another_order_is_not_the_same_answer() -> None:
    release = RandomRelease(ITEMS, 8, 1)
    exact = plain(Engine(release).scorer)

    def turned(request: Request) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        rows = exact.answer(request)
        assert rows is not None
        return rows[::-1]

    _, found = measure([exact, Rival("turned", turned)], [release.request() for _ in range(3)])
    assert (found.recall, found.same) == (1, 0)


def test_a_read_answers_nothing_to_compare() -> None:
    release = RandomRelease(ITEMS, 8, 1)
    engine = Engine(release)
    request = release.request()
    assert [each.answer(request) for each in floors(release, len(engine.scan.tiles))] == [
        None,
        None,
    ]


def test_a_report_has_a_table_its_figures_and_a_chart(tmp_path: Path) -> None:
    small = compared()
    write(tmp_path, [small])
    assert not (tmp_path / "engine.svg").exists()  # a line takes two sizes
    write(tmp_path, [small, replace(small, items=10 * ITEMS)])
    assert (tmp_path / "engine.svg").read_text().startswith("<svg")
    document = json.loads((tmp_path / "engine.json").read_text())
    assert [each["items"] for each in document["comparisons"]] == [ITEMS, 10 * ITEMS]
    assert document["comparisons"][0]["exact"] is True
    rows = (tmp_path / "engine.md").read_text().splitlines()
    assert {row.count("|") for row in rows[:4]} == {16}
    assert {row.count("|") for row in rows[5:]} == {10}
