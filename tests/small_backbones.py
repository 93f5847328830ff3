"""A small frozen network instead of the pretrained ones, and pictures whose classes it can separate."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ssgan.data.dataset import Data
from ssgan.inference import features
from ssgan.nn import backbones
from ssgan.nn.backbones import Backbone, Pretrained
from ssgan.settings.config import Config
from ssgan.settings.options import check_backbone
from ssgan.settings.presets import resolve

SIDE = 16
FEATURES = 24
NAME = "efficientnet-lite0"
SHA256 = "5" * 64
FEATURE_OPTIONS = [
    *("--backbone", NAME, "--image-size", str(SIDE), "--set", "total_images=800", "--set", "batch_size=20"),
    *("--set", "feature_components=6", "--set", "discriminator_widths=16", "--set", "generator_widths=8"),
    *("--set", "init_images=40"),
]


def small_backbone(name: str = NAME, image_size: int | None = None, sha256: str = SHA256) -> Backbone:
    """A frozen random convolution, averaged over quarters of the picture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = nn.Sequential(nn.Conv2d(3, FEATURES // 4, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return Backbone(name, Pretrained(network, sha256, image_size or SIDE, (0.5,) * 3, (0.5,) * 3))


def use_small_backbone(patch: pytest.MonkeyPatch, sha256: str = SHA256) -> list[int]:
    """Load this network under every name; return a list that records the number of images of each call."""
    seen: list[int] = []

    class Counted(Backbone):
        def features(self, images: np.ndarray, scale: float = 255.0) -> np.ndarray:
            seen.append(len(images))
            return super().features(images, scale)

    def load(name: str, image_size: int | None = None, device: Any = None) -> Backbone:
        check_backbone(name)
        backbone = small_backbone(name, image_size, sha256)
        backbone.__class__ = Counted
        return backbone

    patch.setattr(backbones, "find_spec", lambda name: None)  # no ONNX graph
    patch.setattr(features, "load_backbone", load)
    features.open_backbone.cache_clear()
    return seen


def coloured(count: int, seed: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures [N, side, side, 3] of three classes that differ in colour, and the classes."""
    random = np.random.RandomState(seed)
    y = np.arange(count) % 3
    x = random.randint(0, 130, (count, side, side, 3)) + 120 * (np.arange(3) == y[:, None])[:, None, None, :]
    return x.clip(0, 255).astype(np.uint8), y


def coloured_data(**changes: Any) -> Data:
    (x_train, y_train), (x_test, y_test) = coloured(90, 0), coloured(30, 1)
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, **changes}
    return Data(**arrays, classes=("red", "green", "blue"), name="coloured")


def feature_config(**settings: Any) -> Config:
    """A configuration that trains on these pictures in a second."""
    small: dict[str, Any] = {
        **{"labels": 9, "total_images": 800, "batch_size": 20, "image_size": SIDE, "feature_components": 6},
        **{"discriminator_widths": (16,), "generator_widths": (8,), "init_images": 40, "device": "cpu"},
    }
    return resolve("features", {**small, **settings}, optional={"generator_widths"})
