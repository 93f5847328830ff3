"""The networks by name: pairs of a generator G and a discriminator D, as a configuration asks for them.

``D(x) -> (logits [B, K], features [B, F])`` and ``G(z) -> images [B, *image_shape]`` in D's input range,
which the pair owns. :mod:`ssgan.frames` says what else both can do.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ssgan.config import Config
from ssgan.frames import Discriminator, Generator
from ssgan.mlp import MLPDiscriminator, MLPGenerator

__all__ = ["MODELS", "Pair", "latent"]


class Pair(NamedTuple):
    """How to build a G and a D that fit together, and the range [low, high] of their images."""

    discriminator: Callable[[Config, tuple[int, ...], int], Discriminator]
    generator: Callable[[Config, tuple[int, ...]], Generator]
    low: float
    high: float

    def to_input(self, stored: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
        """Stored pixels, 0 to ``scale``, as floats in the range of the networks."""
        return stored.to(dtype) * ((self.high - self.low) / scale) + self.low

    def to_unit(self, images: Tensor) -> Tensor:
        """Images in the range of the networks as floats in [0, 1]."""
        return (images - self.low) / (self.high - self.low)


def latent(config: Config, *shape: int, generator: torch.Generator | None = None) -> Tensor:
    """G's noise [*shape, latent_size], by the configured distribution."""
    device = None if generator is None else generator.device
    draw = torch.rand if config.latent_distribution == "uniform" else torch.randn
    return draw(*shape, config.latent_size, generator=generator, device=device)


def _reference(config: Config) -> Tensor | None:
    return latent(config, config.reference_rows) if config.generator_norm == "virtual" else None


def _stored_rows(config: Config) -> int:
    """Real images kept by a D that couples rows: with each row of its own they make a training batch."""
    return config.batch_size - 1


def _mlp_discriminator(config: Config, image_shape: tuple[int, ...], classes: int) -> Discriminator:
    return MLPDiscriminator(
        math.prod(image_shape),
        classes,
        config.discriminator_widths,
        config.noise_input_std,
        config.noise_hidden_std,
        config.minibatch_kernels,
        config.minibatch_kernel_dim,
        reference_rows=_stored_rows(config),
    )


def _mlp_generator(config: Config, image_shape: tuple[int, ...]) -> Generator:
    reference = _reference(config)
    return MLPGenerator(config.latent_size, image_shape, config.generator_widths, config.generator_norm, reference)


MODELS: dict[str, Pair] = {"mlp": Pair(_mlp_discriminator, _mlp_generator, low=0.0, high=1.0)}
