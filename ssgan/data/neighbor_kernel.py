"""Build the graph of nearest neighbours that the graph methods of scikit-learn take as a kernel."""

import hashlib
from typing import Any

import numpy as np

__all__ = ["FEATURE_NEIGHBORS", "PIXEL_NEIGHBORS", "NeighborKernel", "forget_neighbors"]

# By principal components of pixels; by features of a backbone, whose trials are in docs/notes/features.md.
PIXEL_NEIGHBORS, FEATURE_NEIGHBORS = 7, 10
KEPT = 4
_nearest: dict[tuple[bytes, bytes, int], np.ndarray] = {}


class NeighborKernel:
    """The symmetric graph of nearest neighbours: two rows are linked if one is among the nearest of the other.

    scikit-learn's own kernel ``"knn"`` is not symmetric, and is computed again for every draw of labels. Neighbours of
    the last few arrays are cached here.

    Parameters
    ----------
    count : int
        Number of neighbours of each row, itself excluded.

    Source: von Luxburg, *A Tutorial on Spectral Clustering*, 2007, section 2.2.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, x: np.ndarray, other: np.ndarray) -> Any:
        """Return the adjacency [N, M] of the rows of x [N, F] and of another array [M, F], as a sparse matrix."""
        from scipy import sparse

        nearest = _find_nearest(x, other, min(self.count, len(x) - 1))
        rows = np.repeat(np.arange(len(other)), nearest.shape[1])
        links = sparse.csr_matrix((np.ones(nearest.size), (rows, nearest.ravel())), shape=(len(other), len(x)))
        return links.maximum(links.T) if other is x else links.T.tocsr()


def forget_neighbors() -> None:
    """Clear the cached neighbours, so that the next search is computed again."""
    _nearest.clear()


def _find_nearest(x: np.ndarray, other: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of x that are nearest to each row of another array, int [M, count]."""
    from sklearn.neighbors import NearestNeighbors

    key = (_digest(x), _digest(other), count)
    if key not in _nearest:
        search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(x)
        # Without an argument, a row is not its own neighbour.
        nearest = search.kneighbors(return_distance=False) if other is x else search.kneighbors(other)[1]
        while len(_nearest) >= KEPT:
            del _nearest[next(iter(_nearest))]
        _nearest[key] = nearest
    return _nearest[key]


def _digest(array: np.ndarray) -> bytes:
    digest = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16)
    digest.update(f"{array.shape} {array.dtype}".encode())
    return digest.digest()
