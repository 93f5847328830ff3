"""Arrays kept between runs in the user's cache: an entry is whole or taken for missing, and old ones make room.

``SSGAN_CACHE=off`` neither reads nor writes any. A cache that cannot be written costs time, nothing else.

Many pictures in one array: looked at, decided on, decoded side by side, and kept for the next time.

Threads, not processes: Pillow decodes outside the interpreter's lock, threads start at once, write into the array
itself and need no guard in a caller's script.
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

from ssgan.data import image_io
from ssgan.data.file_tree import FileTree
from ssgan.data.image_io import Header, UnreadableImage
from ssgan.errors import UserError
from ssgan.files import default_root

__all__ = ["LIMIT", "ImageArray", "ReadProgress", "arranged", "load_cached", "read_images", "save_cached"]


LIMIT = 10 * 2**30  # bytes of all entries together
ABANDONED_SECONDS = 24 * 3600  # an unfinished entry so old was left by a process that was killed


def load_cached(key: str) -> dict[str, np.ndarray] | None:
    """The arrays kept under a key, or None where there are none or the file is not what was written."""
    if not _is_on():
        return None
    path = _folder() / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:  # reading checks a CRC of every array
            arrays = {name: archive[name] for name in archive.files}
        os.utime(path)
    except Exception:  # what is torn or changed can fail in any way, and is made anew
        return None
    return arrays


def save_cached(key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep arrays under a key; two processes may do so at once. Without room for them, nothing happens."""
    if not _is_on() or sum(array.nbytes for array in arrays.values()) > LIMIT:
        return
    part, named = None, dict[str, Any](arrays)
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=_folder(), prefix=".", suffix=".part")
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, **named)
        os.replace(part, _folder() / f"{key}.npz")
        _make_room()
    except OSError:
        pass
    finally:
        if part is not None:
            Path(part).unlink(missing_ok=True)


def _make_room() -> None:
    """Delete the entries that were not used for longest until the rest is within the limit."""
    found = sorted(((path.stat(), path) for path in _folder().iterdir()), key=lambda pair: -pair[0].st_mtime)
    total = 0
    for status, path in found:
        if path.suffix == ".npz":
            total += status.st_size
        abandoned = path.suffix == ".part" and time.time() - status.st_mtime > ABANDONED_SECONDS
        if abandoned or (path.suffix == ".npz" and total > LIMIT):
            path.unlink(missing_ok=True)


def _folder() -> Path:
    return default_root() / "decoded"


def _is_on() -> bool:
    chosen = os.environ.get("SSGAN_CACHE") or "on"
    if chosen not in ("on", "off"):
        raise UserError(f"SSGAN_CACHE is {chosen!r}, but must be on or off.")
    return chosen == "on"


ReadProgress = Callable[[str, int, int], None]
T = TypeVar("T")

CHUNK = 64  # pictures that a thread takes at once
MOST_THREADS = 16
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
        Files that gave no pixels, each with the reason.
    sizes, modes : dict of str to int
        How many of the rows came from files of each size (``32x28``, width first) and each of Pillow's modes.
    """

    x: np.ndarray
    names: list[str]
    skipped: list[tuple[str, str]]
    sizes: dict[str, int]
    modes: dict[str, int]


def read_images(
    tree: FileTree, image_size: int | None, image_mode: str, progress: ReadProgress | None = None
) -> ImageArray:
    """Decode every picture of a tree, or take what was decoded before from the cache.

    Parameters
    ----------
    tree : Tree
        With one picture at least.
    image_size, image_mode
        As in :class:`ssgan.settings.options.Options`.
    progress : callable, optional
        Told what is being done, how many pictures are done and how many there are.

    Raises
    ------
    UserError
        Where no picture can be read, sizes differ without an ``image_size``, or the array would not fit in memory.
    """
    wanted = json.dumps([image_io.DECODER, tree.stamp, image_size, image_mode])
    key = hashlib.sha256(wanted.encode()).hexdigest()
    album = _recalled(key)
    if album is None:
        with image_io.quiet():
            album = _decoded(tree, image_size, image_mode, progress or (lambda what, done, count: None))
        # A disk that fails today may be well tomorrow.
        if not any(reason.startswith(image_io.UNOPENED) for _, reason in album.skipped):
            about = json.dumps([album.names, album.skipped, album.sizes, album.modes])
            save_cached(key, {"x": album.x, "about": np.frombuffer(about.encode(), np.uint8)})
    return album


def arranged(x: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """``x[order]`` for distinct rows, made by moving rows within ``x`` itself, which is left in disorder."""
    holds = list(range(len(x)))  # which row of old lies in each place
    lies = list(range(len(x)))  # and where each row of old lies
    for place, row in enumerate(order):
        here, there = holds[place], lies[row]
        if place != there:
            kept = x[place].copy()
            x[place] = x[there]
            x[there] = kept
            holds[there], lies[here] = here, there
    return x[: len(order)]


def _recalled(key: str) -> ImageArray | None:
    arrays = load_cached(key)
    if arrays is None or arrays.keys() != {"x", "about"}:
        return None
    names, skipped, sizes, modes = json.loads(arrays["about"].tobytes())
    return ImageArray(arrays["x"], names, [(name, reason) for name, reason in skipped], sizes, modes)


def _decoded(tree: FileTree, image_size: int | None, image_mode: str, progress: ReadProgress) -> ImageArray:
    def look(name: str, _: int) -> Header | str:
        try:
            with tree.open(name) as stream:
                return image_io.header(stream)
        except Exception as cause:
            return _reason(cause)

    headers = list(_side_by_side(look, tree.pictures, "looking at", progress))
    sound = {name: head for name, head in zip(tree.pictures, headers, strict=True) if isinstance(head, Header)}
    skipped = [(name, head) for name, head in zip(tree.pictures, headers, strict=True) if isinstance(head, str)]
    _check_any(tree, sound, skipped)
    height, width = _size(tree, sound, image_size)
    grey = image_mode == "grey" or (image_mode == "auto" and all(head.grey for head in sound.values()))
    x = _allocated(tree, (len(sound), height, width) if grey else (len(sound), height, width, 3))

    def fill(name: str, row: int) -> str | None:
        try:
            with tree.open(name) as stream:
                pixels = image_io.decode(stream, image_size, grey)
        except Exception as cause:
            return _reason(cause)
        if pixels.shape != x.shape[1:]:
            return f"is {pixels.shape[1]}x{pixels.shape[0]}, though its head says {width}x{height}"
        x[row] = pixels
        return None

    failed = {
        row: reason
        for row, reason in enumerate(_side_by_side(fill, list(sound), "decoding", progress))
        if reason is not None
    }
    names = list(sound)
    skipped = sorted([*skipped, *((names[row], reason) for row, reason in failed.items())])
    kept = [row for row in range(len(names)) if row not in failed]
    names = [names[row] for row in kept]
    _check_any(tree, names, skipped)
    x = arranged(x, kept)
    return ImageArray(
        x,
        names,
        skipped,
        _counts(f"{sound[name].width}x{sound[name].height}" for name in names),
        _counts(sound[name].mode for name in names),
    )


def _side_by_side(
    work: Callable[[str, int], T], names: Sequence[str], what: str, progress: ReadProgress
) -> Iterator[T]:
    """The results of ``work(name, row)`` in order, made by as many threads as there are processors."""

    def several(start: int) -> list[T]:
        return [work(name, start + i) for i, name in enumerate(names[start : start + CHUNK])]

    pool = ThreadPoolExecutor(max(1, min(MOST_THREADS, _processors())))
    progress(what, 0, len(names))
    try:
        done = 0
        for results in pool.map(several, range(0, len(names), CHUNK)):
            yield from results
            done += len(results)
            progress(what, done, len(names))
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, what has not begun is not waited for


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reason(cause: Exception) -> str:
    """Why a file gave nothing; a fault that is not the file's goes on."""
    if isinstance(cause, UnreadableImage):
        return str(cause)
    if isinstance(cause, MemoryError):
        raise cause
    if isinstance(cause, OSError) and cause.errno is not None:
        return f"{image_io.UNOPENED} ({cause.strerror})"
    return f"cannot be unpacked ({str(cause) or type(cause).__name__})"


def _check_any(tree: FileTree, sound: Sequence[str] | dict[str, Header], skipped: Sequence[tuple[str, str]]) -> None:
    if not sound:
        name, reason = skipped[0]
        raise UserError(f"No picture of {tree.path} can be read, of {len(skipped):,} (the first: {name} {reason}).")


def _size(tree: FileTree, sound: dict[str, Header], image_size: int | None) -> tuple[int, int]:
    """Height and width of every row."""
    if image_size is not None:
        return image_size, image_size
    sizes = Counter((head.width, head.height) for head in sound.values())
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


def _allocated(tree: FileTree, shape: tuple[int, ...]) -> np.ndarray:
    """An array for all pixels, where the machine can hold one: what is only promised would be missed much later."""
    needed = int(np.prod(shape, dtype=object))
    names = getattr(os, "sysconf_names", {})
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in names else None
    if memory is not None and needed > memory:
        raise UserError(
            f"{shape[0]:,} pictures of {shape[2]}x{shape[1]} from {tree.path} take {needed / 2**30:,.0f} GiB, but this "
            f"machine has {memory / 2**30:,.0f}: give a smaller --image-size."
        )
    return np.empty(shape, np.uint8)


def _counts(words: Iterator[str]) -> dict[str, int]:
    """How often each occurs, the commonest first."""
    return dict(sorted(Counter(words).items(), key=lambda pair: (-pair[1], pair[0])))
