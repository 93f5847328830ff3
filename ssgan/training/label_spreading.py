"""Spread the labels of a few images to the whole pool over the graph of nearest neighbours.

The beginning of a training may learn from these labels in place of the given ones. An image then has the label of the
images that are connected with it by near neighbours, also where no labelled image of its class looks like it.

Source: Zhou et al., *Learning with Local and Global Consistency*, 2004, whose ``alpha`` is 0.99; the shares of the
classes are those of the given labels, by class mass normalization: Zhu, Ghahramani and Lafferty, *Semi-supervised
Learning Using Gaussian Fields and Harmonic Functions*, 2003, section 4. The trials are in docs/notes/mnist.md.
"""

import warnings

import numpy as np

from ssgan.data.components import fit_components, unit_rows
from ssgan.data.neighbor_kernel import NeighborKernel
from ssgan.data.splits import Split

__all__ = ["LARGEST_GRAPH", "spread_labels"]

ALPHA, STEPS, TOLERANCE = 0.99, 100, 1e-6
NEIGHBORS = {False: 7, True: 10}  # by whether images are features of a backbone, as for the baselines
# Images in the graph: the search for neighbours takes time with the square.
LARGEST_GRAPH = 60_000


def spread_labels(
    x_pool: np.ndarray, scale: float, split: Split, of_backbone: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the pool that the labels reach, and a label for each.

    The labelled images keep their labels. Neighbours are the nearest by principal components of the images, or by the
    angle between features of a backbone. Of a pool of more than :data:`LARGEST_GRAPH` images a random part is used,
    the same for every split.

    Parameters
    ----------
    x_pool : ndarray, shape [N, ...]
        With values from 0 to ``scale``, or features of a backbone [N, F], or of views of each image [N, V, F].
    scale : float
    split : Split
        The labelled rows, and those held out, which are left out here too.
    of_backbone : bool

    Returns
    -------
    rows : ndarray of int64, shape [n]
        Ascending.
    y : ndarray of int64, shape [n]
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.semi_supervised import LabelSpreading

    random = np.random.RandomState(0)
    rows = np.setdiff1d(np.arange(len(x_pool)), split.held_out)
    if len(rows) > LARGEST_GRAPH:
        rows = np.union1d(random.permutation(rows)[:LARGEST_GRAPH], split.indices)
    if of_backbone:
        vectors = unit_rows(x_pool if x_pool.ndim == 2 else x_pool[:, 0], rows)
    else:
        vectors = fit_components(x_pool, scale, rows, random)[0](x_pool, rows)
    classes, given = np.unique(split.y, return_inverse=True)
    labeled = np.searchsorted(rows, split.indices)
    known = np.full(len(rows), -1)
    known[labeled] = given
    count = min(NEIGHBORS[of_backbone], len(rows) - 1)
    # scikit-learn's tolerance is for the sum over all images.
    model = LabelSpreading(kernel=NeighborKernel(count), alpha=ALPHA, max_iter=STEPS, tol=TOLERANCE * len(rows))
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):  # 0 / 0 where no label reaches an image
        warnings.simplefilter("ignore", ConvergenceWarning)
        shares_NC = np.nan_to_num(model.fit(vectors, known).label_distributions_)
    reached = shares_NC.sum(axis=1) > 0
    prior_C = np.bincount(given) + 1.0
    y = (shares_NC * (prior_C / shares_NC.sum(axis=0))).argmax(axis=1)
    y[labeled], reached[labeled] = given, True
    return rows[reached], classes[y[reached]]
