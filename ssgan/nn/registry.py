"""The networks by name: pairs of a generator G and a discriminator D, as a configuration asks for them.

``D(x) -> (logits [B, K], features [B, F])`` and ``G(z) -> images [B, *image_shape]`` in D's input range,
which the pair owns. :mod:`ssgan.nn.base` says what else both can do.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ssgan.nn.base import ChannelsFirst, Discriminator, Generator, Noise, channels_of
from ssgan.nn.conv import DCGANDiscriminator, DCGANGenerator, DeconvGenerator, compact_trunk, paper_trunk, wide_trunk
from ssgan.nn.layers import MinibatchDiscrimination
from ssgan.nn.mlp import MLPDiscriminator, MLPGenerator, PlainDiscriminator, PlainGenerator, ToyGenerator
from ssgan.nn.weight_norm import WeightNormLinear
from ssgan.settings.catalog import check_image_shape
from ssgan.settings.config import Config

__all__ = ["JITTER", "MODELS", "SPREAD", "Pair", "latent"]


# Noise that is spread evenly lies in [-SPREAD, SPREAD], each number moved by as much as JITTER at random.
SPREAD, JITTER = 5.0, 0.01


class Pair(NamedTuple):
    """How to build a G and a D that fit together, and the range [low, high] of their images.

    Both raise UserError where the network does not take images of that shape.
    """

    discriminator: Callable[[Config, tuple[int, ...], int], Discriminator]
    generator: Callable[[Config, tuple[int, ...]], Generator]
    low: float
    high: float

    def to_input(self, stored: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
        """Stored pixels, 0 to ``scale``, as floats in the range of the networks."""
        return stored.to(dtype) * ((self.high - self.low) / scale) + self.low

    def from_unit(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as floats in the range of the networks."""
        return images * (self.high - self.low) + self.low

    def to_unit(self, images: Tensor) -> Tensor:
        """Images in the range of the networks as floats in [0, 1]."""
        return (images - self.low) / (self.high - self.low)


def latent(config: Config, *shape: int, generator: torch.Generator | None = None) -> Tensor:
    """G's noise [*shape, latent_size], by the configured distribution; it is spread over the last of the shape."""
    device = None if generator is None else generator.device
    draw = torch.randn if config.latent_distribution == "normal" else torch.rand
    drawn = draw(*shape, config.latent_size, generator=generator, device=device)
    if config.latent_distribution == "spread":
        return torch.linspace(-SPREAD, SPREAD, shape[-1], device=device)[:, None] + JITTER * drawn
    return drawn


def _reference(config: Config) -> Tensor | None:
    return latent(config, config.reference_rows) if config.generator_norm == "virtual" else None


def _noise(config: Config) -> Noise:
    return Noise(config.noise_input_std, config.noise_hidden_std, config.dropout_input, config.dropout_hidden)


def _stored_rows(config: Config) -> int:
    """Real images kept by a D that couples rows: with each row of its own they make a training batch."""
    return config.batch_size - 1


def _mlp_discriminator(
    config: Config,
    image_shape: tuple[int, ...],
    classes: int,
    build: Callable[..., Discriminator] = MLPDiscriminator,
) -> Discriminator:
    return build(
        math.prod(image_shape),
        classes,
        config.discriminator_widths,
        config.noise_input_std,
        config.noise_hidden_std,
        config.minibatch_kernels,
        config.minibatch_kernel_dim,
        reference_rows=_stored_rows(config),
    )


def _mlp_generator(
    config: Config,
    image_shape: tuple[int, ...],
    build: Callable[..., Generator] = MLPGenerator,
) -> Generator:
    reference = _reference(config)
    return build(config.latent_size, image_shape, config.generator_widths, config.generator_norm, reference)


def _pooled_discriminator(
    config: Config,
    image_shape: tuple[int, ...],
    classes: int,
    build: Callable[[int, Sequence[int], Noise], nn.Sequential],
) -> Discriminator:
    """A trunk with weight norm whose features are the mean over the pixels of its last width of channels."""
    check_image_shape(config.network, image_shape)
    channels, features, kernels = channels_of(image_shape), config.discriminator_widths[-1], config.minibatch_kernels
    return Discriminator(
        layout=ChannelsFirst(),
        trunk=build(channels, config.discriminator_widths, _noise(config)),
        minibatch=MinibatchDiscrimination(features, kernels, config.minibatch_kernel_dim) if kernels else None,
        output=WeightNormLinear(features + kernels, classes, train_scale=True, std=0.05, init_std=0.1),
        noise_std=config.noise_hidden_std,
        reference=torch.zeros(_stored_rows(config), channels, *image_shape[:2]),
    )


def _deconv_generator(
    config: Config, image_shape: tuple[int, ...], kernel: int = 5, squash: Callable[[Tensor], Tensor] = torch.tanh
) -> Generator:
    check_image_shape(config.network, image_shape)
    return DeconvGenerator(
        config.latent_size,
        image_shape,
        config.generator_widths,
        config.generator_norm,
        _reference(config),
        kernel,
        squash,
    )


def _dcgan_discriminator(config: Config, image_shape: tuple[int, ...], classes: int) -> Discriminator:
    check_image_shape(config.network, image_shape)
    return DCGANDiscriminator(
        image_shape,
        classes,
        config.discriminator_widths[0],
        _noise(config),
        config.minibatch_kernels,
        config.minibatch_kernel_dim,
        reference_rows=_stored_rows(config),
    )


def _dcgan_generator(config: Config, image_shape: tuple[int, ...]) -> Generator:
    check_image_shape(config.network, image_shape)
    reference = _reference(config)
    return DCGANGenerator(config.latent_size, image_shape, config.generator_widths[0], config.generator_norm, reference)


def _toy_discriminator(config: Config, image_shape: tuple[int, ...], classes: int) -> Discriminator:
    check_image_shape(config.network, image_shape)
    return _mlp_discriminator(config, image_shape, classes, partial(PlainDiscriminator, activation=nn.Tanh))


def _toy_generator(config: Config, image_shape: tuple[int, ...]) -> Generator:
    check_image_shape(config.network, image_shape)
    return _mlp_generator(config, image_shape, ToyGenerator)


MODELS: dict[str, Pair] = {
    "mlp": Pair(_mlp_discriminator, _mlp_generator, low=0.0, high=1.0),
    "paper-conv": Pair(partial(_pooled_discriminator, build=paper_trunk), _deconv_generator, low=-1.0, high=1.0),
    # From 0, so that the zeros around an image go on with the black around a digit.
    "compact-conv": Pair(
        partial(_pooled_discriminator, build=compact_trunk),
        partial(_deconv_generator, kernel=4, squash=torch.sigmoid),
        low=0.0,
        high=1.0,
    ),
    "wide-resnet": Pair(partial(_pooled_discriminator, build=wide_trunk), _deconv_generator, low=-1.0, high=1.0),
    "dcgan": Pair(_dcgan_discriminator, _dcgan_generator, low=-1.0, high=1.0),
    "gan-mlp": Pair(
        partial(_mlp_discriminator, build=PlainDiscriminator),
        partial(_mlp_generator, build=PlainGenerator),
        low=-1.0,
        high=1.0,
    ),
    # As they are: with a scale of 1, this range leaves numbers of any size alone.
    "toy": Pair(_toy_discriminator, _toy_generator, low=0.0, high=1.0),
}
