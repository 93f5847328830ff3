"""Load files of result rows and list the lines that cannot be used, each with its place and the reason."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssgan import runs
from ssgan.errors import UserError, counted
from ssgan.files import read_json_lines
from ssgan.result_rows import KNOWN, MEASURED, NAMED, RowError, is_lost, parse_row

__all__ = ["LoadedRows", "Row", "Skipped", "canonical", "load_rows"]


# The inputs of a training, besides conditions; and its seeds.
INPUTS = ("dataset_sha256", "preset", "settings", "config_sha256", "images", "members")
SEEDS = ("seed", "draw_seed", "split_sha256")
# Filled in if a row that failed lacks them and no other row has them.
MISSING: dict[str, Any] = {"settings": {}, "dataset_sha256": "", "config_sha256": "", "split_sha256": ""}


@dataclass(frozen=True)
class Row:
    """A result row with its place."""

    file: str
    line: int
    values: Mapping[str, Any]
    #: Keys that this version does not know and that tell rows of a data set apart, with their values as JSON.
    conditions: tuple[tuple[str, str], ...] = ()

    def __getitem__(self, key: str) -> Any:
        return self.values.get(key)

    @property
    def place(self) -> str:
        """The place as ``FILE:LINE``."""
        return f"{self.file}:{self.line}"

    @property
    def lost(self) -> bool:
        """Whether its training failed, diverged or measured no test error."""
        return is_lost(self.values)

    @property
    def training(self) -> tuple[str, ...]:
        """Identity of the training: its data, settings and seeds, as JSON."""
        keys = (*NAMED, *INPUTS, *SEEDS)
        return (*(canonical(self[key]) for key in keys), canonical(self.conditions))


@dataclass(frozen=True)
class Skipped:
    """A line that is not used, and why; line 0 is the whole file."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True)
class LoadedRows:
    """Rows of several files, checked."""

    #: For each file the number of its rows that are used.
    files: dict[str, int]
    #: Sorted, so that the order of lines and files does not matter.
    rows: list[Row]
    skipped: list[Skipped]
    #: For each data set the unknown keys that are averaged over, since their numbers differ from row to row.
    measured: dict[str, list[str]]
    #: Paths of the files by their names in rows.
    places: dict[str, Path]
    #: Number of ``files`` that are runs.
    run_count: int


def canonical(value: Any) -> str:
    """Write a value as JSON, equal values as equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def load_rows(paths: Sequence[Path]) -> LoadedRows:
    """Read and check files of rows, and the rows of runs.

    Lines that are not rows and rows that repeat others are skipped and listed. A row that failed is replaced by the
    result of the same training.

    Raises
    ------
    UserError
        If a file cannot be read, no row is left, or two rows of one training have different results.
    """
    rows: list[Row] = []
    skipped: list[Skipped] = []
    files: dict[str, int] = {}
    places = {_printable(path): path for path in paths}
    resolved: set[Path] = set()
    run_count = 0
    for path in sorted(paths):
        if path.resolve() in resolved:
            skipped.append(Skipped(_printable(path), 0, "is given twice, and read once"))
            continue
        resolved.add(path.resolve())
        run = _find_run(path)
        run_count += run is not None
        good, bad = _read_lines(path) if run is None else _read_run(run, _printable(path))
        files[_printable(path)] = 0
        rows += good
        skipped += bad
    if not rows:
        first = f": {skipped[0].file}:{skipped[0].line} {skipped[0].reason}" if skipped else ": there are no lines"
        raise UserError(f"There is no result row in {', '.join(files)}{first}.")
    conditions, measured = _unknown_keys(rows)
    rows = [_with_conditions(row, conditions[row["dataset"]]) for row in rows]
    rows, repeated = _without_repeats(_complete_failed(rows))
    for row in rows:
        files[row.file] += 1
    rows.sort(key=lambda row: (row.training, canonical(row.values), row.file))
    skipped = sorted([*skipped, *repeated], key=lambda one: (one.file, one.line))
    return LoadedRows(files, rows, skipped, measured, places, run_count)


def _find_run(path: Path) -> Path | None:
    """Return the folder of a run, given by itself or by its report; None for other paths."""
    folder = path.parent if path.name == "report.json" else path
    return folder if runs.is_run(folder) else None


def _read_lines(path: Path) -> tuple[list[Row], list[Skipped]]:
    if path.is_dir():
        raise UserError(f"{path} is a folder, but not a run: {_rows_in(path)}.")
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


def _read_run(run: Path, name: str) -> tuple[list[Row], list[Skipped]]:
    """Read the rows of the report of a run; a line is the number of a model."""
    rows, skipped = [], []
    for number, values in enumerate(runs.read_report(run)["rows"], start=1):
        try:
            rows.append(Row(name, number, parse_row(json.dumps(values).encode())))
        except RowError as reason:
            skipped.append(Skipped(name, number, str(reason)))
    return rows, skipped


def _rows_in(folder: Path) -> str:
    """Return a hint what to give instead of a folder."""
    if any(folder.glob("*.jsonl")):
        return f"give the files of rows in it, such as {folder / '*.jsonl'}"
    return "give files of rows, which `ssgan compare` writes, or folders of runs, which `ssgan train` writes"


def _unknown_keys(rows: Iterable[Row]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Divide the unknown keys of each data set into conditions, which tell rows apart, and measurements.

    No row says which is which. A key whose values are numbers, lists or objects and differ in more than half of the
    rows is treated as a measurement, and named in the report; any other key that differs is a condition.
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


def _complete_failed(rows: Sequence[Row]) -> list[Row]:
    """Complete rows that failed from the other rows of their data and method, if these all agree."""
    results: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["failed"] is None:
            results[row["dataset"], row["method"]].append(row)
    return [row if row["failed"] is None else _filled(row, results[row["dataset"], row["method"]]) for row in rows]


def _filled(row: Row, results: Sequence[Row]) -> Row:
    present = {key for key in INPUTS if row[key] is not None}
    similar = [one for one in results if all(canonical(one[key]) == canonical(row[key]) for key in present)]
    values = {**MISSING, **{key: value for key, value in row.values.items() if value is not None}}
    for key in INPUTS:
        if key not in present:
            same_labels = [one for one in similar if key != "config_sha256" or one["labels"] == row["labels"]]
            if len({canonical(one[key]) for one in same_labels}) == 1:
                values[key] = same_labels[0][key]
    conditions = row.conditions
    if not conditions and len({one.conditions for one in similar}) == 1:
        conditions = similar[0].conditions
    return dataclasses.replace(row, values=values, conditions=conditions)


def _without_repeats(rows: Sequence[Row]) -> tuple[list[Row], list[Skipped]]:
    """Keep one row of each training, and a failure only if the training has no result."""
    kept: dict[tuple[str, ...], Row] = {}
    skipped: list[Skipped] = []
    for row in rows:
        if row["failed"] is not None:
            continue
        first = kept.setdefault(row.training, row)
        if first is not row:
            _check_same(first, row)
            # The report of a run lacks some of the keys that `ssgan compare` measures.
            fuller = max(first, row, key=lambda one: len(MEASURED & one.values.keys()))
            other = first if fuller is row else row
            kept[row.training] = fuller
            skipped.append(Skipped(other.file, other.line, f"repeats {fuller.place}"))
    results: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in kept.values():
        results[_named(row)].append(row)
    for row in rows:
        if row["failed"] is None:
            continue
        result = next((one for one in results[_named(row)] if _is_result_of(one, row)), None)
        if result is not None:
            skipped.append(Skipped(row.file, row.line, f"failed, and {result.place} is its result"))
            continue
        first = kept.setdefault((*row.training, "failed"), row)
        if first is not row:
            skipped.append(Skipped(row.file, row.line, f"repeats the failure of {first.place}"))
    return [*kept.values()], skipped


def _named(row: Row) -> tuple[str, ...]:
    return tuple(canonical(row[key]) for key in NAMED)


def _is_result_of(result: Row, failed: Row) -> bool:
    """Return whether a row is the result of a training that failed before, as far as the failed row tells."""
    keys = [key for key in (*INPUTS, *SEEDS) if failed[key] not in (None, MISSING.get(key))]
    same = all(canonical(failed[key]) == canonical(result[key]) for key in keys)
    return same and failed.conditions == result.conditions


def _check_same(first: Row, second: Row) -> None:
    """Check that two rows of one training have the same values of the keys that both measure."""
    unknown = (first.values.keys() | second.values.keys()) - KNOWN.keys()
    keys = sorted((MEASURED & first.values.keys() & second.values.keys()) | unknown)
    if different := [key for key in keys if canonical(first[key]) != canonical(second[key])]:
        what = f"{first['dataset']}, {counted(first['labels'], 'label')}, {first['method']}, seed {first['seed']}"
        raise UserError(
            f"{first.place} and {second.place} are rows of the same training ({what}), but differ in "
            f"{', '.join(different)}: keep one of them."
        )


def _printable(path: Path) -> str:
    """Write a path as text that can be encoded in UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")
