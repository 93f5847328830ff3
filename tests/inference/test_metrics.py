"""Metrics of predictions, compared with hand-computed values."""

import math
from typing import Any

import numpy as np
import pytest

from ssgan.inference.metrics import (
    best_temperature,
    confusion,
    error_percent,
    expected_calibration_error,
    generated_probability,
    negative_log_likelihood,
    per_class,
    reliability,
    softmax,
)


def test_softmax_matches_hand_computed_values() -> None:
    p = softmax(np.log([[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]]))
    np.testing.assert_allclose(p, [[0.125, 0.25, 0.625], [0.375, 0.375, 0.25]], rtol=1e-14)


def test_softmax_ignores_a_shift_and_keeps_its_input() -> None:
    logits = np.array([[0.0, 1.0, -2.0]])
    np.testing.assert_allclose(softmax(logits + 100), softmax(logits), rtol=1e-12)
    assert logits.tolist() == [[0.0, 1.0, -2.0]]


def test_softmax_is_stable_far_from_zero() -> None:
    p = softmax(np.array([[1e4, 1e4 - math.log(3), -1e4], [-1e4, -1e4, -1e4 - math.log(2)]]))
    np.testing.assert_allclose(p, [[0.75, 0.25, 0.0], [0.4, 0.4, 0.2]], rtol=1e-11)


def test_error_counts_the_rows_whose_largest_entry_is_wrong() -> None:
    p = np.array([[0.6, 0.4, 0.0], [0.3, 0.5, 0.2], [0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])
    assert error_percent(p, np.array([0, 1, 2, 0])) == 0.0
    assert error_percent(p, np.array([0, 1, 2, 1])) == 25.0
    assert error_percent(p, np.array([1, 0, 0, 1])) == 100.0


def test_nll_matches_hand_computed_value() -> None:
    p = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
    expected = (math.log(2) + math.log(4) + 0.0) / 3
    assert negative_log_likelihood(p, np.array([0, 0, 0])) == pytest.approx(expected, rel=1e-14)


def test_likelihood_of_an_impossible_label_is_finite() -> None:
    loss = negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1]))
    assert loss == pytest.approx(-math.log(np.finfo(np.float64).tiny), rel=1e-14)


def rows(confidence: float, right: int, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of two classes, all with one confidence, and labels; ``right`` of them are correct."""
    return np.tile([confidence, 1 - confidence], (total, 1)), np.array([0] * right + [1] * (total - right))


def test_calibration_error_of_a_calibrated_model_is_zero() -> None:
    p, y = (np.concatenate(parts) for parts in zip(rows(0.75, 3, 4), rows(0.5, 2, 4), rows(1.0, 4, 4), strict=True))
    assert expected_calibration_error(p, y) == 0.0


def test_calibration_error_of_an_overconfident_model_is_confidence_minus_accuracy() -> None:
    assert expected_calibration_error(*rows(0.875, 1, 4)) == pytest.approx(0.625, rel=1e-14)
    assert expected_calibration_error(*rows(1.0, 0, 4)) == 1.0


def test_calibration_error_of_an_underconfident_model_is_accuracy_minus_confidence() -> None:
    assert expected_calibration_error(*rows(0.625, 4, 4)) == pytest.approx(0.375, rel=1e-14)


def test_calibration_error_weights_bins_by_rows_without_cancelling() -> None:
    p, y = (np.concatenate(parts) for parts in zip(rows(0.875, 0, 1), rows(0.625, 3, 3), strict=True))
    assert expected_calibration_error(p, y) == pytest.approx((0.875 + 3 * 0.375) / 4, rel=1e-14)


def test_calibration_errors_cancel_within_one_bin() -> None:
    """0.6875 and 0.71875 share the bin (10/15, 11/15]; the bin (2/4, 3/4] holds 0.5625 too."""
    p, y = (np.concatenate(parts) for parts in zip(rows(0.6875, 0, 1), rows(0.71875, 1, 1), strict=True))
    assert expected_calibration_error(p, y) == pytest.approx((0.6875 - 0.28125) / 2, rel=1e-14)
    p, y = (np.concatenate(parts) for parts in zip(rows(0.5625, 1, 1), rows(0.71875, 0, 1), strict=True))
    assert expected_calibration_error(p, y) == pytest.approx((0.4375 + 0.71875) / 2, rel=1e-14)
    assert expected_calibration_error(p, y, bins=4) == pytest.approx((0.71875 - 0.4375) / 2, rel=1e-14)


def test_calibration_bins_include_their_upper_edge() -> None:
    """Bins are (low, high], as in the paper: 0.75 and 0.625 share (0.5, 0.75] of four bins, 0.5 is outside."""
    p, y = (np.concatenate(parts) for parts in zip(rows(0.75, 0, 1), rows(0.625, 1, 1), strict=True))
    assert expected_calibration_error(p, y, bins=4) == pytest.approx((0.75 - 0.375) / 2, rel=1e-14)
    p, y = (np.concatenate(parts) for parts in zip(rows(0.5, 1, 1), rows(0.75, 0, 1), strict=True))
    assert expected_calibration_error(p, y, bins=4) == pytest.approx((0.5 + 0.75) / 2, rel=1e-14)


def test_reliability_matches_hand_computed_bins() -> None:
    """With four bins: (0.25, 0.5] has 0.5 right and 0.5 wrong, (0.5, 0.75] has 0.75 right and 0.625 wrong."""
    parts = rows(0.5, 1, 2), rows(0.75, 1, 1), rows(0.625, 0, 1), rows(0.875, 2, 2)
    p, y = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert reliability(p, y, bins=4) == [
        {"low": 0.0, "high": 0.25, "count": 0, "confidence": None, "accuracy": None},
        {"low": 0.25, "high": 0.5, "count": 2, "confidence": 0.5, "accuracy": 0.5},
        {"low": 0.5, "high": 0.75, "count": 2, "confidence": 0.6875, "accuracy": 0.5},
        {"low": 0.75, "high": 1.0, "count": 2, "confidence": 0.875, "accuracy": 1.0},
    ]


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_calibration_error_is_the_weighted_gap_of_the_bins(classes: int) -> None:
    rng = np.random.default_rng(classes)
    p, y = softmax(2 * rng.normal(size=(500, classes))), rng.integers(0, classes, 500)
    bins = [one for one in reliability(p, y) if one["count"]]
    assert len(reliability(p, y)) == 15
    assert sum(one["count"] for one in bins) == 500
    assert all(one["low"] < one["confidence"] <= one["high"] for one in bins)
    gap = sum(one["count"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / 500
    assert expected_calibration_error(p, y) == pytest.approx(gap, rel=1e-12)


def test_confusion_has_rows_by_true_class_and_columns_by_predicted() -> None:
    """Class 3 has no rows and no predictions, and keeps its row and column."""
    y, predicted = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 0])
    assert confusion(y, predicted, 4).tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]]


def test_per_class_scores_match_hand_computed_values() -> None:
    """Class 0: 6 of 8 predictions and 6 of 10 rows are right; 1: never predicted; 2: no rows; 3: neither."""
    found = per_class(np.array([[6, 0, 4, 0], [2, 0, 3, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    expected: list[dict[str, Any]] = [
        {"precision": 0.75, "recall": 0.6, "f1": 2 / 3},
        {"precision": None, "recall": 0.0, "f1": 0.0},
        {"precision": 0.0, "recall": None, "f1": 0.0},
        {"precision": None, "recall": None, "f1": None},
    ]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == {name: None if value is None else pytest.approx(value) for name, value in theirs.items()}


def test_per_class_scores_match_their_definitions() -> None:
    """Compared with the definitions, counted row by row."""
    rng = np.random.default_rng(0)
    y, predicted = rng.integers(0, 5, (2, 300))
    for k, row in enumerate(per_class(confusion(y, predicted, 5))):
        right = np.sum((y == k) & (predicted == k))
        precision, recall = right / np.sum(predicted == k), right / np.sum(y == k)
        f1 = 2 * precision * recall / (precision + recall)
        assert row == pytest.approx({"precision": precision, "recall": recall, "f1": f1}, rel=1e-12)


def test_generated_probability_matches_the_k_plus_1_softmax() -> None:
    """It equals 1 / (Z + 1), 1 - sigmoid(logsumexp), and the last entry of softmax over [logits, 0]."""
    logits = np.random.default_rng(0).normal(scale=3, size=(4, 50, 7))
    found = generated_probability(logits)
    assert found.shape == (4, 50)
    np.testing.assert_allclose(found, 1 / (np.exp(logits).sum(axis=-1) + 1), rtol=1e-13)
    lse = np.log(np.exp(logits).sum(axis=-1))
    np.testing.assert_allclose(found, 1 - 1 / (1 + np.exp(-lse)), atol=1e-15)
    appended = np.concatenate([logits, np.zeros((4, 50, 1))], axis=-1)
    np.testing.assert_allclose(found, softmax(appended)[..., -1], rtol=1e-13)
    assert generated_probability(np.log([[1.0, 2.0]])) == pytest.approx([0.25], rel=1e-14)


def test_the_generated_probability_is_stable_far_from_zero() -> None:
    with np.errstate(all="raise", under="ignore"):
        found = generated_probability(np.array([[1e4, 0.0], [-1e4, -1e4], [50.0, -1e4], [-40.0, -1e4]]))
    assert found == pytest.approx([0.0, 1.0, np.exp(-50.0), 1.0], rel=1e-12)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_best_temperature_matches_grid_search(scale: float) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 300)
    logits = scale * (rng.normal(size=(300, 5)) + 1.5 * np.eye(5)[y])
    grid = np.exp(np.linspace(-3, 3, 20_001))
    nll = [negative_log_likelihood(softmax(logits / t), y) for t in grid[::100]]
    around = grid[max(0, 100 * int(np.argmin(nll)) - 100) :][:201]
    best = around[np.argmin([negative_log_likelihood(softmax(logits / t), y) for t in around])]
    assert best_temperature(logits, y) == pytest.approx(best, rel=1e-3)


def test_best_temperature_is_low_if_all_predictions_are_correct() -> None:
    """If all predictions are wrong, it is at the upper limit."""
    y = np.arange(5)
    assert best_temperature(2 * np.eye(5), y) < 0.3
    assert best_temperature(-2 * np.eye(5), y) == pytest.approx(np.exp(3), rel=1e-3)
