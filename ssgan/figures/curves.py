"""The course of a training, drawn from its log: losses, p(real) and test errors against images seen.

The one-dimensional GAN to look at: densities of target and generated numbers beside D(x), at moments of training.

A moment is a line of ``densities.jsonl`` in the run folder, and all of them are drawn as ``density.png``.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ssgan import runs
from ssgan.figures.plots import SERIES, as_png, new_figure, title
from ssgan.files import read_json_lines, write_atomic
from ssgan.settings.config import Config

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ssgan.inference.models import Models

__all__ = [
    "CURVES_PICTURE",
    "DENSITY_PICTURE",
    "FILE",
    "SECONDS_BETWEEN",
    "curves_png",
    "density_due",
    "density_png",
    "draw_densities",
    "quantities",
    "read_densities",
    "trim_densities",
    "write_curves",
    "write_density",
]


CURVES_PICTURE = "curves.png"
#: While training goes on the picture is drawn no more often: it takes a good half of a second.
SECONDS_BETWEEN = 60.0

ERRORS = {"errors": "averaged model", "errors_raw": "last step's"}
SHARES = {
    **{"p_real_unlabeled": "p(real), real", "p_real_fake": "p(real), generated", "sure": "sure of a class"},
    **{"accuracy_real": "D right, real", "accuracy_fake": "D right, generated"},
}
GENERATOR = ("feature_matching", "minimax", "non_saturating", "pull_away", "historical_averaging_G")

WIDTH, HEADER, PANEL, FOOTER = 6.4, 0.35, 1.55, 0.5  # inches
LEFT, RIGHT = 0.115, 0.725  # of the width: between them the axes, beside them the names of the lines
CURVE_POINTS, MOST_LETTERS = 10, 60
DASHES = ("-", (0, (3, 1)), (0, (1, 1)))  # in turn: a line on top of another lets it be seen
SPAN_OF_LOG = 20.0  # from this factor between medians on, a panel has a logarithmic axis
OVER = 2.0  # times the largest median: where a panel ends, though a seed went further


class _Panel(NamedTuple):
    name: str
    lines: dict[str, str]


def quantities(line: Mapping[str, Any]) -> list[str]:
    """The names of what a line of a log holds for each seed, its errors last."""
    measured = [name for name, values in line.items() if isinstance(values, list) and name not in ERRORS]
    return [*measured, *(name for name in ERRORS if name in line)]


def write_curves(run: Path, about: str) -> bool:
    """Draw the log of a run into its folder; whether there was something to draw.

    Parameters
    ----------
    run : Path
    about : str
        What was trained on what, for the head of the picture.
    """
    png = curves_png(runs.read_log(run), about)
    if png is not None:
        write_atomic(run / CURVES_PICTURE, png)
    return png is not None


def curves_png(log: Sequence[Mapping[str, Any]], about: str) -> bytes | None:
    """Draw a log: a panel each for the losses of D, those of G, p(real) and test errors, as far as they are there.

    Each seed is a thin line and their median a thick one. A value that is not finite is a gap.

    Parameters
    ----------
    log : sequence of mapping
        Lines of ``log.jsonl``.
    about : str

    Returns
    -------
    bytes or None
        PNG; None where the log holds nothing.
    """
    from matplotlib import rc_context, style
    from matplotlib.ticker import EngFormatter

    panels = _panels(log)
    if not panels:
        return None
    seeds = max(len(line[name]) for line in log for name in quantities(line) if line[name])
    height = HEADER + PANEL * len(panels) + FOOTER
    with style.context("default"), rc_context({"font.size": CURVE_POINTS}):  # whatever the user's own matplotlibrc says
        figure = new_figure(WIDTH, height)
        figure.subplots_adjust(LEFT, FOOTER / height, RIGHT, 1 - HEADER / height, hspace=0.12)
        below = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, panel in zip(below, panels, strict=True):
            _draw_panels(axes, panel, log)
        head = about if len(about) <= MOST_LETTERS else about[: MOST_LETTERS - 1] + "…"
        title(below[0], head, loc="left", fontsize=CURVE_POINTS)
        if seeds > 1:
            legend = f"thin: {seeds} seeds\nthick: their median"
            figure.text(RIGHT + 0.045, 0.05 / height, legend, fontsize=CURVE_POINTS - 1, color="#5b636d", va="bottom")
        below[-1].set_xlabel("images seen")
        below[-1].set_xlim(0, max(line["images"] for line in log))
        below[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
        figure.align_ylabels()
        return as_png(figure, tight=False)


def _panels(log: Sequence[Mapping[str, Any]]) -> list[_Panel]:
    """What there is to draw, the panels from above."""
    names = list(dict.fromkeys(name for line in log for name in quantities(line) if line[name]))
    words = {name: runs.LOGGED.get(name, name.replace("_", " ")) for name in names} | SHARES | ERRORS

    def panel(name: str, among: Sequence[str]) -> _Panel:
        return _Panel(name, {key: words[key] for key in names if key in among})

    apart = {*GENERATOR, *SHARES, *ERRORS}
    found = [
        panel("losses of D", [name for name in names if name not in apart]),
        panel("losses of G", GENERATOR),
        panel("probability", list(SHARES)),
        panel("test error, %", list(ERRORS)),
    ]
    return [one for one in found if one.lines]


def _draw_panels(axes: "Axes", panel: _Panel, log: Sequence[Mapping[str, Any]]) -> None:
    medians, every = [], []
    for k, (name, words) in enumerate(panel.lines.items()):
        images, values = _values(log, name)
        form: dict[str, Any] = {
            "color": SERIES[k % len(SERIES)],
            "linestyle": DASHES[(k + k // len(SERIES)) % len(DASHES)],
        }
        median = _median(values)
        if values.shape[1] > 1:
            axes.plot(images, values, linewidth=0.6, alpha=0.4, color=form["color"])
        marker = "o" if len(images) == 1 else ""
        axes.plot(images, median, linewidth=1.8, marker=marker, markersize=3, label=words, **form)
        medians.append(median)
        every.append(values.ravel())
    if panel.name == "probability":
        axes.set_ylim(0, 1)
    else:
        _scale(axes, np.concatenate(medians), np.concatenate(every))
    axes.set_ylabel(panel.name)
    axes.grid(color="#dcdfe3", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.06), "frameon": False}
    axes.legend(**beside, fontsize=CURVE_POINTS - 1, handlelength=1.2, labelspacing=0.25)


def _values(log: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [R] and values [R, S] of the lines that have this quantity; NaN where a value is none."""
    lines = [line for line in log if line.get(name)]
    values = np.array([line[name] for line in lines], dtype=float)
    return np.array([line["images"] for line in lines]), np.where(np.isfinite(values), values, np.nan)


def _median(values: np.ndarray) -> np.ndarray:
    """Over the seeds that have one; NaN where none has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a row without a number
        return np.nanmedian(values, axis=1)


def _scale(axes: "Axes", medians: np.ndarray, every: np.ndarray) -> None:
    """Choose an axis by the medians, so that one seed that goes astray does not flatten the others."""
    medians, every = medians[np.isfinite(medians)], every[np.isfinite(every)]
    if not len(medians):
        return
    high, above = medians.max(), medians[medians > 0]
    low = above.min() if len(above) else 0.0
    if medians.min() >= 0 and high > SPAN_OF_LOG * low > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(max(every[every > 0].min(), low / 10) / 1.2, min(every.max(), 10 * high) * 1.2)
        return
    reach = max(high, -medians.min(), np.finfo(np.float32).tiny)
    bottom, top = max(every.min(), -OVER * reach), min(every.max(), OVER * reach)
    room = 0.05 * (max(top, 0.0) - min(bottom, 0.0)) or 1.0
    axes.set_ylim(0 if bottom >= 0 else bottom - room, 0 if top <= 0 < -bottom else top + room)


FILE, DENSITY_PICTURE = "densities.jsonl", "density.png"
# Of training: mostly early, where most happens.
DENSITY_MOMENTS = (0.0, 1 / 64, 1 / 16, 1 / 4, 1 / 2, 1.0)
SAMPLES, BINS, DENSITY_POINTS = 10_000, 120, 241
# What is shown: so many deviations around the mean, and at least where an untrained generator's numbers lie.
DEVIATIONS, LEAST = 5.0, 4.0
TALLEST = 2.5  # times the top of the target: an untrained generator's peak is cut off there
INK, TARGET, GENERATED, JUDGED = "#1d2126", "#8a929c", "#0a6aa8", "#c44e00"

Normal = tuple[float, float]


def density_due(normal: Normal | None, config: Config, step: int) -> bool:
    """Whether a moment is kept after this step: at fixed shares of training, where the target's density is known."""
    steps = {max(1, round(share * config.steps)) for share in DENSITY_MOMENTS}
    return normal is not None and config.trains_generator and step in steps


def write_density(run: Path, models: "Models", normal: Normal, images: int) -> None:
    """Add the moment of so many images: counts of the first model's numbers, and its D as it is now over the range."""
    one = models.only(models.seeds[:1])
    low, high = _density_range(normal)
    x = np.linspace(low, high, DENSITY_POINTS, dtype=np.float32)[:, None]
    p_real = 1.0 - one.generated_probability(x, averaged=False)[0]
    numbers = one.draws(SAMPLES, models.config.seed)[0].ravel()
    if np.isfinite(p_real).all() and np.isfinite(numbers).all():
        counts = np.histogram(numbers, BINS, (low, high))[0]
        row: dict[str, Any] = {"images": images, "low": low, "high": high, "samples": SAMPLES}
        row |= {"counts": counts.tolist(), "p_real": [float(f"{p:.6g}") for p in p_real]}
        with (run / FILE).open("a") as stream:
            stream.write(json.dumps(row) + "\n")


def read_densities(run: Path) -> list[dict[str, Any]]:
    """The moments of a run, in order; a line that was torn when the run was killed is none."""
    found: list[dict[str, Any]] = []
    path = run / FILE
    for line in read_json_lines(path) if path.exists() else []:
        try:
            found.append({key: line.value[key] for key in ("images", "low", "high", "samples", "counts", "p_real")})
        except (KeyError, TypeError):  # torn, or something else
            continue
    return found


def trim_densities(run: Path, images: int) -> None:
    """Keep the moments up to so many images: those after the last checkpoint will come again."""
    if (run / FILE).exists():
        kept = [json.dumps(row) + "\n" for row in read_densities(run) if row["images"] <= images]
        write_atomic(run / FILE, "".join(kept).encode())


def draw_densities(run: Path, normal: Normal, title: str) -> None:
    """Write ``density.png`` from the moments of a run, where there are any."""
    if found := read_densities(run):
        write_atomic(run / DENSITY_PICTURE, density_png(found, normal, title))


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
            lines = _density_panel(
                panels[i], moment, normal, last_of_row=i % columns == columns - 1 or i == len(found) - 1
            )
        for panel in panels[len(found) :]:
            panel.set_visible(False)
        for panel in panels[::columns]:
            panel.set_ylabel("density", fontsize=9)
        figure.suptitle(title, fontsize=11, y=0.99)
        figure.legend(handles=lines, loc="lower center", ncols=3, frameon=False, fontsize=9)
        figure.tight_layout(rect=(0, 0.06, 1, 1))
        return as_png(figure)


def _density_panel(axes: Any, moment: Mapping[str, Any], normal: Normal, last_of_row: bool) -> list[Any]:
    mean, std = normal
    low, high = moment["low"], moment["high"]
    x, edges = np.linspace(low, high, DENSITY_POINTS), np.linspace(low, high, BINS + 1)
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


def _density_range(normal: Normal) -> tuple[float, float]:
    mean, std = normal
    return min(mean - DEVIATIONS * std, -LEAST), max(mean + DEVIATIONS * std, LEAST)
