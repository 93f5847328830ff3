"""Draw grids and tables of images, and frames and animations of a training."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ssgan.errors import UserError, counted
from ssgan.figures.fonts import font_file, legible
from ssgan.files import open_file

__all__ = [
    "FRAMES_FOLDER",
    "Tile",
    "add_caption",
    "animate",
    "draw_classes",
    "draw_grid",
    "draw_table",
    "read_frames",
    "to_uint8",
]


TILE_PIXELS, GAP, BACKGROUND, INK = 48, 2, 255, 64
FONT_PIXELS, LINE_PIXELS, MARGIN_PIXELS = 12, 16, 3
MAX_LETTERS = 24  # letters of a caption
NAMED_ROWS = 40  # largest number of classes that have rows of their own

# A picture, text in its place, or nothing.
Tile = np.ndarray | str | None


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Convert images in [0, 1] to uint8, full intensity 255."""
    return (255 * images).round().clip(0, 255).astype(np.uint8)


def draw_grid(images: np.ndarray, columns: int = 10, tile_pixels: int = TILE_PIXELS, gap: int = GAP) -> Image.Image:
    """Draw images row by row on a white background.

    Parameters
    ----------
    images : ndarray of uint8, shape [N, H, W] or [N, H, W, C], C = 1 or 3
        Full intensity is 255.
    columns : int
    tile_pixels : int
        Each image is magnified by the integer factor that brings its height nearest to this.
    gap : int
        Pixels between tiles.
    """
    tiles = _magnify(images, tile_pixels)
    height, width = tiles.shape[1:3]
    rows = -(-len(tiles) // columns)
    step_y, step_x = height + gap, width + gap
    canvas = np.full((rows * step_y - gap, columns * step_x - gap, *tiles.shape[3:]), BACKGROUND, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // columns * step_y, i % columns * step_x
        canvas[y : y + height, x : x + width] = tile
    return Image.fromarray(canvas)


def draw_table(
    rows: Sequence[Sequence[Tile]], captions: Sequence[Sequence[str]] = (), tile_pixels: int = TILE_PIXELS
) -> Image.Image:
    """Draw images and words as a table on a white background.

    Parameters
    ----------
    rows : sequence of sequence of Tile
        Rows of equal length. Images are uint8 [H, W] or [H, W, C], all of one shape, and magnified as in
        :func:`draw_grid`; words are centred, and a row or column with only words is as narrow as they are.
    captions : sequence of sequence of str, optional
        Text below each cell.
    tile_pixels : int
    """
    images = np.stack([cell for row in rows for cell in row if isinstance(cell, np.ndarray)])
    tiles = iter(_magnify(images, tile_pixels))
    table = [[next(tiles) if isinstance(cell, np.ndarray) else cell for cell in row] for row in rows]
    texts = captions or [[""] * len(row) for row in rows]
    widths = [max(map(_width, column)) for column in zip(*table, *texts, strict=True)]
    heights = [max(cell.shape[0] if isinstance(cell, np.ndarray) else LINE_PIXELS for cell in row) for row in table]
    caption_heights = [LINE_PIXELS if any(captions_of_row) else 0 for captions_of_row in texts]
    grey = images.ndim == 3 or images.shape[3] == 1
    size = sum(widths) + GAP * (len(widths) - 1), sum(heights) + sum(caption_heights) + GAP * (len(heights) - 1)
    canvas = Image.new("L", size, BACKGROUND) if grey else Image.new("RGB", size, (BACKGROUND,) * 3)
    draw, y = ImageDraw.Draw(canvas), 0
    for row, captions_of_row, height, caption_height in zip(table, texts, heights, caption_heights, strict=True):
        x = 0
        for cell, words, width in zip(row, captions_of_row, widths, strict=True):
            if isinstance(cell, np.ndarray):
                canvas.paste(Image.fromarray(cell), (x + (width - cell.shape[1]) // 2, y))
            elif cell:
                _write(draw, (x + width / 2, y + height / 2), cell)
            _write(draw, (x + width / 2, y + height + LINE_PIXELS / 2), words)
            x += width + GAP
        y += height + caption_height + GAP
    return canvas


def draw_classes(images: Sequence[np.ndarray], names: Sequence[str], columns: int = 10) -> Image.Image:
    """Draw the images of each class after its name, in rows of their own; with many classes, the name below each.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape [N, H, W] or [N, H, W, C]
        Images of each class; not all may be empty.
    names : sequence of str
        Names of the classes. A name with characters that no installed font has is drawn as its number, ``#3``.
    columns : int
        Largest number of images in a row.
    """
    rows: list[list[Tile]] = []
    captions: list[list[str]] = []
    shown = [(name, tile) for name, tiles in zip(legible(names), images, strict=True) for tile in tiles]
    columns = min(columns, len(shown) if len(names) > NAMED_ROWS else max(map(len, images)))
    if len(names) > NAMED_ROWS:
        for start in range(0, len(shown), columns):
            row = [*shown[start : start + columns], *[("", None)] * columns][:columns]
            rows.append([tile for _, tile in row])
            captions.append([name for name, _ in row])
        return draw_table(rows, captions)
    for name, tiles in zip(legible(names), images, strict=True):
        for start in range(0, len(tiles), columns):
            part = [*tiles[start : start + columns]]
            rows.append(["" if start else f" {name} ", *part, *[None] * (columns - len(part))])
    return draw_table(rows)


def add_caption(image: Image.Image, words: str) -> Image.Image:
    """Return the image with a line of text below it."""
    canvas = Image.new(image.mode, (image.width, image.height + LINE_PIXELS), (BACKGROUND,) * len(image.getbands()))
    canvas.paste(image)
    _write(ImageDraw.Draw(canvas), (image.width / 2, image.height + LINE_PIXELS / 2), words)
    return canvas


def _magnify(images: np.ndarray, tile_pixels: int) -> np.ndarray:
    """Magnify images by the integer factor that brings their height nearest to ``tile_pixels``."""
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    factor = max(1, round(tile_pixels / images.shape[1]))
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def _width(cell: Tile) -> int:
    """Return the width of a cell in pixels."""
    if isinstance(cell, np.ndarray):
        return cell.shape[1]
    return int(_font(font_file(_clean(cell))).getlength(_clean(cell))) + 2 * MARGIN_PIXELS if cell else 0


def _write(draw: ImageDraw.ImageDraw, middle: tuple[float, float], words: str) -> None:
    """Write a line of text around a point."""
    ink = (INK,) * len(draw.mode)
    line = _clean(words)
    draw.text(middle, line, fill=ink if len(ink) > 1 else INK, font=_font(font_file(line)), anchor="mm")


def _clean(words: str) -> str:
    """Replace unprintable characters and cut long text, because names of classes can hold anything."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)
    return line if len(line) <= MAX_LETTERS else line[: MAX_LETTERS - 1] + "…"


@cache
def _font(file: str) -> ImageFont.FreeTypeFont:
    """Load a font in the size of captions."""
    return ImageFont.truetype(file, FONT_PIXELS)


FRAMES_FOLDER = "frames"
FRAME_MILLISECONDS, LAST_FRAME_MILLISECONDS = 150, 2000


def read_frames(run: Path) -> dict[int, Path]:
    """List the frames of a run by the number of images that training had seen, in order."""
    paths = [path for path in (run / FRAMES_FOLDER).glob("*.png") if re.fullmatch(r"\d{9,}", path.stem)]
    return dict(sorted((int(path.stem), path) for path in paths))


def animate(frames: dict[int, Path], suffix: str) -> Callable[[BinaryIO], None]:
    """Join frames to a looping animation, each with its number of images as caption; the last frame stays longer.

    Parameters
    ----------
    frames : dict of int to Path
        As :func:`read_frames` returns them; at least one.
    suffix : {".gif", ".webp"}

    Returns
    -------
    callable
        Writes the animation to a stream.

    Raises
    ------
    UserError
        If a frame is damaged, or its size differs from that of the others.
    """
    pictures: list[Image.Image] = []
    for images, path in frames.items():
        try:
            with open_file(path) as stream, Image.open(stream, formats=["PNG"]) as frame:
                pictures.append(add_caption(frame.copy(), counted(images, "image")))
        except (OSError, ValueError, SyntaxError):
            raise UserError(f"{path} cannot be read as a picture: remove it.") from None
        if pictures[-1].size != pictures[0].size:
            raise UserError(f"{path} differs in size from the frames before it: remove it.")
    times = [FRAME_MILLISECONDS] * (len(pictures) - 1) + [LAST_FRAME_MILLISECONDS]
    options = {"lossless": True} if suffix == ".webp" else {"disposal": 1}

    def save(stream: BinaryIO) -> None:
        first, *others = pictures
        first.save(stream, format=suffix[1:], save_all=True, append_images=others, duration=times, loop=0, **options)

    return save
