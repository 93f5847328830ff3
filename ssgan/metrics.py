"""Numbers from predictions: arrays in, numbers out. N rows, K classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["error_percent", "expected_calibration_error", "negative_log_likelihood", "softmax", "summarize_scores"]


def softmax(logits_NK: np.ndarray) -> np.ndarray:
    """Class probabilities [N, K] of logits [N, K]; rows sum to 1."""
    shifted = logits_NK - logits_NK.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    return p / p.sum(axis=1, keepdims=True)


def error_percent(p_NK: np.ndarray, y_N: np.ndarray) -> float:
    """Share of rows whose largest entry is not their label, in percent."""
    return float(100.0 * np.mean(p_NK.argmax(axis=1) != y_N))


def negative_log_likelihood(p_NK: np.ndarray, y_N: np.ndarray) -> float:
    """Mean ``-log p(y)`` in nats."""
    p_y = p_NK[np.arange(len(y_N)), y_N]
    return float(-np.log(np.maximum(p_y, np.finfo(np.float64).tiny)).mean())


def expected_calibration_error(p_NK: np.ndarray, y_N: np.ndarray, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins of confidence, 0 to 1.

    Each bin counts with its share of the rows. Source: Guo et al., *On Calibration of Modern Neural
    Networks*, 2017, section 2.
    """
    confidence, hit = p_NK.max(axis=1), p_NK.argmax(axis=1) == y_N
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=hit - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(y_N))


def summarize_scores(scores: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    """Mean and deviation over the seeds of ``error`` and the errors of each, in percent.

    A seed that diverged has None and is left out of the mean, which is None where no seed is left; the
    deviation is the sample's (n - 1), and None for fewer than two.
    """
    errors = np.array([e for e in scores["error"] if e is not None])
    mean = float(errors.mean()) if len(errors) else None
    std = float(errors.std(ddof=1)) if len(errors) > 1 else None
    return {
        "accuracy_mean": None if mean is None else 100.0 - mean,
        "accuracy_std": std,
        "error_mean": mean,
        "error_std": std,
        "errors": list(scores["error"]),
        "errors_raw": list(scores["error_raw"]),
    }
