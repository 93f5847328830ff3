"""Make tables of the paper's recipe on MNIST, `mnist-paper`, from rows in `results/rows/`."""

import statistics
import textwrap
from typing import Any

from table_rows import rows

from ssgan.report.published import PUBLISHED

MNIST_POOL = 60_000
LABELS, EPOCHS = 100, 300
EPOCHS_SHOWN = (1, 5, 10, 16, 26, 40)
EPOCHS_OF_RECIPE = (5, 10, 40, 100, 150, 200, 250, 300)
EPSILONS = {True: "inside the root (paper's code; the preset)", False: "outside (torch.optim)"}
MODELS = {"errors": "averaged", "errors_raw": "last"}
PUBLISHED_DRAWS = 10
WIDTH = 115


def mnist_curves() -> dict[bool, dict[int, dict[float, dict[str, Any]]]]:
    """Group the reports of the short MNIST runs by place of epsilon (True: inside the root), seed and epochs."""
    curves: dict[bool, dict[int, dict[float, dict[str, Any]]]] = {True: {}, False: {}}
    for line in rows("mnist-short-curves"):
        inside, (seed,) = line["settings"].get("adam_epsilon_inside_root", True), line["stack"]
        curves[inside].setdefault(seed, {})[line["images"] / MNIST_POOL] = line
    return curves


def mnist_table() -> str:
    """Make the table of error during training, by the place of Adam's epsilon."""
    curves = mnist_curves()
    shown = [e for e in EPOCHS_SHOWN if any(e in line for line in curves[True].values())]
    lines = ["| Adam's epsilon | model | " + " | ".join(f"{e} epoch" + "s" * (e > 1) for e in shown) + " |"]
    lines.append("|---" * (len(shown) + 2) + "|")
    for inside, name in EPSILONS.items():
        for kind, model in MODELS.items():
            cells = []
            for epoch in shown:
                errors = [line[epoch][kind][0] for line in curves[inside].values() if epoch in line]
                each = ", ".join(f"{error:.2f}" for error in errors)
                cells.append(f"{statistics.mean(errors):.2f} ({each})" if errors else " ")
            lines.append(f"| {name} | {model} | " + " | ".join(cells) + " |")
    longest = [row for row in rows("mnist-short") if row["settings"].get("adam_epsilon_inside_root", True)]
    seconds, images = (statistics.mean(row[key] for row in longest) for key in ("seconds", "images"))
    lines += [
        "",
        f"Test error in % with {longest[0]['labels']} labels, mean and each of {len(longest)} label draws, of the",
        f"averaged discriminator and of the last one. {images / MNIST_POOL:.0f} of the recipe's 300 epochs",
        f"took {seconds / 60:.0f} minutes a draw on {longest[0]['device_name']}, two draws side by side and",
        "other work beside them.",
        "Every draw is a row of [results/rows/mnist-short.jsonl](../results/rows/mnist-short.jsonl).",
    ]
    return "\n".join(lines)


def recipe_curves() -> dict[int, dict[float, dict[str, Any]]]:
    """Group the reports of the full trainings by seed and epochs."""
    curves: dict[int, dict[float, dict[str, Any]]] = {}
    for line in rows("mnist-paper-curves"):
        curves.setdefault(line["stack"][0], {})[line["images"] / MNIST_POOL] = line
    return curves


def recipe_table() -> str:
    """Make the table of the error during the full recipe, with the published error."""
    curves = recipe_curves()
    lines = ["| epochs | averaged D, each draw | last D, each draw |", "|---|---|---|"]
    reached = [max(line) for line in curves.values()]
    shown = {*reached, *(epoch for epoch in EPOCHS_OF_RECIPE if epoch <= max(reached))}
    for epoch in sorted(shown):
        each = [
            ", ".join(f"{line[epoch][kind][0]:.2f}" for line in curves.values() if epoch in line) for kind in MODELS
        ]
        lines.append(f"| {epoch:.0f} | {' | '.join(each)} |")
    published = next(one for one in PUBLISHED["mnist"] if one.method == "Improved GAN")
    lines.append(f"| *{EPOCHS}, published: {published.source}* | *{published.errors[LABELS]}* | |")
    finished = [seed for seed, line in curves.items() if EPOCHS in line]
    models = rows("mnist-paper")
    hours = statistics.mean(row["seconds"] for row in models) / 3600
    remaining = PUBLISHED_DRAWS * len(published.errors) - len(finished)
    unfinished = [f"draw {seed} after {max(line):.0f} epochs" for seed, line in curves.items() if seed not in finished]
    text = (
        f"Test error in % with {LABELS} labels, on {models[0]['device_name']}, with other work beside it; "
        f"{EPOCHS} epochs take {hours:.1f} hours. "
        f"{'Training was stopped: ' + ', '.join(unfinished) + '. ' if unfinished else ''}"
        f"The remaining {remaining} trainings of the paper's table, {PUBLISHED_DRAWS} draws of "
        f"{', '.join(map(str, sorted(published.errors)))} labels, would take {remaining * hours:.0f} hours. Every "
        "report is a row of [results/rows/mnist-paper-curves.jsonl](../results/rows/mnist-paper-curves.jsonl)."
    )
    return "\n".join([*lines, "", textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)])
