"""What to classify: files, folders, patterns, arrays and lists of them, as images one after the other."""

import glob
import io
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssgan.errors import UserError
from ssgan.pictures import SUFFIXES, prepare

__all__ = ["Found", "Item", "gather", "listed", "read"]

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
        pictures = sorted(f for f in files if f.lower().endswith(SUFFIXES) and not f.startswith("."))
        found += [Found(os.path.join(base, file)) for file in pictures]
    return found or [Found(name, f"{name} holds no picture ({', '.join(SUFFIXES)}).")]


def read(found: Iterable[Found], image_shape: Sequence[int], scale: float) -> Iterator[Item]:
    """The images of files, one by one; of an ``.npz`` every row, as ``name.npz[17]``.

    Parameters
    ----------
    found : iterable of Found
    image_shape : sequence of int
        Of one image.
    scale : float
        Full intensity. Pictures are brought to it; an ``.npz`` must have it.
    """
    for name, reason in found:
        try:
            if reason:
                raise UserError(reason)
            if name.lower().endswith(".npz"):
                rows = _rows(name, tuple(image_shape), scale)
                yield from (Item(f"{name}[{i}]", row) for i, row in enumerate(rows))
            else:
                yield Item(name, prepare(Path(name), image_shape, scale))
        except UserError as mistake:
            yield Item(name, None, str(mistake))


def _rows(name: str, image_shape: tuple[int, ...], scale: float) -> np.ndarray:
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
    if full != scale or not (x.min() >= 0 and x.max() <= scale):
        raise UserError(
            f"{name} holds values from {x.min():g} to {x.max():g}, full intensity {full:g}, but the models take 0 to "
            f"{scale:g}: rescale them."
        )
    return x
