"""Narrow convolutional networks, inputs for them, and descriptions of their layers."""

from typing import Any

import pytest
import torch
from small_configs import tiny
from torch import Tensor, nn

from ssgan.nn.layers import BatchStatNorm, Dropout, GaussianNoise
from ssgan.nn.registry import NETWORK_PAIRS, draw_latents
from ssgan.nn.weight_norm import WeightNormConv2d
from ssgan.settings.catalog import NETWORK_NAMES, NETWORKS
from ssgan.settings.config import Config

CONVOLUTIONAL = [name for name in NETWORK_NAMES if NETWORKS[name].convolutional]
WEIGHT_NORMED = ["paper-conv", "compact-conv", "whitened-conv", "wide-resnet"]
NARROW: dict[str, dict[str, Any]] = {
    "paper-conv": {"discriminator_widths": (5, 7), "generator_widths": (8, 6, 5)},
    "compact-conv": {"discriminator_widths": (5, 6, 7), "generator_widths": (8, 6)},
    "whitened-conv": {"discriminator_widths": (5, 6, 7), "generator_widths": (8, 6)},
    "wide-resnet": {"discriminator_widths": (4, 5, 7), "generator_widths": (8, 6, 5)},
    "dcgan": {"discriminator_widths": (3,), "generator_widths": (3,)},
}
QUIET = {"noise_input_std": 0.0, "noise_hidden_std": 0.0, "dropout_input": 0.0, "dropout_hidden": 0.0}
every_network = pytest.mark.parametrize("network", CONVOLUTIONAL)
every_weight_normed = pytest.mark.parametrize("network", WEIGHT_NORMED)


def narrow(network: str, **settings: Any) -> Config:
    return tiny(**{"network": network, "batch_size": 4, "init_images": 20, **NARROW[network], **settings})


def pair(config: Config, shape: tuple[int, ...] = (32, 32, 3)) -> tuple[Any, Any]:
    """D and G in float64."""
    torch.manual_seed(0)
    D = NETWORK_PAIRS[config.network].discriminator(config, shape, 10)
    G = NETWORK_PAIRS[config.network].generator(config, shape)
    return D.double(), G.double()


def pictures(rows: int, *shape: int, seed: int = 1) -> Tensor:
    """Images in [0, 1], each with its own brightness and contrast."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, *shape, dtype=torch.float64, generator=generator)
    brightness = torch.rand(rows, *[1 for _ in shape], dtype=torch.float64, generator=generator)
    return x * brightness


def noise(config: Config, rows: int, seed: int = 2) -> Tensor:
    return draw_latents(config, rows, generator=torch.Generator().manual_seed(seed)).double()


def described(layers: nn.Sequential) -> list[str]:
    """A short description of each layer."""
    words = []
    for layer in layers:
        match layer:
            case WeightNormConv2d():
                outputs, inputs, kernel, _ = layer.v.shape
                words.append(f"{kernel}x{kernel} {inputs}-{outputs} stride {layer.stride} padding {layer.padding}")
            case nn.Conv2d():
                kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
                assert len({*kernel}) == len({*stride}) == len({*padding}) == 1
                words.append(
                    f"plain {kernel[0]}x{kernel[0]} {layer.in_channels}-{layer.out_channels} stride {stride[0]} "
                    f"padding {padding[0]}{'' if layer.bias is None else ' bias'}"
                )
            case nn.LeakyReLU():
                words.append(f"leaky {layer.negative_slope}")
            case Dropout():
                words.append(f"dropout {layer.p}")
            case GaussianNoise():
                words.append(f"noise {layer.std}")
            case BatchStatNorm():
                words.append(f"norm {len(layer.beta)}")
            case _:
                words.append(type(layer).__name__)
    return words
