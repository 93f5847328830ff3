"""Differences of two lines over the same labelled images, with an interval."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ssgan.cells import Cell, Line, Section
from ssgan.ledger import Row

__all__ = ["Difference", "baseline_method", "differences", "interval"]

CONFIDENCE = 0.95
USUAL = "supervised"


@dataclass(frozen=True)
class Difference:
    """Errors of a cell minus those of a baseline, pair by pair, in percentage points."""

    cell: Cell
    baseline: Cell
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


def _difference(cell: Cell, baseline: Cell) -> Difference:
    ours, theirs = _by_split(cell), _by_split(baseline)
    gaps, draws = [], 0
    for split in sorted(ours.keys() & theirs.keys()):
        pairs = _pairs(ours[split], theirs[split])
        gaps += [a["error"] - b["error"] for a, b in pairs]
        draws += bool(pairs)
    return Difference(cell, baseline, tuple(gaps), draws)


def _by_split(cell: Cell) -> dict[str, list[Row]]:
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
