"""Convert a user's arrays, labels and torch data sets to the types that training takes. Imports no torch."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ssgan.data.image_io import picture_array
from ssgan.errors import UserError, counted, did_you_mean

__all__ = [
    "Labels",
    "TableScaler",
    "check_training_labels",
    "class_indices",
    "class_names",
    "images_to_uint8",
    "items_to_arrays",
    "labels_to_score",
    "plain_labels",
    "renumber",
    "split_labels",
]

MOST_QUANTILES = 1000
LARGEST_VALUE = 1e100  # of a table
OUTERMOST = {"quantile": 3.0, "standard": 100.0}  # standard deviations to which a table is clipped
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
    y = np.asarray(y)
    if y.ndim != 1:
        raise UserError(f"y is of shape {list(y.shape)}, but must hold one label for each row.")
    if y.dtype.kind in "OUS":
        _refuse_text(y)
    missing = np.array([is_missing(label) for label in y], bool) if y.dtype.kind == "O" else _missing_numbers(y)
    given = y[~missing]
    if y.dtype.kind == "O" and len(given) and all(_is_integer(label) for label in given):
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


def check_training_labels(y: Any, count: int) -> Labels:
    """Return the labels of an estimator's ``fit`` for ``count`` rows, and warn about what they lack.

    Raises
    ------
    UserError
        If they are not of these rows, are continuous, or name fewer than two classes.
    """
    if y is None:
        raise UserError(
            "fit requires y to be passed, but the target y is None: give one label for each row, -1 if it has none."
        )
    from sklearn.utils.validation import column_or_1d

    y = column_or_1d(_without_nullable(y), warn=True)
    if len(y) != count:
        raise UserError(f"y holds {counted(len(y), 'label')}, but there are {counted(count, 'row')} of X.")
    labels = split_labels(y)
    numbers = plain_labels(labels.classes)
    if numbers.dtype.kind == "f" and (numbers != np.rint(numbers)).any():
        raise UserError("Unknown label type: continuous. y holds fractions, but labels are integers or strings.")
    if labels.binary:
        warnings.warn(
            "y holds only -1 and 1, so both are classes and no row is unlabelled; to leave rows unlabelled number "
            "the classes from 0.",
            stacklevel=4,
        )
    if not len(labels.classes):
        raise UserError("Every label is -1 or missing, so there is no class to learn: label some rows.")
    if len(labels.classes) == 1:
        raise UserError(
            f"Every labelled row is of one class, {labels.classes.tolist()[0]!r}: a classifier needs rows of at "
            f"least 2 classes."
        )
    if (labels.indices >= 0).all() and not labels.binary:
        warnings.warn("y contains no unlabeled samples", stacklevel=4)
    return labels


def labels_to_score(y: Any, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels that predictions are compared with, [n], and a mask of the rows that have one, [N].

    None and NaN are missing, and so is -1 unless it is one of the classes.

    Raises
    ------
    UserError
        As :func:`split_labels`.
    """
    from sklearn.utils.validation import column_or_1d

    y = column_or_1d(_without_nullable(y))
    split_labels(y)  # for what it refuses
    has_minus = -1 in classes.tolist()
    known = np.array([not is_missing(label) or (has_minus and label == -1) for label in y.tolist()], bool)
    return plain_labels(y[known]), known


def plain_labels(y: np.ndarray) -> np.ndarray:
    """Return labels of an array of objects in an array of their own type; other arrays unchanged."""
    return np.array(y.tolist()) if y.dtype.kind == "O" else y


def _without_nullable(y: Any) -> Any:
    """Return a nullable column of pandas as an array of objects, with None for missing labels; others unchanged."""
    is_nullable = type(getattr(y, "dtype", None)).__module__.startswith("pandas") and hasattr(y, "to_numpy")
    return y.to_numpy(object, na_value=None) if is_nullable else y


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
    y = _whole_numbers(np.asarray(y))
    if y.dtype.kind not in "OUS" or y.ndim != 1:
        return y
    labels = split_labels(y)
    if labels.classes.dtype.kind == "i":
        return np.array([-1, *labels.classes], np.int64)[labels.indices + 1]
    position = {label: i for i, label in enumerate(classes)}
    unknown = [str(label) for label in labels.classes if str(label) not in position]
    if unknown:
        near = did_you_mean(unknown[0], classes)
        raise UserError(f"{name} holds the label {unknown[0]!r}, which is not one of the classes.{near}")
    return np.array([-1, *(position[str(label)] for label in labels.classes)], np.int64)[labels.indices + 1]


def _whole_numbers(y: np.ndarray) -> np.ndarray:
    """Return whole floats, as pandas stores integers beside missing ones, as integers, and NaN as -1."""
    if y.dtype.kind != "f":
        return y
    is_missing = np.isnan(y)
    if not (is_missing | (np.isfinite(y) & (y == np.rint(y)))).all():
        return y
    return np.where(is_missing, -1, y).astype(np.int64)


def class_names(*labels: Any) -> tuple[str, ...]:
    """Return default names for the classes of labels: the sorted words of the first labels, or 0 to the highest number.

    Later labels name classes only if those before have no words.
    """
    arrays = [_whole_numbers(array) for array in map(np.asarray, labels) if array.size and array.ndim == 1]
    words: set[str] = set()
    highest = -1
    for array in arrays:
        found = split_labels(array).classes if array.dtype.kind in "OUS" else array
        if found.dtype.kind in "iu":
            highest = max(highest, int(found.max()) if found.size else -1)
        else:
            words = words or {str(label) for label in found}
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
        labels.append(_plain(item[1]))
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        two = " and ".join(str(list(shape)) for shape in sorted(shapes, key=str)[:2])
        raise UserError(f"The images of the data set have different shapes, such as {two}: resize them to one.")
    if not images:
        raise UserError("The data set is empty.")
    y = np.empty(len(labels), object)
    y[:] = labels
    names = getattr(dataset, "classes", None)
    return np.stack(images), y, None if names is None else tuple(map(str, names))


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
        array = np.asarray(image.detach().cpu().numpy())
        if array.ndim == 3:
            array = array.transpose(1, 2, 0)
            return array[..., 0] if array.shape[2] == 1 else array
        return array
    return picture_array(image) if isinstance(image, Image.Image) else np.asarray(image)


def _plain(label: Any) -> Any:
    """Return a label as a plain Python value, also if it is a tensor or an array of one element."""
    return label.item() if hasattr(label, "item") else label


class TableScaler:
    """Scale the columns of a table to a standard deviation of about 1, and back; constant columns become 0.

    Parameters
    ----------
    kind : {"quantile", "standard"}
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def fit(self, X: np.ndarray) -> "TableScaler":
        """Fit it to rows [n, F]; raise a UserError for values whose squares would overflow."""
        if np.abs(X).max() > LARGEST_VALUE:
            raise UserError(f"X holds {np.abs(X).max():.3g}, which is too large to scale: divide it by a constant.")
        from sklearn.preprocessing import QuantileTransformer, StandardScaler

        self.quantiles = None
        if self.kind == "quantile":
            self.quantiles = QuantileTransformer(
                n_quantiles=min(len(X), MOST_QUANTILES), output_distribution="normal", random_state=0
            ).fit(X)
        self.standard = StandardScaler().fit(self._quantiles_of(X))
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Scale rows [n, F], clipped to 100 standard deviations."""
        return np.clip(self.standard.transform(self._quantiles_of(X)), -OUTERMOST["standard"], OUTERMOST["standard"])

    def inverse_transform(self, rows: np.ndarray) -> np.ndarray:
        """Return scaled rows [n, F] in the units of the table."""
        rows = self.standard.inverse_transform(rows)
        back: np.ndarray = rows if self.quantiles is None else self.quantiles.inverse_transform(rows)
        return back

    def _quantiles_of(self, X: np.ndarray) -> np.ndarray:
        return (
            X
            if self.quantiles is None
            else np.clip(self.quantiles.transform(X), -OUTERMOST["quantile"], OUTERMOST["quantile"])
        )
