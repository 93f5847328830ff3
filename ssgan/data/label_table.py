"""Read a table of file names and labels, as spreadsheets and pandas write it, and match its names to pictures."""

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ssgan.data import label_log
from ssgan.data.dataset import UNLABELED
from ssgan.data.file_tree import FileTree, nearest_entry, printable
from ssgan.errors import UserError, counted, did_you_mean
from ssgan.files import path_to_text, read_file
from ssgan.table_files import column_key, decode_text, find_delimiter, read_records

__all__ = ["MISSING", "LabelRow", "LabelTable", "match_pictures", "read_label_table"]


# Labels that mean "no label", as in pandas.read_csv; a class may still be named so, with label_words.
MISSING = frozenset(
    [
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
        *("NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    ]
)
# -1 and -1.0 mean "no label" too, and cannot name a class.
NEVER_CLASSES = frozenset([str(UNLABELED), f"{UNLABELED}.0"])
SUFFIXES = (".csv", ".tsv", ".txt")
# Names of columns in lower case, without spaces, underscores and the like. The first of each takes precedence.
FILE_COLUMNS = (
    *("file", "filename", "filepath", "path", "image", "imagename", "imagefile", "imagefilename", "imagepath"),
    *("img", "imgname", "imgfile", "imgpath", "picture", "photo", "imageid", "fname"),
)
LABEL_COLUMNS = (
    *("label", "labels", "class", "classname", "classlabel", "classes", "category", "categoryname", "target"),
    *("species", "tag", "truth", "groundtruth", "y"),
)
HEADER = "a column of files (file, filename, path, image, ...) and one of labels (label, class, category, target, ...)"
PROBLEMS_SHOWN = 10
NAMES_COMPARED = 10_000  # above, similar names are looked for once: that takes 4 s with 100,000 pictures


class LabelRow(NamedTuple):
    """One line of the table of labels; ``label`` is None if it is missing. Answers have a time and an action."""

    line: int
    file: str
    label: str | None
    time: str = ""
    action: str = ""


@dataclass(frozen=True)
class LabelTable:
    """A table of labels.

    Attributes
    ----------
    path : Path
    rows : list of LabelRow
    notes : list of str
        Sentences for the user about what was read and what was not.
    problems : list of (int, str)
        Lines that cannot be used, each with the reason.
    is_log : bool
        Whether it is a table of answers (:mod:`ssgan.data.label_log`), where the last line of a picture counts.
    """

    path: Path
    rows: list[LabelRow]
    notes: list[str]
    problems: list[tuple[int, str]]
    is_log: bool = False


def read_label_table(path: Path, label_words: Sequence[str] = ()) -> LabelTable:
    """Read a table of labels: columns of any usual name, with commas, semicolons, tabs or bars, in any usual encoding.

    Parameters
    ----------
    path : Path
    label_words : sequence of str
        Words of ``MISSING`` that are classes in this table.

    Raises
    ------
    UserError
        If it cannot be read, has no such columns, or labels no file. A table of answers may have none yet.
    """
    text, notes = _read_text(path)
    delimiter = find_delimiter(path, text, (FILE_COLUMNS, LABEL_COLUMNS))
    columns: _Columns | None = None
    rows, problems, missing = [], [], Counter[str]()
    for line, cells in read_records(path, text, delimiter):
        if columns is None:
            columns = _find_columns(path, line, cells)
            continue
        row = _read_row(line, columns, cells, delimiter)
        if isinstance(row, str):
            problems.append((line, row))
            continue
        if _is_missing(row, label_words):
            if not columns.is_log:
                missing[row.label or "empty"] += 1
            row = row._replace(label=None)
        rows.append(row)
    if columns is None or not (rows or problems or columns.is_log):
        raise UserError(f"{path} labels no file: it needs a header, with {HEADER}, and a line for each label.")
    if columns.ignored:
        notes.append(f"Columns of {path} that are not used: {', '.join(columns.ignored)}.")
    if missing:
        words = ", ".join(missing) if len(missing) == 1 else ", ".join(f"{word}: {n:,}" for word, n in missing.items())
        notes.append(
            f"{missing.total():,} of {len(rows):,} lines of {path} have no label ({words}): those pictures are "
            f"unlabelled."
        )
    return LabelTable(path, rows, notes, problems, columns.is_log)


def _is_missing(row: LabelRow, label_words: Sequence[str]) -> bool:
    """Return whether the label of a line is missing; that of an answer only if it is empty."""
    if row.action:
        return not row.label
    return row.label in NEVER_CLASSES or (row.label in MISSING and row.label not in label_words)


def _read_text(path: Path) -> tuple[str, list[str]]:
    """Read text in UTF-8, UTF-16 or Windows-1252; return it, with a note if it is Windows-1252."""
    try:
        content = read_file(path)
    except FileNotFoundError:
        near = nearest_entry(path, lambda entry: entry.suffix.lower() in SUFFIXES)
        guess = f" Did you mean {near}?" if near else ""
        raise UserError(f"There is no file {path}: --labels-csv names a table of file,label.{guess}") from None
    except OSError as cause:
        raise UserError(f"{path} cannot be read ({cause.strerror}).") from None
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise UserError(f"{path} is a workbook or an archive, not text: save its sheet as CSV.")
    converted = [f"{path} is not UTF-8: it was read as Windows-1252."]
    with suppress(UnicodeDecodeError):
        if label_log.is_log(content):
            whole = label_log.complete_lines(content)
            is_unchanged = content.startswith(whole) or decode_text(content) is not None
            return whole.decode("utf-8-sig"), [] if is_unchanged else converted
        if (text := decode_text(content)) is not None:
            return text, []
        if b"\0" not in content:
            return content.decode("cp1252"), converted
    raise UserError(f"{path} is not text in UTF-8, UTF-16 or Windows-1252: save it as CSV in UTF-8.")


class _Columns(NamedTuple):
    """Positions of the columns of files and labels, how many there are, and the names of those not used."""

    file: int
    label: int
    width: int
    ignored: list[str]
    is_log: bool = False


def _find_columns(path: Path, line: int, cells: Sequence[str]) -> _Columns:
    """Find the columns of files and labels in the header."""
    header = [cell.strip() for cell in cells]
    while header and not header[-1]:
        header.pop()
    if tuple(column_key(name) for name in header) == label_log.COLUMNS:
        return _Columns(0, 1, len(header), [], is_log=True)
    file = _find_column(path, line, header, FILE_COLUMNS)
    label = _find_column(path, line, header, LABEL_COLUMNS)
    ignored = [name or "one without a name" for i, name in enumerate(header) if i not in (file, label)]
    return _Columns(file, label, len(header), ignored)


def _find_column(path: Path, line: int, header: Sequence[str], known: Sequence[str]) -> int:
    """Return the position of the column with one of the known names, of which the first takes precedence."""
    keys = [column_key(name) for name in header]
    first = [i for i, key in enumerate(keys) if key == known[0]]
    positions = first or [i for i, key in enumerate(keys) if key in known]
    if len(positions) == 1:
        return positions[0]
    where = f"{path}, line {line}: the header is {','.join(header)}, "
    if positions:
        names = " and ".join(header[i] for i in positions)
        raise UserError(f"{where}where each of {names} could be the {known[0]}: call the right one {known[0]}.")
    near = next((did_you_mean(name, known[:1]) for name in header if did_you_mean(name, known[:1])), "")
    raise UserError(f"{where}but needs {HEADER}.{near}")


def _read_row(line: int, columns: _Columns, cells: Sequence[str], delimiter: str) -> LabelRow | str:
    """Read one line of the table; return what is wrong with it if it cannot be used."""
    surplus = [cell for cell in cells[columns.width :] if cell.strip()]
    if surplus or len(cells) <= max(columns.file, columns.label):
        name = {"\t": "tab", ";": "semicolon", ",": "comma", "|": "bar"}[delimiter]
        return f"there are {len(cells)} fields, but the header has {columns.width}: quote each field with a {name}"
    file, label = printable(cells[columns.file]).removeprefix("./"), cells[columns.label].strip()
    if not file.strip():
        return "the file is empty: name one, or remove the line"
    if columns.is_log and len(cells) == columns.width:
        return LabelRow(line, file, label, cells[2], cells[3].strip() or "label")
    return LabelRow(line, file, label, action="label" if columns.is_log else "")


# Matching


class Matches(NamedTuple):
    """Labels by picture, sentences for the user, and the pictures that a person found to be of no class."""

    labels: dict[str, str | None]
    notes: list[str]
    of_no_class: frozenset[str] = frozenset()


def match_pictures(table: LabelTable, tree: FileTree) -> Matches:
    """Find the picture of each line of a table.

    Raises
    ------
    UserError
        If a line names no picture, or several, or one that another line names; all such lines are counted. In a
        table of answers the last line of a picture counts, and pictures that are gone are counted in a note.
    """
    if table.is_log:
        return _match_answers(table, tree)
    names = _PictureNames(tree, table.path)
    problems = list(table.problems)
    lines: dict[str, int] = {}
    labels: dict[str, str | None] = {}
    renamed = []
    for row in table.rows:
        matches = names.find(row.file)
        picture = matches[0] if len(matches) == 1 else ""
        if len(matches) > 1:
            problems.append((row.line, names.ambiguity(row.file, matches)))
        elif not matches:
            problems.append((row.line, f"{tree.path} holds no picture {row.file}"))
        elif picture in lines:
            same = "" if row.file == picture else f" (as {picture})"
            problems.append((row.line, f"{row.file} is in line {lines[picture]} already{same}: keep one"))
        else:
            lines[picture], labels[picture] = row.line, row.label
            if picture != row.file.replace("\\", "/"):
                renamed.append((row.file, picture))
    if problems:
        raise UserError(_problem_text(table, problems, tree))
    notes = list(table.notes)
    if renamed:
        name, picture = renamed[0]
        notes.append(
            f"{len(renamed):,} of {len(table.rows):,} lines of {table.path} name a picture by another path or "
            f"spelling, such as {name} for {picture}."
        )
    return Matches(labels, notes)


def _match_answers(table: LabelTable, tree: FileTree) -> Matches:
    """Take the last line of each picture of a table of answers.

    Its names are those of a listing of its own folder; if there is no such picture, of that of the tree.
    """
    if table.problems:
        raise UserError(_problem_text(table, table.problems, tree))
    names = _PictureNames(tree, table.path)
    above = names.prefix if any(names.prefix + row.file in names.names for row in table.rows) else ""
    pictures = {row.file: above + row.file if above + row.file in names.names else "" for row in table.rows}
    labels = {pictures[row.file]: row.label for row in table.rows if pictures[row.file]}
    actions = label_log.last_actions((row.file, row.action) for row in table.rows)
    last = {picture: actions[file] for file, picture in pictures.items() if picture}
    of_no_class = {picture for picture, action in last.items() if action == "none"}
    gone = [file for file, picture in pictures.items() if not picture]
    notes = list(table.notes)
    if of_no_class:
        notes.append(f"{table.path}: {counted(len(of_no_class), 'picture')} of none of the classes left out.")
    if skipped := sum(action == "skip" and not labels[picture] for picture, action in last.items()):
        notes.append(f"{table.path}: {counted(skipped, 'picture')} without a label, because skipped.")
    if gone:
        notes.append(f"{table.path} names {counted(len(gone), 'picture')} no longer there, such as {min(gone)}.")
    return Matches(labels, notes, frozenset(of_no_class))


def _problem_text(table: LabelTable, problems: list[tuple[int, str]], tree: FileTree) -> str:
    """Write one sentence about the lines of a table that cannot be used: the first ten, and how many there are."""
    problems = sorted(problems)
    files = {row.line: row.file for row in table.rows}

    def near(line: int, text: str) -> str:
        is_slow = len(tree.pictures) > NAMES_COMPARED and line != problems[0][0]
        return did_you_mean(files[line], tree.pictures) if "holds no picture" in text and not is_slow else ""

    if len(problems) == 1:
        ((line, text),) = problems
        return f"{table.path}, line {line}: {text}.{near(line, text)}"
    shown = [
        f"line {line}: {text}{f' ({guess.strip()})' if (guess := near(line, text)) else ''}"
        for line, text in problems[:PROBLEMS_SHOWN]
    ]
    more = f"; and {len(problems) - PROBLEMS_SHOWN:,} more" if len(problems) > PROBLEMS_SHOWN else ""
    return f"{table.path} has {len(problems):,} lines that cannot be used: {'; '.join(shown)}{more}."


class _PictureNames:
    """The pictures of a tree by every name that a table may give them."""

    def __init__(self, tree: FileTree, table: Path) -> None:
        self.names = set(tree.pictures)
        self.path, self.root = tree.path, tree.path.resolve()
        folder = table.resolve().parent
        # A table among the pictures may name them relative to its own folder.
        above = folder.relative_to(self.root).as_posix() if folder.is_relative_to(self.root) else "."
        self.prefix = "" if above == "." else printable(path_to_text(f"{above}/"))
        # From the strictest to the loosest, all in lower case: path and base name, each with its suffix and without.
        keys: list[Callable[[str], str]] = [str, _without_suffix, posixpath.basename]
        keys.append(lambda name: _without_suffix(posixpath.basename(name)))
        self.by_key = [_group(tree.pictures, key) for key in keys]
        self.by_folders: dict[tuple[int, str], dict[tuple[str, ...], list[str]]] = {}

    def find(self, name: str) -> list[str]:
        """List the pictures that a name may stand for: one, none, or several if it is ambiguous."""
        if (relative := self._relative(name)) in self.names:
            return [relative]
        path = name if name in self.names else _plain_path(name)
        paths = list(dict.fromkeys((path, self.prefix + path)))
        if exact := [one for one in paths if one in self.names]:
            return exact
        folded = [one.casefold() for one in paths]
        base = [posixpath.basename(folded[0])]
        for number, forms in enumerate((folded, folded, base, base)):
            if matches := [one for form in forms for one in self.by_key[number].get(form, [])]:
                key = number, forms[0]
                return matches if len(matches) == 1 else self._longest_common(folded[0], key, matches)
        return []

    def ambiguity(self, name: str, matches: Sequence[str]) -> str:
        """Say which pictures a name may stand for, and what to do."""
        first, second = matches[:2]
        if not self.prefix or second != self.prefix + first:
            return f"{name} may be {' or '.join(matches[:3])}: write its path"
        return (
            f"{name} may be {self.path / first} or {self.path / second}: write {second}, or if the first is meant "
            f"move the table to {self.path}"
        )

    def _relative(self, name: str) -> str:
        """Return the name of a file below the folder, if the table gives its full path on this machine."""
        path = Path(name)
        return path.relative_to(self.root).as_posix() if path.is_absolute() and path.is_relative_to(self.root) else ""

    def _longest_common(self, folded: str, key: tuple[int, str], matches: list[str]) -> list[str]:
        """Of pictures with the same base name, choose the one that shares the most folders with the table's path."""
        by_folders = self.by_folders.setdefault(key, {})
        if not by_folders:
            for picture in matches:
                for above in _folders_above(f"{self.root.name}/{picture}".casefold()):
                    by_folders.setdefault(above, []).append(picture)
        best = next((by_folders[above] for above in _folders_above(folded) if above in by_folders), matches)
        return best if len(best) == 1 else matches


def _group(names: Sequence[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    """Group names by a key of their lower-case form."""
    groups = defaultdict(list)
    for name in names:
        groups[key(name.casefold())].append(name)
    return dict(groups)


def _folders_above(path: str) -> list[tuple[str, ...]]:
    """Return the folders above a file, from the inside out: all, then fewer and fewer of the innermost."""
    folders = tuple(path.split("/")[-2::-1])
    return [folders[:count] for count in range(len(folders), 0, -1)]


def _plain_path(name: str) -> str:
    """Return a path with forward slashes, without a drive, a leading slash and the parts ``.`` and ``..``."""
    path = re.sub(r"^(file://)?/*([A-Za-z]:)?", "", name.strip().replace("\\", "/"))
    return "/".join(part for part in path.split("/") if part not in ("", ".", ".."))


def _without_suffix(path: str) -> str:
    """Return a path without the suffix of its last part."""
    return posixpath.splitext(path)[0]
