"""Read and write files: atomic writes, appends, locks and lines of JSON."""

import codecs
import errno
import json
import os
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from ssgan.errors import Busy, UserError

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "GROWTH_LIMIT",
    "IrregularFile",
    "JsonLine",
    "append_file",
    "check_growth",
    "check_output",
    "create_empty_folder",
    "is_npz",
    "lock",
    "name_to_unicode",
    "open_atomic",
    "open_file",
    "parse_json",
    "path_from_text",
    "path_to_text",
    "read_file",
    "read_json_lines",
    "refuse_irregular",
    "write_atomic",
    "write_json",
]

# Errors of file systems that have no locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
MOST_WRITERS = 100  # processes that write one file at a time
GROWTH_LIMIT = 4 * 2**30  # bytes by which the members of an archive may grow when they are unpacked


class IrregularFile(OSError):  # noqa: N818 - about a file, not a fault of the program
    """A pipe, a socket or a device has the name of a file."""


def open_file(path: str | Path, mode: str = "rb", buffering: int = -1) -> BinaryIO:
    """Open a regular file, or a link to one, in a binary mode of :func:`open`.

    A pipe, a socket or a device is refused without waiting: opening one could block for ever, or have an effect.

    Raises
    ------
    OSError
        If there is no such file, it cannot be opened or it is not a regular file.
    """
    try:
        return cast(BinaryIO, open(path, mode, buffering, opener=_open_regular))
    except ValueError:  # a null byte, or characters that no file name can have: only a damaged file holds such names
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None


def _open_regular(path: str, flags: int) -> int:
    """Return a file descriptor, as the ``opener`` of :func:`open`."""
    with suppress(FileNotFoundError):
        _check_regular(path, os.stat(path).st_mode)
    # The path may have become another file since, so opening does not wait, and the open file is checked too.
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0), 0o666)
    try:
        _check_regular(path, os.fstat(handle).st_mode)
    except OSError:
        os.close(handle)
        raise
    return handle


def _check_regular(path: str | Path, mode: int) -> None:
    """Raise an OSError if a file of this mode is not a regular file."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise IrregularFile(errno.EINVAL, "it is not a regular file", str(path))


def read_file(path: str | Path) -> bytes:
    """Read a regular file; raise an OSError as :func:`open_file` does."""
    with open_file(path) as stream:
        return stream.read()


def refuse_irregular(paths: Iterable[Path]) -> None:
    """Check that paths that a library will open are regular files or folders, if they exist.

    Raises
    ------
    UserError
        If one is something else, such as a pipe.
    """
    for path in paths:
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise UserError(f"{path} is not a regular file: remove it.")


def check_growth(archive: zipfile.ZipFile, path: str | Path) -> None:
    """Check before unpacking a zip that its members do not expand by more than ``GROWTH_LIMIT``.

    Sizes are those in the zip's central directory; Python's reader unpacks no more of a member than that.

    Raises
    ------
    UserError
        If they do.
    """
    unpacked, packed = sum(member.file_size for member in archive.infolist()), os.stat(path).st_size
    if unpacked - packed > GROWTH_LIMIT:
        raise UserError(
            f"{path} unpacks to {unpacked / 2**20:,.0f} MiB, over {GROWTH_LIMIT // 2**20:,} MiB more than its size: if "
            "you trust it, store it without compression, as numpy.savez does."
        )


def is_npz(path: str | Path) -> bool:
    """Return whether a path has the suffix of an ``.npz``, in upper or lower case."""
    return str(path).lower().endswith(".npz")


def path_to_text(path: str | Path) -> str:
    """Return a path as text that does not depend on the locale; bytes that are not UTF-8 become lone surrogates."""
    try:
        content = os.fsencode(path)
    except UnicodeEncodeError:  # holds the name of a zip member, which may have any characters
        content = str(path).encode("utf-8", "surrogateescape")
    return content.decode("utf-8", "surrogateescape")


def name_to_unicode(name: str) -> str:
    """Return a file name as valid Unicode, with escapes for bytes that are not UTF-8, to name data in results."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def path_from_text(text: str) -> str:
    """Return the path that :func:`path_to_text` converted to text, under this locale."""
    try:
        return os.fsdecode(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # no file has this name
        return text


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a binary stream that becomes the file ``path`` when the block ends.

    The stream writes to a temporary file beside it, which is synced to the disk and then renamed. If the block raises
    an error, the temporary file is deleted. Each of several writers of one file has its own temporary file, where the
    system has locks; the last one to end wins.
    """
    part, stream = path.with_name(f".{path.name}.part"), None
    try:
        for number in range(2, MOST_WRITERS + 2):
            if (stream := _open_part(part)) is not None:
                break
            part = path.with_name(f".{path.name}.{number}.part")
        if stream is None:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if fcntl is not None:
                part.replace(path)  # while it is locked
        if fcntl is None:
            part.replace(path)
    except BaseException as error:
        if stream is not None:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(part):
            error.filename = str(path)  # the name that the user knows
        raise


def _open_part(part: Path) -> BinaryIO | None:
    """Create a temporary file that is locked until it is closed; None if another process is writing to one."""
    with suppress(FileNotFoundError):
        if stat.S_ISREG(part.lstat().st_mode) and os.access(part, os.R_OK):
            with open_file(part) as left:
                if not _lock_name(left, part):
                    return None
                part.unlink()  # left by a killed process
        else:
            part.unlink()  # a link or a pipe of this name is not opened
    with suppress(FileExistsError):  # another process was faster
        stream = open_file(part, "xb")
        if _lock_name(stream, part):
            return stream
        stream.close()
    return None


def _lock_name(stream: BinaryIO, path: Path) -> bool:
    """Lock an open file, if the system has locks; return whether it is ours and has the name ``path``."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as cause:
        if cause.errno not in NO_LOCKS:
            raise
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file by :func:`open_atomic`."""
    try:
        with open_atomic(path) as stream:
            stream.write(content)
    except OSError as error:
        if error.filename is None:  # an error while writing
            error.filename = str(path)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write an object as strict JSON.

    Raises
    ------
    ValueError
        For a number that is not finite, which JSON does not allow.
    """
    write_atomic(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def append_file(path: Path, content: bytes, sync: bool = False) -> None:
    """Append to a file, which is created if there is none; if the disk has no room for all, none is kept.

    Parameters
    ----------
    path : Path
    content : bytes
    sync : bool, default: False
        Whether to sync the file to the disk.

    Raises
    ------
    OSError
        With the name of the file; it then has the length that it had before.
    """
    with open_file(path, "ab", buffering=0) as stream:
        length = os.fstat(stream.fileno()).st_size
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[stream.write(rest) :]
            if sync:
                os.fsync(stream.fileno())
        except OSError as error:
            with suppress(OSError):
                stream.truncate(length)
            error.filename = error.filename or str(path)
            raise


def check_output(option: str, path: Path) -> None:
    """Raise a UserError if no regular file can be written to the path that an option names."""
    if not path.parent.is_dir():
        problem = f"lies in {path.parent}, which is not a folder"
    elif path.exists() and not path.is_file():
        problem = "is a folder" if path.is_dir() else "is not a regular file"
    elif not os.access(path.parent, os.W_OK):
        problem = f"lies in {path.parent}, which cannot be written to"
    else:
        return
    raise UserError(f"{option} is {path}, which {problem}: choose another file.")


def create_empty_folder(path: Path) -> Path:
    """Create a folder, or accept an empty one; return its path.

    Raises
    ------
    UserError
        If it cannot be created, or is not empty.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        taken = any(path.iterdir())
    except OSError as cause:
        raise UserError(f"The folder {path} cannot be created ({cause.strerror}): choose another.") from None
    if taken:
        raise UserError(f"{path} exists already and is not empty: save the run into another folder.")
    return path


@contextmanager
def lock(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file while the block runs. The lock is released when the process ends, for whatever reason.

    The file is removed at the end; one that a killed process left does not block others. On a file system without
    locks, the block runs unlocked.

    Parameters
    ----------
    path : Path
        The lock file.
    busy : str
        The message for the user if another process holds the lock.

    Raises
    ------
    Busy
        If another process holds the lock.
    UserError
        If the lock file cannot be created, because its folder is read-only or something else has its name.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f"{path} is not a regular file, so it cannot be used as a lock: delete it.")
    with warnings.catch_warnings():
        # If the system has no locks, filelock warns and records the owner in the file instead, which is enough.
        warnings.simplefilter("ignore", UserWarning)
        from filelock import FileLock, SoftFileLock, Timeout, UnixFileLock

        file_lock = FileLock(path, blocking=False)
        try:
            file_lock.acquire()
        except Timeout:
            # Such a file is never taken over if its owner cannot be checked, for example on another machine.
            stale = f" If nothing runs there, delete {path}." if isinstance(file_lock, SoftFileLock) else ""
            raise Busy(busy + stale) from None
        except OSError as cause:
            if cause.errno not in NO_LOCKS:
                place = path if path.exists() else path.parent
                raise UserError(f"{place} cannot be written to ({cause.strerror}).") from None
    try:
        yield
    finally:
        # Removed while still locked: a process that opened it meanwhile finds that it no longer has a name.
        if isinstance(file_lock, UnixFileLock) and file_lock.is_locked:
            path.unlink(missing_ok=True)
        file_lock.release()


class JsonLine(NamedTuple):
    """A non-blank line of a file.

    Attributes
    ----------
    number : int
        Line number, from 1.
    start : int
        Offset of the line in the file, in bytes.
    text : bytes
        The line with its line break, if it has one.
    value : Any
        The parsed value; None if it cannot be parsed.
    error : ValueError or None
        Why it cannot be parsed.
    """

    number: int
    start: int
    text: bytes
    value: Any
    error: ValueError | None


def parse_json(text: bytes) -> Any:
    """Parse JSON in UTF-8.

    Raises
    ------
    ValueError
        If it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json_lines(path: Path, parse: Callable[[bytes], Any] = parse_json) -> list[JsonLine]:
    """Read a file with one JSON value in each line. Incomplete lines, left by a killed process, have an ``error``.

    Parameters
    ----------
    path : Path
    parse : callable, optional
        Parses a line, or raises a ValueError. By default any JSON in UTF-8.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    lines, start = [], 0
    with open_file(path) as stream:
        for number, text in enumerate(stream, 1):
            if text.strip():
                value, error = None, None
                try:
                    value = parse(text.removeprefix(codecs.BOM_UTF8) if number == 1 else text)
                except ValueError as cause:
                    error = cause
                lines.append(JsonLine(number, start, text, value, error))
            start += len(text)
    return lines
