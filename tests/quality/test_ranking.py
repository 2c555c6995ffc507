import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.quality import ranking

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=60)


def split(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([float(score) for score, _ in pairs]), np.array([same for _, same in pairs])


@given(PAIRS)
def test_the_area_is_the_share_of_pairs_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    scores, same = split(pairs)
    positive, negative = scores[same], scores[~same]
    if not len(positive) or not len(negative):
        assert np.isnan(ranking.auc(scores, same))
        return
    wins = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert ranking.auc(scores, same) == pytest.approx(float(np.mean(wins)))


@given(PAIRS)
def test_average_precision_is_the_sum_over_thresholds(pairs: list[tuple[int, bool]]) -> None:
    scores, same = split(pairs)
    if not same.any():
        assert np.isnan(ranking.average_precision(scores, same))
        return
    area = recall_before = 0.0
    for least in sorted(set(scores), reverse=True):
        chosen = scores >= least
        recall = float(same[chosen].sum() / same.sum())
        area += (recall - recall_before) * float(same[chosen].mean())
        recall_before = recall
    assert ranking.average_precision(scores, same) == pytest.approx(area)


@given(PAIRS, st.sampled_from([0.0, 0.05, 0.2, 1.0]))
def test_recall_lets_at_most_so_many_through(pairs: list[tuple[int, bool]], false: float) -> None:
    scores, same = split(pairs)
    found = ranking.recall_at(scores, same, false)
    best = 0
    for least in [*set(scores), np.inf]:
        passed = scores >= least
        if (passed & ~same).sum() <= int(false * (~same).sum()):
            best = max(best, int((passed & same).sum()))
    assert found.count == best
    assert found.total == int(same.sum())


def test_the_interval_of_an_area_is_the_known_one() -> None:
    # Hanley and McNeil 1982: area 0.893 of 51 and 58 has a standard error of 0.032.
    low, high = ranking.auc_interval(0.893, 51, 58)
    assert (high - low) / 2 / 1.96 == pytest.approx(0.032, abs=0.0015)
    assert ranking.auc_interval(0.9, 0, 5) == (0.0, 1.0)


def test_curves_end_where_everything_passes() -> None:
    scores = np.linspace(0, 1, 500)
    found = ranking.curves(scores, scores > 0.4, points=50)
    assert found["roc"][-1] == [1.0, 1.0]
    assert found["pr"][-1] == [1.0, 0.6]
    assert len(found["roc"]) <= 50


def test_a_summary_holds_it_all() -> None:
    scores = np.array([0.9, 0.8, 0.3, 0.1])
    found = ranking.summary(scores, np.array([True, True, False, False]))
    assert found["auc"]["value"] == 1.0
    assert found["recall at 1 % false"]["rate"] == 1.0
