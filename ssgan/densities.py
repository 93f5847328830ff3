"""The one-dimensional GAN to look at: densities of target and generated numbers beside D(x), at moments of training.

A moment is a line of ``densities.jsonl`` in the run folder, and all of them are drawn as ``density.png``.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssgan.config import Config
from ssgan.files import write_atomic
from ssgan.plots import as_png, new_figure

if TYPE_CHECKING:
    from ssgan.inference import Models

__all__ = ["FILE", "PICTURE", "density_png", "draw", "due", "moments", "trim", "write"]

FILE, PICTURE = "densities.jsonl", "density.png"
# Of training: mostly early, where most happens.
MOMENTS = (0.0, 1 / 64, 1 / 16, 1 / 4, 1 / 2, 1.0)
SAMPLES, BINS, POINTS = 10_000, 120, 241
# What is shown: so many deviations around the mean, and at least where an untrained generator's numbers lie.
DEVIATIONS, LEAST = 5.0, 4.0
TALLEST = 2.5  # times the top of the target: an untrained generator's peak is cut off there
INK, TARGET, GENERATED, JUDGED = "#1d2126", "#8a929c", "#0a6aa8", "#c44e00"

Normal = tuple[float, float]


def due(normal: Normal | None, config: Config, step: int) -> bool:
    """Whether a moment is kept after this step: at fixed shares of training, where the target's density is known."""
    steps = {max(1, round(share * config.steps)) for share in MOMENTS}
    return normal is not None and config.trains_generator and step in steps


def write(run: Path, models: "Models", normal: Normal, images: int) -> None:
    """Add the moment of so many images: counts of the first model's numbers, and its D as it is now over the range."""
    one = models.only(models.seeds[:1])
    low, high = _range(normal)
    x = np.linspace(low, high, POINTS, dtype=np.float32)[:, None]
    p_real = 1.0 - one.generated_probability(x, averaged=False)[0]
    numbers = one.draws(SAMPLES, models.config.seed)[0].ravel()
    if np.isfinite(p_real).all() and np.isfinite(numbers).all():
        counts = np.histogram(numbers, BINS, (low, high))[0]
        row: dict[str, Any] = {"images": images, "low": low, "high": high, "samples": SAMPLES}
        row |= {"counts": counts.tolist(), "p_real": [float(f"{p:.6g}") for p in p_real]}
        with (run / FILE).open("a") as stream:
            stream.write(json.dumps(row) + "\n")


def moments(run: Path) -> list[dict[str, Any]]:
    """The moments of a run, in order; a line that was torn when the run was killed is none."""
    found: list[dict[str, Any]] = []
    path = run / FILE
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
            found.append({key: row[key] for key in ("images", "low", "high", "samples", "counts", "p_real")})
        except (ValueError, KeyError, TypeError):
            continue
    return found


def trim(run: Path, images: int) -> None:
    """Keep the moments up to so many images: those after the last checkpoint will come again."""
    if (run / FILE).exists():
        kept = [json.dumps(row) + "\n" for row in moments(run) if row["images"] <= images]
        write_atomic(run / FILE, "".join(kept).encode())


def draw(run: Path, normal: Normal, title: str) -> None:
    """Write ``density.png`` from the moments of a run, where there are any."""
    if found := moments(run):
        write_atomic(run / PICTURE, density_png(found, normal, title))


def density_png(found: Sequence[Mapping[str, Any]], normal: Normal, title: str) -> bytes:
    """Draw each moment: the target's density, that of the generated numbers, and D(x) by the axis on the right.

    Parameters
    ----------
    found : sequence of mapping
        What :func:`moments` returns, at least one.
    normal : (float, float)
        Mean and standard deviation of the target.
    title : str
    """
    from matplotlib import style

    with style.context("default"):  # whatever the user's own matplotlibrc says
        columns = min(3, len(found))
        rows = -(-len(found) // columns)
        figure = new_figure(3.1 * columns + 0.6, 2.5 * rows + 0.8)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for i, moment in enumerate(found):
            lines = _panel(panels[i], moment, normal, last_of_row=i % columns == columns - 1 or i == len(found) - 1)
        for panel in panels[len(found) :]:
            panel.set_visible(False)
        for panel in panels[::columns]:
            panel.set_ylabel("density", fontsize=9)
        figure.suptitle(title, fontsize=11, y=0.99)
        figure.legend(handles=lines, loc="lower center", ncols=3, frameon=False, fontsize=9)
        figure.tight_layout(rect=(0, 0.06, 1, 1))
        return as_png(figure)


def _panel(axes: Any, moment: Mapping[str, Any], normal: Normal, last_of_row: bool) -> list[Any]:
    mean, std = normal
    low, high = moment["low"], moment["high"]
    x, edges = np.linspace(low, high, POINTS), np.linspace(low, high, BINS + 1)
    target = np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    generated = np.array(moment["counts"]) / moment["samples"] / (edges[1] - edges[0])
    filled = axes.fill_between(x, target, color=TARGET, alpha=0.35, linewidth=0, label="target density")
    (steps,) = axes.plot(
        edges, np.append(generated, generated[-1]), drawstyle="steps-post", color=GENERATED, label="generated density"
    )
    axes.set(xlim=(low, high), ylim=(0, TALLEST * target.max()))
    axes.set_title(f"{moment['images']:,} numbers seen", fontsize=9, color=INK)
    right = axes.twinx()
    (judged,) = right.plot(x, moment["p_real"], color=JUDGED, linestyle="--", label="D(x), right axis")
    right.set(ylim=(0, 1), yticks=(0, 0.5, 1))
    right.tick_params(labelsize=8, labelright=last_of_row)
    axes.tick_params(labelsize=8)
    if last_of_row:
        right.set_ylabel("D(x)", fontsize=9)
    for one in (axes, right):
        one.spines["top"].set_visible(False)
    return [filled, steps, judged]


def _range(normal: Normal) -> tuple[float, float]:
    mean, std = normal
    return min(mean - DEVIATIONS * std, -LEAST), max(mean + DEVIATIONS * std, LEAST)
