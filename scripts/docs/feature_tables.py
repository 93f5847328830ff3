"""Make tables of the K+1 GAN and other methods on features of a backbone, from rows in `results/rows/`."""

import statistics
import textwrap
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from scipy import stats
from table_rows import adam_note, cell, rows

Row = dict[str, Any]
#: Methods in the order of the table, with their names.
METHODS = {
    "gan": "**K+1 GAN** (`gan`)",
    "supervised": "the same D, labels alone (`supervised`)",
    "pseudo-label": "`pseudo-label`",
    "pi": "`pi`",
    "mean-teacher": "`mean-teacher`",
    "vat": "`vat`",
    "fixmatch": "`fixmatch`, with crops as views",
    "logistic-regression": "logistic regression",
    "svm": "support vector machine",
    "knn": "nearest neighbour",
    "label-spreading": "label spreading",
    "label-propagation": "label propagation",
    "self-training": "self-training",
}
SMOOTH = "neighbours"
CONFIDENCE = 0.95
WIDTH = 115  # letters in a line of a caption


def feature_table(name: str) -> str:
    """Make the table of error by method and labels, with the paired difference of the K+1 GAN."""
    cells: dict[tuple[str, bool], dict[int, dict[int, Row]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows(f"features-{name}"):
        cells[row["method"], SMOOTH in row["backbone"]][row["labels"]][row["draw_seed"]] = row
    gan = cells["gan", True]
    labels = sorted(gan)
    lines = ["| method | " + " | ".join(f"{n:,} labels" for n in labels) + " |", "|---" * (len(labels) + 1) + "|"]
    for smooth in (True, False):
        for method, method_name in METHODS.items():
            if (method, smooth) in cells:
                draws = cells[method, smooth]
                name_shown = method_name if smooth else f"{method_name}, features not averaged"
                lines.append(f"| {name_shown} | " + " | ".join(_compared(draws[n], gan[n]) for n in labels) + " |")
    return "\n".join([*lines, "", *_caption(name, gan, labels)])


def _compared(draws: Mapping[int, Row], gan: Mapping[int, Row]) -> str:
    """Format mean and deviation, and the error of the GAN minus this error on the same draws."""
    if not draws:
        return " "
    text = cell([*draws.values()])
    gaps = [gan[d]["error"] - draws[d]["error"] for d in sorted(draws.keys() & gan.keys()) if draws[d] is not gan[d]]
    if len(gaps) < 2 or not any(gaps):
        return text
    mean = statistics.mean(gaps)
    margin = stats.t.ppf((1 + CONFIDENCE) / 2, len(gaps) - 1) * statistics.stdev(gaps) / len(gaps) ** 0.5
    return f"{text} ({mean:+.1f} ± {margin:.1f})"


def _caption(name: str, gan: Mapping[int, Mapping[int, Row]], labels: list[int]) -> list[str]:
    """Write the caption of the table."""
    one = next(iter(gan[labels[0]].values()))
    draws = len(gan[labels[0]])
    return [
        f"Test error in %, mean ± standard deviation over {draws} label draws. In brackets: error of the K+1 GAN minus",
        "that of the method, paired by draw, with its 95 % interval; below 0 the GAN is better. Features:",
        f"{one['backbone']}. Every draw is a row of",
        f"[results/rows/features-{name}.jsonl](../results/rows/features-{name}.jsonl).",
    ]


def pixel_table() -> str:
    """Make the table of photographs learned from pixels and from features, with seconds."""
    of_features = [row for row in rows("features-trashnet") if SMOOTH in row["backbone"]]
    sources = {"features": of_features, "pixels": rows("pixels-trashnet")}
    labels = sorted({row["labels"] for row in sources["pixels"]})
    lines = ["| learned from | " + " | ".join(f"{n} labels" for n in labels) + " | seconds a model |"]
    lines.append("|---" * (len(labels) + 2) + "|")
    for source_name, source in sources.items():
        for method in ("gan", "supervised"):
            method_rows = [row for row in source if row["method"] == method]
            seconds = statistics.median(row["seconds"] / len(row["stack"]) for row in method_rows)
            errors = [cell([row for row in method_rows if row["labels"] == n]) for n in labels]
            draws = len({row["draw_seed"] for row in method_rows})
            lines.append(f"| {source_name}, `{method}` ({draws} draws) | " + " | ".join(errors) + f" | {seconds:.0f} |")
    return "\n".join([*lines, "", *_pixel_caption(sources)])


def _pixel_caption(sources: Mapping[str, list[Row]]) -> list[str]:
    """Write the caption of the table."""
    of_features, of_pixels = (next(row for row in source if row["method"] == "gan") for source in sources.values())
    text = (
        f"Test error in % on TrashNet, mean ± standard deviation. Features of {of_features['backbone'].split(',')[0]}; "
        f"pixels at 32 px, {of_pixels['images']:,} images. One thread, on a busy machine."
        f"{''.join(f' {note}' for note in adam_note([of_pixels]))}"
    )
    return textwrap.wrap(text, WIDTH)
