"""Make tables of the presets for a CPU, `mnist-fast` and `cifar10-fast`, from rows in `results/rows/`."""

import statistics
import textwrap
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from table_rows import ROWS, rows

from ssgan.report.published import PUBLISHED
from ssgan.settings.presets import resolve

Row = dict[str, Any]
PRESET, NO_GENERATOR = "K+1 GAN", "without a generator"
# Settings in which rows differ from the current preset.
VARIANTS: dict[str, Row] = {
    "": {},
    ", Muon": {"optimizer_d": "muon"},
    ", no test-time flip": {"test_time_flip": False},
    ", Adam, no test-time flip": {"optimizer_d": "adam", "test_time_flip": False},
    ", without label spreading": {"label_spreading_fraction": 0.0},
}
VARIED = {name for variant in VARIANTS.values() for name in variant}
KINDS = [kind + suffix for suffix in VARIANTS for kind in (PRESET, NO_GENERATOR)]
ABLATED_LABELS, FAST_LABELS, FEWEST_LABELS = 50, 100, 20
# Data sets with trainings of about the same CPU time with and without a generator: the name and the number of labels.
EQUAL_TIME = {
    "mnist": ("MNIST", 100),
    "fashion-mnist": ("Fashion-MNIST", 100),
    "cifar10": ("CIFAR-10", 4000),
}
# Sets like a user's own pictures, each with its views, in short trainings with and without a generator.
OWN_PICTURES = {
    ("trashnet", "natural"): "TrashNet in pixels, 60 labels",
    ("letters", "drawings"): "letters, 60 labels",
    ("cells", "natural"): "cells, 60 labels",
}
WIDTH = 115
CURVE_LINES = 5  # lines of the table of errors during a training


def fast_table(dataset: str) -> str:
    """Make the table of error by labels, with and without a generator, and of the error during training."""
    cells: dict[tuple[int, str, int], list[Row]] = defaultdict(list)
    for row in sorted(rows(f"{dataset}-fast"), key=lambda row: row["draw_seed"]):
        if (kind := _kind(row)) is not None and row["error"] is not None:
            cells[row["labels"], kind, row["images"]].append(row)
    lines = ["| labels | | images | test error, % | each draw | minutes a draw |", "|---|---|---|---|---|---|"]
    for labels in sorted({labels for labels, _, _ in cells}):
        kinds_of_labels = [
            (KINDS.index(kind) if kind in KINDS else len(KINDS), images, kind)
            for n, kind, images in cells
            if n == labels
        ]
        lines += [_line(labels, kind, cells[labels, kind, images]) for _, images, kind in sorted(kinds_of_labels)]
        for published in PUBLISHED.get(dataset, ()):
            if published.method == "Improved GAN" and labels in published.errors:
                lines.append(f"| {labels:,} | *published: {published.source}* | | *{published.errors[labels]}* | | |")
    processor = next(iter(cells.values()))[0]["device_name"].split(",")[0]
    return "\n".join(
        [
            *lines,
            "",
            f"Test error of the averaged model after the last step, one thread of {processor}, on a busy machine.",
            f"Every draw is a row of [results/rows/{dataset}-fast.jsonl](../results/rows/{dataset}-fast.jsonl).",
            *_method_gaps(dataset, sorted({labels for labels, _, _ in cells})),
            *_curve(dataset, cells),
        ]
    )


def _method_gaps(dataset: str, numbers_of_labels: list[int]) -> list[str]:
    """Write the errors of other methods minus those of the GAN in about the same CPU time."""
    parts = []
    for labels in numbers_of_labels:
        errors = _equal_time_errors(dataset, labels)
        gaps = [f"{kind} {_gap(errors[PRESET], errors[kind])}" for kind in sorted(errors) if kind.startswith("`")]
        parts += [f"{labels:,} labels: {', '.join(gaps)}"] if gaps else []
    if not parts:
        return []
    text = (
        "The error of other methods minus that of the K+1 GAN, in points, paired by draw, ± standard error (draws): "
        f"{'; '.join(parts)}."
    )
    return ["", textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)]


def fast_sentence() -> str:
    """Write the errors and minutes of `mnist-fast` and `cifar10-fast`, with the errors of the paper."""
    mnist = "; ".join(_fast_error("mnist", labels) for labels in (FEWEST_LABELS, FAST_LABELS))
    text = (
        "**MNIST**, preset `mnist-fast` (GAN, views, pseudo-labels, label spreading; assumes balanced classes), one "
        f"thread: {mnist}. **CIFAR-10**, `cifar10-fast`: {_fast_error('cifar10', EQUAL_TIME['cifar10'][1])}."
    )
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _fast_error(dataset: str, labels: int) -> str:
    """Format the error of the longest trainings of a preset; of one draw, also that of the length with most draws."""
    published = next(one for one in PUBLISHED[dataset] if one.method == "Improved GAN").errors[labels]
    by_kind: dict[str | None, list[Row]] = defaultdict(list)
    for row in rows(f"{dataset}-fast"):
        if row["labels"] == labels:
            by_kind[_kind(row)].append(row)
    suffix = next(each for each in VARIANTS if by_kind[PRESET + each])
    found = by_kind[PRESET + suffix]
    lengths = Counter(row["images"] for row in found)
    longest = max(lengths)
    shown = [longest] if lengths[longest] > 1 else dict.fromkeys([longest, max(lengths, key=lengths.__getitem__)])
    texts = [_mean_text([row for row in found if row["images"] == images]) for images in shown]
    return f"{labels:,} labels{suffix} {', '.join(texts)}, paper {published}"


def _mean_text(found: Sequence[Row]) -> str:
    """Format mean and deviation of the errors of trainings, their number and their minutes."""
    errors, minutes = [row["error"] for row in found], statistics.median(row["seconds"] / 60 for row in found)
    spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
    draws = f"{len(errors)} draw{'s' * (len(errors) > 1)}"
    return f"{statistics.mean(errors):.2f}{spread} % ({draws}, {minutes:.0f} min)"


def time_points() -> dict[str, list[list[Row]]]:
    """Group the rows of error against CPU seconds: for each program, the draws of each length, shortest first."""
    programs: dict[str, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows("time-to-accuracy"):
        programs[row["program"]][row["seed"]].append(row)
    return {
        program: [list(point) for point in zip(*draws.values(), strict=True)] for program, draws in programs.items()
    }


def time_table() -> str:
    """Make the table of error against CPU seconds."""
    points = time_points()
    lines = ["| program | images | CPU seconds | test error, % | each draw |", "|---|---|---|---|---|"]
    for program, lengths in points.items():
        for point in lengths:
            images = f"{point[0]['images']:,}" if point[0]["images"] else ""
            seconds, errors = (statistics.mean(row[name] for row in point) for name in ("cpu_seconds", "error"))
            each = ", ".join(f"{row['error']:.2f}" for row in point)
            lines.append(f"| {program} | {images} | {seconds:,.0f} | {errors:.2f} | {each} |")
    first = next(iter(points.values()))[0][0]
    processor = first["device_name"].split(",")[0]
    return "\n".join(
        [
            *lines,
            "",
            f"MNIST, {first['labels']} labels, one thread of {processor}: seconds of the processor from the images to",
            "the model, without its evaluation. Every line of every draw is a row of",
            "[results/rows/time-to-accuracy.jsonl](../results/rows/time-to-accuracy.jsonl).",
        ]
    )


def generator_gain_table() -> str:
    """Make the table of the error that the generator saves, by data set, with the number of draws."""
    ablated: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows("digits-compare") + [{**row, "ablation": NO_GENERATOR} for row in rows("digits-fast")]:
        if (row["method"], row["labels"]) == ("gan", ABLATED_LABELS):
            ablated[row["preset"]][row.get("ablation") or PRESET][row["draw_seed"]] = row["error"]
    same_images, same_time = (_gap(of[PRESET], of[NO_GENERATOR]) for of in (ablated["digits"], ablated["digits-fast"]))
    gaps = {
        f"digits, {ABLATED_LABELS} labels, no views, as many images (`--ablate`)": same_images,
        f"digits, {ABLATED_LABELS} labels": same_time,
    }
    for dataset, (name, labels) in EQUAL_TIME.items():
        errors = _equal_time_errors(dataset, labels)
        suffix = next(each for each in VARIANTS if errors[PRESET + each].keys() & errors[NO_GENERATOR + each].keys())
        gaps[f"{name}, {labels:,} labels{suffix}"] = _gap(errors[PRESET + suffix], errors[NO_GENERATOR + suffix])
    for (name, views), words in OWN_PICTURES.items():
        errors = defaultdict(dict)
        for row in rows("own-pictures"):
            if (row["pictures"], row["settings"].get("augmentation", "digits")) == (name, views):
                kind = NO_GENERATOR if row["settings"].get("weight_fake") == 0 else PRESET
                errors[kind][row["draw_seed"]] = row["error"]
        gaps[words] = _gap(errors[PRESET], errors[NO_GENERATOR])
    return "\n".join(
        [
            "| what the generator is worth | points |",
            "|---|---|",
            *(f"| {words} | {gap} |" for words, gap in gaps.items()),
            "",
            "Test error without a generator minus that with it, ± standard error (draws): above 0 it helps. All",
            "lines but the first: with views and pseudo-labels, in about the same CPU time.",
        ]
    )


def _equal_time_errors(dataset: str, labels: int) -> dict[str, dict[int, float]]:
    """Return the errors of each kind of training by draw, for the shortest length, which has equal CPU time."""
    by_length: dict[str, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows(f"{dataset}-fast"):
        if row["labels"] == labels and (kind := _kind(row)) is not None:
            by_length[kind][row["images"]][row["draw_seed"]] = row["error"]
    return defaultdict(dict, {kind: lengths[min(lengths)] for kind, lengths in by_length.items()})


def _gap(ours: dict[int, float], others: dict[int, float]) -> str:
    """Format the error of others minus ours in points, paired by draw, with its standard error and draws."""
    gaps = [others[draw] - ours[draw] for draw in sorted(ours.keys() & others.keys())]
    mean = f"{round(statistics.mean(gaps), 2) + 0.0:+.2f}"
    if len(gaps) == 1:
        return f"{mean} (1)"
    return f"{mean} ± {statistics.stdev(gaps) / len(gaps) ** 0.5:.2f} ({len(gaps)})"


def _kind(row: Row) -> str | None:
    """Return the name of the training of a row; None if its settings are not those of a variant of the preset."""
    row_settings = {name: value for name, value in row["settings"].items() if name not in VARIED}
    settings = {"labels": row["labels"], "method": row["method"], **row_settings, "total_images": row["images"]}
    kind = f"`{row['method']}`" if row["method"] != "gan" else PRESET
    kind = NO_GENERATOR if row["settings"].get("weight_fake") == 0 else kind
    for suffix, variant in VARIANTS.items():
        if resolve(row["preset"], {**settings, **variant}).sha256 == row["config_sha256"]:
            return kind + suffix
    return None


def _line(labels: int, name: str, draws: list[Row]) -> str:
    errors = [row["error"] for row in draws]
    spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
    each = ", ".join(f"{error:.2f}" for error in errors)
    minutes = statistics.median(row["seconds"] / 60 for row in draws)
    images, mean = draws[0]["images"], statistics.mean(errors)
    return f"| {labels:,} | {name} | {images:,} | {mean:.2f}{spread} | {each} | {minutes:.0f} |"


def _curve(dataset: str, cells: dict[tuple[int, str, int], list[Row]]) -> list[str]:
    """Return the table of the error during the trainings of the preset, where it was measured."""
    if not (ROWS / f"{dataset}-fast-curves.jsonl").exists():
        return []
    curve_rows = rows(f"{dataset}-fast-curves")
    measured = {line["config_sha256"] for line in curve_rows}
    kind, models = max(
        (
            (kind, draws)
            for (_, kind, _), draws in cells.items()
            if kind.startswith(PRESET) and draws[0]["config_sha256"] in measured
        ),
        key=lambda pair: (pair[1][0]["images"], pair[0] == PRESET, len(pair[1])),
        default=("", []),
    )
    if not models:
        return []
    seeds = [row["seed"] for row in models]
    reports = [line for line in curve_rows if line["config_sha256"] == models[0]["config_sha256"]]
    by_images: dict[int, dict[int, float]] = defaultdict(dict)
    for line in reports:
        by_images[line["images"]][line["stack"][0]] = line["errors"][0]
    complete = [images for images, errors in sorted(by_images.items()) if set(seeds) <= errors.keys()]
    shown_images = complete[:: -max(1, len(complete) // CURVE_LINES)][::-1]
    lines = [
        "",
        f"| images, {models[0]['labels']:,} labels{kind.removeprefix(PRESET)} | test error, % | each draw |",
        "|---|---|---|",
    ]
    for images in shown_images:
        errors = [by_images[images][seed] for seed in seeds]
        lines.append(
            f"| {images:,} | {statistics.mean(errors):.2f} | {', '.join(f'{error:.2f}' for error in errors)} |"
        )
    return lines
