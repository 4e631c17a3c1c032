"""What a running kiosk costs: memory, time to open, time and processor time per answer.

Run from the checkout: ``python -m benchmarks.serving [--items 100000] [--customers 200000]
[--dim 64] [--requests 100000] [--home HOME]``. It makes a release at random, installs it and
measures it, each in its own process; with ``--home`` it takes the release installed there.
"""

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from onnx import numpy_helper
from safetensors.numpy import save_file

from c2rec.export.graph import bare_scorer_graph
from c2rec.runtime.engine.engine import Engine, Request
from c2rec.runtime.engine.scorer import Scorer
from c2rec.runtime.engine.synthetic import RandomRelease
from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.home.state import read_state
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.release.install import install
from c2rec.runtime.release.manifest import Counts, ListedFile, Manifest

GOLDEN = 8
BOUGHT = 20


def write_release(folder: Path, items: int, customers: int, size: int) -> None:
    """Write a bundle of a random catalogue, with the table encoder."""
    folder.mkdir(parents=True)
    source = RandomRelease(items, size, 0)
    names = ["item_embeddings", "item_bias", "attention_bias", "neighbour_items"]
    arrays = {name: source.array(name) for name in [*names, "neighbour_weights"]}
    rng = np.random.default_rng(1)
    arrays["popularity"] = rng.gamma(0.3, 100, (2, items)).astype(np.float32)
    save_file(arrays, folder / "items.safetensors")
    drawn = [source.request(bought=BOUGHT) for _ in range(500)]  # every customer is one of these
    which = rng.integers(0, len(drawn), customers)
    histories = [np.unique(each.history).astype(np.int32) for each in drawn]
    lengths = np.array([len(each) for each in histories])[which]
    save_file(
        {
            "components": np.concatenate([each.components for each in drawn])[which],
            "has": np.concatenate([each.has for each in drawn])[which].astype(np.uint8),
            "history_offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            "history_items": np.concatenate([histories[each] for each in which]),
            "history_channels": np.repeat(which % 2, lengths).astype(np.uint8),
            "history_days": rng.integers(20_454, 20_484, lengths.sum()).astype(np.int32),
        },
        folder / "customers.safetensors",
    )
    for kind, count, row in (("items", items, _item), ("customers", customers, _customer)):
        lines = "".join(json.dumps(row(number)) + "\n" for number in range(count))
        (folder / f"{kind}.jsonl").write_text(lines)
    (folder / "stores.jsonl").write_text('["all"]\n' * customers)
    graph = bare_scorer_graph()
    graph.graph.input.remove(graph.graph.input[0])
    weights = numpy_helper.from_array(source.array("channel_weights"), "channel_weights")
    graph.graph.initializer.append(weights)
    (folder / "scorer.onnx").write_bytes(graph.SerializeToString())
    save_file(_golden(source, drawn[:GOLDEN]), folder / "golden.safetensors")
    contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    manifest = Manifest(
        release="2026-01-31-00000000",
        created_at="2026-01-31T09:30:00Z",
        producer="benchmarks",
        encoder="table",
        attention="softmax",
        embedding_size=size,
        space="0" * 64,
        counts=Counts(items, customers, int(lengths.sum())),
        data_from="2026-01-01",
        data_to="2026-01-31",
        files={
            name: ListedFile(hashlib.sha256(data).hexdigest(), len(data))
            for name, data in contents.items()
        },
    )
    (folder / "manifest.json").write_text(manifest.to_json())


def _item(number: int) -> dict[str, str]:
    return {"item_id": f"i{number:08}", "name": f"Item {number}"}


def _customer(number: int) -> str:
    return f"c{number:08}"


def _golden(source: RandomRelease, drawn: list[Request]) -> dict[str, Any]:
    """The scorer's own answers: this release is to be measured, not to be believed."""
    scorer, top = Scorer(source), []
    histories = np.stack([each.history for each in drawn])  # (g, length)
    ones = np.ones(histories.shape, np.float32)
    components = np.concatenate([each.components for each in drawn])
    has = np.concatenate([each.has for each in drawn])
    for channel in (0, 1):
        scores, attention = scorer.score(components, has, channel, histories, ones)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]  # (g, 10)
        alphas = np.take_along_axis(attention, best[:, None], 2).transpose(0, 2, 1)
        top.append((best.astype(np.int32), np.take_along_axis(scores, best, 1), alphas))
    items, scores, alphas = (np.stack(each) for each in zip(*top, strict=True))
    return {
        "components": components,
        "has": has.astype(np.uint8),
        "top_items": items,
        "top_scores": np.ascontiguousarray(scores),
        "top_attention": np.ascontiguousarray(alphas),
        "history_items": histories,
        "history_channels": np.zeros_like(histories),
        "history_weights": ones,
    }


def rss_mb() -> float:
    """Resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def opening(home: Path, runs: int = 11) -> dict[str, float]:
    """Medians of fresh processes, in seconds: importing onnxruntime, and the first answer."""
    first = (
        "import sys; from pathlib import Path; from c2rec.runtime.recommender import Recommender;"
        " answer = Recommender.open(Path(sys.argv[1])).recommend('c00000007');"
        " assert answer.tier == 'personal'"
    )
    times: dict[str, list[float]] = {"import onnxruntime": [], "first answer": []}
    for run in range(runs + 1):
        for name, code in zip(times, ("import onnxruntime", first), strict=True):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code, str(home)], check=True)
            if run:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def memory(home: Path) -> dict[str, dict[str, float]]:
    """Resident memory in MB of fresh processes: a bare session, and one that has answered.

    Returns:
        For each, ``anonymous``: its own; ``mapped``: files, which processes share.
    """
    bare = (
        "from importlib.resources import files;"
        " from c2rec.runtime.engine.scorer import open_session;"
        " graph = files('c2rec.runtime').joinpath('scorer.onnx').read_bytes();"
        " session = open_session('scorer.onnx', graph, 1);"
    )
    used = (
        "import sys; from pathlib import Path; from c2rec.runtime.recommender import Recommender;"
        " recommender = Recommender.open(Path(sys.argv[1]));"
        " [recommender.recommend(f'c{number:08}') for number in range(200)];"
    )
    tell = "print(open('/proc/self/status').read())"
    seen = {}
    for name, code in (("bare session", bare), ("after 200 answers", used)):
        command = [sys.executable, "-c", code + tell, str(home)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        lines = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
        kinds = {"anonymous": "RssAnon", "mapped": "RssFile"}
        seen[name] = {kind: int(lines[key].split()[0]) / 1e3 for kind, key in kinds.items()}
    return seen


def answering(home: Path, requests: int) -> dict[str, float]:
    """Milliseconds: ``recommend``, all included, and the engine alone, by turns."""
    recommender = Recommender.open(home)
    cache = Cache(generation_path(home, read_state(home).active.name))
    engine = Engine(cache, attention=recommender.manifest.attention)
    customers = recommender.manifest.counts.customers
    rng = np.random.default_rng(2)
    stock = recommender.shown(
        without=[f"i{row:08}" for row in rng.integers(0, engine.items, engine.items // 10)]
    )
    only = engine.filter(stock.rows)
    whole, alone = [], []
    for number in range(requests + 20):
        name = f"c{rng.integers(customers):08}"
        known = cache.customer(name)
        if known is None:
            raise SystemExit(f"{home}: the release has no customer {name}")
        here = known.history_items[known.history_channels == 0].astype(np.int64)
        history = known.history_items.astype(np.int64)
        request = Request(known.components[None], known.has[None], 0, history, here)
        started = time.perf_counter()
        recommender.recommend(name, shown=stock)
        middle = time.perf_counter()
        engine.top_k(request, 10, only=only)
        if number >= 20:
            whole.append((middle - started) * 1000)
            alone.append((time.perf_counter() - middle) * 1000)
    return {
        "recommend p50": statistics.median(whole),
        "recommend p99": float(np.quantile(whole, 0.99)),
        "engine p50": statistics.median(alone),
        "engine p99": float(np.quantile(alone, 0.99)),
    }


def flat_memory(home: Path, requests: int) -> list[float]:
    """Resident memory in MB after each tenth of many mixed requests."""
    recommender = Recommender.open(home)
    counts = recommender.manifest.counts
    rng, seen = np.random.default_rng(3), []
    stock = recommender.shown(without=[f"i{row:08}" for row in range(0, counts.items, 3)])
    for number in range(requests):
        recommender.recommend(
            f"c{rng.integers(counts.customers):08}" if number % 5 else None,
            basket=[f"i{rng.integers(counts.items):08}"] * (number % 3),
            k=int(rng.choice([1, 10, 100])),
            channel="online" if number % 2 else "offline",
            shown=stock if number % 4 == 0 else None,
        )
        if (number + 1) % max(1, requests // 10) == 0:
            seen.append(rss_mb())
    return seen


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--requests", type=int, default=100_000, help="of the memory's test")
    parser.add_argument("--home", type=Path, help="a home with a release of this benchmark")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = options.home or Path(temporary) / "home"
        if not home.exists():
            print("making a release")
            bundle = Path(temporary) / "bundle"
            write_release(bundle, options.items, options.customers, options.dim)
            started = time.perf_counter()
            install(bundle, home)
            print(f"installed in {time.perf_counter() - started:.1f} s")
        times = opening(home)
        ratio = times["first answer"] / times["import onnxruntime"]
        print(*(f"{name}: {value:.3f} s" for name, value in times.items()), f"ratio {ratio:.2f}")
        cache = Cache(generation_path(home, read_state(home).active.name))
        names = ["item_embeddings", "item_bias", "attention_bias"]
        sizes = [
            sum(cache.array(name).nbytes for name in some) / 1e6
            for some in (names, ["neighbour_items", "neighbour_weights"])
        ]
        print("item matrices {:.0f} MB, rows of neighbours {:.0f} MB".format(*sizes))
        for name, kinds in memory(home).items():
            print(f"{name}:", *(f"{value:.0f} MB {kind}" for kind, value in kinds.items()))
        answers = answering(home, 2000)
        print(*(f"{name}: {value:.3f} ms" for name, value in answers.items()))
        p50, p99 = (answers[f"recommend {p}"] / answers["engine p50"] for p in ("p50", "p99"))
        print(f"recommend against the engine's p50: p50 {p50:.2f}, p99 {p99:.2f}")
        print("memory, MB:", *(f"{value:.1f}" for value in flat_memory(home, options.requests)))


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
