"""How long the engine takes for one customer's ten best items, beside what could do it instead.

Run from the checkout::

    python -m benchmarks.engine [--items 10000,100000,1000000] [--dims 64,128] [--out FOLDER]
    python -m benchmarks.engine --items "" --release BUNDLE

The engine is held against the release's graph over all items, numpy, PyTorch, indexes of inner
products (``rivals.py``; ``pip install faiss-cpu usearch`` for these), and against the floor: a
read of the item side from memory. All answer the same requests, in one thread, in turns of a few
requests each, so that a change in the machine's load falls on all alike. The catalogues are random,
of four kinds, or come from bundles as ``c2rec-export bundle`` writes them.

The exit status is 1 where an answer of the engine is not the plain graph's own top ten.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.engine_chart import Point, chart
from benchmarks.rivals import Absent, K, Rival, floors, plain, rivals
from c2rec.runtime.cache import Cache
from c2rec.runtime.disk import generation_path
from c2rec.runtime.engine import Engine, Request
from c2rec.runtime.install import install
from c2rec.runtime.scorer import Source
from c2rec.runtime.synthetic import RandomRelease

if TYPE_CHECKING:
    from c2rec.runtime.manifest import AttentionName

KINDS = {
    "popular, correlated": {"popular": True, "correlated": True},
    "popular, uncorrelated": {"popular": True, "correlated": False},
    "flat, correlated": {"popular": False, "correlated": True},
    "flat, uncorrelated": {"popular": False, "correlated": False},
}
"""Of random catalogues: whether few items sell far more, and whether tastes are alike."""
AT_ONCE = 8
"""Requests that one answers before it is the next one's turn."""
WARM_UP = 3
"""Requests that are answered before any is timed."""
MOST_SCORES = 50_000_000
"""Items times requests: of a larger catalogue fewer requests are timed."""
LEAST_REQUESTS = 20
BATCH = 64
"""Customers of a batch."""
BATCHES = 5
"""So often a batch is timed."""
MASKED = 0.99
"""Share of the items that the filter takes away."""
SEED = 1
_SHORT = [
    *("data", "items", "d", "engine, ms", "p99", "plain graph, ms", "engine / plain"),
    *("engine / read int8", "engine / read float32", "exact", "widened", "scanned", "scored"),
    *("batch gain", "99 % masked / unmasked"),
]


class Data(Source, Protocol):
    """A release with customers; also its ``channel_weights``, as an array."""

    def request(self) -> Request:
        """Draw a customer."""
        ...


@dataclass(frozen=True, slots=True)
class Measured:
    """What one took, and how its answers compare."""

    name: str
    median: float
    """Milliseconds."""
    p99: float
    """Milliseconds; of fewer than 100 requests, nearly the longest."""
    recall: float | None
    """Share of the exact best k that it found; None where it answers nothing."""
    same: float | None
    """Share of the requests with the same rows in the same order; None as above."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that is known of one catalogue."""

    data: str
    items: int
    size: int
    """d"""
    requests: int
    measured: list[Measured]
    absent: list[Absent]
    widened: float
    """Share of the requests for which the engine's first candidates did not suffice."""
    scanned: float
    """Mean share of the catalogue that the engine computed bounds of."""
    scored: float
    """Mean count of items that the engine scored."""
    batch_gain: float
    """How many times as many customers a second a batch of 64 serves as single calls."""
    batch_same: float
    """Share of a batch's answers that are the plain graph's."""
    masked: list[Measured]
    """The plain graph, and the engine with and without a filter."""

    def of(self, name: str) -> Measured:
        """Tell what one took."""
        return next(each for each in self.measured if each.name == name)

    @property
    def masked_ratio(self) -> float:
        """Time with 99 % of the items masked, as a multiple of the time without a filter."""
        _, masked, unmasked = self.masked
        return masked.median / unmasked.median

    @property
    def exact(self) -> bool:
        """Whether every answer of the engine was the plain graph's own."""
        return [self.of("engine").same, self.batch_same, self.masked[1].same] == [1, 1, 1]


def measure(contenders: Sequence[Rival], requests: Sequence[Request]) -> list[Measured]:
    """Let all answer the same requests, in turns, and time each answer.

    Args:
        contenders: who; the first one's answers are the exact ones.
        requests: at least one.

    Returns:
        One for each contender, in order.
    """
    times: list[list[float]] = [[] for _ in contenders]
    rows: list[list[npt.NDArray[np.int64] | None]] = [[] for _ in contenders]
    for contender in contenders:
        for request in requests[:WARM_UP]:
            contender.answer(request)
    for first in range(0, len(requests), AT_ONCE):
        for turn in range(len(contenders)):
            number = (turn + first // AT_ONCE) % len(contenders)  # each begins as often
            for request in requests[first : first + AT_ONCE]:
                started = time.perf_counter()
                answer = contenders[number].answer(request)
                times[number].append(1000 * (time.perf_counter() - started))
                rows[number].append(answer)
    return [
        Measured(
            contender.name,
            statistics.median(times[number]),
            float(np.percentile(times[number], 99)),
            _mean(_recall, rows[number], rows[0]),
            _mean(_same, rows[number], rows[0]),
        )
        for number, contender in enumerate(contenders)
    ]


def compare(
    data: Data,
    name: str,
    *,
    requests: int,
    hnsw_limit: int,
    compiled: bool,
    attention: "AttentionName" = "softmax",
) -> Comparison:
    """Measure all there is to measure on one catalogue.

    Args:
        data: a release.
        name: of the kind of data, for the tables.
        requests: how many are timed.
        hnsw_limit: no HNSW graph is built for more items.
        compiled: whether ``torch.compile`` is tried.
        attention: how the release's graph makes weights of logits.
    """
    engine = Engine(data, attention=attention)
    made = list(rivals(data, engine, attention=attention, hnsw_limit=hnsw_limit, compiled=compiled))
    contenders = [each for each in made if isinstance(each, Rival)]
    asked = [data.request() for _ in range(requests)]
    measured = measure([*contenders, *floors(data, len(engine.scan.tiles))], asked)
    found = [engine.top_k(request, K) for request in asked]
    gain, same = _batches(engine, [data.request() for _ in range(BATCH)])
    return Comparison(
        data=name,
        items=engine.items,
        size=engine.size,
        requests=requests,
        measured=measured,
        absent=[each for each in made if isinstance(each, Absent)],
        widened=statistics.mean(each.widened for each in found),
        scanned=statistics.mean(each.scanned for each in found) / engine.items,
        scored=statistics.mean(each.scored for each in found),
        batch_gain=gain,
        batch_same=same,
        masked=_masked(engine, asked),
    )


def _batches(engine: Engine, requests: Sequence[Request]) -> tuple[float, float]:
    """What a batch gains over single calls, and the share of its answers that are exact."""
    together, alone = [], []
    found = engine.top_k_batch(requests, K)  # the first makes buffers
    for _ in range(BATCHES):
        started = time.perf_counter()
        engine.top_k_batch(requests, K)
        between = time.perf_counter()
        for request in requests:
            engine.top_k(request, K)
        together.append(between - started)
        alone.append(time.perf_counter() - between)
    exact = plain(engine.scorer).answer
    same = statistics.mean(
        _same(each.rows, exact(request)) for each, request in zip(found, requests, strict=True)
    )
    return statistics.median(alone) / statistics.median(together), same


def _masked(engine: Engine, requests: Sequence[Request]) -> list[Measured]:
    """Time the engine with and without a filter that leaves few items."""
    allowed = np.greater_equal(np.random.default_rng(SEED).random(engine.items), MASKED)  # (n,)
    only = engine.filter(allowed)

    def unmasked(request: Request) -> None:
        engine.top_k(request, K)

    return measure(
        [
            plain(engine.scorer, allowed=allowed),
            Rival("engine, masked", lambda request: engine.top_k(request, K, only=only).rows),
            Rival("engine, unmasked", unmasked),
        ],
        requests[: max(LEAST_REQUESTS, len(requests) // 4)],
    )


def _mean(
    compare_rows: Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], float],
    answers: Sequence[npt.NDArray[np.int64] | None],
    exact: Sequence[npt.NDArray[np.int64] | None],
) -> float | None:
    values = [
        compare_rows(answer, truth)
        for answer, truth in zip(answers, exact, strict=True)
        if answer is not None and truth is not None
    ]
    return statistics.mean(values) if values else None


def _recall(rows: npt.NDArray[np.int64], exact: npt.NDArray[np.int64]) -> float:
    return len(np.intersect1d(rows, exact)) / max(1, len(exact))


def _same(rows: npt.NDArray[np.int64] | None, exact: npt.NDArray[np.int64] | None) -> float:
    return float(rows is not None and exact is not None and np.array_equal(rows, exact))


class Trained:
    """A trained release, with its customers: as a kiosk reads it.

    Args:
        cache: of the release.
        customers: their ids.
    """

    def __init__(self, cache: Cache, customers: Sequence[str]) -> None:
        self._cache, self._customers = cache, customers
        self._rng = np.random.default_rng(SEED)
        graph = onnx.load_model_from_string(cache.graph("scorer.onnx"))
        self._weights = next(
            onnx.numpy_helper.to_array(each)
            for each in graph.graph.initializer
            if each.name == "channel_weights"
        )  # (2, d, d)

    def graph(self, name: str) -> bytes:
        """Content of a graph."""
        return self._cache.graph(name)

    def array(self, name: str) -> npt.NDArray[Any]:
        """An array, as of ``Cache.array``, or ``channel_weights``."""
        return self._weights if name == "channel_weights" else self._cache.array(name)

    def request(self) -> Request:
        """Draw a customer who has bought something; what was bought there is left out."""
        while True:
            drawn = self._customers[int(self._rng.integers(len(self._customers)))]
            customer = self._cache.customer(drawn)
            if customer is not None and customer.has.any():
                break
        channel = int(self._rng.integers(2))
        history = customer.history_items.astype(np.int64)
        return Request(
            customer.components[None].copy(),  # (1, 3, d); torch wants what can be written to
            customer.has[None].copy(),
            channel,
            history,
            np.unique(history[customer.history_channels == channel]),
        )


@contextmanager
def trained(bundle: Path) -> Iterator[tuple[Trained, "AttentionName"]]:
    """Install a bundle in a folder of its own, and open it.

    Raises:
        ReleaseError: it is no bundle, or a damaged one.
    """
    with tempfile.TemporaryDirectory() as temporary:
        release = install(bundle, Path(temporary)).release
        lines = (bundle / "customers.jsonl").read_text(encoding="utf-8").splitlines()
        with closing(Cache(generation_path(Path(temporary), release))) as cache:
            customers = [json.loads(line) for line in lines]
            yield Trained(cache, customers), cache.manifest().attention


def table(comparisons: Sequence[Comparison]) -> str:
    """Write what was found as Markdown: the engine in short, and everyone in full."""
    lines = [
        _row(_SHORT),
        _row(["---", *["---:"] * (len(_SHORT) - 1)]),
    ]
    for each in comparisons:
        engine, whole = each.of("engine"), each.of("plain graph")
        small, large = each.of("read int8"), each.of("read float32")
        lines.append(
            f"{_where(each)} {engine.median:.3f} | {engine.p99:.3f} | {whole.median:.3f} "
            f"| {engine.median / whole.median:.2f} | {engine.median / small.median:.2f} "
            f"| {engine.median / large.median:.2f} | {'yes' if each.exact else '**NO**'} "
            f"| {each.widened:.0%} | {each.scanned:.0%} | {each.scored:.0f} "
            f"| {each.batch_gain:.2f} | {each.masked_ratio:.2f} |"
        )
    lines += [
        "",
        f"| data | items | d | who | median, ms | p99, ms | × engine | recall@{K} | same list |",
        "| --- | ---: | ---: | --- |" + " ---: |" * 5,
    ]
    for each in comparisons:
        for one in each.measured:
            times = one.median / each.of("engine").median
            answers = "– | –" if one.recall is None else f"{one.recall:.3f} | {one.same:.0%}"
            lines.append(
                f"{_where(each)} {one.name} | {one.median:.3f} | {one.p99:.3f} | {times:.2f} "
                f"| {answers} |"
            )
        lines += [
            f"{_where(each)} {one.name} | left out: {one.reason} | | | | |" for one in each.absent
        ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _where(comparison: Comparison) -> str:
    return f"| {comparison.data} | {comparison.items:,} | {comparison.size} |"


def write(folder: Path, comparisons: Sequence[Comparison]) -> None:
    """Write engine.md, engine.json, and engine.svg where there are two sizes of catalogue."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engine.md").write_text(table(comparisons), encoding="utf-8")
    document = {
        "k": K,
        "unit": "ms",
        "versions": _versions(),
        "comparisons": [
            asdict(each) | {"exact": each.exact, "masked_ratio": each.masked_ratio}
            for each in comparisons
        ],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (folder / "engine.json").write_text(text + "\n", encoding="utf-8")
    sizes = {(each.data, each.size): set[int]() for each in comparisons}
    for each in comparisons:
        sizes[each.data, each.size].add(each.items)
    points = [
        Point(each.data, each.size, one.name, each.items, one.median)
        for each in comparisons
        if len(sizes[each.data, each.size]) > 1  # a line takes two
        for one in each.measured
    ]
    if points:
        (folder / "engine.svg").write_text(chart(points), encoding="utf-8")


def _versions() -> dict[str, str]:
    found = {}
    for package in ("c2rec", "numpy", "onnxruntime", "torch", "faiss-cpu", "usearch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _catalogues(
    options: argparse.Namespace,
) -> Iterator[tuple[Data, str, "AttentionName"]]:
    for bundle in options.release:
        with trained(bundle) as (data, attention):
            yield data, f"trained ({bundle.name})", attention
    for items in options.items:
        for size in options.dims:
            for kind in options.kinds:
                yield RandomRelease(items, size, SEED, **KINDS[kind]), kind, "softmax"


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",") if each]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=_numbers, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dims", type=_numbers, default=[64, 128])
    parser.add_argument(
        "--kinds",
        type=lambda text: [each.strip() for each in text.split(";")],
        default=list(KINDS),
        help=f"of random catalogues, by semicolons: {'; '.join(KINDS)}",
    )
    parser.add_argument(
        "--release", type=Path, action="append", default=[], help="a bundle; may be repeated"
    )
    parser.add_argument("--out", type=Path, help="folder for engine.md, engine.json and engine.svg")
    parser.add_argument("--requests", type=int, default=200, help="timed, on each catalogue")
    parser.add_argument(
        "--hnsw-limit", type=int, default=200_000, help="most items to build an HNSW graph of"
    )
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--quick", action="store_true", help="two small catalogues, 16 requests, no torch.compile"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := set(options.kinds) - KINDS.keys():
        parser.error(f"--kinds {'; '.join(unknown)}; allowed: {'; '.join(KINDS)}")
    if options.quick:
        options.items, options.dims, options.requests = [3_000, 10_000], [64], 16
        options.kinds, options.no_compile = list(KINDS)[:1], True
    comparisons: list[Comparison] = []
    with threadpool_limits(limits=1):
        for data, name, attention in _catalogues(options):
            items = len(data.array("item_bias")[0])
            comparison = compare(
                data,
                name,
                requests=min(options.requests, max(LEAST_REQUESTS, MOST_SCORES // items)),
                hnsw_limit=options.hnsw_limit,
                compiled=not options.no_compile,
                attention=attention,
            )
            comparisons.append(comparison)
            engine = comparison.of("engine")
            print(
                f"{name}, {items:,} items, d = {comparison.size}: {engine.median:.3f} ms, "
                f"{engine.median / comparison.of('plain graph').median:.2f} of the plain graph, "
                f"{engine.median / comparison.of('read int8').median:.2f} of a read; "
                f"{'exact' if comparison.exact else 'NOT EXACT'}; "
                f"{comparison.widened:.0%} widened",
                file=sys.stderr,
                flush=True,
            )
            if options.out:
                write(options.out, comparisons)  # what was found is kept if the rest is stopped
    print(table(comparisons), end="")
    return 0 if all(each.exact for each in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
