"""Keep the answers of ``ssgan label`` in ``labels.csv``: append-only, on disk before an answer is confirmed."""

import codecs
import os
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ssgan.data import label_log
from ssgan.data.label_table import NEVER_CLASSES, read_label_table
from ssgan.data.layouts import WITHOUT_LABELS
from ssgan.errors import UserError
from ssgan.files import append_file, lock, open_file, read_file

__all__ = ["Answer", "Change", "LabelStore", "check_class_name", "open_store", "timestamp"]

BY_A_PERSON = ("label", "none", "skip")
LONGEST_CLASS_NAME = 80


class Answer(NamedTuple):
    """The answer to a picture.

    Attributes
    ----------
    label : str
        Empty if there is none.
    action : str
        label, none, skip or folder.
    time : str
    version : int
        Counts the lines of this picture up to this answer; no other answer to it has the same.
    """

    label: str
    action: str
    time: str
    version: int


class Change(NamedTuple):
    """An answer to write."""

    file: str
    label: str
    action: str


class LabelStore:
    """The answers of a table, and the only writer of it. Safe to use from several threads.

    Attributes
    ----------
    path : Path
    notes : list of str
        Sentences for the user about what was repaired.
    line_count : int
        The number of lines.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self._lines: dict[str, int] = {}
        self._answers: dict[str, list[Answer]] = {}
        self._labels: Counter[str] = Counter()
        self.line_count = 0
        self._mutex = threading.RLock()
        self._size = self._mend()
        self._read()

    def __getitem__(self, file: str) -> Answer | None:
        """Return the current answer; None if there is none."""
        answers = self._answers.get(file)
        return answers[-1] if answers else None

    def version(self, file: str) -> int:
        """Return the version of the current answer; 0 if there is none."""
        answer = self[file]
        return answer.version if answer else 0

    @property
    def files(self) -> list[str]:
        """The pictures with a line."""
        return list(self._lines)

    def label_counts(self) -> Counter[str]:
        """Count the current labels of all pictures."""
        return +self._labels

    def append(self, changes: Sequence[Change]) -> list[int]:
        """Write answers, all or none, and return their versions once they are on the disk.

        Raises
        ------
        UserError
            If another program has changed the table.
        OSError
            If it cannot be written; then no part of it is kept.
        """
        time = timestamp()
        with self._mutex:
            self._write([label_log.format_line(one.file, one.label, time, one.action) for one in changes])
            return [self._apply(one.file, one.label, time, one.action) for one in changes]

    def undo(self, answers: Iterable[tuple[str, int]]) -> list[str]:
        """Undo answers of these pictures and versions, and return the pictures whose answer has changed since."""
        with self._mutex:
            answers = list(dict(answers).items())
            last = {file: self[file] for file, _ in answers}
            changed = [file for file, version in answers if not _is_undoable(last[file], version)]
            files = [file for file, _ in answers if file not in changed]
            before = {file: self._answers[file][-2:-1] for file in files}
            self.append([Change(file, before[file][0].label if before[file] else "", "undo") for file in files])
            return changed

    def _mend(self) -> int:
        """Create the table if there is none, remove an incomplete last line, and return its size.

        Raises
        ------
        UserError
            If the file is another table.
        """
        content = read_file(self.path) if self.path.exists() else b""
        if not label_log.is_log(content):
            raise UserError(
                f"{self.path} is a table with other columns than {','.join(label_log.COLUMNS)}, so no answer can be "
                f"added to it: rename it."
            )
        length = label_log.complete_length(content)
        if length < len(content):
            self.notes.append(f"The last line of {self.path} was incomplete and has been removed.")
        whole = content[:length]
        end = b"" if whole.endswith(b"\n") else b"\n"
        if not whole:
            end = label_log.HEADER + b"\n"
        if whole == content and not end:
            return length
        with open_file(self.path, "r+b" if content or self.path.exists() else "xb") as stream:
            stream.truncate(length)
            stream.seek(length)
            stream.write(end)
            stream.flush()
            os.fsync(stream.fileno())
        _sync_folder(self.path.parent)
        return length + len(end)

    def _read(self) -> None:
        """Read the answers of the table."""
        if read_file(self.path).removeprefix(codecs.BOM_UTF8).strip() == label_log.HEADER:
            return
        table = read_label_table(self.path)
        if table.problems:
            line, problem = table.problems[0]
            raise UserError(f"{self.path}, line {line}: {problem}.")
        for row in table.rows:
            self._apply(row.file, row.label or "", row.time, row.action)

    def _apply(self, file: str, label: str, time: str, action: str) -> int:
        """Apply a line to the answers; return its version."""
        self.line_count += 1
        version = self._lines[file] = self._lines.get(file, 0) + 1
        answers = self._answers.setdefault(file, [])
        before = answers[-1].label if answers else ""
        if action == "undo":
            del answers[-1:]
        else:
            answers.append(Answer(label, action, time, version))
        after = answers[-1].label if answers else ""
        self._labels.subtract([label for label in (before,) if label])
        self._labels.update([label for label in (after,) if label])
        return version

    def _write(self, lines: Sequence[bytes]) -> None:
        """Append lines and sync them to the disk."""
        if not lines:
            return
        if self.path.stat().st_size != self._size:
            raise UserError(f"Another program has changed {self.path}: start `ssgan label` again.")
        content = b"".join(lines)
        append_file(self.path, content, sync=True)
        self._size += len(content)


@contextmanager
def open_store(folder: Path, given: Mapping[str, str] | None = None) -> Iterator[LabelStore]:
    """Open the table of a folder of pictures, which no other process can open meanwhile.

    Parameters
    ----------
    folder : Path
    given : mapping of str to str, optional
        Labels by the folders of pictures. Those that the table does not hold are added to it.

    Raises
    ------
    UserError
        If another process has opened it, it cannot be written, or it is another table.
    """
    path = folder / label_log.TABLE
    busy = f"Another `ssgan label` is writing {path}: continue in its page, or stop it first."
    with lock(path.with_name(f".{label_log.TABLE}.lock"), busy):
        try:
            store = LabelStore(path)
            new = [Change(file, label, "folder") for file, label in (given or {}).items() if store[file] is None]
            store.append(new)
        except OSError as cause:
            raise UserError(f"{path} cannot be written ({cause.strerror}).") from None
        yield store


def check_class_name(text: str, known: Sequence[str] = ()) -> str:
    """Return the normalised name of a class; a known one if only upper and lower case differ.

    Raises
    ------
    UserError
        For a name that no class can have.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise UserError("A class needs a name.")
    if not name.isprintable() or len(name) > LONGEST_CLASS_NAME:
        raise UserError(f"A class has at most {LONGEST_CLASS_NAME} visible characters in one line.")
    if name in NEVER_CLASSES or name.lower() in WITHOUT_LABELS:
        raise UserError(f"{name} means that there is no label: choose another name.")
    return next((one for one in known if one.casefold() == name.casefold()), name)


def timestamp(seconds: float | None = None) -> str:
    """Return a time in UTC as ISO 8601; now by default."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_undoable(answer: Answer | None, version: int) -> bool:
    """Return whether an answer has this version and was given by a person."""
    return answer is not None and answer.version == version and answer.action in BY_A_PERSON


def _sync_folder(folder: Path) -> None:
    """Sync the entry of a new file, if the system supports it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
