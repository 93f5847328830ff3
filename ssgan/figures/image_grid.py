"""Images laid out to be looked at.

The fixed grid on its way through training: frames in the run folder, and an animation of them.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ssgan.errors import UserError
from ssgan.files import open_atomic
from ssgan.settings.config import Config

if TYPE_CHECKING:
    from ssgan.inference.models import Models

__all__ = [
    "FRAMES_FOLDER",
    "Tile",
    "animate",
    "captioned",
    "drawable",
    "frame_due",
    "grid",
    "pixels",
    "read_frames",
    "sheet",
    "trim_frames",
    "write_frame",
]


TILE_PIXELS, GAP, GROUND, INK = 48, 2, 255, 64
FONT_PIXELS, LINE_PIXELS, MARGIN_PIXELS = 12, 16, 3
NAME_LETTERS = 24

# A picture, words in its place, or nothing.
Tile = np.ndarray | str | None


def drawable(image_shape: Sequence[int]) -> bool:
    """Whether images of this shape are grey or colour pictures, [H, W] or [H, W, C] with C = 1 or 3."""
    return len(image_shape) == 2 or (len(image_shape) == 3 and image_shape[2] in (1, 3))


def pixels(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as uint8, full intensity 255."""
    return (255 * images).round().clip(0, 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int = 10, tile_pixels: int = TILE_PIXELS, gap: int = GAP) -> Image.Image:
    """Lay images out row by row on a white ground.

    Parameters
    ----------
    images : ndarray of uint8, shape [N, H, W] or [N, H, W, C], C = 1 or 3
        Full intensity is 255.
    columns : int
    tile_pixels : int
        Each image is magnified by the whole factor that brings its height nearest to this.
    gap : int
        Pixels between tiles.
    """
    tiles = _magnified(images, tile_pixels)
    height, width = tiles.shape[1:3]
    rows = -(-len(tiles) // columns)
    step_y, step_x = height + gap, width + gap
    whole = np.full((rows * step_y - gap, columns * step_x - gap, *tiles.shape[3:]), GROUND, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // columns * step_y, i % columns * step_x
        whole[y : y + height, x : x + width] = tile
    return Image.fromarray(whole)


def sheet(
    rows: Sequence[Sequence[Tile]], captions: Sequence[Sequence[str]] = (), tile_pixels: int = TILE_PIXELS
) -> Image.Image:
    """Lay pictures and words out as a table on a white ground.

    Parameters
    ----------
    rows : sequence of sequence of Cell
        Equally long. Pictures are uint8 [H, W] or [H, W, C], all of one shape, and magnified as in :func:`grid`;
        words stand in the middle of their cell, and a row or column of words alone is as narrow as they are.
    captions : sequence of sequence of str, optional
        What stands below each cell.
    tile_pixels : int
    """
    pictures = np.stack([cell for row in rows for cell in row if isinstance(cell, np.ndarray)])
    tiles = iter(_magnified(pictures, tile_pixels))
    placed = [[next(tiles) if isinstance(cell, np.ndarray) else cell for cell in row] for row in rows]
    notes = captions or [[""] * len(row) for row in rows]
    widths = [
        max(map(_width, [*(row[k] for row in placed), *(note[k] for note in notes)])) for k in range(len(placed[0]))
    ]
    heights = [max(cell.shape[0] if isinstance(cell, np.ndarray) else LINE_PIXELS for cell in row) for row in placed]
    below = [LINE_PIXELS if any(note) else 0 for note in notes]
    ground: int | tuple[int, int, int] = GROUND if pictures.ndim == 3 or pictures.shape[3] == 1 else (GROUND,) * 3
    size = sum(widths) + GAP * (len(widths) - 1), sum(heights) + sum(below) + GAP * (len(heights) - 1)
    whole = Image.new("L" if isinstance(ground, int) else "RGB", size, ground)
    draw, y = ImageDraw.Draw(whole), 0
    for row, note, height, more in zip(placed, notes, heights, below, strict=True):
        x = 0
        for cell, words, width in zip(row, note, widths, strict=True):
            if isinstance(cell, np.ndarray):
                whole.paste(Image.fromarray(cell), (x + (width - cell.shape[1]) // 2, y))
            elif cell:
                _write(draw, (x + width / 2, y + height / 2), cell)
            _write(draw, (x + width / 2, y + height + LINE_PIXELS / 2), words)
            x += width + GAP
        y += height + more + GAP
    return whole


def captioned(image: Image.Image, words: str) -> Image.Image:
    """The image with a line of words below it."""
    whole = Image.new(image.mode, (image.width, image.height + LINE_PIXELS), (GROUND,) * len(image.getbands()))
    whole.paste(image)
    _write(ImageDraw.Draw(whole), (image.width / 2, image.height + LINE_PIXELS / 2), words)
    return whole


def _magnified(images: np.ndarray, tile_pixels: int) -> np.ndarray:
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    factor = max(1, round(tile_pixels / images.shape[1]))
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def _width(cell: Tile) -> int:
    if isinstance(cell, np.ndarray):
        return cell.shape[1]
    return int(_font().getlength(_line(cell))) + 2 * MARGIN_PIXELS if cell else 0


def _write(draw: ImageDraw.ImageDraw, middle: tuple[float, float], words: str) -> None:
    ink = (INK,) * len(draw.mode)
    draw.text(middle, _line(words), fill=ink if len(ink) > 1 else INK, font=_font(), anchor="mm")


def _line(words: str) -> str:
    """One line of bounded length: names of classes can hold anything."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)
    return plain if len(plain) <= NAME_LETTERS else plain[: NAME_LETTERS - 1] + "…"


@cache
def _font() -> ImageFont.FreeTypeFont:
    import matplotlib  # only for its font, which has the letters of many languages

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), FONT_PIXELS)


FRAMES_FOLDER = "frames"
FRAME_MILLISECONDS, LAST_MILLISECONDS = 150, 2000


def frame_due(config: Config, step: int) -> bool:
    """Whether a frame is drawn after this step: at every interval and at the end, where there is a generator."""
    if not (config.frames_every_images and config.trains_generator):
        return False
    every = -(-config.frames_every_images // config.images_per_step)
    return step % every == 0 or step == config.steps


def write_frame(run: Path, models: "Models", images: int) -> None:
    """Draw the frame of so many images of training: the first model's images of the noise of the run's first seed.

    Vectors and images that are not finite give none.
    """
    side = models.config.grid_side
    samples = models.select(models.seeds[:1]).sample(side**2, seed=models.config.seed)[0]
    if drawable(models.image_shape) and np.isfinite(samples).all():
        (run / FRAMES_FOLDER).mkdir(exist_ok=True)
        with open_atomic(run / FRAMES_FOLDER / f"{images:09d}.png") as stream:
            grid(pixels(samples), side).save(stream, format="png")


def read_frames(run: Path) -> dict[int, Path]:
    """The frames of a run by the number of images that training had seen, in order."""
    found = {int(path.stem): path for path in (run / FRAMES_FOLDER).glob("*.png") if re.fullmatch(r"\d{9,}", path.stem)}
    return dict(sorted(found.items()))


def trim_frames(run: Path, images: int) -> None:
    """Remove the frames after so many images: those after the last checkpoint will be drawn again."""
    for at, path in read_frames(run).items():
        if at > images:
            path.unlink()


def animate(found: dict[int, Path], suffix: str) -> Callable[[BinaryIO], None]:
    """Join frames to an animation without end, each with its number of images below it; the last one stays a while.

    Parameters
    ----------
    found : dict of int to Path
        What :func:`frames` gave; at least one.
    suffix : {".gif", ".webp"}

    Returns
    -------
    callable
        Writes the animation to a stream.

    Raises
    ------
    UserError
        Where a frame is damaged, or not of the size of the others.
    """
    pictures: list[Image.Image] = []
    for images, path in found.items():
        try:
            with Image.open(path) as frame:
                pictures.append(captioned(frame.copy(), f"{images:,} images"))
        except (OSError, ValueError, SyntaxError):
            raise UserError(f"{path} cannot be read as a picture: remove it.") from None
        if pictures[-1].size != pictures[0].size:
            raise UserError(f"{path} is not of the size of the frames before it: remove it.")
    times = [FRAME_MILLISECONDS] * (len(pictures) - 1) + [LAST_MILLISECONDS]
    options = {"lossless": True} if suffix == ".webp" else {"disposal": 1}

    def save(stream: BinaryIO) -> None:
        first, *others = pictures
        first.save(stream, format=suffix[1:], save_all=True, append_images=others, duration=times, loop=0, **options)

    return save
