"""Select images to label from vectors and probabilities: typical ones of clusters, or uncertain ones.

No function takes a label, but only which images have one.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import eigsh

from ssgan.inference.confidence import GENERATED_LIMIT

__all__ = [
    "EMBEDDED_IMAGES",
    "Selection",
    "draw_random",
    "embed",
    "select_typical",
    "select_uncertain",
    "typicality",
    "uncertainty",
    "unique_rows",
]

Rows = Sequence[int] | np.ndarray
FeaturesOf = Callable[[np.ndarray], np.ndarray]

EMBEDDED_IMAGES = 20_000  # drawn from a larger pool, since the neighbour graph takes quadratic time
GRAPH_NEIGHBORS, DIMENSIONS = 10, 20
FEWEST_EMBEDDED = 5 * DIMENSIONS
MOST_CLUSTERS = 500
SMALL_CLUSTER = 5  # images; a smaller one is likely to hold outliers, and comes last
TYPICAL_NEIGHBORS = 20
MANY_CLUSTERS = 50  # largest number of clusters for which k-means starts several times
PREFILTER = 10  # PREFILTER * n most uncertain images are clustered


class Selection(NamedTuple):
    """Selected images, best first.

    Attributes
    ----------
    indices : ndarray of int64, shape [n]
    scores : ndarray of float64, shape [n]
        Higher is better; the meaning depends on the strategy.
    details : list of dict
        For each image: for a typical one ``size`` and ``labeled``, the number of images in its cluster and of those
        with a label; for an uncertain one ``margin`` and ``disagreement``.
    """

    indices: np.ndarray
    scores: np.ndarray
    details: list[dict[str, Any]]


def unique_rows(groups: Sequence[Hashable], labeled: Rows = ()) -> np.ndarray:
    """Return one row for each group of copies, ascending: a labelled one if there is one, else the first.

    Parameters
    ----------
    groups : sequence of hashable, length N
        Equal for copies of one image.
    labeled : sequence of int
        Rows that have a label.
    """
    rows: dict[Hashable, int] = {}
    for row in sorted(map(int, labeled)):
        rows.setdefault(groups[row], row)
    for row, group in enumerate(groups):
        rows.setdefault(group, row)
    return np.array(sorted(rows.values()), np.int64)


def embed(vectors_ND: np.ndarray, clusters: int = DIMENSIONS) -> np.ndarray:
    """Map vectors to a spectral embedding, rows of length 1, in which k-means finds purer clusters.

    They are the leading eigenvectors of the normalised graph of the ten nearest neighbours: as many as ``clusters``, at
    least 2 and at most 20 (Ng, Jordan and Weiss, On spectral clustering, 2001). Fewer than 100 vectors are returned
    unchanged.
    """
    from sklearn.neighbors import NearestNeighbors

    x = np.asarray(vectors_ND, np.float32).reshape(len(vectors_ND), -1)
    count = len(x)
    if count < FEWEST_EMBEDDED:
        return x.astype(np.float64)
    neighbors = (
        NearestNeighbors(n_neighbors=GRAPH_NEIGHBORS, algorithm="brute").fit(x).kneighbors(return_distance=False)
    )
    places = np.repeat(np.arange(count), GRAPH_NEIGHBORS), neighbors.ravel()
    graph = csr_matrix((np.ones(neighbors.size), places), shape=(count, count))
    graph = graph.maximum(graph.T)
    scale = diags(1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel()))
    start = np.random.RandomState(0).uniform(-1, 1, count)  # makes the result deterministic
    _, vectors = eigsh(scale @ graph @ scale, k=min(max(clusters, 2), DIMENSIONS), which="LA", v0=start, tol=1e-3)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    embedded: np.ndarray = vectors / np.maximum(lengths, 1e-12)
    return embedded


def typicality(x_ND: np.ndarray) -> np.ndarray:
    """Compute the inverse mean distance [N] of each vector of a cluster to its 20 nearest, or all others if fewer.

    Hacohen et al., Active learning on a budget, 2022 (arXiv 2202.02794), section 3.2. A single vector has 0.
    """
    from sklearn.neighbors import NearestNeighbors

    count = min(TYPICAL_NEIGHBORS, len(x_ND) - 1)
    if count < 1:
        return np.zeros(len(x_ND))
    distances, _ = NearestNeighbors(n_neighbors=count).fit(x_ND).kneighbors()
    typical: np.ndarray = 1 / np.maximum(distances.mean(axis=1), 1e-12)
    return typical


def select_typical(x_ND: np.ndarray, n: int, labeled: Rows = (), seed: int = 0) -> Selection:
    """Select the most typical image of each of the largest clusters without a labelled one, densest first.

    There are as many clusters of k-means as labelled images and n together, at most 500 (TypiClust, arXiv 2202.02794).
    If fewer than n have no labelled image, clusters with the fewest labelled or selected images give the others.
    Clusters of fewer than five images come last.

    Parameters
    ----------
    x_ND : ndarray, shape [N, D]
        Vectors as :func:`embed` returns them, of labelled images too.
    n : int
        At most the number of images without a label.
    labeled : sequence of int
    seed : int
        Seed of k-means.
    """
    count, has_label = len(x_ND), np.zeros(len(x_ND), bool)
    has_label[np.asarray(labeled, np.int64)] = True
    clusters = min(int(has_label.sum()) + n, MOST_CLUSTERS, count)
    starts = 1 if clusters > MANY_CLUSTERS else 4
    cluster_of = _cluster(x_ND, clusters, seed, starts)
    queues, sizes, covered, scores = {}, {}, {}, np.zeros(count)
    for k in np.unique(cluster_of).tolist():
        members = np.flatnonzero(cluster_of == k)
        scores[members] = typicality(x_ND[members])
        open_rows = members[~has_label[members]]
        queues[k] = open_rows[np.argsort(-scores[open_rows], kind="stable")].tolist()
        sizes[k], covered[k] = len(members), int(has_label[members].sum())
    taken = dict.fromkeys(queues, 0)
    picks: list[tuple[int, int]] = []
    while len(picks) < n:
        k = min(
            (k for k in queues if taken[k] < len(queues[k])),
            key=lambda k: (covered[k] + taken[k] + (sizes[k] < SMALL_CLUSTER) * count, -sizes[k], k),
        )
        picks.append((queues[k][taken[k]], k))
        taken[k] += 1
    rows = np.array([row for row, _ in picks], np.int64)
    order = np.argsort(-scores[rows], kind="stable")
    details = [{"size": sizes[k], "labeled": covered[k]} for _, k in picks]
    return Selection(rows[order], scores[rows[order]], [details[i] for i in order])


def uncertainty(p_SNK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute how uncertain S models are about N images.

    Returns
    -------
    margin : ndarray, shape [N]
        Difference of the two highest class probabilities, each a mean over the models; 1 if there is one class.
    disagreement : ndarray, shape [N]
        Mean over the models of the total variation distance between their probabilities and the mean; 0 for one model.
    """
    mean_NK = p_SNK.mean(axis=0)
    if mean_NK.shape[1] < 2:
        return np.ones(len(mean_NK)), np.zeros(len(mean_NK))
    best = np.sort(mean_NK, axis=1)[:, -2:]
    return best[:, 1] - best[:, 0], 0.5 * np.abs(p_SNK - mean_NK).sum(axis=2).mean(axis=0)


def select_uncertain(
    p_SNK: np.ndarray,
    features: np.ndarray | FeaturesOf,
    n: int,
    labeled: Rows = (),
    generated_N: np.ndarray | None = None,
    seed: int = 0,
) -> Selection:
    """Select diverse uncertain images: the most uncertain of each of n clusters of the ``10 n`` most uncertain.

    The score is ``1 - margin + disagreement``, and the clusters are those of k-means with scores as weights (Zhdanov,
    Diverse mini-batch active learning, 2019, arXiv 1901.05954).

    Parameters
    ----------
    p_SNK : ndarray, shape [S, N, K]
        Class probabilities of each model.
    features : ndarray, shape [N, D], or callable
        A callable returns the features of the given rows, which are few.
    n : int
        At most the number of images without a label.
    labeled : sequence of int
    generated_N : ndarray, shape [N], optional
        Probability that an image is of none of the classes. Those above 0.5 are selected only if others do not suffice,
        the lowest first.
    seed : int
        Seed of k-means.
    """
    margin_N, disagreement_N = uncertainty(p_SNK)
    score_N = 1 - margin_N + disagreement_N
    rows = np.setdiff1d(np.arange(len(score_N)), np.asarray(labeled, np.int64))
    spare = rows[:0]
    if generated_N is not None:
        unlike = generated_N[rows] > GENERATED_LIMIT
        spare = rows[unlike][np.argsort(generated_N[rows[unlike]], kind="stable")]
        rows = rows[~unlike]
    rows = rows[np.argsort(-score_N[rows], kind="stable")][: PREFILTER * n]
    picks = rows if len(rows) <= n else _one_of_each_cluster(rows, features, score_N, n, seed)
    rest = np.concatenate([np.setdiff1d(rows, picks, assume_unique=True), spare])
    picks = np.concatenate([picks, rest[: n - len(picks)]]).astype(np.int64)
    picks = picks[np.argsort(-score_N[picks], kind="stable")]
    details = [{"margin": float(margin_N[i]), "disagreement": float(disagreement_N[i])} for i in picks]
    return Selection(picks, score_N[picks], details)


def _one_of_each_cluster(
    rows: np.ndarray, features: np.ndarray | FeaturesOf, score_N: np.ndarray, n: int, seed: int
) -> np.ndarray:
    """Return the row with the highest score of each cluster; ``rows`` are sorted by score."""
    vectors = features(rows) if callable(features) else features[rows]
    x = np.asarray(vectors, np.float64).reshape(len(rows), -1)
    x = x / max(float(np.linalg.norm(x - x.mean(axis=0), axis=1).mean()), 1e-12)
    cluster_of = _cluster(x, n, seed, 4, score_N[rows] + 1e-6)
    _, first = np.unique(cluster_of, return_index=True)
    return rows[np.sort(first)]


def draw_random(count: int, n: int, labeled: Rows = (), seed: int = 0) -> Selection:
    """Draw n of the images without a label at random, with the score 0."""
    rows = np.setdiff1d(np.arange(count), np.asarray(labeled, np.int64))
    picks = np.random.RandomState(seed).permutation(rows)[:n]
    return Selection(picks, np.zeros(len(picks)), [{} for _ in picks])


def _cluster(x: np.ndarray, clusters: int, seed: int, starts: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Cluster vectors by k-means; there are fewer clusters than requested if there are fewer distinct vectors."""
    from sklearn.cluster import KMeans

    different = len(np.unique(x, axis=0)) if len(x) <= PREFILTER * clusters else clusters
    kmeans = KMeans(min(clusters, different), n_init=starts, max_iter=100, random_state=seed)
    labels: np.ndarray = kmeans.fit_predict(x, sample_weight=weights)
    return labels
