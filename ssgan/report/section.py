"""Assemble the part of a report about one data set: charts, tables, comparisons and pictures."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ssgan.errors import counted
from ssgan.report import tables
from ssgan.report.charts import MOST_CURVES, Curve, Strip, draw_curves, draw_strips
from ssgan.report.grouping import RowGroup, Section, Variant, best_variants, name_variants
from ssgan.report.loader import Skipped
from ssgan.report.pictures import FileNames, confusion_picture, reliability_picture, samples_picture
from ssgan.report.published import PUBLISHED, SOURCES
from ssgan.report.render import Block, Bullets, Details, Part, Picture, Table, Text, table
from ssgan.report.statistics import Difference, ablation_differences, differences
from ssgan.report.tables import error_text, signed_text

__all__ = [
    "ablation_part",
    "baseline_part",
    "build_section",
    "interval_text",
    "published_part",
]

MOST_WARNINGS = 10  # warnings of rows shown in a section
INTERVAL = (
    "The models of a pair learned from the same labelled images. The interval is Student's t over the pairs; it holds "
    "for one comparison at a time."
)


def baseline_part(
    section: Section, method: str | None, requested: str | None, best: Collection[Variant]
) -> list[Block]:
    """Compare every group with a baseline: variants in ``best`` visibly, the others in details.

    Returns a sentence if the data set has no row of the requested method.
    """
    if method is None:
        return [Text(f"There is no result of {requested} on this data set to compare with.", "note")]
    pairs = sorted(differences(section, method), key=_by_difference)
    if not pairs:
        return []
    # The baseline's own settings are further ones: compared with each other, they say nothing about the methods.
    shown = {variant for variant in best if variant.method != method}
    first = [one for one in pairs if one.group.variant in shown] or pairs
    others = [one for one in pairs if one.group.variant not in shown] if first is not pairs else []
    blocks: list[Block] = [_difference_table(section, first), Text(INTERVAL, "note")]
    if others:
        blocks.append(Details("Differences of the other settings", [_difference_table(section, others)]))
    names = {section.names[one.baseline.variant] for one in first}
    return [Part(f"Compared with {names.pop() if len(names) == 1 else method}, on the same labels", blocks)]


def _by_difference(difference: Difference) -> tuple[int, bool, float]:
    """Return a sort key: by number of labels and then by mean, those without pairs last."""
    return difference.group.labels, not difference.values, difference.mean if difference.values else 0.0


def _difference_table(section: Section, pairs: Sequence[Difference]) -> Table:
    baselines = [section.names[one.baseline.variant] for one in pairs]
    several = len(set(baselines)) > 1  # a single baseline needs no column
    rows = [
        [
            section.names[one.group.variant],
            f"{one.group.labels:,}",
            *([name] if several else []),
            signed_text(one.mean) if one.values else None,
            interval_text(one),
            str(len(one.values)),
            _verdict(one),
        ]
        for one, name in zip(pairs, baselines, strict=True)
    ]
    columns = ["method", "labels", *(["compared with"] if several else []), "difference", "95 % interval", "pairs", ""]
    caption = "Test error minus that of the baseline, in percentage points; below 0 the method is better."
    return table(caption, columns, rows, {0, 2, 6} if several else {0, 5})


def interval_text(difference: Difference) -> str | None:
    """Format the interval of a difference; None for fewer than two pairs."""
    bounds = difference.interval
    return None if bounds is None else f"{signed_text(bounds[0])} to {signed_text(bounds[1])}"


def _verdict(difference: Difference) -> str:
    if not difference.values:
        return "No pair shares its labelled images."
    includes_zero = difference.includes_zero
    if includes_zero is None:
        one = len(difference.values) == 1
        return "One pair gives no interval." if one else "All pairs differ equally, which gives no interval."
    verdict = "Includes 0." if includes_zero else "Does not include 0."
    if difference.draws < len(difference.values):
        verdict += (
            f" The pairs are of {counted(difference.draws, 'draw')} of labels, whose variation it does not include."
        )
    return verdict


def ablation_part(section: Section, file_names: FileNames) -> tuple[list[Block], set[Variant]]:
    """Draw and tabulate the difference of each ablation to its full method.

    Returns
    -------
    tuple
        The part, empty if there is no ablation with a full method, and the variants in it.
    """
    pairs = ablation_differences(section)
    pairs.sort(key=_by_difference)
    if not pairs:
        return [], set()
    names = _ablation_names(section, pairs)
    full = sorted({section.names[one.baseline.variant] for one in pairs})
    title = f"Ablations of {full[0] if len(full) == 1 else 'full methods'}"
    blocks: list[Block] = []
    drawn = [(name, one) for name, one in zip(names, pairs, strict=True) if one.values]
    if drawn:
        file_name = file_names.take("ablations", section.dataset)
        strips = [Strip(name, one.mean, one.interval, one.values) for name, one in drawn]
        mark = file_name.removesuffix(".png")
        chart = draw_strips(strips, "difference of test errors, percentage points", mark, zero=True)
        effects = "; ".join(f"{name}: {signed_text(one.mean)}" for name, one in drawn)
        caption = (
            "Test error minus that of the full method; above 0 the part that was left out helps. The large mark is the "
            "mean, the bar its 95 % interval, the dots are pairs."
        )
        alt = f"Differences of ablations on {section.dataset}, in percentage points. {effects}."
        blocks.append(Picture(file_name, chart.png, alt, caption, chart.drawing))
    rows = [
        [
            name,
            f"{one.group.labels:,}",
            error_text(one.group),
            error_text(one.baseline),
            signed_text(one.mean) if one.values else None,
            interval_text(one),
            str(len(one.values)),
            _verdict(one),
        ]
        for name, one in zip(names, pairs, strict=True)
    ]
    columns = ["ablation", "labels", "error %", "full method's %", "difference", "95 % interval", "pairs", ""]
    caption = "Test error of each ablation and its difference to the full method, on the same labels."
    blocks += [table(caption, columns, rows, {0, 7}), Text(INTERVAL, "note")]
    return [Part(title, blocks)], {one.group.variant for one in pairs}


def _ablation_names(section: Section, pairs: Sequence[Difference]) -> list[str]:
    """Name each comparison by its ablation, and by method, settings and labels if these differ."""
    names = [str(one.group.variant.ablation) for one in pairs]
    if len({one.group.labels for one in pairs}) > 1:
        names = [f"{name}, {counted(one.group.labels, 'label')}" for name, one in zip(names, pairs, strict=True)]
    if len(set(names)) == len(names):
        return names
    return [f"{section.names[one.group.variant]}, {counted(one.group.labels, 'label')}" for one in pairs]


def published_part(section: Section, best: Sequence[Variant]) -> list[Block]:
    """Tabulate the errors of the best settings above published ones, if both have one for a number of labels."""
    published = PUBLISHED.get(section.dataset)
    if published is None:
        return []
    labels = sorted({n for one in published for n in one.errors})
    rows: list[list[str | None]] = []
    for variant in best:
        groups = {group.labels: group for group in section.groups_of(variant) if group.rows}
        if groups.keys() & set(labels):
            errors = [_error_with_count(groups[n]) if n in groups else None for n in labels]
            budget = f"{counted(variant.images, 'image')}" if variant.images >= 0 else ""
            settings = ", ".join(filter(None, [variant.preset, budget]))
            rows.append([section.names[variant], *errors, ": ".join(filter(None, ["measured here", settings]))])
    if not rows:
        return []
    for one in published:
        rows.append([one.method, *map(one.errors.get, labels), f"published: {one.source}"])
    caption = "Test error in %, mean ± deviation by number of labels."
    explanation = (
        "Published figures come from the papers named, with their own networks, augmentation, budgets and draws of "
        "labels. They are not included in any mean or difference of this report."
    )
    columns = ["method", *(counted(n, "label") for n in labels), "source"]
    errors_table = table(caption, columns, rows, {0, len(labels) + 1})
    sources = [f"{source}: {SOURCES[source]}." for source in sorted({one.source for one in published})]
    details = Details("Sources", [Bullets(sources)])
    return [Part("Compared with published figures", [errors_table, Text(explanation, "note"), details])]


def _error_with_count(group: RowGroup) -> str:
    return f"{error_text(group)} (n = {len(group.rows)})"


RELIABILITY, CONFUSION, SAMPLES = "Reliability diagrams", "Confusion matrices", "Generated images"
EXPLANATIONS = {
    RELIABILITY: (
        "Bars: the share of correct predictions by confidence. Outlined: its gap to the mean confidence. Dashed: no "
        "gap. Below: the number of images, on a logarithmic scale."
    ),
    CONFUSION: "Rows are true classes, columns predicted ones; the shade is the share of the true class.",
    SAMPLES: "",
}
RULE = (
    "The best settings of a method are those with the lowest test error, averaged over its numbers of labels. Settings "
    "trained with more numbers of labels come first, since errors with few and with many labels cannot be compared. "
    "Ablations are not among them. The choice is made on the test images, so a method looks a little better than it is "
    "if many settings were tried."
)
# Row groups with pictures: each takes half a second and 10 kB of the page.
MOST_PICTURED = 24
PICTURED = f"Shown for the best settings of each method, the fewest labels first, at most {MOST_PICTURED}."


def build_section(
    section: Section, method: str | None, requested: str | None, file_names: FileNames, places: Mapping[str, Path]
) -> tuple[Part, list[Skipped]]:
    """Build everything about one data set.

    Parameters
    ----------
    section : Section
    method : str or None
        The baseline; None if the data set has no row of the requested one.
    requested : str or None
        The baseline that the user named.
    file_names : FileNames
    places : mapping
        Paths of the files of rows, for the samples that they name.

    Returns
    -------
    tuple
        The part of the report, and pictures that cannot be shown.
    """
    best = best_variants(section)
    groups = _sorted_groups(section)
    ablations, ablated = ablation_part(section, file_names)
    further = [variant for variant in section.names if variant not in best and variant not in ablated]
    blocks: list[Block] = [Text(text, "note") for text in _warnings(section)]
    blocks += [*_best(section, best, file_names), *ablations]
    if further:
        blocks.append(Part("Further settings", [tables.further_table(section, further)]))
    blocks.append(Details("Mean, deviation and median", [tables.group_table(section, groups)]))
    blocks.append(Details("Every seed", [tables.seed_table(section, groups)]))
    if any(group.lost for group in groups):
        blocks.append(Part("Trainings without a result", [tables.lost_table(section, groups)]))
    blocks += baseline_part(section, method, requested, best)
    blocks += published_part(section, best)
    pictures, problems = _pictures(section, best, file_names, places)
    of_best = [group for group in groups if group.variant in best]
    others = [group for group in groups if group.variant not in best]
    blocks += _calibration(section, of_best, others, pictures[RELIABILITY])
    blocks += _cost(section, of_best, others)
    blocks += [_gallery(title, pictures[title]) for title in (CONFUSION, SAMPLES) if pictures[title]]
    blocks.append(Details("All settings", [tables.settings_table(section)]))
    return Part(section.dataset, blocks), problems


def _sorted_groups(section: Section) -> list[RowGroup]:
    """Sort all groups by number of labels and then by error, those without a result last."""
    groups = section.groups_of(*section.names)
    return sorted(groups, key=lambda group: (group.labels, not group.rows, group.mean if group.rows else 0.0))


def _warnings(section: Section) -> list[str]:
    warnings = []
    backbones = [row["backbone"] for group in section.groups.values() for row in group.all_rows]
    backbone = backbones[0] if backbones else None
    if isinstance(backbone, str) and backbones.count(backbone) == len(backbones):
        warnings.append(f"All methods learned from features of a frozen pretrained network: {backbone}.")
    if any(name == "parent" for variant in section.names for name, _ in variant.settings):
        warnings.append(
            "Methods with a parent started from the weights of another run, named by the beginning of their hash: they "
            "have seen more images than the budget says."
        )
    if len(section.data) > 1:
        warnings.append(
            f"{len(section.data)} different data sets have this name. Rows of different data are not averaged: they "
            f"are listed separately, each named by the beginning of its hash."
        )
    if any(variant.config_sha256 for variant in section.names):
        warnings.append(
            "Some rows have the same settings, but different configurations. They are not averaged: they "
            "are listed separately, each named by the beginning of its configuration's hash."
        )
    if section.measured:
        keys = ", ".join(section.measured)
        warnings.append(
            f"Keys that this version does not know are treated as measurements, since their numbers differ from row to "
            f"row, and do not tell settings apart: {keys}."
        )
    return warnings + _warnings_of_rows(section)


def _warnings_of_rows(section: Section) -> list[str]:
    """Return the sentences that rows have under ``warnings``, each with the number of its rows; at most ten."""
    counts: Counter[str] = Counter()
    for group in section.groups.values():
        for row in group.all_rows:
            lines = row["warnings"] if isinstance(row["warnings"], list) else []
            counts.update({line for line in lines if isinstance(line, str)})
    shown = [f"{line} ({count:,} rows)" if count > 1 else line for line, count in sorted(counts.items())]
    left = len(shown) - MOST_WARNINGS
    return [*shown[:MOST_WARNINGS], *([f"The rows contain {left:,} more warnings."] if left > 0 else [])]


def _best(section: Section, best: Sequence[Variant], file_names: FileNames) -> list[Block]:
    """Draw and tabulate each method at its best settings, and state how these are chosen."""
    if not best:
        return []
    names = dict(zip(best, name_variants(best), strict=True))
    return [_error_picture(section, names, file_names), tables.best_table(section, names), Text(RULE, "note")]


def _error_picture(section: Section, names: Mapping[Variant, str], file_names: FileNames) -> Picture:
    """Draw error against labels, or one row for each method if there is one number of labels."""
    curves = [
        Curve(name, [group for group in section.groups_of(variant) if group.rows]) for variant, name in names.items()
    ][:MOST_CURVES]
    file_name = file_names.take("errors", section.dataset)
    mark = file_name.removesuffix(".png")
    labels = sorted({group.labels for curve in curves for group in curve.groups})
    caption = "Each method at its best settings."
    if len(names) > len(curves):
        caption += f" The {len(curves)} methods with the lowest error of {len(names):,}; the table has all."
    if len(labels) > 1:
        chart = draw_curves(curves, mark)
        caption += " The mark is the mean over the seeds, the bar one standard deviation to each side. Marks of one "
        caption += "number of labels are moved apart, so that bars do not hide each other."
    else:
        chart = draw_strips(
            [_strip(curve) for curve in curves], f"test error with {labels[0]:,} labelled images, %", mark
        )
        caption += " The large mark is the mean, the bar one standard deviation to each side, the dots are seeds."
    errors = "; ".join(
        f"{curve.name}, {counted(group.labels, 'label')}: {group.mean:.2f} %"
        for curve in curves[:8]
        for group in curve.groups
    )
    more = "; and more" if len(curves) > 8 else ""
    alt = f"Test error on {section.dataset} by number of labels. {errors}{more}."
    return Picture(file_name, chart.png, alt, caption, chart.drawing)


def _strip(curve: Curve) -> Strip:
    (group,) = curve.groups
    deviation = None if group.std is None else (group.mean - group.std, group.mean + group.std)
    return Strip(curve.name, group.mean, deviation, group.errors)


def _pictures(
    section: Section, best: Sequence[Variant], file_names: FileNames, places: Mapping[str, Path]
) -> tuple[dict[str, list[Picture]], list[Skipped]]:
    """Make the pictures of the best settings, and list those that cannot be shown."""
    pictures: dict[str, list[Picture]] = {RELIABILITY: [], CONFUSION: [], SAMPLES: []}
    problems = []
    for group in section.groups_of(*best)[:MOST_PICTURED]:
        samples, unreadable = samples_picture(section, group, file_names, places)
        reliability = reliability_picture(section, group, file_names)
        confusion = confusion_picture(section, group, file_names)
        for series, picture in zip(pictures.values(), (reliability, confusion, samples), strict=True):
            series += [] if picture is None else [picture]
        problems += unreadable
    return pictures, problems


def _calibration(
    section: Section, of_best: Sequence[RowGroup], others: Sequence[RowGroup], diagrams: Sequence[Picture]
) -> list[Block]:
    blocks: list[Block] = []
    if (measures := tables.calibration_table(section, of_best)) is not None:
        blocks.append(measures)
    if (measures := tables.calibration_table(section, others)) is not None:
        blocks.append(Details("Calibration of the other settings", [measures]))
    if diagrams:
        blocks.append(_gallery(RELIABILITY, diagrams))
    return [Part("Calibration", blocks)] if blocks else []


def _cost(section: Section, of_best: Sequence[RowGroup], others: Sequence[RowGroup]) -> list[Block]:
    blocks: list[Block] = [tables.cost_table(section, of_best)] if of_best else []
    if others:
        blocks.append(Details("Cost of the other settings", [tables.cost_table(section, others)]))
    return [Part("Cost", blocks)]


def _gallery(title: str, pictures: Sequence[Picture]) -> Details:
    explanation = f"{EXPLANATIONS[title]} {PICTURED}".strip()
    return Details(title, [Text(explanation), *pictures])
