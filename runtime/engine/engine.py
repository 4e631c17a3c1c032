"""The best k items of a whole catalogue, exactly, for less than it costs to read it.

``scan.py`` finds a number that no item's score exceeds, from 8-bit integers, and proves it;
``search.py`` scores the items with the greatest of these by the release's own graph, and stops when
what it left out can't enter. Here is decided who is searched for how: small catalogues and short
filters need no scan, and where no bound holds everything is scored.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from c2rec.runtime.engine.request import NO_ROWS, Filter, Found, Request, Short
from c2rec.runtime.engine.scan import AT_ONCE, Scan
from c2rec.runtime.engine.scorer import Scorer, Source
from c2rec.runtime.engine.search import Search, Workspace, refuse_infinite
from c2rec.runtime.errors import ReleaseError, RequestError
from c2rec.runtime.ranking import top_k

if TYPE_CHECKING:
    from c2rec.runtime.release.manifest import AttentionName

__all__ = ["NO_ROWS", "Engine", "Filter", "Found", "Request", "fitting_arrays"]

SMALL = 2048
"""So few items are scored at once, without a scan."""
SMALL_CATALOGUE = 8704 * (64 + 64)
"""So is a catalogue of few items, times their size and what is done per item besides: a scan and
all around it would cost as much."""
SHARE = 16
"""Where a filter leaves one in so many items, a bound for each of these takes less than a scan."""


class Engine:
    """Finds the best items of a release; use it in one thread at a time.

    Args:
        source: a release, of n items and embedding size d.
        attention: how the release's graph makes weights of logits.
        threads: threads for one request.

    Raises:
        ReleaseError: onnxruntime can't load a graph.
        HomeError: the cache is damaged.
    """

    def __init__(
        self, source: Source, *, attention: "AttentionName" = "softmax", threads: int = 1
    ) -> None:
        self.scorer = Scorer(source, threads=threads)
        self.scan = Scan(source, sums=attention == "sigmoid", threads=threads)
        self.items, self.size, self.sums = self.scan.items, self.scan.size, self.scan.sums
        self._workspace = Workspace(self.scan, self.scorer)
        self.everything = self._filter(np.ones(self.items, np.bool_))

    def filter(self, allowed: npt.NDArray[np.bool_]) -> Filter:
        """Prepare a filter: stock, an age limit, a category.

        Args:
            allowed: bool (n,), by row: which items may be found.

        Raises:
            RequestError: it is of another shape or dtype.
        """
        if allowed.shape != (self.items,) or allowed.dtype != np.bool_:
            raise RequestError(
                f"a filter is {allowed.dtype} {allowed.shape}; allowed: bool ({self.items},)"
            )
        return self._filter(allowed)

    def _filter(self, allowed: npt.NDArray[np.bool_]) -> Filter:
        scan = self.scan
        # what stands for no item takes the last row's flag, and stays at -inf
        bias = np.where(allowed[scan.order], scan.bias, np.float32(-np.inf))
        rows = np.flatnonzero(allowed)
        short = None
        if len(rows) * SHARE <= self.items:
            items = np.sort(scan.position[rows]).astype(np.int64)
            short = Short(items, scan.norms[items], bias[:, items])
        return Filter(rows, bias, bias[:, scan.lanes].max(2), short)

    def top_k(self, request: Request, k: int, *, only: Filter | None = None) -> Found:
        """Find the k items with the greatest scores; ties go to the lower row.

        Args:
            request: a customer.
            k: how many, at least 1.
            only: which items may be found; None for all.

        Raises:
            RequestError: a component is NaN or infinite.
            ReleaseError: onnxruntime can't run a graph, or a score is NaN or infinite.
        """
        return self.top_k_batch([request], k, only=only)[0]

    def top_k_batch(
        self, requests: Sequence[Request], k: int, *, only: Filter | None = None
    ) -> list[Found]:
        """Answer many requests, each as ``top_k`` would; those in one channel share the work."""
        if not requests:
            return []
        with fitting_arrays():
            components = np.concatenate([each.components for each in requests])  # (b, 3, d)
            if not np.isfinite(components).all():
                raise RequestError(
                    "a customer's embedding is NaN or infinite; allowed: finite numbers"
                )
            return self._top_k_batch(requests, components, k, only or self.everything)

    def _top_k_batch(
        self,
        requests: Sequence[Request],
        components: npt.NDArray[np.float32],
        k: int,
        only: Filter,
    ) -> list[Found]:
        if len(only.rows) <= max(SMALL, k) or self.items * (self.size + 64) <= SMALL_CATALOGUE:
            return [self.score_all(request, k, only) for request in requests]
        coded = self.scan.encode(components, np.concatenate([each.has for each in requests]))
        hopeless = coded.hopeless.tolist()
        found: list[Found | None] = [None] * len(requests)
        for channel in (0, 1):
            numbers = [
                number
                for number, request in enumerate(requests)
                if request.channel == channel and not hopeless[number]
            ]
            for some in _evenly(numbers):
                asked = [requests[number] for number in some]
                search = Search(self._workspace, asked, coded.of(some), k, only)
                answers = search.run() if only.short is None else search.among(only.short)
                for number, answer in zip(some, answers, strict=True):
                    found[number] = answer
        return [
            self.score_all(request, k, only) if answer is None else answer
            for request, answer in zip(requests, found, strict=True)
        ]

    def score_all(self, request: Request, k: int, only: Filter) -> Found:
        """Score every item that may be found."""
        components, has, channel, history, left_out = request
        if len(only.rows) * 2 < self.items and self.items > SMALL:
            rows = only.rows
            scores, attention = self.scorer.score_rows(rows, components, has, channel, history)
            out = np.flatnonzero(np.isin(rows, left_out)) if len(left_out) else NO_ROWS
        else:  # all at once takes less than picking some
            ones = np.ones((1, len(history)), np.float32)
            (scores,), (attention,) = self.scorer.score(
                components, has, channel, history[None], ones
            )
            rows, out = None, left_out
        refuse_infinite(scores)
        count = len(scores)
        if rows is None and len(only.rows) < self.items:
            shown = np.full(self.items, -np.inf, np.float32)
            shown[only.rows] = scores[only.rows]
            scores = shown
        scores[out] = -np.inf
        best = top_k(scores[None], min(k, count))[0]
        best = best[scores[best] > -np.inf]
        found = best if rows is None else rows[best]
        return Found(found, scores[best], attention[:, best], 0, count, widened=False)


def _evenly(numbers: list[int]) -> Iterator[list[int]]:
    """Cut into as few parts as may go together, of nearly the same length."""
    parts = -(-len(numbers) // AT_ONCE)
    for part in range(parts):
        yield numbers[len(numbers) * part // parts : len(numbers) * (part + 1) // parts]


@contextmanager
def fitting_arrays() -> Iterator[None]:
    """Turn what numpy says of rows that are not there, in a damaged cache, into ReleaseError."""
    try:
        yield
    except (IndexError, ValueError, OverflowError) as error:
        raise ReleaseError(f"the release's arrays don't fit each other: {error}") from error
