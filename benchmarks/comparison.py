"""Timing the engine beside what could do its work, in turns, on one catalogue."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.rivals import Absent, K, Rival, floors, plain, rivals
from c2rec.runtime.engine.engine import Engine, Request
from c2rec.runtime.engine.scorer import Source

if TYPE_CHECKING:
    from c2rec.runtime.release.manifest import AttentionName

AT_ONCE = 30
"""Requests that one answers before it is the next one's turn. One more comes first, and is not
timed: it pays for the caches that the others left."""
LEAST_REQUESTS = 20
BATCH = 64
"""Customers of a batch."""
BATCHES = 5
"""So often a batch is timed."""
MASKED = 0.99
"""Share of the items that the filter takes away."""
SEED = 1
"""Of the filter."""


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
    for first in range(0, len(requests), AT_ONCE):
        for turn in range(len(contenders)):
            number = (turn + first // AT_ONCE) % len(contenders)  # each begins as often
            contenders[number].answer(requests[first - 1])
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
