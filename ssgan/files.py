"""Files that are either whole or not there, and the folder for what is downloaded or made.

Rows on their way out, one by one: CSV, JSON lines or JSON, to a file or to standard output."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from ssgan.errors import UserError

__all__ = ["STDOUT", "check_table_path", "default_root", "open_atomic", "open_table", "write_atomic", "write_json"]


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Give a stream to a temporary name beside ``path``; at the end sync it to the disk and rename it into place.

    Where the block is left by an error, nothing is left behind.
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
    """Write a whole file at once, as :func:`open_atomic` does."""
    with open_atomic(path) as stream:
        stream.write(content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that any reader accepts: a NaN is refused rather than written."""
    write_atomic(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def default_root() -> Path:
    """Where downloaded sets lie: ``SSGAN_DATA``, or ``ssgan`` in the user's cache."""
    if chosen := os.environ.get("SSGAN_DATA"):
        return Path(os.path.expanduser(chosen))
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "ssgan")


STDOUT = "-"
TABLE_SUFFIXES = (".csv", ".jsonl", ".json")

Write = Callable[[Sequence[Any]], None]


def check_table_path(out: str) -> None:
    """Whether rows can go there, before work is done for them.

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
def open_table(out: str, columns: Sequence[str]) -> Iterator[Write]:
    """Give a function that writes one row; a file appears whole at the end, or not at all.

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
def _csv(stream: TextIO, columns: Sequence[str]) -> Iterator[Write]:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    yield writer.writerow


@contextmanager
def _json_lines(stream: TextIO, columns: Sequence[str]) -> Iterator[Write]:
    yield lambda row: print(json.dumps(dict(zip(columns, row, strict=True)), allow_nan=False), file=stream)


@contextmanager
def _json(stream: TextIO, columns: Sequence[str]) -> Iterator[Write]:
    before = "[\n"

    def write(row: Sequence[Any]) -> None:
        nonlocal before
        stream.write(before + json.dumps(dict(zip(columns, row, strict=True)), allow_nan=False))
        before = ",\n"

    yield write
    stream.write("\n]\n" if before != "[\n" else "[]\n")


_FORMATS = dict(zip(TABLE_SUFFIXES, (_csv, _json_lines, _json), strict=True))
