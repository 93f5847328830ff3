"""A file of rows that grows: one process writes it, whole batches at a time, and what a killed one tore is cut away."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssgan.errors import UserError
from ssgan.rows import Unusable, parse

__all__ = ["Journal", "check_place", "opened", "read"]

ENDING = ".jsonl"
BEGINNING = b'{"dataset": '  # of every row that is written here
# What the rows of one training, which are written at once, have in common.
TOGETHER = ("dataset_sha256", "config_sha256", "labels", "stack", "ablation")


def check_place(path: Path) -> None:
    """Whether rows can be written there; writes nothing.

    Raises
    ------
    UserError
        Where they cannot.
    """
    if path.suffix != ENDING:
        raise UserError(f"--out is {path}, but must end in {ENDING}: it is a file with one row in each line.")
    if path.is_dir():
        raise UserError(f"--out is {path}, which is a folder: name a file.")
    if not path.parent.is_dir():
        raise UserError(f"--out is {path}, but there is no folder {path.parent}: make it, or choose another file.")
    if not os.access(path if path.exists() else path.parent, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise UserError(f"--out is {path}, which cannot be written to: choose another file.")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, without the last ones of a training that a killed process left torn; none without a file.

    Raises
    ------
    UserError
        Where it holds something else.
    """
    return _whole(path)[0]


class Journal:
    """A file of rows that this process alone writes: see :func:`opened`.

    Attributes
    ----------
    path : Path
    rows : list of dict
        What it holds.
    repaired : str
        What was cut away when it was opened, in a sentence; empty for nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.repaired = path, ""
        self.rows, length = _whole(path)
        size = path.stat().st_size
        if length < size:
            os.truncate(path, length)
            self.repaired = (
                f"{path} ended in the midst of a training's rows: its last {size - length:,} bytes are cut away, to be "
                f"written anew."
            )
        elif size and not path.read_bytes().endswith(b"\n"):
            with path.open("ab") as stream:
                stream.write(b"\n")

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows at once; where there is no room for all of them, none is left."""
        content = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
        size = self.path.stat().st_size
        try:
            with self.path.open("ab", buffering=0) as stream:
                written = stream.write(content)
                if written != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(stream.fileno())
        except OSError:
            os.truncate(self.path, size)
            raise
        self.rows += rows


@contextmanager
def opened(path: Path) -> Iterator[Journal]:
    """Hold a file of rows, made where there is none, with a lock that ends with the process however it ends.

    Raises
    ------
    UserError
        Where another process holds it, or it holds something else.
    """
    with path.open("ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"Another `ssgan compare` is writing {path}: wait until it is done, or choose another --out."
            ) from None
        except OSError:
            pass  # a file system without locks
        yield Journal(path)


def _whole(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of a file but for the torn end, and how many bytes hold them."""
    content = path.read_bytes() if path.exists() else b""
    lines = content.splitlines(keepends=True)
    rows, starts, place = [], [], 0
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(parse(line))
            except Unusable as reason:
                begun = line.rstrip(b"\0")
                if number == len(lines) and (begun.startswith(BEGINNING) or BEGINNING.startswith(begun)):
                    break
                raise UserError(f"{path}:{number} {reason}: mend it, or choose another file with --out.") from None
            starts.append(place)
        place += len(line)
    cut = _unfinished(rows)
    return (rows[:-cut], starts[-cut]) if cut else (rows, place)


def _unfinished(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many rows at the end are some of a training's, whose others are nowhere.

    The ensemble of a stack stands before its models, and these are in order: it is whole where the last one is.
    """
    if not rows or not rows[-1].get("stack") or rows[-1].get("failed") is not None:
        return 0
    stack, count = rows[-1]["stack"], 0
    like = [row for row in rows if _training(row) == _training(rows[-1])]
    if {row["seed"] for row in like if not row.get("members")} >= set(stack):
        return 0
    for row in reversed(rows):
        if _training(row) != _training(rows[-1]) or (count and not row["seed"] <= rows[-count]["seed"]):
            break
        count += 1
    return count


def _training(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in TOGETHER)
