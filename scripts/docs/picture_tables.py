"""Make tables of sets like a user's own pictures: with and without a generator, and by views."""

import statistics
import textwrap
from collections import defaultdict

from table_rows import adam_note, cell, rows

SETS = {
    "letters": "letters of many fonts, dark on light",
    "cells": "cells under a microscope, grey, synthetic",
    "trashnet": "TrashNet, photographs",
    "cifar10": "CIFAR-10, photographs",
}
#: Views to compare: first those that `train` chooses, then others.
VIEWS = {
    "trashnet": ("natural", "digits"),
    "cifar10": ("natural", "digits"),
    "cells": ("natural", "drawings"),
    "letters": ("drawings", "digits"),
}
WIDTH = 115  # letters in a line of a caption
Draws = dict[int, dict]


def _cells() -> dict[tuple[str, str, bool], Draws]:
    """Group the rows by set, views, use of a generator, and draw."""
    cells: dict[tuple[str, str, bool], Draws] = defaultdict(dict)
    for row in rows("own-pictures"):
        views = row["settings"].get("augmentation", "digits")
        cells[row["pictures"], views, row["settings"].get("weight_fake") != 0.0][row["draw_seed"]] = row
    return cells


def _paired(one: Draws, other: Draws) -> tuple[str, str, str, str]:
    """Format both errors on the draws that both have, their difference, and in how many draws the first is lower."""
    common = sorted(one.keys() & other.keys())
    gaps = [one[draw]["error"] - other[draw]["error"] for draw in common]
    standard_error = statistics.stdev(gaps) / len(gaps) ** 0.5
    difference = f"{statistics.mean(gaps):+.2f} ± {standard_error:.2f}"
    lower = f"{sum(gap < 0 for gap in gaps)} of {len(gaps)} draws"
    return cell([one[draw] for draw in common]), cell([other[draw] for draw in common]), difference, lower


def generator_table() -> str:
    """Make the table of error without and with a generator, at equal CPU time."""
    cells = _cells()
    lines = [
        "| pictures | labels | without a generator | with one | difference | lower without | CPU seconds of both |",
        "|---" * 7 + "|",
    ]
    lengths = set()
    shown: list[dict] = []
    for name, set_name in SETS.items():
        for views in VIEWS[name]:
            without, with_one = cells.get((name, views, False), {}), cells.get((name, views, True), {})
            if not with_one:
                continue
            seconds = [statistics.mean(row["cpu_seconds"] for row in each.values()) for each in (without, with_one)]
            first, second, difference, lower = _paired(without, with_one)
            one, other = next(iter(without.values())), next(iter(with_one.values()))
            shown += [*without.values(), *with_one.values()]
            lengths.add((other["images"], one["images"]))
            times = " and ".join(f"{each:.0f}" for each in seconds)
            columns = [f"{set_name}, views `{views}`", str(one["labels"]), first, second, difference, lower, times]
            lines.append(f"| {' | '.join(columns)} |")
    images = " and ".join(f"{without:,}" for _, without in sorted(lengths))
    text = (
        "Error in % on pictures held out, mean ± standard deviation over draws of labels, and the paired difference "
        f"with its standard error. Equal CPU time: {min(lengths)[0]:,} images with a generator, {images} without. One "
        "thread, on a busy machine. None of these pictures is of the test set of a published figure."
        f"{''.join(f' {note}' for note in adam_note(shown))}"
    )
    return "\n".join([*lines, "", *textwrap.wrap(text, WIDTH)])


def views_table() -> str:
    """Make the table of error by views."""
    cells = _cells()
    lines = ["| pictures | views chosen | error | other views | error | difference | lower |", "|---" * 7 + "|"]
    shown: list[dict] = []
    for name, (chosen, other) in VIEWS.items():
        if len(cells[name, chosen, False].keys() & cells[name, other, False].keys()) < 2:
            continue
        shown += [*cells[name, chosen, False].values(), *cells[name, other, False].values()]
        first, second, difference, lower = _paired(cells[name, chosen, False], cells[name, other, False])
        lines.append(f"| {SETS[name]} | `{chosen}` | {first} | `{other}` | {second} | {difference} | {lower} |")
    text = (
        "Error in % on pictures held out, without a generator; mean ± standard deviation over draws of labels, and the "
        "paired difference with its standard error. Every draw is a row of"
    )
    source = "[results/rows/own-pictures.jsonl](../results/rows/own-pictures.jsonl)."
    return "\n".join([*lines, "", *textwrap.wrap(text, WIDTH), source, *adam_note(shown)])
