"""Numbers from predictions, against values worked by hand."""

import math

import numpy as np
import pytest

from ssgan.metrics import error_percent, expected_calibration_error, negative_log_likelihood, softmax


def test_softmax_of_worked_logits() -> None:
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


def test_likelihood_of_worked_rows() -> None:
    p = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
    expected = (math.log(2) + math.log(4) + 0.0) / 3
    assert negative_log_likelihood(p, np.array([0, 0, 0])) == pytest.approx(expected, rel=1e-14)


def test_likelihood_of_an_impossible_label_is_finite() -> None:
    loss = negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1]))
    assert loss == pytest.approx(-math.log(np.finfo(np.float64).tiny), rel=1e-14)


def rows(confidence: float, right: int, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two classes, all of one confidence, so many of them right."""
    return np.tile([confidence, 1 - confidence], (total, 1)), np.array([0] * right + [1] * (total - right))


def test_calibration_error_of_a_calibrated_model_is_zero() -> None:
    p, y = (np.concatenate(parts) for parts in zip(rows(0.75, 3, 4), rows(0.5, 2, 4), rows(1.0, 4, 4), strict=True))
    assert expected_calibration_error(p, y) == 0.0


def test_calibration_error_of_an_overconfident_model_is_its_gap() -> None:
    assert expected_calibration_error(*rows(0.875, 1, 4)) == pytest.approx(0.625, rel=1e-14)
    assert expected_calibration_error(*rows(1.0, 0, 4)) == 1.0


def test_calibration_error_of_an_underconfident_model_is_its_gap() -> None:
    assert expected_calibration_error(*rows(0.625, 4, 4)) == pytest.approx(0.375, rel=1e-14)


def test_bins_do_not_cancel_and_weigh_by_their_rows() -> None:
    p, y = (np.concatenate(parts) for parts in zip(rows(0.875, 0, 1), rows(0.625, 3, 3), strict=True))
    assert expected_calibration_error(p, y) == pytest.approx((0.875 + 3 * 0.375) / 4, rel=1e-14)


def test_rows_of_one_bin_cancel() -> None:
    """0.6875 and 0.71875 share the bin (10/15, 11/15]; the bin (2/4, 3/4] holds 0.5625 too."""
    p, y = (np.concatenate(parts) for parts in zip(rows(0.6875, 0, 1), rows(0.71875, 1, 1), strict=True))
    assert expected_calibration_error(p, y) == pytest.approx((0.6875 - 0.28125) / 2, rel=1e-14)
    p, y = (np.concatenate(parts) for parts in zip(rows(0.5625, 1, 1), rows(0.71875, 0, 1), strict=True))
    assert expected_calibration_error(p, y) == pytest.approx((0.4375 + 0.71875) / 2, rel=1e-14)
    assert expected_calibration_error(p, y, bins=4) == pytest.approx((0.71875 - 0.4375) / 2, rel=1e-14)


def test_an_upper_edge_belongs_to_its_bin() -> None:
    """Bins are (low, high], as in the paper: 0.75 and 0.625 share (0.5, 0.75] of four bins, 0.5 does not."""
    p, y = (np.concatenate(parts) for parts in zip(rows(0.75, 0, 1), rows(0.625, 1, 1), strict=True))
    assert expected_calibration_error(p, y, bins=4) == pytest.approx((0.75 - 0.375) / 2, rel=1e-14)
    p, y = (np.concatenate(parts) for parts in zip(rows(0.5, 1, 1), rows(0.75, 0, 1), strict=True))
    assert expected_calibration_error(p, y, bins=4) == pytest.approx((0.5 + 0.75) / 2, rel=1e-14)
