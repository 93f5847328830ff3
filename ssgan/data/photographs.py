"""Tell colour photographs from drawings, letters and grey images by a sample, and choose views of a pool."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ssgan.data import file_tree, image_io
from ssgan.data.dataset import Data
from ssgan.data.image_io import UnreadableImage

__all__ = ["PictureKind", "Views", "choose_views", "look_at_pictures"]

SAMPLE = 64  # files that are looked at, evenly from the first to the last
SIDE = 64  # pixels to which they are brought
COLOUR = 6.0  # mean difference of the largest and the smallest channel, of 255, from which a picture has colour
TONES = 30  # colours of 16 levels a channel that a photograph has at least; drawings and letters have fewer
SHARE = 0.75  # of the sample that must be colour photographs, or have black ground
VIEWS_SAMPLE = 256  # images that are looked at to choose views
FLAT = 0.1  # of a picture that one colour fills in a drawing; in a photograph none fills so much
MIRROR_SAMPLE = (1_000, 2_000)  # images at least and at most, to find out whether they could be mirrored
MIRROR_SIDE = 16  # pixels to which they are brought
MIRRORED = 0.55  # of images that lie nearer to the others than mirrored: at most so many where left is like right
BLACK = 0.1  # of full intensity: no more has the median of the outermost pixels on black ground


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


@dataclass(frozen=True)
class Views:
    """The views that suit images, and the kind of images that they suit.

    Attributes
    ----------
    augmentation : {"digits", "drawings", "natural"}
        A value of the setting.
    kind : str
        What most of the images are, in words.
    """

    augmentation: str
    kind: str


def choose_views(data: Data) -> Views:
    """Choose the views of images by a sample of the pool; labels are not used.

    Colour photographs have ``natural`` ones: most images have colour, many tones, and no colour that fills a tenth of
    them. So has a set of a thousand images or more that could as well be mirrored: for at most 55 % of them the nearest
    neighbour is nearer than that of the mirror image. Others have small affine maps: ``digits`` on black ground,
    ``drawings`` on any other.

    Parameters
    ----------
    data : Data
        With images [N, H, W] or [N, H, W, C], C = 1 or 3.
    """
    rows = np.unique(np.linspace(0, len(data.x_train) - 1, VIEWS_SAMPLE).astype(int))
    images = np.rint(data.x_train[rows] * (255 / data.scale)).astype(np.uint8)
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[3] == 3 and np.mean([_is_photograph(x) and not _is_flat(x) for x in images]) >= SHARE:
        return Views("natural", "colour photographs")
    if _could_be_mirrored(data.x_train):
        return Views("natural", "a mirror-symmetric set")
    intensity = images.max(axis=3)
    border = np.concatenate([intensity[:, 0], intensity[:, -1], intensity[:, 1:-1, 0], intensity[:, 1:-1, -1]], axis=1)
    if np.mean(np.median(border, axis=1) <= 255 * BLACK) >= SHARE:
        return Views("digits", "pictures on black ground")
    return Views("drawings", "grey pictures" if images.shape[3] == 1 else "pictures of few colours")


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
            kinds.append(not header.grey and _is_photograph(pixels))
            sides.append(min(header.width, header.height))
    if not kinds:
        return None
    return PictureKind(float(np.mean(kinds)) >= SHARE, int(np.median(sides)))


def _is_photograph(pixels: np.ndarray) -> bool:
    """Whether an image [H, W, 3] of uint8 has colour and many tones."""
    chroma = pixels.max(axis=2).astype(int) - pixels.min(axis=2)
    levels = (pixels // 16).astype(int)
    tones = np.unique(levels[..., 0] * 256 + levels[..., 1] * 16 + levels[..., 2])
    return float(chroma.mean()) >= COLOUR and len(tones) >= TONES


def _is_flat(pixels: np.ndarray) -> bool:
    """Whether one colour fills much of an image [H, W, C] of uint8."""
    _, counts = np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0, return_counts=True)
    return bool(counts.max() >= FLAT * counts.sum())


def _could_be_mirrored(images: np.ndarray) -> bool:
    """Whether mirrored images are as near to the others of a set [N, H, W] or [N, H, W, C] as the images themselves.

    Nearness is the correlation of pixels with the nearest neighbour. False for too few images.
    """
    least, most = MIRROR_SAMPLE
    if len(images) < least:
        return False
    rows = np.unique(np.linspace(0, len(images) - 1, most).astype(int))
    grey = images[rows].astype(np.float32)
    grey = grey if grey.ndim == 3 else grey.mean(axis=3)
    size = (MIRROR_SIDE, MIRROR_SIDE)
    small = np.stack([np.asarray(Image.fromarray(x).resize(size, Image.Resampling.BILINEAR)) for x in grey])
    small -= small.mean(axis=(1, 2), keepdims=True)
    small /= np.maximum(np.linalg.norm(small, axis=(1, 2), keepdims=True), 1e-6)
    plain, mirrored = (x.reshape(len(x), -1) for x in (small, small[:, :, ::-1]))
    nearest = []
    for one in (plain, mirrored):
        correlations = one @ plain.T
        np.fill_diagonal(correlations, -np.inf)  # neither the image itself nor its own mirror image
        nearest.append(correlations.max(axis=1))
    gaps = nearest[0] - nearest[1]
    return float(np.mean(gaps > 0) + np.mean(gaps == 0) / 2) <= MIRRORED
