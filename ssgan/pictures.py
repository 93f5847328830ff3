"""Image files as arrays like those that the models were trained on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ssgan.errors import UserError

__all__ = ["SUFFIXES", "prepare"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm")


def prepare(path: Path, image_shape: Sequence[int], scale: float = 255.0) -> np.ndarray:
    """Read a picture as uint8 of ``image_shape``, full intensity ``scale``.

    It is turned as its EXIF says; what is transparent becomes white; it becomes grey or RGB as the shape asks;
    its shorter side is resized to the shape's, and what is beyond it on the longer side is cut away on both ends.
    A picture that has the size already keeps its pixels. Of an animation the first frame is read.

    Parameters
    ----------
    path : Path
    image_shape : sequence of int
        [H, W] or [H, W, 1] for grey, [H, W, 3] for RGB.
    scale : float
        The value that stands for full intensity, where a picture has 255.

    Raises
    ------
    UserError
        Where the file is not there or no picture, or the shape is not one of pictures.
    """
    if len(image_shape) not in (2, 3) or (len(image_shape) == 3 and image_shape[2] not in (1, 3)):
        raise UserError(f"{path} is a picture, but the models take arrays of shape {list(image_shape)}: give an .npz.")
    try:
        with Image.open(path) as image:
            pixels = np.asarray(_framed(_opaque(ImageOps.exif_transpose(image)), image_shape))
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except UnidentifiedImageError:
        raise UserError(f"{path} is no picture of a known format.") from None
    except UserError:
        raise
    except Exception as cause:  # a reader of arbitrary bytes can fail in any way
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        raise UserError(f"{path} cannot be read as a picture ({' '.join(reason.split())}).") from cause
    if scale != 255:
        pixels = (pixels * (scale / 255)).round().astype(np.uint8)
    return pixels.reshape(tuple(image_shape))


def _opaque(image: Image.Image) -> Image.Image:
    """A picture of 8 bits without transparency, on white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UserError(f"{getattr(image, 'filename', 'It')} has 32 bits a pixel: save it with 8.")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image


def _framed(image: Image.Image, image_shape: Sequence[int]) -> Image.Image:
    """A picture in the colours and the size of a shape."""
    image = image.convert("RGB" if image_shape[2:] == (3,) else "L")
    size = (image_shape[1], image_shape[0])
    return image if image.size == size else ImageOps.fit(image, size, Image.Resampling.BICUBIC)
