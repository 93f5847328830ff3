"""The format of the table of answers that ``ssgan label`` appends to: the last line of a picture holds its label.

Its columns are ``file,label,time,action``, which tell it apart from other tables. An empty label means none. The
actions:

* ``label``: a person gave the label,
* ``none``: a person found that it is none of the classes,
* ``skip``: a person could not tell; the picture keeps the label that it has,
* ``undo``: the previous answer is undone; the label is again that of the answer before it, if there is one,
* ``folder``: the label is the name of the folder that the picture was in.
"""

import codecs
import csv
import io
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ssgan.table_files import DELIMITERS, column_key, decode_text

__all__ = [
    "ACTIONS",
    "COLUMNS",
    "HEADER",
    "TABLE",
    "complete_length",
    "complete_lines",
    "format_line",
    "how_to_label",
    "is_log",
    "last_actions",
    "own_lines",
]

TABLE = "labels.csv"  # beside the pictures
COLUMNS = ("file", "label", "time", "action")
ACTIONS = ("label", "none", "skip", "undo", "folder")
HEADER = ",".join(COLUMNS).encode()


def is_log(content: bytes) -> bool:
    """Return whether the content of a file is a table of answers, or the beginning of one whose writer was killed.

    A spreadsheet may have saved it with other delimiters, quotes, line breaks or in another encoding.
    """
    head = content.removeprefix(codecs.BOM_UTF8)
    is_own = head.startswith((HEADER + b"\n", HEADER + b"\r\n")) or (b"\n" not in head and HEADER.startswith(head))
    return is_own or _find_format(content) is not None


def _find_format(content: bytes) -> tuple[str, str] | None:
    """Return the text and the delimiter of a table whose header names the columns of a log; None for others."""
    text = decode_text(content)
    with suppress(csv.Error, UnicodeDecodeError):
        if text is None:
            text = _decode_torn(content)
        for delimiter in DELIMITERS:
            if tuple(map(column_key, next(_records(text, delimiter), []))) == COLUMNS:
                return text, delimiter
    return None


def _decode_torn(content: bytes) -> str:
    """Decode UTF-8 whose last letter may be incomplete, or else Windows-1252."""
    with suppress(UnicodeDecodeError):
        return codecs.getincrementaldecoder("utf-8-sig")().decode(content)
    return content.decode("cp1252")


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the cells of each line that is not blank, without Excel's line ``sep=;`` and without empty cells beyond."""
    for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
        while len(cells) > len(COLUMNS) and not cells[-1].strip():
            cells.pop()
        if any(cell.strip() for cell in cells) and not re.fullmatch(r"sep=.?", delimiter.join(cells).strip()):
            yield [*cells[:1], *(cell.strip() for cell in cells[1:])]


def _in_own_format(content: bytes) -> bytes:
    """Return a log as this module writes it: in UTF-8, with commas and line feeds."""
    head = content.removeprefix(codecs.BOM_UTF8)
    if head.startswith((HEADER + b"\n", HEADER + b"\r\n")) or HEADER.startswith(head):
        return content
    if (found := _find_format(content)) is None:
        return content
    text, delimiter = found
    whole = b"".join(_format(cells) for cells in _records(text, delimiter))
    whole = HEADER + whole[whole.index(b"\n") :]
    return whole if text.endswith(("\n", "\r")) else whole.removesuffix(b"\n")


def complete_length(content: bytes) -> int:
    """Return the number of bytes up to the end of the last complete line; a killed process left what follows.

    A last line without a line break is complete if it has all its fields, as an editor may leave it.
    """
    end = content.rfind(b"\n") + 1
    tail = content[end:]
    if tail == HEADER:
        return len(content)
    try:
        cells = next(csv.reader([tail.decode()], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return end
    return len(content) if len(cells) == len(COLUMNS) and cells[-1] in ACTIONS else end


def complete_lines(content: bytes) -> bytes:
    """Return the lines as this package writes them, without an incomplete last one; errors as :func:`own_lines`."""
    whole = own_lines(content)
    return whole[: complete_length(whole)]


def own_lines(content: bytes) -> bytes:
    """Return the lines as this package writes them, in UTF-8.

    A spreadsheet may have saved them in another format; those in Windows-1252 may stand beside later answers.

    Raises
    ------
    UnicodeDecodeError
        If a line is neither.
    """
    *lines, tail = _in_own_format(content).split(b"\n")
    lines = [_line_in_utf8(line) for line in lines]
    with suppress(UnicodeDecodeError):  # a killed process may have left part of a letter
        tail = _line_in_utf8(tail)
    return b"\n".join([*lines, tail])


def _line_in_utf8(line: bytes) -> bytes:
    with suppress(UnicodeDecodeError):
        line.decode()
        return line
    return line.decode("cp1252").encode()


def format_line(file: str, label: str, time: str, action: str) -> bytes:
    """Write a line of the table."""
    return _format([file, label, time, action])


def _format(cells: Sequence[str]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(cells)
    return stream.getvalue().encode()


def how_to_label(folder: Path) -> str:
    """Return how to add answers."""
    return f"label some pictures with: {shlex.join(['ssgan', 'label', str(folder)])}"


def last_actions(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the action of the last valid answer by picture, from the picture and the action of each line.

    It is empty if every answer was undone.
    """
    answers = defaultdict[str, list[str]](list)
    for file, action in lines:
        if action == "undo":
            del answers[file][-1:]
        else:
            answers[file].append(action)
    return {file: actions[-1] if actions else "" for file, actions in answers.items()}
