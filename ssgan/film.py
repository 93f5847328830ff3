"""The fixed grid on its way through training: frames in the run folder, and an animation of them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from ssgan.config import Config
from ssgan.errors import UserError
from ssgan.files import open_atomic
from ssgan.gallery import captioned, drawable, grid, pixels

if TYPE_CHECKING:
    from ssgan.inference import Models

__all__ = ["FOLDER", "animate", "due", "frames", "trim", "write"]

FOLDER = "frames"
FRAME_MILLISECONDS, LAST_MILLISECONDS = 150, 2000


def due(config: Config, step: int) -> bool:
    """Whether a frame is drawn after this step: at every interval and at the end, where there is a generator."""
    if not (config.frames_every_images and config.trains_generator):
        return False
    every = -(-config.frames_every_images // config.images_per_step)
    return step % every == 0 or step == config.steps


def write(run: Path, models: "Models", images: int) -> None:
    """Draw the frame of so many images of training: the first model's images of the noise of the run's first seed.

    Vectors and images that are not finite give none.
    """
    side = models.config.grid_side
    samples = models.only(models.seeds[:1]).sample(side**2, seed=models.config.seed)[0]
    if drawable(models.image_shape) and np.isfinite(samples).all():
        (run / FOLDER).mkdir(exist_ok=True)
        with open_atomic(run / FOLDER / f"{images:09d}.png") as stream:
            grid(pixels(samples), side).save(stream, format="png")


def frames(run: Path) -> dict[int, Path]:
    """The frames of a run by the number of images that training had seen, in order."""
    found = {int(path.stem): path for path in (run / FOLDER).glob("*.png") if re.fullmatch(r"\d{9,}", path.stem)}
    return dict(sorted(found.items()))


def trim(run: Path, images: int) -> None:
    """Remove the frames after so many images: those after the last checkpoint will be drawn again."""
    for at, path in frames(run).items():
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
