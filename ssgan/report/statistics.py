"""Paired differences of test errors over the same labelled images, with Student's t interval."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ssgan.report.grouping import RowGroup, Section, Variant
from ssgan.report.loader import Row

__all__ = ["Difference", "ablation_differences", "baseline_method", "differences", "interval"]


CONFIDENCE = 0.95
ROUNDING = 1e-9  # differences of errors in % below this are rounding
DEFAULT_BASELINE = "supervised"


@dataclass(frozen=True)
class Difference:
    """Test errors of a group minus those of a baseline, pair by pair, in percentage points."""

    group: RowGroup
    baseline: RowGroup
    #: One value for each pair; a pair was trained on the same labelled images.
    values: tuple[float, ...]
    #: Number of different draws of labelled images among the pairs.
    draws: int

    @property
    def mean(self) -> float:
        """Mean of the values, of which there must be one; negative if the baseline has the higher error."""
        return statistics.fmean(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the mean; None for fewer than two pairs, or if all differ equally."""
        return interval(self.values)

    @property
    def includes_zero(self) -> bool | None:
        """Whether the interval includes 0; None if there is no interval."""
        return None if (bounds := self.interval) is None else bounds[0] <= 0.0 <= bounds[1]


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Compute Student's t interval of the mean of independent values; None for fewer than two, or if all are equal."""
    from scipy.special import stdtrit

    n = len(values)
    if n < 2 or max(values) - min(values) < ROUNDING:  # an interval of width 0 would look certain
        return None
    mean = statistics.fmean(values)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * statistics.stdev(values) / n**0.5
    return mean - half, mean + half


def baseline_method(section: Section, requested: str | None) -> str | None:
    """Choose the method to compare with: the requested one, else ``supervised``, else the first.

    None if the data set has no row of the requested method.
    """
    methods = [variant.method for variant in section.names]
    if requested is not None:
        return requested if requested in methods else None
    return DEFAULT_BASELINE if DEFAULT_BASELINE in methods else methods[0]


def differences(section: Section, method: str) -> list[Difference]:
    """Compare every group with the most similar variant of a method, by number of labels and then by variant.

    Variants of that method are compared with its first variant.
    """
    pairs = []
    for labels in section.labels:
        variants = [variant for variant in section.names if (variant, labels) in section.groups]
        of_method = [variant for variant in variants if variant.method == method]
        of_method = [variant for variant in of_method if variant.ablation is None] or of_method
        for variant in variants:
            same_data = [base for base in of_method if base.dataset_sha256 == variant.dataset_sha256]
            base = same_data[0] if variant in same_data else _most_similar(same_data, variant)
            if base is not None and base is not variant:
                pairs.append(_difference(section.groups[variant, labels], section.groups[base, labels]))
    return pairs


def ablation_differences(section: Section) -> list[Difference]:
    """Compare every ablation with its full method, by number of labels; those without one are left out."""
    pairs = []
    for labels in section.labels:
        variants = [variant for variant in section.names if (variant, labels) in section.groups]
        for variant in (variant for variant in variants if variant.ablation is not None):
            base = _most_similar([one for one in variants if _is_full(one, variant)], variant)
            if base is not None:
                pairs.append(_difference(section.groups[variant, labels], section.groups[base, labels]))
    return pairs


def _is_full(base: Variant, ablation: Variant) -> bool:
    same = (base.method, base.dataset_sha256) == (ablation.method, ablation.dataset_sha256)
    return same and base.ablation is None


def _most_similar(candidates: Sequence[Variant], variant: Variant) -> Variant | None:
    return min(candidates, key=lambda one: _distance(one, variant), default=None)


def _distance(base: Variant, variant: Variant) -> tuple[bool, bool, int]:
    different = {*base.settings, *base.conditions} ^ {*variant.settings, *variant.conditions}
    return base.preset != variant.preset, base.images != variant.images, len(different)


def _difference(group: RowGroup, baseline: RowGroup) -> Difference:
    by_split, baseline_by_split = _by_split(group), _by_split(baseline)
    values, draws = [], 0
    for split in sorted(by_split.keys() & baseline_by_split.keys()):
        pairs = _pairs(by_split[split], baseline_by_split[split])
        values += [row["error"] - base["error"] for row, base in pairs]
        draws += bool(pairs)
    return Difference(group, baseline, tuple(values), draws)


def _by_split(group: RowGroup) -> dict[str, list[Row]]:
    rows = defaultdict(list)
    for row in group.rows:
        rows[row["split_sha256"]].append(row)
    return rows


def _pairs(rows: Sequence[Row], baseline: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Pair the rows of one draw of labels: the only two, whatever their seeds, else those of the same seed."""
    if len(rows) == len(baseline) == 1:
        return [(rows[0], baseline[0])]
    by_seed = {row["seed"]: row for row in baseline}
    return [(row, by_seed[row["seed"]]) for row in rows if row["seed"] in by_seed]
