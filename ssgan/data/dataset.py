"""Hold and check the images and labels of one data set: :class:`Data`."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from ssgan.data.arrays import (
    IMAGE_CHANNELS,
    class_indices,
    class_names,
    images_to_uint8,
    items_to_arrays,
    label_array,
    renumber,
    to_array,
)
from ssgan.data.feature_map import FeatureMap
from ssgan.errors import UserError, counted, visible

__all__ = ["UNLABELED", "Data", "as_data", "image_hashes", "image_ids"]


UNLABELED = -1
ID_DIGITS = 16
CLASSES_SHOWN = 10  # classes in a representation


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A training pool and a test set, checked on construction.

    Attributes
    ----------
    x_train, x_test : ndarray
        uint8 images [N, H, W] or [N, H, W, C], or float32 vectors [N, F]. Other float types become float32, and float
        images, 0 to ``scale`` (default 1), become uint8. Without ``x_test`` there is no test set.
    y_train, y_test : ndarray of int64, shape [N]
        Class indices; -1 in ``y_train`` means unlabelled. Strings become indices, with None or NaN (in arrays of
        objects) for unlabelled, and so do masked labels. None for ``y_train``: no image has a label.
    classes : tuple of str
        Name of each class; by default the words of the labels, or 0 to the highest number.
    name : str
    scale : float
        The value of full intensity: pixels / ``scale`` lie in [0, 1]. 0 stands for the default, 255 for
        uint8 and 1 for float32.
    files_train, files_test : tuple of str
        Name of the file of each row; empty if the images did not come from files.
    skipped : tuple of (str, str)
        Files that could not be read, each with the reason.
    file_counts : mapping of str to counts
        Counts of the files by kind: ``sizes`` and ``modes`` of the pictures, ``ignored`` files by suffix,
        ``skipped`` files by whether they were labelled, ``tested`` ones by whether they were held out. Not part
        of ``sha256``.
    image_depth : int or None
        Bits of full intensity of 16-bit grey files; None if there were none.
    notes : tuple of str
        Sentences for the user about how the files were read. Not part of ``sha256``.
    normal : (float, float) or None
        Mean and standard deviation of the normal distribution that the vectors were drawn from, if known. The vectors
        may then hold values of any size, with a scale of 1.
    feature_map : FeatureMap or None
        The map that made the vectors, if they are features of pictures; they too may hold values of any size.
    pictures : Data or None
        The pictures of these features.
    views_train : ndarray of float32, shape [N, V, D], or None
        Features of views of the pool: the picture itself first, then the other weak ones, then the strong ones.
    unbounded : bool
        Whether vectors may hold values of any size, for networks that take them.

    Raises
    ------
    UserError
        If the arrays are inconsistent.

    Examples
    --------
    >>> images = np.zeros((4, 8, 8), np.uint8)
    >>> data = Data(images, np.array(["cat", None, "dog", None], dtype=object))
    >>> data.classes, data.y_train.tolist()
    (('cat', 'dog'), [0, -1, 1, -1])
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray = None  # type: ignore[assignment]
    y_test: np.ndarray = None  # type: ignore[assignment]
    classes: tuple[str, ...] = None  # type: ignore[assignment]
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
    unbounded: bool = False

    def __post_init__(self) -> None:
        self._convert()
        object.__setattr__(self, "classes", tuple(str(c) for c in self.classes))
        if str(UNLABELED) in self.classes:
            raise UserError(
                "A class is named '-1', but -1 marks unlabelled images: give those images the label -1, and remove the "
                "class."
            )
        for share in ("train", "test"):
            x, y = np.asarray(getattr(self, f"x_{share}")), np.asarray(getattr(self, f"y_{share}"))
            if not ((x.dtype == np.uint8 and x.ndim in (3, 4)) or (x.dtype == np.float32 and x.ndim == 2)):
                raise UserError(
                    f"x_{share} is {x.dtype} of shape {list(x.shape)}, but must be uint8 images [N, H, W] or "
                    f"[N, H, W, C], or float32 vectors [N, F]."
                )
            if x.ndim == 4 and x.shape[1] in IMAGE_CHANNELS and x.shape[3] > max(IMAGE_CHANNELS):
                raise UserError(
                    f"x_{share} is of shape {list(x.shape)}, with the channels first: put them last, "
                    f"x.transpose(0, 2, 3, 1)."
                )
            if 0 in x.shape[1:]:
                raise UserError(f"x_{share} is of shape {list(x.shape)}: its images have no pixels.")
            if x.dtype == np.float32 and not np.isfinite(x).all():
                raise UserError(f"x_{share} holds a value that is not finite: fix or remove such rows.")
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
        if twice := [name for name, count in Counter(self.classes).items() if count > 1]:
            raise UserError(f"Two classes are called {twice[0]!r}: give each a name of its own.")
        if isinstance(self.scale, bool) or not isinstance(self.scale, Real | None):
            raise UserError(f"scale is {self.scale!r}, but must be a finite number above 0.")
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
        """Summarise the data in one short line: numbers, shape and classes."""
        shape = "x".join(map(str, self.image_shape))
        classes = ", ".join(self.classes[:CLASSES_SHOWN]) + (", ..." if len(self.classes) > CLASSES_SHOWN else "")
        return (
            f"Data({self.name!r}: x_train {len(self.x_train):,} of {shape} {self.x_train.dtype}, "
            f"{int((self.y_train >= 0).sum()):,} labelled; x_test {len(self.x_test):,}; "
            f"{counted(len(self.classes), 'class')}: {visible(classes)})"
        )

    def _convert(self) -> None:
        """Fill in what was omitted, and convert arrays to the types that training takes if that is safe."""
        object.__setattr__(self, "x_train", to_array(self.x_train, "x_train"))
        if self.y_train is None:
            object.__setattr__(self, "y_train", np.full(self.x_train.shape[:1], UNLABELED))
        if self.x_test is None:
            object.__setattr__(self, "x_test", self.x_train[:0] if self.x_train.ndim else self.x_train)
        object.__setattr__(self, "x_test", to_array(self.x_test, "x_test"))
        if self.y_test is None:
            object.__setattr__(self, "y_test", label_array(self.y_train)[:0])
        if self.classes is None:
            object.__setattr__(self, "classes", class_names(self.y_train, self.y_test))
        names = tuple(map(str, self.classes))
        for share in ("train", "test"):
            y = class_indices(getattr(self, f"y_{share}"), names, f"y_{share}")
            object.__setattr__(self, f"y_{share}", y)
        arrays = {"x_train": self.x_train, "x_test": self.x_test}
        if {x.dtype.kind for x in arrays.values() if x.ndim > 2} == {"u", "f"}:
            types = " and ".join(f"{name} is {x.dtype}" for name, x in arrays.items())
            raise UserError(f"{types}, but both must have one type: convert one of them.")
        if all(x.dtype.kind == "f" for x in arrays.values()):
            images = all(x.ndim in (3, 4) for x in arrays.values())
            for name, x in arrays.items():
                if images:
                    object.__setattr__(self, name, images_to_uint8(x, self.scale or 1.0, name))
                elif x.ndim == 2:
                    with np.errstate(over="ignore"):  # found below, as not finite
                        object.__setattr__(self, name, x.astype(np.float32, copy=False))
            if images:
                object.__setattr__(self, "scale", 255.0)

    @classmethod
    def from_dataset(cls, dataset: Any, test: Any = None, name: str = "arrays") -> "Data":
        """Read torch data sets whose items are (image, label); -1 or None for a label means unlabelled.

        Parameters
        ----------
        dataset, test : Dataset
            The pool, and the test set if there is one. Images are Pillow images, arrays or tensors, all of one
            shape; floats lie in 0 to 1. If both have ``classes``, the numbers in ``test`` are those of its own.
        name : str

        Raises
        ------
        UserError
            If items have another form, or are inconsistent, or ``test`` names a class that ``dataset`` lacks.
        """
        x, y, classes = items_to_arrays(dataset)
        if test is None:
            return cls(x, y, None, None, classes, name=name)  # type: ignore[arg-type]
        x_test, y_test, test_classes = items_to_arrays(test)
        if classes is not None and test_classes is not None and classes != test_classes:
            y_test = renumber(y_test, test_classes, classes)
        return cls(x, y, x_test, y_test, classes, name=name)  # type: ignore[arg-type]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image, without N."""
        return tuple(self.x_train.shape[1:])

    @property
    def bounded(self) -> bool:
        """Whether all values lie between 0 and full intensity."""
        return self.normal is None and self.feature_map is None and not self.unbounded

    @property
    def backbone_entries(self) -> dict[str, Any]:
        """What a result row says about the backbone; empty without one."""
        return {} if self.feature_map is None else self.feature_map.entries

    @property
    def source(self) -> "Data":
        """The pictures that features were computed from; for other data, the data themselves."""
        return self if self.pictures is None else self.pictures

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all arrays (for features, those of the pictures), which identifies the data in a result."""
        if self.pictures is not None:
            return self.pictures.sha256
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def as_data(data: Any, test: Any = None) -> Data:
    """Return Data, a pair (images, labels) or a torch ``Dataset`` as :class:`Data`, with a test set of the same form.

    Raises
    ------
    UserError
        If they have another form.
    """
    if isinstance(data, Data):
        if test is not None:
            raise UserError("test is for arrays and data sets of torch, but Data has its own test set.")
        return data
    is_pair = isinstance(data, tuple | list) and len(data) == 2
    if is_pair:
        if test is not None and not (isinstance(test, tuple | list) and len(test) == 2):
            raise UserError("test must be a pair (images, labels), as data is.")
        return Data(data[0], data[1], *((None, None) if test is None else test))
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, np.ndarray | Mapping):
        if isinstance(test, tuple):
            raise UserError("test must be a torch Dataset whose items are (image, label), as data is.")
        return Data.from_dataset(data, test)
    raise UserError(
        f"data is of type {type(data).__name__}, but must be a name, a path, Data, a pair (images, labels), or a torch "
        f"Dataset with a length whose items are (image, label)."
    )


def image_hashes(x: np.ndarray) -> list[bytes]:
    """Hash the pixels of each image; equal images have equal hashes."""
    return [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in x]


def image_ids(x: np.ndarray) -> list[str]:
    """Return the first 64 bits of each image's hash as hexadecimal digits, as run folders keep them."""
    return [digest.hex()[:ID_DIGITS] for digest in image_hashes(x)]
