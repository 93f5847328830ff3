"""Numbers from predictions: arrays in, numbers out. S seeds, N rows, K classes.

Whether a generator has collapsed: how far its images spread, and how much of the real ones they cover.

Images are compared as they are, by Euclidean distance between pixels in [0, 1], so nothing has to be trained or
downloaded to compare them, and a shifted picture is another one.

Sources: of coverage and density Naeem et al., *Reliable Fidelity and Diversity Metrics for Generative Models*, 2020; of
recall Kynkäänniemi et al., *Improved Precision and Recall Metric for Assessing Generative Models*, 2019.

The nearest images of a pool, by Euclidean distance between pixels in [0, 1]: arrays in, numbers out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "IMAGES",
    "Diversity",
    "best_temperature",
    "binomial_interval",
    "confusion",
    "distance_to_normal",
    "diversity",
    "error_percent",
    "expected_calibration_error",
    "generated_probability",
    "halves",
    "measure_diversity",
    "nearest",
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


NEIGHBOURS = 5
# Of each kind: the distances of so many to each other take 8 MB.
IMAGES = 1000


class Diversity(NamedTuple):
    """What :func:`diversity` finds.

    Attributes
    ----------
    spread : float
        Mean distance between two different generated images, as a multiple of that between two real ones: 0 where
        all are the same, 1 where they differ as much as real ones. Noise has a spread too: see the next.
    coverage : float
        Share of the real images that have a generated one at least as near as their fifth nearest real one, 0 to 1.
        0 where they are like no real one; the share of modes that are met, where there are modes. As many other real
        images come to 1 - 2^-5, about 0.97. The mean of all images alone can cover many: see the next.
    recall : float
        The same the other way round: share of the real images that lie as near to a generated one as its own fifth
        nearest generated one. 0 where all images are the same; noise can have much.
    density : float
        How many of such surroundings a generated image lies in, on the average, divided by five: 0 for noise, about 1
        for real images, more where the generated ones keep to where real ones are densest.
    collapse : float
        The score: 1 less the smaller one of coverage and recall. 1 where all images are the same or like no real one,
        1/2 where half of the modes are met; real images come to 0.05 to 0.15, which a report shows beside it.
    """

    spread: float
    coverage: float
    recall: float
    density: float
    collapse: float


_UNKNOWN: dict[str, Any] = dict.fromkeys(Diversity._fields)


def diversity(generated: np.ndarray, real: np.ndarray, neighbours: int = NEIGHBOURS) -> Diversity:
    """Compare generated images with real ones.

    Parameters
    ----------
    generated : ndarray of float, shape [N, ...]
        In [0, 1]; more than ``neighbours``. Coverage grows with N: compare numbers of one N, best N = M.
    real : ndarray of float, shape [M, ...]
        In [0, 1].
    neighbours : int
        k, less than M.

    Raises
    ------
    ValueError
        Where there are too few images.
    """
    generated_ND, real_MD = (x.reshape(len(x), -1).astype(np.float64) for x in (generated, real))
    if min(len(generated_ND), len(real_MD)) <= neighbours:
        raise ValueError(f"{len(generated_ND)} generated and {len(real_MD)} real images are too few to compare")
    among_MM = _distances(real_MD, real_MD)
    # The nearest to each is itself.
    radius_M = np.partition(among_MM, neighbours, axis=1)[:, neighbours]
    among_NN, apart_MN = _distances(generated_ND, generated_ND), _distances(real_MD, generated_ND)
    own_N = np.partition(among_NN, neighbours, axis=1)[:, neighbours]
    inside_MN = apart_MN <= radius_M[:, None]
    coverage, recall = (float(near_MN.any(axis=1).mean()) for near_MN in (inside_MN, apart_MN <= own_N[None, :]))
    return Diversity(
        spread=_mean_distance(among_NN) / _mean_distance(among_MM),
        coverage=coverage,
        recall=recall,
        density=float(inside_MN.sum(axis=0).mean() / neighbours),
        collapse=1.0 - min(coverage, recall),
    )


def measure_diversity(
    generators: Sequence[Callable[[int], np.ndarray]], pool: np.ndarray, scale: float
) -> dict[str, Any] | None:
    """What each of some generators comes to, and what as many real images of the pool come to in their place.

    Parameters
    ----------
    generators : sequence of callable
        Each gives so many images in [0, 1], which need not be finite.
    pool : ndarray, shape [N, ...]
        As stored, 0 to ``scale``.
    scale : float

    Returns
    -------
    dict or None
        ``images``, how many there were of each kind; ``real``, and in ``models`` one for each generator, the fields of
        :class:`Diversity`, which are None where an image is not finite; and the means of those that are not None. None
        for a pool that is too small.
    """
    real, others = halves(pool, scale)
    if len(real) <= NEIGHBOURS:
        return None
    each = []
    for generate in generators:
        images = generate(len(real))
        each.append(diversity(images, real)._asdict() if np.isfinite(images).all() else _UNKNOWN)
    fine = [one for one in each if one is not _UNKNOWN]
    means = {name: float(np.mean([one[name] for one in fine])) if fine else None for name in Diversity._fields}
    return {"images": len(real), **means, "real": diversity(others, real)._asdict(), "models": each}


def halves(pool: np.ndarray, scale: float, count: int = IMAGES) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint sets of at most ``count`` images of a pool, in [0, 1], always the same ones.

    One to compare with, and one to see what as many real images come to.
    """
    count = min(count, len(pool) // 2)
    rows = np.random.RandomState(0).permutation(len(pool))[: 2 * count]
    images = pool[rows] / np.float64(scale)
    return images[:count], images[count:]


def _distances(a_ND: np.ndarray, b_MD: np.ndarray) -> np.ndarray:
    from sklearn.metrics.pairwise import euclidean_distances

    return euclidean_distances(a_ND, b_MD)


def _mean_distance(distances_NN: np.ndarray) -> float:
    """Between two different rows."""
    count = len(distances_NN)
    return float(distances_NN.sum() / (count * (count - 1)))


BLOCK_ROWS = 1000  # of the images at once
CHUNK_NUMBERS = 2**22  # of a part of the pool in memory as float64: 32 MB


def nearest(
    images: np.ndarray, pool: np.ndarray, scale: float, count: int = 1, chunk_rows: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The ``count`` nearest images of a pool to each of some images; of equally near ones, the first.

    Parameters
    ----------
    images : ndarray of float, shape [N, ...]
        In [0, 1]; at least one.
    pool : ndarray of uint8 or float32, shape [M, ...]
        As stored, 0 to ``scale``; it is read in parts.
    scale : float
        The pool's value of full intensity.
    count : int
        At most M.
    chunk_rows : int, optional
        Images of the pool in one part; what is found does not depend on it.

    Returns
    -------
    ndarray of int, shape [N, count]
        Rows of the pool, nearest first.
    ndarray of float64, shape [N, count]
        Their distances.
    """
    flat_ND, pool_MD = images.reshape(len(images), -1), pool.reshape(len(pool), -1)
    parts = [
        _nearest(flat_ND[start : start + BLOCK_ROWS].astype(np.float64), pool_MD, scale, count, chunk_rows)
        for start in range(0, len(flat_ND), BLOCK_ROWS)
    ]
    rows, distances = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(distances)


def _nearest(
    a_ND: np.ndarray, pool_MD: np.ndarray, scale: float, count: int, chunk_rows: int | None
) -> tuple[np.ndarray, np.ndarray]:
    step = chunk_rows or max(1, CHUNK_NUMBERS // a_ND.shape[1])
    rows_NR: np.ndarray = np.zeros((len(a_ND), 0), np.int64)
    squares_NR: np.ndarray = np.zeros((len(a_ND), 0))
    for start in range(0, len(pool_MD), step):
        b_BD = pool_MD[start : start + step] / np.float64(scale)
        # |a - b|^2 less |a|^2, which is the same for all; in float64 what cancels does no harm to the order.
        squares_NB = (b_BD * b_BD).sum(axis=1) - 2.0 * a_ND @ b_BD.T
        found = np.broadcast_to(np.arange(start, start + len(b_BD)), squares_NB.shape)
        squares_NR, rows_NR = np.hstack([squares_NR, squares_NB]), np.hstack([rows_NR, found])
        best = np.argsort(squares_NR, axis=1, kind="stable")[:, :count]
        squares_NR, rows_NR = (np.take_along_axis(values, best, axis=1) for values in (squares_NR, rows_NR))
    distances = np.stack(
        [_pixel_distances(a_D, pool_MD[rows_R], scale) for a_D, rows_R in zip(a_ND, rows_NR, strict=True)]
    )
    order = np.lexsort((rows_NR, distances), axis=1)
    return np.take_along_axis(rows_NR, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _pixel_distances(a_D: np.ndarray, b_RD: np.ndarray, scale: float) -> np.ndarray:
    """From the differences themselves: exactly 0 for a copy."""
    distances: np.ndarray = np.sqrt(np.square(a_D - b_RD / np.float64(scale)).sum(axis=1))
    return distances
