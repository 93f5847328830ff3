"""Find and read what `ssgan predict` classifies: images of files, folders, patterns, archives and arrays."""

import glob
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ssgan import files
from ssgan.data import file_tree
from ssgan.data.arrays import images_to_uint8
from ssgan.data.image_io import SUFFIXES, UnreadableImage, decode
from ssgan.data.npz import open_npz
from ssgan.errors import UserError
from ssgan.settings.catalog import is_picture_shape

__all__ = ["InputImage", "InputSource", "chunk_sources", "find_inputs", "read_image", "read_inputs"]


# Arrays of an .npz that do not hold images.
OTHER_ARRAYS = {"y_train", "y_test", "classes", "scale"}
ARCHIVES = (".npz", ".zip")


class InputSource(NamedTuple):
    """A file to read, or a name with the ``reason`` why there is no file."""

    name: str
    reason: str = ""


class InputImage(NamedTuple):
    """One image of the models' shape, or None with the ``reason`` why it cannot be read."""

    name: str
    pixels: np.ndarray | None
    reason: str = ""


def find_inputs(arguments: Sequence[str], lines: Iterable[str] = ()) -> list[InputSource]:
    """List the files that the arguments name, in order.

    Parameters
    ----------
    arguments : sequence of str
        A file; a folder, for the pictures in it and its subfolders, by suffix, without hidden ones, sorted; a pattern
        of :mod:`glob` that is not a file, for its matches, sorted; or ``-``, for ``lines``. What is missing or empty
        stays in the list, with the reason.
    lines : iterable of str
        Lines that name files or folders; blank ones are skipped.
    """
    sources: list[InputSource] = []
    for argument in arguments:
        if argument.startswith("~"):  # no shell has expanded it
            argument = str(file_tree.expand_user(Path(argument)))
        if argument == "-":
            for line in lines:
                sources += _expand(line.rstrip("\r\n")) if line.strip() else []
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            matches = [_expand(name) for name in sorted(glob.glob(argument, recursive=True))]
            # A pattern such as `pictures/**` matches both a folder and the files in it.
            unique = dict.fromkeys(itertools.chain(*matches))
            sources += unique or [InputSource(argument, f"{argument} matches no file.")]
        else:
            sources += _expand(argument)
    return sources


def _expand(name: str) -> list[InputSource]:
    """List a file, or the pictures of a folder."""
    if not os.path.isdir(name):
        return [InputSource(name)]
    sources: list[InputSource] = []
    try:
        for entry in file_tree.walk(name):
            is_picture = file_tree.is_picture(entry.name, SUFFIXES)
            if entry.problem and (is_picture or os.path.isdir(entry.path)):
                sources.append(InputSource(entry.path, f"{entry.path} {entry.problem}."))
            elif entry.status is not None and is_picture and not stat.S_ISDIR(entry.status.st_mode):
                sources.append(InputSource(entry.path))
    except OSError as error:
        sources.append(InputSource(name, f"{name} cannot be opened ({error.strerror})."))
    return sources or [InputSource(name, f"{name} holds no picture ({', '.join(sorted(SUFFIXES))}).")]


def read_inputs(
    sources: Iterable[InputSource], image_shape: Sequence[int], scale: float, bounded: bool = True, depth: int = 16
) -> Iterator[InputImage]:
    """Read the images of files one by one: every row of an ``.npz`` as ``name.npz[17]``, every picture of a ``.zip``.

    Parameters
    ----------
    sources : iterable of InputSource
    image_shape : sequence of int
        Shape of one image.
    scale : float
        Full intensity. Pictures and images of floats are rescaled to it; other arrays must have it.
    bounded : bool
        Whether values must lie from 0 to full intensity; otherwise they may have any finite size.
    depth : int
        Bits of full intensity in 16-bit grey pictures.
    """
    for name, reason in sources:
        try:
            if reason:
                raise UserError(reason)
            if files.is_npz(name):
                rows = _read_npz_images(name, tuple(image_shape), scale, bounded)
                yield from (InputImage(f"{name}[{i}]", row) for i, row in enumerate(rows))
            elif name.lower().endswith(".zip"):
                yield from _read_zip(name, image_shape, scale, depth)
            else:
                yield InputImage(name, read_image(Path(name), image_shape, scale, depth))
        except UserError as mistake:
            yield InputImage(name, None, str(mistake))


def read_image(path: Path, image_shape: Sequence[int], scale: float = 255.0, depth: int = 16) -> np.ndarray:
    """Decode a picture as for training: uint8 of ``image_shape``, full intensity ``scale``.

    Parameters
    ----------
    path : Path
    image_shape : sequence of int
        [H, W] or [H, W, 1] for grey, [H, W, 3] for RGB. A square is cropped from the middle; any other shape must
        be that of the picture.
    scale : float
        The value of full intensity, which is 255 in a picture.
    depth : int
        Bits of full intensity in 16-bit grey pictures.

    Raises
    ------
    UserError
        If there is no such file, it is not a picture, or the shape is not one of pictures.
    """
    return _decode_to_shape(str(path), lambda: files.open_file(path), image_shape, scale, depth)


def _decode_to_shape(
    name: str, open_stream: Callable[[], BinaryIO], image_shape: Sequence[int], scale: float, depth: int
) -> np.ndarray:
    """Decode a picture to a shape; raise a UserError that names it if it cannot be used."""
    if not is_picture_shape(image_shape):
        raise UserError(
            f"{name} is a picture, but the models accept arrays of shape {list(image_shape)}: give an .npz."
        )
    height, width = image_shape[:2]
    try:
        with open_stream() as stream:
            pixels = decode(stream, height if height == width else None, grey=image_shape[2:] != (3,), depth=depth)
    except FileNotFoundError:
        raise UserError(f"There is no file {name}.") from None
    except OSError as cause:
        raise UserError(f"{name} cannot be opened ({cause.strerror}).") from None
    except UnreadableImage as reason:
        raise UserError(f"{name} {reason}.") from None
    if pixels.shape[:2] != (height, width):
        raise UserError(
            f"{name} has {pixels.shape[1]} x {pixels.shape[0]} pixels, but the models accept {width} x {height}: "
            f"resize it."
        )
    if scale != 255:
        pixels = (pixels * (scale / 255)).round().astype(np.uint8)
    return pixels.reshape(tuple(image_shape))


def _read_zip(path: str, image_shape: Sequence[int], scale: float, depth: int) -> Iterator[InputImage]:
    """Read the pictures of a zip, as ``name.zip/a/b.png``, listed and checked as for training."""
    with file_tree.open_tree(Path(path), tuple(SUFFIXES)) as tree:
        for member in tree.pictures:
            name = f"{path}/{member}"
            try:
                open_stream = partial(tree.open, member)
                yield InputImage(name, _decode_to_shape(name, open_stream, image_shape, scale, depth))
            except UserError as mistake:
                yield InputImage(name, None, str(mistake))
        if not tree.pictures:
            raise UserError(f"{path} holds no picture ({', '.join(sorted(SUFFIXES))}).")


def _read_npz_images(name: str, image_shape: tuple[int, ...], scale: float, bounded: bool) -> np.ndarray:
    """Read the images of an ``.npz``: its only array of images, or else ``x_test`` or ``x_train``.

    Floats are converted as for training: images, 0 to the ``scale`` of the file (default 1), to uint8.
    """
    try:
        with open_npz(Path(name)) as archive:
            keys = [key for key in archive if key not in OTHER_ARRAYS]
            candidates = keys if len(keys) == 1 else [key for key in ("x_test", "x_train") if key in keys]
            x = archive[candidates[0]] if candidates else None
            stated = float(archive["scale"].item()) if "scale" in archive else None
    except UserError:
        raise
    except Exception as cause:  # a reader of arbitrary bytes can fail in any way; pickles are not loaded
        raise UserError(f"{name} cannot be read as an .npz of plain arrays ({type(cause).__name__}).") from cause
    if x is None:
        raise UserError(f"{name} holds {', '.join(keys) or 'no images'}: name the array to classify x_test.")
    if stated is not None and not 0 < stated < np.inf:
        raise UserError(f"{name} has the scale {stated:g}, but it must be a finite number above 0.")
    full = scale if stated is None else stated
    kind = np.dtype(np.uint8 if len(image_shape) > 1 else np.float32)
    if x.dtype.kind == "f" and x.shape[1:] == image_shape:  # converted as for training, see Data
        if kind == np.uint8:
            try:
                x, full = images_to_uint8(x, 1.0 if stated is None else stated, candidates[0], scale), scale
            except UserError as mistake:
                raise UserError(f"{name}: {mistake}") from None
        else:
            with np.errstate(over="ignore"):  # found below, as not finite
                x = x.astype(np.float32, copy=False)
    if x.dtype != kind or x.shape[1:] != image_shape or not len(x):
        raise UserError(
            f"{name} holds {candidates[0]}, {x.dtype} of shape {list(x.shape)}, but the models accept {kind} of shape "
            f"[N, {', '.join(map(str, image_shape))}]."
        )
    if not np.isfinite(x).all():
        raise UserError(f"{name} holds values that are not finite: remove their rows.")
    if full != scale or (bounded and not (x.min() >= 0 and x.max() <= scale)):
        raise UserError(
            f"{name} holds values from {x.min():g} to {x.max():g}, full intensity {full:g}, but the models accept 0 to "
            f"{scale:g}: rescale them."
        )
    return x


def chunk_sources(sources: Sequence[InputSource], size: int) -> Iterator[Sequence[InputSource]]:
    """Cut sources, in order, into chunks of at most ``size`` files; an archive of many images is a chunk of its own."""
    start = 0
    for i, source in enumerate(sources):
        if source.name.lower().endswith(ARCHIVES):
            if start < i:
                yield sources[start:i]
            yield sources[i : i + 1]
            start = i + 1
        elif i + 1 - start == size:
            yield sources[start : i + 1]
            start = i + 1
    if start < len(sources):
        yield sources[start:]
