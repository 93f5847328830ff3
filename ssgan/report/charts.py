"""Draw test errors and differences, as PNG for files and as SVG for light and dark pages, wide and narrow."""

import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ssgan.figures.fonts import fonts_for
from ssgan.figures.plots import SERIES, as_png, new_figure
from ssgan.report.grouping import RowGroup
from ssgan.report.render import Drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_CURVES", "Chart", "Curve", "Strip", "draw_curves", "draw_strips"]


# Inches; a page shows 96 pixels to an inch, a narrow one is 390 pixels wide with margins of 16, and 10.5 points are 14
# pixels.
WIDE, NARROW = 9.9, 3.7
POINTS = 10.5
LETTERS_PER_INCH, FEWEST_LETTERS = 11, 8
LINE_INCHES = 0.2  # height of a line of text
MARKERS, DASHES = "osD^vP", ("-", "--", ":")
#: Curves that differ in colour, marker or dashes.
MOST_CURVES = len(SERIES) * len(DASHES)
CURVES_WITH_SEEDS = 6  # with more curves the single seeds hide the means
OFFSET = 1.03  # factor between the positions of two curves, so that their bars do not hide each other
LOG_RATIO = 4  # ratio of the largest to the smallest mean from which the axis of errors is logarithmic


class _Palette(NamedTuple):
    ink: str
    muted: str
    rule: str
    series: tuple[str, ...]


PAPER = _Palette("#1d2126", "#5b636d", "#dcdfe3", SERIES)
# Placeholders, replaced by variables of the page's style sheet.
PAGE = _Palette("#010200", "#010201", "#010202", tuple(f"#01030{k}" for k in range(len(SERIES))))
VARIABLES = {
    PAGE.ink: "var(--ink)",
    PAGE.muted: "var(--muted)",
    PAGE.rule: "var(--rule)",
    **{colour: f"var(--series-{k})" for k, colour in enumerate(PAGE.series, 1)},
}


class Chart(NamedTuple):
    """One chart as a PNG file and as drawings for the page."""

    png: bytes
    drawing: Drawing


class Curve(NamedTuple):
    """Groups of one variant by number of labels, under the name that the legend shows."""

    name: str
    groups: Sequence[RowGroup]


class Strip(NamedTuple):
    """A value with an interval on a row of its own; ``dots`` are the values that it is the mean of."""

    name: str
    value: float
    interval: tuple[float, float] | None
    dots: Sequence[float]


def draw_curves(curves: Sequence[Curve], mark: str) -> Chart:
    """Draw mean test errors against numbers of labels, with bars of one standard deviation to each side.

    Parameters
    ----------
    curves : sequence of Curve
        At most ``MOST_CURVES``, each with a group; every group has an error.
    mark : str
        Prefix for the ids of the SVG, unique on the page.
    """
    return _chart(lambda *arguments: _curves(curves, *arguments), mark)


def draw_strips(strips: Sequence[Strip], label: str, mark: str, zero: bool = False) -> Chart:
    """Draw values with intervals, one below the other.

    Parameters
    ----------
    strips : sequence of Strip
    label : str
        Label of the axis.
    mark : str
        Prefix for the ids of the SVG, unique on the page.
    zero : bool
        Whether to draw a line at 0.
    """
    return _chart(lambda *arguments: _strips(strips, label, zero, *arguments), mark)


def _chart(draw: Callable[[_Palette, float], "Figure"], mark: str) -> Chart:
    from matplotlib import rc_context, style

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": mark, "font.size": POINTS}
    with style.context("default"), rc_context(settings):  # ignore the user's own matplotlibrc
        png = as_png(draw(PAPER, WIDE), tight=False)
        wide, narrow = (_svg(draw(PAGE, width), f"{mark}-{name}") for name, width in (("w", WIDE), ("n", NARROW)))
    return Chart(png, Drawing(wide, narrow))


def _curves(curves: Sequence[Curve], palette: _Palette, width: float) -> "Figure":
    wide = width == WIDE
    names = [_wrapped(curve.name, 3.0 if wide else width - 0.8) for curve in curves]
    legend_height = 0.3 + LINE_INCHES * 1.15 * sum(name.count("\n") + 1 for name in names)
    figure = new_figure(width, max(4.6, legend_height + 0.3) if wide else 3.3 + legend_height)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    handles = []
    for k, curve in enumerate(curves):
        shift = OFFSET ** (k - (len(curves) - 1) / 2)
        x = [group.labels * shift for group in curve.groups]
        colour = palette.series[k % len(SERIES)]
        for at, group in zip(x, curve.groups, strict=True):
            if len(curves) <= CURVES_WITH_SEEDS:
                axes.plot([at] * len(group.errors), group.errors, ".", color=colour, alpha=0.45, markersize=5, zorder=2)
            if group.std is not None:
                axes.errorbar(at, group.mean, group.std, color=colour, alpha=0.6, capsize=2.5, linewidth=1.1, zorder=3)
        means = [group.mean for group in curve.groups]
        marker, dashes = MARKERS[(k + k // len(SERIES)) % len(MARKERS)], DASHES[k // len(SERIES) % len(DASHES)]
        form: dict[str, Any] = {"marker": marker, "linestyle": dashes, "markersize": 6.5, "linewidth": 1.7}
        handles += axes.plot(x, means, color=colour, zorder=4, **form)
    groups = [group for curve in curves for group in curve.groups]
    _label_axis(axes, sorted({group.labels for group in groups}), width - (3.5 if wide else 0.7))
    _error_axis(axes, groups)
    _plain_axes(axes, palette, "y")
    place: dict[str, Any] = {"loc": "outside right upper" if wide else "outside lower left"}
    numbers = [str(k) for k in range(len(names))]  # replaced by names, which may hold signs that legends interpret
    legend = figure.legend(handles, numbers, frameon=False, labelcolor=palette.ink, handlelength=2.8, **place)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(parse_math=False, fontfamily=fonts_for([name])[0], text=_drawable(name))
    return figure


def _label_axis(axes: "Axes", labels: Sequence[int], inches: float) -> None:
    """Put a tick at each number of labels, without names that would overlap."""
    axes.set_xscale("log")
    low, high = (math.log(end) for end in axes.get_xlim())
    ticks: list[int] = []
    for number in reversed(labels):
        room = math.log(ticks[-1] / number) / (high - low) * inches if ticks else math.inf
        if room > 0.15 + len(f"{number:,}") / LETTERS_PER_INCH:
            ticks.append(number)
    axes.set_xticks(ticks, [f"{number:,}" for number in ticks])
    axes.set_xticks(labels, minor=True, labels=[""] * len(labels))
    axes.set_xlabel("labelled images")


def _error_axis(axes: "Axes", groups: Sequence[RowGroup]) -> None:
    """Scale the axis of errors: logarithmic if means differ by a factor of 4, else from 0."""
    means = [group.mean for group in groups]
    high = max(max(*group.errors, group.mean + (group.std or 0.0)) for group in groups) or 1.0
    if min(means) <= 0 or max(means) < LOG_RATIO * min(means):
        axes.set_ylim(0, 1.04 * high)
        axes.set_ylabel("test error, %")
        return
    low = 0.9 * min(max(group.mean - (group.std or 0.0), group.mean / 2) for group in groups)
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(low, 1.08 * high)
    ticks = [step * 10.0**power for power in range(-3, 3) for step in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= 1.08 * high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_ylabel("test error, % (logarithmic)")


def _strips(strips: Sequence[Strip], label: str, zero: bool, palette: _Palette, width: float) -> "Figure":
    wide = width == WIDE
    names = [_wrapped(strip.name, 3.6 if wide else width - 0.3) for strip in strips]
    # Row heights in inches: on a narrow page each name stands above its row.
    text = [LINE_INCHES * (name.count("\n") + 1) for name in names]
    heights = [max(0.34, 0.14 + height) if wide else 0.32 + height for height in text]
    ends = [sum(heights[: k + 1]) for k in range(len(heights))]
    rows = [end - (height / 2 if wide else 0.16) for end, height in zip(ends, heights, strict=True)]
    figure = new_figure(width, 0.75 + ends[-1])
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    colour = palette.series[0]
    for y, strip in zip(rows, strips, strict=True):
        axes.axhline(y, color=palette.rule, linewidth=0.6, zorder=1)
        if len(strip.dots) > 1:
            axes.plot(strip.dots, [y] * len(strip.dots), ".", color=palette.ink, markersize=4, zorder=5)
        if strip.interval is not None:
            bars = [[strip.value - strip.interval[0]], [strip.interval[1] - strip.value]]
            axes.errorbar(strip.value, y, xerr=bars, color=colour, capsize=3, linewidth=1.4, zorder=3)
        if zero:  # not across the names
            axes.vlines(0, y - 0.13, y + 0.13, color=palette.ink, linewidth=1.2, zorder=1)
        axes.plot([strip.value], [y], "o", color=colour, markersize=6.5, zorder=4)
    axes.set_ylim(ends[-1], 0)
    axes.set_xlabel(label)
    _plain_axes(axes, palette, "x")
    axes.spines["left"].set_visible(False)
    style: dict[str, Any] = {"fontfamily": fonts_for(names)[0], "parse_math": False, "color": palette.ink}
    if wide:
        axes.set_yticks(rows, [_drawable(name) for name in names], fontsize=POINTS, **style)
        axes.tick_params(axis="y", length=0)
    else:
        axes.set_yticks([])
        for y, name in zip(rows, names, strict=True):
            left = axes.get_yaxis_transform()
            axes.text(0, y - 0.13, _drawable(name), transform=left, va="bottom", clip_on=False, **style)
    return figure


def _plain_axes(axes: "Axes", palette: _Palette, grid: Any) -> None:
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=palette.rule, linewidth=0.6)
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(palette.muted)
    axes.tick_params(colors=palette.muted, length=3, which="both")
    axes.xaxis.label.set_color(palette.ink)
    axes.yaxis.label.set_color(palette.ink)


def _wrapped(name: str, inches: float) -> str:
    """Break a name into lines of at most this width."""
    letters = int(1.3 * LETTERS_PER_INCH * inches)
    while True:
        lines = textwrap.wrap(name, letters) or [name]
        if letters <= FEWEST_LETTERS or max(map(_width, lines)) <= inches:
            return "\n".join(lines)
        letters -= 1


def _width(text: str) -> float:
    """Return the width of a line of text in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=fonts_for([text])[0], size=POINTS)
    return float(text_to_path.get_text_width_height_descent(_drawable(text), font, ismath=False)[0]) / 72


def _drawable(text: str) -> str:
    """Replace characters that no installed font has by question marks."""
    missing = fonts_for([text])[1]
    return "".join("?" if ord(c) in missing else c for c in text)


def _svg(figure: "Figure", mark: str) -> str:
    """Return SVG to embed in a page: no prolog, no namespace, unique ids, and the colours of the style sheet."""
    content = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(content, format="svg", transparent=True, metadata=nothing)
    text = content.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1)
    text = re.sub(r'(?<= )id="', f'id="{mark}-', text)
    text = text.replace("url(#", f"url(#{mark}-").replace('xlink:href="#', f'href="#{mark}-')
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return text.strip()
