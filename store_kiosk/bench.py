"""Measuring the scoring engine on the machine it runs on.

Whatever is timed is timed in turn with the rest, some calls each, so that other work on the
machine falls on all alike; the first call of a turn pays for the caches that the others left, and
is not counted. Then all is timed again, each call after a read of what no cache holds: a kiosk
answers now and then, between a page, a scanner and an operating system. That costs the engine more
than what it is compared with, for its 8-bit integers fit a cache, and the catalogue does not.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from c2rec.runtime.engine.engine import NO_ROWS, Engine, Found, Request
from c2rec.runtime.engine.ort import onnxruntime
from c2rec.runtime.engine.scorer import CPU, Source
from c2rec.runtime.engine.synthetic import NEIGHBOUR_BYTES, RandomRelease
from c2rec.runtime.errors import RequestError
from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.home.state import read_state
from c2rec.runtime.ranking import top_k
from c2rec.runtime.release.cache import Cache
from c2rec.store_kiosk.eager import eager_top_k
from c2rec.store_kiosk.fresh import import_onnxruntime_ms, open_fresh
from c2rec.store_kiosk.machine import available_mb, machine_facts, resident_mb
from c2rec.store_kiosk.render import SCHEMA

Report = Callable[[str], None]
"""Is told what is being done."""

BATCH = 64
CUSTOMERS = 1000
"""So many customers at most are drawn; with more requests, they ask again."""
COMPARED = 50, 200
"""Requests at least and at most for which the engine is compared with the plain graph."""
TOLERANCE = 1e-5
"""Scores may differ by this much and be the same."""
RATE = 20
"""Requests a second of a paced kiosk."""
PACED = 60
"""Paced requests at most: three seconds of them."""
TURNS = 10
"""Of each that is timed."""
SWEPT_BYTES = 1 << 26
"""Read to empty the caches: twice the last one of most machines."""
LINEAR_BYTES = 1 << 28
"""Read to tell how fast memory is."""
ASIDE_BYTES = 400e6
"""What a bench takes beside its catalogue: Python, libraries, the two buffers."""

_Answered = TypeVar("_Answered")
_Millis = dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What is measured."""

    engine: Engine
    source: Source
    """What the engine was made of."""
    weights: npt.NDArray[np.float32]
    """float32 (2, d, d), W_c / √d, for PyTorch; or any, for they take as long"""
    requests: Sequence[Request]
    """At least one; they are asked again when they run out."""


def bench_release(
    home: Path, *, k: int, requests: int, seed: int, report: Report
) -> dict[str, Any]:
    """Measure a home's active release, for customers drawn at random.

    Args:
        home: the home folder.
        k: how many items are found.
        requests: how many are timed.
        seed: of the customers and the channel each is in.
        report: is told what is being done.

    Raises:
        NotInstalledError: no release is installed.
        HomeError: it can't be read.
        RequestError: none of the customers drawn has bought anything.
        ReleaseError: onnxruntime can't run its graph.
    """
    report("drawing customers")
    active = read_state(home).active
    release = active.release
    cache = Cache(generation_path(home, active.name))
    try:
        manifest = cache.manifest()
        asked = _customers(cache, min(max(requests, BATCH), CUSTOMERS), seed)
        if not asked:
            raise RequestError(
                f"none of the customers drawn from release {release} has bought anything; try "
                "another --seed, or a random catalogue: c2rec-kiosk bench --items 10000"
            )
        report("starting processes that answer once")
        opened = open_fresh(home, list(asked)[: COMPARED[0]], k)
        # The graph holds its weights, where nothing in a base install can read them.
        size = manifest.embedding_size
        weights = np.random.default_rng(seed).standard_normal((2, size, size), np.float32)
        weights /= np.float32(size)
        subject = Subject(
            Engine(cache, attention=manifest.attention), cache, weights, list(asked.values())
        )
        figures = measure(subject, k=k, requests=requests, report=report)
    finally:
        cache.close()
    start = {"open_to_first_ms": opened.first_ms, "rss_mb": opened.rss_mb}
    return _document(f"release {release}", subject.engine, k, requests, figures | start)


def bench_random(
    items: int,
    size: int,
    *,
    flat: bool,
    uncorrelated: bool,
    k: int,
    requests: int,
    seed: int,
    report: Report,
) -> dict[str, Any]:
    """Measure a catalogue made at random; no release has to be installed.

    Args:
        items: n.
        size: d, the embedding size.
        flat: whether no item sells far more than the rest.
        uncorrelated: whether a customer's components have nothing in common.
        k: as of ``bench_release``, and so are the rest.
        requests: how many are timed.
        seed: of all that is random.
        report: is told what is being done.

    Raises:
        RequestError: the memory that can be had is too small for it.
    """
    _refuse_what_does_not_fit(items, size)
    report("drawing a catalogue")
    source = RandomRelease(items, size, seed, correlated=not uncorrelated, popular=not flat)
    source.array("scan/order")  # made here, as an install would
    asked = [source.request() for _ in range(min(max(requests, BATCH), CUSTOMERS))]
    started = time.perf_counter()
    engine = Engine(source)
    engine.top_k(asked[0], k)
    first_ms = (time.perf_counter() - started) * 1000
    for request in asked[: COMPARED[0]]:
        engine.top_k(request, k)
    start = {"open_to_first_ms": first_ms, "rss_mb": resident_mb()}
    subject = Subject(engine, source, source.array("channel_weights"), asked)
    figures = measure(subject, k=k, requests=requests, report=report)
    kinds = [name for name, given in (("flat", flat), ("uncorrelated", uncorrelated)) if given]
    name = ", ".join(["random catalogue", *kinds, f"seed {seed}"])
    return _document(name, engine, k, requests, figures | start)


def measure(subject: Subject, *, k: int, requests: int, report: Report) -> dict[str, Any]:
    """Time the engine, and what it is compared with.

    Args:
        subject: what is measured; its engine has answered before.
        k: how many items are found.
        requests: how many the engine is timed on.
        report: is told what is being done.

    Returns:
        What a document of ``bench`` holds beside what only its caller knows.

    Raises:
        ReleaseError: onnxruntime can't run a graph.
    """
    engine, source, asked = subject.engine, subject.source, subject.requests

    def request(number: int) -> Request:
        return asked[number % len(asked)]

    def plain(asks: Request) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        ones = np.ones((1, len(asks.history)), np.float32)
        components, has, channel, history, left_out = asks
        scores, _ = engine.scorer.score(components, has, channel, history[None], ones)
        return _best(scores, left_out, k)

    paced = [request(number) for number in range(max(RATE // 2, min(requests, PACED)))]
    report(f"answering {RATE} requests a second")
    engine_cpu = _paced_cpu_ms(lambda asks: engine.top_k(asks, k), paced)

    report("loading what it is compared with")
    eager = eager_top_k(source, subject.weights, "sigmoid" if engine.sums else "softmax")
    # as many bytes as the 8-bit side
    codes = np.ones(-(-engine.items * engine.size // 8), np.int64)
    swept = np.ones(SWEPT_BYTES // 8, np.int64)
    read = partial(np.bitwise_or.reduce, codes)

    def cold(call: Callable[[], _Answered]) -> float:
        np.bitwise_or.reduce(swept)
        return _timed(call)[0]

    engine_ms: list[float] = []
    plain_ms: list[float] = []
    eager_ms: list[float] = []
    read_ms: list[float] = []
    found: list[Found] = []
    same: list[bool] = []
    least, most = COMPARED
    compared = min(max(least, requests // 5), most)
    for turn in range(TURNS):
        report(f"timing: turn {turn + 1} of {TURNS}")
        asks = _part(turn, requests)
        engine.top_k(request(asks.stop), k)
        for number in asks:
            ms, each = _timed(partial(engine.top_k, request(number), k))
            engine_ms.append(ms)
            found.append(each)
        plain(request(0))
        timed = [_timed(partial(plain, request(number))) for number in _part(turn, compared)]
        plain_ms += [ms for ms, _ in timed]
        same += [  # after the last of them, for the engine would take the caches
            _same(engine.top_k(request(number), k), *expected)
            for number, (_, expected) in zip(_part(turn, compared), timed, strict=True)
        ]
        if eager is not None:
            eager(request(0), k)
            eager_ms += [
                _timed(partial(eager, request(number), k))[0] for number in _part(turn, least)
            ]
        read()
        read_ms += [_timed(read)[0] for _ in _part(turn, least)]

    report("timing with caches emptied before each call")
    cold_ms = [cold(partial(engine.top_k, request(turn), k)) for turn in range(requests)]
    cold_plain = [cold(partial(plain, request(turn))) for turn in range(least)]
    cold_read = [cold(read) for _ in range(least)]
    report(f"answering {BATCH} at once")
    batch = [request(number) for number in range(BATCH)]
    batches = [_timed(partial(engine.top_k_batch, batch, k))[0] for _ in range(12)]
    report(f"answering {RATE} requests a second by onnxruntime's default session")
    # Last: its threads spin on while it is there.
    score = _default_session(source)
    default_cpu = _paced_cpu_ms(lambda asks: _best(score(asks), asks.left_out, k), paced)
    report("reading memory, starting processes")
    return {
        "engine_ms": _percentiles(engine_ms),
        "plain_graph_ms": _percentiles(plain_ms),
        "torch_ms": _percentiles(eager_ms) if eager_ms else None,
        "read_int8_ms": statistics.median(read_ms),
        "batch64_ms": statistics.median(batches[2:]),
        "engine_cold_ms": _percentiles(cold_ms),
        "plain_graph_cold_ms": _percentiles(cold_plain),
        "read_int8_cold_ms": statistics.median(cold_read),
        "widened": statistics.fmean(each.widened for each in found),
        "exact": all(same),
        "compared": len(same),
        "scanned": statistics.fmean(min(1.0, each.scanned / engine.items) for each in found),
        "scored": statistics.fmean(each.scored for each in found),
        "cpu_ms_per_paced_request": engine_cpu,
        "default_session_cpu_ms_per_paced_request": default_cpu,
        "memory_read_gb_s": _memory_read_gb_s(),
        "import_onnxruntime_ms": import_onnxruntime_ms(),
    }


def _part(turn: int, of: int) -> range:
    """Which numbers below ``of`` come in a turn."""
    return range(turn * of // TURNS, (turn + 1) * of // TURNS)


def _customers(cache: Cache, count: int, seed: int) -> dict[str, Request]:
    """Requests of customers drawn at random, by id; who bought nothing is left out."""
    channels = np.random.default_rng(seed).integers(0, 2, count).tolist()
    asked = {}
    for customer_id, channel in zip(cache.draw_customers(count, seed), channels, strict=False):
        customer = cache.customer(customer_id)
        if customer is not None and customer.has.any():
            history = customer.history_items.astype(np.int64)
            bought = np.unique(history[customer.history_channels == channel])
            components, has = customer.components[None], customer.has[None]
            if len(bought) < cache.manifest().counts.items:  # who has all gets no answer
                asked[customer_id] = Request(components, has, channel, history, bought)
    return asked


def _refuse_what_does_not_fit(items: int, size: int) -> None:
    """Make sure that the memory suffices: what is too large would be killed without a word.

    Raises:
        RequestError: it doesn't.
    """
    neighbours = min(2 * NEIGHBOUR_BYTES, 256 * 8 * items) + 64 * items
    needed = (items * (26 * size + 400) + neighbours + ASIDE_BYTES) / 1e6
    available = available_mb()
    if available is not None and needed > available:
        raise RequestError(
            f"{items:,} items of size {size:,} take about {needed / 1000:,.1f} GB; "
            f"allowed: the {available / 1000:,.1f} GB of memory that can be had now"
        )


def _default_session(source: Source) -> Callable[[Request], npt.NDArray[np.float32]]:
    """Make a function that scores every item, float32 (1, n), as onnxruntime does by default."""
    session = onnxruntime.InferenceSession(source.graph("scorer.onnx"), providers=CPU)
    customer_side = {"components", "has", "channel", "history_items", "history_weights"}
    names = {each.name for each in session.get_inputs()} - customer_side
    item_side = {name: source.array(name) for name in names}

    def score(request: Request) -> npt.NDArray[np.float32]:
        feeds = item_side | {
            "components": request.components,
            "has": request.has,
            "channel": np.array(request.channel, np.int64),
            "history_items": request.history[None],
            "history_weights": np.ones((1, len(request.history)), np.float32),
        }
        scores: npt.NDArray[np.float32] = session.run(["scores", "attention"], feeds)[0]
        return scores

    return score


def _best(
    scores: npt.NDArray[np.float32], left_out: npt.NDArray[np.int64], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The best rows (k,) of scores (1, n), which are changed, and their scores (k,)."""
    scores[:, left_out] = -np.inf
    k = min(k, scores.shape[1] - len(left_out))
    rows = top_k(scores, k)[0] if k else NO_ROWS
    return rows, scores[0, rows]


def _same(found: Found, rows: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]) -> bool:
    if not np.array_equal(found.rows, rows):
        return False
    return bool((np.abs(found.scores - scores) <= TOLERANCE).all())


def _timed(call: Callable[[], _Answered]) -> tuple[float, _Answered]:
    """How many milliseconds a call takes, and what it returns."""
    started = time.perf_counter()
    answer = call()
    return (time.perf_counter() - started) * 1000, answer


def _paced_cpu_ms(answer: Callable[[Request], object], requests: Sequence[Request]) -> float:
    """CPU milliseconds of this process per request, all threads and all pauses included.

    Requests that take longer than a pause follow each other without one.
    """
    answer(requests[0])
    started, cpu = time.perf_counter(), time.process_time()
    for number, request in enumerate(requests, start=1):
        answer(request)
        time.sleep(max(0.0, started + number / RATE - time.perf_counter()))
    return (time.process_time() - cpu) * 1000 / len(requests)


def _memory_read_gb_s() -> float:
    """How fast one thread reads memory in a row, in GB (10⁹ bytes) a second."""
    buffer = np.ones(LINEAR_BYTES // 8, np.int64)
    times = [_timed(partial(np.bitwise_or.reduce, buffer))[0] for _ in range(7)]
    return LINEAR_BYTES / statistics.median(times) / 1e6


def _percentiles(times: Sequence[float]) -> _Millis:
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    return {"p50": p50, "p99": p99}


def _document(
    source: str, engine: Engine, k: int, requests: int, figures: dict[str, Any]
) -> dict[str, Any]:
    """Put the figures in order, without digits that mean nothing."""
    known = {"schema": SCHEMA, "source": source, "items": engine.items, "dim": engine.size}
    first = (
        *("engine_ms", "plain_graph_ms", "torch_ms", "read_int8_ms", "batch64_ms"),
        *("open_to_first_ms", "rss_mb", "widened", "exact"),
    )
    ordered = {name: figures.pop(name) for name in first} | figures
    rounded = {name: _rounded(value) for name, value in ordered.items()}
    return known | {"k": k, "requests": requests} | rounded | {"machine": machine_facts()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return round(value, 4) if isinstance(value, float) else value
