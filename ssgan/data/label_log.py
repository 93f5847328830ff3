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
import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
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
    return head.startswith(HEADER) or (b"\n" not in head and HEADER.startswith(head)) or bool(_find_records(content))


def _find_records(content: bytes) -> list[list[str]]:
    """Return the records of a table whose first one names the columns of a log, in any format; none of others."""
    text = decode_text(content)
    with suppress(UnicodeDecodeError, csv.Error):
        text = content.decode("cp1252") if text is None else text
        for delimiter in DELIMITERS:
            first = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
            if tuple(map(column_key, first)) == COLUMNS:
                return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    return []


def _in_own_format(content: bytes) -> bytes:
    """Return a log in UTF-8, with commas and line feeds; an incomplete last record of other formats is left out."""
    head = content.removeprefix(codecs.BOM_UTF8)
    is_own = head.startswith(HEADER) and (b"\n" in head or b"\r" not in head)
    records = [] if is_own else _find_records(content)
    if not records:
        return content
    if not _is_complete(records[-1]):
        records.pop()
    return HEADER + b"\n" + b"".join(_format(record) for record in records[1:])


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
    return len(content) if _is_complete(cells) else end


def _is_complete(cells: Sequence[str]) -> bool:
    return len(cells) == len(COLUMNS) and cells[-1] in ACTIONS


def complete_lines(content: bytes) -> bytes:
    """Return the complete lines as this package writes them, in UTF-8.

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
    whole = b"\n".join([*lines, tail])
    return whole[: complete_length(whole)]


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
