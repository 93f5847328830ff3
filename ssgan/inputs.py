"""What to classify: files, folders, patterns, arrays and lists of them, as images one after the other."""

import glob
import io
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ssgan.data import file_tree
from ssgan.data.image_io import SUFFIXES, UnreadableImage, decode
from ssgan.errors import UserError

__all__ = ["Found", "Item", "gather", "listed", "prepare", "read"]

# Arrays of an .npz that hold no images.
OTHER_ARRAYS = {"y_train", "y_test", "classes", "scale"}


class Found(NamedTuple):
    """A file to read; or, with a ``reason``, why there is none."""

    name: str
    reason: str = ""


class Item(NamedTuple):
    """One image, an array of the models' shape; or, with None for it, the ``reason`` why it cannot be read."""

    name: str
    pixels: np.ndarray | None
    reason: str = ""


def listed() -> Iterator[str]:
    """The lines of standard input; names of files are not always text."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    yield from sys.stdin


def gather(arguments: Sequence[str], lines: Iterable[str] = ()) -> list[Found]:
    """The files that arguments stand for, in their order.

    Parameters
    ----------
    arguments : sequence of str
        A file stands for itself; a folder for the pictures in it and its subfolders, by suffix and without hidden
        ones, sorted; a pattern of :mod:`glob` that is no file for what it matches, sorted. ``-`` stands for
        ``lines``. What is not there or empty stays in the list, with the reason.
    lines : iterable of str
        Lines that name files or folders; a blank one names nothing.
    """
    found: list[Found] = []
    for argument in arguments:
        if argument == "-":
            for line in lines:
                found += _expand(line.rstrip("\r\n")) if line.strip() else []
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            matches = [_expand(name) for name in sorted(glob.glob(argument, recursive=True))]
            # Of a pattern such as `pictures/**` both a folder and the files in it are matches.
            found += dict.fromkeys(itertools.chain(*matches)) or [Found(argument, f"{argument} matches no file.")]
        else:
            found += _expand(argument)
    return found


def _expand(name: str) -> list[Found]:
    if not os.path.isdir(name):
        return [Found(name)]
    found: list[Found] = []

    def fail(error: OSError) -> None:
        found.append(Found(str(error.filename), f"{error.filename} cannot be read ({error.strerror})."))

    for base, folders, files in os.walk(name, onerror=fail):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        pictures = sorted(f for f in files if f.lower().endswith(tuple(SUFFIXES)) and not f.startswith("."))
        found += [Found(os.path.join(base, file)) for file in pictures]
    return found or [Found(name, f"{name} holds no picture ({', '.join(sorted(SUFFIXES))}).")]


def read(found: Iterable[Found], image_shape: Sequence[int], scale: float, bounded: bool = True) -> Iterator[Item]:
    """The images of files, one by one; of an ``.npz`` every row, as ``name.npz[17]``, of a ``.zip`` every picture.

    Parameters
    ----------
    found : iterable of Found
    image_shape : sequence of int
        Of one image.
    scale : float
        Full intensity. Pictures are brought to it; an ``.npz`` must have it.
    bounded : bool
        Whether numbers lie from 0 to full intensity, and are not of any finite size.
    """
    for name, reason in found:
        try:
            if reason:
                raise UserError(reason)
            if name.lower().endswith(".npz"):
                rows = _rows(name, tuple(image_shape), scale, bounded)
                yield from (Item(f"{name}[{i}]", row) for i, row in enumerate(rows))
            elif name.lower().endswith(".zip"):
                yield from _members(Path(name), image_shape, scale)
            else:
                yield Item(name, prepare(Path(name), image_shape, scale))
        except UserError as mistake:
            yield Item(name, None, str(mistake))


def prepare(path: Path, image_shape: Sequence[int], scale: float = 255.0) -> np.ndarray:
    """Decode a picture as those of a training are: uint8 of ``image_shape``, full intensity ``scale``.

    Parameters
    ----------
    path : Path
    image_shape : sequence of int
        [H, W] or [H, W, 1] for grey, [H, W, 3] for RGB. A square one is cut out of the middle; a picture must have
        any other by itself.
    scale : float
        The value that stands for full intensity, where a picture has 255.

    Raises
    ------
    UserError
        Where the file is not there or no picture, or the shape is not one of pictures.
    """
    return _prepared(str(path), lambda: path.open("rb"), image_shape, scale)


def _prepared(name: str, opened: Callable[[], BinaryIO], image_shape: Sequence[int], scale: float) -> np.ndarray:
    if len(image_shape) not in (2, 3) or (len(image_shape) == 3 and image_shape[2] not in (1, 3)):
        raise UserError(f"{name} is a picture, but the models take arrays of shape {list(image_shape)}: give an .npz.")
    height, width = image_shape[:2]
    try:
        with opened() as stream:
            pixels = decode(stream, height if height == width else None, grey=image_shape[2:] != (3,))
    except FileNotFoundError:
        raise UserError(f"There is no file {name}.") from None
    except OSError as cause:
        raise UserError(f"{name} cannot be opened ({cause.strerror}).") from None
    except UnreadableImage as reason:
        raise UserError(f"{name} {reason}.") from None
    if pixels.shape[:2] != (height, width):
        raise UserError(
            f"{name} has {pixels.shape[1]} x {pixels.shape[0]} pixels, but the models take {width} x {height}: "
            f"resize it."
        )
    if scale != 255:
        pixels = (pixels * (scale / 255)).round().astype(np.uint8)
    return pixels.reshape(tuple(image_shape))


def _members(path: Path, image_shape: Sequence[int], scale: float) -> Iterator[Item]:
    """The pictures of a zip, as ``name.zip/a/b.png``, found and guarded as those of a training are."""
    with file_tree.open_tree(path, tuple(SUFFIXES)) as tree:
        for member in tree.pictures:
            name = f"{path}/{member}"
            try:
                yield Item(name, _prepared(name, partial(_unpacked, tree, member), image_shape, scale))
            except UserError as mistake:
                yield Item(name, None, str(mistake))
        if not tree.pictures:
            raise UserError(f"{path} holds no picture ({', '.join(sorted(SUFFIXES))}).")


def _unpacked(tree: file_tree.FileTree, member: str) -> BinaryIO:
    try:
        return tree.open(member)
    except Exception as cause:  # a reader of arbitrary bytes can fail in any way
        raise UnreadableImage(f"cannot be unpacked ({type(cause).__name__})") from cause


def _rows(name: str, image_shape: tuple[int, ...], scale: float, bounded: bool) -> np.ndarray:
    """The images of an ``.npz``: ``x_test``, else ``x_train``, else the only array that can be meant."""
    try:
        with np.load(name, allow_pickle=False) as archive:
            images = [key for key in archive.files if key not in OTHER_ARRAYS]
            meant = images if len(images) == 1 else [key for key in ("x_test", "x_train") if key in images]
            x = archive[meant[0]] if meant else None
            full = float(archive["scale"].item()) if "scale" in archive.files else scale
    except FileNotFoundError:
        raise UserError(f"There is no file {name}.") from None
    except Exception as cause:  # a reader of arbitrary bytes can fail in any way; pickles are not loaded
        raise UserError(f"{name} cannot be read as an .npz of plain arrays ({type(cause).__name__}).") from cause
    if x is None:
        raise UserError(f"{name} holds {', '.join(images) or 'no images'}: call the array to classify x_test.")
    kind = np.dtype(np.uint8 if len(image_shape) > 1 else np.float32)
    if x.dtype != kind or x.shape[1:] != image_shape or not len(x):
        raise UserError(
            f"{name} holds {meant[0]}, {x.dtype} of shape {list(x.shape)}, but the models take {kind} of shape "
            f"[N, {', '.join(map(str, image_shape))}]."
        )
    if not np.isfinite(x).all():
        raise UserError(f"{name} holds values that are no finite numbers: leave their rows out.")
    if full != scale or (bounded and not (x.min() >= 0 and x.max() <= scale)):
        raise UserError(
            f"{name} holds values from {x.min():g} to {x.max():g}, full intensity {full:g}, but the models take 0 to "
            f"{scale:g}: rescale them."
        )
    return x
