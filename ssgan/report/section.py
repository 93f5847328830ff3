"""Assemble the part of a report about one data set: charts, tables, comparisons and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ssgan.report import tables
from ssgan.report.blocks import Block, Details, Part, Picture, Text
from ssgan.report.charts import MOST_CURVES, Curve, Strip, draw_curves, draw_strips
from ssgan.report.comparison import ablation_part, baseline_part, published_part
from ssgan.report.grouping import RowGroup, Section, Variant, best_variants, name_variants
from ssgan.report.loader import Skipped
from ssgan.report.pictures import FileNames, confusion_picture, reliability_picture, samples_picture

__all__ = ["build_section"]


RELIABILITY, CONFUSION, SAMPLES = "Reliability diagrams", "Confusion matrices", "Generated images"
EXPLANATIONS = {
    RELIABILITY: (
        "Bars: the share of right answers by confidence. Outlined: its gap to the mean confidence. Dashed: no gap. "
        "Below: the number of images, on a logarithmic scale."
    ),
    CONFUSION: "Rows are true classes, columns predicted ones; the shade is the share of the true class.",
    SAMPLES: "",
}
RULE = (
    "The best settings of a method are those with the lowest test error, averaged over its numbers of labels. Settings "
    "trained with more numbers of labels come first, since errors with few and with many labels cannot be compared. "
    "Ablations are not among them. The choice is made on the test images, so a method looks a little better than it is "
    "where many settings were tried."
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
        The baseline; None where the data set has no row of the requested one.
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
    if len(section.data) > 1:
        warnings.append(
            f"{len(section.data)} different data lie under this name. Rows of different data are not averaged: they "
            f"are listed apart, each named by the beginning of its hash."
        )
    if any(variant.config_sha256 for variant in section.names):
        warnings.append(
            "Some rows say the same of their settings, but have different configurations. They are not averaged: they "
            "are listed apart, each named by the beginning of its configuration's hash."
        )
    if section.measured:
        keys = ", ".join(section.measured)
        warnings.append(
            f"Keys that this version does not know are taken for measurements, since their numbers differ from row to "
            f"row, and do not tell settings apart: {keys}."
        )
    return warnings


def _best(section: Section, best: Sequence[Variant], file_names: FileNames) -> list[Block]:
    """Draw and tabulate each method at its best settings, and state how these are chosen."""
    if not best:
        return []
    names = dict(zip(best, name_variants(best), strict=True))
    return [_error_picture(section, names, file_names), tables.best_table(section, names), Text(RULE, "note")]


def _error_picture(section: Section, names: Mapping[Variant, str], file_names: FileNames) -> Picture:
    """Draw error against labels, or one row for each method where there is one number of labels."""
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
        f"{curve.name}, {group.labels:,} labels: {group.mean:.2f} %" for curve in curves[:8] for group in curve.groups
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
