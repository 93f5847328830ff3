"""Labels from a CSV file: one line of ``file,label`` for each labelled picture."""

import csv
import io
import unicodedata
from pathlib import Path
from typing import NamedTuple

from ssgan.errors import UserError, did_you_mean

__all__ = ["Row", "read"]

COLUMNS = ("file", "label")


class Row(NamedTuple):
    """One line of the table."""

    line: int
    file: str
    label: str


def read(path: Path) -> list[Row]:
    """Read a table of labels: UTF-8, a header of ``file,label`` in either order, commas.

    Names come NFC-normalised, as :mod:`ssgan.trees` has them, and without ``./`` before them.

    Raises
    ------
    UserError
        Where it cannot be read, has other columns, or a line is not whole or names a file for the second time.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}: --labels-csv names a table of file,label.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no UTF-8 text: save it as CSV in UTF-8.") from None
    except OSError as cause:
        raise UserError(f"{path} cannot be read ({cause.strerror}).") from None
    reader = csv.reader(io.StringIO(text, newline=""))
    rows: dict[str, Row] = {}
    columns: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = _columns(path, reader.line_num, cells)
                continue
            row = _row(path, reader.line_num, columns, cells)
            if row.file in rows:
                raise UserError(
                    f"{path}, line {row.line}: {row.file} stands in line {rows[row.file].line} already: keep one."
                )
            rows[row.file] = row
    except csv.Error as cause:
        raise UserError(f"{path}, line {reader.line_num}: this is no CSV ({cause}).") from None
    if not rows:
        raise UserError(f"{path} labels no file: below a header of file,label it needs a line for each label.")
    return list(rows.values())


def _columns(path: Path, line: int, cells: list[str]) -> list[str]:
    """The columns in their order."""
    columns = [cell.strip() for cell in cells]
    for column in columns:
        if column not in COLUMNS:
            near = did_you_mean(column, COLUMNS)
            raise UserError(
                f"{path}, line {line}: unknown column {column!r}; the header must be file,label, in either order.{near}"
            )
    if sorted(columns) != sorted(COLUMNS):
        raise UserError(
            f"{path}, line {line}: the header is {','.join(columns)}, but must be file,label, in either order."
        )
    return columns


def _row(path: Path, line: int, columns: list[str], cells: list[str]) -> Row:
    if len(cells) != len(columns):
        raise UserError(
            f"{path}, line {line}: there are {len(cells)} fields, but must be two, {','.join(columns)}: put quotes "
            f"round a field with a comma."
        )
    found = dict(zip(columns, (unicodedata.normalize("NFC", cell) for cell in cells), strict=True))
    file, label = found["file"].removeprefix("./"), found["label"].strip()
    if not file.strip():
        raise UserError(f"{path}, line {line}: the file is empty: name one, or take the line away.")
    if not label:
        raise UserError(f"{path}, line {line}: the label of {file} is empty: an unlabelled file is not listed at all.")
    return Row(line, file, label)
