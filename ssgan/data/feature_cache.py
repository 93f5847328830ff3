"""Keep the features of images on disk, by the content of each image, so that each is computed once.

A cache is a folder with two append-only files. ``F.features`` has a row of F float16 for each image. ``F.keys`` has
a record of 20 bytes for each row: the hash of the image, and the CRC-32 of the row. A row is written before its record,
and used only if the CRC matches. So a killed process, a power failure or a damaged file costs only the rows concerned,
which are computed again.

Several processes may use a cache at the same time. Each appends under a lock held for milliseconds, and uses the rows
that the others have added. The first process works forwards from the first image and the others backwards from the
last, so they share work.

Neither pixels nor features are held in memory, only some 100 bytes for each image. If a cache cannot be written,
because the disk is full or the folder read-only, that costs time, and memory for the features that it lacks.
``SSGAN_CACHE=off`` turns it off.
"""

import hashlib
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from ssgan.cache import cache_folder, make_room
from ssgan.errors import Busy, UserError
from ssgan.files import lock, open_file

__all__ = ["CACHE_BYTES", "RemoteCompute", "compute_features", "feature_folder"]

CACHE_BYTES = 10 * 2**30  # largest total size of all caches of features
CHUNK = 64  # images between writes: what a killed process loses at most
BLOCK = 512  # images that are hashed, or rows that are mapped, at a time
MEMORY_BYTES = 2**30  # largest result that is copied into memory; a larger one is a temporary file
LOCK_SECONDS = 60.0  # longest wait for another process that appends
KIND = "features"  # name of the folder in the user's cache folder
KEY_BYTES = 16
RECORD = np.dtype([("key", f"S{KEY_BYTES}"), ("crc", "<u4")])
FLOAT16 = np.dtype("<f2")
#: Maps parts [n, ...] of the images to their features [n, F], in order, on other machines or processors.
RemoteCompute = Callable[[Iterable[np.ndarray]], Generator[np.ndarray, None, None]]


def feature_folder(name: str) -> Path | None:
    """Return the folder for the features of one backbone; None if ``SSGAN_CACHE`` is ``off``.

    Parameters
    ----------
    name : str
        As ``ssgan.nn.backbones.Backbone.cache_name``.
    """
    folder = cache_folder(KIND)
    return None if folder is None else folder / name


def compute_features(
    images: Any,
    compute: Callable[[np.ndarray], np.ndarray],
    folder: Path | None,
    width: int,
    on_progress: Callable[[int, int], None] | None = None,
    context: str = "",
    remote: RemoteCompute | None = None,
    read_only: bool = False,
) -> np.ndarray:
    """Return the features of images, computing only those that the cache lacks.

    Parameters
    ----------
    images : array-like, shape [N, ...]
        An array, a memory map or anything else with a length, whose slices are arrays.
    compute : callable
        Maps images [n, ...] to features [n, F]. It gets at most 64 images at a time, and equal ones only once. Features
        must depend on their own image only.
    folder : Path or None
        The cache, created if missing: one for each combination of backbone, weights and image size. None: no cache.
    width : int
        F.
    on_progress : callable, optional
        Called with the number of images done, from 0 on, and the number that the cache lacked; not called if it lacked
        none. Images that another process computes meanwhile count as done.
    context : str
        What else the features depend on, such as the scale of the pixels.
    remote : callable, optional
        Computes features instead of ``compute``, from chunks of at most 64 images.
    read_only : bool, default: False
        Whether to add nothing to the cache.

    Returns
    -------
    ndarray of float16, shape [N, F], read-only
        A memory map of the cache if its rows are in the order of the images. Otherwise a copy, in memory or, if it
        takes more than 1 GiB, in a temporary file beside the cache.

    Raises
    ------
    ValueError
        If ``compute`` returns another shape.
    """
    keys, first, numbers = np.unique(_hash_images(images, context), return_index=True, return_inverse=True)
    with _Store(folder, width, read_only) as store, ExitStack() as stack:
        rows = store.find(keys)
        missing = np.flatnonzero(rows < 0)
        missing = missing[np.argsort(first[missing])]  # in the order of the images
        if len(missing) and not read_only and not _is_first(stack, folder):
            missing = missing[::-1]
        unsaved = _Unsaved(len(missing), len(keys), width)
        if on_progress is not None and len(missing):
            on_progress(0, len(missing))
        starts = range(0, len(missing), CHUNK)
        ahead = None
        if remote is not None and len(missing):
            ahead = remote(_take(images, first[missing[start : start + CHUNK]]) for start in starts)
            stack.callback(ahead.close)
        for start in starts:
            part = missing[start : start + CHUNK]
            computed = None if ahead is None else next(ahead)
            rows[part] = store.find_added(keys[part])
            is_todo = rows[part] < 0
            todo = part[is_todo]
            if len(todo):
                features = compute(_take(images, first[todo])) if computed is None else computed[is_todo]
                features = np.asarray(features)
                if features.shape != (len(todo), width):
                    raise ValueError(f"compute returned the shape {features.shape}, not {(len(todo), width)}")
                features = features.astype(FLOAT16)
                saved = store.append(keys[todo], features)
                if saved is None:
                    unsaved.add(todo, features)
                else:
                    rows[todo] = saved
            if on_progress is not None:
                on_progress(start + len(part), len(missing))
        result = _gather(store, rows, unsaved, numbers)
    if folder is not None and not read_only and folder.parent == cache_folder(KIND):
        make_room(folder.parent, ("*/*.features", "*/*.keys"), CACHE_BYTES, keep=folder)
    result.setflags(write=False)
    return result


class _Store:
    """The files of a cache. If they cannot be opened, it finds nothing and stores nothing.

    Rows are read and written through the files that were opened first, even if another process deletes them.
    """

    def __init__(self, folder: Path | None, width: int, read_only: bool = False) -> None:
        self.folder, self.width, self.read_only = folder, width, read_only
        self._row_bytes = width * FLOAT16.itemsize
        self._stack = ExitStack()
        self._features: BinaryIO | None = None
        self._keys: BinaryIO | None = None
        self._is_writable = False
        self._count = 0  # records that were read
        self._added: dict[bytes, tuple[int, int]] = {}  # row and CRC by key, of other processes, since the start

    def __enter__(self) -> Self:
        if self.folder is not None:
            paths = [self.folder / f"{self.width}.{kind}" for kind in ("features", "keys")]
            for mode in ("rb",) if self.read_only else ("r+b", "rb"):
                try:
                    if mode == "r+b":
                        self.folder.mkdir(parents=True, exist_ok=True)
                        for path in paths:
                            path.touch()  # the time of last use
                    self._features, self._keys = (self._stack.enter_context(open_file(path, mode, 0)) for path in paths)
                    self._is_writable = mode == "r+b"
                    break
                except OSError:
                    self._features = self._keys = None
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the row of each key, int64 [N]; -1 if there is none or it is damaged."""
        records = self._read_records()
        rows = np.full(len(keys), -1, np.int64)
        if len(records):
            order = np.argsort(records["key"], kind="stable")
            stored = records["key"][order]
            last = np.searchsorted(stored, keys, side="right") - 1  # the latest of equal keys
            is_stored = stored[last] == keys
            rows[is_stored] = order[last[is_stored]]
            self._check(rows, records["crc"][rows])
        return rows

    def find_added(self, keys: np.ndarray) -> np.ndarray:
        """Return the row of each key among those that other processes have added since the last call, like ``find``."""
        self._note_added()
        rows, crcs = np.full(len(keys), -1, np.int64), np.zeros(len(keys), np.uint32)
        if self._added:
            for i, key in enumerate(keys.tolist()):
                rows[i], crcs[i] = self._added.get(key, (-1, 0))
            self._check(rows, crcs)
        return rows

    def append(self, keys: np.ndarray, features: np.ndarray) -> np.ndarray | None:
        """Append rows of float16 [n, F] and return their numbers; None if they cannot be written."""
        if not self._is_writable or self._features is None or self._keys is None or self.folder is None:
            return None
        rows = [row.tobytes() for row in features]
        records = np.empty(len(keys), RECORD)
        records["key"] = keys
        records["crc"] = [zlib.crc32(row) for row in rows]
        try:
            with _wait_for_lock(self.folder / ".append.lock"):
                count = self._count_records()
                if count < self._count:
                    raise OSError("rows have vanished")
                if (count + len(keys)) * self._row_bytes > CACHE_BYTES:
                    raise OSError("the cache is full")
                self._note_added()
                # What a killed process left after the last complete row and record is overwritten.
                _write_at(self._features, count * self._row_bytes, b"".join(rows))
                _write_at(self._keys, count * RECORD.itemsize, records.tobytes())
        except (OSError, UserError):
            self._is_writable = False
            return None
        self._count = count + len(keys)
        return np.arange(count, self._count)

    def map(self, start: int, stop: int) -> np.ndarray:
        """Map rows into memory, float16 [stop - start, F]."""
        assert self._features is not None
        shape = (stop - start, self.width)
        return np.memmap(self._features, FLOAT16, "r", offset=start * self._row_bytes, shape=shape)

    def _count_records(self) -> int:
        """Return the number of complete records with complete rows."""
        if self._features is None or self._keys is None:
            return 0
        sizes = [os.fstat(stream.fileno()).st_size for stream in (self._features, self._keys)]
        return min(sizes[0] // self._row_bytes, sizes[1] // RECORD.itemsize)

    def _read_records(self) -> np.ndarray:
        """Read the records that have not been read yet."""
        count = self._count_records()
        if self._keys is None or count <= self._count:
            return np.empty(0, RECORD)
        shape, offset = (count - self._count,), self._count * RECORD.itemsize
        self._count = count
        return np.array(np.memmap(self._keys, RECORD, "r", offset, shape))

    def _note_added(self) -> None:
        start = self._count
        records = self._read_records()
        for row, (key, crc) in enumerate(records.tolist(), start):
            self._added[key] = row, crc

    def _check(self, rows: np.ndarray, crcs: np.ndarray) -> None:
        """Set the index of each row whose CRC differs to -1."""
        order = np.argsort(rows, kind="stable")
        order = order[rows[order] >= 0]
        blocks = np.flatnonzero(np.diff(rows[order] // BLOCK)) + 1
        for part in np.split(order, blocks) if len(order) else []:
            start, stop = int(rows[part[0]]), int(rows[part[-1]]) + 1
            features = np.asarray(self.map(start, stop))
            for i in part:
                if zlib.crc32(features[rows[i] - start]) != crcs[i]:
                    rows[i] = -1


class _Unsaved:
    """Features kept in memory because they could not be stored.

    Parameters
    ----------
    most : int
        Largest number of features that will be added.
    different, width : int
        Number of distinct images, U, and length of a feature vector, F.

    Attributes
    ----------
    places : ndarray of int, shape [U]
        The row of each distinct image; -1 if it has none.
    """

    def __init__(self, most: int, different: int, width: int) -> None:
        self._shape = (most, width)
        self._features: np.ndarray | None = None
        self.places = np.full(different, -1, np.int64)
        self._count = 0

    def add(self, numbers: np.ndarray, features: np.ndarray) -> None:
        """Add the features [n, F] of some of the distinct images."""
        if self._features is None:
            self._features = np.empty(self._shape, FLOAT16)  # takes memory as it is written
        stop = self._count + len(numbers)
        self.places[numbers] = np.arange(self._count, stop)
        self._features[self._count : stop] = features
        self._count = stop

    def map(self, start: int, stop: int) -> np.ndarray:
        """Return rows, float16 [stop - start, F]."""
        assert self._features is not None
        return self._features[start:stop]


def _gather(store: _Store, rows: np.ndarray, unsaved: _Unsaved, numbers: np.ndarray) -> np.ndarray:
    """Return the features of all images; ``numbers`` has the index of each among the distinct ones."""
    count, width = len(numbers), store.width
    sources = ((rows, store.map), (unsaved.places, unsaved.map))
    for places, get in sources if count else ():
        start = int(places[numbers[0]])
        if start >= 0 and np.array_equal(places[numbers], np.arange(start, start + count)):
            return get(start, start + count)

    def copy(start: int) -> np.ndarray:
        part = numbers[start : start + BLOCK]
        block = np.empty((len(part), width), FLOAT16)
        for places, get in sources:
            is_here = places[part] >= 0
            if is_here.any():
                wanted = places[part][is_here]
                lowest = int(wanted.min())
                block[is_here] = get(lowest, int(wanted.max()) + 1)[wanted - lowest]
        return block

    if count * width * FLOAT16.itemsize > MEMORY_BYTES and store.folder is not None:
        with suppress(OSError), tempfile.TemporaryFile(dir=store.folder) as stream:
            for start in range(0, count, BLOCK):
                stream.write(copy(start).data)
            stream.flush()
            return np.memmap(stream, FLOAT16, "r", shape=(count, width))
    result = np.empty((count, width), FLOAT16)
    for start in range(0, count, BLOCK):
        result[start : start + BLOCK] = copy(start)
    return result


def _hash_images(images: Any, context: str) -> np.ndarray:
    """Return a hash of the pixels, type and shape of each image, and of a context; [N] of 16 bytes."""
    keys = np.empty(len(images), RECORD["key"])
    for start in range(0, len(images), BLOCK):
        block = np.ascontiguousarray(images[start : start + BLOCK])
        about = f"{block.dtype.str} {block.shape[1:]} {context}".encode()
        same = hashlib.blake2b(len(about).to_bytes(4, "little") + about, digest_size=KEY_BYTES)
        digests = []
        for image in block:
            digest = same.copy()
            digest.update(image)
            digests.append(digest.digest())
        keys[start : start + len(block)] = np.frombuffer(b"".join(digests), keys.dtype)
    return keys


def _take(images: Any, indices: np.ndarray) -> np.ndarray:
    """Return some images, as one slice if they are consecutive."""
    start = int(indices[0])
    if np.array_equal(indices, np.arange(start, start + len(indices))):
        return np.asarray(images[start : start + len(indices)])
    return np.concatenate([np.asarray(images[i : i + 1]) for i in indices.tolist()])


def _write_at(stream: BinaryIO, start: int, content: bytes) -> None:
    """Write bytes at an offset of an unbuffered file."""
    stream.seek(start)
    rest = memoryview(content)
    while rest:
        rest = rest[stream.write(rest) :]


def _is_first(stack: ExitStack, folder: Path | None) -> bool:
    """Return whether no other process computes features for this cache; until the stack closes, a lock tells others."""
    if folder is not None:
        try:
            stack.enter_context(lock(folder / ".work.lock", "busy"))
        except Busy:
            return False
        except (OSError, UserError):
            pass
    return True


@contextmanager
def _wait_for_lock(path: Path) -> Iterator[None]:
    """Hold a lock while the block runs, after waiting for another process that holds it.

    Raises
    ------
    UserError
        If it is still held after a minute, or cannot be created.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock(path, f"{path} is held by another process."))
                break
            except Busy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.002)
        yield
