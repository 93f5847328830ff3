"""Render the blocks of a report as one HTML file or as Markdown, with every text escaped."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssgan.report.blocks import Block, Bullets, Part, Picture, Table, Text, visible

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["MARKDOWN_FILE", "render_html", "render_markdown"]


FOLDER = Path(__file__).parent
MARKDOWN_FILE = "report.md"
EMPTY = "\N{EN DASH}"
MOST_BYTES = 1_000_000
# Rows of a table and pictures of a part on the page, reduced until it fits: Markdown always has all of them.
LIMITS = ((None, None), (500, 40), (250, 20), (120, 12), (60, 6), (30, 3))


def render_html(title: str, blocks: Sequence[Block]) -> str:
    """Render one HTML file that loads nothing else.

    Where it would exceed 1 MB, long tables and series of pictures are shown in part, and a note gives the number of
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
    """Escape a text so that Markdown shows it as it is."""
    escaped = re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", visible(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _block_markdown(block: Block, level: int) -> str:
    if isinstance(block, Text):
        return _paragraph(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"* {_markdown(item)}" for item in block.items)
    if isinstance(block, Table):
        return _table_markdown(block)
    if isinstance(block, Picture):
        return f"![{_markdown(block.alt)}]({block.name})\n\n{_paragraph(block.caption)}"
    inner = [_block_markdown(one, level + 1) for one in block.blocks]
    return "\n\n".join([f"{'#' * min(level, 6)} {_markdown(block.title)}", *inner])


def _paragraph(text: str) -> str:
    """Escape what would begin a list at the start: a number with a point, a dash or a plus."""
    return re.sub(r"^(\d+)([.)])|^([-+=])", lambda m: f"{m[1]}\\{m[2]}" if m[1] else f"\\{m[3]}", _markdown(text))


def _table_markdown(shown: Table) -> str:
    head = " | ".join(map(_markdown, shown.columns))
    rule = "|".join("---" if k in shown.words else "---:" for k in range(len(shown.columns)))
    rows = [" | ".join(EMPTY if cell is None else _markdown(cell) for cell in row) for row in shown.rows]
    return "\n".join([_paragraph(shown.caption), "", f"| {head} |", f"|{rule}|", *(f"| {row} |" for row in rows)])
