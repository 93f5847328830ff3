"""Score class probabilities on labelled images, for each model."""

from collections.abc import Callable, Sequence

import numpy as np

from ssgan.inference.metrics import error_percent, expected_calibration_error, negative_log_likelihood

__all__ = ["METRICS", "finite_mask", "score"]

METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "error": error_percent,
    "nll": negative_log_likelihood,
    "ece": expected_calibration_error,
}


def finite_mask(p_SNK: np.ndarray) -> list[bool]:
    """Return whether each seed has finite probabilities; False for a diverged model, and without images."""
    return [len(p_NK) > 0 and bool(np.isfinite(p_NK).all()) for p_NK in p_SNK]


def score(p_SNK: np.ndarray, y_N: np.ndarray, metrics: Sequence[str] = tuple(METRICS)) -> dict[str, list[float | None]]:
    """Compute each metric of each seed's probabilities; None if they are not finite or there are none.

    ``error`` in percent, ``nll`` in nats, ``ece`` from 0 to 1.
    """
    finite = finite_mask(p_SNK)
    return {
        name: [METRICS[name](p_NK, y_N) if ok else None for p_NK, ok in zip(p_SNK, finite, strict=True)]
        for name in metrics
    }
