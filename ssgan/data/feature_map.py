"""Standardise and reduce features without labels: :class:`FeatureMap`.

Features of the pool are standardised, projected on principal components and divided by one number, so that their
overall deviation is 1. The map is affine and is kept with the models that learned from its output.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ssgan.errors import UserError
from ssgan.schemas import Field, Schema, each, find_fault, is_text, number, or_null, whole

__all__ = ["FeatureMap", "fit_feature_map"]

FITTED_ROWS = 40_000  # 200 MB of 1,280 features in float32
BLOCK_ROWS = 256
_TENSOR = Field(lambda value: True, "a tensor")
SCHEMA: Schema = {
    "backbone": Field(is_text, "a name"),
    "weights_sha256": Field(is_text, "a hash"),
    "image_size": Field(or_null(whole(1, 4096)), "a size or null"),
    "picture_shape": Field(each(whole(1), 2, 3), "a list of 2 or 3 sizes"),
    "picture_scale": Field(number(0, above=True), "a number above 0"),
    "weight": _TENSOR,
    "offset": _TENSOR,
}


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """An affine map ``z = f W + b`` from features of a backbone to what the networks learn from.

    Attributes
    ----------
    backbone : str
    weights_sha256 : str
        Of the backbone's weights.
    image_size : int or None
        Of the square that the backbone sees, in pixels; None for its own.
    picture_shape : tuple of int
        Shape of one picture.
    picture_scale : float
        The stored value of full intensity of the pictures.
    weight : ndarray of float32, shape [F, D]
    offset : ndarray of float32, shape [D]
    """

    backbone: str
    weights_sha256: str
    image_size: int | None
    picture_shape: tuple[int, ...]
    picture_scale: float
    weight: np.ndarray
    offset: np.ndarray

    @property
    def width(self) -> int:
        """F, the number of features of the backbone."""
        return len(self.weight)

    @property
    def entries(self) -> dict[str, Any]:
        """What a result row says of the features: the backbone with image size and D, and its weights."""
        size = "" if self.image_size is None else f" at {self.image_size} px"
        return {
            "backbone": f"{self.backbone}{size}, {self.weight.shape[1]} components",
            "backbone_sha256": self.weights_sha256,
        }

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Map features [N, F] to float32 [N, D]; each row depends on its own features alone.

        Rows are computed in blocks of one size in float64 and then rounded, so that a row has the same bits alone and
        among others.
        """
        result = np.empty((len(features), self.weight.shape[1]), np.float32)
        weight, offset = self.weight.astype(np.float64), self.offset.astype(np.float64)
        for start in range(0, len(features), BLOCK_ROWS):
            rows = np.asarray(features[start : start + BLOCK_ROWS])
            block = np.zeros((BLOCK_ROWS, self.width))
            block[: len(rows)] = rows
            result[start : start + BLOCK_ROWS] = (block @ weight + offset)[: len(rows)]
        return result

    def state(self) -> dict[str, Any]:
        """Return the map in tensors and plain types, as a checkpoint holds it."""
        import torch

        return {
            "backbone": self.backbone,
            "weights_sha256": self.weights_sha256,
            "image_size": self.image_size,
            "picture_shape": list(self.picture_shape),
            "picture_scale": self.picture_scale,
            "weight": torch.from_numpy(self.weight.copy()),
            "offset": torch.from_numpy(self.offset.copy()),
        }

    @classmethod
    def from_state(cls, state: Any) -> "FeatureMap":
        """Make a map from the output of :meth:`state`.

        Raises
        ------
        UserError
            Where something is missing or of another type or shape.
        """
        from torch import Tensor, float32, strided

        if (fault := find_fault(state, SCHEMA)) is not None:
            raise UserError(f"The checkpoint holds no map of features that can be used: it {fault}.")
        tensors = [state[name] for name in ("weight", "offset")]
        for tensor in tensors:
            dense = isinstance(tensor, Tensor) and not (tensor.is_nested or tensor.is_meta) and tensor.layout == strided
            if not (dense and tensor.dtype == float32 and tensor.isfinite().all()):
                raise UserError("The checkpoint holds a map of features that is no dense tensor of finite numbers.")
        weight, offset = (tensor.detach().cpu().numpy() for tensor in tensors)
        if weight.ndim != 2 or not weight.size or offset.shape != weight.shape[1:]:
            raise UserError("The checkpoint holds a map of features of the wrong form.")
        plain = {name: state[name] for name in SCHEMA if name not in ("weight", "offset")}
        return cls(**{**plain, "picture_shape": tuple(plain["picture_shape"])}, weight=weight, offset=offset)

    def is_close(self, other: "FeatureMap") -> bool:
        """Whether another map is of the same backbone and has the same numbers, rounding aside."""
        mine, others = (
            (m.backbone, m.weights_sha256, m.image_size, m.picture_shape, m.picture_scale, m.weight.shape)
            for m in (self, other)
        )
        return (
            mine == others
            and np.allclose(self.weight, other.weight, rtol=1e-3, atol=1e-4)
            and np.allclose(self.offset, other.offset, rtol=1e-3, atol=1e-3)
        )


def fit_feature_map(features: np.ndarray, components: int, **identity: Any) -> FeatureMap:
    """Fit a map to the features of a pool.

    Parameters
    ----------
    features : ndarray, shape [N, F]
        Without labels. Of more than 40,000 rows a random part is used, always the same.
    components : int
        D; 0: no reduction. At most F and N - 1 are kept.
    **identity
        The other attributes of :class:`FeatureMap`.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    rows: slice | np.ndarray = slice(None)
    if len(features) > FITTED_ROWS:
        # The stream of RandomState never changes.
        rows = np.sort(np.random.RandomState(0).permutation(len(features))[:FITTED_ROWS])
    fitted = np.asarray(features[rows], np.float32)
    scaler = StandardScaler().fit(fitted)
    weight, offset = np.diag(1 / scaler.scale_), -scaler.mean_ / scaler.scale_
    kept = min(components, fitted.shape[1], len(fitted) - 1)
    if kept > 0:
        standardised = scaler.transform(fitted)
        with np.errstate(invalid="ignore"):  # the share of variance of pictures that are all the same, not used
            pca = PCA(kept, svd_solver="covariance_eigh").fit(standardised)
        weight = weight @ pca.components_.T
        offset = (offset - pca.mean_) @ pca.components_.T
        deviation = float(np.sqrt(pca.explained_variance_.mean()))
    else:
        deviation = 1.0
    deviation = deviation or 1.0  # of pictures that are all the same
    return FeatureMap(
        **identity, weight=(weight / deviation).astype(np.float32), offset=(offset / deviation).astype(np.float32)
    )
