"""Hold and check the images and labels of one data set: :class:`Data`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ssgan.data.feature_map import FeatureMap
from ssgan.errors import UserError, counted, visible

__all__ = ["UNLABELED", "Data", "image_hashes", "image_ids"]


UNLABELED = -1
ID_DIGITS = 16
CLASSES_SHOWN = 10  # in a representation


@dataclass(frozen=True, eq=False)
class Data:
    """A training pool and a test share, checked when they are made.

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
        The value of full intensity: pixels / ``scale`` lie in [0, 1]. 0 stands for the default, 255 for
        uint8 and 1 for float32.
    files_train, files_test : tuple of str
        Name of the file of each row; empty where the images did not come from files.
    skipped : tuple of (str, str)
        Files that could not be read, each with the reason.
    file_counts : mapping of str to counts
        Counts of the files by kind: ``sizes`` and ``modes`` of the pictures, ``ignored`` files by suffix,
        ``skipped`` files by whether they were labelled, ``tested`` ones by whether they were held out. Not part
        of ``sha256``.
    image_depth : int or None
        Bits of full intensity of the grey files of 16 bits; None where there were none.
    notes : tuple of str
        Sentences for the user about how the files were read. Not part of ``sha256``.
    normal : (float, float) or None
        Mean and standard deviation of the normal distribution that the vectors were drawn from, if known. The
        vectors may then hold numbers of any size, with a scale of 1.
    feature_map : FeatureMap or None
        Of data whose vectors are features of pictures; they too may hold numbers of any size.
    pictures : Data or None
        The pictures of these features.
    views_train : ndarray of float32, shape [N, V, D], or None
        Features of views of the pool: the picture itself first, then the other weak ones, then the strong ones.

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
    files_train: tuple[str, ...] = ()
    files_test: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    file_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    image_depth: int | None = None
    notes: tuple[str, ...] = ()
    normal: tuple[float, float] | None = None
    feature_map: FeatureMap | None = None
    pictures: "Data | None" = None
    views_train: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(str(c) for c in self.classes))
        if str(UNLABELED) in self.classes:
            raise UserError(
                "A class is named '-1', but -1 means that there is no label: give those images the label -1, and no "
                "class."
            )
        for share in ("train", "test"):
            x, y = np.asarray(getattr(self, f"x_{share}")), np.asarray(getattr(self, f"y_{share}"))
            if not ((x.dtype == np.uint8 and x.ndim in (3, 4)) or (x.dtype == np.float32 and x.ndim == 2)):
                raise UserError(
                    f"x_{share} is {x.dtype} of shape {list(x.shape)}, but must be uint8 images [N, H, W] or "
                    f"[N, H, W, C], or float32 vectors [N, F]."
                )
            if 0 in x.shape[1:]:
                raise UserError(f"x_{share} is of shape {list(x.shape)}: its images hold no pixel.")
            if x.dtype == np.float32 and not np.isfinite(x).all():
                raise UserError(f"x_{share} holds a value that is not finite: mend or leave out such rows.")
            if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
                raise UserError(
                    f"y_{share} is {y.dtype} of shape {list(y.shape)}, but must hold one integer for each of the "
                    f"{counted(len(x), 'row')} of x_{share}."
                )
            files = getattr(self, f"files_{share}")
            if files and len(files) != len(x):
                raise UserError(
                    f"files_{share} names {counted(len(files), 'file')}, but must name one for each of the "
                    f"{counted(len(x), 'row')} of x_{share}, or none."
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
            if self.bounded and x.size and not (x.min() >= 0 and x.max() <= self.scale):
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

    def __repr__(self) -> str:
        """Say what the data hold, in one short line: numbers, shape and classes."""
        shape = "x".join(map(str, self.image_shape))
        classes = ", ".join(self.classes[:CLASSES_SHOWN]) + (", ..." if len(self.classes) > CLASSES_SHOWN else "")
        return (
            f"Data({self.name!r}: x_train {len(self.x_train):,} of {shape} {self.x_train.dtype}, "
            f"{int((self.y_train >= 0).sum()):,} labelled; x_test {len(self.x_test):,}; "
            f"{counted(len(self.classes), 'class')}: {visible(classes)})"
        )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image, without N."""
        return tuple(self.x_train.shape[1:])

    @property
    def bounded(self) -> bool:
        """Whether all values lie between 0 and full intensity."""
        return self.normal is None and self.feature_map is None

    @property
    def backbone_entries(self) -> dict[str, Any]:
        """What a result row says of the backbone; empty without one."""
        return {} if self.feature_map is None else self.feature_map.entries

    @property
    def source(self) -> "Data":
        """The pictures that features were computed from; other data themselves."""
        return self if self.pictures is None else self.pictures

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of every array, of features those of the pictures; it identifies the data in a result."""
        if self.pictures is not None:
            return self.pictures.sha256
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def image_hashes(x: np.ndarray) -> list[bytes]:
    """Hash the pixels of each image; two hashes are equal where the images are."""
    return [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in x]


def image_ids(x: np.ndarray) -> list[str]:
    """Return the first 64 bits of each image's hash as hexadecimal digits, as run folders keep them."""
    return [digest.hex()[:ID_DIGITS] for digest in image_hashes(x)]
