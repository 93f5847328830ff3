"""Read the tables that a labelling page takes: of pictures to look at again, of predictions, and of suggestions."""

import csv
import io
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ssgan.data.file_tree import printable
from ssgan.data.label_table import FILE_COLUMNS
from ssgan.errors import UserError, did_you_mean
from ssgan.files import path_from_text, path_to_text, read_file
from ssgan.table_files import column_key, decode_text, find_delimiter, read_records

__all__ = ["Hint", "Review", "read_hints", "read_order", "read_review"]

GUESS_COLUMNS = ("suggested", "predicted", "class")


class Hint(NamedTuple):
    """What a model or a table says about a picture.

    Attributes
    ----------
    label : str
        The most probable class; empty if it is unknown.
    probability : float or None
    margin : float
        Difference of the two largest probabilities; 1 if it is unknown.
    reason : str
        In words.
    unlike : bool
        Whether it looks like none of the classes.
    """

    label: str = ""
    probability: float | None = None
    margin: float = 1.0
    reason: str = ""
    unlike: bool = False


class Review(NamedTuple):
    """The pictures to look at again, with what is said of each, and the names of those that are not there."""

    hints: dict[str, Hint]
    missing: list[str]


def read_review(table: Path, names: Sequence[str], folder: Path) -> Review:
    """Read a table of pictures to look at again, such as that of ``ssgan audit``, in its order.

    Its column of files is one of those of a table of labels, with names below ``folder`` or paths; ``suggested``,
    ``predicted`` or ``class``, ``probability`` and ``reason`` are shown if it has them.

    Raises
    ------
    UserError
        If it cannot be read, or names no picture that is there.
    """
    try:
        content = read_file(table)
    except FileNotFoundError:
        raise UserError(f"There is no file {table}: --only names a CSV of pictures.") from None
    except OSError as cause:
        raise UserError(f"{table} cannot be read ({cause.strerror}).") from None
    # Names of pictures may be bytes that are not UTF-8, which `predict` writes as they are; or a spreadsheet has saved
    # the table in Windows-1252: what names more pictures is right.
    text = decode_text(content)
    texts = [content.decode("utf-8-sig", "surrogateescape"), content.decode("cp1252", "replace")]
    reviews = [_read_review(table, one, names, folder) for one in (texts if text is None else [text])]
    review = max(reviews, key=lambda one: len(one.hints))
    if not review.hints and not review.missing:
        raise UserError(f"{table} names no picture: its column of files is empty.")
    if not review.hints:
        near = did_you_mean(review.missing[0], names)
        raise UserError(f"{table}, line 2: there is no picture {review.missing[0]!r} in {folder}.{near}")
    return review


def _read_review(table: Path, text: str, names: Sequence[str], folder: Path) -> Review:
    """Read the text of a table of pictures to look at again."""
    lines = read_records(table, text, find_delimiter(table, text, (FILE_COLUMNS,)))
    _, header = next(lines, (0, []))
    keys = [column_key(cell) for cell in header]
    column = next((key for key in FILE_COLUMNS if key in keys), None)
    rows = [dict(zip(keys, cells, strict=False)) for _, cells in lines]
    if column is None or not rows:
        raise UserError(f"{table} names no picture: --only needs a CSV with a column file or path and a line for each.")
    known, hints, missing = set(names), {}, []
    for row in rows:
        cell = row.get(column, "").removeprefix("./")
        if not cell.strip():
            continue
        written = printable(cell)
        name = written if written in known else _below(cell, folder)
        if name not in known:
            missing.append(written)
            continue
        guess = next((row[key] for key in GUESS_COLUMNS if key in row), "")
        probability = None
        with suppress(ValueError):
            number = float(row.get("probability", ""))
            probability = number if 0 <= number <= 1 else None
        hints[name] = Hint(printable(guess), probability, reason=printable(row.get("reason", "")))
    return Review(hints, missing)


def _below(path: str, folder: Path) -> str:
    """Return the name below a folder of a picture that is named by its path."""
    relative = os.path.relpath(path_from_text(path), folder).replace(os.sep, "/")
    return printable(path_to_text(relative))


def read_hints(table: Path, folder: Path) -> dict[str, Hint]:
    """Read the rows of ``ssgan predict --probabilities``, by the names of pictures below their folder."""
    hints = {}
    for row in _read_rows(table):
        p = sorted(float(value) for name, value in row.items() if name and name.startswith("p(") and value)
        if row["class"] and p:
            margin = p[-1] - p[-2] if len(p) > 1 else 1.0
            # A note on a picture that has a class says that it looks like none.
            hints[_below(row["file"], folder)] = Hint(row["class"], p[-1], margin, "", bool(row["note"]))
    return hints


def read_order(table: Path) -> list[str]:
    """Read the pictures of a table of ``ssgan suggest`` in its order."""
    return [row["path"] for row in _read_rows(table)]


def _read_rows(table: Path) -> list[dict[str, str]]:
    """Read the rows of a table that a command of ``ssgan`` wrote."""
    text = read_file(table).decode("utf-8", "surrogateescape")
    return list(csv.DictReader(io.StringIO(text, newline="")))
