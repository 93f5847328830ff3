"""Distinguish colour photographs from drawings, letters and grey images by a sample of the files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssgan.data import file_tree, image_io
from ssgan.data.image_io import UnreadableImage
from ssgan.errors import UserError
from ssgan.settings.options import DEFAULT_BACKBONE, default_image_size, is_installed
from ssgan.settings.presets import resolve

__all__ = [
    "MAJORITY",
    "BackboneChoice",
    "PictureKind",
    "backbone_of_photographs",
    "is_photograph",
    "look_at_pictures",
]

SAMPLE = 64  # files that are sampled, evenly spaced from the first to the last
SIDE = 64  # pixels of a side to which they are resized
COLOUR = 6.0  # smallest mean difference of the largest and the smallest channel, of 255, of a colour picture
TONES = 30  # fewest colours of a photograph, at 16 levels per channel; drawings and letters have fewer
MAJORITY = 0.75  # fraction of the pictures that decides for the whole set
SMALLEST_PHOTOGRAPH = 48  # smallest shorter side, in pixels, of photographs that get a backbone


@dataclass(frozen=True)
class PictureKind:
    """What a sample of picture files shows.

    Attributes
    ----------
    photographs : bool
        Whether most are colour photographs.
    shortest_side : int
        Median of the shorter sides, in pixels.
    """

    photographs: bool
    shortest_side: int


def look_at_pictures(path: Path) -> PictureKind | None:
    """Inspect a sample of the pictures in a folder or a ``.zip``; return None if none can be read.

    Raises
    ------
    UserError
        If the folder or the zip cannot be read.
    """
    kinds, sides = [], []
    with file_tree.open_tree(path, image_io.SUFFIXES) as tree, image_io.ignore_warnings():
        for row in np.unique(np.linspace(0, len(tree.pictures) - 1, SAMPLE).astype(int)) if tree.pictures else []:
            try:
                with tree.open(tree.pictures[row]) as stream:
                    header = image_io.read_header(stream)
                    pixels = image_io.decode(stream, SIDE, grey=False)
            except (UnreadableImage, OSError):
                continue
            kinds.append(not header.grey and is_photograph(pixels))
            sides.append(min(header.width, header.height))
    if not kinds:
        return None
    return PictureKind(float(np.mean(kinds)) >= MAJORITY, int(np.median(sides)))


def is_photograph(pixels: np.ndarray) -> bool:
    """Return whether an image [H, W, 3] of uint8 has colour and many tones."""
    chroma = pixels.max(axis=2).astype(int) - pixels.min(axis=2)
    levels = (pixels // 16).astype(int)
    tones = np.unique(levels[..., 0] * 256 + levels[..., 1] * 16 + levels[..., 2])
    return float(chroma.mean()) >= COLOUR and len(tones) >= TONES


@dataclass(frozen=True)
class BackboneChoice:
    """The settings for a user's data, with a backbone if they are photographs.

    Attributes
    ----------
    settings : dict
    reason : str
        Whether a backbone was ``"chosen"``, or why photographs have none; empty for other data.
    image_size : int
        Size in pixels to which the photographs are resized.
    incompatible : tuple of str
        Names of the settings that do not work on features.
    """

    settings: dict[str, Any]
    reason: Literal["", "chosen", "not installed", "small", "incompatible"] = ""
    image_size: int = 0
    incompatible: tuple[str, ...] = ()


def backbone_of_photographs(path: Path, settings: Mapping[str, Any]) -> BackboneChoice:
    """Choose a backbone for a folder or a zip of colour photographs.

    A backbone that is set, even to None, is left unchanged, and so are settings that are incompatible with features.
    """
    chosen = {**settings, "backbone": DEFAULT_BACKBONE}
    if settings.get("method") == "fixmatch":
        chosen.setdefault("augmentation", "crops")
    is_pictures = (path.is_dir() or path.suffix.lower() == ".zip") and path.exists()
    if not is_pictures or "backbone" in settings or settings.get("labels") == 0:
        return BackboneChoice(dict(settings))
    incompatible = _incompatible_settings(settings, chosen)
    if incompatible is None:
        return BackboneChoice(dict(settings))
    kind = look_at_pictures(path)
    if kind is None or not kind.photographs or kind.shortest_side < SMALLEST_PHOTOGRAPH:
        return BackboneChoice(dict(settings))
    size: int = settings.get("image_size") or default_image_size(DEFAULT_BACKBONE)
    if not is_installed(DEFAULT_BACKBONE):
        return BackboneChoice(dict(settings), "not installed", size)
    if size < SMALLEST_PHOTOGRAPH:
        return BackboneChoice(dict(settings), "small", size)
    if incompatible:
        return BackboneChoice(dict(settings), "incompatible", size, incompatible)
    return BackboneChoice(chosen, "chosen", size)


def _incompatible_settings(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the settings that work on pixels but not on features; None if they do not work on pixels either."""
    if _is_valid("features", chosen):
        return ()
    if not _is_valid("images-fast", {"augmentation": "natural", **settings}):
        return None  # the training refuses them
    single = [
        name for name in settings if not _is_valid("features", {"backbone": DEFAULT_BACKBONE, name: chosen[name]})
    ]
    return tuple(single or settings)


def _is_valid(preset: str, settings: Mapping[str, Any]) -> bool:
    try:
        resolve(preset, settings)
    except UserError:
        return False
    return True
