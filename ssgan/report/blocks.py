"""Define the blocks that a report consists of: paragraphs, lists, tables, pictures and parts with a heading."""

import base64
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "Block",
    "Bullets",
    "Details",
    "Drawing",
    "Matrix",
    "Part",
    "Picture",
    "Table",
    "Text",
    "pictures_of",
    "table",
    "visible",
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
    """Rows of texts, None for an empty cell; the first column names the row.

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
        """Names of true classes, each with counts and their shades from 0 to 9, by the share of the true class."""
        for name, counts in zip(self.names, self.counts, strict=True):
            total = max(sum(counts), 1)
            # The power makes a share of one in a hundred visible beside the diagonal.
            yield name, [(count, math.ceil(SHADES * (count / total) ** 0.4)) for count in counts]


@dataclass(frozen=True)
class Drawing:
    """SVG for the page: ``svg``, and ``narrow`` in its place on a narrow screen; trusted markup, not escaped."""

    svg: str
    narrow: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG file beside the page, with a description; ``page`` stands in its place in HTML."""

    kind: ClassVar = "picture"
    name: str
    png: bytes
    alt: str
    caption: str
    page: Drawing | Matrix | bytes | None = None

    @property
    def drawing(self) -> Drawing | None:
        """What the page shows, where it is a drawing."""
        return self.page if isinstance(self.page, Drawing) else None

    @property
    def matrix(self) -> Matrix | None:
        """What the page shows, where it is a confusion matrix."""
        return self.page if isinstance(self.page, Matrix) else None

    @property
    def png_base64(self) -> str:
        """The PNG of the page, where it shows one."""
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


def visible(text: str) -> str:
    """Write a text in one line, with escape codes for characters that are invisible or change the direction."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _code(c) for c in text)


def _code(character: str) -> str:
    return character.encode("unicode_escape").decode()


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
