"""Images laid out to be looked at."""

import numpy as np
from PIL import Image

__all__ = ["grid"]


def grid(images: np.ndarray, columns: int = 10, tile_pixels: int = 48, gap: int = 2) -> Image.Image:
    """Lay images out row by row on a white ground.

    Parameters
    ----------
    images : ndarray of uint8, shape [N, H, W] or [N, H, W, C], C = 1 or 3
        Full intensity is 255.
    columns : int
    tile_pixels : int
        Each image is magnified by the whole factor that brings its height nearest to this.
    gap : int
        Pixels between tiles.
    """
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    height, width = images.shape[1:3]
    factor = max(1, round(tile_pixels / height))
    tiles = images.repeat(factor, axis=1).repeat(factor, axis=2)
    rows = -(-len(tiles) // columns)
    step_y, step_x = height * factor + gap, width * factor + gap
    sheet = np.full((rows * step_y - gap, columns * step_x - gap, *images.shape[3:]), 255, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // columns * step_y, i % columns * step_x
        sheet[y : y + height * factor, x : x + width * factor] = tile
    return Image.fromarray(sheet)
