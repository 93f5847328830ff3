"""Files of rows, read into rows that can be used, and a list of what could not be, with its place and the reason."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssgan.errors import UserError
from ssgan.files import read_json_lines
from ssgan.result_rows import KNOWN, MEASURED, NAMED, is_lost, parse_row

__all__ = ["LoadedRows", "Row", "Skipped", "canonical", "load_rows"]


# What a training was given beside its seeds, and the seeds; conditions come to it.
GIVEN = ("dataset_sha256", "preset", "settings", "config_sha256", "images", "members")
SEEDS = ("seed", "draw_seed", "split_sha256")
# Filled in where a row that failed lacks them and nothing says what they were.
UNSAID: dict[str, Any] = {"settings": {}, "dataset_sha256": "", "config_sha256": "", "split_sha256": ""}


@dataclass(frozen=True)
class Row:
    """A row of a result, with its place."""

    file: str
    line: int
    values: Mapping[str, Any]
    #: Keys that this version does not know and that tell rows of the data set apart, with their values as JSON.
    conditions: tuple[tuple[str, str], ...] = ()

    def __getitem__(self, key: str) -> Any:
        return self.values.get(key)

    @property
    def place(self) -> str:
        """FILE:LINE."""
        return f"{self.file}:{self.line}"

    @property
    def lost(self) -> bool:
        """Whether its training gave no error."""
        return is_lost(self.values)

    @property
    def training(self) -> tuple[str, ...]:
        """What it was trained on and how, and by which seeds: rows with the same are of the same training."""
        keys = (*NAMED, *GIVEN, *SEEDS)
        return (*(canonical(self[key]) for key in keys), canonical(self.conditions))


@dataclass(frozen=True)
class Skipped:
    """A line that is not used; line 0 is the whole file."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True)
class LoadedRows:
    """What files of rows hold."""

    #: For each file the number of its rows that are used.
    files: dict[str, int]
    #: In an order that does not depend on that of the lines.
    rows: list[Row]
    skipped: list[Skipped]
    #: For each data set the unknown keys that are averaged over, since their numbers differ from row to row.
    measured: dict[str, list[str]]
    #: Where the files are, by their names in rows.
    places: dict[str, Path]


def canonical(value: Any) -> str:
    """JSON in which equal values are equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def load_rows(paths: Sequence[Path]) -> LoadedRows:
    """Read files of rows, each row checked; nothing that contradicts itself comes out.

    A line that is no row, and one that says what another says, is skipped and named. A row that failed gives way
    to the result of the same training.

    Raises
    ------
    UserError
        Where a file cannot be read, no row is left, or two rows of one training have different results.
    """
    found, skipped = [], []
    files: dict[str, int] = {}
    places = {_printable(path): path for path in paths}
    seen: set[Path] = set()
    for path in sorted(paths):
        if path.resolve() in seen:
            skipped.append(Skipped(_printable(path), 0, "is given twice, and read once"))
            continue
        seen.add(path.resolve())
        rows, bad = _lines(path)
        files[_printable(path)] = 0
        found += rows
        skipped += bad
    if not found:
        first = f": {skipped[0].file}:{skipped[0].line} {skipped[0].reason}" if skipped else ": there are no lines"
        raise UserError(f"There is no row of a result in {', '.join(files)}{first}.")
    conditions, measured = _unknown_keys(found)
    found = [_with_conditions(row, conditions[row["dataset"]]) for row in found]
    rows, repeated = _once_each(_completed(found))
    for row in rows:
        files[row.file] += 1
    rows.sort(key=lambda row: (row.training, canonical(row.values), row.file))
    skipped = sorted([*skipped, *repeated], key=lambda one: (one.file, one.line))
    return LoadedRows(files, rows, skipped, measured, places)


def _lines(path: Path) -> tuple[list[Row], list[Skipped]]:
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the files of rows in it, such as {path / '*.jsonl'}.")
    try:
        lines = read_json_lines(path, parse_row)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except OSError as cause:
        raise UserError(f"{path} cannot be read ({cause.strerror}).") from None
    name = _printable(path)
    rows, skipped = [], []
    for line in lines:
        if line.error is None:
            rows.append(Row(name, line.number, line.value))
        else:
            skipped.append(Skipped(name, line.number, str(line.error)))
    return rows, skipped


def _unknown_keys(rows: Iterable[Row]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """For each data set the unknown keys that tell rows apart, and those that were measured.

    Nothing says which is which, so what differs keeps rows apart; save numbers, or lists and objects, that have more
    different values than half the rows that have them. Those are named in the report.
    """
    values: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        if row["failed"] is not None:
            continue
        counts[row["dataset"]] += 1
        for key in row.values.keys() - KNOWN.keys():
            values[row["dataset"]][key].append(canonical(row[key]))
    conditions: dict[str, list[str]] = defaultdict(list)
    measured: dict[str, list[str]] = defaultdict(list)
    for dataset, keys in values.items():
        for key, texts in sorted(keys.items()):
            numbers = [text for text in texts if text != "null"]
            if all(text[0] in "-0123456789[{" for text in numbers) and 2 * len(set(numbers)) > len(numbers) > 1:
                measured[dataset].append(key)
            elif len(set(texts)) > 1 or len(texts) < counts[dataset]:
                conditions[dataset].append(key)
    return conditions, dict(measured)


def _with_conditions(row: Row, keys: Sequence[str]) -> Row:
    return dataclasses.replace(row, conditions=tuple((k, canonical(row[k])) for k in keys if k in row.values))


def _completed(rows: Sequence[Row]) -> list[Row]:
    """Give rows that failed what they lack, where the other rows of their data and method all say the same."""
    others: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["failed"] is None:
            others[row["dataset"], row["method"]].append(row)
    return [row if row["failed"] is None else _filled(row, others[row["dataset"], row["method"]]) for row in rows]


def _filled(row: Row, others: Sequence[Row]) -> Row:
    said = {key for key in GIVEN if row[key] is not None}
    like = [one for one in others if all(canonical(one[key]) == canonical(row[key]) for key in said)]
    values = {**UNSAID, **{key: value for key, value in row.values.items() if value is not None}}
    for key in GIVEN:
        if key not in said:
            same_labels = [one for one in like if key != "config_sha256" or one["labels"] == row["labels"]]
            if len({canonical(one[key]) for one in same_labels}) == 1:
                values[key] = same_labels[0][key]
    conditions = row.conditions
    if not conditions and len({one.conditions for one in like}) == 1:
        conditions = like[0].conditions
    return dataclasses.replace(row, values=values, conditions=conditions)


def _once_each(rows: Sequence[Row]) -> tuple[list[Row], list[Skipped]]:
    kept: dict[tuple[str, ...], Row] = {}
    skipped: list[Skipped] = []
    results: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["failed"] is not None:
            continue
        first = kept.setdefault(row.training, row)
        if first is row:
            results[tuple(canonical(row[key]) for key in NAMED)].append(row)
        else:
            _check_same(first, row)
            skipped.append(Skipped(row.file, row.line, f"repeats {first.place}"))
    for row in rows:
        if row["failed"] is None:
            continue
        said = [key for key in (*GIVEN, *SEEDS) if row[key] not in (None, UNSAID.get(key))]
        for result in results[tuple(canonical(row[key]) for key in NAMED)]:
            if row.conditions == result.conditions and all(
                canonical(row[key]) == canonical(result[key]) for key in said
            ):
                skipped.append(Skipped(row.file, row.line, f"failed, and {result.place} is its result"))
                break
        else:
            first = kept.setdefault((*row.training, "failed"), row)
            if first is not row:
                skipped.append(Skipped(row.file, row.line, f"repeats the failure of {first.place}"))
    return [*kept.values()], skipped


def _check_same(first: Row, second: Row) -> None:
    unknown = (first.values.keys() | second.values.keys()) - KNOWN.keys()
    keys = sorted(MEASURED | unknown)
    if differ := [key for key in keys if canonical(first[key]) != canonical(second[key])]:
        what = f"{first['dataset']}, {first['labels']} labels, {first['method']}, seed {first['seed']}"
        raise UserError(
            f"{first.place} and {second.place} are rows of the same training ({what}), but differ in "
            f"{', '.join(differ)}: keep one of them."
        )


def _printable(path: Path) -> str:
    """A path as text that can be written in UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")
