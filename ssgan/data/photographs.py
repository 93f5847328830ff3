"""Tell colour photographs from drawings, letters and grey images by a sample of the files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssgan.data import file_tree, image_io
from ssgan.data.image_io import UnreadableImage

__all__ = ["SHARE", "PictureKind", "is_photograph", "look_at_pictures"]

SAMPLE = 64  # files that are looked at, evenly from the first to the last
SIDE = 64  # pixels to which they are brought
COLOUR = 6.0  # mean difference of the largest and the smallest channel, of 255, from which a picture has colour
TONES = 30  # colours of 16 levels a channel that a photograph has at least; drawings and letters have fewer
SHARE = 0.75  # of the sample that must be colour photographs


@dataclass(frozen=True)
class PictureKind:
    """What a sample of picture files shows.

    Attributes
    ----------
    photographs : bool
        Whether most are colour photographs.
    shortest_side : int
        Median of the shorter sides, in pixels.
    """

    photographs: bool
    shortest_side: int


def look_at_pictures(path: Path) -> PictureKind | None:
    """Look at a sample of the pictures in a folder or a ``.zip``; None where there is none that can be read.

    Raises
    ------
    UserError
        Where the folder or the zip cannot be read.
    """
    kinds, sides = [], []
    with file_tree.open_tree(path, image_io.SUFFIXES) as tree, image_io.ignore_warnings():
        for row in np.unique(np.linspace(0, len(tree.pictures) - 1, SAMPLE).astype(int)) if tree.pictures else []:
            try:
                with tree.open(tree.pictures[row]) as stream:
                    header = image_io.read_header(stream)
                    pixels = image_io.decode(stream, SIDE, grey=False)
            except (UnreadableImage, OSError, ValueError, RuntimeError, NotImplementedError):
                continue
            kinds.append(not header.grey and is_photograph(pixels))
            sides.append(min(header.width, header.height))
    if not kinds:
        return None
    return PictureKind(float(np.mean(kinds)) >= SHARE, int(np.median(sides)))


def is_photograph(pixels: np.ndarray) -> bool:
    """Whether an image [H, W, 3] of uint8 has colour and many tones."""
    chroma = pixels.max(axis=2).astype(int) - pixels.min(axis=2)
    levels = (pixels // 16).astype(int)
    tones = np.unique(levels[..., 0] * 256 + levels[..., 1] * 16 + levels[..., 2])
    return float(chroma.mean()) >= COLOUR and len(tones) >= TONES
