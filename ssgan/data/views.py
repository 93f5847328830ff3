"""Choose the views of images by what they show: photographs, drawings or letters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ssgan.data.dataset import Data
from ssgan.data.photographs import MAJORITY, is_photograph
from ssgan.settings.presets import PICTURE_PRESETS

__all__ = ["Views", "black_ground_share", "choose_views", "nearer_than_mirrored", "photograph_share", "views_for"]

SAMPLE = 256  # images that are sampled, evenly spaced from the first to the last
FLAT = 0.1  # fraction of a drawing that one colour fills; in a photograph none fills as much
BLACK = 0.1  # largest median of the border pixels on a black background, as a fraction of full intensity
MIRROR_SAMPLE = (1_000, 2_000)  # fewest and most images by which mirror symmetry is tested
MIRROR_SIDE = 16  # pixels of a side to which they are resized
MIRRORED = 0.55  # largest result of nearer_than_mirrored for a mirror-symmetric set


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

    Colour photographs have ``natural`` ones, and so has a mirror-symmetric set of a thousand images or more. Others
    have small affine maps: ``digits`` on a black background, ``drawings`` on any other. The trials are in
    docs/notes/images.md.

    Parameters
    ----------
    data : Data
        With images [N, H, W] or [N, H, W, C], C = 1 or 3.
    """
    if photograph_share(data) >= MAJORITY:
        return Views("natural", "colour photographs")
    nearer = nearer_than_mirrored(data)
    if nearer is not None and nearer <= MIRRORED:
        return Views("natural", "a mirror-symmetric set")
    if black_ground_share(data) >= MAJORITY:
        return Views("digits", "pictures on a black background")
    return Views("drawings", "pictures of few colours" if data.image_shape[-1] == 3 else "grey pictures")


def views_for(data: Data, preset: str, named: Mapping[str, Any]) -> Views | None:
    """Choose the views of a training with a preset for a user's pictures; None if the named settings determine them."""
    is_chosen = "augmentation" in named or named.get("backbone") is not None or named.get("labels") == 0
    if preset not in PICTURE_PRESETS or is_chosen or len(data.image_shape) < 2:
        return None
    return choose_views(data)


def photograph_share(data: Data) -> float:
    """Compute the fraction of images with colour, many tones, and no single colour that fills a tenth of the image."""
    images = _sample(data)
    return float(np.mean([is_photograph(x) and not _is_flat(x) for x in images])) if images.shape[3] == 3 else 0.0


def black_ground_share(data: Data) -> float:
    """Compute the fraction of images whose border pixels are mostly black."""
    x_NHW = _sample(data).max(axis=3)
    border = np.concatenate([x_NHW[:, 0], x_NHW[:, -1], x_NHW[:, 1:-1, 0], x_NHW[:, 1:-1, -1]], axis=1)
    return float(np.mean(np.median(border, axis=1) <= 255 * BLACK))


def nearer_than_mirrored(data: Data) -> float | None:
    """Compute the fraction of images whose nearest neighbour is nearer than that of their mirror image.

    It is 1/2 for a mirror-symmetric set; near 1, mirror images look like none of the others. Nearness is the
    correlation of the pixels of reduced grey images. None for too few images.
    """
    least, most = MIRROR_SAMPLE
    if len(data.x_train) < least:
        return None
    images = data.x_train[_evenly(len(data.x_train), most)].astype(np.float32)
    grey = images if images.ndim == 3 else images.mean(axis=3)
    size = (MIRROR_SIDE, MIRROR_SIDE)
    # Bilinear weights are symmetric; those of a box filter are not if the sides are not multiples.
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
    return float(np.mean(gaps > 0) + np.mean(gaps == 0) / 2)


def _sample(data: Data) -> np.ndarray:
    """Return a sample of the pool as uint8 [N, H, W, C] with full intensity 255."""
    x = np.rint(data.x_train[_evenly(len(data.x_train), SAMPLE)] * (255 / data.scale)).astype(np.uint8)
    return x if x.ndim == 4 else x[..., None]


def _evenly(count: int, most: int) -> np.ndarray:
    """Return at most ``most`` row numbers, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, count - 1, most).astype(int))


def _is_flat(pixels: np.ndarray) -> bool:
    """Return whether one colour fills much of an image [H, W, C]."""
    _, counts = np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0, return_counts=True)
    return bool(counts.max() >= FLAT * counts.sum())
