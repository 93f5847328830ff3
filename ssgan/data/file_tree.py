"""A folder or a zip as one sorted list of files: nothing is unpacked, and no loop of links is walked.

Names are relative, with forward slashes, NFC-normalised, and sorted by that form, so that the order is the
same on every machine. What is hidden (a leading dot, ``__MACOSX``) is left out.
"""

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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ssgan.errors import UserError

__all__ = ["MEMBER_LIMIT", "TOTAL_LIMIT", "FileTree", "open_tree"]


# Bytes that one picture in a zip, and all of them together, may unpack to.
MEMBER_LIMIT = 256 * 2**20
TOTAL_LIMIT = 64 * 2**30
ENCRYPTED, UTF8 = 0x1, 0x800  # bits of a zip member's flags


@dataclass(frozen=True)
class FileTree:
    """What was found in a folder or a zip.

    Attributes
    ----------
    path : Path
    pictures : tuple of str
        Names of the files with a suffix that was asked for.
    folders : frozenset of str
        Names of all folders, the empty ones too.
    ignored : mapping of str to int
        How many other files there are, by suffix; ``hidden``, ``without suffix``, and ``link`` for links to folders
        that were not followed.
    unreadable : tuple of (str, str)
        Links that lead nowhere and folders that may not be opened, each with the reason.
    stamp : str
        SHA-256 of what says, without reading the pictures, whether they are the same ones.
    open : callable
        Give a stream of a picture's bytes, by name. Safe to call from several threads.
    """

    path: Path
    pictures: tuple[str, ...]
    folders: frozenset[str]
    ignored: Mapping[str, int]
    unreadable: tuple[tuple[str, str], ...]
    stamp: str
    open: Callable[[str], BinaryIO]


@dataclass
class _Found:
    """What a walk has met so far."""

    suffixes: Collection[str]
    pictures: dict[str, str] = field(default_factory=dict)  # name: what decides whether it is the same picture
    folders: set[str] = field(default_factory=set)
    ignored: Counter[str] = field(default_factory=Counter)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def is_picture(self, name: str) -> bool:
        """Whether a file counts as a picture; if not, count it."""
        last = name.rpartition("/")[2]
        suffix = "hidden" if _is_hidden(last) else posixpath.splitext(last)[1].lower() or "without suffix"
        if suffix in self.suffixes:
            return True
        self.ignored[suffix] += 1
        return False

    def tree(self, path: Path, root: str, opener: Callable[[str], BinaryIO]) -> FileTree:
        """Sorted and stamped; ``root`` is a part of the stamp."""
        names, digest = sorted(self.pictures), hashlib.sha256(root.encode())
        for name in names:
            digest.update(f"{name}\0{self.pictures[name]}\n".encode())
        ignored, unreadable = dict(sorted(self.ignored.items())), tuple(sorted(self.unreadable))
        return FileTree(path, tuple(names), frozenset(self.folders), ignored, unreadable, digest.hexdigest(), opener)


@contextmanager
def open_tree(path: Path, suffixes: Collection[str], known: Collection[str] = ()) -> Iterator[FileTree]:
    """List a folder or a zip; a zip stays open for as long as the context.

    Parameters
    ----------
    path : Path
    suffixes : collection of str
        Those of pictures, lower case, with the dot.
    known : collection of str
        Top folders with a meaning of their own. Where a zip holds one top folder, and not one of these, what
        lies in that folder is taken for the whole.

    Raises
    ------
    UserError
        Where there is no such folder or zip, or a zip is damaged, encrypted, too large when unpacked, or holds
        a name that leads out of it.
    """
    if path.is_dir():
        yield _folder(path, suffixes)
        return
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise UserError(f"There is no folder or file {path}.") from None
    except Exception as cause:  # a reader of arbitrary bytes can fail in any way
        raise UserError(f"{path} cannot be read as a zip: it is damaged or something else.") from cause
    with archive:
        yield _zip(path, archive, suffixes, known)


def _folder(path: Path, suffixes: Collection[str]) -> FileTree:
    """Walk a folder.

    A link to a folder is followed where it leads out of this one, and not back to it or to a folder on the way.
    """
    found, places = _Found(suffixes), {}
    root = os.path.realpath(path)
    # A folder still to be listed: where it lies, its name with a slash, the real paths on the way to it.
    waiting: list[tuple[str, str, tuple[str, ...]]] = [(str(path), "", (root,))]
    while waiting:
        place, prefix, way = waiting.pop()
        try:
            entries = list(os.scandir(place))
        except OSError as cause:
            if not prefix:
                raise UserError(f"The folder {path} cannot be opened ({cause.strerror}).") from None
            found.unreadable.append((prefix.rstrip("/"), f"cannot be opened ({cause.strerror})"))
            continue
        for entry in entries:
            name = prefix + _shown(entry.name)
            try:
                met = entry.stat()
            except OSError:  # a link to nothing, or a ring of links
                if found.is_picture(name):
                    found.unreadable.append((name, "is a link that leads nowhere"))
                continue
            if stat.S_ISDIR(met.st_mode):
                if _is_hidden(entry.name):
                    continue
                real = os.path.realpath(entry.path) if entry.is_symlink() else ""
                if real and (_is_in(real, root) or any(_is_in(step, real) for step in way)):
                    found.ignored["link"] += 1
                    continue
                found.folders.add(name)
                waiting.append((entry.path, f"{name}/", (*way, real) if real else way))
            elif found.is_picture(name):
                if not stat.S_ISREG(met.st_mode):
                    found.unreadable.append((name, "is no regular file"))
                    continue
                _once(found, name, path)
                # The time of the last change of the inode moves even where a copy keeps size and date.
                found.pictures[name] = f"{met.st_size} {met.st_mtime_ns} {met.st_ctime_ns}"
                places[name] = entry.path
    return found.tree(path, root, lambda name: open(places[name], "rb"))


def _zip(path: Path, archive: zipfile.ZipFile, suffixes: Collection[str], known: Collection[str]) -> FileTree:
    """List a zip, having looked at every name and size that it declares."""
    members: dict[str, zipfile.ZipInfo] = {}
    folders, found, total = set(), _Found(suffixes), 0
    for member in archive.infolist():
        name = _member_name(path, member)
        if not name or any(map(_is_hidden, name.split("/")[: None if member.is_dir() else -1])):
            continue
        if member.is_dir():
            folders.add(name)
            continue
        folders.update(str(parent) for parent in PurePosixPath(name).parents if parent.name)
        if not found.is_picture(name):
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
        _once(found, name, path)
        found.pictures[name] = f"{member.file_size} {member.CRC:08x}"
        members[name] = member
    top = _single_top(found.pictures, folders, known)
    found.pictures = {name[len(top) :]: value for name, value in found.pictures.items()}
    found.folders = {name[len(top) :] for name in folders if name.startswith(top) and len(name) > len(top)}
    return found.tree(path, "", lambda name: io.BytesIO(archive.read(members[top + name])))


def _single_top(pictures: Collection[str], folders: set[str], known: Collection[str]) -> str:
    """The one folder that a zip holds everything in, with a slash; else nothing."""
    tops = {name.split("/")[0] for name in folders}
    if len(tops) != 1 or tops & set(known) or any("/" not in name for name in pictures):
        return ""
    return f"{tops.pop()}/"


def _member_name(path: Path, member: zipfile.ZipInfo) -> str:
    """The name of a member, without a slash at its end.

    Raises
    ------
    UserError
        For an absolute name, one with a backslash, and one that climbs with ``..``.
    """
    name = member.orig_filename
    if not member.flag_bits & UTF8:
        with suppress(UnicodeError):  # some programs write UTF-8 without saying so; Python has read it as cp437
            name = name.encode("cp437").decode()
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if "\\" in name or "\0" in name or name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in parts:
        raise UserError(
            f"{path} holds a member named {name!r}, but names in a zip must be relative, with forward slashes and "
            f"without '..': pack it anew, or unpack it and give the folder."
        )
    return _shown("/".join(parts))


def _shown(name: str) -> str:
    """A name as it is sorted and printed: NFC, with bytes that are no text and control characters written out."""
    text = unicodedata.normalize("NFC", name).encode("utf-8", "backslashreplace").decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda control: f"\\x{ord(control[0]):02x}", text)


def _once(found: _Found, name: str, path: Path) -> None:
    if name in found.pictures:
        raise UserError(f"{path} holds two files named {name}: rename one of them.")


def _is_hidden(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"


def _is_in(path: str, folder: str) -> bool:
    return Path(path).is_relative_to(folder)
