"""The nearest images of a pool, by Euclidean distance between pixels in [0, 1]: arrays in, numbers out."""

import numpy as np

__all__ = ["nearest"]

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
    distances = np.stack([_distances(a_D, pool_MD[rows_R], scale) for a_D, rows_R in zip(a_ND, rows_NR, strict=True)])
    order = np.lexsort((rows_NR, distances), axis=1)
    return np.take_along_axis(rows_NR, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _distances(a_D: np.ndarray, b_RD: np.ndarray, scale: float) -> np.ndarray:
    """From the differences themselves: exactly 0 for a copy."""
    distances: np.ndarray = np.sqrt(np.square(a_D - b_RD / np.float64(scale)).sum(axis=1))
    return distances
