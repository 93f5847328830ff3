"""Make the table of the methods with the lowest error on each data set, from rows in `results/rows/`."""

import statistics
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from feature_tables import SMOOTH, WIDTH
from table_rows import adam_note, rows

Row = dict[str, Any]
SHOWN = 3  # methods with the lowest errors


class Comparison(NamedTuple):
    """A file of rows of many methods on the same draws, the name of its data, and the presets to use."""

    name: str
    data: str
    presets: tuple[str, ...]


COMPARISONS = (
    Comparison("digits-compare", "digits, 8x8", ("digits-fast",)),
    Comparison("mnist-compare", "MNIST, 28x28", ("images",)),
    Comparison("fashion-mnist-compare", "Fashion-MNIST, 28x28", ("images",)),
    Comparison("features-trashnet", "TrashNet, photographs, by features", ("features",)),
    Comparison("features-cifar10", "CIFAR-10, photographs, by features", ("features",)),
)


class Line(NamedTuple):
    """The methods of one data set and number of labels: their common draws, and the rows of these draws."""

    data: str
    labels: int
    draws: list[int]
    methods: dict[str, list[Row]]

    def error(self, method: str) -> float:
        """Return the mean error of a method."""
        return statistics.mean(row["error"] for row in self.methods[method])

    def by_error(self) -> list[str]:
        """Return the methods, sorted by mean error."""
        return sorted(self.methods, key=self.error)

    def cell(self, method: str) -> str:
        """Format error and time of a method."""
        seconds = statistics.median(row["seconds"] / len(row.get("stack") or [0]) for row in self.methods[method])
        return (
            f"`{method}` {self.error(method):.2f} ({seconds:.0f} s)"
            if seconds >= 1
            else (f"`{method}` {self.error(method):.2f} (below 1 s)")
        )


def lines() -> Iterator[Line]:
    """Read the comparisons; each line has only the draws that every method has."""
    for comparison in COMPARISONS:
        cells: dict[int, dict[str, dict[int, Row]]] = defaultdict(lambda: defaultdict(dict))
        for row in rows(comparison.name):
            has_preset = row["preset"] in (*comparison.presets, None) and not row.get("ablation")
            if has_preset and (row.get("backbone") is None or SMOOTH in row["backbone"]) and row["error"] is not None:
                cells[row["labels"]][row["method"]][row["draw_seed"]] = row
        for labels, methods in sorted(cells.items()):
            draws = sorted(set.intersection(*({*draws} for draws in methods.values())))
            yield Line(
                comparison.data, labels, draws, {name: [each[d] for d in draws] for name, each in methods.items()}
            )


def choice_table() -> str:
    """Make the table of the lowest errors by data and number of labels, with counts of the best methods."""
    table = ["| data | labels | draws | lowest error, % | second | third | `gan` | `supervised` |", "|---" * 8 + "|"]
    all_lines = list(lines())
    lowest_counts: dict[str, int] = defaultdict(int)
    top_counts: dict[str, int] = defaultdict(int)
    for line in all_lines:
        best = line.by_error()[:SHOWN]
        lowest_counts[best[0]] += 1
        for method in best:
            top_counts[method] += 1
        top_cells = " | ".join(map(line.cell, best))
        two_errors = " | ".join(f"{line.error(method):.2f}" for method in ("gan", "supervised"))
        table.append(f"| {line.data} | {line.labels:,} | {len(line.draws)} | {top_cells} | {two_errors} |")
    lowest = ", ".join(f"`{name}` {count}" for name, count in sorted(lowest_counts.items(), key=lambda item: -item[1]))
    often = ", ".join(f"`{name}` {count}" for name, count in sorted(top_counts.items(), key=lambda item: -item[1]))
    devices = sorted({row["device_name"] for line in all_lines for each in line.methods.values() for row in each})
    files = ", ".join(f"[{c.name}.jsonl](../results/rows/{c.name}.jsonl)" for c in COMPARISONS)
    machines = "; ".join(devices)
    all_rows = [row for line in all_lines for each in line.methods.values() for row in each]
    notes = "".join(f"{note} " for note in adam_note(all_rows))
    text = (
        f"Mean test error in % over label draws that all methods of the line share, and in brackets the time of a "
        f"model. Lines in which a method has the lowest mean, of {len(all_lines)}: {lowest}; in which it is among the "
        f"lowest {SHOWN}: {often}. With so few draws, methods whose errors are close are not told apart. Times are "
        f"those of the rows ({machines}), partly with other work beside them, and without the computation of features, "
        f"averaged here with their neighbours (some errors are [lower without](features.md) this). {notes}"
        f"Rows: {files}."
    )
    return "\n".join([*table, "", *textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)])
