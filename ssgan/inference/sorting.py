"""Sort classified pictures into a folder for each class, and draw the least sure ones of each class."""

import errno
import hashlib
import heapq
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from ssgan.data import image_io
from ssgan.data.dataset import Data
from ssgan.data.file_tree import FileTree, open_tree
from ssgan.data.layouts import SUBSETS
from ssgan.errors import UserError
from ssgan.figures.fonts import legible
from ssgan.figures.image_grid import Tile, draw_table, to_uint8
from ssgan.files import open_atomic, open_file
from ssgan.inference.inputs import InputSource
from ssgan.inference.predict import Prediction
from ssgan.settings.catalog import is_picture_shape

__all__ = ["UNSURE", "ContactSheet", "Pictures", "Sorter", "folder_names", "read_tiles", "save_sheet"]

UNSURE = "unsure"
NAME_BYTES = 120  # longest name of a class folder
CHUNK = 2**20
# Device names of Windows, which no folder there can have.
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
SHEET_COLUMNS, SHEET_ROWS, SHEET_CLASSES, SHEET_PIXELS = 8, 3, 60, 96


def folder_names(classes: Sequence[str]) -> list[str]:
    """Return the name of a folder for each class: a safe path component, unique, and not ``unsure``."""
    taken, names = {UNSURE}, []
    for label in classes:
        name = first = _safe_name(label)
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{first}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _safe_name(text: str) -> str:
    """Return text as a component of a path that is valid on any system, without control characters."""
    name = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in text).strip()
    name = name.encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore").rstrip(". ")
    if not name or name.startswith(".") or RESERVED.match(name):
        name = f"_{name}"
    return name


class Pictures:
    """The files that predictions are about; zips stay open until :meth:`close`.

    Parameters
    ----------
    sources : sequence of InputSource
    """

    def __init__(self, sources: Sequence[InputSource]) -> None:
        self.files = {source.name for source in sources}
        self._archives = [name for name in dict.fromkeys(source.name for source in sources) if _is_zip(name)]
        self._trees: dict[str, FileTree] = {}
        self._stack = ExitStack()

    def close(self) -> None:
        """Close the zips."""
        self._stack.close()

    @contextmanager
    def open(self, file: str) -> Iterator[BinaryIO | None]:
        """Open the picture of a prediction: a file, or a member of a zip; None for a row of an array."""
        if file in self.files:
            with open_file(file) as stream:
                yield stream
            return
        archive = next((name for name in self._archives if file.startswith(f"{name}/")), None)
        if archive is None:
            yield None
            return
        if archive not in self._trees:
            tree = self._stack.enter_context(open_tree(Path(archive), tuple(image_io.SUFFIXES)))
            self._trees[archive] = tree
        with self._trees[archive].open(file[len(archive) + 1 :]) as stream:
            yield stream


def _is_zip(name: str) -> bool:
    return name.lower().endswith(".zip")


class Sorter:
    """Copy, or link, pictures into a folder for each class.

    A file is never overwritten: an identical copy that exists already is counted, and another file of the same name
    gets a number. Nothing is deleted either: a copy that an earlier sorting put into the folder of another class stays
    there, and is counted too.

    Parameters
    ----------
    folder : Path
    classes : sequence of str
    pictures : Pictures
        Source of the pictures.
    link : bool
        Make symbolic links to files; members of a zip are copied.
    unsure : float
        Pictures of a lower probability go into ``unsure/``.

    Raises
    ------
    UserError
        If the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        pictures: Pictures,
        link: bool = False,
        unsure: float = 0.5,
    ) -> None:
        self.folder, self.pictures, self.link, self.unsure = folder, pictures, link, unsure
        self.names = dict(zip(classes, folder_names(classes), strict=True))
        self.counts: Counter[str] = Counter()
        self.present = 0
        self.elsewhere = 0
        self.unsorted = 0
        self.failed: list[str] = []  # pictures that could not be copied, with the reason
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise UserError(f"The folder {folder} cannot be created ({cause.strerror}): choose another.") from None
        self._placed: dict[Path, _Numbered] = {}
        self._earlier = [name for name in (*self.names.values(), UNSURE) if (folder / name).is_dir()]

    def add(self, row: Prediction) -> None:
        """Sort one picture; a file without a prediction is left where it is."""
        if row.label is None or row.probability is None:
            return
        name = UNSURE if row.probability < self.unsure else self.names[row.label]
        try:
            with self.pictures.open(row.file) as stream:
                if stream is None:
                    self.unsorted += 1
                    return
                self._place(stream, row.file, self._class_folder(name))
                others = (self.folder / other / self._base(row.file) for other in self._earlier if other != name)
                self.elsewhere += any(other.is_file() and self._holds(other, stream) for other in others)
        except OSError as cause:
            is_of_picture = cause.filename == row.file and cause.filename2 is None
            if not is_of_picture and cause.errno != errno.ENAMETOOLONG:
                raise  # of the folder, not of this picture
            self.failed.append(f"{row.file} ({cause.strerror})")
            return
        self.counts[name] += 1

    def _class_folder(self, name: str) -> Path:
        """Make the folder of a class. A link in its place could lead out of the folder."""
        folder = self.folder / name
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise UserError(f"{folder} is a link or a file, not a folder, so no pictures are put there: remove it.")
        folder.mkdir(exist_ok=True)
        return folder

    def _place(self, stream: BinaryIO, file: str, folder: Path) -> None:
        """Put a picture into a folder under its own name, or with a number after it."""
        path = folder / self._base(file)
        placed = self._placed.get(path)
        if placed is None:
            placed = self._placed[path] = _Numbered(path)
        if placed.holds(stream):
            self.present += 1
            return
        while True:
            new = placed.path()
            try:
                if self.link and file in self.pictures.files:
                    new.symlink_to(os.path.abspath(file))
                else:
                    _copy(stream, new)
            except FileExistsError:  # another program has made it since
                placed.skip()
                continue
            placed.add(new)
            return

    def _base(self, file: str) -> str:
        """Return the name under which a picture is put into a folder."""
        if file in self.pictures.files:
            return os.path.basename(file)
        stem, suffix = os.path.splitext(file.rpartition("/")[2])
        suffix = suffix.removeprefix(".")
        return f"{_safe_name(stem)}.{_safe_name(suffix)}" if suffix else _safe_name(stem)

    @staticmethod
    def _holds(path: Path, stream: BinaryIO) -> bool:
        """Return whether a file, or the target of a link, holds the bytes of a stream."""
        with suppress(OSError), open_file(path) as other:
            stream.seek(0)
            while block := stream.read(CHUNK):
                if other.read(len(block)) != block:
                    return False
            return not other.read(1)
        return False


def _copy(stream: BinaryIO, path: Path) -> None:
    """Copy a stream to a new file; if that fails, no file is left."""
    with open_file(path, "xb") as target:
        try:
            stream.seek(0)
            shutil.copyfileobj(stream, target, CHUNK)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


class _Numbered:
    """The files of one name in a folder, ``a.png``, ``a-2.png`` and so on, by size and content.

    Parameters
    ----------
    first : Path
        The one without a number.
    """

    def __init__(self, first: Path) -> None:
        self.first, self.number = first, 1
        self._unread: defaultdict[int, list[Path]] = defaultdict(list)  # by size; content is read when it is needed
        self._contents: defaultdict[int, set[bytes]] = defaultdict(set)
        while os.path.lexists(self.path()):
            self.add(self.path())

    def path(self) -> Path:
        """Return the next free path."""
        if self.number == 1:
            return self.first
        return self.first.with_name(f"{self.first.stem}-{self.number}{self.first.suffix}")

    def skip(self) -> None:
        """Go on to the next number."""
        self.number += 1

    def add(self, path: Path) -> None:
        """Add the file at the next path."""
        with suppress(OSError):  # a broken link
            self._unread[path.stat().st_size].append(path)
        self.number += 1

    def holds(self, stream: BinaryIO) -> bool:
        """Return whether one of the files, or the target of a link, has the content of a stream."""
        size = stream.seek(0, os.SEEK_END)
        for path in self._unread.pop(size, []):
            with suppress(OSError), open_file(path) as other:
                self._contents[size].add(_digest(other))
        return size in self._contents and _digest(stream) in self._contents[size]


def _digest(stream: BinaryIO) -> bytes:
    """Return the SHA-256 of a whole stream."""
    digest = hashlib.sha256()
    stream.seek(0)
    while block := stream.read(CHUNK):
        digest.update(block)
    return digest.digest()


class ContactSheet:
    """Collect the least sure pictures of each class, and draw them.

    Parameters
    ----------
    classes : sequence of str
    pictures : Pictures
        Source of the pictures.
    depth : int
        Bits of full intensity in 16-bit grey pictures.
    """

    def __init__(self, classes: Sequence[str], pictures: Pictures, depth: int = 16) -> None:
        self.classes, self.pictures, self.depth = classes, pictures, depth
        self.counts: Counter[str] = Counter()
        # Heaps whose first entry is the surest, (-probability, -place, file).
        self._rows: defaultdict[str, list[tuple[float, int, str]]] = defaultdict(list)
        self._place = 0

    def add(self, row: Prediction) -> None:
        """Keep a picture if it is among the least sure of its class."""
        if row.label is None or row.probability is None:
            return
        self._place += 1
        self.counts[row.label] += 1
        heap = self._rows[row.label]
        heapq.heappush(heap, (-row.probability, -self._place, row.file))
        if len(heap) > SHEET_COLUMNS * SHEET_ROWS:
            heapq.heappop(heap)

    def save(self, path: Path) -> bool:
        """Draw the sheet, least sure first: a row of names, then pictures with probability and file name.

        Returns whether there was a picture to draw.
        """
        groups = []
        drawn_as = dict(zip(self.classes, legible(self.classes), strict=True))
        for label in [name for name in self.classes if self.counts[name]][:SHEET_CLASSES]:
            tiles = [(self._tile(file), f"{-p:.2f} {os.path.basename(file)}") for p, _, file in self._least_sure(label)]
            groups.append((f"{drawn_as[label]} ({self.counts[label]:,})", tiles))
        return save_sheet(path, groups)

    def _least_sure(self, label: str) -> list[tuple[float, int, str]]:
        return sorted(self._rows[label], reverse=True)

    def _tile(self, file: str) -> Tile:
        return _read_tile(partial(self.pictures.open, file), self.depth)


def _read_tile(open_picture: Callable[[], AbstractContextManager[BinaryIO | None]], depth: int) -> Tile:
    """Read a picture in colour as a square; None for a row of an array, and if it cannot be read."""
    try:
        with open_picture() as stream:
            return None if stream is None else image_io.decode(stream, SHEET_PIXELS, grey=False, depth=depth)
    except (OSError, image_io.UnreadableImage):
        return None


def read_tiles(data: Data, rows: Sequence[int], source: str) -> list[Tile]:
    """Read images of a pool for a sheet: from their files, which are larger, or else from the arrays.

    Parameters
    ----------
    data : Data
    rows : sequence of int
    source : str
        The folder or the zip of the files.
    """
    data = data.source
    if not is_picture_shape(data.image_shape):
        return [None] * len(rows)
    if not data.files_train:
        return [to_uint8(data.x_train[row] / data.scale) for row in rows]
    depth = data.image_depth or image_io.FULL_DEPTH
    # Names of the data are printable; the tree knows the files that they stand for.
    with open_tree(Path(source), tuple(image_io.SUFFIXES), SUBSETS) as tree:
        return [_read_tile(partial(tree.open, data.files_train[row]), depth) for row in rows]


def save_sheet(path: Path, groups: Sequence[tuple[str, Sequence[tuple[Tile, str]]]]) -> bool:
    """Draw groups of pictures, each with a name, in rows of eight with a caption below each picture.

    Returns whether there was a picture to draw.
    """
    rows: list[list[Tile]] = []
    captions: list[list[str]] = []
    for title, tiles in groups:
        drawn = [(tile, words) for tile, words in tiles if tile is not None]
        for start in range(0, len(drawn), SHEET_COLUMNS):
            part = drawn[start : start + SHEET_COLUMNS]
            empty = [""] * (SHEET_COLUMNS - len(part))
            rows.append([title if not start else "", *(t for t, _ in part), *empty])
            captions.append(["", *(words for _, words in part), *empty])
    if not rows:
        return False
    sheet: Image.Image = draw_table(rows, captions, SHEET_PIXELS)
    with open_atomic(path) as stream:
        sheet.save(stream, "png")
    return True
