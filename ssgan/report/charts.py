"""A reliability diagram as SVG for a page: small, in the colours of its style sheet, with letters of 14 pixels.

Errors drawn: against the number of labels, or one below the other, as PNG and as SVG for light and dark pages.

What rows bring to look at: confusion matrices, reliability, generated samples, one of each for a cell.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from ssgan.figures.plots import COUNTED_CLASSES, SERIES, as_png, confusion_png, fonts_for, new_figure, reliability_png
from ssgan.report.loader import Row, Skipped
from ssgan.report.render import Matrix, Picture, visible
from ssgan.report.statistics import RowGroup, Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Chart", "Names", "confusion", "error_chart", "few_colours", "reliability", "reliability_svg", "samples"]


BARS_WIDTH, HEIGHT = 320, 340
LEFT, RIGHT, TOP = 44, 312, 10
SHARES, COUNTS = 220, 290  # the feet of the two rows of bars
ROOM = 12  # between them


def reliability_svg(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draw accuracy, its gap to the mean confidence, and on a logarithmic axis the number of images.

    Parameters
    ----------
    bins : sequence of mapping
        What :func:`ssgan.inference.metrics.reliability` returns.
    """
    filled = [one for one in bins if one["count"]]
    decades = math.log10(max((one["count"] for one in filled), default=1)) + 0.3  # one image is a bar too

    def x(share: float) -> float:
        return LEFT + (RIGHT - LEFT) * share

    def y(share: float) -> float:
        return SHARES - (SHARES - TOP) * share

    parts = [_line(x(0), y(0), x(1), y(1), "calibrated")]
    for one in filled:
        left, width = x(one["low"]), x(one["high"]) - x(one["low"])
        low, high = sorted((one["accuracy"], one["confidence"]))
        parts.append(_bar(left, width, y(one["accuracy"]), y(0), "accuracy"))
        parts.append(_bar(left, width, y(high), y(low), "gap"))
        height = (COUNTS - SHARES - ROOM) * (math.log10(one["count"]) + 0.3) / decades
        parts.append(_bar(left, width, COUNTS - height, COUNTS, "images"))
    parts += [_line(LEFT, foot, RIGHT, foot, "axis") for foot in (SHARES, COUNTS)]
    parts.append(_line(LEFT, TOP, LEFT, SHARES, "axis"))
    parts += [_text(LEFT - 6, y(share) + 5, f"{share:g}", "end") for share in (0.0, 0.5, 1.0)]
    parts += [_text(x(share), COUNTS + 18, f"{share:g}", "middle") for share in (0.0, 0.5, 1.0)]
    parts.append(_text((LEFT + RIGHT) / 2, COUNTS + 38, "confidence", "middle"))
    return f'<svg viewBox="0 0 {BARS_WIDTH} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'


def _bar(left: float, width: float, top: float, foot: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{max(foot - top, 0):.1f}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


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


def _over_labels(section: Section, cells: list[RowGroup], palette: _Palette, width: float) -> "Figure":
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


def _strips(section: Section, cells: list[RowGroup], palette: _Palette, width: float) -> "Figure":
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


def _top(cells: list[RowGroup]) -> float:
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


MOST_BYTES, MOST_PIXELS = 4 * 2**20, 4096
MOST_ON_PAGE, WIDEST_ON_PAGE = 64 * 2**10, 640


class Names:
    """File names for pictures: letters, digits and dashes, each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def take(self, *words: str) -> str:
        """A name that says these words."""
        plain = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")[:80].strip("-")
        number = 1
        while (name := f"{plain}-{number}" if number > 1 else plain) in self._given:
            number += 1
        self._given.add(name)
        return f"{name}.png"


def confusion(section: Section, cell: RowGroup, names: Names) -> Picture | None:
    """The confusion matrices of a cell's rows, added up; None where no row has one."""
    from matplotlib import style

    found = [row for row in cell.rows if row["confusion"] is not None]
    if not found:
        return None
    first = found[0]
    same = [row for row in found if row["classes"] == first["classes"] and _size(row) == _size(first)]
    K = range(_size(first))
    matrix = [[sum(row["confusion"][i][j] for row in same) for j in K] for i in K]
    classes = [visible(name) for name in first["classes"] or map(str, K)]
    title = _title(section, cell)
    with style.context("default"):
        png = few_colours(confusion_png(matrix, classes, title), 160)
    right, all_ = sum(matrix[i][i] for i in K), sum(map(sum, matrix))
    alt = f"Confusion matrix of {title}: {right:,} of {all_:,} predictions are right."
    caption = f"{title}: {_of(same, cell)}, counted together."
    page = Matrix(classes, matrix) if len(classes) <= COUNTED_CLASSES else None
    return Picture(names.take("confusion", title), png, alt, caption, page)


def reliability(section: Section, cell: RowGroup, names: Names) -> Picture | None:
    """The reliability diagrams of a cell's rows, counted together; None where no row has one."""
    from matplotlib import style

    found = [row for row in cell.rows if row["reliability"] is not None]
    if not found or not any(one["count"] for one in found[0]["reliability"]):
        return None
    same = [row for row in found if _edges(row) == _edges(found[0])]
    bins = [_together(parts) for parts in zip(*(row["reliability"] for row in same), strict=True)]
    title = _title(section, cell)
    with style.context("default"):
        png = few_colours(reliability_png(bins, title))
    total = sum(one["count"] for one in bins)
    right = sum(one["count"] * one["accuracy"] for one in bins if one["count"]) / total
    sure = sum(one["count"] * one["confidence"] for one in bins if one["count"]) / total
    alt = f"Reliability of {title}: mean confidence {sure:.3f}, accuracy {right:.3f}."
    caption = f"{title}: {_of(same, cell)}, counted together."
    return Picture(names.take("reliability", title), png, alt, caption, reliability_svg(bins), "diagram")


def samples(
    section: Section, cell: RowGroup, names: Names, places: Mapping[str, Path]
) -> tuple[Picture | None, list[Skipped]]:
    """The generated images of the first row of a cell that has some, and what could not be shown."""
    problems: list[Skipped] = []
    for row in (row for row in cell.rows if row["samples"] is not None):
        reason, png = _png_beside(places[row.file], row["samples"])
        if png is not None:
            title = _title(section, cell)
            alt = f"Images generated by {title}, seed {row['seed']}."
            picture = Picture(names.take("samples", title), png, alt, f"{title}, seed {row['seed']}.", _smaller(png))
            return picture, problems
        problems.append(Skipped(row.file, row.line, f"is used, but its samples {row['samples']} {reason}"))
    return None, problems


def _png_beside(file: Path, name: str) -> tuple[str, bytes | None]:
    """A picture that a file of rows names, or the reason why not. It must lie beside the file or below."""
    try:
        folder = file.resolve().parent
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            return "lie outside the folder of the file", None
        if not path.is_file():
            return "are not there", None
        if path.stat().st_size > MOST_BYTES:
            return f"are larger than {MOST_BYTES // 2**20} MiB", None
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if max(image.size) > MOST_PIXELS:
                return f"are more than {MOST_PIXELS} pixels wide or high", None
            image.verify()
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return "cannot be read as a PNG", None
    return "", content


def _smaller(png: bytes) -> bytes | None:
    """The same for a page, narrower and of fewer colours, where it is large; None where it is not."""
    if len(png) <= MOST_ON_PAGE:
        return None
    with Image.open(io.BytesIO(png)) as image:
        shown = image.convert("RGB")
    shown.thumbnail((WIDEST_ON_PAGE, WIDEST_ON_PAGE))
    return few_colours(_as_png(shown), 256)


def few_colours(png: bytes, colours: int = 48) -> bytes:
    """A drawing in so many colours, which takes a quarter of the bytes and looks the same."""
    with Image.open(io.BytesIO(png)) as image:
        return _as_png(image.convert("RGB").quantize(colours, dither=Image.Dither.NONE))


def _as_png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, format="png", optimize=True)
    return content.getvalue()


def _together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One bin of several rows."""
    count = sum(part["count"] for part in parts)

    def mean(key: str) -> float | None:
        return sum(part["count"] * part[key] for part in parts if part["count"]) / count if count else None

    edges = {key: parts[0][key] for key in ("low", "high")}
    return {**edges, "count": count, "confidence": mean("confidence"), "accuracy": mean("accuracy")}


def _title(section: Section, cell: RowGroup) -> str:
    return visible(f"{section.dataset}, {cell.labels:,} labels, {section.lines[cell.line]}")


def _of(rows: Sequence[Row], cell: RowGroup) -> str:
    seeds = "1 seed" if len(cell.rows) == 1 else f"{len(cell.rows)} seeds"
    return seeds if len(rows) == len(cell.rows) else f"{len(rows)} of {seeds}"


def _size(row: Row) -> int:
    return len(row["confusion"])


def _edges(row: Row) -> list[tuple[float, float]]:
    return [(one["low"], one["high"]) for one in row["reliability"]]
