"""Errors drawn: against the number of labels, or one below the other, as PNG and as SVG for light and dark pages."""

import io
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ssgan.cells import Cell, Section
from ssgan.figures.plots import SERIES, as_png, fonts_for, new_figure
from ssgan.markup import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Chart", "error_chart"]

WIDTH, PAGE_WIDTH = 5.4, 3.7  # inches; on a phone an inch of a page is 96 pixels wide, and 10 points are 14 of them
POINTS = 10
#: With more lines than this, or one number of labels, the cells are drawn one below the other.
MOST_LINES = 6
LETTERS_AN_INCH = 11  # of a name
MARKERS, DASHES = "osD^vP", ("-", "--", ":", "-.")
APART = 1.03  # factor between the places of two lines, so that their bars do not hide each other


class _Palette(NamedTuple):
    """Told apart by readers of every colour vision: by lightness, and by marker and dashes beside the colour."""

    ink: str
    muted: str
    rule: str
    series: tuple[str, ...]


PAPER = _Palette("#1d2126", "#5b636d", "#dcdfe3", SERIES)
# Stand-ins, replaced by variables of the page's style sheet.
PAGE = _Palette("#010200", "#010201", "#010202", tuple(f"#01030{k}" for k in range(6)))
VARIABLES = {
    PAGE.ink: "var(--ink)",
    PAGE.muted: "var(--muted)",
    PAGE.rule: "var(--rule)",
    **{colour: f"var(--series-{k})" for k, colour in enumerate(PAGE.series, 1)},
}


class Chart(NamedTuple):
    """One picture, as a file and for a page."""

    png: bytes
    svg: str
    caption: str


def error_chart(section: Section, mark: str) -> Chart | None:
    """Draw every cell of a data set: each seed, the mean, and one deviation to each side.

    Parameters
    ----------
    section : Section
    mark : str
        A word for the ids of the SVG, of which a page has each once.

    Returns
    -------
    Chart or None
        None where no cell has an error.
    """
    from matplotlib import rc_context, style

    cells = [cell for line in section.lines for cell in section.of(line) if cell.rows]
    if not cells:
        return None
    lines = {cell.line for cell in cells}
    over_labels = len({cell.labels for cell in cells}) > 1 and len(lines) <= MOST_LINES
    draw = _over_labels if over_labels else _strips
    what = "Dots are seeds, the larger mark is their mean, the bar one standard deviation to each side."
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": mark, "font.size": POINTS}
    with style.context("default"), rc_context(settings):  # whatever the user's own matplotlibrc says
        png = as_png(draw(section, cells, PAPER, WIDTH))
        svg = _inline(draw(section, cells, PAGE, PAGE_WIDTH), mark)
    return Chart(png, svg, what)


def _over_labels(section: Section, cells: list[Cell], palette: _Palette, width: float) -> "Figure":
    figure = new_figure(width, 3.6)
    axes = figure.add_subplot()
    lines = [line for line in section.lines if any(cell.line == line for cell in cells)]
    labels = sorted({cell.labels for cell in cells})
    handles: list[Any] = []
    for k, line in enumerate(lines):
        found = [cell for cell in section.of(line) if cell.rows]
        place = k - (len(lines) - 1) / 2
        x = [cell.labels * APART**place for cell in found]
        colour = palette.series[k % len(palette.series)]
        for at, cell in zip(x, found, strict=True):
            axes.plot([at] * len(cell.errors), cell.errors, ".", color=colour, alpha=0.45, markersize=4.5, zorder=2)
            if cell.std is not None:
                axes.errorbar(at, cell.mean, cell.std, color=colour, capsize=3, linewidth=1.2, zorder=3)
        means = [cell.mean for cell in found]
        form: dict[str, Any] = {"marker": MARKERS[k % len(MARKERS)], "linestyle": DASHES[k // 2 % len(DASHES)]}
        handles += axes.plot(x, means, color=colour, markersize=6, linewidth=1.6, zorder=4, **form)
    if labels[0] > 0:
        axes.set_xscale("log")
    axes.set_xticks(labels, [f"{n:,}" for n in labels])
    axes.minorticks_off()
    axes.set_ylim(0, 1.04 * _top(cells))
    axes.set(xlabel="labelled images", ylabel="test error, %")
    _quiet(axes, palette, "y")
    columns = 2 if max(len(_short(section.lines[line], width)) for line in lines) <= 4.8 * width else 1
    place_below: dict[str, Any] = {
        "loc": "upper center",
        "bbox_to_anchor": (0.5, -0.16),
        "frameon": False,
        "ncols": columns,
    }
    legend = axes.legend(handles, list(map(str, range(len(lines)))), labelcolor=palette.ink, **place_below)
    for text, line in zip(legend.get_texts(), lines, strict=True):
        name = _short(section.lines[line], width)
        text.set(parse_math=False, fontfamily=fonts_for([name])[0])
        text.set_text(_legible(name))
    return figure


def _strips(section: Section, cells: list[Cell], palette: _Palette, width: float) -> "Figure":
    cells = sorted(cells, key=lambda cell: cell.labels)  # lines stay in their order
    methods = list(dict.fromkeys(line.method for line in section.lines))
    figure = new_figure(width, 0.75 + 0.5 * len(cells))
    axes = figure.add_subplot()
    several = len({cell.labels for cell in cells}) > 1
    for y, cell in enumerate(cells):
        k = methods.index(cell.line.method)
        colour, marker = palette.series[k % len(palette.series)], MARKERS[k % len(MARKERS)]
        axes.axhline(y, color=palette.rule, linewidth=0.6, zorder=1)
        if len(cell.rows) > 1:
            axes.plot(cell.errors, [y] * len(cell.rows), ".", color=colour, alpha=0.45, markersize=6, zorder=2)
        if cell.std is not None:
            axes.errorbar(cell.mean, y, xerr=cell.std, color=colour, capsize=3, linewidth=1.4, zorder=3)
        axes.plot([cell.mean], [y], marker=marker, color=colour, markersize=6.5, zorder=4)
        name = _short((f"{cell.labels:,} labels · " if several else "") + section.lines[cell.line], width)
        style: dict[str, Any] = {"color": palette.ink, "fontsize": POINTS, "parse_math": False, "clip_on": True}
        above = axes.get_yaxis_transform()
        family = fonts_for([name])[0]
        axes.text(0, y - 0.2, _legible(name), transform=above, va="bottom", fontfamily=family, **style)
    axes.set_ylim(len(cells) - 0.5, -0.85)
    axes.set_yticks([])
    axes.set_xlim(0, 1.04 * _top(cells))
    axes.set_xlabel("test error, %" if several else f"test error with {cells[0].labels:,} labelled images, %")
    _quiet(axes, palette, "x")
    axes.spines["left"].set_visible(False)
    return figure


def _top(cells: list[Cell]) -> float:
    """The largest error drawn, or the end of the highest bar; 1 where every error is 0."""
    return max(max(*cell.errors, cell.mean + (cell.std or 0.0)) for cell in cells) or 1.0


def _quiet(axes: "Axes", palette: _Palette, grid: Any) -> None:
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=palette.rule, linewidth=0.6)
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(palette.muted)
    axes.tick_params(colors=palette.muted, length=3)
    axes.xaxis.label.set_color(palette.ink)
    axes.yaxis.label.set_color(palette.ink)


def _short(name: str, width: float) -> str:
    name, most = visible(name), int(LETTERS_AN_INCH * width)
    return name if len(name) <= most else name[: most - 1] + "…"


def _legible(text: str) -> str:
    """With a question mark for what no font here can draw."""
    missing = fonts_for([text])[1]
    return "".join("?" if ord(c) in missing else c for c in text)


def _inline(figure: "Figure", mark: str) -> str:
    """SVG to stand in a page: no prolog, no address, ids of its own, and the colours of the page's style sheet."""
    content = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(content, format="svg", bbox_inches="tight", transparent=True, metadata=nothing)
    text = content.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1)
    text = re.sub(r'(?<= )id="', f'id="{mark}-', text)
    text = text.replace("url(#", f"url(#{mark}-").replace('xlink:href="#', f'href="#{mark}-')
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return text.strip()
