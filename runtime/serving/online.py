"""Merging what the kiosk's release ranks with what the online shop would show the customer.

Raw scores of two models are never added: they have no common unit.

``blend``
    The release's own model made the online scores, for the channel asked for, and both sides are
    calibrated: log-odds that the customer buys the item there, l_v by what the release knows, o_v
    by what is known online. With the weight w of online scores of this age, an item has
    (1 - w) l_v + w o_v. An item that the list doesn't have takes for o_v the least of the list,
    for its own is no greater.
``rank-fusion``
    Otherwise: weighted reciprocal-rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009). An item
    has 1 / (60 + r_v) + w / (60 + q_v), where r_v is its place in the offline ranking, of which
    the first k + L count, and q_v that in the online list. Where it has no place, the term is 0.
``offline``
    There is no list, or it is older than its time to live: the offline ranking as it is.

The weight of a list of age a is w₀ 2^(-a / half-life), and 0 once a exceeds the time to live.

Why k + L offline items are enough
----------------------------------
Let L be how many items of the online list may be shown. Both formulas give an item outside the
list a value that never grows along the offline ranking, rounding included, for a rounded product
or sum never falls where an operand rises: (1 - w) l_v + w · constant with w ≤ 1 and a calibration
that rises with the score, or 1 / (60 + r_v). So such items keep their offline order,
and among the k best of the merged ranking are only the first k of them. At most L items of the
offline ranking are in the list, so the first k + L of it hold these k, or everything that may be
shown. The items of the list are candidates by themselves: those outside the first k + L are
scored one by one for ``blend``, and have no offline term in ``rank-fusion`` by definition. Merging
exactly these candidates therefore gives the same k items as merging the whole catalogue. Ties go to
the lower row, which is the lower item id; two items outside the list are never compared again.

A rule's factor f has gone into the offline ranking before (``assortment.py``). Of an item of the
list it counts in what is known online, too: ln(f) is added to o_v, and w is multiplied by f. These
items are candidates by themselves, so the argument above holds as it stands.
"""

from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from c2rec.runtime.release.manifest import ChannelCalibration
from c2rec.runtime.sync.online_documents import OnlineScores

RANK_CONSTANT = 60
"""k of the paper."""
BLEND_WEIGHT = 0.5
"""w₀ of ``blend``, in 0..1."""
FUSION_WEIGHT = 0.3
"""w₀ of ``rank-fusion`` beside the release's model."""
STRANGER_WEIGHT = 1.0
"""w₀ of ``rank-fusion`` beside what sells, where the model has nothing to go by."""
_LEAST = 1e-9
"""Probabilities are kept so far from 0 and 1, for log-odds."""

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


class Freshness(NamedTuple):
    """How old online scores are, and what they therefore weigh."""

    age_s: int
    """Seconds since ``as_of``, at least 0."""
    share: float
    """2^(-age / half-life), or 0 past the time to live."""
    early: bool
    """Whether the time given lies before ``as_of``: a clock is wrong."""


def freshness(scores: OnlineScores, now: datetime) -> Freshness:
    """Tell how fresh online scores are at a time, UTC."""
    age = (now - scores.as_of).total_seconds()
    hours = max(age, 0.0) / 3600
    share = 0.0 if hours > scores.ttl_hours else 2.0 ** (-hours / scores.half_life_hours)
    return Freshness(int(max(age, 0.0)), share, early=age < 0)


class Merged(NamedTuple):
    """The best of both sides, best first; all (k,), fewer where fewer are left."""

    rows: _Rows
    values: _Floats
    """What they are ranked by."""


def log_odds(probabilities: npt.NDArray[np.float32]) -> _Floats:
    """ln(p / (1 - p)), float64, of probabilities that are kept off 0 and 1."""
    p = np.clip(probabilities.astype(np.float64), _LEAST, 1 - _LEAST)
    odds: _Floats = np.log(p) - np.log1p(-p)
    return odds


def blend(
    rows: _Rows,
    scores: _Floats,
    listed: _Rows,
    listed_scores: _Floats,
    listed_odds: _Floats,
    *,
    least: float,
    calibration: ChannelCalibration,
    weight: float,
    k: int,
) -> Merged:
    """Merge by log-odds.

    Args:
        rows: int64 (m,), the first k + L of the offline ranking.
        scores: float64 (m,), the release's scores of them.
        listed: int64 (L,), rows of the online list that may be shown, each once.
        listed_scores: float64 (L,), the release's scores of these.
        listed_odds: float64 (L,), their log-odds online.
        least: the least log-odds of the online list.
        calibration: of the release, in the channel asked for.
        weight: w, 0 to 1.
        k: how many items, at least 1.
    """
    slope, intercept = calibration
    alone = ~np.isin(rows, listed)
    offline = slope * scores[alone] + intercept
    both = slope * listed_scores + intercept
    return _merge(
        rows[alone],
        (1 - weight) * offline + weight * least,
        listed,
        (1 - weight) * both + weight * listed_odds,
        k,
    )


def fuse_ranks(
    rows: _Rows, listed: _Rows, places: npt.NDArray[np.int64], *, weights: _Floats, k: int
) -> Merged:
    """Merge by places.

    Args:
        rows: int64 (m,), the first k + L of the offline ranking.
        listed: int64 (L,), rows of the online list that may be shown, each once.
        places: int64 (L,), where they stand in the whole list, from 1.
        weights: float64 (L,), w of each, at least 0.
        k: how many items, at least 1.
    """
    values = 1 / (RANK_CONSTANT + np.arange(1, len(rows) + 1))  # (m,)
    alone = ~np.isin(rows, listed)
    offline = dict(zip(rows[~alone].tolist(), values[~alone].tolist(), strict=True))
    both = np.array([offline.get(row, 0.0) for row in listed.tolist()], np.float64)
    return _merge(rows[alone], values[alone], listed, both + weights / (RANK_CONSTANT + places), k)


def _merge(rows: _Rows, values: _Floats, listed: _Rows, listed_values: _Floats, k: int) -> Merged:
    """Merge a ranking, which keeps its order, with items in any order."""
    order = np.lexsort((listed, -listed_values))
    listed, listed_values = listed[order], listed_values[order]
    chosen: list[tuple[int, float]] = []
    i = j = 0
    while len(chosen) < k and (i < len(rows) or j < len(listed)):
        first = j == len(listed) or (
            i < len(rows) and (values[i], -rows[i]) > (listed_values[j], -listed[j])
        )
        if first:
            chosen.append((int(rows[i]), float(values[i])))
            i += 1
        else:
            chosen.append((int(listed[j]), float(listed_values[j])))
            j += 1
    return Merged(
        np.array([row for row, _ in chosen], np.int64),
        np.array([value for _, value in chosen], np.float64),
    )
