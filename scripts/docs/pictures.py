"""Draw the pictures of the documents from committed rows and pictures."""

import io
import itertools
import statistics
from collections import defaultdict
from typing import Any

import matplotlib
import numpy as np
from fast_tables import time_points
from labeling_tables import SETS, labeling_cells
from matplotlib import pyplot as plt
from PIL import Image
from recipe_tables import EPOCHS, LABELS, mnist_curves, recipe_curves
from table_rows import ROOT, rows

from ssgan.files import write_atomic
from ssgan.report.published import PUBLISHED

PICTURES = ROOT / "docs" / "pictures"
# The grid by class in docs/gan.md: the column of class names, and the side of a tile with its gap.
CAPTION_PIXELS, TILE_PIXELS = 80, 58
LINES = {
    "supervised": ("the same network, labels alone", "tab:gray"),
    "label-propagation": ("label propagation", "tab:orange"),
    "gan": ("K+1 GAN", "tab:blue"),
}


def first_picture() -> plt.Figure:
    """Draw error against labels for every draw, and images generated on MNIST by class."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.1), width_ratios=(1.25, 1))
    errors: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in rows("digits-compare"):
        if row["preset"] in ("digits-fast", None) and row["method"] in LINES:
            errors[row["method"], row["labels"]].append(row["error"])
    labels = sorted({n for _, n in errors})
    for i, (method, (name, colour)) in enumerate(LINES.items()):
        places = np.arange(len(labels)) + 0.1 * (i - 1)
        means = [statistics.mean(errors[method, n]) for n in labels]
        left.plot(places, means, "-o", color=colour, label=name, zorder=3)
        for place, n, mean in zip(places, labels, means, strict=True):
            each = errors[method, n]
            left.plot([place] * len(each), each, ".", color=colour, alpha=0.4, markersize=7, markeredgewidth=0)
            if method != "label-propagation":
                left.annotate(f"{mean:.1f}", (place, mean), (8, 5), textcoords="offset points", color=colour)
    left.set_xticks(np.arange(len(labels)), [str(n) for n in labels])
    left.set(xlabel="labelled images", ylabel="test error, %", ylim=(0, None))
    left.set_title("scikit-learn's digits: mean and each label draw", fontsize=11)
    left.legend(frameon=False)
    with Image.open(PICTURES / "walk-4.png") as image:
        right.imshow(np.asarray(image.convert("L"))[:, CAPTION_PIXELS:], cmap="gray", vmin=0, vmax=255)
    right.set_yticks(TILE_PIXELS * np.arange(10) + TILE_PIXELS / 2, list("0123456789"))
    right.set_xticks([])
    right.tick_params(length=0)
    right.set_ylabel("class given by the discriminator")
    right.set_title("MNIST, 100 labels: generated images", fontsize=11)
    right.spines[:].set_visible(False)
    return figure


def mnist_picture() -> plt.Figure:
    """Draw error and feature matching over the epochs of the short MNIST runs, with generated digits."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), width_ratios=(1.2, 1.2, 1))
    colours = {True: "tab:blue", False: "tab:orange"}
    for inside, seeds in mnist_curves().items():
        for seed, line in seeds.items():
            name = f"epsilon {'inside' if inside else 'outside'} the root" if seed == min(seeds) else None
            left.plot(list(line), [one["errors"][0] for one in line.values()], color=colours[inside], label=name)
            left.plot(list(line), [one["errors_raw"][0] for one in line.values()], ":", color=colours[inside])
            middle.plot(list(line), [one["feature_matching"][0] for one in line.values()], ".-", color=colours[inside])
    left.set(xlabel="epochs", ylabel="test error, %", ylim=(0, None), title="MNIST, 100 labels (dotted: not averaged)")
    middle.set(xlabel="epochs", ylabel="feature matching loss", yscale="log", title="loss of the generator")
    left.legend(frameon=False)
    with Image.open(PICTURES / "mnist-short-samples.png") as samples:
        right.imshow(samples, cmap="gray")
    right.set(title="generated digits")
    right.axis("off")
    return figure


def recipe_picture() -> plt.Figure:
    """Draw the error over the epochs of the paper's recipe on MNIST, a line for each draw, with the published error."""
    figure, axes = plt.subplots(figsize=(7.2, 3.6))
    for seed, line in recipe_curves().items():
        for kind, style, model in (("errors", "-", "averaged D"), ("errors_raw", ":", "last D")):
            errors = [one[kind][0] for one in line.values()]
            axes.plot(list(line), errors, style, color=f"C{seed}", label=f"draw {seed}, {model}")
    published = next(one for one in PUBLISHED["mnist"] if one.method == "Improved GAN")
    mean, deviation = map(float, published.errors[LABELS].split(" ± "))
    axes.axhspan(mean - deviation, mean + deviation, color="tab:gray", alpha=0.4, linewidth=0)
    axes.axhline(mean, color="tab:gray", linewidth=1, label=f"published, {EPOCHS} epochs: {published.errors[LABELS]}")
    axes.set(xlabel="epochs", ylabel="test error, %", yscale="log", xlim=(0, EPOCHS), title=f"MNIST, {LABELS} labels")
    axes.set_yticks((1, 2, 5, 10, 20), ("1", "2", "5", "10", "20"))
    axes.minorticks_off()
    axes.legend(frameon=False)
    return figure


def labeling_picture() -> plt.Figure:
    """Draw error against labels by strategy, one diagram for each data set."""
    cells = labeling_cells()
    figure, all_axes = plt.subplots(1, len(cells), figsize=(2.6 * len(cells) + 0.6, 3.0), squeeze=False)
    colours = {"random": "tab:gray", "balanced": "tab:orange", "typical": "tab:green", "auto": "tab:blue"}
    for axes, (name, by_strategy) in zip(all_axes[0], cells.items(), strict=True):
        for strategy, cells_of_labels in by_strategy.items():
            labels = sorted(cells_of_labels)
            means = [statistics.mean(row["error"] for row in cells_of_labels[n]) for n in labels]
            axes.plot(labels, means, "o-", color=colours[strategy], label=strategy, markersize=4)
            for n in labels:
                each = [row["error"] for row in cells_of_labels[n]]
                axes.plot([n] * len(each), each, ".", color=colours[strategy], alpha=0.3, markersize=4)
        axes.set(xscale="log", ylim=(0, None), title=SETS[name].split(",")[0], xlabel="labelled images")
        axes.set_xticks(labels, [str(n) for n in labels])
        axes.minorticks_off()
    all_axes[0, 0].set_ylabel("test error, %")
    all_axes[0, 0].legend(frameon=False)
    return figure


def time_picture() -> plt.Figure:
    """Draw error against CPU seconds, a line for each program and a point for each draw."""
    figure, axes = plt.subplots(figsize=(7.2, 4.0))
    for number, (program, lengths) in enumerate(time_points().items()):
        means = [
            [statistics.mean(row[name] for row in point) for point in lengths] for name in ("cpu_seconds", "error")
        ]
        axes.plot(*means, "o-", color=f"C{number}", label=program, markersize=4)
        for row in itertools.chain(*lengths):
            axes.plot(row["cpu_seconds"], row["error"], ".", color=f"C{number}", alpha=0.4, markersize=4)
    axes.set(xscale="log", yscale="log", xlabel="CPU seconds, one thread", ylabel="test error, %")
    axes.set(title="MNIST, 100 labels")
    for set_ticks, ticks in ((axes.set_xticks, (3, 10, 30, 100, 300)), (axes.set_yticks, (1, 2, 5, 10, 20))):
        set_ticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _save(figure: Any, name: str) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content, dpi=110, metadata={"Software": None})
    plt.close(figure)
    write_atomic(PICTURES / name, content.getvalue())


def draw() -> None:
    """Draw every picture."""
    matplotlib.use("Agg")
    _save(first_picture(), "few-labels.png")
    _save(mnist_picture(), "mnist-short.png")
    _save(recipe_picture(), "mnist-paper.png")
    _save(labeling_picture(), "labeling.png")
    _save(time_picture(), "time-to-accuracy.png")
