"""Cut views of pictures whose features are computed beside those of the picture: mirrored, and crops of its corners."""

from typing import NamedTuple

import numpy as np

__all__ = ["VIEWS", "WEAK_VIEWS", "View", "ViewedImages"]

CROP = 0.8  # fraction of each side


class View(NamedTuple):
    """One view: whether it is mirrored, and the corner of its crop as (down, right); None for the whole picture."""

    mirrored: bool
    corner: tuple[bool, bool] | None = None


#: The first is the picture itself. The weak ones come first.
VIEWS = (
    View(mirrored=False),
    View(mirrored=True),
    *(View(mirrored=right, corner=(down, right)) for down in (False, True) for right in (False, True)),
)
WEAK_VIEWS = 2


class ViewedImages:
    """Images [N, H, W] or [N, H, W, C] seen in one view; a slice is cropped when it is read.

    Parameters
    ----------
    images : ndarray
    view : View
    """

    def __init__(self, images: np.ndarray, view: View) -> None:
        self.images, self.view = images, view
        height, width = images.shape[1:3]
        rows, columns = (max(1, round(CROP * side)) for side in (height, width))
        if view.corner is None:
            rows, columns = height, width
        down, right = view.corner or (False, False)
        top, left = (height - rows) * down, (width - columns) * right
        self._box = slice(top, top + rows), slice(left, left + columns)
        self.shape = (len(images), rows, columns, *images.shape[3:])
        self.dtype = images.dtype

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return the view of some images."""
        images = self.images[rows][:, self._box[0], self._box[1]]
        return images[:, :, ::-1] if self.view.mirrored else images
