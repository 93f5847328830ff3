"""Look for mistakes in data: pictures with two labels, test pictures that are copies, and pools that are too small."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssgan.data.dataset import Data, image_hashes
from ssgan.errors import counted

__all__ = ["Copies", "data_warnings", "find_copies", "warn_of_copies", "warn_of_labels", "warn_of_tests"]


FEW_IMAGES = 10  # a smaller pool gives a warning
COPIES_SHOWN = 3
MOST_UNTESTED = 2  # labelled pictures of a class up to which a fifth rounds to none


@dataclass(frozen=True)
class Copies:
    """Images that are equal, pixel for pixel.

    Attributes
    ----------
    in_test : list of (str, str)
        A test image, and the first one of the pool that equals it.
    two_labels : list of (str, str)
        A labelled image, and the first labelled one that equals it but has another label.
    """

    in_test: list[tuple[str, str]]
    two_labels: list[tuple[str, str]]


def find_copies(data: Data) -> Copies:
    """Find equal images among the pool and the test set, by hashes of their pixels."""
    pool: dict[bytes, str] = {}
    labelled: dict[bytes, tuple[str, int]] = {}
    in_test, two_labels = [], []
    for share, x, y, files in (
        ("train", data.x_train, data.y_train, data.files_train),
        ("test", data.x_test, data.y_test, data.files_test),
    ):
        for row, (digest, label) in enumerate(zip(image_hashes(x), y.tolist(), strict=True)):
            name = files[row] if files else f"x_{share}[{row}]"
            if share == "train":
                pool.setdefault(digest, name)
            elif digest in pool:
                in_test.append((name, pool[digest]))
            if label >= 0:
                first, other = labelled.setdefault(digest, (name, label))
                if other != label:
                    two_labels.append((name, first))
    return Copies(in_test, two_labels)


def data_warnings(data: Data, labeled_count: int | None = None) -> list[str]:
    """Return a sentence about each kind of mistake in a user's own data, and about what is missing.

    Parameters
    ----------
    data : Data
    labeled_count : int, optional
        Number of pictures of the pool that are used with their label; by default all that have one.
    """
    count = int((data.y_train >= 0).sum()) if labeled_count is None else labeled_count
    return [*warn_of_copies(find_copies(data)), *warn_of_labels(len(data.x_train), count)]


def warn_of_copies(copies: Copies) -> list[str]:
    """Return sentences about equal images."""
    warnings = []
    if copies.two_labels:
        warnings.append(
            f"Pictures that are equal pixel for pixel but have two labels: {len(copies.two_labels):,} "
            f"({_pairs(copies.two_labels)})."
        )
    if copies.in_test:
        warnings.append(
            f"Test images that are in the pool too, pixel for pixel, so that the measured error may be too low: "
            f"{len(copies.in_test):,} ({_pairs(copies.in_test)})."
        )
    return warnings


def warn_of_labels(count: int, labeled_count: int) -> list[str]:
    """Return sentences about a pool of ``count`` pictures that is too small, or has no unlabelled picture."""
    if count < FEW_IMAGES:
        return [
            f"There {'is' if count == 1 else 'are'} only {counted(count, 'picture')} to learn from: expect a high "
            f"error."
        ]
    if labeled_count == count:
        return [
            "Every picture of the pool is used with its label: more pictures without one, in unlabeled/ or not listed "
            "in the table, may lower the error."
        ]
    return []


def warn_of_tests(data: Data) -> list[str]:
    """Return a sentence if every class has too few labelled pictures to hold a fifth of them out for testing."""
    most = int(np.bincount(data.y_train[data.y_train >= 0]).max(initial=0))
    if data.file_counts.get("tested") != {"held out": 0} or not 1 <= most <= MOST_UNTESTED:
        return []
    if most == 1:
        return ["One labelled picture per class is too few to test with, so no error is measured: label more of them."]
    return [
        f"{most} labelled pictures per class are too few to hold a fifth out, so no error is measured: --folds {most} "
        f"tests each of them with a model that learned from the others."
    ]


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    """Format the first pairs of equal images."""
    words = [f"{name} is {twin}" for name, twin in pairs[:COPIES_SHOWN]]
    return ", ".join(words) + (", ..." if len(pairs) > COPIES_SHOWN else "")
