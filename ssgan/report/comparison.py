"""Compare errors with a baseline, with the full method of an ablation, and with published errors."""

from collections.abc import Collection, Sequence

from ssgan.report.blocks import Block, Bullets, Details, Part, Picture, Table, Text, table
from ssgan.report.charts import Strip, draw_strips
from ssgan.report.grouping import RowGroup, Section, Variant
from ssgan.report.pictures import FileNames
from ssgan.report.published import PUBLISHED, SOURCES
from ssgan.report.statistics import Difference, ablation_differences, differences
from ssgan.report.tables import count_text, error_text, signed_text

__all__ = ["ablation_part", "baseline_part", "interval_text", "published_part"]


INTERVAL = (
    "A pair learned from the same labelled images. The interval is Student's t over the pairs; it holds for one "
    "comparison at a time."
)


def baseline_part(
    section: Section, method: str | None, requested: str | None, best: Collection[Variant]
) -> list[Block]:
    """Compare every group with a baseline: variants in ``best`` in the open, the others in details.

    A sentence where the data set has no row of the requested method.
    """
    if method is None:
        return [Text(f"There is no row of {requested} on this data set to compare with.", "note")]
    pairs = sorted(differences(section, method), key=_by_difference)
    if not pairs:
        return []
    # The baseline's own settings are further ones: compared with each other, they say nothing of the methods.
    shown = {variant for variant in best if variant.method != method}
    first = [one for one in pairs if one.group.variant in shown] or pairs
    others = [one for one in pairs if one.group.variant not in shown] if first is not pairs else []
    blocks: list[Block] = [_difference_table(section, first), Text(INTERVAL, "note")]
    if others:
        blocks.append(Details("Differences of the other settings", [_difference_table(section, others)]))
    names = {section.names[one.baseline.variant] for one in first}
    return [Part(f"Compared with {names.pop() if len(names) == 1 else method}, on the same labels", blocks)]


def _by_difference(difference: Difference) -> tuple[int, bool, float]:
    """Sort by number of labels and then by mean, those without pairs last."""
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
        return "One pair gives no interval."
    verdict = "Includes 0." if includes_zero else "Does not include 0."
    if difference.draws < len(difference.values):
        verdict += f" The pairs are of {count_text(difference.draws, 'draw')} of labels, whose luck it leaves out."
    return verdict


def ablation_part(section: Section, file_names: FileNames) -> tuple[list[Block], set[Variant]]:
    """Draw and tabulate the difference of each ablation to its full method.

    Returns
    -------
    tuple
        The part, empty where there is no ablation with a full method, and the variants in it.
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
    """Name each comparison by its ablation, and by method, settings and labels where these differ."""
    names = [str(one.group.variant.ablation) for one in pairs]
    if len({one.group.labels for one in pairs}) > 1:
        names = [f"{name}, {one.group.labels:,} labels" for name, one in zip(names, pairs, strict=True)]
    if len(set(names)) == len(names):
        return names
    return [f"{section.names[one.group.variant]}, {one.group.labels:,} labels" for one in pairs]


def published_part(section: Section, best: Sequence[Variant]) -> list[Block]:
    """Tabulate the errors of the best settings above published ones, where both have one for a number of labels."""
    published = PUBLISHED.get(section.dataset)
    if published is None:
        return []
    labels = sorted({n for one in published for n in one.errors})
    rows: list[list[str | None]] = []
    for variant in best:
        groups = {group.labels: group for group in section.groups_of(variant) if group.rows}
        if groups.keys() & set(labels):
            errors = [_error_with_count(groups[n]) if n in groups else None for n in labels]
            budget = f"{variant.images:,} images" if variant.images >= 0 else ""
            settings = ", ".join(filter(None, [variant.preset, budget]))
            rows.append([section.names[variant], *errors, ": ".join(filter(None, ["measured here", settings]))])
    if not rows:
        return []
    for one in published:
        rows.append([one.method, *map(one.errors.get, labels), f"published: {one.source}"])
    caption = "Test error in %, mean ± deviation by number of labels."
    explanation = (
        "Published figures are those of the papers named, with networks, augmentation, budgets and draws of labels of "
        "their own. They are in no mean and in no difference of this report."
    )
    columns = ["method", *(f"{n:,} labels" for n in labels), "source"]
    errors_table = table(caption, columns, rows, {0, len(labels) + 1})
    sources = [f"{source}: {SOURCES[source]}." for source in sorted({one.source for one in published})]
    details = Details("Sources", [Bullets(sources)])
    return [Part("Beside published figures", [errors_table, Text(explanation, "note"), details])]


def _error_with_count(group: RowGroup) -> str:
    return f"{error_text(group)} (n = {len(group.rows)})"
