"""Standardise, reduce and smooth features without labels: :class:`FeatureMap`.

Features of the pool are standardised and projected on principal components. They may be normalised to length 1, and
then averaged with those of their nearest neighbours in the pool. The result is divided by one number, so that its
overall standard deviation is 1. The map is kept with the models that learned from its output.

Source of the averaging: it is one step of feature propagation over a graph of nearest neighbours, as in Wu et al.,
*Simplifying Graph Convolutional Networks*, 2019.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ssgan.errors import UserError, counted
from ssgan.schemas import Field, Schema, each, find_fault, is_flag, is_text, number, or_null, whole

__all__ = ["FeatureMap", "fit_feature_map", "most_neighbors"]

FITTED_ROWS = 40_000  # 200 MB of 1,280 features in float32
MEASURED_ROWS = 5_000  # for the standard deviation
NEIGHBOR_ROWS = 60_000  # among which neighbours are searched: the time grows with the square of their number
BLOCK_ROWS = 256
SAME = 1e-5  # squared distance of unit vectors below which two pictures count as copies; float16 rounds
_TENSOR = Field(lambda value: True, "a tensor")
SCHEMA: Schema = {
    "backbone": Field(is_text, "a name"),
    "weights_sha256": Field(is_text, "a hash"),
    "image_size": Field(or_null(whole(1, 4096)), "a size or null"),
    "picture_shape": Field(each(whole(1), 2, 3), "a list of 2 or 3 sizes"),
    "picture_scale": Field(number(0, above=True), "a number above 0"),
    "deviation": Field(number(0, above=True), "a number above 0"),
    "unit_length": Field(is_flag, "true or false"),
    "neighbors": Field(whole(0, 1000), "a number of neighbours"),
    "weight": _TENSOR,
    "offset": _TENSOR,
    "pool": _TENSOR,
}
_TENSOR_TYPES = {"weight": "float32", "offset": "float32", "pool": "float16"}


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """The map from features of a backbone to what the networks learn from.

    Attributes
    ----------
    backbone : str
    weights_sha256 : str
        Hash of the backbone's weights.
    image_size : int or None
        Side of the backbone's square input in pixels; None for its default.
    picture_shape : tuple of int
        Shape of one picture.
    picture_scale : float
        The stored value of full intensity of the pictures.
    weight : ndarray of float32, shape [F, D]
    offset : ndarray of float32, shape [D]
        The components of features f are ``f W + b``.
    deviation : float
        Overall standard deviation, by which the components are divided at the end.
    unit_length : bool
        Whether the components of each picture are first divided by their length.
    neighbors : int
        Number of nearest neighbours in the pool with which a picture is averaged.
    pool : ndarray of float16, shape [N, D]
        The components of the pool, or of a random subset of a large one, if there are neighbours; else [0, D].
    """

    backbone: str
    weights_sha256: str
    image_size: int | None
    picture_shape: tuple[int, ...]
    picture_scale: float
    weight: np.ndarray
    offset: np.ndarray
    deviation: float
    unit_length: bool
    neighbors: int
    pool: np.ndarray

    @property
    def width(self) -> int:
        """F, the number of features of the backbone."""
        return len(self.weight)

    @property
    def entries(self) -> dict[str, Any]:
        """What a result row says about the features: the backbone, how they were reduced, and its weights."""
        size = "" if self.image_size is None else f" at {self.image_size} px"
        length = " of unit length" if self.unit_length else ""
        smoothed = f", {counted(self.neighbors, 'neighbour')}" if self.neighbors else ""
        return {
            "backbone": f"{self.backbone}{size}, {self.weight.shape[1]} components{length}{smoothed}",
            "backbone_sha256": self.weights_sha256,
        }

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Map features [N, F] to float32 [N, D]; each row depends on its own features only.

        Rows are computed in blocks of one size in float64 and then rounded, so that a row is bit-for-bit identical
        alone and among others.
        """
        result = np.empty((len(features), self.weight.shape[1]), np.float32)
        for start in range(0, len(features), BLOCK_ROWS):
            rows = features[start : start + BLOCK_ROWS]
            z = self.components(rows)
            if self.neighbors:
                z = self._smoothed(z)
            result[start : start + BLOCK_ROWS] = (z / self.deviation)[: len(rows)]
        return result

    def components(self, features: np.ndarray) -> np.ndarray:
        """Compute the components, float64 [256, D], of at most 256 rows of features, padded with rows of zeros."""
        block = np.zeros((BLOCK_ROWS, self.width))
        block[: len(features)] = features
        z = block @ self.weight.astype(np.float64) + self.offset
        return _unit(z) if self.unit_length else z

    @cached_property
    def _search(self) -> "_NeighborSearch":
        """The nearest-neighbour index of the pool, which finds more rows than needed because copies are skipped."""
        return _NeighborSearch(self.pool, 2 * self.neighbors + 1)

    def _smoothed(self, z: np.ndarray) -> np.ndarray:
        """Average components [256, D] with those of the nearest pictures of the pool, copies left out."""
        nearest, distances = self._search.find(z)
        smoothed = np.empty_like(z)
        for i in range(len(z)):
            others = nearest[i][distances[i] > SAME][: self.neighbors]
            # In the order of the pool, so that the order of summation is fixed.
            smoothed[i] = np.vstack([z[i : i + 1], self.pool[np.sort(others)].astype(np.float64)]).mean(axis=0)
        return smoothed

    def state(self) -> dict[str, Any]:
        """Return the map as tensors and plain types, as a checkpoint holds it."""
        import torch

        arrays = {name: torch.from_numpy(getattr(self, name).copy()) for name in ("weight", "offset", "pool")}
        return {
            "backbone": self.backbone,
            "weights_sha256": self.weights_sha256,
            "image_size": self.image_size,
            "picture_shape": list(self.picture_shape),
            "picture_scale": self.picture_scale,
            "deviation": self.deviation,
            "unit_length": self.unit_length,
            "neighbors": self.neighbors,
            **arrays,
        }

    @classmethod
    def from_state(cls, state: Any) -> "FeatureMap":
        """Create a map from the output of :meth:`state`.

        Raises
        ------
        UserError
            If something is missing or of another type or shape.
        """
        import torch

        if (fault := find_fault(state, SCHEMA)) is not None:
            raise UserError(f"The checkpoint holds no map of features that can be used: it {fault}.")
        for name, dtype in _TENSOR_TYPES.items():
            tensor = state[name]
            dense = isinstance(tensor, torch.Tensor) and not (tensor.is_nested or tensor.is_meta)
            if not (dense and tensor.layout == torch.strided and tensor.dtype == getattr(torch, dtype)):
                raise UserError(
                    f"The checkpoint holds a map of features whose {name} is not a dense tensor of {dtype}."
                )
            if not tensor.isfinite().all():
                raise UserError(
                    f"The checkpoint holds a map of features whose {name} holds numbers that are not finite."
                )
        arrays = {name: state[name].detach().cpu().numpy() for name in _TENSOR_TYPES}
        plain = {name: state[name] for name in SCHEMA if name not in arrays}
        feature_map = cls(**{**plain, "picture_shape": tuple(plain["picture_shape"])}, **arrays)
        weight, pool = feature_map.weight, feature_map.pool
        shapes = weight.ndim == 2 and weight.size and feature_map.offset.shape == weight.shape[1:]
        if not (shapes and pool.ndim == 2 and pool.shape[1] == weight.shape[1]):
            raise UserError("The checkpoint holds a map of features of the wrong form.")
        if feature_map.neighbors > max(0, len(pool) - 1):
            raise UserError("The checkpoint holds a map of features with more neighbours than pictures.")
        return feature_map

    def is_close(self, other: "FeatureMap") -> bool:
        """Return whether another map has the same backbone and the same values up to rounding."""
        mine, others = (
            (m.backbone, m.weights_sha256, m.image_size, m.picture_shape, m.picture_scale, m.unit_length, m.neighbors)
            for m in (self, other)
        )
        return mine == others and all(
            a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-3)
            for a, b in (
                (self.weight, other.weight),
                (self.offset, other.offset),
                (self.pool, other.pool),
                (np.array(self.deviation), np.array(other.deviation)),
            )
        )


def fit_feature_map(
    features: np.ndarray, components: int, unit_length: bool = False, neighbors: int = 0, **identity: Any
) -> FeatureMap:
    """Fit a map to the features of a pool.

    Parameters
    ----------
    features : ndarray, shape [N, F]
        No labels are used. Of more than 40,000 rows a fixed random subset is used, and neighbours
        are searched in a fixed random subset of at most 60,000.
    components : int
        D; 0: no reduction. At most F and N - 1 are kept.
    unit_length : bool
    neighbors : int
        At most a tenth of N are used: with more, all pictures of a small pool would become alike.
    **identity
        The other attributes of :class:`FeatureMap`.
    """
    weight, offset = _principal_components(
        np.asarray(features[_part(len(features), FITTED_ROWS)], np.float32), components
    )
    D = weight.shape[1]
    fitted = FeatureMap(
        **identity,
        weight=weight.astype(np.float32),
        offset=offset.astype(np.float32),
        deviation=1.0,
        unit_length=unit_length,
        neighbors=0,
        pool=np.zeros((0, D), np.float16),
    )
    if neighbors:
        rows = np.arange(len(features))[_part(len(features), NEIGHBOR_ROWS)]
        blocks = [fitted.components(features[rows[i : i + BLOCK_ROWS]]) for i in range(0, len(rows), BLOCK_ROWS)]
        pool = np.concatenate(blocks)[: len(rows)].astype(np.float16)
        fitted = replace(fitted, pool=pool, neighbors=min(neighbors, most_neighbors(len(pool))))
    mapped = fitted.apply(features[_part(len(features), MEASURED_ROWS)])
    deviation = float(np.sqrt(mapped.var(axis=0, ddof=1, dtype=np.float64).mean()))
    # It is 0 or NaN if all pictures are equal.
    return replace(fitted, deviation=deviation) if np.isfinite(deviation) and deviation > 0 else fitted


class _NeighborSearch:
    """Find the rows of a pool that are nearest by angle.

    Candidates are found in float32, and sorted by their distances in float64, so that rounding does not affect the
    order.

    Parameters
    ----------
    pool : ndarray, shape [N, D]
    count : int
        Number of rows to find; at most N.
    """

    def __init__(self, pool: np.ndarray, count: int) -> None:
        import torch

        self.unit = _unit(pool.astype(np.float64))
        self.count = min(count, len(pool))
        self.table = torch.from_numpy(self.unit.astype(np.float32).T.copy())

    def find(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest rows of the pool for rows z [n, D], int [n, count], and their squared distances."""
        import torch

        unit = _unit(z)
        cosines = torch.from_numpy(unit.astype(np.float32)) @ self.table
        candidates = cosines.topk(self.count, dim=1).indices.numpy()
        distances = 2 - 2 * np.einsum("nd,ncd->nc", unit, self.unit[candidates])
        order = np.lexsort((candidates, distances), axis=1)
        return np.take_along_axis(candidates, order, 1), np.take_along_axis(distances, order, 1)


def most_neighbors(pool_size: int) -> int:
    """Return the largest number of neighbours that a pool of this size is averaged over."""
    return min(pool_size, NEIGHBOR_ROWS) // 10


def _part(count: int, most: int) -> slice | np.ndarray:
    """Return the rows of a fixed random subset of a large array, ascending."""
    # The stream of RandomState never changes.
    return slice(None) if count <= most else np.sort(np.random.RandomState(0).permutation(count)[:most])


def _principal_components(features: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Return W [F, D] and b [D] of standardised features [N, F] projected on principal components."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    weight, offset = np.diag(1 / scaler.scale_), -scaler.mean_ / scaler.scale_
    kept = min(components, features.shape[1], len(features) - 1)
    if kept <= 0:
        return weight, offset
    with np.errstate(invalid="ignore"):  # the explained variance ratio, not used, of equal pictures
        pca = PCA(kept, svd_solver="covariance_eigh").fit(scaler.transform(features))
    return weight @ pca.components_.T, (offset - pca.mean_) @ pca.components_.T


def _unit(z: np.ndarray) -> np.ndarray:
    """Normalise each row to length 1; a row of zeros is unchanged."""
    lengths = np.linalg.norm(z, axis=1, keepdims=True)
    return z / np.where(lengths > 0, lengths, 1)
