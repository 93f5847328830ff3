"""Images and labels from wherever they are, in one shape: :func:`load` -> :class:`Data`."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ssgan.errors import UserError, did_you_mean

__all__ = ["DATASETS", "Data", "load"]

UNLABELED = -1


@dataclass(frozen=True, eq=False)
class Data:
    """A training pool and a test share.

    Attributes
    ----------
    x_train, x_test : ndarray
        uint8 images [N, H, W] or [N, H, W, C], or float32 vectors [N, F].
    y_train, y_test : ndarray of int64, shape [N]
        Class indices; -1 in ``y_train`` means unlabelled.
    classes : tuple of str
        Name of each class.
    name : str
    scale : float
        The value that stands for full intensity: pixels / ``scale`` lie in [0, 1]. 0 stands for the
        usual one, 255 for uint8 and 1 for float32.

    Raises
    ------
    UserError
        Where the arrays do not fit together.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    name: str = "arrays"
    scale: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(str(c) for c in self.classes))
        for share in ("train", "test"):
            x, y = np.asarray(getattr(self, f"x_{share}")), np.asarray(getattr(self, f"y_{share}"))
            if not ((x.dtype == np.uint8 and x.ndim in (3, 4)) or (x.dtype == np.float32 and x.ndim == 2)):
                raise UserError(
                    f"x_{share} is {x.dtype} of shape {list(x.shape)}, but must be uint8 images [N, H, W] or "
                    f"[N, H, W, C], or float32 vectors [N, F]."
                )
            if x.dtype == np.float32 and not np.isfinite(x).all():
                raise UserError(f"x_{share} holds a value that is not finite: mend or leave out such rows.")
            if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
                raise UserError(
                    f"y_{share} is {y.dtype} of shape {list(y.shape)}, but must hold one integer for each of the "
                    f"{len(x)} rows of x_{share}."
                )
            object.__setattr__(self, f"x_{share}", np.require(x, requirements=["C", "W"]))
            object.__setattr__(self, f"y_{share}", y.astype(np.int64))
            lowest = UNLABELED if share == "train" else 0
            if y.size and not (lowest <= y.min() and y.max() < len(self.classes)):
                raise UserError(
                    f"y_{share} holds {y.min()} to {y.max()}, but with {len(self.classes)} classes it must lie in "
                    f"{lowest} to {len(self.classes) - 1}."
                )
        object.__setattr__(self, "scale", self.scale or (255.0 if self.x_train.dtype == np.uint8 else 1.0))
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise UserError(f"scale is {self.scale}, but must be the value of full intensity, above 0.")
        for share in ("train", "test"):
            x = getattr(self, f"x_{share}")
            if x.size and not (x.min() >= 0 and x.max() <= self.scale):
                raise UserError(
                    f"x_{share} holds values from {x.min():g} to {x.max():g}, but all must lie in 0 to {self.scale:g}, "
                    f"the value of full intensity: rescale them, or set scale."
                )
        if not len(self.x_train):
            raise UserError("x_train holds no image: at least one is needed to train on.")
        if self.x_train.shape[1:] != self.x_test.shape[1:] or self.x_train.dtype != self.x_test.dtype:
            raise UserError(
                f"x_train holds {self.x_train.dtype} {list(self.x_train.shape[1:])} and x_test {self.x_test.dtype} "
                f"{list(self.x_test.shape[1:])}, but both must have the same type and shape."
            )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image, without N."""
        return tuple(self.x_train.shape[1:])

    @cached_property
    def sha256(self) -> str:
        """Hash of every array, to name the data in a result."""
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def _digits(root: Path | None) -> Data:
    """Read the 1797 handwritten digits of 8x8 pixels that scikit-learn carries.

    The first 540 of a fixed order are the test share.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # RandomState's stream is frozen for ever, so the test share is the same under every numpy.
    order = np.random.RandomState(0).permutation(len(bunch.target))
    test, train = order[:540], order[540:]
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
    classes = tuple(str(name) for name in bunch.target_names)
    return Data(images[train], labels[train], images[test], labels[test], classes, name="digits", scale=16.0)


DATASETS: dict[str, Callable[[Path | None], Data]] = {"digits": _digits}


def load(name_or_path: str | Path, root: str | Path | None = None) -> Data:
    """Load a data set by name.

    Parameters
    ----------
    name_or_path : str or Path
        A name of ``DATASETS``.
    root : str or Path, optional
        Where downloaded sets lie.

    Raises
    ------
    UserError
        For a name that is not known.
    """
    reader = DATASETS.get(str(name_or_path))
    if reader is None:
        near = did_you_mean(str(name_or_path), DATASETS)
        raise UserError(f"Unknown data set {str(name_or_path)!r}: choose from {', '.join(DATASETS)}.{near}")
    return reader(None if root is None else Path(root))
