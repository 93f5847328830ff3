"""Decode one image file to uint8 pixels, or say why it cannot be decoded."""

import functools
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import PIL
from PIL import Image, ImageFile, UnidentifiedImageError, features

from ssgan.errors import UserError

__all__ = [
    "DEPTHS",
    "FORMAT_NAMES",
    "FULL_DEPTH",
    "NEEDS_HEIF",
    "SUFFIXES",
    "UNOPENED",
    "Header",
    "UnreadableImage",
    "decode",
    "decode_within",
    "decoder_version",
    "describe_decoding",
    "ignore_warnings",
    "picture_array",
    "read_header",
]


# Version of the decoded pixels, part of the cache key: raise it whenever the pixels change.
DECODER = f"3 Pillow {PIL.__version__}"
SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
        *(".avif", ".heic", ".heif", ".hif"),
    ]
)
FORMAT_NAMES = "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC"
# No other format is tried: some of Pillow's readers start programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF")
UNOPENED = "cannot be opened"
# Chunks before the pixels of a PNG in which Pillow finds an orientation: EXIF, as ImageMagick writes it too, and XMP.
PNG_ORIENTATION = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
NEEDS_HEIF = "is HEIC, which `pip install 'ssgan[heic]'` makes readable"
# Brands in the first bytes of a file of the ISO base media format (ISO/IEC 23008-12).
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
FULL_DEPTH = 16  # bits of full intensity in a 16-bit grey picture if nothing else is known
DEPTHS = (8, 10, 12, 14, 16)  # bit depths of cameras, of which one is chosen if none is given
ORIENTATION = 0x0112
# The operation that makes an image upright, by the value of EXIF's orientation; 1 is upright.
ROTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
REDUCING_GAP = 3.0  # how exactly Pillow resizes after it has reduced an image by an integer factor
GREY_MODES = ("1", "L", "LA", "La", "I")


class UnreadableImage(Exception):  # noqa: N818 - about a file, not a fault of the program
    """Raised for a file that cannot be decoded; the message follows its name: ``is empty``."""


@dataclass(frozen=True)
class Header:
    """The header of an image file, read before any pixel is decoded.

    Attributes
    ----------
    width, height : int
        In pixels, as the picture is displayed.
    mode : str
        Pillow's name for how pixels are stored, such as ``L`` or ``RGBA``.
    grey : bool
        Whether it has no colour: one channel, with or without alpha, or a palette of greys.
    largest : int or None
        Largest value of a picture with 16 bits per channel, for which its pixels are decoded; None for others, and if
        they cannot be decoded. For colours Pillow keeps the upper 8 bits, so there it is a multiple of 256 plus 255.
    """

    width: int
    height: int
    mode: str
    grey: bool
    largest: int | None = None


def decoder_version() -> str:
    """Return the version of the decoded pixels, with that of the HEIC reader and the caller's limits of Pillow."""
    limits = f"{ImageFile.LOAD_TRUNCATED_IMAGES} {Image.MAX_IMAGE_PIXELS}"
    if not _reads_heif():
        return f"{DECODER} {limits}"
    import pillow_heif

    return f"{DECODER} {limits} pillow-heif {pillow_heif.__version__}"


def read_header(stream: BinaryIO) -> Header:
    """Read the header of a file.

    Raises
    ------
    UnreadableImage
    """
    with _open(stream) as image:
        width, height = image.size
        # A PNG may store its orientation after the pixels, where only decoding finds it. Pillow itself rotates a TIFF.
        has_orientation = image.format != "TIFF" and (image.format != "PNG" or bool(PNG_ORIENTATION & {*image.info}))
        if has_orientation and _orientation(image) in (5, 6, 7, 8):
            width, height = height, width
        return Header(width, height, image.mode, _is_grey(image), _largest_value(image))


def decode(stream: BinaryIO, size: int | None, grey: bool, depth: int = FULL_DEPTH) -> np.ndarray:
    """Decode the first frame of a file and make it upright.

    Transparent parts become white, 16-bit greys are scaled to 8 bits, colours are converted to grey by ITU-R 601.

    Parameters
    ----------
    stream : BinaryIO
    size : int or None
        Resize the shorter side to this many pixels (bicubic, with a filter as wide as the reduction) and cut
        out the square in the middle.
    grey : bool
    depth : int
        Bits of full intensity in a 16-bit grey picture: values of ``2**depth - 1`` and more become white.

    Returns
    -------
    ndarray of uint8, shape [H, W] if ``grey``, else [H, W, 3]

    Raises
    ------
    UnreadableImage
    """
    with _open(stream) as image:
        if size is not None:
            image.draft(None, (2 * size, 2 * size))  # a JPEG can be decoded at 1/2, 1/4 or 1/8
        image.load()
        flat = _flatten(image, depth).convert("L" if grey else "RGB")
        rotation = ROTATIONS.get(_orientation(image))
        if rotation is not None:
            flat = flat.transpose(rotation)
        if size is not None:
            (width, height), side = flat.size, min(flat.size)
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
            flat = flat.resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=REDUCING_GAP)
        return np.asarray(flat)


def picture_array(image: Image.Image) -> np.ndarray:
    """Return an opened picture as an array of uint8, [H, W] if it is grey and [H, W, 3] otherwise.

    Transparent parts become white. It is not turned upright.

    Raises
    ------
    UserError
        If it has more than 8 bits per channel, since its value of full intensity is not known.
    """
    if image.mode == "F" or _has_16_bits(image):
        raise UserError(
            f"An image of Pillow's mode {image.mode} has no known value of full intensity: convert it to 8 bits, or to "
            f"an array or tensor of floats in 0 to 1."
        )
    grey = image.mode != "P" and _is_grey(image)  # whether a palette is grey differs between pictures of one set
    return np.asarray(_flatten(image, FULL_DEPTH).convert("L" if grey else "RGB"))


def describe_decoding(size: int | None, grey: bool, depth: int = FULL_DEPTH) -> dict[str, Any]:
    """Describe what :func:`decode` does, for a program without this package: values, and ``steps`` in words.

    Parameters
    ----------
    size, grey, depth
        As in :func:`decode`.
    """
    mode, full = "L" if grey else "RGB", 2**depth - 1
    steps = [
        "Open the first frame.",
        f"Grey of 16 bits (mode I or I;16): (value * 255 + {full // 2}) // {full}, at most 255; 255 where the value "
        "is info['transparency'].",
        "Transparency: convert to RGBA and composite over white by Image.alpha_composite.",
        f"Convert to mode {mode}.",
        "Apply the EXIF orientation, as ImageOps.exif_transpose does.",
    ]
    if size is not None:
        steps[0] = f"Open the first frame; a JPEG after image.draft(None, ({2 * size}, {2 * size}))."
        steps.append(
            f"Crop the central square, side = min(width, height), left = (width - side) / 2, top = (height - "
            f"side) / 2, and resize it to {size} x {size} pixels by image.resize(({size}, {size}), BICUBIC, "
            f"(left, top, left + side, top + side), reducing_gap={REDUCING_GAP})."
        )
    return {
        "library": f"Pillow {PIL.__version__}",
        "mode": mode,
        "size": size,
        "resampling": None if size is None else "bicubic",
        "reducing_gap": None if size is None else REDUCING_GAP,
        "depth": depth,
        "steps": steps,
    }


def decode_within(stream: BinaryIO, longest: int) -> Image.Image:
    """Decode the first frame of a file in colour and make it upright, reduced if a side is longer than ``longest``.

    A 16-bit grey picture is scaled by the smallest bit depth of ``DEPTHS`` that holds its largest value.

    Raises
    ------
    UnreadableImage
    """
    with _open(stream) as image:
        image.draft(None, (longest, longest))
        image.load()
        largest = _largest_value(image) if _has_16_bits(image) else None
        depth = FULL_DEPTH if largest is None else next((bits for bits in DEPTHS if largest < 2**bits), FULL_DEPTH)
        flat = _flatten(image, depth).convert("RGB")
        flat.thumbnail((longest, longest), Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)
        rotation = ROTATIONS.get(_orientation(image))
        return flat if rotation is None else flat.transpose(rotation)


@contextmanager
def ignore_warnings() -> Iterator[None]:
    """Ignore Pillow's warnings about single files; not safe to enter from several threads at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _open(stream: BinaryIO) -> Iterator[Image.Image]:
    """Open an image without decoding its pixels; raise :class:`UnreadableImage` for any fault of the file."""
    try:
        stream.seek(0)
        head = stream.read(12)
        if not head:
            raise UnreadableImage("is empty")
        with Image.open(stream, formats=_formats_for(head)) as image:
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
        raise UnreadableImage("is not a picture that can be read") from None
    except Image.DecompressionBombError:
        raise UnreadableImage(f"has far more pixels than the limit of {Image.MAX_IMAGE_PIXELS:,}") from None
    except OSError as cause:
        if cause.errno is not None:
            raise UnreadableImage(f"{UNOPENED} ({cause.strerror})") from None
        raise UnreadableImage(_decoding_error(cause)) from None
    except Exception as cause:  # a decoder of arbitrary bytes can fail in any way
        raise UnreadableImage(_decoding_error(cause)) from None


def _formats_for(head: bytes) -> tuple[str, ...]:
    """Return the formats to try for a file by its first 12 bytes; raise :class:`UnreadableImage` without a reader."""
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    if brand in AVIF_BRANDS:
        if not features.check("avif"):
            raise UnreadableImage("is AVIF, which this version of Pillow does not read: install a newer Pillow")
        return ("AVIF",)
    if brand in HEIF_BRANDS:
        if not _reads_heif():
            raise UnreadableImage(NEEDS_HEIF)
        return ("HEIF",)
    return FORMATS


@functools.cache
def _reads_heif() -> bool:
    """Return whether the extra for HEIC is installed; if so, let Pillow use it."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True


def _decoding_error(cause: Exception) -> str:
    """Say why decoding failed, in one line."""
    reason = next(iter(str(cause).splitlines()), "").rstrip(". ") or type(cause).__name__
    return f"cannot be decoded ({reason})"


def _is_grey(image: Image.Image) -> bool:
    """Return whether an image has no colour."""
    if image.mode == "P" and image.palette is not None:
        colours, order = bytes(image.palette.palette), image.palette.rawmode or image.palette.mode
        third = len(colours) // 3
        if order == "RGB;L":  # TIFF has all reds, then all greens, then all blues
            return colours[:third] == colours[third : 2 * third] == colours[2 * third :]
        return order == "RGB" and colours[0::3] == colours[1::3] == colours[2::3]
    return image.mode in GREY_MODES or image.mode.startswith("I;16")


def _has_16_bits(image: Image.Image) -> bool:
    """Return whether an image is grey with 16 bits per pixel."""
    return image.mode == "I" or image.mode.startswith("I;16")


def _largest_value(image: Image.Image) -> int | None:
    """Return the largest value of an image with 16 bits per channel; None for other images and damaged ones."""
    of_16_bits = any(
        ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
    )  # the format of the pixels in the file
    if not (_has_16_bits(image) or of_16_bits):
        return None
    try:
        if _has_16_bits(image):
            return int(np.asarray(image).max())
        return 256 * int(np.asarray(image.convert("RGB")).max()) + 255
    except MemoryError:
        raise
    except Exception:  # a decoder of arbitrary bytes can fail in any way; decoding says why
        return None


def _flatten(image: Image.Image, depth: int) -> Image.Image:
    """Convert a picture to 8 bits without transparency."""
    if _has_16_bits(image):
        values, full = np.asarray(image).astype(np.int64), 2**depth - 1
        scaled = ((values * 255 + full // 2) // full).clip(0, 255)
        clear = image.info.get("transparency")  # the one value that is transparent
        return Image.fromarray(np.where(values == clear, 255, scaled).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA"))
    return image


def _orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8; 1 if it is absent or invalid."""
    try:
        value = int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # an intact image may hold EXIF of any content
        return 1
    return value if value in ROTATIONS else 1
