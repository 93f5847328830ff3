"""Define the blocks that a report consists of, and render them as one HTML file or as Markdown, every text escaped."""

import base64
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ssgan.errors import visible

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = [
    "MARKDOWN_FILE",
    "Block",
    "Bullets",
    "Details",
    "Drawing",
    "Matrix",
    "Part",
    "Picture",
    "Table",
    "Text",
    "escape_markdown",
    "pictures_of",
    "render_html",
    "render_markdown",
    "table",
]

SHADES = 9
LONG_NAME = 3  # characters; the columns of a matrix are as wide


@dataclass(frozen=True)
class Text:
    """A paragraph; ``style`` is ``lead``, ``note`` or empty."""

    kind: ClassVar = "text"
    text: str
    style: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    kind: ClassVar = "bullets"
    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of strings, None for an empty cell; the first column names the row.

    The columns in ``words`` hold text, the others numbers.
    """

    kind: ClassVar = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | None]]
    words: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix for the page: row k counts the predictions for images of class ``names[k]``."""

    names: Sequence[str]
    counts: Sequence[Sequence[int]]

    @property
    def upright(self) -> bool:
        """Whether names are too long to stand above the columns side by side."""
        return max(map(len, self.names), default=0) > LONG_NAME

    @property
    def rows(self) -> Iterator[tuple[str, list[tuple[int, int]]]]:
        """Names of true classes, each with counts and their shades from 0 to 9, by the fraction of the true class."""
        for name, counts in zip(self.names, self.counts, strict=True):
            total = max(sum(counts), 1)
            # The power makes a fraction of one in a hundred visible next to the diagonal.
            yield name, [(count, math.ceil(SHADES * (count / total) ** 0.4)) for count in counts]


@dataclass(frozen=True)
class Drawing:
    """SVG for the page: ``svg``, and ``narrow`` instead of it on a narrow screen; trusted markup, not escaped."""

    svg: str
    narrow: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG file beside the page, with a description; in HTML, ``page`` replaces it."""

    kind: ClassVar = "picture"
    name: str
    png: bytes
    alt: str
    caption: str
    page: Drawing | Matrix | bytes | None = None

    @property
    def drawing(self) -> Drawing | None:
        """What the page shows, if it is a drawing."""
        return self.page if isinstance(self.page, Drawing) else None

    @property
    def matrix(self) -> Matrix | None:
        """What the page shows, if it is a confusion matrix."""
        return self.page if isinstance(self.page, Matrix) else None

    @property
    def png_base64(self) -> str:
        """The PNG of the page, if it shows one."""
        return base64.b64encode(self.page if isinstance(self.page, bytes) else self.png).decode()


@dataclass(frozen=True)
class Details:
    """Blocks that the reader unfolds."""

    kind: ClassVar = "details"
    title: str
    blocks: Sequence["Block"]


@dataclass(frozen=True)
class Part:
    """Blocks under a heading."""

    kind: ClassVar = "part"
    title: str
    blocks: Sequence["Block"]


Block = Text | Bullets | Table | Picture | Details | Part


def table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[str | None]], words: Iterable[int] = (0,)
) -> Table:
    """Make a table without its empty columns."""
    kept = [k for k in range(len(columns)) if not k or any(row[k] is not None for row in rows)]
    text_columns = frozenset(new for new, old in enumerate(kept) if old in {*words})
    return Table(caption, [columns[k] for k in kept], [[row[k] for k in kept] for row in rows], text_columns)


def pictures_of(blocks: Iterable[Block]) -> Iterator[Picture]:
    """Iterate over all pictures, those in parts and details too."""
    for block in blocks:
        if isinstance(block, Picture):
            yield block
        elif isinstance(block, Part | Details):
            yield from pictures_of(block.blocks)


FOLDER = Path(__file__).parent
MARKDOWN_FILE = "report.md"
EMPTY = "\N{EN DASH}"
MOST_BYTES = 1_000_000
# Rows of a table and pictures of a part on the page, reduced until it fits: Markdown always has all of them.
LIMITS = ((None, None), (500, 40), (250, 20), (120, 12), (60, 6), (30, 3))


def render_html(title: str, blocks: Sequence[Block]) -> str:
    """Render one HTML file that loads nothing else.

    If it would exceed 1 MB, long tables and series of pictures are shown in part, and a note gives the number of
    rows and pictures that only the Markdown file has.
    """
    template, html = _template(), ""
    parts = [block for block in blocks if isinstance(block, Part)]
    for row_limit, picture_limit in LIMITS:
        html = template.render(
            title=title,
            blocks=blocks,
            parts=parts,
            style=(FOLDER / "report.css").read_text(encoding="utf-8"),
            empty=EMPTY,
            markdown_file=MARKDOWN_FILE,
            row_limit=row_limit,
            picture_limit=picture_limit,
        )
        if len(html.encode()) < MOST_BYTES:
            break
    return html


def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.j2")


def render_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Render Markdown that shows the PNG files beside it."""
    body = "\n\n".join(text for block in blocks if (text := _block_markdown(block, 2)))
    return f"# {_markdown(title)}\n\n{body}\n"


def _markdown(text: str) -> str:
    """Escape text so that Markdown shows it literally."""
    escaped = re.sub(r"([\\`*_\[\]|#~!$])", r"\\\1", visible(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _block_markdown(block: Block, level: int) -> str:
    if isinstance(block, Text):
        return escape_markdown(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"* {escape_markdown(item)}" for item in block.items)
    if isinstance(block, Table):
        return _table_markdown(block)
    if isinstance(block, Picture):
        return f"![{_markdown(block.alt)}]({block.name})\n\n{escape_markdown(block.caption)}"
    inner = [_block_markdown(one, level + 1) for one in block.blocks]
    return "\n\n".join([f"{'#' * min(level, 6)} {_markdown(block.title)}", *inner])


def escape_markdown(text: str) -> str:
    """Escape text so that Markdown shows it literally, also if it begins a paragraph like a list item."""
    return re.sub(
        r"^(\d+)([.)])(?=\s|$)|^([-+=])", lambda m: f"{m[1]}\\{m[2]}" if m[1] else f"\\{m[3]}", _markdown(text)
    )


def _table_markdown(shown: Table) -> str:
    head = " | ".join(map(_markdown, shown.columns))
    rule = "|".join("---" if k in shown.words else "---:" for k in range(len(shown.columns)))
    rows = [" | ".join(EMPTY if cell is None else _markdown(cell) for cell in row) for row in shown.rows]
    return "\n".join([escape_markdown(shown.caption), "", f"| {head} |", f"|{rule}|", *(f"| {row} |" for row in rows)])
