"""Group result rows by method and settings, name the groups, and find the best settings of each method."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ssgan.errors import counted, visible
from ssgan.report.loader import LoadedRows, Row, canonical

__all__ = [
    "QUIET",
    "RowGroup",
    "Section",
    "Variant",
    "best_variants",
    "describe_settings",
    "group_rows",
    "name_variants",
    "rank",
]


# Settings that a short name leaves out: it has the budget as images, and the others do not affect the weights.
QUIET = {
    *("total_images", "report_every_images", "evaluate_every_images", "frames_every_images"),
    *("checkpoint_every_seconds", "tensorboard"),
}
HASH = 8
# What a short name includes only if variants differ in it, even if not all of them have it.
BUDGET = ("preset", "images", "data")
ABLATION = "ablation"  # the key of a row that names what its training left out
BACKBONE = "backbone"  # the key of a row that names the pretrained network
UNKNOWN_IMAGES = -1


@dataclass(frozen=True)
class Variant:
    """A method with its preset, settings, budget and data: what rows share, except the number of labels and seeds."""

    method: str
    dataset_sha256: str
    preset: str
    #: Names with values as JSON.
    settings: tuple[tuple[str, str], ...]
    images: int
    conditions: tuple[tuple[str, str], ...]
    members: int
    #: Empty if all rows with one number of labels have the same configuration.
    config_sha256: str = ""

    @classmethod
    def of(cls, row: Row) -> "Variant":
        """Read the variant of a row, without its configuration hash."""
        members = row["members"]
        return cls(
            row["method"],
            row["dataset_sha256"],
            row["preset"] or "",
            tuple(sorted((name, canonical(value)) for name, value in row["settings"].items())),
            UNKNOWN_IMAGES if row["images"] is None else row["images"],
            row.conditions,
            len(members) if isinstance(members, list) else members or 0,
        )

    @property
    def ablation(self) -> str | None:
        """Name of the part that was left out, such as ``without noise``; None for a full method."""
        return self._condition(ABLATION)

    @property
    def backbone(self) -> str | None:
        """The pretrained network whose features were learned from; None for pixels, or if all rows have the same."""
        return self._condition(BACKBONE)

    def _condition(self, key: str) -> str | None:
        value = dict(self.conditions).get(key, "null")
        return None if value == "null" else _plain(value)


@dataclass(frozen=True)
class RowGroup:
    """Rows of one variant and one number of labels."""

    variant: Variant
    labels: int
    #: Rows with an error, by draw and seed.
    rows: tuple[Row, ...]
    #: Rows of trainings that failed or diverged.
    lost: tuple[Row, ...]

    @property
    def all_rows(self) -> tuple[Row, ...]:
        """Rows with and without a result."""
        return (*self.rows, *self.lost)

    @property
    def errors(self) -> list[float]:
        """Test errors in percent, one for each row."""
        return [row["error"] for row in self.rows]

    @property
    def mean(self) -> float:
        """Mean of the errors; there must be one."""
        return statistics.fmean(self.errors)

    @property
    def std(self) -> float | None:
        """Sample standard deviation (n - 1) of the errors; None for fewer than two rows."""
        return statistics.stdev(self.errors) if len(self.rows) > 1 else None

    @property
    def median(self) -> float:
        """Median of the errors; there must be one."""
        return statistics.median(self.errors)

    def values(self, key: str) -> list[float]:
        """Collect the numbers under a key, of the rows that have one."""
        return [row[key] for row in self.rows if row[key] is not None]


@dataclass(frozen=True)
class Section:
    """Grouped rows of one data set."""

    dataset: str
    #: Each variant with its name, which no other variant of the data set has; in the order of the report.
    names: dict[Variant, str]
    #: Numbers of labels, ascending.
    labels: list[int]
    groups: dict[tuple[Variant, int], RowGroup]
    #: Unknown keys that are treated as measurements.
    measured: list[str]

    @property
    def data(self) -> list[str]:
        """Hashes of the data under this name."""
        return sorted({variant.dataset_sha256 for variant in self.names} - {""})

    def groups_of(self, *variants: Variant) -> list[RowGroup]:
        """List the groups of some variants, by number of labels and then in the order given."""
        keys = ((variant, labels) for labels in self.labels for variant in variants)
        return [self.groups[key] for key in keys if key in self.groups]


def group_rows(loaded: LoadedRows) -> list[Section]:
    """Group rows into one section for each data set, sorted by name."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in loaded.rows:
        rows[row["dataset"]].append(row)
    return [_section(name, rows[name], loaded.measured.get(name, [])) for name in sorted(rows)]


def rank(section: Section, variant: Variant) -> tuple[int, list[int], float]:
    """Return a sort key of variants by error, lowest first.

    Means over different numbers of labels cannot be compared, so a variant that was trained with more numbers of
    labels comes first, then one with smaller numbers, and only then the mean test error over them decides.
    """
    groups = [group for group in section.groups_of(variant) if group.rows]
    labels = [group.labels for group in groups]
    return -len(groups), labels, statistics.fmean(group.mean for group in groups) if groups else 0.0


def best_variants(section: Section) -> list[Variant]:
    """Choose the variant of lowest rank for each method, sorted by rank.

    Ablations are chosen only if a method has nothing else. Variants of different data, or of pixels and of features,
    are chosen separately; methods without any result have no best variant.
    """
    candidates: dict[tuple[str, str, str | None], list[Variant]] = defaultdict(list)
    for variant in section.names:
        if any(group.rows for group in section.groups_of(variant)):
            candidates[variant.method, variant.dataset_sha256, variant.backbone].append(variant)
    best = []
    for variants in candidates.values():
        full = [variant for variant in variants if variant.ablation is None]
        best.append(min(full or variants, key=lambda variant: rank(section, variant)))
    return sorted(best, key=lambda variant: rank(section, variant))


def _section(dataset: str, rows: Sequence[Row], measured: list[str]) -> Section:
    configurations: dict[tuple[Variant, int], set[str]] = defaultdict(set)
    for row in rows:
        configurations[Variant.of(row), row["labels"]] |= {row["config_sha256"]} - {""}
    members: dict[tuple[Variant, int], list[Row]] = defaultdict(list)
    for row in rows:
        variant = Variant.of(row)
        if len(configurations[variant, row["labels"]]) > 1:
            variant = replace(variant, config_sha256=row["config_sha256"])
        members[variant, row["labels"]].append(row)
    order = sorted({variant for variant, _ in members}, key=_order)
    groups = {}
    for (variant, labels), group in members.items():
        group.sort(key=_seeds)
        results = tuple(row for row in group if not row.lost)
        groups[variant, labels] = RowGroup(variant, labels, results, tuple(row for row in group if row.lost))
    names = dict(zip(order, name_variants(order), strict=True))
    return Section(dataset, names, sorted({labels for _, labels in members}), groups, measured)


def _order(variant: Variant) -> tuple[Any, ...]:
    """Return a sort key that puts variants with default settings before others."""
    settings = (variant.preset, len(variant.settings), variant.settings, variant.images)
    return (
        *(variant.method, *settings, variant.conditions, variant.members),
        *(variant.dataset_sha256, variant.config_sha256),
    )


def _seeds(row: Row) -> tuple[int, int, str]:
    return (-1 if row["draw_seed"] is None else row["draw_seed"], row["seed"], canonical(row.values))


def name_variants(variants: Sequence[Variant]) -> list[str]:
    """Name each variant by its method and whatever else distinguishes it from the others; no two names are the same."""
    features = [_features(variant) for variant in variants]
    known = [key for one in features for key in one]
    counts = Counter(known)
    networks = sum("preset" in one for one in features)  # only networks have settings
    values: dict[str, set[str]] = defaultdict(set)
    for one in features:
        for key, text in one.items():
            values[key].add(text)
    common = {
        key
        for key, texts in values.items()
        if len(texts) == 1
        and (counts[key] == (networks if key.startswith("setting ") else len(variants)) or key in BUDGET)
    }
    quiet = {key for key in counts if key.removeprefix("setting ") in QUIET}
    short = [_joined(v, one, common | quiet) for v, one in zip(variants, features, strict=True)]
    # What a short name leaves out is included if variants differ in nothing else.
    whole = [_joined(v, one, common) for v, one in zip(variants, features, strict=True)]
    repeated = _repeated(short)
    names = [long if name in repeated else name for name, long in zip(short, whole, strict=True)]
    return _numbered(names)


def _repeated(names: Iterable[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def _numbered(names: Sequence[str]) -> list[str]:
    """Add a number to names that are not unique."""
    repeated, taken = _repeated(names), set(names)
    unique = []
    for name in names:
        if name in repeated:
            number = 1
            while (numbered := f"{name} · no. {number}") in taken:
                number += 1
            taken.add(name := numbered)
        unique.append(name)
    return unique


def _features(variant: Variant) -> dict[str, str]:
    """List what can be said about a variant, in the order of its name."""
    features = {}
    if variant.preset:
        features["preset"] = variant.preset
    if variant.images >= 0:
        features["images"] = counted(variant.images, "image")
    if variant.members:
        features["members"] = f"{variant.members} members"
    features |= {f"setting {name}": f"{name}={_plain(value)}" for name, value in variant.settings}
    features |= {f"condition {name}": f"{name}={_plain(value)}" for name, value in variant.conditions}
    if variant.dataset_sha256:
        features["data"] = f"data {variant.dataset_sha256[:HASH]}"
    if variant.config_sha256:
        features["config"] = f"configuration {variant.config_sha256[:HASH]}"
    return features


def describe_settings(variant: Variant) -> str | None:
    """Describe preset, budget and settings that affect weights, in words; None without settings."""
    features = _features(variant)
    if variant.preset:
        features["preset"] = f"preset {variant.preset}"
    omitted = {"data", *(f"setting {name}" for name in QUIET)}
    return " · ".join(text for key, text in features.items() if key not in omitted) or None


def _joined(variant: Variant, features: Mapping[str, str], omitted: Collection[str]) -> str:
    # Escaped here already: two names that are different must be different on the page.
    return visible(" · ".join([variant.method, *(text for key, text in features.items() if key not in omitted)]))


def _plain(value: str) -> str:
    """Write a JSON value without the quotes of a string."""
    decoded = json.loads(value)
    return decoded if isinstance(decoded, str) else value
