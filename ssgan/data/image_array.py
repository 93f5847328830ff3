"""Many pictures in one array: looked at, decided on, decoded side by side, and kept for the next time.

Threads, not processes: Pillow decodes outside the interpreter's lock, threads start at once, write into the array
itself and need no guard in a caller's script.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ssgan import cache, pictures
from ssgan.errors import UserError
from ssgan.pictures import Broken, Header
from ssgan.trees import Tree

__all__ = ["Album", "Progress", "arranged", "gather"]

Progress = Callable[[str, int, int], None]
T = TypeVar("T")

CHUNK = 64  # pictures that a thread takes at once
MOST_THREADS = 16
SIZES_SHOWN = 5


@dataclass
class Album:
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


def gather(tree: Tree, image_size: int | None, image_mode: str, progress: Progress | None = None) -> Album:
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
    wanted = json.dumps([pictures.DECODER, tree.stamp, image_size, image_mode])
    key = hashlib.sha256(wanted.encode()).hexdigest()
    album = _recalled(key)
    if album is None:
        with pictures.quiet():
            album = _decoded(tree, image_size, image_mode, progress or (lambda what, done, count: None))
        # A disk that fails today may be well tomorrow.
        if not any(reason.startswith(pictures.UNOPENED) for _, reason in album.skipped):
            about = json.dumps([album.names, album.skipped, album.sizes, album.modes])
            cache.keep(key, {"x": album.x, "about": np.frombuffer(about.encode(), np.uint8)})
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


def _recalled(key: str) -> Album | None:
    arrays = cache.recall(key)
    if arrays is None or arrays.keys() != {"x", "about"}:
        return None
    names, skipped, sizes, modes = json.loads(arrays["about"].tobytes())
    return Album(arrays["x"], names, [(name, reason) for name, reason in skipped], sizes, modes)


def _decoded(tree: Tree, image_size: int | None, image_mode: str, progress: Progress) -> Album:
    def look(name: str, _: int) -> Header | str:
        try:
            with tree.open(name) as stream:
                return pictures.header(stream)
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
                pixels = pictures.decode(stream, image_size, grey)
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
    return Album(
        x,
        names,
        skipped,
        _counts(f"{sound[name].width}x{sound[name].height}" for name in names),
        _counts(sound[name].mode for name in names),
    )


def _side_by_side(work: Callable[[str, int], T], names: Sequence[str], what: str, progress: Progress) -> Iterator[T]:
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
    if isinstance(cause, Broken):
        return str(cause)
    if isinstance(cause, MemoryError):
        raise cause
    if isinstance(cause, OSError) and cause.errno is not None:
        return f"{pictures.UNOPENED} ({cause.strerror})"
    return f"cannot be unpacked ({str(cause) or type(cause).__name__})"


def _check_any(tree: Tree, sound: Sequence[str] | dict[str, Header], skipped: Sequence[tuple[str, str]]) -> None:
    if not sound:
        name, reason = skipped[0]
        raise UserError(f"No picture of {tree.path} can be read, of {len(skipped):,} (the first: {name} {reason}).")


def _size(tree: Tree, sound: dict[str, Header], image_size: int | None) -> tuple[int, int]:
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


def _allocated(tree: Tree, shape: tuple[int, ...]) -> np.ndarray:
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
