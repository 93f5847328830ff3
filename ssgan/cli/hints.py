"""Commands that the messages of ``ssgan train`` suggest."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssgan.cli.options import DataLocation
from ssgan.settings import fields
from ssgan.settings.config import Config

if TYPE_CHECKING:
    from ssgan.data.dataset import Data

__all__ = ["how_to_go_on", "predict_command", "settings_options", "start_command"]

# Settings that have their own options; the others are set by --set.
FLAGS = ("labels", "method", "seed", "seeds", "draw_seed", "device", "folds", "backbone", "image_size")


def how_to_go_on(location: DataLocation, folder: Path, data: "Data", config: Config) -> str:
    """Return a sentence about an interrupted run: how to resume it, and how to see what it has learned."""
    from ssgan.settings.catalog import is_picture_shape

    words = f"{folder} is unfinished; resume it with: {_resume_command(location, folder)}"
    is_sampled = config.trains_generator and config.backbone is None and is_picture_shape(data.image_shape)
    if is_sampled and (folder / "checkpoint").exists():
        words += f"; see what it generates with: {shlex.join(['ssgan', 'sample', str(folder)])}"
    if (folder / "checkpoint").exists():
        words += f"; use what it has learned with: {predict_command(folder, data)}"
        if len(data.x_test):
            score = ["ssgan", "evaluate", str(folder), "--data", location.data]
            words += f"; score it with: {shlex.join([*score, *location.words()])}"
    return words


def predict_command(folder: Path, data: "Data") -> str:
    """Return the command that classifies other images with a run; PICTURES is a placeholder for them."""
    from ssgan.settings.catalog import is_picture_shape

    images = "PICTURES" if is_picture_shape(data.source.image_shape) else "FILE.npz"
    return shlex.join(["ssgan", "predict", str(folder), images, "--out", "predictions.csv"])


def start_command(location: DataLocation, run: Path, settings: Mapping[str, Any], epochs: str | None) -> str:
    """Return the command that starts a new run, in an unused folder, from the weights of a run."""
    count = 2
    while (free := run.with_name(f"{run.resolve().name}-{count}")).exists():
        count += 1
    words = [*location.words(), "--from", str(run), "--out", str(free), *settings_options(settings)]
    words += [] if epochs is None else ["--epochs", epochs]
    return shlex.join(["ssgan", "train", location.data, *words])


def settings_options(settings: Mapping[str, Any]) -> list[str]:
    """Return the options of ``ssgan train`` that set these settings."""
    words = []
    for name, value in settings.items():
        text = repr(value) if isinstance(value, float) else fields.show(value)
        words += [f"--{name.replace('_', '-')}", text] if name in FLAGS else ["--set", f"{name}={text}"]
    return words


def _resume_command(location: DataLocation, folder: Path) -> str:
    """Return the command that resumes a run."""
    words = [*location.words(), "--out", str(folder)]
    return shlex.join(["ssgan", "train", location.data, *words, "--resume"])
