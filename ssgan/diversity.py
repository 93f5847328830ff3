"""Whether a generator has collapsed: how far its images spread, and how much of the real ones they cover.

Images are compared as they are, by Euclidean distance between pixels in [0, 1], so nothing has to be trained or
downloaded to compare them, and a shifted picture is another one.

Sources: of coverage and density Naeem et al., *Reliable Fidelity and Diversity Metrics for Generative Models*, 2020; of
recall Kynkäänniemi et al., *Improved Precision and Recall Metric for Assessing Generative Models*, 2019.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["IMAGES", "Diversity", "diversity", "halves", "measured"]

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


def measured(
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
