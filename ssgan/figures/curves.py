"""Draw the training curves of a log, and the densities of a GAN on one-dimensional data.

``curves.png`` shows losses, p(real) and test errors against images seen. ``density.png`` shows the densities of target
and generated numbers, and D(x), at several steps of training, which are the lines of ``densities.jsonl``.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ssgan import runs
from ssgan.figures.plots import SERIES, as_png, new_figure, set_title
from ssgan.files import read_json_lines, write_atomic
from ssgan.settings.terms import TERMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BINS",
    "CURVES_PICTURE",
    "DENSITY_FILE",
    "DENSITY_PICTURE",
    "DENSITY_POINTS",
    "REDRAW_SECONDS",
    "SAMPLES",
    "Normal",
    "curves_png",
    "density_png",
    "density_range",
    "draw_densities",
    "quantities",
    "read_densities",
    "write_curves",
]


CURVES_PICTURE = "curves.png"
#: Shortest time between two drawings during training; one takes more than half a second.
REDRAW_SECONDS = 60.0

ERRORS = {"errors": "averaged model", "errors_raw": "last step's"}
SHARES = {
    **{"p_real_unlabeled": "p(real), real", "p_real_fake": "p(real), generated", "sure": "sure of a class"},
    **{"accuracy_real": "D right, real", "accuracy_fake": "D right, generated"},
}
GENERATOR = (*(term.log for term in TERMS if term.net == "G"), "historical_averaging_G")

WIDTH, HEADER, PANEL, FOOTER = 6.4, 0.35, 1.55, 0.5  # inches
LEFT, RIGHT = 0.115, 0.725  # edges of the axes as fractions of the width; the legends are to the right
CURVE_POINTS, MAX_LETTERS = 10, 60
DASHES = ("-", (0, (3, 1)), (0, (1, 1)))  # used in turn, so that a line below another stays visible
LOG_RATIO = 20.0  # above this ratio between medians, a panel has a logarithmic axis
AXIS_LIMIT = 2.0  # as a multiple of the largest median: seeds beyond it are cut off


class _Panel(NamedTuple):
    """One plot: its name, and the labels of its lines by quantity."""

    name: str
    lines: dict[str, str]


def quantities(line: Mapping[str, Any]) -> list[str]:
    """List the quantities that a line of a log holds for each seed, errors last."""
    names = [name for name, values in line.items() if isinstance(values, list) and name not in ERRORS]
    return [*names, *(name for name in ERRORS if name in line)]


def write_curves(run: Path, title: str) -> bool:
    """Draw the log of a run into its folder; return whether there was something to draw.

    Parameters
    ----------
    run : Path
    title : str
    """
    png = curves_png(runs.read_log(run), title)
    if png is not None:
        write_atomic(run / CURVES_PICTURE, png)
    return png is not None


def curves_png(log: Sequence[Mapping[str, Any]], title: str) -> bytes | None:
    """Draw a log, with panels for those of the losses of D, the losses of G, p(real) and test errors that it has.

    Each seed is a thin line and their median a thick one. Values that are not finite are gaps.

    Parameters
    ----------
    log : sequence of mapping
        Lines of ``log.jsonl``.
    title : str

    Returns
    -------
    bytes or None
        PNG; None if the log is empty.
    """
    from matplotlib import rc_context, style
    from matplotlib.ticker import EngFormatter

    panels = _panels(log)
    if not panels:
        return None
    seed_count = max(len(line[name]) for line in log for name in quantities(line) if line[name])
    height = HEADER + PANEL * len(panels) + FOOTER
    with style.context("default"), rc_context({"font.size": CURVE_POINTS}):  # ignore the user's own matplotlibrc
        figure = new_figure(WIDTH, height)
        figure.subplots_adjust(LEFT, FOOTER / height, RIGHT, 1 - HEADER / height, hspace=0.12)
        column = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, panel in zip(column, panels, strict=True):
            _draw_panel(axes, panel, log)
        head = title if len(title) <= MAX_LETTERS else title[: MAX_LETTERS - 1] + "…"
        set_title(column[0], head, loc="left", fontsize=CURVE_POINTS)
        if seed_count > 1:
            legend = f"thin: {seed_count} seeds\nthick: their median"
            figure.text(RIGHT + 0.045, 0.05 / height, legend, fontsize=CURVE_POINTS - 1, color="#5b636d", va="bottom")
        column[-1].set_xlabel("images seen")
        column[-1].set_xlim(0, max(line["images"] for line in log))
        column[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
        figure.align_ylabels()
        return as_png(figure, tight=False)


def _panels(log: Sequence[Mapping[str, Any]]) -> list[_Panel]:
    """List the panels of a log from top to bottom, without empty ones."""
    names = list(dict.fromkeys(name for line in log for name in quantities(line) if line[name]))
    labels = {name: runs.LOGGED.get(name, name.replace("_", " ")) for name in names} | SHARES | ERRORS

    def panel(name: str, quantities: Sequence[str]) -> _Panel:
        return _Panel(name, {key: labels[key] for key in names if key in quantities})

    others = {*GENERATOR, *SHARES, *ERRORS}
    panels = [
        panel("losses of D", [name for name in names if name not in others]),
        panel("losses of G", GENERATOR),
        panel("probability", list(SHARES)),
        panel("test error, %", list(ERRORS)),
    ]
    return [panel for panel in panels if panel.lines]


def _draw_panel(axes: "Axes", panel: _Panel, log: Sequence[Mapping[str, Any]]) -> None:
    """Draw the lines of one panel."""
    medians, seed_values = [], []
    for k, (name, label) in enumerate(panel.lines.items()):
        images, values = _values(log, name)
        line_style: dict[str, Any] = {
            "color": SERIES[k % len(SERIES)],
            "linestyle": DASHES[(k + k // len(SERIES)) % len(DASHES)],
        }
        median = _median(values)
        if values.shape[1] > 1:
            axes.plot(images, values, linewidth=0.6, alpha=0.4, color=line_style["color"])
        marker = "o" if len(images) == 1 else ""
        axes.plot(images, median, linewidth=1.8, marker=marker, markersize=3, label=label, **line_style)
        medians.append(median)
        seed_values.append(values.ravel())
    if panel.name == "probability":
        axes.set_ylim(0, 1)
    else:
        _set_y_axis(axes, np.concatenate(medians), np.concatenate(seed_values))
    axes.set_ylabel(panel.name)
    axes.grid(color="#dcdfe3", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    position: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.06), "frameon": False}
    axes.legend(**position, fontsize=CURVE_POINTS - 1, handlelength=1.2, labelspacing=0.25)


def _values(log: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images [R] and values [R, S] of the lines with this quantity; NaN for values that are not finite."""
    lines = [line for line in log if line.get(name)]
    values = np.array([line[name] for line in lines], dtype=float)
    return np.array([line["images"] for line in lines]), np.where(np.isfinite(values), values, np.nan)


def _median(values: np.ndarray) -> np.ndarray:
    """Return the median over the seeds without NaN; NaN if there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # for a row of NaN
        return np.nanmedian(values, axis=1)


def _set_y_axis(axes: "Axes", medians: np.ndarray, values: np.ndarray) -> None:
    """Choose scale and limits by the medians, so that one extreme seed does not flatten the others."""
    medians, values = medians[np.isfinite(medians)], values[np.isfinite(values)]
    if not len(medians):
        return
    high, positive = medians.max(), medians[medians > 0]
    low = positive.min() if len(positive) else 0.0
    if medians.min() >= 0 and high > LOG_RATIO * low > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(max(values[values > 0].min(), low / 10) / 1.2, min(values.max(), 10 * high) * 1.2)
        return
    limit = AXIS_LIMIT * max(high, -medians.min(), np.finfo(np.float32).tiny)
    bottom, top = max(values.min(), -limit), min(values.max(), limit)
    margin = 0.05 * (max(top, 0.0) - min(bottom, 0.0)) or 1.0
    axes.set_ylim(0 if bottom >= 0 else bottom - margin, 0 if top <= 0 < -bottom else top + margin)


DENSITY_FILE, DENSITY_PICTURE = "densities.jsonl", "density.png"
SAMPLES, BINS, DENSITY_POINTS = 10_000, 120, 241
# The x axis: standard deviations around the mean, and at least the range of an untrained generator, -4 to 4.
DEVIATIONS, MIN_LIMIT = 5.0, 4.0
DENSITY_LIMIT = 2.5  # end of the y axis as a multiple of the target's peak: higher peaks are cut off
INK, TARGET, GENERATED, D_OF_X = "#1d2126", "#8a929c", "#0a6aa8", "#c44e00"

Normal = tuple[float, float]


def read_densities(run: Path) -> list[dict[str, Any]]:
    """Read the densities of a run in order, without lines that were cut off when the run was killed."""
    rows: list[dict[str, Any]] = []
    path = run / DENSITY_FILE
    for line in read_json_lines(path) if path.exists() else []:
        try:
            rows.append({key: line.value[key] for key in ("images", "low", "high", "samples", "counts", "p_real")})
        except (KeyError, TypeError):
            continue
    return rows


def draw_densities(run: Path, normal: Normal, title: str) -> None:
    """Write ``density.png`` from the densities of a run, if there are any."""
    if rows := read_densities(run):
        write_atomic(run / DENSITY_PICTURE, density_png(rows, normal, title))


def density_png(densities: Sequence[Mapping[str, Any]], normal: Normal, title: str) -> bytes:
    """Draw a panel for each stored step: the densities of target and generated numbers, and D(x) on the right axis.

    Parameters
    ----------
    densities : sequence of mapping
        As :func:`read_densities` returns them; at least one.
    normal : (float, float)
        Mean and standard deviation of the target.
    title : str
    """
    from matplotlib import style

    with style.context("default"):  # ignore the user's own matplotlibrc
        columns = min(3, len(densities))
        rows = -(-len(densities) // columns)
        figure = new_figure(3.1 * columns + 0.6, 2.5 * rows + 0.8)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for i, row in enumerate(densities):
            last_of_row = i % columns == columns - 1 or i == len(densities) - 1
            lines = _draw_density_panel(panels[i], row, normal, last_of_row)
        for panel in panels[len(densities) :]:
            panel.set_visible(False)
        for panel in panels[::columns]:
            panel.set_ylabel("density", fontsize=9)
        figure.suptitle(title, fontsize=11, y=0.99)
        figure.legend(handles=lines, loc="lower center", ncols=3, frameon=False, fontsize=9)
        figure.tight_layout(rect=(0, 0.06, 1, 1))
        return as_png(figure)


def _draw_density_panel(axes: Any, row: Mapping[str, Any], normal: Normal, last_of_row: bool) -> list[Any]:
    """Draw one panel; return its three lines for the legend."""
    mean, std = normal
    low, high = row["low"], row["high"]
    x, edges = np.linspace(low, high, DENSITY_POINTS), np.linspace(low, high, BINS + 1)
    target = np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    generated = np.array(row["counts"]) / row["samples"] / (edges[1] - edges[0])
    filled = axes.fill_between(x, target, color=TARGET, alpha=0.35, linewidth=0, label="target density")
    (steps,) = axes.plot(
        edges, np.append(generated, generated[-1]), drawstyle="steps-post", color=GENERATED, label="generated density"
    )
    axes.set(xlim=(low, high), ylim=(0, DENSITY_LIMIT * target.max()))
    axes.set_title(f"{row['images']:,} numbers seen", fontsize=9, color=INK)
    right = axes.twinx()
    (probability,) = right.plot(x, row["p_real"], color=D_OF_X, linestyle="--", label="D(x), right axis")
    right.set(ylim=(0, 1), yticks=(0, 0.5, 1))
    right.tick_params(labelsize=8, labelright=last_of_row)
    axes.tick_params(labelsize=8)
    if last_of_row:
        right.set_ylabel("D(x)", fontsize=9)
    for ax in (axes, right):
        ax.spines["top"].set_visible(False)
    return [filled, steps, probability]


def density_range(normal: Normal) -> tuple[float, float]:
    """Return the limits of the x axis."""
    mean, std = normal
    return min(mean - DEVIATIONS * std, -MIN_LIMIT), max(mean + DEVIATIONS * std, MIN_LIMIT)
