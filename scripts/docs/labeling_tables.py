"""Make tables of error by number of labels and strategy, from the rows of the simulated labeller."""

import statistics
from collections import defaultdict
from typing import Any

from table_rows import cell, rows

Row = dict[str, Any]
STRATEGIES = {
    "random": "random",
    "balanced": "random, as many of each class",
    "typical": "`suggest --strategy typical`",
    "auto": "`suggest` (`auto`)",
}
SETS = {
    "digits": "digits",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10, features at 96 px",
    "trashnet": "TrashNet, features at 160 px",
}
CLASSES = {name: 6 if name == "trashnet" else 10 for name in SETS}


def labeling_cells() -> dict[str, dict[str, dict[int, list[Row]]]]:
    """Return the rows by data set, strategy and number of labels."""
    cells: dict[str, dict[str, dict[int, list[Row]]]] = {}
    for row in rows("labeling"):
        by_strategy = cells.setdefault(row["dataset"], defaultdict(lambda: defaultdict(list)))
        by_strategy[row["strategy"]][row["labels"]].append(row)
    return cells


def labeling_table() -> str:
    """Make one table for each data set."""
    lines, seeds = [], set()
    for name, by_strategy in labeling_cells().items():
        labels = sorted({n for cells in by_strategy.values() for n in cells})
        lines += [f"| {SETS[name]} | " + " | ".join(f"{n} labels" for n in labels) + " |"]
        lines += ["|---" * (len(labels) + 1) + "|"]
        for strategy, strategy_name in STRATEGIES.items():
            if cells := by_strategy.get(strategy):
                lines.append(f"| {strategy_name} | " + " | ".join(_cell(cells.get(n, [])) for n in labels) + " |")
                seeds |= {len(cells[n]) for n in labels}
        lines.append("")
    draws = " or ".join(map(str, sorted(seeds - {0})))
    return "\n".join(
        [
            *lines,
            f"Test error in %, mean ± standard deviation over {draws} pools; in brackets the mean number of classes",
            "with a label, where that is not all of them. The trainings are short: these are differences between",
            "choices, not the errors of the presets. Each training is a row of",
            "[results/rows/labeling.jsonl](../results/rows/labeling.jsonl).",
        ]
    )


def _cell(cell_rows: list[Row]) -> str:
    if len(cell_rows) < 2:
        return " "
    classes = statistics.mean(row["labeled_classes"] for row in cell_rows)
    return cell(cell_rows) + (f" ({classes:.1f})" if classes < CLASSES[cell_rows[0]["dataset"]] else "")
