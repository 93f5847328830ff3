"""Find nearest neighbours of images: the vectors to search in, and the graph that scikit-learn takes as a kernel."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = [
    "FEATURE_NEIGHBORS",
    "PIXEL_NEIGHBORS",
    "NeighborKernel",
    "fit_components",
    "forget_neighbors",
    "unit_rows",
]

# By principal components of pixels; by features of a backbone, whose trials are in docs/notes/features.md.
PIXEL_NEIGHBORS, FEATURE_NEIGHBORS = 7, 10
KEPT = 4
COMPONENTS = 50
PCA_PIXELS = 50_000_000  # 200 MB of float32: all of MNIST
CHUNK_PIXELS = 5_000_000
_nearest: dict[tuple[bytes, bytes, int, bool], np.ndarray] = {}


def fit_components(
    x_pool: np.ndarray, scale: float, seen: np.ndarray, random: np.random.RandomState
) -> tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], dict[str, Any]]:
    """Fit principal components to the pool; return ``project(x [N, ...], rows [n]) -> [n, F]`` and the settings."""
    from sklearn.decomposition import PCA

    pixels = int(np.prod(x_pool.shape[1:]))
    limit = max(PCA_PIXELS // pixels, COMPONENTS)
    pca_rows = seen if len(seen) <= limit else np.sort(random.permutation(seen)[:limit])
    components = min(COMPONENTS, pixels, len(pca_rows))
    pca = PCA(components, random_state=random.randint(2**31))
    with np.errstate(invalid="ignore"):  # if all images are equal, the explained variance ratio, not used, is NaN
        pca.fit(_to_vectors(x_pool, pca_rows, scale))

    def project(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        chunks = [pca.transform(_to_vectors(x, chunk, scale)) for chunk in _chunks(rows, pixels)]
        return np.concatenate([np.zeros((0, components)), *chunks])

    return project, {"components": components, "pca_rows": len(pca_rows)}


def unit_rows(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Divide each of some rows [n, F] of features by its length."""
    from sklearn.preprocessing import normalize

    unit: np.ndarray = normalize(x[rows]) if len(rows) else x[rows]
    return unit


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

    key = (_digest(x), _digest(other), count, other is x)  # a row of x is not its own neighbour
    if key not in _nearest:
        search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(x)
        nearest = search.kneighbors(return_distance=False) if other is x else search.kneighbors(other)[1]
        while len(_nearest) >= KEPT:
            del _nearest[next(iter(_nearest))]
        _nearest[key] = nearest
    return _nearest[key]


def _digest(array: np.ndarray) -> bytes:
    digest = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16)
    digest.update(f"{array.shape} {array.dtype}".encode())
    return digest.digest()


def _to_vectors(x: np.ndarray, rows: np.ndarray, scale: float) -> np.ndarray:
    """Convert rows of images to float32 vectors [n, pixels] in [0, 1]."""
    vectors = x[rows].reshape(len(rows), -1).astype(np.float32)
    vectors /= np.float32(scale)
    return vectors


def _chunks(rows: np.ndarray, pixels: int) -> Iterator[np.ndarray]:
    """Split rows into chunks of bounded memory."""
    size = max(1, CHUNK_PIXELS // pixels)
    return (rows[start : start + size] for start in range(0, len(rows), size))
