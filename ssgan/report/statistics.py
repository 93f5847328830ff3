"""Rows brought together where they may be averaged: lines of a chart, and one cell for each number of labels.

Differences of two lines over the same labelled images, with an interval.
"""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ssgan.report.loader import LoadedRows, Row, canonical

__all__ = ["Difference", "Line", "RowGroup", "Section", "baseline_method", "differences", "interval", "sections"]


# Settings that a short label leaves out: the budget stands in it as images, the others change no weight.
QUIET = {
    *("total_images", "report_every_images", "evaluate_every_images", "frames_every_images"),
    *("checkpoint_every_seconds", "tensorboard"),
}
HASH = 8
# What a short label says only where lines differ in it, though not all lines have it.
BUDGET = ("preset", "images", "data")


@dataclass(frozen=True)
class Line:
    """What rows must share to be averaged, but for the number of labels."""

    method: str
    dataset_sha256: str
    preset: str
    settings: tuple[tuple[str, str], ...]
    images: int
    conditions: tuple[tuple[str, str], ...]
    members: int
    #: Empty where one number of labels has one configuration throughout.
    config_sha256: str = ""

    @classmethod
    def of(cls, row: Row) -> "Line":
        """The line of a row, as long as its configuration is left aside."""
        members = row["members"]
        return cls(
            row["method"],
            row["dataset_sha256"],
            row["preset"] or "",
            tuple(sorted((name, canonical(value)) for name, value in row["settings"].items())),
            -1 if row["images"] is None else row["images"],
            row.conditions,
            len(members) if isinstance(members, list) else members or 0,
        )


@dataclass(frozen=True)
class RowGroup:
    """The rows of one line and one number of labels."""

    line: Line
    labels: int
    #: With an error, by draw and seed.
    rows: tuple[Row, ...]
    #: Failed or diverged.
    lost: tuple[Row, ...]

    @property
    def errors(self) -> list[float]:
        """Percent, one for each row."""
        return [row["error"] for row in self.rows]

    @property
    def mean(self) -> float:
        """Of the errors, of which there must be one."""
        return statistics.fmean(self.errors)

    @property
    def std(self) -> float | None:
        """Of the sample (n - 1); None for fewer than two rows."""
        return statistics.stdev(self.errors) if len(self.rows) > 1 else None

    @property
    def median(self) -> float:
        """Of the errors, of which there must be one."""
        return statistics.median(self.errors)

    def values(self, key: str) -> list[float]:
        """The numbers under a key, of the rows that have one."""
        return [row[key] for row in self.rows if row[key] is not None]


@dataclass(frozen=True)
class Section:
    """One data set."""

    dataset: str
    #: With their names, short and each its own, in the order of the report.
    lines: dict[Line, str]
    labels: list[int]
    cells: dict[tuple[Line, int], RowGroup]
    #: Unknown keys whose numbers were averaged over.
    measured: list[str]

    @property
    def data(self) -> list[str]:
        """Hashes of what lay under this name."""
        return sorted({line.dataset_sha256 for line in self.lines} - {""})

    def of(self, line: Line) -> list[RowGroup]:
        """The cells of a line, by the number of labels."""
        return [self.cells[line, labels] for labels in self.labels if (line, labels) in self.cells]


def sections(ledger: LoadedRows) -> list[Section]:
    """One section for each data set, by name."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in ledger.rows:
        rows[row["dataset"]].append(row)
    return [_section(name, rows[name], ledger.measured.get(name, [])) for name in sorted(rows)]


def _section(dataset: str, rows: Sequence[Row], measured: list[str]) -> Section:
    configurations: dict[tuple[Line, int], set[str]] = defaultdict(set)
    for row in rows:
        configurations[Line.of(row), row["labels"]] |= {row["config_sha256"]} - {""}
    members: dict[tuple[Line, int], list[Row]] = defaultdict(list)
    for row in rows:
        line = Line.of(row)
        if len(configurations[line, row["labels"]]) > 1:
            line = replace(line, config_sha256=row["config_sha256"])
        members[line, row["labels"]].append(row)
    order = sorted({line for line, _ in members}, key=_place)
    cells = {}
    for (line, labels), found in members.items():
        found.sort(key=_seeds)
        fine = tuple(row for row in found if not row.lost)
        cells[line, labels] = RowGroup(line, labels, fine, tuple(row for row in found if row.lost))
    names = dict(zip(order, _names(order), strict=True))
    return Section(dataset, names, sorted({labels for _, labels in members}), cells, measured)


def _place(line: Line) -> tuple[Any, ...]:
    """Plain lines before those with settings of their own."""
    given = (line.preset, len(line.settings), line.settings, line.images, line.conditions, line.members)
    return (line.method, *given, line.dataset_sha256, line.config_sha256)


def _seeds(row: Row) -> tuple[int, int, str]:
    return (-1 if row["draw_seed"] is None else row["draw_seed"], row["seed"], canonical(row.values))


def _names(lines: Sequence[Line]) -> list[str]:
    """The method of each line, and what else tells it from others of the data set."""
    features = [_features(line) for line in lines]
    known = [key for one in features for key in one]
    networks = sum("preset" in one for one in features)  # settings are theirs alone
    common = {
        key
        for key in set(known)
        if len({one[key] for one in features if key in one}) == 1
        and (known.count(key) == (networks if key.startswith("setting ") else len(lines)) or key in BUDGET)
    }
    quiet = {key for key in known if key.removeprefix("setting ") in QUIET}
    names = [_joined(line, one, common | quiet) for line, one in zip(lines, features, strict=True)]
    # What a short name left out is told where it is all that differs.
    whole = [_joined(line, one, common) for line, one in zip(lines, features, strict=True)]
    names = [long if names.count(name) > 1 else name for name, long in zip(names, whole, strict=True)]
    counts: Counter[str] = Counter()
    for i, name in enumerate(names):
        counts[name] += 1
        if names.count(name) > 1:
            names[i] = f"{name} · no. {counts[name]}"
    return names


def _features(line: Line) -> dict[str, str]:
    """What may be said of a line, in the order of its name."""
    found = {}
    if line.preset:
        found["preset"] = line.preset
    if line.images >= 0:
        found["images"] = f"{line.images:,} images"
    if line.members:
        found["members"] = f"{line.members} members"
    found |= {f"setting {name}": f"{name}={_plain(value)}" for name, value in line.settings}
    found |= {f"condition {name}": f"{name}={_plain(value)}" for name, value in line.conditions}
    if line.dataset_sha256:
        found["data"] = f"data {line.dataset_sha256[:HASH]}"
    if line.config_sha256:
        found["config"] = f"configuration {line.config_sha256[:HASH]}"
    return found


def _joined(line: Line, features: Mapping[str, str], left_out: Iterable[str]) -> str:
    return " · ".join([line.method, *(text for key, text in features.items() if key not in left_out)])


def _plain(value: str) -> str:
    """A JSON value as a person writes it."""
    read = json.loads(value)
    return read if isinstance(read, str) else value


CONFIDENCE = 0.95
USUAL = "supervised"


@dataclass(frozen=True)
class Difference:
    """Errors of a cell minus those of a baseline, pair by pair, in percentage points."""

    cell: RowGroup
    baseline: RowGroup
    #: One for each pair; a pair learned from the same labelled images.
    gaps: tuple[float, ...]
    #: How many draws of labelled images the pairs are of.
    draws: int

    @property
    def mean(self) -> float:
        """Below 0 where the baseline has the higher error. There must be a pair."""
        return statistics.fmean(self.gaps)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the mean lies with 95 % confidence; None for fewer than two pairs."""
        return interval(self.gaps)

    @property
    def includes_zero(self) -> bool | None:
        """Whether no difference is within the interval; None where there is no interval."""
        return None if self.interval is None else self.interval[0] <= 0.0 <= self.interval[1]


def interval(gaps: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Student's t interval of a mean, from independent values; None for fewer than two."""
    from scipy.stats import t

    n = len(gaps)
    if n < 2:
        return None
    mean = statistics.fmean(gaps)
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * statistics.stdev(gaps) / n**0.5
    return mean - half, mean + half


def baseline_method(section: Section, asked: str | None) -> str | None:
    """The method to compare with: that asked for, or the usual one, or the first; None where it is not there."""
    methods = [line.method for line in section.lines]
    if asked is not None:
        return asked if asked in methods else None
    return USUAL if USUAL in methods else methods[0]


def differences(section: Section, method: str) -> list[Difference]:
    """Every cell against the line of a method that is most like it, by number of labels and then by line.

    Of several lines of that method the first is what the others are compared with.
    """
    found = []
    for labels in section.labels:
        there = [line for line in section.lines if (line, labels) in section.cells]
        for line in there:
            same = [one for one in there if one.method == method and one.dataset_sha256 == line.dataset_sha256]
            base = same[0] if line in same else min(same, key=lambda one: _distance(one, line), default=None)
            if base is not None and base is not line:
                found.append(_difference(section.cells[line, labels], section.cells[base, labels]))
    return found


def _distance(base: Line, line: Line) -> tuple[bool, bool, int]:
    unlike = {*base.settings, *base.conditions} ^ {*line.settings, *line.conditions}
    return (base.preset != line.preset, base.images != line.images, len(unlike))


def _difference(cell: RowGroup, baseline: RowGroup) -> Difference:
    ours, theirs = _by_split(cell), _by_split(baseline)
    gaps, draws = [], 0
    for split in sorted(ours.keys() & theirs.keys()):
        pairs = _pairs(ours[split], theirs[split])
        gaps += [a["error"] - b["error"] for a, b in pairs]
        draws += bool(pairs)
    return Difference(cell, baseline, tuple(gaps), draws)


def _by_split(cell: RowGroup) -> dict[str, list[Row]]:
    found = defaultdict(list)
    for row in cell.rows:
        found[row["split_sha256"]].append(row)
    return found


def _pairs(ours: Sequence[Row], theirs: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Of one draw of labels: the only two rows, whatever their seeds, or else those of the same seed."""
    if len(ours) == len(theirs) == 1:
        return [(ours[0], theirs[0])]
    by_seed = {row["seed"]: row for row in theirs}
    return [(row, by_seed[row["seed"]]) for row in ours if row["seed"] in by_seed]
