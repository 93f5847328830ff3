"""Configurations that train in a second."""

from typing import Any

from ssgan.settings.config import Config
from ssgan.settings.presets import PRESETS

TINY = {
    "labels": 20,
    "total_images": 400,
    "batch_size": 20,
    "discriminator_widths": (16, 12),
    "generator_widths": (10,),
    "latent_size": 6,
    "init_images": 50,
    "report_every_images": 100,
    "device": "cpu",
}
TINY_OPTIONS = ["--set", "total_images=2000", "--set", "discriminator_widths=16,8", "--set", "generator_widths=16"]


def tiny(**settings: Any) -> Config:
    """A configuration that trains in a second."""
    return Config(**{**PRESETS["digits"], **TINY}).replace(**settings)
