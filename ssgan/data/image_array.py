"""Decode many pictures into one array, in parallel, and cache the array between runs.

Threads are used instead of processes: Pillow decodes outside the interpreter's lock, and threads start at once, write
into the array itself and need no guard in a caller's script.

The cache lies in the user's cache folder. An entry that is damaged counts as missing, and the entries that were unused
for longest are deleted to make room. ``SSGAN_CACHE=off`` turns it off. A cache that cannot be written costs only time.
"""

import hashlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ssgan import cache
from ssgan.data import image_io
from ssgan.data.file_tree import FileTree
from ssgan.data.image_io import Header, UnreadableImage
from ssgan.data.npz import open_npz
from ssgan.errors import UserError
from ssgan.files import default_root

__all__ = ["CACHE_BYTES", "ImageArray", "ReadProgress", "load_cached", "read_images", "reorder_in_place", "save_cached"]


KIND = "decoded"  # name of the folder in the user's cache folder
CACHE_BYTES = 10 * 2**30  # most that all entries together may take
ABANDONED_SECONDS = 24 * 3600  # an unfinished entry older than this was left by a process that was killed


def load_cached(key: str) -> dict[str, np.ndarray] | None:
    """Return the arrays stored under a key, or None if there are none or the file is damaged."""
    if not cache.is_on():
        return None
    path = _cache_folder() / f"{key}.npz"
    try:
        with open_npz(path) as archive:
            arrays = {name: archive[name] for name in archive}
        os.utime(path)
    except Exception:  # a damaged file can fail in any way, and is written again
        return None
    return arrays


def save_cached(key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Store arrays under a key, unless they do not fit; two processes may do so at the same time."""
    if not cache.is_on() or sum(array.nbytes for array in arrays.values()) > CACHE_BYTES:
        return
    part, named_arrays = None, dict[str, Any](arrays)
    try:
        _cache_folder().mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=_cache_folder(), prefix=".", suffix=".part")
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, **named_arrays)
        os.replace(part, _cache_folder() / f"{key}.npz")
        cache.make_room(_cache_folder(), ["*.npz"], CACHE_BYTES)
        _delete_abandoned()
    except OSError:
        pass
    finally:
        if part is not None:
            Path(part).unlink(missing_ok=True)


def _delete_abandoned() -> None:
    """Delete entries that a process which was killed left unfinished."""
    for path in _cache_folder().glob("*.part"):
        if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
            path.unlink(missing_ok=True)


def _cache_folder() -> Path:
    """Return the folder of the cache, whether it is on or off."""
    return default_root() / KIND


ReadProgress = Callable[[str, int, int], None]
T = TypeVar("T")

CHUNK = 64  # pictures that a thread takes at a time
MAX_THREADS = 16
SIZES_SHOWN = 5


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
        Number of rows by the size of their file (``32x28``, width first) and by Pillow's mode.
    """

    x: np.ndarray
    names: list[str]
    skipped: list[tuple[str, str]]
    sizes: dict[str, int]
    modes: dict[str, int]


def read_images(
    tree: FileTree, image_size: int | None, image_mode: str, progress: ReadProgress | None = None
) -> ImageArray:
    """Decode every picture of a tree, or take the array from the cache.

    Parameters
    ----------
    tree : FileTree
        With at least one picture.
    image_size, image_mode
        As in :class:`ssgan.settings.options.Options`.
    progress : callable, optional
        Called with the stage, the number of pictures done and the total.

    Raises
    ------
    UserError
        If no picture can be read, sizes differ without an ``image_size``, or the array would not fit in memory.
    """
    request = json.dumps([image_io.DECODER, tree.stamp, image_size, image_mode])
    key = hashlib.sha256(request.encode()).hexdigest()
    images = _load_images(key)
    if images is None:
        with image_io.ignore_warnings():
            images = _decode_all(tree, image_size, image_mode, progress or (lambda stage, done, count: None))
        # A file that could not be opened may be readable next time, so such a result is not stored.
        if not any(reason.startswith(image_io.UNOPENED) for _, reason in images.skipped):
            about = json.dumps([images.names, images.skipped, images.sizes, images.modes])
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
    names, skipped, sizes, modes = json.loads(arrays["about"].tobytes())
    return ImageArray(arrays["x"], names, [(name, reason) for name, reason in skipped], sizes, modes)


def _decode_all(tree: FileTree, image_size: int | None, image_mode: str, progress: ReadProgress) -> ImageArray:
    """Read the headers of all pictures, choose size and mode, and decode them."""

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
    count = len(readable)
    x = _allocate(tree, (count, height, width) if grey else (count, height, width, 3))

    def decode_into(name: str, row: int) -> str | None:
        try:
            with tree.open(name) as stream:
                pixels = image_io.decode(stream, image_size, grey)
        except Exception as cause:
            return _reason(cause)
        if pixels.shape != x.shape[1:]:
            return f"is {pixels.shape[1]}x{pixels.shape[0]}, though its head says {width}x{height}"
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
    )


def _map_in_threads(
    function: Callable[[str, int], T], names: Sequence[str], stage: str, progress: ReadProgress
) -> Iterator[T]:
    """Yield ``function(name, row)`` in order, computed by as many threads as there are processors."""

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
    """Say why a file could not be decoded; raise an error that is not the fault of the file."""
    if isinstance(cause, UnreadableImage):
        return str(cause)
    if isinstance(cause, MemoryError):
        raise cause
    if isinstance(cause, OSError) and cause.errno is not None:
        return f"{image_io.UNOPENED} ({cause.strerror})"
    return f"cannot be unpacked ({str(cause) or type(cause).__name__})"


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
            f"{tree.path} holds pictures of {len(sizes):,} sizes ({words}{more}): say with --image-size PX to what "
            f"square all of them are cut, such as --image-size 32."
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
    """Count equal words, the commonest first."""
    return dict(sorted(Counter(words).items(), key=lambda pair: (-pair[1], pair[0])))
