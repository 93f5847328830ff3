"""Project images to vectors for nearest neighbours: principal components, or features of unit length."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["fit_components", "unit_rows"]

COMPONENTS = 50
PCA_PIXELS = 50_000_000  # 200 MB of float32: all of MNIST
CHUNK_PIXELS = 5_000_000


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


def _to_vectors(x: np.ndarray, rows: np.ndarray, scale: float) -> np.ndarray:
    """Convert rows of images to float32 vectors [n, pixels] in [0, 1]."""
    vectors = x[rows].reshape(len(rows), -1).astype(np.float32)
    vectors /= np.float32(scale)
    return vectors


def _chunks(rows: np.ndarray, pixels: int) -> Iterator[np.ndarray]:
    """Split rows into chunks of bounded memory."""
    size = max(1, CHUNK_PIXELS // pixels)
    return (rows[start : start + size] for start in range(0, len(rows), size))
