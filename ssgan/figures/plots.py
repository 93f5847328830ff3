"""Draw the confusion matrix and the reliability diagram of an evaluation as PNG."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssgan.figures.fonts import fonts_for, legible
from ssgan.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COUNTED_CLASSES",
    "SERIES",
    "as_png",
    "confusion_png",
    "new_figure",
    "reliability_png",
    "save",
    "set_title",
]


DPI = 120
# Largest numbers of classes for which a matrix has room for the counts, and for the names of its rows and columns.
COUNTED_CLASSES = 25
NAMED_CLASSES = 120
NAME_WIDTH = 32  # letters in a line of a name
#: Colours of lines that readers of every colour vision can tell apart.
SERIES = ("#0a6aa8", "#c44e00", "#00785a", "#9c4088", "#7d6200", "#4d5661")


def save(result: Mapping[str, Any], folder: Path, suffix: str = "") -> dict[str, str]:
    """Write ``confusion.png`` and ``reliability.png`` of an evaluation, each complete or not at all.

    Parameters
    ----------
    result : mapping
        As :func:`ssgan.inference.evaluate.evaluate_run` returns it, if not all models diverged.
    folder : Path
    suffix : str
        Part of the file names, such as ``-other`` for ``confusion-other.png``.

    Returns
    -------
    dict of str to str
        The two paths, as ``confusion`` and ``reliability``.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    from matplotlib import style

    head = f"{result['dataset']}, {result['predictions_of']}"
    of_models = result["ece_mean"] if result.get("temperature") is None else result["ece_scaled_mean"]
    ece = result["ensemble"]["ece"] if "ensemble" in result else of_models
    # The bins count the predictions of all models together; their ECE is the mean over the models.
    mean = "" if "ensemble" in result or result["predictions_of"] == "1 model" else "mean "
    with style.context("default"):  # ignore the user's own matplotlibrc
        pictures = {
            "confusion": confusion_png(result["confusion"], result["classes"], head),
            "reliability": reliability_png(result["reliability"], f"{head}: {mean}ECE {ece:.3f}"),
        }
    paths = {name: folder / f"{name}{suffix}.png" for name in pictures}
    for name, content in pictures.items():
        write_atomic(paths[name], content)
    return {name: str(path) for name, path in paths.items()}


def confusion_png(confusion: Sequence[Sequence[int]], classes: Sequence[str], head: str) -> bytes:
    """Draw a confusion matrix: rows are true classes, columns predicted ones, colours the fraction of the row.

    Parameters
    ----------
    confusion : K sequences of K int
    classes : sequence of str
        Names of the classes. With more than 120 classes the axes have numbers instead. A name with characters that
        no installed font has is drawn as its number, ``#3``.
    head : str
        Title.
    """
    import numpy as np
    from matplotlib.colors import PowerNorm

    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    K = len(counts)
    cell_inches = 0.6 if K <= COUNTED_CLASSES else 0.16
    side = min(max(3.2, K * cell_inches), 20.0)
    figure = new_figure(side + 1.2, side)
    axes = figure.add_subplot()
    # The power norm makes a fraction of 1 % visible next to the diagonal.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.4, 0.0, 1.0), interpolation="nearest")
    figure.colorbar(image, label="share of the true class", fraction=0.046, ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 1])
    axes.set(xlabel="predicted class", ylabel="true class")
    set_title(axes, head)
    if K <= NAMED_CLASSES:
        size = 9 if K <= COUNTED_CLASSES else 6
        fonts, names = fonts_for(classes)[0], [textwrap.fill(name, NAME_WIDTH) for name in legible(classes)]
        vertical = max(map(len, names)) > 3 or K > COUNTED_CLASSES
        style: dict[str, Any] = {"fontsize": size, "fontfamily": fonts, "parse_math": False}
        axes.set_xticks(range(K), names, rotation=90 if vertical else 0, **style)
        axes.set_yticks(range(K), names, **style)
    if K <= COUNTED_CLASSES:
        points = min(9.0, 34 / len(f"{counts.max()}"))
        for i, j in np.argwhere(counts):
            colour = "white" if shares[i, j] > 0.4 else "black"
            axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=colour, fontsize=points)
    return as_png(figure)


def reliability_png(bins: Sequence[Mapping[str, Any]], head: str) -> bytes:
    """Draw accuracy and count against confidence.

    Parameters
    ----------
    bins : sequence of mapping
        As :func:`ssgan.inference.metrics.reliability` returns them.
    head : str
        Title.
    """
    figure = new_figure(5.2, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    occupied = [b for b in bins if b["count"]]
    left, width = [b["low"] for b in occupied], 1 / len(bins)
    accuracy, confidence = ([b[key] for b in occupied] for key in ("accuracy", "confidence"))
    upper.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="calibrated")
    upper.bar(left, accuracy, width, align="edge", color="tab:blue", edgecolor="white", label="accuracy")
    low = [min(pair) for pair in zip(accuracy, confidence, strict=True)]
    gap = [abs(a - c) for a, c in zip(accuracy, confidence, strict=True)]
    hatched = {"color": "none", "edgecolor": "tab:red", "hatch": "////", "linewidth": 0.8}
    upper.bar(left, gap, width, bottom=low, align="edge", label="gap to the mean confidence", **hatched)
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    set_title(upper, head)
    upper.legend(loc="upper left", framealpha=0.9, fontsize=8)
    lower.bar(left, [b["count"] for b in occupied], width, align="edge", color="0.6", edgecolor="white")
    lower.set(xlabel="confidence", ylabel="images", yscale="log")
    lower.set_ylim(bottom=0.5)
    return as_png(figure)


def new_figure(width: float, height: float) -> "Figure":
    """Make a figure of this size in inches on the Agg canvas, which needs no screen and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: "Figure", tight: bool = True) -> bytes:
    """Render a figure as PNG without the name and version of the software, so that its bytes do not change with them.

    ``tight`` crops the margins, for which the figure is rendered twice.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", bbox_inches="tight" if tight else None, metadata={"Software": None})
    return content.getvalue()


def set_title(axes: "Axes", text: str, **style: Any) -> None:
    """Set a title, with a question mark for each character that no installed font has."""
    fonts, missing = fonts_for([text])
    legible = "".join("?" if ord(c) in missing else c for c in text)
    axes.set_title(textwrap.fill(legible, 60), parse_math=False, fontfamily=fonts, **style)
