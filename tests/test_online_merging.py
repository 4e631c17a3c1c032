"""Merging an offline ranking with an online list: exact, and in one order on every machine."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2rec.runtime.ranking import top_k
from c2rec.runtime.release.manifest import ChannelCalibration
from c2rec.runtime.serving.online import Merged, blend, freshness, fuse_ranks, log_odds
from c2rec.runtime.sync.online_documents import OnlineScores

AS_OF = datetime(2026, 1, 5, 8, tzinfo=UTC)
SCORES = OnlineScores(1, "test", None, "online", AS_OF, AS_OF, 12.0, 48.0, ())
CALIBRATION = ChannelCalibration(0.7, -3.0)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, float]:
    """Scores of a catalogue with many ties, a list with its log-odds, k, and a weight."""
    n = draw(st.integers(1, 30))
    levels = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 2.0])
    scores = np.array(draw(st.lists(levels, min_size=n, max_size=n)), np.float32)
    listed = np.array(draw(st.permutations(range(n)))[: draw(st.integers(0, n))], np.int64)
    odds = sorted(draw(st.lists(levels, min_size=len(listed), max_size=len(listed))), reverse=True)
    weight = draw(st.sampled_from([0.0, 0.25, 0.5, 1.0]))
    return scores, listed, np.array(odds), draw(st.integers(1, 12)), weight


def merged_whole(values: np.ndarray, ranking: np.ndarray, listed: np.ndarray, k: int) -> Merged:
    """Merge the whole catalogue, item by item, from each one's value."""
    alone = [row for row in ranking.tolist() if row not in set(listed.tolist())]
    inside = sorted(listed.tolist(), key=lambda row: (-values[row], row))
    found: list[int] = []
    while len(found) < k and (alone or inside):
        first = not inside or (
            bool(alone) and (-values[alone[0]], alone[0]) < (-values[inside[0]], inside[0])
        )
        found.append((alone if first else inside).pop(0))
    return Merged(np.array(found, np.int64), values[found])


@given(cases())
def test_the_first_k_and_l_items_are_enough_for_a_blend(
    case: tuple[np.ndarray, np.ndarray, np.ndarray, int, float],
) -> None:
    scores, listed, odds, k, weight = case
    ranking = top_k(scores[None], len(scores))[0]
    least = float(odds.min()) if len(odds) else 0.0
    online = np.full(len(scores), least)
    online[listed] = odds
    offline = CALIBRATION.slope * scores.astype(np.float64) + CALIBRATION.intercept
    expected = merged_whole((1 - weight) * offline + weight * online, ranking, listed, k)
    first = ranking[: k + len(listed)]
    found = blend(
        first,
        scores[first].astype(np.float64),
        listed,
        scores[listed].astype(np.float64),
        odds,
        least=least,
        calibration=CALIBRATION,
        weight=weight,
        k=k,
    )
    assert found.rows.tolist() == expected.rows.tolist()
    np.testing.assert_allclose(found.values, expected.values)


@given(cases())
def test_the_first_k_and_l_items_are_enough_for_a_fusion(
    case: tuple[np.ndarray, np.ndarray, np.ndarray, int, float],
) -> None:
    scores, listed, _, k, weight = case
    ranking = top_k(scores[None], len(scores))[0]
    depth = k + len(listed)
    values = np.zeros(len(scores))
    values[ranking[:depth]] += 1 / (60 + np.arange(1, len(ranking[:depth]) + 1))
    places = np.arange(1, len(listed) + 1)
    values[listed] += weight / (60 + places)
    expected = merged_whole(values, ranking, listed, k)
    found = fuse_ranks(ranking[:depth], listed, places, weights=np.full(len(listed), weight), k=k)
    assert found.rows.tolist() == expected.rows.tolist()
    np.testing.assert_allclose(found.values, expected.values)


@given(cases())
def test_items_outside_the_list_keep_their_order(
    case: tuple[np.ndarray, np.ndarray, np.ndarray, int, float],
) -> None:
    scores, listed, odds, k, weight = case
    ranking = top_k(scores[None], len(scores))[0]
    first = ranking[: k + len(listed)]
    arguments = (first, scores[first], listed, scores[listed], odds)
    blended = blend(*arguments, least=-1.0, calibration=CALIBRATION, weight=weight, k=k)
    fused = fuse_ranks(
        first, listed, np.arange(1, len(listed) + 1), weights=np.full(len(listed), weight), k=k
    )
    for found in (blended, fused):
        alone = [row for row in found.rows.tolist() if row not in set(listed.tolist())]
        assert alone == [row for row in ranking.tolist() if row in set(alone)]


def test_rounding_changes_no_order_of_items_outside_the_list() -> None:
    """Scores that the calibration makes equal."""
    scores = np.array([1e-30, 2e-30, 0.0])
    ranking = np.array([1, 0, 2])
    none, no_odds = np.empty(0, np.int64), np.empty(0)
    found = blend(
        ranking,
        scores[ranking],
        none,
        scores[none],
        no_odds,
        least=0.0,
        calibration=ChannelCalibration(1.0, -5.0),
        weight=0.5,
        k=3,
    )
    assert found.rows.tolist() == [1, 0, 2]


def test_a_sure_online_item_rises_with_the_weight() -> None:
    scores = np.array([2.0, 1.0, 0.0])
    ranking, listed = np.arange(3), np.array([2])
    places = []
    for weight in (0.0, 0.9):
        found = blend(
            ranking,
            scores,
            listed,
            scores[listed],
            log_odds(np.array([0.9], np.float32)),
            least=-4.0,
            calibration=CALIBRATION,
            weight=weight,
            k=3,
        )
        places.append(found.rows.tolist().index(2))
    assert places == [2, 0]


@pytest.mark.parametrize(
    ("hours", "share"), [(0, 1.0), (12, 0.5), (24, 0.25), (48, 0.0625), (48.001, 0.0)]
)
def test_scores_halve_with_age_and_end_with_their_time_to_live(hours: float, share: float) -> None:
    fresh = freshness(SCORES, AS_OF + timedelta(hours=hours))
    assert fresh.share == pytest.approx(share)
    assert fresh.age_s == int(hours * 3600)
    assert not fresh.early


def test_a_clock_before_the_scores_makes_no_negative_age() -> None:
    assert freshness(SCORES, AS_OF - timedelta(days=9)) == (0, 1.0, True)
