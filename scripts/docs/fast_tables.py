"""Tables of the presets for a CPU, `mnist-fast` and `cifar10-fast`, made from rows in `results/rows/`."""

import statistics
from collections import defaultdict
from typing import Any

from table_rows import rows

from ssgan.report.published import PUBLISHED

Row = dict[str, Any]
GENERATOR = {True: "K+1 GAN (the preset)", False: "without a generator"}
MARKS = 5  # lines of the table of errors during a training


def fast_table(dataset: str) -> str:
    """Make the table of error by labels, with and without a generator, and of the error during training."""
    cells: dict[tuple[int, bool], list[Row]] = defaultdict(list)
    for row in sorted(rows(f"{dataset}-fast"), key=lambda row: row["draw_seed"]):
        cells[row["labels"], row["settings"].get("weight_fake") != 0].append(row)
    lines = ["| labels | | images | test error, % | each draw | minutes a draw |", "|---|---|---|---|---|---|"]
    for labels in sorted({labels for labels, _ in cells}):
        for generator, name in GENERATOR.items():
            if found := cells.get((labels, generator)):
                lines.append(_line(labels, name, found))
        published = next(one for one in PUBLISHED[dataset] if one.method == "Improved GAN")
        if labels in published.errors:
            lines.append(f"| {labels:,} | *published: {published.source}* | | *{published.errors[labels]}* | | |")
    processor = next(iter(cells.values()))[0]["device_name"].split(",")[0]
    return "\n".join(
        [
            *lines,
            "",
            f"Test error of the averaged model after the last step, one thread of {processor}, beside other work.",
            f"Every draw is a row of [results/rows/{dataset}-fast.jsonl](../results/rows/{dataset}-fast.jsonl).",
            "",
            *_curve(dataset, cells),
        ]
    )


def _line(labels: int, name: str, found: list[Row]) -> str:
    errors = [row["error"] for row in found]
    spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
    each = ", ".join(f"{error:.2f}" for error in errors)
    minutes = statistics.median(row["seconds"] / 60 for row in found)
    images, mean = found[0]["images"], statistics.mean(errors)
    return f"| {labels:,} | {name} | {images:,} | {mean:.2f}{spread} | {each} | {minutes:.0f} |"


def _curve(dataset: str, cells: dict[tuple[int, bool], list[Row]]) -> list[str]:
    """Return the table of the error during the trainings of the preset."""
    models = max((found for (_, generator), found in cells.items() if generator), key=len)
    seeds = [row["seed"] for row in models]
    reports = [line for line in rows(f"{dataset}-fast-curves") if line["config_sha256"] == models[0]["config_sha256"]]
    by_images: dict[int, dict[int, float]] = defaultdict(dict)
    for line in reports:
        by_images[line["images"]][line["stack"][0]] = line["errors"][0]
    whole = [images for images, errors in sorted(by_images.items()) if set(seeds) <= errors.keys()]
    shown = whole[:: -max(1, len(whole) // MARKS)][::-1]
    lines = [f"| images, {models[0]['labels']:,} labels | test error, % | each draw |", "|---|---|---|"]
    for images in shown:
        errors = [by_images[images][seed] for seed in seeds]
        lines.append(
            f"| {images:,} | {statistics.mean(errors):.2f} | {', '.join(f'{error:.2f}' for error in errors)} |"
        )
    return lines
