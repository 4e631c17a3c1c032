"""The search for the best k items of some customers, all in one channel, by their bounds.

The items with the greatest bounds are scored by the release's own graph. Let τ be the k-th best
score among them. An item with U_v < τ scores less than τ, so it is not among the best k, not even
by a tie. Where more items have U_v ≥ τ than were scored, they are scored too, once ("widened"): τ
can only rise by that. Items of tiles that were not scanned have at most |x| |y_v| + b_v + n_v, by
Cauchy and Schwarz; the greatest without n_v is known per group, and of those that the history names
the loudest are looked at one by one.

All customers of a search go each step together: arrays have a row for each, and what differs in
length, such as purchases and candidates, stands one after the other, with the number of its
customer, its *owner*, beside it. A customer's item is a *cell* of such an array: owner times m plus
the item. One run of the graph scores the candidates of all, where few of its scores are useless;
what it gives a customer for another one's candidates is left out, so that everyone gets what a
search alone would have found.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from c2rec.runtime.engine.mentions import Mentions, Tables
from c2rec.runtime.engine.request import NO_ROWS, Filter, Found, Request, Short
from c2rec.runtime.engine.scan import ROUNDING, Coded, Scan
from c2rec.runtime.engine.scorer import Scorer
from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.release.quantise import LANES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LISTED = 64
"""So many items of a short list, and 2 k, are scored at first."""
FIRST_GUESS = 128
"""So many candidates are tried for the first request; later ones go by what was needed."""
LEARNING = 0.05
"""How much one request counts in that."""
MANY = 8
"""Where one in so many groups has to be looked at, all items are."""
TOO_MANY = 4
"""Where one in so many items would have to be scored, all are."""
TOGETHER = 3000
"""Scores that nobody needs take as long as one more run of the graph."""
LEAST = float(np.finfo(np.float32).min)
"""Less than this is what may not be found."""

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]


class _Scored(NamedTuple):
    """Items that may be among the best; arrays have a row for each."""

    owner: _Rows
    rows: _Rows
    scores: _Floats
    attention: _Floats
    """float32 (n, 3)"""


class Guess:
    """How many candidates are worth a try: what requests needed of late."""

    def __init__(self, first: int) -> None:
        self._most, self._needed = first * 8, float(first)

    def learn(self, needed: _Rows) -> None:
        """Take in how many each customer would have needed."""
        self._needed += LEARNING * float((np.minimum(needed, self._most) - self._needed).sum())

    def next(self, k: int) -> int:
        """How many to try for the best k."""
        return int(1.5 * self._needed) + k


class Workspace:
    """What searches of one engine share: arrays of the catalogue's length, made once."""

    def __init__(self, scan: Scan, scorer: Scorer) -> None:
        self.scan, self.scorer = scan, scorer
        self.items, self.groups = Guess(FIRST_GUESS), Guess(FIRST_GUESS)
        self.tables = Tables(scan)
        self.starts = np.array([tile.groups.start for tile in scan.tiles])
        self._last = np.zeros(len(scan.order), np.int32)

    def each_once(self, items: _Rows) -> _Rows:
        """Leave out repeated items, in time that doesn't hang on the catalogue."""
        numbers = np.arange(len(items), dtype=np.int32)
        self._last[items] = numbers  # of a repeated item the last number stays
        once: _Rows = items[self._last.take(items) == numbers]
        return once

    def columns(self, chosen: _Rows, items: _Rows) -> npt.NDArray[np.int32]:
        """Where items stand among the chosen ones."""
        self._last[chosen] = np.arange(len(chosen), dtype=np.int32)
        return self._last.take(items)


class Search:
    """Some customers on their way through the tiles.

    Args:
        workspace: of the engine.
        requests: ``AT_ONCE`` at most, all in one channel.
        coded: the same customers; none of them hopeless.
        k: how many items each is to get.
        only: which may be found.
    """

    def __init__(
        self,
        workspace: Workspace,
        requests: "Sequence[Request]",
        coded: Coded,
        k: int,
        only: Filter,
    ) -> None:
        self._work, self._scan = workspace, workspace.scan
        self._coded, self._k, self._only = coded, k, only
        self._components = np.concatenate([each.components for each in requests])  # (b, 3, d)
        self._has = np.concatenate([each.has for each in requests])  # (b, 3)
        self._count = len(requests)
        self._channel = requests[0].channel
        self._bias = only.bias[self._channel]
        self._size = (coded.size * (1 + self._scan.slack)).astype(np.float32)  # (b,)
        self._mentions = Mentions(workspace.tables, self._scan, workspace.scorer, requests, coded)
        self._firsts = np.arange(self._count) * len(self._scan.order)  # (b,), first cells
        self._bounds = self._scan.bounds.reshape(-1)
        self._found: list[_Scored] = []
        self._scored = np.zeros(self._count, np.int64)

    def run(self) -> "list[Found | None]":
        """Find the best; None for a customer for whom too much would have to be scored."""
        try:
            self._mentions.add()
            self._scan.begin(self._coded)
            return self._through_the_tiles()
        finally:
            self._mentions.clear()

    def among(self, short: Short) -> "list[Found | None]":
        """Find the best of a short list, by how far they reach: |x| |y_v| + b_v + n_v."""
        try:
            self._mentions.leave_out()
            self._mentions.add_by_item()
            items = short.items
            reaches = self._size[:, None] * short.norms  # (b, items)
            reaches += short.bias[self._channel]
            reaches += self._work.tables.of_items[: self._count].take(items, axis=1)
            floor = np.maximum(_greatest(reaches, 2 * self._k + LISTED), LEAST)
            owner, column = _where(reaches >= floor[:, None])
            least = self._score(owner, items.take(column), np.full(self._count, LEAST, np.float32))
            more = (reaches < floor[:, None]) & (reaches >= least[:, None])
            owner, column = _where(more)
            if len(owner):
                self._score(owner, items.take(column), least)
            return list(self._best(0, np.bincount(owner, minlength=self._count) > 0))
        finally:
            self._mentions.clear()

    def _through_the_tiles(self) -> "list[Found | None]":
        tiles = len(self._scan.tiles)
        ahead = self._ahead() if tiles > 1 else np.empty((self._count, 0), np.float32)
        likely, scanned = np.full(self._count, np.inf, np.float32), 0
        while scanned < tiles and (scanned == 0 or (ahead[:, scanned] >= likely).any()):
            self._scan_tile(scanned)
            scanned += 1
            if scanned == 1 and tiles > 1:  # what follows is weaker, and changes little
                likely = _greatest(self._of_groups(1), self._k)
        kth = self._begin(scanned)
        while scanned < tiles and (ahead[:, scanned] >= kth).any():
            self._scan_tile(scanned)
            scanned += 1
        beyond = ahead[:, scanned] if scanned < tiles else None
        return self._finish(scanned, np.maximum(kth, LEAST), beyond)

    def _scan_tile(self, number: int) -> None:
        if number == 1:
            self._mentions.add_by_item()
        said = self._mentions.of_tile(number)
        self._scan.run(number, self._coded, self._bias, said)

    def _ahead(self) -> _Floats:
        """How far the items of a tile, and of those after it, reach without n_v; (b, tiles)."""
        reaches = self._size[:, None] * self._scan.longest  # (b, groups)
        reaches += self._only.highest[self._channel]
        of_tiles = np.maximum.reduceat(reaches, self._work.starts, axis=1)  # (b, tiles)
        ahead: _Floats = np.maximum.accumulate(of_tiles[:, ::-1], axis=1)[:, ::-1]
        return ahead

    def _end(self, scanned: int) -> int:
        end: int = self._scan.tiles[scanned - 1].items.stop
        return end

    def _of_groups(self, scanned: int) -> _Floats:
        """The greatest bound of each group scanned; (b, groups)."""
        return self._scan.of_groups[: self._count, : self._end(scanned) // LANES]

    def _begin(self, scanned: int) -> _Floats:
        """Score the most promising items of the tiles scanned; the k-th best scores, (b,)."""
        groups, guess = self._of_groups(scanned), self._work.groups.next(self._k)
        if scanned > 1 and guess * 2 < groups.shape[1]:
            floor = _greatest(groups, guess)
        else:  # among few, it's no work to choose items
            if scanned == 1:
                guess = self._work.items.next(self._k)
            floor = _greatest(self._scan.bounds[: self._count, : self._end(scanned)], guess)
        self._floor, self._begun = np.maximum(floor, LEAST), scanned
        owner, items = self._above(scanned, self._floor)
        self._candidates = owner, self._bounds.take(items + self._firsts.take(owner))
        return self._score(owner, items, np.full(self._count, LEAST, np.float32))

    def _above(self, scanned: int, floor: _Floats) -> tuple[_Rows, _Rows]:
        """Scanned items whose bound is not below the floor, with their owners in front."""
        of_groups = self._of_groups(scanned)
        opened = np.flatnonzero(of_groups >= floor[:, None])  # (opened,)
        if len(opened) * MANY > of_groups.size:  # to look at all of them one by one is quicker
            end = self._end(scanned)
            return _where(self._scan.bounds[: self._count, :end] >= floor[:, None])
        owner, group = np.divmod(opened, of_groups.shape[1])
        items = self._scan.lanes.take(group, axis=0)  # (opened, 32)
        bounds = self._bounds.take(items + self._firsts.take(owner)[:, None])
        chosen = np.flatnonzero(bounds >= floor.take(owner)[:, None])
        return owner.take(chosen // LANES), items.reshape(-1).take(chosen)

    def _finish(self, scanned: int, least: _Floats, beyond: _Floats | None) -> "list[Found | None]":
        """Score what else may be among the best k, and choose."""
        owner = items = NO_ROWS
        if scanned > self._begun or (least < self._floor).any():
            owner, items = self._above(scanned, least)
        if beyond is not None:
            far_owner, far = self._far(self._end(scanned), least, beyond)
            if len(far):
                owner, items = np.concatenate([owner, far_owner]), np.concatenate([items, far])
                order = np.argsort(owner, kind="stable")
                owner, items = owner[order], items[order]
        more = np.bincount(owner, minlength=self._count)
        self._learn(scanned, least, more)
        too_many = more * TOO_MANY > self._scan.items
        if too_many.any():
            kept = ~too_many[owner]
            owner, items = owner[kept], items[kept]
        if len(owner):
            self._score(owner, items, least)
        found = self._best(self._end(scanned), more > 0)
        return [
            None if whole else each for whole, each in zip(too_many.tolist(), found, strict=True)
        ]

    def _learn(self, scanned: int, least: _Floats, more: _Rows) -> None:
        """Take in what this search would have needed."""
        if scanned == 1:
            owner, bounds = self._candidates
            needed = owner[bounds >= least.take(owner)]
            self._work.items.learn(np.bincount(needed, minlength=self._count) + more)
        else:
            reach = self._of_groups(scanned) >= least[:, None]  # (b, groups)
            # one by one, which numpy does quicker than along an axis
            self._work.groups.learn(np.array([np.count_nonzero(each) for each in reach]))

    def _far(self, end: int, least: _Floats, beyond: _Floats) -> tuple[_Rows, _Rows]:
        """Items after the end that the histories name, and that may be among the best."""
        # what is named has to make up for what the others lack, but for rounding
        enough = np.array(
            [_lack(*each) for each in zip(least.tolist(), beyond.tolist(), strict=True)], np.float32
        )
        owner, items, said = self._mentions.loud(end, enough)
        if len(items):
            reaches = self._size.take(owner) * self._scan.norms.take(items)
            reaches += self._bias.take(items)
            reaches += said
            far = reaches >= least.take(owner)
            cells = np.unique(items[far] + self._firsts.take(owner[far]))
            owner = cells // len(self._scan.order)
            items = cells - self._firsts.take(owner)
        return owner, items

    def _score(self, owner: _Rows, items: _Rows, least: _Floats) -> _Floats:
        """Score items of which some are of several customers, and keep what may be of the best.

        Args:
            owner: int64 (n,), ascending.
            items: int64 (n,), each once for an owner.
            least: float32 (b,), what a score has to reach.

        Returns:
            The k-th best score of each customer, where it is greater than ``least``.
        """
        counts = np.bincount(owner, minlength=self._count)  # (b,)
        self._scored += counts
        self._bounds[items + self._firsts.take(owner)] = -np.inf  # no item is chosen twice
        kth = least.copy()
        for first, last, part in self._runs(counts):
            chosen = items[part] if last - first == 1 else self._work.each_once(items[part])
            kth[first:last] = self._together(
                first, last, chosen, owner[part], items[part], least[first:last]
            )
        return kth

    def _runs(self, counts: _Rows) -> "Iterator[tuple[int, int, slice]]":
        """Cut candidates into runs of the graph: for all customers, or for one each."""
        if self._count == 1:
            yield 0, 1, slice(0, int(counts[0]))
            return
        ends = np.cumsum(counts).tolist()
        # as if no two customers had an item in common: as a rule few have
        if self._count * ends[-1] - ends[-1] <= TOGETHER * (self._count - 1):
            yield 0, self._count, slice(0, ends[-1])
            return
        for number, end in enumerate(ends):
            start = ends[number - 1] if number else 0
            if end > start:
                yield number, number + 1, slice(start, end)

    def _together(
        self, first: int, last: int, chosen: _Rows, owner: _Rows, items: _Rows, least: _Floats
    ) -> _Floats:
        """Score the chosen items for the customers from first to last, in one run."""
        said = self._mentions.of(chosen, first, last)
        rows = self._scan.order.take(chosen).astype(np.int64)
        scores, attention = self._work.scorer.score_some(
            rows,
            self._components[first:last],
            self._has[first:last],
            self._channel,
            self._mentions.shares[first:last],
            said,
        )
        if len(items) < scores.size:  # what is scored for others alone is of no use
            own = np.zeros(scores.shape, np.bool_)
            own[owner - first, self._work.columns(chosen, items)] = True
            refuse_infinite(scores[own])
            scores = np.where(own, scores, np.float32(-np.inf))
        else:
            refuse_infinite(scores)
        kth = np.maximum(_greatest(scores, self._k), least)
        best, column = _where(scores >= kth[:, None])
        self._found.append(
            _Scored(
                best + first, rows.take(column), scores[best, column], attention[best, :, column]
            )
        )
        return kth

    def _best(self, scanned: int, widened: npt.NDArray[np.bool_]) -> "Iterator[Found]":
        """The best of what was scored."""
        owner, rows, scores, attention = (
            self._found[0]
            if len(self._found) == 1
            else (np.concatenate(each) for each in zip(*self._found, strict=True))
        )
        order = np.lexsort((rows, -scores, owner))
        rows, scores, attention = rows[order], scores[order], attention[order]
        ends = np.cumsum(np.bincount(owner, minlength=self._count)).tolist()
        start = 0
        for end, scored, wide in zip(ends, self._scored.tolist(), widened.tolist(), strict=True):
            best = slice(start, min(end, start + self._k))
            yield Found(rows[best], scores[best], attention[best].T, scanned, scored, wide)
            start = end


def _lack(least: float, reach: float) -> float:
    """What has to be said of an item that reaches so far without it, but for rounding."""
    if reach == -np.inf:
        return np.inf
    return max(least - reach - 8 * ROUNDING * (abs(least) + abs(reach)), LEAST)


def _where(true: npt.NDArray[np.bool_]) -> tuple[_Rows, _Rows]:
    """Rows and columns of what is true, row by row: ``np.nonzero`` in a sixth of its time."""
    return np.divmod(np.flatnonzero(true), true.shape[1])


def _greatest(values: _Floats, k: int) -> _Floats:
    """The k-th greatest of each row; -inf where there are fewer."""
    rows, columns = values.shape
    if columns < k:
        return np.full(rows, -np.inf, np.float32)
    kth: _Floats = np.partition(values, columns - k, axis=1)[:, columns - k]
    return kth


def refuse_infinite(scores: _Floats) -> None:
    """Make sure that scores are numbers to rank by.

    Raises:
        ReleaseError: one is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise ReleaseError("the release's scores are NaN or infinite; allowed: finite numbers")
