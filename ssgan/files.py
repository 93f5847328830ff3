"""Files: written whole or not at all, locked by one process at a time, read line by line; tables of rows."""

import codecs
import csv
import errno
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

import platformdirs

from ssgan.errors import Busy, UserError

__all__ = [
    "STDOUT",
    "JsonLine",
    "check_table_path",
    "default_root",
    "lock",
    "open_atomic",
    "open_table",
    "parse_json",
    "read_json_lines",
    "write_atomic",
    "write_json",
]

STDOUT = "-"
TABLE_SUFFIXES = (".csv", ".jsonl", ".json")

WriteRow = Callable[[Sequence[Any]], None]


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a binary stream that becomes the file ``path`` when the block ends.

    The stream writes to a temporary file beside it, which is synced to the disk and then renamed. Where the block ends
    by an error, the temporary file is deleted.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(part):
            error.filename = str(path)  # the name that a reader knows
        raise


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file by :func:`open_atomic`."""
    with open_atomic(path) as stream:
        stream.write(content)


def write_json(path: Path, content: Any) -> None:
    """Write an object as strict JSON.

    Raises
    ------
    ValueError
        For a number that is not finite, which is no JSON.
    """
    write_atomic(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def default_root() -> Path:
    """Return the folder of downloaded data: ``SSGAN_DATA``, or ``ssgan`` in the user's cache folder."""
    if chosen := os.environ.get("SSGAN_DATA"):
        return Path(os.path.expanduser(chosen))
    return platformdirs.user_cache_path("ssgan", appauthor=False)


@contextmanager
def lock(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file while the block runs. The lock ends with the process, however that ends.

    The file is removed at the end; one that a killed process left locks nothing. On a file system that has no locks,
    the block runs without one.

    Parameters
    ----------
    path : Path
        The lock file.
    busy : str
        The sentence for the user where another process holds the lock.

    Raises
    ------
    Busy
        Where another process holds the lock.
    UserError
        Where the lock file cannot be made, because its folder is read-only or something else has its name.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f"{path} is no regular file, so it cannot be used as a lock: delete it.")
    with warnings.catch_warnings():
        # Where the system has no locks, filelock says so and marks the owner in the file instead; that will do.
        warnings.simplefilter("ignore", UserWarning)
        from filelock import FileLock, SoftFileLock, Timeout, UnixFileLock

        file_lock = FileLock(path, blocking=False)
        try:
            file_lock.acquire()
        except Timeout:
            # A marker whose owner cannot be asked, such as one on another machine, is never taken over.
            stale = f" If nothing runs there, delete {path}." if isinstance(file_lock, SoftFileLock) else ""
            raise Busy(busy + stale) from None
        except OSError as cause:
            if cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise UserError(f"{path.parent} cannot be written to ({cause.strerror}).") from None
    try:
        yield
    finally:
        # Removed while it is still held: a process that opened it meanwhile finds that it has no name any more.
        if isinstance(file_lock, UnixFileLock) and file_lock.is_locked:
            path.unlink(missing_ok=True)
        file_lock.release()


class JsonLine(NamedTuple):
    """A line of a file that is not blank.

    Attributes
    ----------
    number : int
        From 1.
    start : int
        Bytes of the file before it.
    text : bytes
        With the end of the line, where it has one.
    value : Any
        What it holds; None where it cannot be parsed.
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
        Where it is none, or is nested too deeply.
    """
    try:
        return json.loads(text.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json_lines(path: Path, parse: Callable[[bytes], Any] = parse_json) -> list[JsonLine]:
    """Read a file with one JSON value in each line. Lines that a killed process left torn have an ``error``.

    Parameters
    ----------
    path : Path
    parse : callable, optional
        Parses a line; it raises a ValueError where it cannot. By default any JSON in UTF-8.

    Raises
    ------
    OSError
        Where the file cannot be read.
    """
    lines, start = [], 0
    with path.open("rb") as stream:
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


def check_table_path(out: str) -> None:
    """Check that rows can be written to ``out``, before work is done for them.

    Raises
    ------
    UserError
        Where the name does not say which format, or no file can be at that place.
    """
    path = Path(out)
    if out == STDOUT:
        return
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise UserError(
            f"--out is {out}, but must end in {', '.join(TABLE_SUFFIXES[:-1])} or {TABLE_SUFFIXES[-1]}, or be - ."
        )
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"lies in {path.parent}, which is no folder"
        raise UserError(f"--out is {out}, which {what}: choose another file.")


@contextmanager
def open_table(out: str, columns: Sequence[str]) -> Iterator[WriteRow]:
    """Open a table and give a function that writes one row; a file appears whole at the end, or not at all.

    Parameters
    ----------
    out : str
        A file, whose suffix says which format; ``-`` is CSV to standard output.
    columns : sequence of str
        Names of the values of a row: the head of a CSV, the keys of JSON. None is an empty cell, or null.

    Raises
    ------
    UserError
        Where the file cannot be made.
    """
    with ExitStack() as stack:
        if out == STDOUT:
            if isinstance(sys.stdout, io.TextIOWrapper):  # as a file has it; names of files are not always text
                sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
            stream: TextIO = sys.stdout
        else:
            check_table_path(out)
            try:
                raw = stack.enter_context(open_atomic(Path(out)))
            except OSError as cause:
                raise UserError(f"--out is {out}, which cannot be written ({cause.strerror}).") from cause
            stream = io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline="")
            stack.callback(stream.detach)
        with _FORMATS[Path(out).suffix.lower() if out != STDOUT else ".csv"](stream, columns) as write:
            yield write
        stream.flush()


@contextmanager
def _csv(stream: TextIO, columns: Sequence[str]) -> Iterator[WriteRow]:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    yield writer.writerow


@contextmanager
def _json_lines(stream: TextIO, columns: Sequence[str]) -> Iterator[WriteRow]:
    yield lambda row: print(json.dumps(dict(zip(columns, row, strict=True)), allow_nan=False), file=stream)


@contextmanager
def _json(stream: TextIO, columns: Sequence[str]) -> Iterator[WriteRow]:
    before = "[\n"

    def write(row: Sequence[Any]) -> None:
        nonlocal before
        stream.write(before + json.dumps(dict(zip(columns, row, strict=True)), allow_nan=False))
        before = ",\n"

    yield write
    stream.write("\n]\n" if before != "[\n" else "[]\n")


_FORMATS = dict(zip(TABLE_SUFFIXES, (_csv, _json_lines, _json), strict=True))
