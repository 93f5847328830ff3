"""The course of a training, drawn from its log: losses, p(real) and test errors against images seen."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ssgan import runs
from ssgan.files import write_atomic
from ssgan.plots import SERIES, as_png, new_figure, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PICTURE", "SECONDS_BETWEEN", "curves_png", "quantities", "write"]

PICTURE = "curves.png"
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
POINTS, MOST_LETTERS = 10, 60
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


def write(run: Path, about: str) -> bool:
    """Draw the log of a run into its folder; whether there was something to draw.

    Parameters
    ----------
    run : Path
    about : str
        What was trained on what, for the head of the picture.
    """
    png = curves_png(runs.read_log(run), about)
    if png is not None:
        write_atomic(run / PICTURE, png)
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
    with style.context("default"), rc_context({"font.size": POINTS}):  # whatever the user's own matplotlibrc says
        figure = new_figure(WIDTH, height)
        figure.subplots_adjust(LEFT, FOOTER / height, RIGHT, 1 - HEADER / height, hspace=0.12)
        below = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, panel in zip(below, panels, strict=True):
            _draw(axes, panel, log)
        head = about if len(about) <= MOST_LETTERS else about[: MOST_LETTERS - 1] + "…"
        title(below[0], head, loc="left", fontsize=POINTS)
        if seeds > 1:
            legend = f"thin: {seeds} seeds\nthick: their median"
            figure.text(RIGHT + 0.045, 0.05 / height, legend, fontsize=POINTS - 1, color="#5b636d", va="bottom")
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


def _draw(axes: "Axes", panel: _Panel, log: Sequence[Mapping[str, Any]]) -> None:
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
    axes.legend(**beside, fontsize=POINTS - 1, handlelength=1.2, labelspacing=0.25)


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
