"""Rows of results: the schema of a row, and the file of rows."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssgan.errors import UserError, counted
from ssgan.files import append_file, check_output, lock, name_to_unicode, path_to_text, read_file, read_json_lines
from ssgan.schemas import Field, each, is_matrix, is_names, is_object, is_text, number, or_null, shorten, whole

__all__ = [
    "KNOWN",
    "MEASURED",
    "REQUIRED",
    "RowError",
    "RowFile",
    "check_row_file",
    "is_lost",
    "open_row_file",
    "parse_row",
    "read_row_file",
]


class RowError(ValueError):
    """A line is not a usable row; the message is a predicate that follows the location of the line."""


def _bins(value: Any) -> bool:
    share, count = number(0, 1), whole(0)
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


def _members(value: Any) -> bool:
    return whole(1)(value) or (isinstance(value, list) and len(value) > 0)


ANYTHING = Field(lambda _: True, "")
# The keys that even the row of a failed training must have.
NAMED: dict[str, Field] = {
    "dataset": Field(is_text, "a name"),
    "labels": Field(whole(0), "an integer"),
    "method": Field(is_text, "a name"),
    "seed": Field(whole(0), "an integer"),
    "draw_seed": Field(or_null(whole(0)), "an integer or null"),
}
REQUIRED: dict[str, Field] = {
    **NAMED,
    "dataset_sha256": Field(is_text, "a hash"),
    "preset": Field(or_null(is_text), "a name or null"),
    "settings": Field(is_object, "an object"),
    "config_sha256": Field(is_text, "a hash"),
    "images": Field(or_null(whole(0)), "an integer or null"),
    "split_sha256": Field(is_text, "a hash"),
    "error": Field(or_null(number(0, 100)), "a percentage or null"),
    "error_raw": Field(or_null(number(0, 100)), "a percentage or null"),
    "ece": Field(or_null(number(0, 1)), "a number from 0 to 1 or null"),
    "nll": Field(or_null(number(0)), "a number at least 0 or null"),
    "diverged": Field(or_null(whole(0)), "a step or null"),
    "collapsed": Field(or_null(whole(0)), "a step or null"),
    "images_per_second": Field(or_null(number(0)), "a number at least 0 or null"),
    "seconds": Field(or_null(number(0)), "a number at least 0 or null"),
    "device": Field(or_null(is_text), "a name or null"),
    "device_name": Field(or_null(is_text), "a name or null"),
    "stack": Field(or_null(each(whole(0))), "a list of seeds or null"),
    "versions": Field(or_null(is_object), "an object or null"),
    "commit": Field(or_null(is_text), "a name or null"),
}
_OPTIONAL = {
    "failed": Field(or_null(is_text), "a sentence or null"),
    "ks": Field(or_null(number(0, 1)), "a number from 0 to 1 or null"),
    "wasserstein": Field(or_null(number(0)), "a number at least 0 or null"),
    **dict.fromkeys(
        ["accuracy_real", "accuracy_fake", "accuracy_real_raw", "accuracy_fake_raw"],
        Field(or_null(number(0, 1)), "a number from 0 to 1 or null"),
    ),
    "confusion": Field(or_null(is_matrix), "a square of counts or null"),
    "classes": Field(or_null(is_names), "a list of names or null"),
    "reliability": Field(or_null(_bins), "a list of bins or null"),
    "temperature": Field(or_null(number(0)), "a number at least 0 or null"),
    "nll_scaled": Field(or_null(number(0)), "a number at least 0 or null"),
    "ece_scaled": Field(or_null(number(0, 1)), "a number from 0 to 1 or null"),
    "spread": Field(or_null(number(0)), "a number at least 0 or null"),
    "coverage": Field(or_null(number(0, 1)), "a number from 0 to 1 or null"),
    "recall": Field(or_null(number(0, 1)), "a number from 0 to 1 or null"),
    "density": Field(or_null(number(0)), "a number at least 0 or null"),
    "collapse": Field(or_null(number(0, 1)), "a number from 0 to 1 or null"),
    "samples": Field(or_null(is_text), "a path or null"),
    "estimator": ANYTHING,
    "backbone_sha256": Field(or_null(is_text), "a hash or null"),
    "run": ANYTHING,
    "source": ANYTHING,
    "warnings": ANYTHING,
    "members": Field(or_null(_members), "a number or a list"),
}
OPTIONAL: dict[str, Field] = {key: field._replace(required=False) for key, field in _OPTIONAL.items()}
KNOWN = {**REQUIRED, **OPTIONAL}
# The keys that a training measures; the others describe its inputs and where it ran.
MEASURED = {"error", "error_raw", "ece", "nll", "diverged", "collapsed", "confusion", "reliability", "failed"}
MEASURED |= {"spread", "coverage", "recall", "density", "collapse"}


def parse_row(line: bytes) -> dict[str, Any]:
    """Parse one line and check it against the schema.

    Raises
    ------
    RowError
        If it is not a result row.
    """
    try:
        text = line.decode("utf-8")
        row = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8")  # 1e999, or half a surrogate pair
    except RowError:
        raise
    except UnicodeDecodeError:
        raise RowError("is not UTF-8 text") from None
    except UnicodeEncodeError:
        raise RowError("holds text that is not Unicode") from None
    except RecursionError:
        raise RowError("is nested too deeply") from None
    except json.JSONDecodeError as cause:
        raise RowError(f"is not JSON: it is truncated or damaged at character {cause.pos + 1}") from None
    except ValueError:
        raise RowError("holds a number that is not finite, or too long") from None
    if not isinstance(row, dict):
        raise RowError("is JSON, but not an object")
    _check(row)
    return row


def is_lost(row: Mapping[str, Any]) -> bool:
    """Return whether the training of a row failed, diverged or measured no test error."""
    return row.get("failed") is not None or row.get("diverged") is not None or row.get("error") is None


def _check(row: Mapping[str, Any]) -> None:
    failed = row.get("failed") is not None
    if missing := [key for key in (NAMED if failed else REQUIRED) if key not in row]:
        named = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise RowError(f"lacks {named}: it is not a result row, or is of another version")
    for key in sorted(KNOWN.keys() & row.keys()):
        field = KNOWN[key]
        if not field.holds(row[key]) and not (failed and row[key] is None and key not in NAMED):
            raise RowError(f"has {key} = {shorten(row[key])}, which should be {field.words}")
    classes, confusion = row.get("classes"), row.get("confusion")
    if classes is not None and confusion is not None and len(classes) != len(confusion):
        raise RowError(f"names {counted(len(classes), 'class')}, but its confusion matrix has {len(confusion)}")
    if row["labels"] == 0:
        raise RowError("is of a GAN without classes (labels 0), which has no error")
    if row.get("error") is None and not failed and row["diverged"] is None:
        raise RowError("has no error, though it neither diverged nor failed, as without a test set")


def _refuse_constant(constant: str) -> None:
    raise RowError(f"holds {constant}, which is not a number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        (repeated, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise RowError(f"has the key {shorten(repeated)} twice")
    return content


SUFFIX = ".jsonl"
ROW_START = b'{"dataset": '  # beginning of every row that is written here
# The keys whose values are the same in all rows of one training; those rows are written at once.
TRAINING_KEYS = ("dataset_sha256", "config_sha256", "labels", "stack", "ablation")


def check_row_file(path: Path) -> None:
    """Check that rows can be written to a file, without writing.

    Raises
    ------
    UserError
        If they cannot.
    """
    if path.suffix != SUFFIX:
        raise UserError(f"--out is {path}, but must end in {SUFFIX}: it is a file with one row per line.")
    if name_to_unicode(path.name) != path_to_text(path.name):
        raise UserError(
            f"--out is {path}, whose name is not UTF-8, but rows name their run folders by it: choose another."
        )
    check_output("--out", path)
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"--out is {path}, which cannot be written to: choose another file.")


def read_row_file(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a file; an empty list if there is no file.

    Incomplete rows of the last training, left by a killed process, are left out.

    Raises
    ------
    UserError
        If it holds something else.
    """
    return _complete_rows(path)[0]


class RowFile:
    """A file of rows that only this process writes: see :func:`open_row_file`.

    Attributes
    ----------
    path : Path
    rows : list of dict
        The rows of the file.
    repaired : str
        A sentence about what was truncated when the file was opened; empty if nothing was.
    """

    def __init__(self, path: Path, rows: list[dict[str, Any]], repaired: str = "") -> None:
        self.path, self.rows, self.repaired = path, rows, repaired

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows and sync them to the disk; if it has no room for all of them, none is kept."""
        append_file(self.path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode(), sync=True)
        self.rows += rows


@contextmanager
def open_row_file(path: Path) -> Iterator[RowFile]:
    """Open a file of rows, and lock it while the block runs; it is created if there is none.

    Raises
    ------
    Busy
        If another process holds it.
    UserError
        If it cannot be written to, or holds something else.
    """
    busy = f"Another `ssgan compare` is writing {path}: wait until it is done, or choose another --out."
    real = path.resolve()  # a link to the file has the same lock
    with lock(real.with_name(f".{real.name}.lock"), busy):
        path.touch()
        rows, length = _complete_rows(path)
        yield RowFile(path, rows, _repair(path, length))


def _repair(path: Path, length: int) -> str:
    """Remove what follows the complete rows, end the last line, and return a sentence about what was removed.

    Whole rows of an incomplete training are appended to the file ``.removed`` beside it: the user may have deleted the
    others, and the present comparison need not train it again.
    """
    size = path.stat().st_size
    if length < size:
        removed = read_file(path)[length:]
        kept = ""
        if whole := removed[: removed.rfind(b"\n") + 1]:
            copy = path.with_name(f"{path.name}.removed")
            append_file(copy, whole, sync=True)
            kept = f"; whole rows are now in {copy}"
        os.truncate(path, length)
        return (
            f"{path} ended in the middle of a training's rows: its last {size - length:,} bytes are removed{kept}. "
            f"This training runs again if the comparison includes it."
        )
    if size and not read_file(path).endswith(b"\n"):
        append_file(path, b"\n")
    return ""


def _complete_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Read the rows of a file except for an incomplete end; return them and their length in bytes."""
    lines = read_json_lines(path, parse_row) if path.exists() else []
    if lines and lines[-1].error is not None and _is_torn(lines[-1].text):
        length = lines.pop().start
    else:
        length = path.stat().st_size if path.exists() else 0
    for line in lines:
        if line.error is not None:
            raise UserError(f"{path}:{line.number} {line.error}: fix it, or choose another file with --out.")
    incomplete = _incomplete_rows([line.value for line in lines])
    if incomplete:
        length = lines[-incomplete].start
    return [line.value for line in lines[: len(lines) - incomplete]], length


def _is_torn(text: bytes) -> bool:
    """Return whether a line that cannot be parsed can be the beginning of a row."""
    begun = text.rstrip(b"\0")  # null bytes of blocks that were never written
    return begun.startswith(ROW_START) or ROW_START.startswith(begun)


def _incomplete_rows(rows: Sequence[Mapping[str, Any]]) -> int:
    """Count the rows at the end of a file that belong to a training whose other rows are missing.

    The row of an ensemble comes before those of its models, which are in the order of their seeds.
    """
    if not rows or not rows[-1].get("stack") or rows[-1].get("failed") is not None:
        return 0
    last, count = rows[-1], 0
    seeds = {row["seed"] for row in rows if _training(row) == _training(last) and not row.get("members")}
    if seeds >= set(last["stack"]):
        return 0
    for row in reversed(rows):
        if _training(row) != _training(last) or (count and not row["seed"] <= rows[-count]["seed"]):
            break
        count += 1
    return count


def _training(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in TRAINING_KEYS)
