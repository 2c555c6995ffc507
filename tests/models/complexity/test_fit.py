"""The statistics behind the card, against cases whose answer is known."""

import numpy as np
import pytest

from models.complexity.fit import (
    Calibration,
    auc,
    auc_error,
    auc_within,
    bins,
    brier,
    calibrate,
    ece,
    fit,
    folds,
    held_out,
    learn,
    routed,
    sigmoid,
)


def drawn(count: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, labels by a known line (weights 2 and -1, bias 0.5), and one of twelve subjects each."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 2))
    y = (rng.random(count) < sigmoid(x @ np.array([2.0, -1.0]) + 0.5)).astype(float)
    return x, y, rng.choice([f"s{n}" for n in range(12)], count)


def test_the_line_that_made_the_labels_is_found() -> None:
    x, y, _ = drawn(20_000)
    line = fit(x, y, 1e-6)
    assert line.weights == pytest.approx([2.0, -1.0], abs=0.1)
    assert line.bias == pytest.approx(0.5, abs=0.1)


def test_a_strong_ridge_leaves_the_mean_alone() -> None:
    x, y, _ = drawn()
    line = fit(x, y, 1e9)
    assert line.weights == pytest.approx([0, 0], abs=1e-4)
    assert sigmoid(np.array([line.bias]))[0] == pytest.approx(y.mean(), abs=1e-6)


def test_folds_hold_out_whole_subjects_and_each_once() -> None:
    _, _, subjects = drawn(500)
    held = folds(subjects, 5, 0)
    assert np.array(held).sum(0).tolist() == [1] * 500
    for out in held:
        assert not set(subjects[out]) & set(subjects[~out])


def test_what_is_held_out_is_not_learned_from() -> None:
    """Every subject has a column of its own that gives its labels away: held out, it is worth nothing."""
    rng = np.random.default_rng(1)
    subjects = np.repeat([f"s{n}" for n in range(10)], 60)
    y = rng.integers(0, 2, 600).astype(float)
    x = np.zeros((600, 10))
    x[np.arange(600), np.arange(600) // 60] = 2 * y - 1
    assert auc(y, fit(x, y, 1e-3)(x)) == 1.0
    assert auc(y, held_out(x, y, subjects, 1e-3)) == pytest.approx(0.5, abs=0.1)


def test_calibration_undoes_overconfidence() -> None:
    x, y, subjects = drawn(20_000)
    odds = 5 * (x @ np.array([2.0, -1.0]) + 0.5) + 3
    found = calibrate(odds, y)
    assert (found.slope, found.offset) == (pytest.approx(0.2, abs=0.02), pytest.approx(-0.6, abs=0.1))
    assert ece(y, found(odds)) < 0.02 < ece(y, sigmoid(odds))
    judge = learn(x, y, subjects, 1.0)
    assert ece(y, judge(x)) < 0.02


def test_no_probability_is_surer_than_the_surest_twentieth_was_right() -> None:
    rng = np.random.default_rng(2)
    odds = rng.normal(0, 2, 10_000)
    y = (rng.random(10_000) < np.clip(sigmoid(odds), 0.2, 0.8)).astype(float)
    found = calibrate(odds, y)
    assert 0.75 < found.high < 0.85
    assert 0.15 < found.low < 0.25
    assert found(np.array([-50.0, 50.0])).tolist() == [found.low, found.high]


def test_what_is_worse_than_chance_is_not_turned_around() -> None:
    x, y, _ = drawn()
    found = calibrate(-(x @ np.array([2.0, -1.0])), y)
    assert found.slope == pytest.approx(0, abs=1e-6)
    assert found(np.array([-3.0, 3.0])) == pytest.approx([y.mean()] * 2, abs=1e-3)


def test_the_area_under_the_curve_of_known_rankings() -> None:
    y = np.array([0.0, 0.0, 1.0, 1.0])
    assert auc(y, np.array([0.1, 0.2, 0.3, 0.4])) == 1.0
    assert auc(y, np.array([0.4, 0.3, 0.2, 0.1])) == 0.0
    assert auc(y, np.array([0.1, 0.3, 0.2, 0.4])) == 0.75
    assert auc(y, np.full(4, 0.5)) == 0.5
    assert np.isnan(auc(np.ones(4), np.arange(4.0)))


def test_knowing_the_topic_alone_is_worth_nothing_within_topics() -> None:
    rng = np.random.default_rng(3)
    subjects = np.repeat(["easy", "hard"], 1000)
    p = np.repeat([0.9, 0.3], 1000)
    y = (rng.random(2000) < p).astype(float)
    assert auc(y, p) > 0.75
    assert auc_within(y, p, subjects) == 0.5


def test_the_error_of_an_area_is_how_far_areas_of_other_draws_are_from_it() -> None:
    rng = np.random.default_rng(4)
    areas = []
    for _ in range(300):
        y = np.repeat([0.0, 1.0], 60)
        areas.append(auc(y, rng.normal(y, 1.0)))
    assert auc_error(y, float(np.mean(areas))) == pytest.approx(np.std(areas), rel=0.2)


def test_errors_of_known_predictions() -> None:
    y, p = np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.81, 0.81, 0.42, 1.0])
    assert bins(y, p) == [
        (pytest.approx(0.42), 1.0, 1),
        (pytest.approx(0.81), 0.5, 2),
        (1.0, 1.0, 1),
    ]
    assert ece(y, p) == pytest.approx((0.58 + 2 * 0.31) / 4)
    assert brier(y, p) == pytest.approx((0.19**2 + 0.81**2 + 0.58**2) / 4)


def test_routing_costs_what_only_the_large_model_knew() -> None:
    p = np.array([0.9, 0.9, 0.8, 0.1])
    small, large = np.array([1.0, 0.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0, 1.0])
    assert routed(p, 0.8, small, large) == {
        "share": 0.75,
        "small": pytest.approx(1 / 3),
        "large": pytest.approx(2 / 3),
        "loss": 0.25,
        "random_loss": 0.75 * 0.5,
    }
    assert routed(p, 0.95, small, large)["share"] == 0


def test_a_calibration_is_monotonous() -> None:
    said = Calibration(1.5, -0.2, 0.3, 0.8)(np.linspace(-5, 5, 50))
    assert np.all(np.diff(said) >= 0)
