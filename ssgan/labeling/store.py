"""Keep the answers of ``ssgan label`` in ``labels.csv``: append-only, on disk before an answer is confirmed."""

import codecs
import hashlib
import itertools
import os
import threading
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ssgan.data import label_log
from ssgan.data.label_table import NEVER_CLASSES, read_label_table
from ssgan.data.layouts import WITHOUT_LABELS
from ssgan.errors import UserError, counted
from ssgan.files import append_file, lock, open_file, read_file, write_atomic

__all__ = ["Answer", "Change", "LabelStore", "check_class_name", "open_store", "read_given_classes", "timestamp"]

BY_A_PERSON = ("label", "none", "skip")
LONGEST_CLASS_NAME = 80
JOINERS = dict.fromkeys([0x200C, 0x200D])  # join the letters of some scripts, and the parts of emoji


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

    Parameters
    ----------
    path : Path
    present : collection of str, optional
        The pictures whose labels count; by default all.

    Attributes
    ----------
    notes : list of str
        Sentences for the user about what was repaired.
    line_count : int
        The number of lines.
    """

    def __init__(self, path: Path, present: Collection[str] | None = None) -> None:
        self.path, self.present = path, present
        self.notes: list[str] = []
        self._lines: dict[str, int] = {}
        self._answers: dict[str, list[Answer]] = {}
        self._labels: Counter[str] = Counter()
        self.line_count = 0
        self._mutex = threading.RLock()
        self._mend()
        self._read()
        self._state = self._stat()
        absent = [file for file in self.files if not self._counts(file)]
        if absent:
            self.notes.append(f"{path} names {counted(len(absent), 'picture')} not in {path.parent}: not counted.")

    def __getitem__(self, file: str) -> Answer | None:
        """Return the current answer; None if there is none."""
        answers = self._answers.get(file)
        return answers[-1] if answers else None

    def answers(self, file: str) -> list[Answer]:
        """Return the answers to a picture that are not undone, the current one last."""
        return list(self._answers.get(file, ()))

    def label(self, file: str) -> str:
        """Return the current label; empty if there is none."""
        answer = self[file]
        return answer.label if answer else ""

    def version(self, file: str) -> int:
        """Return the version of the current answer; 0 if there is none."""
        answer = self[file]
        return answer.version if answer else 0

    @property
    def files(self) -> list[str]:
        """The pictures with a line."""
        return list(self._lines)

    def label_counts(self) -> Counter[str]:
        """Count the current labels of the pictures that are present."""
        return Counter({label: count for label, count in self._labels.items() if label and count})

    def folder_labels(self) -> Counter[str]:
        """Count the labels that are those of folders."""
        answers = (self[file] for file in self.files if self._counts(file))
        return Counter(answer.label for answer in answers if answer and answer.action == "folder")

    def labels(self) -> list[str]:
        """Return the current labels, in the order of their first use."""
        answers = (self[file] for file in self.files)
        return list(dict.fromkeys(answer.label for answer in answers if answer and answer.label))

    def read_classes(self) -> list[str]:
        """Return the classes of the last page in the order of their keys; none if they are not known."""
        names: list[str] = []
        with suppress(OSError, UnicodeDecodeError, UserError):
            for line in read_file(self._classes_path).decode().splitlines():
                names.append(check_class_name(line))
            return list(dict.fromkeys(names))
        return []

    def write_classes(self, names: Sequence[str]) -> None:
        """Keep the classes beside the table, so that their keys stay the same; a failure costs only their order."""
        with suppress(OSError):
            write_atomic(self._classes_path, "".join(f"{name}\n" for name in names).encode())

    def write_given_classes(self, names: Sequence[str]) -> None:
        """Keep the names of ``--classes``: other folders are not classes, at later starts either.

        Raises
        ------
        UserError
            If they cannot be written.
        """
        try:
            write_atomic(_given_classes_path(self.path), "".join(f"{name}\n" for name in names).encode())
        except OSError as cause:
            raise UserError(f"{_given_classes_path(self.path)} cannot be written ({cause.strerror}).") from None

    @property
    def _classes_path(self) -> Path:
        return self.path.with_name(f".{self.path.name}.classes")

    def review_start(self, table: Path) -> str:
        """Return the time at which the review of a table of pictures began: now, or that of an earlier start.

        It is kept beside the answers, by the content of the table; a failure costs only the place in the review.
        """
        path = self.path.with_name(f".{self.path.name}.reviews")
        content, starts = hashlib.sha256(read_file(table)).hexdigest(), {}
        with suppress(OSError, ValueError):
            starts = dict(line.split() for line in read_file(path).decode().splitlines())
        if content not in starts:
            starts[content] = timestamp()
            with suppress(OSError):
                write_atomic(path, "".join(f"{key} {time}\n" for key, time in starts.items()).encode())
        return starts[content]

    def _counts(self, file: str) -> bool:
        """Return whether the label of a picture counts."""
        return self.present is None or file in self.present

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

    def _mend(self) -> None:
        """Create the table if there is none, and remove an incomplete last line.

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
        content = self._in_own_format(content)
        length = label_log.complete_length(content)
        if length < len(content):
            self.notes.append(f"The last line of {self.path} was incomplete and has been removed.")
        whole = content[:length]
        end = b"" if whole.endswith(b"\n") else b"\n"
        if not whole:
            end = label_log.HEADER + b"\n"
        if whole == content and not end:
            return
        with open_file(self.path, "r+b" if content or self.path.exists() else "xb") as stream:
            stream.truncate(length)
            stream.seek(length)
            stream.write(end)
            stream.flush()
            os.fsync(stream.fileno())
        _sync_folder(self.path.parent)

    def _in_own_format(self, content: bytes) -> bytes:
        """Return the content of the table, after writing it anew if a spreadsheet has saved it in another format.

        Raises
        ------
        UserError
            If it is in another encoding.
        """
        try:
            whole = label_log.own_lines(content)
        except UnicodeDecodeError:
            raise UserError(f"{self.path} is neither UTF-8 nor Windows-1252: save it as UTF-8.") from None
        if content.startswith(whole):
            return content
        write_atomic(self.path, whole)
        self.notes.append(f"{self.path} was in the format of a spreadsheet, and is now in UTF-8 with commas.")
        return whole

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
        if self._counts(file):
            self._labels[before] -= 1
            self._labels[after] += 1
        return version

    def _write(self, lines: Sequence[bytes]) -> None:
        """Append lines and sync them to the disk."""
        if not lines:
            return
        if self._stat() != self._state:
            raise UserError(f"Another program has changed {self.path}: start `ssgan label` again.")
        try:
            append_file(self.path, b"".join(lines), sync=True)
        finally:
            self._state = self._stat()

    def _stat(self) -> tuple[int, int, int]:
        """Return what changes if another program writes to the table: its inode, size and time."""
        now = self.path.stat()
        return now.st_ino, now.st_size, now.st_mtime_ns


@contextmanager
def open_store(
    folder: Path, given: Mapping[str, str] | None = None, present: Collection[str] | None = None
) -> Iterator[LabelStore]:
    """Open the table of a folder of pictures, which no other process can open meanwhile.

    Parameters
    ----------
    folder : Path
    given : mapping of str to str, optional
        Labels by the folders of pictures. Those that the table does not hold are added to it; others that it holds as
        labels of folders are undone.
    present : collection of str, optional
        The pictures of the folder; labels of others do not count.

    Raises
    ------
    UserError
        If another process has opened it, it cannot be written, or it is another table.
    """
    path = folder / label_log.TABLE
    busy = f"Another `ssgan label` is writing {path}: continue in its page, or stop it first."
    with lock(path.with_name(f".{label_log.TABLE}.lock"), busy):
        try:
            store = LabelStore(path, present)
            if given is not None:
                store.append(_former_folders(store, given))
                store.append([Change(file, label, "folder") for file, label in given.items() if store[file] is None])
        except OSError as cause:
            raise UserError(f"{path} cannot be written ({cause.strerror}).") from None
        yield store


def read_given_classes(folder: Path) -> list[str]:
    """Return the names of the last ``--classes`` for the table of a folder; none if they were never given.

    Raises
    ------
    UserError
        If they cannot be read.
    """
    path = folder / label_log.TABLE
    try:
        lines = read_file(_given_classes_path(path)).decode().splitlines() if path.exists() else []
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as cause:
        raise UserError(f"{_given_classes_path(path)} cannot be read ({cause}): give --classes again.") from None
    return [check_class_name(line) for line in lines]


def _given_classes_path(table: Path) -> Path:
    return table.with_name(f".{table.name}.given-classes")


def _former_folders(store: LabelStore, given: Mapping[str, str]) -> list[Change]:
    """Return the changes that undo labels of folders that are no longer given."""
    changes = []
    for file in store.files:
        answers = store.answers(file) if store.present is None or file in store.present else []
        # A skipped picture has kept the label of its folder.
        skips = [*itertools.takewhile(lambda answer: answer.action == "skip", reversed(answers))]
        *_, last = [None, *answers[: len(answers) - len(skips)]]
        if last and last.action == "folder" and given.get(file) != last.label:
            changes += [Change(file, "", "undo")] * (1 + len(skips))
    return changes


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
    if len(name) > LONGEST_CLASS_NAME:
        raise UserError(
            f"The name of a class has {len(name):,} characters, but at most {LONGEST_CLASS_NAME} are allowed."
        )
    if not name.translate(JOINERS).isprintable():
        raise UserError("The name of a class has a character that cannot be shown, such as a tab or a line break.")
    if name in NEVER_CLASSES or name.lower() in WITHOUT_LABELS:
        raise UserError(f"{name} means that there is no label: choose another name.")
    alike = [one for one in known if one.casefold() == name.casefold()]
    return alike[0] if alike and name not in alike else name


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
