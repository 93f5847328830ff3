"""A data set of eight small images, and the messages for invalid arrays."""

from typing import Any

import numpy as np

from ssgan.data.dataset import Data

SMALL: dict[str, Any] = {
    "x_train": np.arange(36, dtype=np.uint8).reshape(6, 2, 3),
    "y_train": np.array([0, 1, -1, 0, 1, -1]),
    "x_test": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
    "y_test": np.array([1, 0]),
    "classes": ("cat", "dog"),
}
X_ERROR = "but must be uint8 images [N, H, W] or [N, H, W, C], or float32 vectors [N, F]."
UNREADABLE = "cannot be read as an .npz of plain arrays"
HOW = "write it with numpy.savez, from arrays of numbers and words."


def small(**changes: Any) -> Data:
    """Six images of 2x3 and two classes; two rows without a label."""
    return Data(**{**SMALL, **changes})


def assert_same_data(left: Data, right: Data) -> None:
    assert left.sha256 == right.sha256
    assert (left.classes, left.scale, left.image_shape) == (right.classes, right.scale, right.image_shape)
