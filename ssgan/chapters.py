"""What a report says of one data set: its errors, differences, calibration, cost and pictures, as blocks."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssgan import beside, exhibits
from ssgan.cells import QUIET, Cell, Line, Section
from ssgan.curves import error_chart
from ssgan.ledger import Row, Skipped
from ssgan.markup import Block, Details, Part, Picture, Table, Text, table

__all__ = ["chapter"]

HASH = 12
RELIABILITY, CONFUSION = "Reliability diagrams", "Confusion matrices"
LEGENDS = {
    RELIABILITY: (
        "Bars: the share of right answers by confidence. Outlined: its gap to the mean confidence. Dashed: no gap. "
        "Below: the number of images, on a logarithmic scale."
    ),
    CONFUSION: "Rows are true classes, columns predicted ones; the shade is the share of the true class.",
}


def chapter(
    section: Section, method: str | None, asked: str | None, names: exhibits.Names, places: Mapping[str, Path]
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
    blocks += beside.compared(section, method, asked)
    blocks += beside.published(section)
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


def _errors(section: Section, cells: Sequence[Cell]) -> Table:
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


def _seeds(section: Section, cells: Sequence[Cell]) -> Table:
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


def _lost(section: Section, cells: Sequence[Cell]) -> Part:
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
    section: Section, cells: Sequence[Cell], names: exhibits.Names, places: Mapping[str, Path]
) -> tuple[dict[str, list[Picture]], list[Skipped]]:
    found: dict[str, list[Picture]] = {RELIABILITY: [], CONFUSION: [], "Generated images": []}
    problems = []
    for cell in cells:
        generated, said = exhibits.samples(section, cell, names, places)
        drawn = (exhibits.reliability(section, cell, names), exhibits.confusion(section, cell, names), generated)
        for pictures, one in zip(found.values(), drawn, strict=True):
            pictures += [] if one is None else [one]
        problems += said
    return found, problems


def _calibration(section: Section, cells: Sequence[Cell], pictures: Mapping[str, list[Picture]]) -> list[Block]:
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


def _cost(section: Section, cells: Sequence[Cell]) -> Part:
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
