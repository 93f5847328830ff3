"""Make the tables of one data set: errors, seeds, lost trainings, calibration, cost and settings."""

import statistics
from collections.abc import Mapping, Sequence

from ssgan.errors import counted
from ssgan.report.grouping import QUIET, RowGroup, Section, Variant, describe_settings, rank
from ssgan.report.loader import Row
from ssgan.report.render import Table, table

__all__ = [
    "best_table",
    "calibration_table",
    "cost_table",
    "error_text",
    "further_table",
    "group_table",
    "lost_table",
    "seed_table",
    "settings_table",
    "signed_text",
]


HASH = 12


def signed_text(value: float) -> str:
    """Format a difference with its sign and two decimals."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def error_text(group: RowGroup) -> str | None:
    """Format mean and standard deviation of the errors; None without errors."""
    if not group.rows:
        return None
    return f"{group.mean:.2f}" + ("" if group.std is None else f" ± {group.std:.2f}")


def best_table(section: Section, names: Mapping[Variant, str]) -> Table:
    """Tabulate the best variant of each method in the order of ``names``, with its settings and the number tried."""
    rows: list[list[str | None]] = []
    for variant, name in names.items():
        alternatives = [
            one
            for one in section.names
            if (one.method, one.dataset_sha256, one.ablation, one.backbone)
            == (variant.method, variant.dataset_sha256, variant.ablation, variant.backbone)
        ]
        tried = f"{len(alternatives):,}"
        rows.append([name, *_error_columns(section, variant), describe_settings(variant), tried])
    columns = ["method", *_error_headers(section), "settings", "settings tried"]
    caption = "Test error in % by number of labels: mean ± standard deviation over n seeds."
    return _without_constant_column(table(caption, columns, rows, {0, len(columns) - 2}), "settings tried", "1")


def further_table(section: Section, variants: Sequence[Variant]) -> Table:
    """Tabulate further variants, one row each, by method and then by error."""
    order = sorted(variants, key=lambda variant: (variant.method, rank(section, variant)))
    rows = [[section.names[variant], *_error_columns(section, variant)] for variant in order]
    caption = "Test error in %: mean ± standard deviation over n seeds. For each method, lowest first."
    return table(caption, ["method and settings", *_error_headers(section)], rows)


def _error_headers(section: Section) -> list[str]:
    return [*(f"{counted(labels, 'label')}" for labels in section.labels), "mean", "n", "without a result"]


def _error_columns(section: Section, variant: Variant) -> list[str | None]:
    groups = {group.labels: group for group in section.groups_of(variant)}
    errors = [error_text(groups[labels]) if labels in groups else None for labels in section.labels]
    means = [group.mean for group in groups.values() if group.rows]
    seeds = sorted({len(group.rows) for group in groups.values()})
    counts = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    # The mean over numbers of labels, by which variants are sorted.
    mean = f"{statistics.fmean(means):.2f}" if len(means) > 1 else None
    return [*errors, mean, counts, _lost_text([row for group in groups.values() for row in group.lost])]


def _without_constant_column(shown: Table, column: str, value: str) -> Table:
    """Drop a column that has the same value in every row."""
    k = shown.columns.index(column)
    if any(row[k] != value for row in shown.rows):
        return shown
    rows = [[*row[:k], *row[k + 1 :]] for row in shown.rows]
    return Table(shown.caption, [*shown.columns[:k], *shown.columns[k + 1 :]], rows, shown.words)


def _lost_text(rows: Sequence[Row]) -> str | None:
    failed = sum(row["failed"] is not None for row in rows)
    counts = ((failed, "failed"), (len(rows) - failed, "diverged"))
    return ", ".join(f"{count} {word}" for count, word in counts if count) or None


def group_table(section: Section, groups: Sequence[RowGroup]) -> Table:
    """Tabulate mean, deviation and median of every group."""
    rows = []
    for group in groups:
        values = (group.mean, group.std, group.median) if group.rows else (None, None, None)
        numbers = [_decimal(value, 2) for value in values]
        seeds = f"{len(group.rows)}"
        rows.append([section.names[group.variant], f"{group.labels:,}", *numbers, seeds, _lost_text(group.lost)])
    caption = "Test error in %, of the averaged model after the last step. The deviation is that of a sample (n - 1)."
    return table(caption, ["method", "labels", "mean", "std", "median", "n", "without a result"], rows)


def seed_table(section: Section, groups: Sequence[RowGroup]) -> Table:
    """Tabulate every row of some groups."""
    rows = []
    for group in groups:
        for row in sorted(group.all_rows, key=lambda row: (row["draw_seed"] or 0, row["seed"])):
            remark = _reason(row) if row.lost else None
            if row["collapsed"] is not None:
                remark = f"{remark + '; ' if remark else ''}generator collapsed at step {row['collapsed']:,}"
            scores = [_decimal(None if row.lost else row[key], 2) for key in ("error", "error_raw")]
            scores += [_decimal(row[key], 3) for key in ("ece", "nll")]
            rows.append([*_identity(section, group, row), *scores, remark])
    columns = ["method", "labels", "draw", "seed", "error %", "last step's %", "ECE", "NLL", "remark"]
    caption = "Each seed. Draw: the seed of the labelled images. Last step's: the model without averaging."
    return table(caption, columns, rows, {0, 8})


def lost_table(section: Section, groups: Sequence[RowGroup]) -> Table:
    """Tabulate the trainings without a result and what happened."""
    rows = [[*_identity(section, group, row), _reason(row)] for group in groups for row in group.lost]
    caption = "Not included in any mean or difference."
    return table(caption, ["method", "labels", "draw", "seed", "what happened"], rows, {0, 4})


def _identity(section: Section, group: RowGroup, row: Row) -> list[str | None]:
    """Fill the columns method, labels, draw and seed."""
    draw = None if row["draw_seed"] is None else str(row["draw_seed"])
    return [section.names[group.variant], f"{group.labels:,}", draw, str(row["seed"])]


def _reason(row: Row) -> str:
    """Say why a row has no error."""
    if row["failed"] is not None:
        return f"failed: {row['failed']}"
    return "diverged" if row["diverged"] is None else f"diverged at step {row['diverged']:,}"


def calibration_table(section: Section, groups: Sequence[RowGroup]) -> Table | None:
    """Tabulate mean calibration measures; None if no row has one.

    What a temperature changes is left out: few rows have one, and that of earlier versions was fitted to the labels
    of the training.
    """
    columns = {"ece": "ECE", "nll": "NLL"}
    keys = [key for key in columns if any(group.values(key) for group in groups)]
    rows = []
    for group in groups:
        values = [group.values(key) for key in keys]
        if any(values):
            means = [_decimal(statistics.fmean(numbers) if numbers else None, 3) for numbers in values]
            seeds = sorted({len(numbers) for numbers in values if numbers})
            rows.append([section.names[group.variant], f"{group.labels:,}", *means, "/".join(map(str, seeds))])
    if not rows:
        return None
    caption = (
        "Means over the seeds. ECE: mean gap of confidence and accuracy, 0 to 1. NLL: in nats. Lower is better. "
        "Without a temperature, also where folds fitted one."
    )
    return table(caption, ["method", "labels", *(columns[key] for key in keys), "n"], rows)


def cost_table(section: Section, groups: Sequence[RowGroup]) -> Table:
    """Tabulate images seen, seconds, speed and device."""
    rows = []
    for group in groups:
        images = {row["images"] for row in group.all_rows} - {None}
        seconds = sorted(row["seconds"] for row in group.all_rows if row["seconds"] is not None)
        speeds = [row["images_per_second"] for row in group.all_rows if row["images_per_second"] is not None]
        stacks = sorted({len(row["stack"]) for row in group.all_rows if row["stack"]})
        devices = sorted({f"{row['device_name']} ({row['device']})" for row in group.all_rows if row["device_name"]})
        rows.append(
            [
                section.names[group.variant],
                f"{group.labels:,}",
                ", ".join(f"{n:,}" for n in sorted(images)) or None,
                ", ".join(map(str, stacks)) or None,
                _range(seconds),
                f"{statistics.median(speeds):,.0f}" if speeds else None,
                "; ".join(devices) or None,
            ]
        )
    columns = ["method", "labels", "images", "side by side", "seconds", "images/s", "device"]
    caption = (
        "Images seen by each model; models trained side by side, to which the seconds refer; images per second of each "
        "model (median)."
    )
    return table(caption, columns, rows, {0, 6})


def _range(values: Sequence[float]) -> str | None:
    """Format the range of sorted seconds."""
    if not values:
        return None
    low, high = (f"{value:,.0f}" if value >= 10 else f"{value:.2g}" for value in (values[0], values[-1]))
    return low if low == high else f"{low} to {high}"


def settings_table(section: Section) -> Table:
    """Tabulate preset, settings, data and configuration hashes of every variant."""
    rows = []
    for variant, name in section.names.items():
        groups = section.groups_of(variant)
        hashes = []
        for group in groups:
            short = sorted({row["config_sha256"][:HASH] for row in group.all_rows} - {""})
            hashes.append(f"{counted(group.labels, 'label')}: {', '.join(short) or 'not recorded'}")
        count = str(sum(len(group.all_rows) for group in groups))
        data = variant.dataset_sha256[:HASH] or None
        rows.append([name, variant.preset or None, _settings(variant), data, "; ".join(hashes), count])
    columns = ["method and settings", "preset", "settings beyond it", "data", "configuration", "rows"]
    return table("Only the beginning of each hash is shown.", columns, rows, {0, 1, 2, 3, 4})


def _settings(variant: Variant) -> str | None:
    """List all settings, those that short names leave out last."""
    ordered = sorted((*variant.settings, *variant.conditions), key=lambda pair: (pair[0] in QUIET, pair))
    return ", ".join(f"{name}={value}" for name, value in ordered) or None


def _decimal(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"
