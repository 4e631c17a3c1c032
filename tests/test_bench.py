"""``bench``: what it prints, what it refuses, and that it sees a wrong answer. No times."""

import json
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from c2rec.export.graph import bare_scorer_graph
from c2rec.runtime.engine.engine import Engine, Filter, Found, Request
from c2rec.runtime.engine.synthetic import RandomRelease
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.install import install
from c2rec.store_kiosk import bench as bench_module
from c2rec.store_kiosk.bench import Subject, measure
from c2rec.store_kiosk.cli import main
from c2rec.store_kiosk.eager import eager_top_k
from c2rec.store_kiosk.machine import available_mb
from tests.release import change_tensor, make_release

ROOT = Path(__file__).parent.parent
NAME = "2020-07-27-00000001"
TINY = ["bench", "--items", "3000", "--dim", "8", "--requests", "20"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_release(folder / "bundle", name=NAME, items=3000)
    install(folder / "bundle", folder / "home")
    return folder / "home"


@pytest.fixture
def threads() -> Iterator[None]:
    """PyTorch's own number of threads again, after a test."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def kiosk(home: Path | str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), *arguments])


def succeed(home: Path | str, *arguments: str) -> str:
    result = kiosk(home, *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def assert_document(document: dict[str, Any], *, items: int, dim: int, requests: int) -> None:
    """Every key that the documentation names and no other, each of its type."""
    explained = (ROOT / "docs" / "bench.md").read_text()
    cells = re.findall(r"^\| (`.*?) \|", explained, re.MULTILINE)
    assert list(document) == [
        *("schema", "source", "items", "dim", "k", "requests"),
        *("engine_ms", "plain_graph_ms", "torch_ms", "read_int8_ms", "batch64_ms"),
        *("open_to_first_ms", "rss_mb", "widened", "exact", "engine_cold_ms"),
        *("plain_graph_cold_ms", "read_int8_cold_ms"),
        *("compared", "scanned", "scored", "cpu_ms_per_paced_request"),
        *("default_session_cpu_ms_per_paced_request", "memory_read_gb_s"),
        *("import_onnxruntime_ms", "machine"),
    ]
    assert list(document) == re.findall(r"`(\w+)`", ", ".join(cells))
    assert (document["schema"], document["items"], document["dim"]) == (1, items, dim)
    assert (document["k"], document["requests"]) == (10, requests)
    for name in ("engine_ms", "plain_graph_ms", "engine_cold_ms"):
        assert list(document[name]) == ["p50", "p99"]
        assert 0 < document[name]["p50"] <= document[name]["p99"]
    for name in ("read_int8_ms", "batch64_ms", "open_to_first_ms", "rss_mb", "scored"):
        assert document[name] > 0
    for name in ("memory_read_gb_s", "import_onnxruntime_ms"):
        assert document[name] > 0
    assert document["cpu_ms_per_paced_request"] > 0
    assert document["default_session_cpu_ms_per_paced_request"] > 0
    assert 0 <= document["widened"] <= 1
    assert 0 <= document["scanned"] <= 1
    assert document["exact"] is True
    assert document["compared"] >= 50
    assert list(document["machine"]) == ["cpu", "threads", "python", "onnxruntime", "numpy"]


def test_a_random_catalogue_needs_no_home_and_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails
    document = json.loads(succeed("/no/such/home", *TINY, "--flat", "--uncorrelated", "--json"))
    assert_document(document, items=3000, dim=8, requests=20)
    assert document["source"] == "random catalogue, flat, uncorrelated, seed 0"
    assert document["torch_ms"] is None


def test_the_installed_release_is_measured(home: Path, threads: None) -> None:
    """By its own graph and for its own customers; the home stays as it was."""
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    document = json.loads(succeed(home, "bench", "--requests", "7", "--json"))
    assert_document(document, items=3000, dim=8, requests=7)
    assert document["source"] == f"release {NAME}"
    assert list(document["torch_ms"]) == ["p50", "p99"]
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_text_is_a_table_and_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    lines = succeed("/no/such/home", *TINY, "--seed", "3", "-k", "5").splitlines()
    assert lines[0] == "random catalogue, seed 3: 3,000 items, embedding size 8"
    assert lines[3].startswith("The 5 best for one customer")
    head, engine, graph, read = (line.split() for line in lines[5:9])
    assert head == ["p50", "ms", "p99", "ms", "engine", "=", "1"]
    assert (engine[:2], engine[-1]) == (["the", "engine"], "1.00")
    assert (graph[:2], read[0]) == (["every", "item,"], "reading")
    assert any(line.startswith("Exact: yes; for 50 requests") for line in lines)
    assert max(map(len, lines)) <= 100


class _Swapped(Engine):
    """Finds the right items in the wrong order."""

    def top_k(self, request: Request, k: int, *, only: Filter | None = None) -> Found:
        found = super().top_k(request, k, only=only)
        return found._replace(rows=found.rows[::-1])


class _Off(Engine):
    """Finds the right items; of one request in a while, a score is wrong."""

    answered = 0

    def top_k(self, request: Request, k: int, *, only: Filter | None = None) -> Found:
        found = super().top_k(request, k, only=only)
        self.answered += 1
        if self.answered % 40 == 0:
            found.scores[-1] += np.float32(2e-5)
        return found


@pytest.mark.parametrize(("kind", "exact"), [(Engine, True), (_Swapped, False), (_Off, False)])
def test_a_wrong_engine_is_not_exact(
    kind: type[Engine], exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    source = RandomRelease(3000, 8, 1)
    asked = [source.request() for _ in range(10)]
    subject = Subject(kind(source), source, source.array("channel_weights"), asked)
    stages: list[str] = []
    figures = measure(subject, k=10, requests=5, report=stages.append)
    assert figures["exact"] is exact
    assert "timing: turn 10 of 10" in stages


def test_nothing_comes_between_the_calls_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten turns of 5 requests to the graph, after one that is not counted."""
    monkeypatch.setitem(sys.modules, "torch", None)
    source = RandomRelease(20_000, 8, 1)
    calls: list[str] = []

    class Watched(Engine):
        """Tells of its calls; at this size it makes none for the whole catalogue."""

        def top_k(self, request: Request, k: int, *, only: Filter | None = None) -> Found:
            calls.append("engine")
            return super().top_k(request, k, only=only)

    engine = Watched(source)
    score = engine.scorer.score

    def watched(*arguments: Any) -> Any:
        calls.append("graph")
        return score(*arguments)

    monkeypatch.setattr(engine.scorer, "score", watched)
    asked = [source.request() for _ in range(10)]
    subject = Subject(engine, source, source.array("channel_weights"), asked)
    measure(subject, k=10, requests=20, report=lambda _: None)
    runs = [(who, len(list(several))) for who, several in groupby(calls)]
    assert [length for who, length in runs if who == "graph"][:10] == [6] * 10


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_wrong_engine_is_a_failure_that_asks_to_be_reported(
    more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(bench_module, "Engine", _Swapped)
    result = kiosk("/no/such/home", *TINY, *more)
    assert result.exit_code == 1
    assert "Error: the engine did not find what the graph ranks first; please" in result.stderr
    assert ('"exact": false' if more else "Exact: NO") in result.stdout


def machine(root: Path, groups: str, files: dict[str, str]) -> float | None:
    """Memory that can be had on a machine with 8 GB available, in groups with these files."""
    for name, content in {
        "proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable:    7812500 kB\n",
        "proc/self/cgroup": groups,
        **files,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return available_mb(root)


def test_without_limits_memory_is_what_the_machine_has(tmp_path: Path) -> None:
    assert machine(tmp_path, "0::/\n", {}) == 8000
    group = "sys/fs/cgroup/store.slice/memory."
    files = {f"{group}max": "max\n", f"{group}current": "5\n", f"{group}stat": "anon 1\n"}
    assert machine(tmp_path, "0::/store.slice\n", files) == 8000


@pytest.mark.parametrize("path", ["/store.slice", "/store.slice/kiosk.service"])
def test_memory_is_what_a_group_above_leaves(path: str, tmp_path: Path) -> None:
    group = "sys/fs/cgroup/store.slice/memory."
    files = {
        f"{group}max": "900000000\n",
        f"{group}current": "500000000\n",
        f"{group}stat": "anon 300000000\ninactive_file 100000000\n",  # given up when needed
    }
    assert machine(tmp_path, f"0::{path}\n", files) == 500


def test_memory_is_what_a_group_of_version_1_leaves(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/docker/12/memory."
    files = {
        f"{group}limit_in_bytes": "900000000\n",
        f"{group}usage_in_bytes": "950000000\n",
        f"{group}stat": "cache 3\ntotal_inactive_file 100000000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**63 - 4096}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "950000000\n",
        "sys/fs/cgroup/memory/memory.stat": "cache 3\n",
    }
    assert machine(tmp_path, "3:cpu,cpuacct:/\n2:memory:/docker/12\n0::/\n", files) == 50


def test_a_group_that_a_container_does_not_see_is_the_root_of_what_it_sees(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/memory.max": "700000000\n",
        "sys/fs/cgroup/memory.current": "200000000\n",
        "sys/fs/cgroup/memory.stat": "inactive_file 0\n",
    }
    assert machine(tmp_path, "0::/../../kubepods/pod7\n", files) == 500


def test_what_is_left_out_is_left_out_of_all_that_is_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Down to a customer who has bought all but three items."""
    monkeypatch.setitem(sys.modules, "torch", None)
    source = RandomRelease(2500, 8, 1)
    asked = [source.request()._replace(left_out=np.arange(count)) for count in (2000, 2497, 2500)]
    subject = Subject(Engine(source), source, source.array("channel_weights"), asked)
    figures = measure(subject, k=10, requests=5, report=lambda _: None)
    assert figures["exact"] is True


@pytest.mark.parametrize("present", [[True, True, False], [True, True, True]])
def test_pytorch_computes_what_the_graph_does(present: list[bool], threads: None) -> None:
    source = RandomRelease(3000, 8, 2)
    eager = eager_top_k(source, source.array("channel_weights"), "softmax")
    assert eager is not None
    engine = Engine(source)
    for _ in range(20):
        has = np.array([present])
        request = source.request()
        request = request._replace(has=has, components=request.components * has[..., None])
        request = request._replace(left_out=np.unique(request.history))
        rows, scores = eager(request, 10)
        found = engine.top_k(request, 10)
        np.testing.assert_array_equal(rows, found.rows)
        np.testing.assert_allclose(scores, found.scores, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--dim", "8"], "add --items"),
        (["--flat"], "add --items"),
        (["--uncorrelated"], "add --items"),
        (["--items", "0"], "1<=x<=10000000"),
        (["--items", "10000001"], "1<=x<=10000000"),
        (["--items", "9", "--dim", "4097"], "1<=x<=4096"),
        (["--items", "9", "-k", "1001"], "1<=x<=1000"),
        (["--requests", "0"], "1<=x<=100000"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_is_allowed(
    home: Path, arguments: list[str], told: str
) -> None:
    result = kiosk(home, "bench", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def fail(home: Path, *arguments: str, code: int = 1) -> str:
    result = kiosk(home, "bench", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_what_the_memory_can_t_hold_is_refused(home: Path) -> None:
    assert "take about" in fail(home, "--items", "10000000", "--dim", "4096", code=2)


def test_without_a_release_the_next_command_is_told(tmp_path: Path) -> None:
    assert "install one: c2rec-kiosk" in fail(tmp_path)


def test_customers_without_purchases_are_not_asked_for(tmp_path: Path) -> None:
    make_release(tmp_path / "bundle", encoder="table")
    change_tensor(tmp_path / "bundle", "customers.safetensors", "has", np.zeros_like)
    install(tmp_path / "bundle", tmp_path / "home")
    assert "bench --items 10000" in fail(tmp_path / "home", code=2)


def test_answers_by_popularity_are_not_measured(home: Path, tmp_path: Path) -> None:
    """A home whose model is damaged answers on, and quickly."""
    damaged = shutil.copytree(home, tmp_path / "home")
    with closing(sqlite3.connect(damaged / "gen" / f"{NAME}.db")) as db, db:
        db.execute("DELETE FROM chunks WHERE name LIKE 'scan/%'")
    assert "can't use the model" in fail(damaged)


def test_the_graph_of_random_catalogues_is_what_the_export_builds() -> None:
    """``runtime/scorer.onnx`` is committed, for a kiosk has no onnx to build it with.

    After a change to the graph, write it anew::

        graph = bare_scorer_graph()
        graph.producer_version = ""  # the package's version is no part of it
        Path("runtime/scorer.onnx").write_bytes(graph.SerializeToString())
    """
    graph = bare_scorer_graph()
    graph.producer_version = ""
    assert onnx.load(ROOT / "runtime" / "scorer.onnx") == graph


def test_customers_are_drawn_once_each_and_by_the_seed(home: Path) -> None:
    cache = Cache(home / "gen" / f"{NAME}.db")
    drawn = [cache.draw_customers(12, seed) for seed in (0, 0, 1)]
    everybody = cache.draw_customers(1000, 0)
    cache.close()
    assert len(set(drawn[0])) == 12
    assert drawn[0] == drawn[1] != drawn[2]
    assert sorted(everybody) == [f"c{n:06}" for n in range(30)]
