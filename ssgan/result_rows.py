"""One row of a result: what it must hold, and the reason why a line is none.

A file of rows that grows: one process writes it, whole batches at a time, and what a killed one tore is cut away."""

import errno
import fcntl
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssgan.errors import UserError

__all__ = [
    "MEASURED",
    "REQUIRED",
    "RowFile",
    "Unusable",
    "check_row_file",
    "is_lost",
    "open_row_file",
    "parse_row",
    "read_row_file",
]


class Unusable(ValueError):  # noqa: N818 - a finding about a line, said with its place
    """Why a line is no row that can be used; its text goes on after the place of the line."""


def _number(low: float, high: float = math.inf) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high

    return holds


def _whole(low: int) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= MOST

    return holds


def _or_null(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _names(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(name, str) for name in value)


def _matrix(value: Any) -> bool:
    count = _whole(0)
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(row, list) and len(row) == len(value) and all(map(count, row)) for row in value)
    )


def _bins(value: Any) -> bool:
    share, count = _number(0, 1), _whole(0)
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(
            isinstance(one, dict)
            and {"low", "high", "count", "confidence", "accuracy"} <= one.keys()
            and share(one["low"])
            and share(one["high"])
            and count(one["count"])
            and all(share(one[key]) if one["count"] else one[key] is None for key in ("confidence", "accuracy"))
            for one in value
        )
    )


MOST = 2**53
# What tells rows apart; a row that failed has the first five at least.
NAMED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "dataset": (_text, "a name"),
    "labels": (_whole(0), "a whole number"),
    "method": (_text, "a name"),
    "seed": (_whole(0), "a whole number"),
    "draw_seed": (_or_null(_whole(0)), "a whole number or null"),
}
REQUIRED: dict[str, tuple[Callable[[Any], bool], str]] = {
    **NAMED,
    "dataset_sha256": (_text, "a hash"),
    "preset": (_or_null(_text), "a name or null"),
    "settings": (_object, "an object"),
    "config_sha256": (_text, "a hash"),
    "images": (_or_null(_whole(0)), "a whole number or null"),
    "split_sha256": (_text, "a hash"),
    "error": (_or_null(_number(0, 100)), "a percentage or null"),
    "error_raw": (_or_null(_number(0, 100)), "a percentage or null"),
    "ece": (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    "nll": (_or_null(_number(0)), "a number at least 0 or null"),
    "diverged": (_or_null(_whole(0)), "a step or null"),
    "collapsed": (_or_null(_whole(0)), "a step or null"),
    "images_per_second": (_or_null(_number(0)), "a number at least 0 or null"),
    "seconds": (_or_null(_number(0)), "a number at least 0 or null"),
    "device": (_or_null(_text), "a name or null"),
    "device_name": (_or_null(_text), "a name or null"),
    "stack": (_or_null(lambda v: isinstance(v, list) and all(map(_whole(0), v))), "a list of seeds or null"),
    "versions": (_or_null(_object), "an object or null"),
    "commit": (_or_null(_text), "a name or null"),
}
OPTIONAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "failed": (_or_null(_text), "a sentence or null"),
    "ks": (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    "wasserstein": (_or_null(_number(0)), "a number at least 0 or null"),
    **dict.fromkeys(
        ["accuracy_real", "accuracy_fake", "accuracy_real_raw", "accuracy_fake_raw"],
        (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    ),
    "confusion": (_or_null(_matrix), "a square of counts or null"),
    "classes": (_or_null(_names), "a list of names or null"),
    "reliability": (_or_null(_bins), "a list of bins or null"),
    "temperature": (_or_null(_number(0)), "a number at least 0 or null"),
    "nll_scaled": (_or_null(_number(0)), "a number at least 0 or null"),
    "ece_scaled": (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    "spread": (_or_null(_number(0)), "a number at least 0 or null"),
    "coverage": (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    "recall": (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    "density": (_or_null(_number(0)), "a number at least 0 or null"),
    "collapse": (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    "samples": (_or_null(_text), "a path or null"),
    "estimator": (lambda _: True, ""),
    "run": (lambda _: True, ""),
    "source": (lambda _: True, ""),
    "warnings": (lambda _: True, ""),
    "members": (_or_null(lambda v: _whole(1)(v) or (isinstance(v, list) and len(v) > 0)), "a number or a list"),
}
KNOWN = {**REQUIRED, **OPTIONAL}
# What a training gives; the rest is what it was given, or where it ran.
MEASURED = {"error", "error_raw", "ece", "nll", "diverged", "collapsed", "confusion", "reliability", "failed"}
MEASURED |= {"temperature", "nll_scaled", "ece_scaled", "spread", "coverage", "recall", "density", "collapse"}


def parse_row(line: bytes) -> dict[str, Any]:
    """Read one line and check it.

    Raises
    ------
    Unusable
        Where it is no row of a result.
    """
    try:
        text = line.decode("utf-8")
        row = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8")  # 1e999, or half a surrogate pair
    except Unusable:
        raise
    except UnicodeDecodeError:
        raise Unusable("is no UTF-8 text") from None
    except UnicodeEncodeError:
        raise Unusable("holds text that is no Unicode") from None
    except RecursionError:
        raise Unusable("is nested too deeply") from None
    except json.JSONDecodeError as cause:
        raise Unusable(f"is no JSON: it is cut off or damaged at character {cause.pos + 1}") from None
    except ValueError:
        raise Unusable("holds a number that is not finite, or too long") from None
    if not isinstance(row, dict):
        raise Unusable("is JSON, but no object")
    _check(row)
    return row


def is_lost(row: Mapping[str, Any]) -> bool:
    """Whether a row says that its training gave no error: it failed or diverged."""
    return row.get("failed") is not None or row.get("diverged") is not None or row.get("error") is None


def _check(row: Mapping[str, Any]) -> None:
    failed = row.get("failed") is not None
    if missing := [key for key in (NAMED if failed else REQUIRED) if key not in row]:
        named = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise Unusable(f"lacks {named}: it is no row of a result, or of another version")
    for key in sorted(KNOWN.keys() & row.keys()):
        holds, what = KNOWN[key]
        if not holds(row[key]) and not (failed and row[key] is None and key not in NAMED):
            raise Unusable(f"has {key} = {_short(row[key])}, which should be {what}")
    classes, confusion = row.get("classes"), row.get("confusion")
    if classes is not None and confusion is not None and len(classes) != len(confusion):
        raise Unusable(f"names {len(classes)} classes, but its confusion matrix has {len(confusion)}")
    if row["labels"] == 0:
        raise Unusable("is of a GAN without classes (labels 0), which has no error")
    if row.get("error") is None and not failed and row["diverged"] is None:
        raise Unusable("has no error, though it neither diverged nor failed: was there no test share?")


def _short(value: Any) -> str:
    words = json.dumps(value, ensure_ascii=False)
    return words if len(words) <= 40 else words[:37] + "..."


def _refuse(constant: str) -> None:
    raise Unusable(f"holds {constant}, which is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (often, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise Unusable(f"has the key {_short(often)} twice")
    return found


ENDING = ".jsonl"
BEGINNING = b'{"dataset": '  # of every row that is written here
# What the rows of one training, which are written at once, have in common.
TOGETHER = ("dataset_sha256", "config_sha256", "labels", "stack", "ablation")


def check_row_file(path: Path) -> None:
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


def read_row_file(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, without the last ones of a training that a killed process left torn; none without a file.

    Raises
    ------
    UserError
        Where it holds something else.
    """
    return _complete_rows(path)[0]


class RowFile:
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
        self.rows, length = _complete_rows(path)
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
def open_row_file(path: Path) -> Iterator[RowFile]:
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
        yield RowFile(path)


def _complete_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of a file but for the torn end, and how many bytes hold them."""
    content = path.read_bytes() if path.exists() else b""
    lines = content.splitlines(keepends=True)
    rows, starts, place = [], [], 0
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(parse_row(line))
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
