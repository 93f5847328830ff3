"""Numbers from predictions: arrays in, numbers out. S seeds, N rows, K classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = [
    "best_temperature",
    "binomial_interval",
    "confusion",
    "distance_to_normal",
    "error_percent",
    "expected_calibration_error",
    "generated_probability",
    "negative_log_likelihood",
    "per_class",
    "reliability",
    "softmax",
    "summarize_scores",
]

BINS = 15
LOG_TEMPERATURES = (-3.0, 3.0)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Class probabilities [..., K] of logits [..., K]; they sum to 1."""
    with np.errstate(invalid="ignore"):  # infinite logits, such as those of a diverged model, give NaN
        shifted = logits - logits.max(axis=-1, keepdims=True)
    p = np.exp(shifted)
    return p / p.sum(axis=-1, keepdims=True)


def generated_probability(logits: np.ndarray) -> np.ndarray:
    """Probability [...] that a row is generated, ``1 / (Z + 1)`` with ``Z = sum_k exp(logits)``, of logits [..., K].

    It is ``sigmoid(-logsumexp(logits))``, written so that it neither overflows nor loses small values.
    Source: Salimans et al., *Improved Techniques for Training GANs*, 2016, section 5.
    """
    return np.exp(-np.logaddexp(0.0, np.logaddexp.reduce(logits, axis=-1)))


def error_percent(p_NK: np.ndarray, y_N: np.ndarray) -> float:
    """Share of rows whose largest entry is not their label, in percent."""
    return float(100.0 * np.mean(p_NK.argmax(axis=1) != y_N))


def negative_log_likelihood(p_NK: np.ndarray, y_N: np.ndarray) -> float:
    """Mean ``-log p(y)`` in nats."""
    p_y = p_NK[np.arange(len(y_N)), y_N]
    return float(-np.log(np.maximum(p_y, np.finfo(np.float64).tiny)).mean())


def expected_calibration_error(p_NK: np.ndarray, y_N: np.ndarray, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy over equal-width bins of confidence, 0 to 1.

    Each bin counts with its share of the rows. Source: Guo et al., *On Calibration of Modern Neural
    Networks*, 2017, section 2.
    """
    confidence, hit = p_NK.max(axis=1), p_NK.argmax(axis=1) == y_N
    gap = np.bincount(_bin(confidence, bins), weights=hit - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(y_N))


def reliability(p_NK: np.ndarray, y_N: np.ndarray, bins: int = BINS) -> list[dict[str, Any]]:
    """How often the rows of each bin of confidence are right, in the bins of :func:`expected_calibration_error`.

    Returns
    -------
    list of dict
        For each bin ``low`` and ``high``, of which the upper belongs to it; ``count`` of rows; their mean
        ``confidence`` and their ``accuracy``, all from 0 to 1, or None in a bin without rows.
    """
    confidence, hit = p_NK.max(axis=1), p_NK.argmax(axis=1) == y_N
    place = _bin(confidence, bins)
    counts = np.bincount(place, minlength=bins).tolist()
    sums = [np.bincount(place, weights=values, minlength=bins).tolist() for values in (confidence, hit)]
    return [
        {
            "low": i / bins,
            "high": (i + 1) / bins,
            "count": count,
            "confidence": confident / count if count else None,
            "accuracy": right / count if count else None,
        }
        for i, (count, confident, right) in enumerate(zip(counts, *sums, strict=True))
    ]


def best_temperature(logits_NK: np.ndarray, y_N: np.ndarray) -> float:
    """The temperature T, 0.05 to 20, at which the softmax of logits / T has the least negative log-likelihood.

    It changes no prediction. The rows should be new to the model. On those that it was trained on it knows almost
    every label, so T comes out too low, and where it knows all of them far below 1: the model is then surer of itself
    than it was. Where labels are too few to spare some, look at NLL and ECE both with it and without.

    Source: Guo et al., *On Calibration of Modern Neural Networks*, 2017, section 4.2.
    """
    from scipy.optimize import minimize_scalar

    def nll(log_temperature: float) -> float:
        return negative_log_likelihood(softmax(logits_NK / np.exp(log_temperature)), y_N)

    return float(np.exp(minimize_scalar(nll, bounds=LOG_TEMPERATURES, method="bounded").x))


def _bin(confidence_N: np.ndarray, bins: int) -> np.ndarray:
    """Which of the equal-width bins (low, high] of [0, 1] each confidence falls into."""
    return np.clip(np.ceil(confidence_N * bins).astype(int) - 1, 0, bins - 1)


def binomial_interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The range, 0 to 1, that a probability lies in when ``count`` of ``total`` independent trials had the event.

    Wilson's score interval, which holds for few trials and for none with the event. Source: Wilson, *Probable
    Inference, the Law of Succession, and Statistical Inference*, 1927.
    """
    from scipy.stats import binomtest

    low, high = binomtest(count, total).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def confusion(y_N: np.ndarray, predicted_N: np.ndarray, classes: int) -> np.ndarray:
    """How many rows of each class (rows of the matrix) were taken for each class (columns), int64 [K, K]."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(y_N, predicted_N, labels=np.arange(classes))


def per_class(confusion_KK: np.ndarray) -> list[dict[str, float | None]]:
    """``precision``, ``recall`` and ``f1`` of each class, 0 to 1, of a matrix of :func:`confusion`.

    None where it is undefined: the precision of a class that was never predicted, the recall of one without
    rows, the F1 of one that is neither.
    """
    from sklearn.metrics import precision_recall_fscore_support

    y, predicted = np.indices(confusion_KK.shape).reshape(2, -1)
    found = precision_recall_fscore_support(
        y, predicted, labels=np.arange(len(confusion_KK)), sample_weight=confusion_KK.ravel(), zero_division=np.nan
    )
    columns = [[None if np.isnan(value) else float(value) for value in column] for column in found[:3]]
    return [dict(zip(("precision", "recall", "f1"), row, strict=True)) for row in zip(*columns, strict=True)]


def distance_to_normal(x_N: np.ndarray, mean: float, std: float) -> dict[str, float]:
    """How far a sample of numbers lies from a normal distribution.

    ``ks`` is the Kolmogorov-Smirnov distance, the largest difference of the two distribution functions, 0 to 1;
    ``wasserstein`` the first Wasserstein distance, the mean difference of the quantiles, in the unit of the numbers,
    those of the normal distribution taken at the middles of N equal shares. ``generated_mean`` and ``generated_std``
    are the sample's.

    Parameters
    ----------
    x_N : ndarray, shape [N]
        Finite.
    mean, std : float
        Of the normal distribution.
    """
    from scipy.special import ndtri
    from scipy.stats import kstest

    quantiles = mean + std * ndtri((np.arange(len(x_N)) + 0.5) / len(x_N))
    return {
        "ks": float(kstest(x_N, "norm", args=(mean, std)).statistic),
        "wasserstein": float(np.abs(np.sort(x_N) - quantiles).mean()),
        "generated_mean": float(x_N.mean()),
        "generated_std": float(x_N.std()),
    }


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
