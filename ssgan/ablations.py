"""The parts of the GAN, and the settings that take them away one at a time."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ssgan.settings.catalog import NETWORKS
from ssgan.settings.config import Config

__all__ = ["ABLATED", "Ablation", "ablations"]

ABLATED = "gan"
NOISES = ("noise_input_std", "noise_hidden_std", "dropout_input", "dropout_hidden")


class Ablation(NamedTuple):
    """A part that is taken away: what the row is called, by which settings, and whether the last D is evaluated."""

    name: str
    settings: Mapping[str, Any]
    last: bool = False


def ablations(config: Config) -> tuple[list[Ablation], list[str]]:
    """What can be taken away from a GAN with these settings, and the names of the parts that it does not have."""
    found, absent = [], []
    for part, settings_without in PARTS.items():
        settings = settings_without(config)
        if settings is None:
            absent.append(part)
        else:
            words = " (same run's last D)" if part == AVERAGE else ""
            found.append(Ablation(f"without {part}{words}", settings, part == AVERAGE))
    return found, absent


def _feature_matching(config: Config) -> dict[str, Any] | None:
    """G learns by the non-saturating objective instead, unless it has another one already."""
    if not (config.trains_generator and config.weight_feature_matching):
        return None
    others = config.weight_minimax or config.weight_non_saturating
    return {"weight_feature_matching": 0.0, **({} if others else {"weight_non_saturating": 1.0})}


def _initialisation(config: Config) -> dict[str, Any] | None:
    """Scales of 1 and biases of 0; what compares images with stored ones needs the images."""
    there = config.init_images and NETWORKS[config.network].weight_norm and not config.minibatch_kernels
    return {"init_images": 0} if there else None


def _noise(config: Config) -> dict[str, Any] | None:
    """Gaussian noise and dropout in D."""
    return {name: 0.0 for name in NOISES if getattr(config, name)} or None


def _generator(config: Config) -> dict[str, Any] | None:
    """And V with it; what D learns from unlabelled images stays."""
    return {"weight_fake": 0.0} if config.trains_generator else None


AVERAGE = "averaging D"
PARTS: dict[str, Callable[[Config], dict[str, Any] | None]] = {
    "feature matching": _feature_matching,
    "initialisation by images": _initialisation,
    "noise": _noise,
    AVERAGE: lambda config: {},
    "a generator": _generator,
}
