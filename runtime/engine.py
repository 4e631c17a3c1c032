"""The best k items of a whole catalogue, exactly, for less than it costs to read it.

For a customer with components x_k, item v has the score (``docs/release-format.md``)::

    S_v = Σ_k α_k (x_k · y_v) + b_v + n_v

with weights α_k that differ from item to item, the item's bias b_v and what the history's
neighbours say of it, n_v. The engine finds a number U_v that no item's score exceeds, from 8-bit
integers; scores the items with the greatest U_v by the release's own graph; and stops when what it
left out can't enter.

The bound
---------
Softmax weights are not negative and sum to 1, so Σ_k α_k (x_k · y_v) ≤ max_k x_k · y_v. A component
that the customer lacks is taken as 0: its logit is not -∞ but -10⁹, so that where the others' are
lower still it takes their weight, and adds nothing. Sigmoid weights lie between 0 and 1: there it
is at most Σ_k max(x_k · y_v, 0). Write x_k = t q_k + δ_k and y_v = s_v ŷ_v + ε_v, with whole
numbers q_k (up to 63) and ŷ_v (up to 127; ``quantise.py``). Then::

    x_k · y_v = s_v t (q_k · ŷ_v) + δ_k · s_v ŷ_v + x_k · ε_v
              ≤ s_v (t (q_k · ŷ_v) + |δ_k| |ŷ_v| + |x_k| |ε_v| / s_v)

by Cauchy and Schwarz. |ŷ_v| ≤ l and |ε_v| / s_v ≤ e hold for all items, so with the whole number
r ≥ (|δ_k| l + |x_k| e) / t for every k (for sigmoid weights the sum over k) no item has more than
U_v = s_v t (max_k q_k · ŷ_v + r) + b_v + n_v. What the graph computes in float32 differs from S_v
by rounding, and so does U_v: each term that is added adds at most 2⁻²⁴ of the sum of all sizes.
Twice that is added: for d terms of x_k · y_v and for b_v, and, each time that the history names the
item, for n_v and for the greatest x_k · y_v and b_v that there are.

q_k · ŷ_v is one product of 8-bit integers. As the customer's codes have no sign, they are q_k + 64,
up to 127: a pair of products, 2 × 127 × 127, stays below 2¹⁵, so that processors without VNNI,
which add pairs in 16 bits, are exact as well. Where a number may come near the end of float32, no
bound is used: every item is scored.

The stop
--------
Let τ be the k-th best score among items that the graph scored. An item with U_v < τ scores less
than τ, so it is not among the best k, not even by a tie. Where more items have U_v ≥ τ than were
scored, they are scored too, once ("widened"): τ can only rise by that. Items of tiles that were not
scanned have at most |x| |y_v| + b_v + n_v, by Cauchy and Schwarz again; the greatest without n_v is
known per group, and those that the history names are looked at one by one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from c2rec.runtime.errors import ReleaseError, RequestError
from c2rec.runtime.onnx_bytes import integer_product
from c2rec.runtime.quantise import LANES, LARGEST, NOBODY, SMALLEST_SCALE, Tile, lanes, tiles
from c2rec.runtime.ranking import top_k
from c2rec.runtime.scorer import CPU, Scorer, Source, session_options

if TYPE_CHECKING:
    from c2rec.runtime.manifest import AttentionName

CODE = 63
"""Largest whole number that a customer is written in."""
ZERO = 64
"""What stands for 0 among the customer's codes, which have no sign."""
SMALL = 2048
"""So few items are scored at once, without a scan."""
SMALL_CATALOGUE = 10_240 * (64 + 64)
"""So is a catalogue of few items, times their size and what is done per item besides: a scan and
all around it would cost as much."""
SHARE = 16
"""Where a filter leaves one in so many items, a bound for each of these takes less than a scan."""
LISTED = 512
"""So many of those, and 2 k, are scored at first."""
AT_ONCE = 8
"""Customers of a batch that are scanned together: their products still fit a level-2 cache."""
FIRST_GUESS = 128
"""So many items are scored at first for the first request; later ones go by what was needed."""
LEARNING = 0.05
"""How much one request counts in that."""
MANY = 8
"""Where one in so many groups has to be looked at, all items are."""
TOO_MANY = 4
"""Where one in so many items would have to be scored, all are."""
LIMIT = 1e37
"""Where a product or a sum may come near the end of float32, everything is scored."""
LEAST = float(np.finfo(np.float32).min)
"""Less than this is what may not be found."""
ROUNDING = 2.0**-23
"""Twice the relative error of one float32 operation."""
UNDERFLOW = np.float32(1e-36)
"""More than float32 loses where numbers become too small for it."""

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]
NO_ROWS: _Rows = np.empty(0, np.int64)


class Request(NamedTuple):
    """One customer, in one channel."""

    components: _Floats
    """float32 (1, 3, d), x_k"""
    has: npt.NDArray[np.bool_]
    """bool (1, 3), which of them the customer has data for"""
    channel: int
    """0 offline, 1 online"""
    history: _Rows
    """int64 (length,), rows of the items bought in any channel"""
    left_out: _Rows = NO_ROWS
    """int64, rows of items that may not be found"""


class Found(NamedTuple):
    """The best items of one request, best first."""

    rows: _Rows
    """int64 (k,), fewer where fewer are left"""
    scores: _Floats
    """float32 (k,)"""
    attention: _Floats
    """float32 (3, k)"""
    scanned: int
    """Items of which a bound was computed; 0 where all were scored at once."""
    scored: int
    """Items that the graph scored."""
    widened: bool
    """Whether the candidates chosen first did not suffice."""


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """Which items may be found; made by ``Engine.filter``, for many requests."""

    rows: _Rows
    """int64, those, ascending"""
    items: _Rows
    """int64, where they stand in the order of the scan"""
    bias: _Floats
    """float32 (2, m), b_c in the order of the scan; -inf for the others"""
    highest: _Floats
    """float32 (2, groups), the greatest of each group"""


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
        self.items, self.size = source.array("item_embeddings").shape
        self.sums = attention == "sigmoid"
        self.slack = (self.size + 64) * ROUNDING

        # Of items, in the order of the scan (m,), and of their groups.
        self.order, self.scales, self.norms = (
            source.array(f"scan/{name}") for name in ("order", "scales", "norms")
        )
        self.error, self.length = (float(each) for each in source.array("scan/errors"))
        self.position = np.empty(self.items, np.int32)  # where a row stands
        present = np.flatnonzero(self.order != NOBODY)
        self.position[self.order[present]] = present
        bias = source.array("item_bias")
        raised = bias + (np.float32(self.slack) * np.abs(bias) + UNDERFLOW)  # (2, n)
        self._bias = np.full((2, len(self.order)), -np.inf, np.float32)
        self._bias[:, present] = raised[:, self.order[present]]
        cut = tiles(self.items)
        self.lanes = np.concatenate([lanes(tile) for tile in cut])  # (groups, 32)
        scales = self.scales[self.lanes]
        self.greatest_scale, self.least_scale = scales.max(1), scales.min(1)
        self.longest = self.norms[self.lanes].max(1)
        # the greatest of all items
        longest, widest_scale = float(self.longest.max()), float(self.greatest_scale.max())
        self.reach = longest, float(np.abs(bias).max()), widest_scale
        self._all = self._filter(np.ones(self.items, np.bool_))

        widest = max(tile.items.stop - tile.items.start for tile in cut)
        self._products = np.empty(3 * AT_ONCE * widest, np.int32)
        self.codes = np.full((3 * AT_ONCE, self.size), ZERO, np.uint8)
        self.scans = [_Scan(number, tile, source, threads) for number, tile in enumerate(cut)]
        self.group_starts = np.array([tile.groups.start for tile in cut])
        self.buffers = [_Buffers(len(self.order), len(self.lanes))]
        self.mark = np.full(len(self.order), -1, np.int32)
        self._last = np.zeros(len(self.order), np.int32)
        self.needed = float(FIRST_GUESS)  # items to be scored: what requests needed of late

    def each_once(self, items: _Rows) -> _Rows:
        """Leave out repeated items of the scan, in time that doesn't hang on the catalogue."""
        numbers = np.arange(len(items), dtype=np.int32)
        self._last[items] = numbers  # of a repeated item the last number stays
        once: _Rows = items[self._last.take(items) == numbers]
        return once

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
        # what stands for no item takes the last row's flag, and stays at -inf
        bias = np.where(allowed[self.order], self._bias, np.float32(-np.inf))
        rows = np.flatnonzero(allowed)
        return Filter(rows, self.position[rows].astype(np.int64), bias, bias[:, self.lanes].max(2))

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
        """Answer many requests, each as ``top_k`` would; a scan serves eight at once."""
        for request in requests:
            if not np.isfinite(request.components).all():
                raise RequestError(
                    "a customer's embedding is NaN or infinite; allowed: finite numbers"
                )
        with fitting_arrays():
            return self._top_k_batch(requests, k, only or self._all)

    def _top_k_batch(self, requests: Sequence[Request], k: int, only: Filter) -> list[Found]:
        if len(only.rows) <= max(SMALL, k) or self.items * (self.size + 64) <= SMALL_CATALOGUE:
            return [self.score_all(request, k, only) for request in requests]
        if len(only.rows) * SHARE <= self.items:
            return [self._search_listed(request, k, only) for request in requests]
        while len(self.buffers) < min(len(requests), AT_ONCE):
            self.buffers.append(_Buffers(len(self.order), len(self.lanes)))
        found: list[Found] = []
        for first in range(0, len(requests), AT_ONCE):
            found += self._search(requests[first : first + AT_ONCE], k, only)
        return found

    def _search(self, requests: Sequence[Request], k: int, only: Filter) -> list[Found]:
        searches: list[_Search] = []
        try:
            for number, request in enumerate(requests):
                searches.append(_Search(self, number, request, k, only))
            scanned = 0
            while scanned < len(self.scans) and any(s.goes_on(scanned) for s in searches):
                self._scan(scanned, searches)
                scanned += 1
            for search in searches:
                search.begin(scanned)
            while scanned < len(self.scans) and any(s.has_to(scanned) for s in searches):
                self._scan(scanned, searches)
                scanned += 1
            return [search.finish(scanned) for search in searches]
        finally:
            for search in searches:
                search.clear()

    def _search_listed(self, request: Request, k: int, only: Filter) -> Found:
        """Find the best of the few items that a filter leaves, without a scan."""
        search = _Search(self, 0, request, k, only)
        try:
            return search.among(only.items)
        finally:
            search.clear()

    def _scan(self, number: int, searches: Sequence["_Search"]) -> None:
        """Compute the products of a tile, and of each search the greatest per item and group."""
        scan = self.scans[number]
        items, groups = scan.tile
        width = items.stop - items.start
        customers = 1 if len(searches) == 1 else AT_ONCE
        rows = 3 * customers
        products = self._products[: rows * width].reshape(rows, width)
        scan.run(self.codes[:rows], products)
        for i, search in enumerate(searches):
            p = products[3 * i : 3 * i + 3]  # (3, width)
            m = search.buffers.greatest[items]
            if self.sums:
                np.maximum(p, 0, out=p)
                np.add(p[0], p[1], out=m)
                np.add(m, p[2], out=m)
            else:
                np.maximum(p[0], p[1], out=m)
                np.maximum(m, p[2], out=m)
            m.reshape(LANES, -1).max(axis=0, out=search.buffers.of_groups[groups])

    def score_all(self, request: Request, k: int, only: Filter) -> Found:
        """Score every item that may be found."""
        components, has, channel, history, left_out = request
        if len(only.rows) * 2 < self.items and self.items > SMALL:
            rows = only.rows
            scores, attention = self.scorer.score_rows(rows, components, has, channel, history)
        else:  # all at once takes less than picking some
            ones = np.ones((1, len(history)), np.float32)
            (scores,), (attention,) = self.scorer.score(
                components, has, channel, history[None], ones
            )
            rows = np.arange(self.items)
        refuse_infinite(scores)
        count = len(rows)
        kept = np.zeros(self.items, np.bool_)
        kept[only.rows] = True
        kept[left_out] = False
        scores[~kept[rows]] = -np.inf
        left = int(kept.sum())
        best = top_k(scores[None], min(k, left))[0] if left else NO_ROWS
        return Found(rows[best], scores[best], attention[:, best], 0, count, widened=False)


class _Scan:
    """The 8-bit product of one tile."""

    def __init__(self, number: int, tile: Tile, source: Source, threads: int) -> None:
        self.tile = tile
        codes = source.array(f"scan/codes/{number}")  # (d, items)
        options = session_options(threads)
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        # The session uses this memory, and its bindings theirs: nobody else keeps them.
        self._kept: list[object] = [codes, initial := value(codes)]
        try:
            options.add_external_initializers(["items"], [initial])
            graph = integer_product(*codes.shape)
            self._session = onnxruntime.InferenceSession(graph, options, providers=CPU)
        except Exception as error:  # its classes share no base but Exception
            raise ReleaseError(f"onnxruntime can't load the scan: {error}") from error
        self._bindings: dict[int, onnxruntime.IOBinding] = {}

    def run(self, codes: npt.NDArray[np.uint8], products: npt.NDArray[np.int32]) -> None:
        """Multiply; the arrays are the same at each call with so many rows."""
        try:
            binding = self._bindings.get(len(codes))
            if binding is None:
                arrays = codes, np.array(ZERO, np.uint8), products
                values = [onnxruntime.OrtValue.ortvalue_from_numpy(each) for each in arrays]
                binding = self._session.io_binding()
                binding.bind_ortvalue_input("codes", values[0])
                binding.bind_ortvalue_input("zero", values[1])
                binding.bind_ortvalue_output("products", values[2])
                self._kept += [*arrays, *values]
                self._bindings[len(codes)] = binding
            self._session.run_with_iobinding(binding)
        except Exception as error:  # its classes share no base but Exception
            raise ReleaseError(f"onnxruntime can't run the scan: {error}") from error


class _Buffers:
    """Buffers of one search, allocated once: new pages would cost as much as the scan."""

    def __init__(self, items: int, groups: int) -> None:
        self.greatest = np.empty(items, np.int32)
        """max_k q_k · ŷ_v of the items scanned."""
        self.of_groups = np.empty(groups, np.int32)
        """The greatest of each group."""
        self.extra = np.zeros(items, np.float32)
        """n_v; -inf for what is left out."""


class _Search:
    """One request on its way through the tiles."""

    def __init__(self, engine: Engine, number: int, request: Request, k: int, only: Filter) -> None:
        self._engine, self._request, self._k, self._only = engine, request, k, only
        self.buffers = engine.buffers[number]
        self._bias, self._highest = only.bias[request.channel], only.highest[request.channel]
        self._places = self._out = NO_ROWS
        self._likely: float | None = None
        self._group_bounds = np.empty(0, np.float32)
        self._step, self._add, size = self._encode(engine.codes[3 * number : 3 * number + 3])
        # where products come near the end of float32, no bound holds
        largest = max(size, size * engine.reach[0] * 4 + engine.reach[1])
        whole = CODE * LARGEST * engine.size + self._add
        self.hopeless = not max(largest, whole * engine.reach[2]) < LIMIT
        if self.hopeless:
            return
        self._size = np.float32(size * (1 + engine.slack))
        reaches = self._highest + self._size * engine.longest  # (groups,)
        of_tiles = np.maximum.reduceat(reaches, engine.group_starts)  # (tiles,)
        ahead = np.maximum.accumulate(of_tiles[::-1])[::-1]  # of this tile and those after it
        self._ahead: list[float] = ahead.tolist()
        named, said = engine.scorer.neighbours(request.channel, request.history)
        self._places = engine.position.take(named).astype(np.int64)
        self._out = engine.position.take(request.left_out).astype(np.int64)
        # each time an item is named adds a rounding error, of n_v and of all that it is added to
        others = size * engine.reach[0] + engine.reach[1]
        said += np.float32(len(said) * ROUNDING) * np.abs(said) + np.float32(ROUNDING * others)
        np.add.at(self.buffers.extra, self._places, said)
        self.buffers.extra[self._out] = -np.inf
        self._named = engine.each_once(self._places)

    def clear(self) -> None:
        """Leave the buffers as they were."""
        self.buffers.extra[self._places] = 0
        self.buffers.extra[self._out] = 0

    def _encode(self, codes: npt.NDArray[np.uint8]) -> tuple[np.float32, int, float]:
        """Write q_k + 64 into ``codes`` (3, d).

        Returns:
            t, r, and what |y_v| is multiplied by to bound an item that is not scanned.
        """
        engine, has = self._engine, self._request.has[0]
        x = self._request.components[0]  # (3, d)
        if not has.all():  # see the docstring of the module
            x = np.where(has[:, None], x, np.float32(0))
        step = np.float32(max(float(np.abs(x).max()) / CODE, SMALLEST_SCALE))
        whole = np.rint(x / step)  # (3, d)
        np.add(whole, ZERO, out=codes, casting="unsafe")
        both = np.concatenate([x - whole * step, x], dtype=np.float64)  # (6, d)
        norms = np.sqrt(np.vecdot(both, both)).tolist()
        r = []
        for rest, size in zip(norms[:3], norms[3:], strict=True):
            slack = engine.slack * (size + rest) * (engine.error + engine.length)
            r.append((rest * engine.length + size * engine.error + slack) / float(step) + 1)
        if engine.sums:
            return step, int(sum(r)) + 1, sum(norms[3:])
        return step, int(max(r)) + 1, max(norms[3:])

    def among(self, items: _Rows) -> Found:
        """Find the best of a list of items, by how far they reach: |x| |y_v| + b_v + n_v."""
        engine, k = self._engine, self._k
        if self.hopeless:
            return engine.score_all(self._request, k, self._only)
        reaches = self._size * engine.norms.take(items) + self._bias.take(items)
        reaches += self.buffers.extra.take(items)
        floor = max(_greatest(reaches, 2 * k + LISTED), LEAST)
        self._found = self._score(items[reaches >= floor])
        least = max(_greatest(self._found[1], k), LEAST)
        more = items[(reaches < floor) & (reaches >= least)]
        if len(more):
            self._score_more(more)
        return self._best(0, widened=len(more) > 0)

    def goes_on(self, scanned: int) -> bool:
        """Whether the next tile is likely to be needed; costs little where it is wrong."""
        if self.hopeless or scanned == 0:
            return not self.hopeless
        if self._likely is None:  # of the first tile: what follows is weaker, and changes little
            self._likely = _greatest(self._of_groups(scanned), self._k)
        return self._ahead[scanned] >= self._likely

    def begin(self, scanned: int) -> None:
        """Score the most promising items of the tiles scanned."""
        if self.hopeless:
            return
        engine = self._engine
        bounds = self._of_groups(scanned)
        guess = int(1.5 * engine.needed) + self._k
        self._open_from = _greatest(bounds, guess)
        opened = engine.lanes[np.flatnonzero(bounds >= self._open_from)]  # (opened, 32)
        self._seen = self._end(scanned)
        candidates = np.concatenate([self._named[self._named < self._seen], opened.reshape(-1)])
        bounds = self._of_items(candidates)
        floor = max(_greatest(bounds, guess), LEAST)
        likely = bounds >= floor
        self._left = candidates[~likely], bounds[~likely]
        self._taken = bounds[likely]
        self._chosen = engine.each_once(candidates[likely])
        self._found = self._score(self._chosen)
        self._kth = _greatest(self._found[1], self._k)

    def has_to(self, scanned: int) -> bool:
        """Whether the next tile may hold one of the best k."""
        return not self.hopeless and self._ahead[scanned] >= self._kth

    def finish(self, scanned: int) -> Found:
        """Score what else may be among the best k, and choose."""
        engine, k = self._engine, self._k
        if self.hopeless:
            return engine.score_all(self._request, k, self._only)
        end, least = self._end(scanned), max(self._kth, LEAST)
        bounds = self._of_groups(scanned)
        groups = bounds >= least
        groups[: self._seen // LANES] &= bounds[: self._seen // LANES] < self._open_from
        numbers = np.flatnonzero(groups)
        if len(numbers) * MANY > len(bounds):  # to look at all of them one by one is quicker
            opened = np.flatnonzero(self._of_items(slice(0, end)) >= least)
        else:
            opened = engine.lanes[numbers].reshape(-1)
            if end > self._seen:
                between = (self._named >= self._seen) & (self._named < end)
                opened = np.concatenate([opened, self._named[between]])
            opened = opened[self._of_items(opened) >= least]
        ahead = self._named[self._named >= end]
        reaches = self._size * engine.norms.take(ahead) + self._bias.take(ahead)
        reaches += self.buffers.extra.take(ahead)
        left, left_bounds = self._left
        more = np.concatenate(
            [
                left[left_bounds >= least],
                opened,
                ahead[reaches >= least],
            ]
        )
        if len(more):
            more = engine.each_once(np.concatenate([more, self._chosen]))
            more = more[: len(more) - len(self._chosen)]  # what is in both stayed behind
            if len(more) * TOO_MANY > engine.items:
                return engine.score_all(self._request, k, self._only)
        if len(more):
            self._score_more(more)
        needed = int(np.count_nonzero(self._taken >= least)) + len(more)
        engine.needed += LEARNING * (min(needed, FIRST_GUESS * 8) - engine.needed)
        return self._best(end, widened=len(more) > 0)

    def _score_more(self, items: _Rows) -> None:
        """Score further items."""
        rows, scores, attention = self._score(items)
        self._found = (
            np.concatenate([self._found[0], rows]),
            np.concatenate([self._found[1], scores]),
            np.concatenate([self._found[2], attention], axis=1),
        )

    def _best(self, scanned: int, *, widened: bool) -> Found:
        """The best of what was scored."""
        rows, scores, attention = self._found
        best = np.lexsort((rows, -scores))[: self._k]
        return Found(rows[best], scores[best], attention[:, best], scanned, len(rows), widened)

    def _end(self, scanned: int) -> int:
        end: int = self._engine.scans[scanned - 1].tile.items.stop
        return end

    def _of_groups(self, scanned: int) -> _Floats:
        """What no item of a group exceeds, n_v left out; float32 (groups scanned,)."""
        engine = self._engine
        groups = slice(0, self._end(scanned) // LANES)
        if groups.stop == len(self._group_bounds):
            return self._group_bounds
        whole = (self.buffers.of_groups[groups] + self._add).astype(np.float32)
        high, low = engine.greatest_scale[groups], engine.least_scale[groups]
        # below 0 the smaller scale gives more
        bounds: _Floats = np.maximum(whole * high, whole * low)
        bounds *= self._step
        bounds += self._highest[groups]
        self._group_bounds = bounds
        return bounds

    def _of_items(self, items: _Rows | slice) -> _Floats:
        """U of scanned items; float32, one for each."""
        bounds = (self.buffers.greatest[items] + self._add).astype(np.float32)
        bounds *= self._engine.scales[items]
        bounds *= self._step
        bounds += self._bias[items]
        bounds += self.buffers.extra[items]
        return bounds

    def _score(self, items: _Rows) -> tuple[_Rows, _Floats, _Floats]:
        """Rows, scores and attention of items of the scan."""
        mark, engine = self._engine.mark, self._engine
        mark[items] = np.arange(len(items), dtype=np.int32)
        places = mark.take(self._places)
        mark[items] = -1
        rows = engine.order.take(items).astype(np.int64)
        scores, attention = engine.scorer.score_rows(rows, *self._request[:4], places=places)
        refuse_infinite(scores)
        return rows, scores, attention


def _greatest(values: _Floats, k: int) -> float:
    """The k-th greatest; -inf where there are fewer."""
    if len(values) < k:
        return -np.inf
    return float(np.partition(values, len(values) - k)[len(values) - k])


@contextmanager
def fitting_arrays() -> Iterator[None]:
    """Turn what numpy says of rows that are not there, in a damaged cache, into ReleaseError."""
    try:
        yield
    except (IndexError, ValueError, OverflowError) as error:
        raise ReleaseError(f"the release's arrays don't fit each other: {error}") from error


def refuse_infinite(scores: _Floats) -> None:
    """Make sure that scores are numbers to rank by.

    Raises:
        ReleaseError: one is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise ReleaseError("the release's scores are NaN or infinite; allowed: finite numbers")
