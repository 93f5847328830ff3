"""Errors beside others: those of a baseline on the same labels, and published ones.

What a report says of one data set: its errors, differences, calibration, cost and pictures, as blocks.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssgan.report import charts
from ssgan.report.charts import error_chart
from ssgan.report.loader import Row, Skipped
from ssgan.report.published import PUBLISHED, SOURCES
from ssgan.report.render import Block, Bullets, Details, Part, Picture, Table, Text, table
from ssgan.report.statistics import QUIET, Difference, Line, RowGroup, Section, differences

__all__ = ["build_section", "compared", "counted", "published", "signed"]


def counted(number: int, what: str) -> str:
    """A number of things."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def signed(value: float) -> str:
    """A difference with its sign, two decimals."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def compared(section: Section, method: str | None, asked: str | None) -> list[Block]:
    """Every cell against the baseline; a sentence where the data set has no row of the one asked for."""
    if method is None:
        return [Text(f"There is no row of {asked} on this data set to compare with.", "note")]
    found = differences(section, method)
    if not found:
        return []
    names = [section.lines[one.baseline.line] for one in found]
    # The baseline needs no column of its own where it is one and the same.
    one_base = len(set(names)) == 1
    rows = [
        [
            section.lines[one.cell.line],
            f"{one.cell.labels:,}",
            *([] if one_base else [name]),
            signed(one.mean) if one.gaps else None,
            None if one.interval is None else f"{signed(one.interval[0])} to {signed(one.interval[1])}",
            str(len(one.gaps)),
            _reading(one),
        ]
        for one, name in zip(found, names, strict=True)
    ]
    columns = ["method", "labels", *([] if one_base else ["compared with"]), "difference", "95 % interval", "pairs", ""]
    words = {0, 5} if one_base else {0, 2, 6}
    caption = "Test error minus that of the baseline, in percentage points; below 0 the method is better."
    explained = (
        "A pair learned from the same labelled images. The interval is Student's t over the pairs; it holds for one "
        "comparison at a time."
    )
    title = f"Compared with {names[0] if one_base else method}, on the same labels"
    return [Part(title, [table(caption, columns, rows, words), Text(explained, "note")])]


def _reading(one: Difference) -> str:
    if not one.gaps:
        return "No pair shares its labelled images."
    if one.includes_zero is None:
        return "One pair gives no interval."
    verdict = "Includes 0." if one.includes_zero else "Does not include 0."
    if one.draws < len(one.gaps):
        verdict += f" The pairs are of {counted(one.draws, 'draw')} of labels, whose luck it leaves out."
    return verdict


def published(section: Section) -> list[Block]:
    """Our errors above those of papers, where both have one for a number of labels."""
    lines = PUBLISHED.get(section.dataset)
    if lines is None:
        return []
    labels = sorted({n for line in lines for n in line.errors})
    rows: list[list[str | None]] = []
    for line, name in section.lines.items():
        ours = {cell.labels: cell for cell in section.of(line) if cell.rows}
        if ours.keys() & set(labels):
            columns = [_ours(ours[n]) if n in ours else None for n in labels]
            words = [line.preset, f"{line.images:,} images" if line.images >= 0 else ""]
            rows.append([name, *columns, ": ".join(filter(None, ["measured here", ", ".join(filter(None, words))]))])
    if not rows:
        return []
    for one in lines:
        rows.append([one.method, *map(one.errors.get, labels), f"published: {one.source}"])
    caption = "Test error in %, mean ± deviation by number of labels."
    explained = (
        "Published figures are those of the papers named, with networks, augmentation, budgets and draws of labels of "
        "their own. They are in no mean and in no difference of this report."
    )
    columns_ = ["method", *(f"{n:,} labels" for n in labels), "source"]
    errors = table(caption, columns_, rows, {0, len(labels) + 1})
    sources = [f"{source}: {SOURCES[source]}." for source in sorted({one.source for one in lines})]
    return [Part("Beside published figures", [errors, Text(explained, "note"), Details("Sources", [Bullets(sources)])])]


def _ours(cell: RowGroup) -> str:
    spread = "" if cell.std is None else f" ± {cell.std:.2f}"
    return f"{cell.mean:.2f}{spread} (n = {len(cell.rows)})"


HASH = 12
RELIABILITY, CONFUSION = "Reliability diagrams", "Confusion matrices"
LEGENDS = {
    RELIABILITY: (
        "Bars: the share of right answers by confidence. Outlined: its gap to the mean confidence. Dashed: no gap. "
        "Below: the number of images, on a logarithmic scale."
    ),
    CONFUSION: "Rows are true classes, columns predicted ones; the shade is the share of the true class.",
}


def build_section(
    section: Section, method: str | None, asked: str | None, names: charts.Names, places: Mapping[str, Path]
) -> tuple[Part, list[Skipped]]:
    """Everything about one data set.

    Parameters
    ----------
    section : Section
    method : str or None
        The baseline; None where the data set has no row of the one asked for.
    asked : str or None
        The baseline that was asked for.
    names : Names
        Gives file names to pictures.
    places : mapping
        Where the files of rows are, for the samples that they name.

    Returns
    -------
    tuple
        The part of the report, and pictures that could not be shown.
    """
    cells = [section.cells[line, n] for n in section.labels for line in section.lines if (line, n) in section.cells]
    blocks: list[Block] = [Text(text, "note") for text in _warnings(section)]
    name = names.take("errors", section.dataset)
    if (chart := error_chart(section, name.removesuffix(".png"))) is not None:
        best = "; ".join(f"{section.lines[c.line]}, {c.labels:,} labels: {c.mean:.2f} %" for c in cells[:8] if c.rows)
        alt = f"Test error on {section.dataset} by number of labels. {best}{'; and more' if len(cells) > 8 else ''}."
        blocks.append(Picture(name, chart.png, alt, chart.caption, chart.svg))
    blocks += [_errors(section, cells), Details("Every seed", [_seeds(section, cells)])]
    if any(cell.lost for cell in cells):
        blocks.append(_lost(section, cells))
    blocks += compared(section, method, asked)
    blocks += published(section)
    pictures, problems = _pictures(section, cells, names, places)
    blocks += [*_calibration(section, cells, pictures), _cost(section, cells)]
    for title, found in pictures.items():
        if found and title != RELIABILITY:
            blocks.append(Details(title, [*([Text(LEGENDS[title])] if title in LEGENDS else []), *found]))
    blocks.append(Details("What the lines are", [_lines(section)]))
    return Part(section.dataset, blocks), problems


def _what_happened(row: Row) -> str:
    """Why a row has no error."""
    if row["failed"] is not None:
        return f"failed: {row['failed']}"
    return "diverged" if row["diverged"] is None else f"diverged at step {row['diverged']:,}"


def _warnings(section: Section) -> list[str]:
    found = []
    if len(section.data) > 1:
        found.append(
            f"{len(section.data)} different data lie under this name. Rows of different data are not averaged: each "
            f"has a line of its own, named by the beginning of its hash."
        )
    if any(line.config_sha256 for line in section.lines):
        found.append(
            "Some rows say the same of their settings, but have different configurations. They are not averaged: each "
            "configuration has a line of its own, named by the beginning of its hash."
        )
    if section.measured:
        keys = ", ".join(section.measured)
        found.append(
            f"Keys that this version does not know are taken for measurements, since their numbers differ from row to "
            f"row, and do not tell lines apart: {keys}."
        )
    return found


def _errors(section: Section, cells: Sequence[RowGroup]) -> Table:
    rows = []
    for cell in cells:
        lost = None
        if cell.lost:
            failed = sum(row["failed"] is not None for row in cell.lost)
            parts = [f"{n} {word}" for n, word in ((failed, "failed"), (len(cell.lost) - failed, "diverged")) if n]
            lost = ", ".join(parts)
        values = (cell.mean, cell.std, cell.median) if cell.rows else (None, None, None)
        numbers = [_form(value, 2) for value in values]
        rows.append([section.lines[cell.line], f"{cell.labels:,}", *numbers, f"{len(cell.rows)}", lost])
    caption = "Test error in %, of the averaged model after the last step. The deviation is that of a sample (n - 1)."
    columns = ["method", "labels", "mean", "std", "median", "n", "without a result"]
    return table(caption, columns, rows)


def _seeds(section: Section, cells: Sequence[RowGroup]) -> Table:
    rows = []
    for cell in cells:
        for row in sorted((*cell.rows, *cell.lost), key=lambda row: (row["draw_seed"] or 0, row["seed"])):
            remark = _what_happened(row) if row.lost else None
            if row["collapsed"] is not None:
                remark = f"{remark + '; ' if remark else ''}generator collapsed at step {row['collapsed']:,}"
            draw = None if row["draw_seed"] is None else str(row["draw_seed"])
            scores = [_form(None if row.lost else row[key], d) for key, d in (("error", 2), ("error_raw", 2))]
            scores += [_form(row[key], 3) for key in ("ece", "nll")]
            rows.append([section.lines[cell.line], f"{cell.labels:,}", draw, str(row["seed"]), *scores, remark])
    columns = ["method", "labels", "draw", "seed", "error %", "last step's %", "ECE", "NLL", "remark"]
    caption = "Each seed. Draw: the seed of the labelled images. Last step's: the model without averaging."
    return table(caption, columns, rows, {0, 8})


def _lost(section: Section, cells: Sequence[RowGroup]) -> Part:
    rows = [
        [
            section.lines[cell.line],
            f"{cell.labels:,}",
            None if row["draw_seed"] is None else str(row["draw_seed"]),
            str(row["seed"]),
            _what_happened(row),
        ]
        for cell in cells
        for row in cell.lost
    ]
    caption = "In no mean and in no difference."
    errors = table(caption, ["method", "labels", "draw", "seed", "what happened"], rows, {0, 4})
    return Part("Trainings without a result", [errors])


def _pictures(
    section: Section, cells: Sequence[RowGroup], names: charts.Names, places: Mapping[str, Path]
) -> tuple[dict[str, list[Picture]], list[Skipped]]:
    found: dict[str, list[Picture]] = {RELIABILITY: [], CONFUSION: [], "Generated images": []}
    problems = []
    for cell in cells:
        generated, said = charts.samples(section, cell, names, places)
        drawn = (charts.reliability(section, cell, names), charts.confusion(section, cell, names), generated)
        for pictures, one in zip(found.values(), drawn, strict=True):
            pictures += [] if one is None else [one]
        problems += said
    return found, problems


def _calibration(section: Section, cells: Sequence[RowGroup], pictures: Mapping[str, list[Picture]]) -> list[Block]:
    columns = {"ece": "ECE", "nll": "NLL", "temperature": "temperature", "ece_scaled": "ECE, scaled"}
    columns["nll_scaled"] = "NLL, scaled"
    there = [key for key in columns if any(cell.values(key) for cell in cells)]
    if not there:
        return []
    rows = []
    for cell in cells:
        values = [cell.values(key) for key in there]
        if any(values):
            means = [_form(statistics.fmean(found) if found else None, 3) for found in values]
            counts = {len(found) for found in values if found}
            rows.append([section.lines[cell.line], f"{cell.labels:,}", *means, "/".join(map(str, sorted(counts)))])
    caption = "Means over the seeds. ECE: mean gap of confidence and accuracy, 0 to 1. NLL: in nats. Lower is better."
    blocks: list[Block] = [table(caption, ["method", "labels", *(columns[key] for key in there), "n"], rows)]
    if pictures[RELIABILITY]:
        blocks.append(Details(RELIABILITY, [Text(LEGENDS[RELIABILITY]), *pictures[RELIABILITY]]))
    return [Part("Calibration", blocks)]


def _cost(section: Section, cells: Sequence[RowGroup]) -> Part:
    rows = []
    for cell in cells:
        every = [*cell.rows, *cell.lost]
        images = {row["images"] for row in every} - {None}
        seconds = sorted(row["seconds"] for row in every if row["seconds"] is not None)
        speeds = [row["images_per_second"] for row in every if row["images_per_second"] is not None]
        side = sorted({len(row["stack"]) for row in every if row["stack"]})
        devices = sorted({f"{row['device_name']} ({row['device']})" for row in every if row["device_name"]})
        rows.append(
            [
                section.lines[cell.line],
                f"{cell.labels:,}",
                ", ".join(f"{n:,}" for n in sorted(images)) or None,
                ", ".join(map(str, side)) or None,
                _span(seconds),
                f"{statistics.median(speeds):,.0f}" if speeds else None,
                "; ".join(devices) or None,
            ]
        )
    columns = ["method", "labels", "images", "side by side", "seconds", "images/s", "device"]
    caption = (
        "Images seen by each model; models trained side by side, for which the seconds are; images per second of each "
        "model (median)."
    )
    return Part("Cost", [table(caption, columns, rows, {0, 6})])


def _span(values: Sequence[float]) -> str | None:
    """The range of sorted seconds."""
    if not values:
        return None
    low, high = (f"{value:,.0f}" if value >= 10 else f"{value:.2g}" for value in (values[0], values[-1]))
    return low if low == high else f"{low} to {high}"


def _lines(section: Section) -> Table:
    rows = []
    for line, name in section.lines.items():
        every = [row for cell in section.of(line) for row in (*cell.rows, *cell.lost)]
        hashes = {cell.labels: sorted({row["config_sha256"][:HASH] for row in (*cell.rows, *cell.lost)} - {""})
                  for cell in section.of(line)}  # fmt: skip
        by_labels = "; ".join(f"{n:,} labels: {', '.join(found) or 'not said'}" for n, found in hashes.items())
        rows.append(
            [name, line.preset or None, _settings(line), line.dataset_sha256[:HASH] or None, by_labels, str(len(every))]
        )
    columns = ["line", "preset", "settings beyond it", "data", "configuration", "rows"]
    return table("Hashes are shown by their beginning.", columns, rows, {0, 1, 2, 3, 4})


def _settings(line: Line) -> str | None:
    """All of them, those that name no line last."""
    ordered = sorted((*line.settings, *line.conditions), key=lambda pair: (pair[0] in QUIET, pair))
    return ", ".join(f"{name}={value}" for name, value in ordered) or None


def _form(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"
