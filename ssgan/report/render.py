"""What a report is built of, and the same as HTML in one file or as Markdown. Every text is plain and escaped here."""

import base64
import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Block",
    "Bullets",
    "Details",
    "Matrix",
    "Part",
    "Picture",
    "Table",
    "Text",
    "render_html",
    "render_markdown",
    "table",
    "visible",
]


STYLE = Path(__file__).with_name("report.css")
EMPTY = "\N{EN DASH}"
SHADES, MOST_ACROSS = 9, 3


@dataclass(frozen=True)
class Text:
    """A paragraph; ``kind`` is ``lead`` or ``note`` or nothing."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of texts, None where there is nothing to say; the first is what the row is about.

    The columns in ``words`` hold text, the others numbers.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | None]]
    words: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class Matrix:
    """How often each true class was taken for each other: a row for each true one, which ``names`` names."""

    names: Sequence[str]
    counts: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Picture:
    """A PNG by its file name, with what it shows in words; what stands in its place in HTML takes less room.

    That is an SVG, of a ``chart`` or a smaller ``diagram``, a :class:`Matrix` or another PNG.
    """

    name: str
    png: bytes
    alt: str
    caption: str
    page: str | Matrix | bytes | None = None
    kind: str = "chart"


@dataclass(frozen=True)
class Details:
    """What a reader opens if it is wanted."""

    summary: str
    blocks: Sequence["Block"]


@dataclass(frozen=True)
class Part:
    """A headed part."""

    title: str
    blocks: Sequence["Block"]


Block = Text | Bullets | Table | Picture | Details | Part


def visible(text: str) -> str:
    """A text in one line, in which a character that shows nothing or turns others around is written as its number."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[str | None]], words: Iterable[int] = (0,)
) -> Table:
    """A table without the columns in which no row says anything."""
    kept = [k for k in range(len(columns)) if not k or any(row[k] is not None for row in rows)]
    said = frozenset(new for new, old in enumerate(kept) if old in {*words})
    return Table(caption, [columns[k] for k in kept], [[row[k] for k in kept] for row in rows], said)


def render_html(title: str, blocks: Sequence[Block]) -> str:
    """One HTML file that loads nothing else."""
    parts = [block for block in blocks if isinstance(block, Part)]
    links = "".join(f'<li><a href="#part-{i}">{_html(part.title)}</a></li>' for i, part in enumerate(parts, 1))
    body, number = [], 0
    for block in blocks:
        if isinstance(block, Part):
            if not number and len(parts) > 1:
                body.append(f'<nav aria-label="Parts of this report"><ul>{links}</ul></nav>')
            number += 1
            body.append(_block_html(block, 2, f' id="part-{number}"'))
        else:
            body.append(_block_html(block, 2))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_html(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{_html(title)}</h1>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def render_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The same as Markdown, with the pictures beside it."""
    body = "\n\n".join(text for block in blocks if (text := _block_markdown(block, 2)))
    return f"# {_markdown(title)}\n\n{body}\n"


def _html(text: str) -> str:
    return html.escape(visible(text))


def _block_html(block: Block, level: int, mark: str = "") -> str:
    if isinstance(block, Text):
        kind = f' class="{block.kind}"' if block.kind else ""
        return f"<p{kind}>{_html(block.text)}</p>"
    if isinstance(block, Bullets):
        return "<ul>" + "".join(f"<li>{_html(item)}</li>" for item in block.items) + "</ul>"
    if isinstance(block, Table):
        return _table_html(block)
    if isinstance(block, Picture):
        return _picture_html(block)
    inner = "\n".join(_block_html(one, level + 1) for one in block.blocks)
    if isinstance(block, Details):
        return f"<details><summary>{_html(block.summary)}</summary>\n{inner}\n</details>"
    return f"<section{mark}>\n<h{level}>{_html(block.title)}</h{level}>\n{inner}\n</section>"


def _picture_html(picture: Picture) -> str:
    alt, caption = _html(picture.alt), f"<figcaption>{_html(picture.caption)}</figcaption>"
    if isinstance(picture.page, Matrix):
        return f'<figure class="small">{caption}{_matrix_html(picture.page, alt)}</figure>'
    if isinstance(picture.page, str):
        small = ' class="small"' if picture.kind == "diagram" else ""
        shown = f'<div class="{picture.kind}" role="img" aria-label="{alt}">{picture.page}</div>'
        return f"<figure{small}>{shown}{caption}</figure>"
    source = base64.b64encode(picture.page or picture.png).decode()
    return f'<figure><img src="data:image/png;base64,{source}" alt="{alt}">{caption}</figure>'


def _matrix_html(matrix: Matrix, alt: str) -> str:
    """A table in which the shade of a cell is the share of its true class; no count is an empty cell."""
    head = "".join(f'<th scope="col"><span>{_html(name)}</span></th>' for name in matrix.names)
    upright = " upright" if max(map(len, matrix.names), default=0) > MOST_ACROSS else ""
    rows = []
    for name, counts in zip(matrix.names, matrix.counts, strict=True):
        total = max(sum(counts), 1)
        # The power makes a share of one in a hundred visible beside the diagonal.
        shades = [math.ceil(SHADES * (count / total) ** 0.4) for count in counts]
        cells = "".join(
            f'<td class="s{shade}">{count:,}</td>' if count else "<td></td>"
            for count, shade in zip(counts, shades, strict=True)
        )
        rows.append(f'<tr><th scope="row">{_html(name)}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" aria-label="{alt}" tabindex="0"><table class="matrix{upright}">\n'
        f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>"
    )


def _table_html(shown: Table) -> str:
    def kind(k: int) -> str:
        return ' class="words"' if k in shown.words else ""

    head = "".join(f'<th scope="col"{kind(k)}>{_html(name)}</th>' for k, name in enumerate(shown.columns))
    rows = []
    for row in shown.rows:
        first, *rest = (EMPTY if cell is None else _html(cell) for cell in row)
        others = "".join(f"<td{kind(k)}>{cell}</td>" for k, cell in enumerate(rest, 1))
        rows.append(f'<tr><th scope="row"{kind(0)}>{first}</th>{others}</tr>')
    caption = _html(shown.caption)
    return (
        f'<figure class="table"><figcaption>{caption}</figcaption>\n'
        f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div></figure>"
    )


def _markdown(text: str) -> str:
    """Plain text that Markdown shows as it is."""
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
    title = block.summary if isinstance(block, Details) else block.title
    inner = [_block_markdown(one, level + 1) for one in block.blocks]
    return "\n\n".join([f"{'#' * min(level, 6)} {_markdown(title)}", *inner])


def _paragraph(text: str) -> str:
    """Text that begins no list: a number with a point, a dash or a plus is escaped at the start."""
    return re.sub(r"^(\d+)([.)])|^([-+=])", lambda m: f"{m[1]}\\{m[2]}" if m[1] else f"\\{m[3]}", _markdown(text))


def _table_markdown(shown: Table) -> str:
    lines = [
        " | ".join(map(_markdown, shown.columns)),
        "|".join("---" if k in shown.words else "---:" for k in range(len(shown.columns))),
        *(" | ".join(EMPTY if cell is None else _markdown(cell) for cell in row) for row in shown.rows),
    ]
    head, rule, *rows = lines
    return "\n".join([_paragraph(shown.caption), "", f"| {head} |", f"|{rule}|", *(f"| {row} |" for row in rows)])
