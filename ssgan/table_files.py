"""Read and write tables as CSV or JSON."""

import codecs
import csv
import io
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from ssgan.errors import UserError, visible
from ssgan.files import check_output, open_atomic

__all__ = [
    "DELIMITERS",
    "STDOUT",
    "check_table_path",
    "column_key",
    "decode_text",
    "find_delimiter",
    "open_table",
    "read_records",
]

STDOUT = "-"
NAME_ERRORS = "ssgan-names"  # error handler for text that UTF-8 cannot encode
TABLE_SUFFIXES = (".csv", ".jsonl", ".json")
DELIMITERS = (",", ";", "\t", "|")

WriteRow = Callable[[Sequence[Any]], None]


def check_table_path(out: str) -> None:
    """Check that rows can be written to ``out``, before any are computed.

    Raises
    ------
    UserError
        If the suffix is of no known format, or no file can be written there.
    """
    path = Path(out)
    if out == STDOUT:
        return
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise UserError(
            f"--out is {out}, but must end in {', '.join(TABLE_SUFFIXES[:-1])} or {TABLE_SUFFIXES[-1]}, or be - ."
        )
    check_output("--out", path)


@contextmanager
def open_table(out: str, columns: Sequence[str]) -> Iterator[WriteRow]:
    """Open a table and yield a function that writes one row; a file appears complete at the end, or not at all.

    Parameters
    ----------
    out : str
        A file, whose suffix gives the format; ``-`` is CSV on standard output, with control characters escaped if that
        is a terminal. For an empty string, rows are dropped.
    columns : sequence of str
        Names of the values of a row: the header of a CSV, the keys of JSON. A value of None is an empty cell, or null.

    Raises
    ------
    UserError
        If the file cannot be created.
    """
    if not out:
        yield lambda row: None
        return
    with ExitStack() as stack:
        if out == STDOUT:
            if isinstance(sys.stdout, io.TextIOWrapper):  # as in a file; file names are not always valid text
                sys.stdout.reconfigure(encoding="utf-8", errors=NAME_ERRORS)
            stream: TextIO = sys.stdout
        else:
            check_table_path(out)
            try:
                raw = stack.enter_context(open_atomic(Path(out)))
            except OSError as cause:
                raise UserError(f"--out is {out}, which cannot be written ({cause.strerror}).") from cause
            stream = io.TextIOWrapper(raw, encoding="utf-8", errors=NAME_ERRORS, newline="")
            stack.callback(stream.detach)
        with _FORMATS[Path(out).suffix.lower() if out != STDOUT else ".csv"](stream, columns) as write:
            if out == STDOUT and stream.isatty():  # as `ls` does; a file or another program gets names as they are
                yield lambda row: write([visible(cell) if isinstance(cell, str) else cell for cell in row])
            else:
                yield write
        stream.flush()


def _encode_names(error: UnicodeError) -> tuple[bytes, int]:
    """Encode lone surrogates: those of file names as their original bytes, others as escape sequences."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    coded = (bytes([ord(c) - 0xDC00]) if "\udc80" <= c <= "\udcff" else c.encode("unicode_escape") for c in characters)
    return b"".join(coded), error.end


codecs.register_error(NAME_ERRORS, _encode_names)


@contextmanager
def _csv(stream: TextIO, columns: Sequence[str]) -> Iterator[WriteRow]:
    writer, head = csv.writer(stream, lineterminator="\n"), [columns]
    yield lambda row: writer.writerows([head.pop(), row] if head else [row])
    writer.writerows(head)  # without rows only now, so that an error before the first leaves no output


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


def decode_text(content: bytes) -> str | None:
    """Decode text in UTF-8, or in UTF-16 with or without a byte order mark; None if it is neither."""
    encodings = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    encoding = next((name for mark, name in encodings.items() if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in content[:2]:  # UTF-16 without a mark, which begins with an ASCII letter
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def read_records(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line that is not blank, without Excel's line ``sep=;``.

    Raises
    ------
    UserError
        If it is not CSV; ``path`` names it.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            if reader.line_num == 1 and re.fullmatch(r"sep=.?", "".join(cells).strip()):
                continue
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [unicodedata.normalize("NFC", cell) for cell in cells]
    except csv.Error as cause:
        raise UserError(f"{path}, line {reader.line_num}: this is not CSV ({cause}).") from None


def find_delimiter(path: Path, text: str, required: Sequence[Collection[str]]) -> str:
    """Return the delimiter with which the header has the required columns, else the one with the most columns.

    The names of the columns are more reliable than ``csv.Sniffer``, which guesses from character frequencies.

    Parameters
    ----------
    path : Path
        Names the table in messages.
    text : str
    required : sequence of collections of str
        For each required column, the names that it may have, as :func:`column_key` returns them.
    """

    def score(delimiter: str) -> tuple[bool, int]:
        _, header = next(read_records(path, text, delimiter), (0, []))
        keys = {column_key(cell) for cell in header}
        return all(not keys.isdisjoint(names) for names in required), len(header)

    return max(DELIMITERS, key=score)


def column_key(name: str) -> str:
    """Return the letters and digits of a column's name, in lower case."""
    return "".join(c for c in name.casefold() if c.isalnum())
