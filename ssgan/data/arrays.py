"""Convert a user's arrays, labels and torch data sets to the types that training takes. Imports no torch."""

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ssgan.data.image_io import picture_array
from ssgan.errors import UserError, counted, did_you_mean

__all__ = [
    "IMAGE_CHANNELS",
    "Labels",
    "class_indices",
    "class_names",
    "images_to_uint8",
    "is_missing",
    "items_to_arrays",
    "label_array",
    "renumber",
    "split_labels",
    "to_array",
    "whole_numbers",
]

IMAGE_CHANNELS = (1, 3, 4)  # grey, colour, colour with transparency
LARGEST_LABEL = 2**63 - 1024  # the largest integers of int64 have no exact float
MISSING_WORDS = ("nan", "None", "<NA>", "NaT")  # what numpy makes of a missing label in an array of strings


class Labels(NamedTuple):
    """Labels as indices of their classes.

    Attributes
    ----------
    indices : ndarray of int64, shape [N]
        Index into ``classes``; -1 for unlabelled.
    classes : ndarray, shape [K]
        The different labels, sorted, of the type in which they were given.
    binary : bool
        Whether -1 was read as a class: the only labels are -1 and 1.
    """

    indices: np.ndarray
    classes: np.ndarray
    binary: bool = False


def split_labels(y: np.ndarray) -> Labels:
    """Separate labels from missing ones: -1, in an array of objects also None and NaN, in one of floats also NaN.

    If the only labels are -1 and 1, both are classes: a single class could not be learned, and many binary classifiers
    encode the two classes in this way.

    Parameters
    ----------
    y : ndarray, shape [N]

    Raises
    ------
    UserError
        For the string "-1" and the strings that numpy makes of missing labels, and for objects that cannot be compared.
    """
    y = label_array(y)
    if y.ndim != 1:
        raise UserError(f"y is of shape {list(y.shape)}, but must hold one label for each row.")
    if y.dtype.kind in "OUS":
        _refuse_text(y)
    missing = np.array([is_missing(label) for label in y], bool) if y.dtype.kind == "O" else _missing_numbers(y)
    given = y[~missing]
    if y.dtype.kind == "O" and len(given) and all(_is_integer(label) and _is_whole(label) for label in given):
        given = given.astype(np.int64)
    try:
        classes, inverse = np.unique(given, return_inverse=True)
    except TypeError:
        kinds = " and ".join(sorted({type(label).__name__ for label in given}))
        raise UserError(
            f"y holds labels of types that cannot be sorted together, {kinds}: give all of them one type."
        ) from None
    if len(classes) == 1 and classes.dtype.kind in "if" and classes[0] == 1 and not _has_other_missing(y):
        minus = missing
        if minus.any():
            return Labels((~minus).astype(np.int64), np.array([-1, 1], dtype=classes.dtype), binary=True)
    indices = np.full(len(y), -1, np.int64)
    indices[~missing] = inverse.ravel()
    return Labels(indices, classes)


def to_array(values: Any, name: str, allow_objects: bool = False) -> np.ndarray:
    """Return a caller's images or rows as an array; a tensor [N, C, H, W] becomes [N, H, W, C], or [N, H, W] if C is 1.

    So does a list of tensors [C, H, W].

    Raises
    ------
    UserError
        If the rows have different shapes, values are masked, or they are not an array at all.
    """
    if np.ma.is_masked(values):
        raise UserError(
            f"{name} is a masked array, but every value would be used: fill or remove those that are masked."
        )
    is_list, is_tensor = isinstance(values, list | tuple), hasattr(values, "detach")
    rows = [_tensor_to_array(row) if hasattr(row, "detach") else row for row in values] if is_list else values
    try:
        array = _tensor_to_array(values) if is_tensor else np.asarray(rows)
    except (RuntimeError, TypeError, ValueError):  # of a list of rows that differ, or of what is no array
        if is_list:
            raise UserError(f"The rows of {name} have different shapes, but must have one.") from None
        array = np.asarray(None)
    if array.dtype.kind == "O" and array.ndim and not allow_objects:
        raise UserError(f"{name} holds objects, but must be an array of numbers, with a row for each image.")
    if not array.ndim and not isinstance(values, np.ndarray):
        kind = type(values).__name__
        raise UserError(f"{name} is of type {kind}, but must be an array of numbers, with a row for each image.")
    is_tensor = is_tensor or (is_list and bool(values) and all(hasattr(row, "detach") for row in values))
    if is_tensor and array.ndim == 4 and array.shape[1] in IMAGE_CHANNELS and array.shape[3] > max(IMAGE_CHANNELS):
        array = array.transpose(0, 2, 3, 1)
        return array[..., 0] if array.shape[3] == 1 else array
    return array


def label_array(y: Any) -> np.ndarray:
    """Return a caller's labels as an array; masked ones, and missing ones of pandas' nullable types, become None."""
    is_nullable = type(getattr(y, "dtype", None)).__module__.startswith("pandas") and hasattr(y, "to_numpy")
    if is_nullable:
        labels: np.ndarray = y.to_numpy(object, na_value=None)
        return labels
    if np.ma.is_masked(y):
        objects = np.array(y, object)
        objects[np.ma.getmaskarray(y)] = None
        return objects
    array = _tensor_to_array(y) if hasattr(y, "detach") else np.asarray(y)
    return array.astype(object) if array.dtype.kind == "T" else array  # numpy's StringDType, which may hold None or NaN


def _tensor_to_array(tensor: Any) -> np.ndarray:
    """Return the values of a tensor, on any device; numpy has no bfloat16, so they become float32."""
    tensor = tensor.detach().cpu()
    array: np.ndarray = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return array


def is_missing(label: Any) -> bool:
    """Return whether a label of an array of objects is missing: None, NaN, pandas.NA, NaT or -1."""
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, float | int | np.integer | np.floating) and bool(label != label or label == -1)


def _missing_numbers(y: np.ndarray) -> np.ndarray:
    """Return a mask of the missing labels in an array of numbers or strings."""
    if y.dtype.kind == "f":
        if np.isinf(y).any():
            raise UserError("y holds infinity, which is not a label.")
        return np.isnan(y) | (y == -1)
    return y == -1 if y.dtype.kind == "i" else np.zeros(len(y), bool)


def _has_other_missing(y: np.ndarray) -> bool:
    """Return whether missing labels are marked other than by -1, so that -1 is not a class."""
    if y.dtype.kind == "O":
        return any(is_missing(label) and not _is_integer(label) for label in y)
    return bool(np.isnan(y).any()) if y.dtype.kind == "f" else False


def _is_integer(label: Any) -> bool:
    return isinstance(label, int | np.integer) and not isinstance(label, bool)


def _is_whole(label: Any) -> bool:
    is_whole = _is_integer(label) or (isinstance(label, float | np.floating) and label.is_integer())
    return is_whole and -LARGEST_LABEL <= label <= LARGEST_LABEL


def _word(label: Any) -> str:
    """Return a label as the name of a class."""
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)


def _refuse_text(y: np.ndarray) -> None:
    """Refuse the string "-1", and in an array of strings the words for missing labels."""
    texts = {str(label) for label in y if isinstance(label, str | bytes)}
    texts |= {label.decode(errors="replace") for label in y if isinstance(label, bytes)}
    refused = {"-1": "which would be a class", "": "which would be a class"}
    if y.dtype.kind in "US":
        refused |= dict.fromkeys(MISSING_WORDS, "which is numpy's form of a missing label in an array of text")
    for text, why in refused.items():
        if text in texts:
            raise UserError(
                f"y holds the text {text!r}, {why}: to leave rows unlabelled give y the dtype object, with None or the "
                f"number -1 for them, or number the classes, with -1 for unlabelled rows, and name them in classes."
            )


def class_indices(y: Any, classes: Sequence[str], name: str) -> np.ndarray:
    """Return string labels as indices of named classes, -1 for missing ones; integers are returned unchanged.

    Raises
    ------
    UserError
        For a label that names no class.
    """
    y = whole_numbers(label_array(y))
    if y.dtype.kind not in "OUS" or y.ndim != 1:
        return y
    labels = split_labels(y)
    if labels.classes.dtype.kind == "i":
        return np.array([-1, *labels.classes], np.int64)[labels.indices + 1]
    position = {label: i for i, label in enumerate(classes)}
    words = [_word(label) for label in labels.classes]
    unknown = [word for word in words if word not in position]
    if unknown:
        near = did_you_mean(unknown[0], classes)
        raise UserError(f"{name} holds the label {unknown[0]!r}, which is not one of the classes.{near}")
    return np.array([-1, *(position[word] for word in words)], np.int64)[labels.indices + 1]


def whole_numbers(y: np.ndarray) -> np.ndarray:
    """Return whole floats, as pandas stores integers beside missing ones, as integers, and missing ones as -1."""
    if y.dtype.kind == "O" and y.ndim == 1 and all(is_missing(label) or _is_whole(label) for label in y):
        return np.array([-1 if is_missing(label) else int(label) for label in y], np.int64)
    if y.dtype.kind != "f":
        return y
    missing = np.isnan(y)
    if not (missing | (np.isfinite(y) & (y == np.rint(y)) & (np.abs(y) <= LARGEST_LABEL))).all():
        return y
    return np.where(missing, -1, y).astype(np.int64)


def class_names(*labels: Any) -> tuple[str, ...]:
    """Return default names for the classes of labels: the sorted words of the first labels, or 0 to the highest number.

    Later labels name classes only if those before have no words.
    """
    arrays = [whole_numbers(array) for array in map(label_array, labels) if array.size and array.ndim == 1]
    words: set[str] = set()
    highest = -1
    for array in arrays:
        found = split_labels(array).classes if array.dtype.kind in "OUS" else array
        if found.dtype.kind in "iu":
            highest = max(highest, int(found.max()) if found.size else -1)
        else:
            words = words or {_word(label) for label in found}
    if highest >= (count := sum(map(len, arrays))):
        raise UserError(
            f"The label {highest} is too high for {counted(count, 'image')}: number the classes 0, 1, 2, ..., or give "
            f"their names as classes."
        )
    return tuple(sorted(words)) if words else tuple(map(str, range(highest + 1)))


def images_to_uint8(images: np.ndarray, scale: float, name: str = "x", full: float = 255.0) -> np.ndarray:
    """Convert float or integer images, 0 to ``scale``, to uint8, 0 to ``full``.

    Raises
    ------
    UserError
        For values outside 0 to ``scale``.
    """
    if images.size and not np.isfinite(images).all():
        raise UserError(f"{name} holds NaN or infinity: fix or remove such images.")
    if images.size and not (images.min() >= 0 and images.max() <= scale):
        raise UserError(
            f"{name} holds values from {images.min():g} to {images.max():g}, but images must lie in 0 to {scale:g}, "
            f"the value of full intensity: rescale them, or set scale."
        )
    return np.rint(images * (full / scale)).astype(np.uint8)


def items_to_arrays(dataset: Any) -> tuple[np.ndarray, np.ndarray, tuple[str, ...] | None]:
    """Read a torch ``Dataset`` whose items are (image, label): images, labels and, if it names them, classes.

    Parameters
    ----------
    dataset
        With ``__len__`` and ``__getitem__``. An image is a Pillow image, an array [H, W] or [H, W, C], a tensor
        [H, W] or [C, H, W], or a vector; a label a number or a word, with -1 or None for none.

    Returns
    -------
    ndarray [N, ...], ndarray [N], tuple of str or None

    Raises
    ------
    UserError
        If items have another form, or their images have different shapes.
    """
    images, labels = [], []
    for i in range(len(dataset)):
        item = dataset[i]
        if not (isinstance(item, tuple | list) and len(item) == 2):
            raise UserError(
                f"Item {i} of the data set is not a pair (image, label); without a label give (image, None)."
            )
        images.append(_image_array(item[0]))
        labels.append(_plain(item[1], i))
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        two = " and ".join(str(list(shape)) for shape in sorted(shapes, key=str)[:2])
        raise UserError(f"The images of the data set have different shapes, such as {two}: resize them to one.")
    if not images:
        raise UserError("The data set is empty.")
    y = np.empty(len(labels), object)
    y[:] = labels
    return np.stack(images), y, _names_of(dataset, labels)


def _names_of(dataset: Any, y: Sequence[Any]) -> tuple[str, ...] | None:
    """Return the names of the classes of a torch data set with these labels; None if it has none.

    A ``Subset`` has those of the whole, a ``ConcatDataset`` those of its parts with labels.
    """
    names = getattr(dataset, "classes", None)
    if isinstance(names, list | tuple | np.ndarray):
        return tuple(map(str, names))
    torch_data = sys.modules.get("torch.utils.data")
    if torch_data is not None and isinstance(dataset, torch_data.Subset):
        return _names_of(dataset.dataset, y)
    if torch_data is None or not isinstance(dataset, torch_data.ConcatDataset):
        return None
    starts = [0, *dataset.cumulative_sizes]
    parts = [(part, y[start:end]) for part, start, end in zip(dataset.datasets, starts, starts[1:], strict=False)]
    labeled = [(part, its) for part, its in parts if not all(map(is_missing, its))] or parts
    found = sorted({names for part, its in labeled if (names := _names_of(part, its)) is not None})
    if len(found) > 1:
        raise UserError(
            f"The parts of a ConcatDataset have the classes {', '.join(found[0])} and {', '.join(found[1])}, so that "
            f"one number means two classes: give all parts the same classes."
        )
    return found[0] if found else None


def renumber(y: np.ndarray, names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return labels that number ``names`` as numbers of the same names among ``classes``; words are returned unchanged.

    Parameters
    ----------
    y : ndarray of object, shape [N]
        As :func:`items_to_arrays` returns them.
    names, classes : sequence of str

    Raises
    ------
    UserError
        If a label is of a name that is not one of the classes.
    """
    renumbered = y.copy()
    for i, label in enumerate(y):
        if not _is_integer(label) or not 0 <= label < len(names):
            continue  # missing, a word, or refused later
        if names[label] not in classes:
            raise UserError(
                f"The test set has images of class {names[label]!r}, but the classes of training are "
                f"{', '.join(classes)}: give both the same classes."
            )
        renumbered[i] = classes.index(names[label])
    return renumbered


def _image_array(image: Any) -> np.ndarray:
    """Return an image as an array [H, W], [H, W, C] or [F]; a tensor has its channels first."""
    if hasattr(image, "detach"):
        array = _tensor_to_array(image)
        if array.ndim == 3:
            array = array.transpose(1, 2, 0)
            return array[..., 0] if array.shape[2] == 1 else array
        return array
    return picture_array(image) if isinstance(image, Image.Image) else np.asarray(image)


def _plain(label: Any, i: int) -> Any:
    """Return the label of item i as a plain Python value, also if it is a tensor or an array of one element."""
    if math.prod(getattr(label, "shape", ())) != 1:
        raise UserError(
            f"The label of item {i} of the data set is of shape {list(label.shape)}, but must be one number or word: "
            f"of one-hot labels give the index, label.argmax()."
        )
    return label.item() if hasattr(label, "item") else label
