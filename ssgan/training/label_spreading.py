"""Spread the labels of a few images to the whole pool over the graph of nearest neighbours.

A training may begin with these labels instead of the given ones. Labels are propagated from neighbour to neighbour, so
the label of an image may be right even if the image resembles no labelled one of its class.
The trials are in docs/notes/mnist.md.

Source: Zhou et al., *Learning with Local and Global Consistency*, 2004, whose ``alpha`` is 0.99.
"""

import warnings

import numpy as np

from ssgan.data.neighbors import FEATURE_NEIGHBORS, PIXEL_NEIGHBORS, NeighborKernel, fit_components, unit_rows
from ssgan.data.splits import Split

__all__ = ["LARGEST_GRAPH", "spread_labels"]

# A label travels at most as many links as there are steps, after which the probabilities still change a little.
ALPHA, STEPS, TOLERANCE = 0.99, 100, 1e-6
# Most images in the graph: the time of the neighbour search is quadratic in their number.
LARGEST_GRAPH = 60_000


def spread_labels(
    x_pool: np.ndarray, scale: float, split: Split, of_backbone: bool = False, even_classes: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the pool that the labels reach, and a label for each.

    The labelled images keep their labels. Neighbours are the nearest by principal components of the images, or by the
    angle between features of a backbone. Of a pool of more than :data:`LARGEST_GRAPH` images the labelled ones and a
    random subset of the others are used.

    Parameters
    ----------
    x_pool : ndarray, shape [N, ...]
        Images, features of a backbone [N, F], or features of several views of each image [N, V, F], of which the first
        is used.
    scale : float
        The value of full intensity of images.
    split : Split
        The labelled rows, and those held out, which are left out here too.
    of_backbone : bool
        Whether ``x_pool`` holds features of a backbone.
    even_classes : bool
        Whether the classes are known to be about balanced. The probability of a class for an image is then divided by
        the sum of these probabilities over all images. (Class mass normalization with equal masses: Zhu, Ghahramani and
        Lafferty, *Semi-supervised Learning Using Gaussian Fields and Harmonic Functions*, 2003, section 4.)

    Returns
    -------
    rows : ndarray of int64, shape [n]
        Ascending. No label reaches an image that is more than ``STEPS`` links away.
    y : ndarray of int64, shape [n]
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.semi_supervised import LabelSpreading

    random = np.random.RandomState(0)
    unlabeled = np.setdiff1d(np.arange(len(x_pool)), np.concatenate([split.held_out, split.indices]))
    room = max(0, LARGEST_GRAPH - len(split.indices))
    if len(unlabeled) > room:
        unlabeled = random.permutation(unlabeled)[:room]
    if not len(unlabeled):
        return split.indices, split.y
    rows = np.union1d(unlabeled, split.indices)
    if of_backbone:
        vectors = unit_rows(x_pool if x_pool.ndim == 2 else x_pool[:, 0], rows)
    else:
        vectors = fit_components(x_pool, scale, rows, random)[0](x_pool, rows)
    classes, given = np.unique(split.y, return_inverse=True)
    labeled = np.searchsorted(rows, split.indices)
    known = np.full(len(rows), -1)
    known[labeled] = given
    kernel = NeighborKernel(min(FEATURE_NEIGHBORS if of_backbone else PIXEL_NEIGHBORS, len(rows) - 1))
    # scikit-learn's tolerance is for the sum over all images.
    model = LabelSpreading(kernel=kernel, alpha=ALPHA, max_iter=STEPS, tol=TOLERANCE * len(rows))
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):  # 0 / 0 if no label reaches an image
        warnings.simplefilter("ignore", ConvergenceWarning)
        shares_NC = np.nan_to_num(model.fit(vectors, known).label_distributions_)
    reached = shares_NC.sum(axis=1) > 0
    if even_classes:
        shares_NC /= shares_NC.sum(axis=0)
    y = shares_NC.argmax(axis=1)
    y[labeled], reached[labeled] = given, True
    return rows[reached], classes[y[reached]]
