"""Decode many pictures into one array, in parallel, and cache the array between runs.

Threads are used instead of processes: Pillow releases the GIL while it decodes, and threads start at once, write into
the array itself and need no ``__main__`` guard in a caller's script.

The cache lies in the user's cache folder. A damaged entry counts as missing, and the least recently used entries are
deleted to make room. ``SSGAN_CACHE=off`` turns it off. A cache that cannot be written costs only time.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ssgan import cache
from ssgan.data import image_io
from ssgan.data.file_tree import NOT_UNPACKED, FileTree
from ssgan.data.image_io import Header, UnreadableImage
from ssgan.data.npz import open_npz
from ssgan.errors import UserError
from ssgan.files import open_atomic

__all__ = ["CACHE_BYTES", "ImageArray", "ReadProgress", "load_cached", "read_images", "reorder_in_place", "save_cached"]


KIND = "decoded"  # name of the folder in the user's cache folder
CACHE_BYTES = 10 * 2**30  # largest total size of the entries


def load_cached(key: str) -> dict[str, np.ndarray] | None:
    """Return the arrays stored under a key, or None if there are none or the file is damaged."""
    if not cache.is_on():
        return None
    path = _cache_folder() / f"{key}.npz"
    try:
        with open_npz(path) as archive:
            arrays = {name: archive[name] for name in archive}
        with suppress(OSError):  # a folder that may only be read
            os.utime(path)
    except Exception:  # a damaged file can fail in any way, and is written again
        return None
    return arrays


def save_cached(key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Store arrays under a key, unless they do not fit; two processes may do so at the same time."""
    if not cache.is_on() or sum(array.nbytes for array in arrays.values()) > CACHE_BYTES:
        return
    folder, named_arrays = _cache_folder(), dict[str, Any](arrays)
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with open_atomic(folder / f"{key}.npz") as stream:
            np.savez(stream, **named_arrays)
        cache.make_room(folder, ["*.npz", ".*.part"], CACHE_BYTES)  # killed processes leave parts


def _cache_folder() -> Path:
    """Return the folder of the cache, whether or not caching is on."""
    return cache.default_root() / KIND


ReadProgress = Callable[[str, int, int], None]
T = TypeVar("T")

CHUNK = 64  # pictures that a thread takes at a time
MAX_THREADS = 16
SIZES_SHOWN = 5
NAMES_SHOWN = 5
FEW_COLOURED = 0.1  # largest fraction of colour pictures that are listed by name
# What the cache holds besides the pixels.
STORED = ("names", "skipped", "sizes", "modes", "depth", "notes")


@dataclass
class ImageArray:
    """Pictures in one array.

    Attributes
    ----------
    x : ndarray of uint8, shape [N, H, W] or [N, H, W, 3]
    names : list of str, length N
        The file of each row, ascending.
    skipped : list of (str, str)
        Files that could not be decoded, each with the reason.
    sizes, modes : dict of str to int
        Number of rows by the size of the picture in its file (``32x28``, width first) and by Pillow's mode.
    depth : int or None
        Bits of full intensity of 16-bit grey pictures; None if there are none.
    notes : list of str
        Sentences for the user about depth and colours.
    """

    x: np.ndarray
    names: list[str]
    skipped: list[tuple[str, str]]
    sizes: dict[str, int]
    modes: dict[str, int]
    depth: int | None = None
    notes: list[str] = field(default_factory=list)


def read_images(
    tree: FileTree,
    image_size: int | None,
    image_mode: str,
    image_depth: int | None = None,
    progress: ReadProgress | None = None,
) -> ImageArray:
    """Decode every picture of a tree, or take the array from the cache.

    Parameters
    ----------
    tree : FileTree
        Holds at least one picture.
    image_size, image_mode, image_depth
        As in :class:`ssgan.settings.options.Options`.
    progress : callable, optional
        Called with the stage, the number of pictures done and the total.

    Raises
    ------
    UserError
        If no picture can be read, sizes differ without an ``image_size``, or the array would not fit in memory.
    """
    request = json.dumps([image_io.decoder_version(), tree.stamp, image_size, image_mode, image_depth])
    key = hashlib.sha256(request.encode()).hexdigest()
    images = _load_images(key)
    if images is None:
        with image_io.ignore_warnings():
            show = progress or (lambda stage, done, count: None)
            images = _decode_all(tree, image_size, image_mode, image_depth, show)
        # Such a file may be readable next time: the stamp of a repaired zip, for example, is the same.
        if not any(reason.startswith((image_io.UNOPENED, NOT_UNPACKED)) for _, reason in images.skipped):
            about = json.dumps({name: getattr(images, name) for name in STORED})
            save_cached(key, {"x": images.x, "about": np.frombuffer(about.encode(), np.uint8)})
    return images


def reorder_in_place(x: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Return ``x[order]`` for distinct rows by swapping rows of ``x``, which saves the memory of a copy."""
    row_at = list(range(len(x)))  # original row that each position holds now
    position_of = list(range(len(x)))  # position that holds each original row now
    for target, row in enumerate(order):
        displaced, source = row_at[target], position_of[row]
        if target != source:
            values = x[target].copy()
            x[target] = x[source]
            x[source] = values
            row_at[source], position_of[displaced] = displaced, source
    return x[: len(order)]


def _load_images(key: str) -> ImageArray | None:
    """Return the images stored under a key of the cache, or None."""
    arrays = load_cached(key)
    if arrays is None or arrays.keys() != {"x", "about"}:
        return None
    about = json.loads(arrays["about"].tobytes())
    return ImageArray(arrays["x"], **{**about, "skipped": [(name, reason) for name, reason in about["skipped"]]})


def _decode_all(
    tree: FileTree, image_size: int | None, image_mode: str, image_depth: int | None, progress: ReadProgress
) -> ImageArray:
    """Read the headers of all pictures, choose size, mode and depth, and decode them."""

    def read_header(name: str, _: int) -> Header | str:
        try:
            with tree.open(name) as stream:
                return image_io.read_header(stream)
        except Exception as cause:
            return _reason(cause)

    headers = list(_map_in_threads(read_header, tree.pictures, "looking at", progress))
    results = [*zip(tree.pictures, headers, strict=True)]
    readable = {name: header for name, header in results if isinstance(header, Header)}
    skipped = [(name, reason) for name, reason in results if isinstance(reason, str)]
    _check_any(tree, readable, skipped)
    height, width = _image_size(tree, readable, image_size)
    grey = image_mode == "grey" or (image_mode == "auto" and all(header.grey for header in readable.values()))
    depth, notes = _choose_depth(readable, image_depth)
    if image_mode == "auto":
        notes += _note_few_coloured(readable)
    count = len(readable)
    x = _allocate(tree, (count, height, width) if grey else (count, height, width, 3))

    def decode_into(name: str, row: int) -> str | None:
        try:
            with tree.open(name) as stream:
                pixels = image_io.decode(stream, image_size, grey, depth or 16)
        except Exception as cause:
            return _reason(cause)
        if pixels.shape != x.shape[1:]:
            return f"is {pixels.shape[1]}x{pixels.shape[0]}, though its header says {width}x{height}"
        x[row] = pixels
        return None

    reasons = {
        row: reason
        for row, reason in enumerate(_map_in_threads(decode_into, list(readable), "decoding", progress))
        if reason is not None
    }
    names = list(readable)
    skipped = sorted([*skipped, *((names[row], reason) for row, reason in reasons.items())])
    rows = [row for row in range(len(names)) if row not in reasons]
    names = [names[row] for row in rows]
    _check_any(tree, names, skipped)
    return ImageArray(
        reorder_in_place(x, rows),
        names,
        skipped,
        _count(f"{readable[name].width}x{readable[name].height}" for name in names),
        _count(readable[name].mode for name in names),
        depth,
        notes,
    )


def _choose_depth(headers: Mapping[str, Header], image_depth: int | None) -> tuple[int | None, list[str]]:
    """Return the bits of full intensity of 16-bit grey pictures, None if there are none, and notes about it."""
    deep = {name: header for name, header in headers.items() if header.largest is not None}
    largest = {name: header.largest or 0 for name, header in deep.items() if header.grey and "A" not in header.mode}
    notes = _note_dark_colours([header.largest or 0 for name, header in deep.items() if name not in largest])
    if not largest:
        return None, notes
    top = max(largest.values())
    if image_depth is None:
        depth = next(bits for bits in image_io.DEPTHS if top < 2**bits)
        if depth == 16:
            return depth, notes
        return depth, [
            *notes,
            f"Grey pictures of 16 bits: {len(largest):,}, with values up to {top:,}, so {2**depth - 1:,} ({depth} "
            f"bits) is white; --set image_depth=16 makes 65,535 white.",
        ]
    beyond = [name for name, value in largest.items() if value >= 2**image_depth]
    if not beyond:
        return image_depth, notes
    return image_depth, [
        *notes,
        f"Grey pictures with values above {2**image_depth - 1:,}, which image_depth={image_depth} makes white: "
        f"{len(beyond):,} of {len(largest):,}, such as {beyond[0]} (up to {largest[beyond[0]]:,}).",
    ]


def _note_dark_colours(largest: Sequence[int]) -> list[str]:
    """Return a note that 16-bit colour pictures are dark, if they use less than half of the range."""
    if not largest or max(largest) >= 2**15:
        return []
    return [
        f"Colour pictures of 16 bits: {len(largest):,}, with values of at most {max(largest):,} of 65,535, so they are "
        f"dark and coarse: save them with 8 bits per channel."
    ]


def _note_few_coloured(headers: Mapping[str, Header]) -> list[str]:
    """Return a note on the files stored in colour if they are few and the others grey: they make all of them colour."""
    coloured = [name for name, header in headers.items() if not header.grey]
    if not 0 < len(coloured) <= FEW_COLOURED * len(headers):
        return []
    names = ", ".join(coloured[:NAMES_SHOWN]) + (", ..." if len(coloured) > NAMES_SHOWN else "")
    return [
        f"All pictures are read in colour, because {len(coloured):,} of {len(headers):,} are stored in colour "
        f"({names}); --set image_mode=grey makes all grey."
    ]


def _map_in_threads(
    function: Callable[[str, int], T], names: Sequence[str], stage: str, progress: ReadProgress
) -> Iterator[T]:
    """Yield ``function(name, row)`` in order, computed by one thread per processor, at most 16."""

    def run_chunk(start: int) -> list[T]:
        return [function(name, start + i) for i, name in enumerate(names[start : start + CHUNK])]

    pool = ThreadPoolExecutor(max(1, min(MAX_THREADS, _processor_count())))
    progress(stage, 0, len(names))
    try:
        done = 0
        for results in pool.map(run_chunk, range(0, len(names), CHUNK)):
            yield from results
            done += len(results)
            progress(stage, done, len(names))
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, do not wait for chunks that have not begun


def _processor_count() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reason(cause: Exception) -> str:
    """Say why a file could not be decoded; raise an error that is not due to the file."""
    if isinstance(cause, UnreadableImage):
        return str(cause)
    if isinstance(cause, MemoryError):
        raise cause
    if isinstance(cause, OSError):
        return f"{image_io.UNOPENED} ({cause.strerror or cause})"
    raise cause


def _check_any(tree: FileTree, readable: Sequence[str] | dict[str, Header], skipped: Sequence[tuple[str, str]]) -> None:
    """Raise a UserError if no picture can be read."""
    if not readable:
        name, reason = skipped[0]
        raise UserError(f"No picture of {tree.path} can be read, of {len(skipped):,} (the first: {name} {reason}).")


def _image_size(tree: FileTree, headers: dict[str, Header], image_size: int | None) -> tuple[int, int]:
    """Return height and width of every row."""
    if image_size is not None:
        return image_size, image_size
    sizes = Counter((header.width, header.height) for header in headers.values())
    if len(sizes) > 1:
        common = sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0]))
        words = ", ".join(f"{width}x{height}: {count:,}" for (width, height), count in common[:SIZES_SHOWN])
        more = ", ..." if len(sizes) > SIZES_SHOWN else ""
        raise UserError(
            f"{tree.path} holds pictures of {len(sizes):,} sizes ({words}{more}): set --image-size PX to resize all "
            f"of them to one square, such as --image-size 32."
        )
    ((width, height),) = sizes
    return height, width


def _allocate(tree: FileTree, shape: tuple[int, ...]) -> np.ndarray:
    """Allocate an array for all pixels.

    The system may promise memory that it does not have and fail much later, so the size is checked first.
    """
    size = int(np.prod(shape, dtype=object))
    names = getattr(os, "sysconf_names", {})
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in names else None
    if memory is not None and size > memory:
        raise UserError(
            f"{shape[0]:,} pictures of {shape[2]}x{shape[1]} from {tree.path} take {size / 2**30:,.0f} GiB, but this "
            f"machine has {memory / 2**30:,.0f}: give a smaller --image-size."
        )
    return np.empty(shape, np.uint8)


def _count(words: Iterator[str]) -> dict[str, int]:
    """Count equal words, the most common first."""
    return dict(sorted(Counter(words).items(), key=lambda pair: (-pair[1], pair[0])))
