"""List the files of a folder or a zip, sorted, without unpacking and without following loops of links.

Names are relative, with forward slashes, NFC-normalised, and sorted in that form, so that the order is the same
on every machine. Hidden files (a leading dot, ``__MACOSX``) are left out.
"""

import difflib
import hashlib
import io
import os
import posixpath
import re
import stat
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from ssgan.data.image_io import UnreadableImage
from ssgan.errors import UserError
from ssgan.files import open_file, path_to_text

__all__ = [
    "MEMBER_LIMIT",
    "NOT_UNPACKED",
    "TOTAL_LIMIT",
    "Entry",
    "FileTree",
    "expand_user",
    "is_picture",
    "location_text",
    "nearest_entry",
    "open_tree",
    "printable",
    "walk",
]


# Largest unpacked size in bytes of one picture in a zip, and of all together.
MEMBER_LIMIT = 256 * 2**20
TOTAL_LIMIT = 64 * 2**30
NOT_UNPACKED = "cannot be unpacked"  # beginning of the reason for a damaged member of a zip
LOOKED_AT = 5  # similar names that are considered for a missing one
ENCRYPTED, UTF8 = 0x1, 0x800  # bits of a zip member's flags


@dataclass(frozen=True)
class FileTree:
    """The files of a folder or a zip.

    Attributes
    ----------
    path : Path
    pictures : tuple of str
        Names of the files with one of the suffixes of pictures.
    folders : frozenset of str
        Names of all folders, the empty ones too.
    ignored : mapping of str to int
        Counts of the other files by suffix; ``hidden``, ``without suffix``, and ``link`` for links to folders that
        were not followed.
    unreadable : tuple of (str, str)
        Broken links and folders that may not be opened, each with the reason.
    stamp : str
        SHA-256 of names, sizes and times (in a zip, checksums): equal as long as the pictures are unchanged.
    open : callable
        Opens a picture by name for reading bytes. Safe to call from several threads. Raises an OSError, or
        :class:`UnreadableImage` for a damaged member of a zip.
    """

    path: Path
    pictures: tuple[str, ...]
    folders: frozenset[str]
    ignored: Mapping[str, int]
    unreadable: tuple[tuple[str, str], ...]
    stamp: str
    open: Callable[[str], BinaryIO]


@dataclass
class _Listing:
    """The files found so far."""

    suffixes: Collection[str]
    pictures: dict[str, str] = field(default_factory=dict)  # name: size and time, or size and checksum
    folders: set[str] = field(default_factory=set)
    ignored: Counter[str] = field(default_factory=Counter)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def is_picture(self, name: str) -> bool:
        """Return whether a file is a picture by its suffix; if not, count it as ignored."""
        suffix = _suffix(name)
        if suffix in self.suffixes:
            return True
        self.ignored[suffix] += 1
        return False

    def to_tree(self, path: Path, root: str, opener: Callable[[str], BinaryIO]) -> FileTree:
        """Sort the files and compute the stamp, which includes ``root``."""
        names, digest = sorted(self.pictures), hashlib.sha256(root.encode("utf-8", "surrogateescape"))
        for name in names:
            digest.update(f"{name}\0{self.pictures[name]}\n".encode())
        ignored, unreadable = dict(sorted(self.ignored.items())), tuple(sorted(self.unreadable))
        return FileTree(path, tuple(names), frozenset(self.folders), ignored, unreadable, digest.hexdigest(), opener)


@contextmanager
def open_tree(path: Path, suffixes: Collection[str], known: Collection[str] = ()) -> Iterator[FileTree]:
    """List a folder or a zip; a zip stays open until the context ends.

    Parameters
    ----------
    path : Path
    suffixes : collection of str
        Suffixes of pictures, lower case, with the dot.
    known : collection of str
        Top folders with a special meaning, in lower case. If a zip holds a single top folder that is not one of
        these, the content of that folder is listed, and so on as long as it holds only one folder, which holds others.

    Raises
    ------
    UserError
        If there is no such folder or zip, or a zip is damaged, encrypted, too large when unpacked, or holds a name that
        points outside of it.
    """
    if path.is_dir():
        yield _list_folder(path, suffixes)
        return
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(open_file(path))))
        except FileNotFoundError:
            raise UserError(f"There is no folder or file {path}.") from None
        except OSError as cause:
            raise UserError(f"{path} cannot be read ({cause.strerror or cause}).") from None
        except Exception as cause:  # a reader of arbitrary bytes can fail in any way
            raise UserError(f"{path} cannot be read as a zip: it is damaged or in another format.") from cause
        yield _list_zip(path, archive, suffixes, known)


class Entry(NamedTuple):
    """A file or folder below a folder.

    Attributes
    ----------
    path : str
        As the system names it.
    name : str
        Relative, printable, with forward slashes.
    status : os.stat_result or None
        None for a broken link, a folder that cannot be opened, and a link to a folder that is not followed.
    problem : str
        Why it cannot be read.
    """

    path: str
    name: str
    status: os.stat_result | None
    problem: str = ""


def walk(folder: str | Path) -> Iterator[Entry]:
    """Iterate over all below a folder except hidden folders: the entries of a folder sorted, then its folders in turn.

    A link to a folder is followed if it leads out of ``folder``, and not back to it or to a folder on the way.

    Raises
    ------
    OSError
        If the folder itself cannot be opened.
    """
    root = os.path.realpath(folder)
    # Each folder still to list: its path, its name with a slash, the real paths of the folders above it.
    queue: list[tuple[str, str, tuple[str, ...]]] = [(str(folder), "", (root,))]
    while queue:
        path, prefix, parents = queue.pop()
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as cause:
            if not prefix:
                raise
            yield Entry(path, prefix.rstrip("/"), None, f"cannot be opened ({cause.strerror})")
            continue
        folders = []
        for entry in entries:
            name = prefix + printable(path_to_text(entry.name))
            try:
                status = entry.stat()
            except OSError as cause:
                is_broken = entry.is_symlink()  # or one of a loop of links
                reason = "is a broken link" if is_broken else f"cannot be opened ({cause.strerror})"
                yield Entry(entry.path, name, None, reason)
                continue
            if stat.S_ISDIR(status.st_mode):
                if _is_hidden(entry.name):
                    continue
                real = os.path.realpath(entry.path) if entry.is_symlink() else ""
                if real and (_is_in(real, root) or any(_is_in(parent, real) for parent in parents)):
                    yield Entry(entry.path, name, None)
                    continue
                folders.append((entry.path, f"{name}/", (*parents, real) if real else parents))
            yield Entry(entry.path, name, status)
        queue += reversed(folders)


def is_picture(name: str, suffixes: Collection[str]) -> bool:
    """Return whether a file is not hidden and has one of these suffixes, which are in lower case."""
    return _suffix(name) in suffixes


def _suffix(name: str) -> str:
    """Return the suffix of a file in lower case, ``hidden`` or ``without suffix``."""
    last = name.rpartition("/")[2]
    return "hidden" if _is_hidden(last) else posixpath.splitext(last)[1].lower() or "without suffix"


def _list_folder(path: Path, suffixes: Collection[str]) -> FileTree:
    """List a folder by :func:`walk`."""
    listing, paths = _Listing(suffixes), {}
    try:
        for entry in walk(path):
            if entry.status is None:
                if not entry.problem:
                    listing.ignored["link"] += 1
                elif os.path.isdir(entry.path) or listing.is_picture(entry.name):
                    listing.unreadable.append((entry.name, entry.problem))
            elif stat.S_ISDIR(entry.status.st_mode):
                listing.folders.add(entry.name)
            elif listing.is_picture(entry.name):
                if not stat.S_ISREG(entry.status.st_mode):
                    listing.unreadable.append((entry.name, "is not a regular file"))
                    continue
                _check_unique(listing, entry.name, path)
                # The change time of the inode moves even if a copy keeps size and date.
                size, times = entry.status.st_size, (entry.status.st_mtime_ns, entry.status.st_ctime_ns)
                listing.pictures[entry.name] = f"{size} {times[0]} {times[1]}"
                paths[entry.name] = entry.path
    except OSError as cause:
        raise UserError(f"The folder {path} cannot be opened ({cause.strerror}).") from None
    return listing.to_tree(path, os.path.realpath(path), lambda name: open_file(paths[name]))


def _list_zip(path: Path, archive: zipfile.ZipFile, suffixes: Collection[str], known: Collection[str]) -> FileTree:
    """List a zip and check every name and size that it declares."""
    members: dict[str, zipfile.ZipInfo] = {}
    folders, listing, total = set(), _Listing(suffixes), 0
    for member in archive.infolist():
        name, is_folder = _member_name(path, member)
        if not name or any(map(_is_hidden, name.split("/")[: None if is_folder else -1])):
            continue
        if is_folder:
            folders.add(name)
            continue
        folders.update(str(parent) for parent in PurePosixPath(name).parents if parent.name)
        if not listing.is_picture(name):
            continue
        if member.flag_bits & ENCRYPTED:
            raise UserError(f"{path} is encrypted ({name}): unpack it, and give the folder.")
        total += member.file_size
        if member.file_size > MEMBER_LIMIT or total > TOTAL_LIMIT:
            what, limit = (name, MEMBER_LIMIT) if member.file_size > MEMBER_LIMIT else ("all of it", TOTAL_LIMIT)
            raise UserError(
                f"{path} declares that {what} unpacks to more than {limit // 2**20:,} MiB, which no picture should: if "
                f"you trust it, unpack it, and give the folder."
            )
        _check_unique(listing, name, path)
        listing.pictures[name] = f"{member.file_size} {member.CRC:08x}"
        members[name] = member
    top = _single_top(listing.pictures, folders, known)
    listing.pictures = {name[len(top) :]: value for name, value in listing.pictures.items()}
    listing.folders = {name[len(top) :] for name in folders if name.startswith(top) and len(name) > len(top)}
    return listing.to_tree(path, "", lambda name: _unpack(archive, members[top + name]))


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> BinaryIO:
    """Unpack a member of a zip into memory; raise :class:`UnreadableImage` if it is damaged."""
    try:
        return io.BytesIO(archive.read(member))
    except (OSError, MemoryError):
        raise
    except Exception as cause:  # a reader of arbitrary bytes can fail in any way
        raise UnreadableImage(f"{NOT_UNPACKED} ({type(cause).__name__})") from cause


def _single_top(pictures: Collection[str], folders: Collection[str], known: Collection[str]) -> str:
    """Return the single top folder of a zip, with a slash; an empty string if there is none.

    The folder in it is appended if it is the only one and holds other folders, but no pictures itself.
    """
    top = ""
    while True:
        parts = [name[len(top) :].split("/") for name in folders if name.startswith(top) and len(name) > len(top)]
        tops = {part[0] for part in parts}
        if len(tops) != 1 or {name.lower() for name in tops} & set(known):
            return top
        inner = f"{top}{tops.pop()}/"
        if any(not name.startswith(inner) for name in pictures):
            return top
        if top and (len(parts) == 1 or any("/" not in name[len(inner) :] for name in pictures)):
            return top
        top = inner


def _member_name(path: Path, member: zipfile.ZipInfo) -> tuple[str, bool]:
    """Return the name of a member, without a slash at its end, and whether it is a folder.

    Some Windows programs write backslashes.

    Raises
    ------
    UserError
        For an absolute name, and one that climbs with ``..``.
    """
    name = member.orig_filename
    if not member.flag_bits & UTF8:
        with suppress(UnicodeError):  # some programs write UTF-8 without its flag; Python has read it as cp437
            name = name.encode("cp437").decode()
    path_name = name.replace("\\", "/")
    parts = [part for part in path_name.split("/") if part not in ("", ".")]
    if "\0" in name or path_name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in parts:
        raise UserError(
            f"{path} holds a member named {name!r}, but names in a zip must be relative and without '..': repack it, "
            f"or unpack it and give the folder."
        )
    return printable("/".join(parts)), path_name.endswith("/")


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Expand a ``~`` that the shell left, as it does in quotes, unless a file has this name.

    Raises
    ------
    UserError
        If the path is empty, as an unset variable of the shell is: it would mean the current folder.
    """
    if not str(path):
        raise UserError("A path is empty: name a file or a folder, or . for the current folder.")
    path = Path(path)
    return path if path.exists() or not str(path).startswith("~") else Path(os.path.expanduser(path))


def location_text(location: str | os.PathLike[str]) -> str:
    """Return the name of a data set or a path as text, with its ``~`` expanded.

    A path object names a file, never a data set: ``Path("./digits")`` has lost its ``./``, which is added again.

    Raises
    ------
    UserError
        If it is empty.
    """
    text = os.fspath(location)
    if not text or text.startswith("~"):
        return str(expand_user(text))
    return text if isinstance(location, str) or os.path.dirname(text) else os.path.join(os.curdir, text)


def nearest_entry(path: Path, accept: Callable[[Path], bool] = lambda entry: True) -> Path | None:
    """Return the file or folder beside ``path`` with the most similar name; None if there is none."""
    try:
        names = [name for name in os.listdir(path.parent) if not _is_hidden(name)]
    except OSError:  # a folder that may not be listed gives no suggestions
        return None
    near = (path.with_name(name) for name in difflib.get_close_matches(path.name, names, LOOKED_AT))
    return next((entry for entry in near if accept(entry)), None)


def printable(name: str) -> str:
    """Normalise a name to NFC; escape control characters, also those of the text direction, and undecodable bytes."""
    text = unicodedata.normalize("NFC", name).encode("utf-8", "backslashreplace").decode()
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)
    return re.sub(r"[\u202a-\u202e\u2066-\u2069]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _check_unique(listing: _Listing, name: str, path: Path) -> None:
    """Raise a UserError if two files have one name."""
    if name in listing.pictures:
        raise UserError(f"{path} holds two files named {name}: rename one of them.")


def _is_hidden(part: str) -> bool:
    """Return whether a part of a path is hidden."""
    return part.startswith(".") or part == "__MACOSX"


def _is_in(path: str, folder: str) -> bool:
    """Return whether a path lies in a folder."""
    return Path(path).is_relative_to(folder)
