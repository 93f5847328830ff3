"""One picture: a file's bytes in, uint8 pixels out, or the reason why not."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import PIL
from PIL import Image, UnidentifiedImageError

__all__ = ["DECODER", "SUFFIXES", "UNOPENED", "Header", "UnreadableImage", "decode", "header", "quiet"]


# Names the pixels that this module makes of a file: raised whenever they change.
DECODER = f"1 Pillow {PIL.__version__}"
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"],
)
# No other format is tried: some of Pillow's readers start programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF")
UNOPENED = "cannot be opened"
ORIENTATION = 0x0112
# What brings an image upright, by the value of EXIF's orientation; 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
GREY_MODES = ("1", "L", "LA", "La", "I")


class UnreadableImage(Exception):  # noqa: N818 - an answer about a file rather than a fault of the program
    """A file that gives no pixels; the text goes on from its name: ``is empty``."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself before any pixel is decoded.

    Attributes
    ----------
    width, height : int
        In pixels, as the picture is to be seen.
    mode : str
        Pillow's word for how pixels are stored, such as ``L`` or ``RGBA``.
    grey : bool
        Whether that has no room for colour: one channel, with or without alpha, or a palette of greys.
    """

    width: int
    height: int
    mode: str
    grey: bool


def header(stream: BinaryIO) -> Header:
    """Read the head of a file.

    Raises
    ------
    Broken
    """
    with _opened(stream) as image:
        width, height = image.size
        # A PNG may hold its orientation behind the pixels; only decoding would show it. TIFF is turned by Pillow.
        tells = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
        if tells and _orientation(image) in (5, 6, 7, 8):
            width, height = height, width
        return Header(width, height, image.mode, _is_grey(image))


def decode(stream: BinaryIO, size: int | None, grey: bool) -> np.ndarray:
    """Decode a file, of several frames the first, and bring it upright.

    Transparent parts are laid on white, 16-bit greys are scaled to 8 bits, colours become grey by ITU-R 601.

    Parameters
    ----------
    stream : BinaryIO
    size : int or None
        Bring the shorter side to so many pixels (bicubic, with a filter as wide as the reduction) and cut out
        the square in the middle.
    grey : bool

    Returns
    -------
    ndarray of uint8, shape [H, W] where ``grey``, else [H, W, 3]

    Raises
    ------
    Broken
    """
    with _opened(stream) as image:
        if size is not None:
            image.draft(None, (2 * size, 2 * size))  # a JPEG can be decoded at 1/2, 1/4 or 1/8
        image.load()
        flat = _flat(image).convert("L" if grey else "RGB")
        turn = TURNS.get(_orientation(image))
        if turn is not None:
            flat = flat.transpose(turn)
        if size is not None:
            (width, height), side = flat.size, min(flat.size)
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
            flat = flat.resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
        return np.asarray(flat)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow's warnings about single files away; not for several threads at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[Image.Image]:
    """An image whose pixels are not yet decoded; whatever goes wrong with it is :class:`Broken`."""
    try:
        stream.seek(0)
        if not stream.read(1):
            raise UnreadableImage("is empty")
        with Image.open(stream, formats=FORMATS) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                size = f"{image.width:,} x {image.height:,}"
                raise UnreadableImage(f"has {size} pixels, above the limit of {limit:,}")
            if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
                raise UnreadableImage(
                    "holds numbers of 32 bits without a value of full intensity: save it with 8 or 16 bits"
                )
            yield image
    except (UnreadableImage, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UnreadableImage("is no picture that can be read") from None
    except Image.DecompressionBombError:
        raise UnreadableImage(f"has far more pixels than the limit of {Image.MAX_IMAGE_PIXELS:,}") from None
    except OSError as cause:
        if cause.errno is not None:
            raise UnreadableImage(f"{UNOPENED} ({cause.strerror})") from None
        raise UnreadableImage(_because(cause)) from None
    except Exception as cause:  # a decoder of arbitrary bytes can fail in any way
        raise UnreadableImage(_because(cause)) from None


def _because(cause: Exception) -> str:
    reason = next(iter(str(cause).splitlines()), "").rstrip(". ") or type(cause).__name__
    return f"cannot be decoded ({reason})"


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P" and image.palette is not None:
        colours, order = bytes(image.palette.palette), image.palette.rawmode or image.palette.mode
        third = len(colours) // 3
        if order == "RGB;L":  # TIFF has all reds, then all greens, then all blues
            return colours[:third] == colours[third : 2 * third] == colours[2 * third :]
        return order == "RGB" and colours[0::3] == colours[1::3] == colours[2::3]
    return image.mode in GREY_MODES or image.mode.startswith("I;16")


def _flat(image: Image.Image) -> Image.Image:
    """The same picture with 8 bits and without transparency."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(((values + 128) // 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        painted = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), painted)
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF's word on which side is up, 1 to 8; 1 where it says nothing sensible."""
    try:
        value = int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # EXIF of any content may stand in an image that is whole
        return 1
    return value if value in TURNS else 1
