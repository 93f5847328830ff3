"""Compute metrics of predictions and of generated images from arrays.

Shapes: S seeds, N rows, K classes; D pixels, M real images.

Images are compared by the Euclidean distance between pixels in [0, 1]. Nothing has to be trained or downloaded for it,
but a shifted picture is far from the original.

Sources of coverage and density: Naeem et al., *Reliable Fidelity and Diversity Metrics for Generative Models*, 2020; of
recall: Kynkäänniemi et al., *Improved Precision and Recall Metric for Assessing Generative Models*, 2019.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "DIVERSITY_IMAGES",
    "LOG_TEMPERATURES",
    "Diversity",
    "best_temperature",
    "binomial_interval",
    "confusion",
    "distance_to_normal",
    "diversity",
    "error_percent",
    "expected_calibration_error",
    "generated_probability",
    "mean_or_none",
    "measure_diversity",
    "nearest_neighbors",
    "negative_log_likelihood",
    "per_class",
    "reliability",
    "softmax",
    "split_pool",
    "summarize_scores",
]


BINS = 15
LOG_TEMPERATURES = (-3.0, 3.0)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Compute class probabilities [..., K], which sum to 1, from logits [..., K]."""
    with np.errstate(invalid="ignore"):  # infinite logits, as of a diverged model, give NaN
        shifted = logits - logits.max(axis=-1, keepdims=True)
    p = np.exp(shifted)
    return p / p.sum(axis=-1, keepdims=True)


def generated_probability(logits: np.ndarray) -> np.ndarray:
    """Compute the probability [...] that a row is generated, ``1 / (Z + 1)`` with ``Z = sum_k exp(logits)``.

    For logits [..., K] it is ``sigmoid(-logsumexp(logits))``, in a form that neither overflows nor loses small values.
    Source: Salimans et al., *Improved Techniques for Training GANs*, 2016, section 5.
    """
    return np.exp(-np.logaddexp(0.0, np.logaddexp.reduce(logits, axis=-1)))


def error_percent(p_NK: np.ndarray, y_N: np.ndarray) -> float:
    """Return the percentage of rows whose largest entry is not their label."""
    return float(100.0 * np.mean(p_NK.argmax(axis=1) != y_N))


def negative_log_likelihood(p_NK: np.ndarray, y_N: np.ndarray) -> float:
    """Return the mean ``-log p(y)`` in nats."""
    p_y = p_NK[np.arange(len(y_N)), y_N]
    return float(-np.log(np.maximum(p_y, np.finfo(np.float64).tiny)).mean())


def expected_calibration_error(p_NK: np.ndarray, y_N: np.ndarray, bins: int = BINS) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins of confidence, 0 to 1.

    Each bin is weighted by its fraction of the rows. Source: Guo et al., *On Calibration of Modern Neural
    Networks*, 2017, section 2.
    """
    confidence, correct = p_NK.max(axis=1), p_NK.argmax(axis=1) == y_N
    gap = np.bincount(_bin_indices(confidence, bins), weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(y_N))


def reliability(p_NK: np.ndarray, y_N: np.ndarray, bins: int = BINS) -> list[dict[str, Any]]:
    """Compute the accuracy of each bin of confidence, in the bins of :func:`expected_calibration_error`.

    Returns
    -------
    list of dict
        For each bin ``low`` (exclusive) and ``high`` (inclusive); the ``count`` of rows; their mean ``confidence``
        and their ``accuracy``, from 0 to 1, or None in a bin without rows.
    """
    confidence, correct = p_NK.max(axis=1), p_NK.argmax(axis=1) == y_N
    indices = _bin_indices(confidence, bins)
    counts = np.bincount(indices, minlength=bins).tolist()
    sums = [np.bincount(indices, weights=values, minlength=bins).tolist() for values in (confidence, correct)]
    return [
        {
            "low": i / bins,
            "high": (i + 1) / bins,
            "count": count,
            "confidence": confidences / count if count else None,
            "accuracy": hits / count if count else None,
        }
        for i, (count, confidences, hits) in enumerate(zip(counts, *sums, strict=True))
    ]


def best_temperature(logits_NK: np.ndarray, y_N: np.ndarray) -> float:
    """Fit the temperature T, 0.05 to 20, that minimises the negative log-likelihood of the softmax of logits / T.

    It changes no prediction. The rows must be new to the model: on its training rows T comes out too low, and far
    below 1 if all are predicted correctly, which makes the model overconfident.

    Source: Guo et al., *On Calibration of Modern Neural Networks*, 2017, section 4.2.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = np.arange(len(y_N))

    def nll(log_temperature: float) -> float:  # has one minimum, as it is convex in 1 / T
        return float(-log_softmax(logits_NK / np.exp(log_temperature), axis=1)[rows, y_N].mean())

    return float(np.exp(minimize_scalar(nll, bounds=LOG_TEMPERATURES, method="bounded").x))


def _bin_indices(confidence_N: np.ndarray, bins: int) -> np.ndarray:
    """Return the index of the equal-width bin (low, high] of [0, 1] of each confidence."""
    return np.clip(np.ceil(confidence_N * bins).astype(int) - 1, 0, bins - 1)


def binomial_interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval, within 0 to 1, of a probability from ``count`` events in ``total`` trials.

    It is valid for few trials and for no events. Source: Wilson, *Probable
    Inference, the Law of Succession, and Statistical Inference*, 1927.
    """
    from scipy.stats import binomtest

    low, high = binomtest(count, total).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def confusion(y_N: np.ndarray, predicted_N: np.ndarray, classes: int) -> np.ndarray:
    """Compute the confusion matrix, int64 [K, K]: rows are true classes, columns predicted ones."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(y_N, predicted_N, labels=np.arange(classes))


def per_class(confusion_KK: np.ndarray) -> list[dict[str, float | None]]:
    """Compute ``precision``, ``recall`` and ``f1`` of each class, 0 to 1, from a matrix of :func:`confusion`.

    Undefined values are None: the precision of a class that was never predicted, the recall of one without rows, the F1
    of one with neither.
    """
    from sklearn.metrics import precision_recall_fscore_support

    y, predicted = np.indices(confusion_KK.shape).reshape(2, -1)
    scores = precision_recall_fscore_support(
        y, predicted, labels=np.arange(len(confusion_KK)), sample_weight=confusion_KK.ravel(), zero_division=np.nan
    )
    columns = [[None if np.isnan(value) else float(value) for value in column] for column in scores[:3]]
    return [dict(zip(("precision", "recall", "f1"), row, strict=True)) for row in zip(*columns, strict=True)]


def distance_to_normal(x_N: np.ndarray, mean: float, std: float) -> dict[str, float]:
    """Measure the distance of a sample of numbers from a normal distribution.

    ``ks`` is the Kolmogorov-Smirnov distance, the largest difference of the two distribution functions, 0 to 1;
    ``wasserstein`` the first Wasserstein distance, the mean difference of the quantiles, in the unit of the numbers,
    with those of the normal distribution at the midpoints of N intervals of equal probability. ``generated_mean`` and
    ``generated_std`` are those of the sample.

    Parameters
    ----------
    x_N : ndarray, shape [N]
        Finite.
    mean, std : float
        Parameters of the normal distribution.
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
    """Compute mean and standard deviation of ``error`` over the seeds, and list the errors, in percent.

    A diverged seed has None and is left out of the mean, which is None if no seed is left. The standard deviation is
    the sample's (n - 1), and None for fewer than two seeds.
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


NEIGHBOURS = 5
DIVERSITY_IMAGES = 1000  # images of each kind; their pairwise distances take 8 MB


class Diversity(NamedTuple):
    """Diversity of generated images, as :func:`diversity` measures it.

    Attributes
    ----------
    spread : float or None
        Mean distance between two generated images, as a multiple of that between two real ones: 0 if all are the
        same, 1 if they differ as much as real ones. None if all real ones are the same. Noise has a spread, too: see
        ``coverage``.
    coverage : float
        Fraction of the real images with a generated one at least as near as their fifth nearest real one, 0 to 1. 0 if
        the generated images resemble no real one; with clear modes, the fraction of modes that are generated. The same
        number of other real images has about 1 - 2^-5 = 0.97. The mean image alone can cover many: see ``recall``.
    recall : float
        Fraction of the real images that are at least as near to a generated one as its fifth nearest generated one, 0
        to 1. 0 if all generated images are the same; noise can have a high recall.
    density : float
        Mean number of real images whose neighbourhood, as for ``coverage``, holds a generated image, divided by five:
        0 for noise, about 1 for real images, more if the generated ones lie where real ones are densest.
    collapse : float
        1 - min(coverage, recall). 1 if all images are the same or resemble no real one, 1/2 if half of the modes are
        generated; real images have 0.05 to 0.15, which a report shows beside it.
    """

    spread: float | None
    coverage: float
    recall: float
    density: float
    collapse: float


_UNKNOWN: dict[str, Any] = dict.fromkeys(Diversity._fields)


def diversity(generated: np.ndarray, real: np.ndarray, neighbours: int = NEIGHBOURS) -> Diversity:
    """Measure the diversity of generated images against real ones.

    Parameters
    ----------
    generated : ndarray of float, shape [N, ...]
        In [0, 1]; more than ``neighbours``. Coverage grows with N: compare values of the same N, best N = M.
    real : ndarray of float, shape [M, ...]
        In [0, 1].
    neighbours : int
        k, less than M.

    Raises
    ------
    ValueError
        If there are too few images.
    """
    generated_ND, real_MD = (x.reshape(len(x), -1).astype(np.float64) for x in (generated, real))
    if min(len(generated_ND), len(real_MD)) <= neighbours:
        raise ValueError(f"{len(generated_ND)} generated and {len(real_MD)} real images are too few to compare")
    real_MM = _distances(real_MD, real_MD)
    # The nearest image to each is itself.
    real_radius_M = np.partition(real_MM, neighbours, axis=1)[:, neighbours]
    generated_NN, cross_MN = _distances(generated_ND, generated_ND), _distances(real_MD, generated_ND)
    generated_radius_N = np.partition(generated_NN, neighbours, axis=1)[:, neighbours]
    near_real_MN, near_generated_MN = cross_MN <= real_radius_M[:, None], cross_MN <= generated_radius_N[None, :]
    coverage, recall = (float(near_MN.any(axis=1).mean()) for near_MN in (near_real_MN, near_generated_MN))
    # Distances of equal rows are zero up to rounding.
    alike = bool((real_MD == real_MD[0]).all())
    return Diversity(
        spread=None if alike else _mean_distance(generated_NN) / _mean_distance(real_MM),
        coverage=coverage,
        recall=recall,
        density=float(near_real_MN.sum(axis=0).mean() / neighbours),
        collapse=1.0 - min(coverage, recall),
    )


def measure_diversity(
    generators: Sequence[Callable[[int], np.ndarray]], pool: np.ndarray, scale: float
) -> dict[str, Any] | None:
    """Measure the diversity of several generators, and that of as many real images for comparison.

    Parameters
    ----------
    generators : sequence of callable
        Each returns the given number of images in [0, 1], which need not be finite.
    pool : ndarray, shape [N, ...]
        As stored, 0 to ``scale``.
    scale : float

    Returns
    -------
    dict or None
        ``images`` is the number of each kind. ``real``, and ``models`` for each generator, have the fields of
        :class:`Diversity`, which are None if an image is not finite; the result itself has their means over the
        finite generators. None for a pool that is too small.
    """
    real, others = split_pool(pool, scale)
    if len(real) <= NEIGHBOURS:
        return None
    results = []
    for generate in generators:
        images = generate(len(real))
        results.append(diversity(images, real)._asdict() if np.isfinite(images).all() else _UNKNOWN)
    finite = [result for result in results if result is not _UNKNOWN]
    means = {name: mean_or_none([result[name] for result in finite]) for name in Diversity._fields}
    return {"images": len(real), **means, "real": diversity(others, real)._asdict(), "models": results}


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def split_pool(pool: np.ndarray, scale: float, count: int = DIVERSITY_IMAGES) -> tuple[np.ndarray, np.ndarray]:
    """Draw two disjoint sets of at most ``count`` images of a pool, in [0, 1], always the same ones.

    The first is the reference; the second shows what values real images have.
    """
    count = min(count, len(pool) // 2)
    rows = np.random.RandomState(0).permutation(len(pool))[: 2 * count]
    images = pool[rows] / np.float64(scale)
    return images[:count], images[count:]


def _distances(a_ND: np.ndarray, b_MD: np.ndarray) -> np.ndarray:
    """Compute the Euclidean distances [N, M] of all pairs."""
    from sklearn.metrics.pairwise import euclidean_distances

    return euclidean_distances(a_ND, b_MD)


def _mean_distance(distances_NN: np.ndarray) -> float:
    """Return the mean distance between two different rows."""
    count = len(distances_NN)
    return float(distances_NN.sum() / (count * (count - 1)))


BLOCK_ROWS = 1000  # images at a time
CHUNK_NUMBERS = 2**22  # values of the pool at a time, 32 MB as float64


def nearest_neighbors(
    images: np.ndarray, pool: np.ndarray, scale: float, count: int = 1, chunk_rows: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``count`` nearest images of a pool for each image; of images equally near up to rounding, any.

    Parameters
    ----------
    images : ndarray of float, shape [N, ...]
        In [0, 1]; at least one.
    pool : ndarray of uint8 or float32, shape [M, ...]
        As stored, 0 to ``scale``; it is read in chunks.
    scale : float
        The pool's value of full intensity.
    count : int
        At most M.
    chunk_rows : int, optional
        Images of the pool in one chunk.

    Returns
    -------
    ndarray of int, shape [N, count]
        Rows of the pool, nearest first.
    ndarray of float64, shape [N, count]
        Their distances.
    """
    flat_ND, pool_MD = images.reshape(len(images), -1), pool.reshape(len(pool), -1)
    blocks = [
        _nearest_in_chunks(flat_ND[start : start + BLOCK_ROWS].astype(np.float64), pool_MD, scale, count, chunk_rows)
        for start in range(0, len(flat_ND), BLOCK_ROWS)
    ]
    rows, distances = zip(*blocks, strict=True)
    return np.concatenate(rows), np.concatenate(distances)


def _nearest_in_chunks(
    a_ND: np.ndarray, pool_MD: np.ndarray, scale: float, count: int, chunk_rows: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest images for one block of images, reading the pool in chunks."""
    step = chunk_rows or max(1, CHUNK_NUMBERS // a_ND.shape[1])
    rows_NR: np.ndarray = np.zeros((len(a_ND), 0), np.int64)
    squares_NR: np.ndarray = np.zeros((len(a_ND), 0))
    for start in range(0, len(pool_MD), step):
        b_BD = pool_MD[start : start + step] / np.float64(scale)
        # |a - b|^2 without |a|^2, which is the same for all b.
        squares_NB = (b_BD * b_BD).sum(axis=1) - 2.0 * a_ND @ b_BD.T
        rows_NB = np.broadcast_to(np.arange(start, start + len(b_BD)), squares_NB.shape)
        squares_NR, rows_NR = np.hstack([squares_NR, squares_NB]), np.hstack([rows_NR, rows_NB])
        best = np.argsort(squares_NR, axis=1, kind="stable")[:, :count]
        squares_NR, rows_NR = (np.take_along_axis(values, best, axis=1) for values in (squares_NR, rows_NR))
    distances = np.stack(
        [_pixel_distances(a_D, pool_MD[rows_R], scale) for a_D, rows_R in zip(a_ND, rows_NR, strict=True)]
    )
    order = np.lexsort((rows_NR, distances), axis=1)
    return np.take_along_axis(rows_NR, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _pixel_distances(a_D: np.ndarray, b_RD: np.ndarray, scale: float) -> np.ndarray:
    """Compute distances from the pixel differences, so that they are exactly 0 for a copy."""
    distances: np.ndarray = np.sqrt(np.square(a_D - b_RD / np.float64(scale)).sum(axis=1))
    return distances
