"""Build the networks of a configuration: pairs of a generator G and a discriminator D, by name.

``D(x) -> (logits [B, K], features [B, F])`` and ``G(z) -> images [B, *image_shape]`` in the input range of D, which is
a property of the pair. :mod:`ssgan.nn.base` describes both.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ssgan.nn.base import ChannelsFirst, Discriminator, Generator, LayerNoise, channels_of
from ssgan.nn.conv import (
    DCGANDiscriminator,
    DCGANGenerator,
    DeconvGenerator,
    compact_trunk,
    paper_trunk,
    whitened_trunk,
    wide_trunk,
)
from ssgan.nn.layers import MinibatchDiscrimination
from ssgan.nn.mlp import (
    FeatureDiscriminator,
    MLPDiscriminator,
    MLPGenerator,
    PlainDiscriminator,
    PlainGenerator,
    VectorGenerator,
)
from ssgan.nn.stack import Stack
from ssgan.nn.weight_norm import WeightNormLinear
from ssgan.settings.catalog import check_image_shape
from ssgan.settings.config import Config

__all__ = [
    "BLOCK_LATENTS",
    "JITTER",
    "NETWORK_PAIRS",
    "SPREAD",
    "NetworkPair",
    "build_empty_stacks",
    "build_stacks",
    "draw_fixed_latents",
    "draw_latents",
]


# Evenly spread latents lie in [-SPREAD, SPREAD], each moved by up to JITTER at random.
SPREAD, JITTER = 5.0, 0.01
BLOCK_LATENTS = 100  # fixed latents that are drawn, and images that are generated, in one batch


class NetworkPair(NamedTuple):
    """Functions that build a matching D and G, and the range [low, high] of their images.

    Both functions raise UserError for images of a shape that the network does not take.
    """

    discriminator: Callable[[Config, tuple[int, ...], int], Discriminator]
    generator: Callable[[Config, tuple[int, ...]], Generator]
    low: float
    high: float

    def to_input(self, stored: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
        """Convert stored pixels, 0 to ``scale``, to floats in the range of the networks."""
        return stored.to(dtype) * ((self.high - self.low) / scale) + self.low

    def from_unit(self, images: Tensor) -> Tensor:
        """Convert images in [0, 1] to the range of the networks."""
        return images * (self.high - self.low) + self.low

    def to_unit(self, images: Tensor) -> Tensor:
        """Convert images in the range of the networks to [0, 1]."""
        return (images - self.low) / (self.high - self.low)


def draw_latents(config: Config, *shape: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw latents [*shape, latent_size] by ``latent_distribution``; "spread" is evenly spaced along ``shape[-1]``."""
    device = None if generator is None else generator.device
    draw = torch.randn if config.latent_distribution == "normal" else torch.rand
    z = draw(*shape, config.latent_size, generator=generator, device=device, dtype=torch.float32)
    if config.latent_distribution == "spread":
        spread = torch.linspace(-SPREAD, SPREAD, shape[-1], device=device, dtype=torch.float32)
        return spread[:, None] + JITTER * z
    return z


def draw_fixed_latents(config: Config, count: int, seed: int) -> Tensor:
    """Draw the first ``count`` latents [count, latent_size] of the fixed noise of ``seed``, on the CPU."""
    generator, z = torch.Generator().manual_seed(seed), []
    for _ in range(-(-count // BLOCK_LATENTS)):
        block = draw_latents(config, BLOCK_LATENTS, generator=generator)
        if config.latent_distribution == "spread":  # shuffled, so that a part of a block is not one-sided
            block = block[torch.randperm(BLOCK_LATENTS, generator=generator)]
        z.append(block)
    return torch.cat(z)[:count]


def build_stacks(
    config: Config,
    image_shape: tuple[int, ...],
    classes: int,
    seed_count: int,
    device: torch.device,
    initial: Callable[[int], tuple[int, Tensor]] | None = None,
) -> dict[str, Stack]:
    """Build the networks of S models as stacks: ``"D"`` and, if the method trains a generator, ``"G"``.

    Parameters
    ----------
    config : Config
    image_shape : tuple of int
    classes : int
        Number of classes of the data.
    seed_count : int
        S.
    device : torch.device
        Device of the stacks. The networks are initialised on the CPU, so that the values do not depend on it.
    initial : callable, optional
        Returns for model i the seed of torch's global generator, from which its weights are drawn, and the images
        [N, ...] of its data-dependent initialisation. Without it all models have the same random weights, to be
        overwritten by :meth:`Stack.fill`.

    Raises
    ------
    UserError
        If the network does not take images of that shape.
    """
    if initial is None:
        models = [_build_networks(config, image_shape, classes)] * seed_count
    else:
        models = []
        for i in range(seed_count):
            seed, images = initial(i)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU too
            models.append(_build_networks(config, image_shape, classes, images))
    return {name: Stack([networks[name] for networks in models], device) for name in models[0]}


def build_empty_stacks(config: Config, image_shape: tuple[int, ...], classes: int, seed_count: int) -> dict[str, Stack]:
    """Build the stacks of :func:`build_stacks` on torch's device ``meta``: shapes and types, but no values.

    They take no memory, so that the sizes that a file names can be compared with its tensors first.

    Raises
    ------
    UserError
        If the network does not take images of that shape.
    RuntimeError, OverflowError
        If a size is one that no tensor can have.
    """
    meta = torch.device("meta")
    with meta, _NoValues():
        return build_stacks(config, image_shape, classes, seed_count, meta)


class _NoValues(TorchFunctionMode):
    """Replace functions on meta tensors for which torch would import its compiler, which takes more than a second."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, or make a result of the same shape."""
        kwargs = kwargs or {}
        if function in (Tensor.normal_, Tensor.uniform_) or getattr(function, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        if function in (torch.randn, torch.rand):
            return torch.empty(*args)
        if function is torch.stack:
            return args[0][0].new_empty(len(args[0]), *args[0][0].shape)
        return function(*args, **kwargs)


def _build_networks(
    config: Config, image_shape: tuple[int, ...], classes: int, images: Tensor | None = None
) -> dict[str, nn.Module]:
    """Build D and, if it is trained, G of one model; with images also run the data-dependent initialisation."""
    pair, dtype = NETWORK_PAIRS[config.network], getattr(torch, config.dtype)
    D = pair.discriminator(config, image_shape, config.outputs(classes)).to(dtype)
    if images is not None:
        D.initialize(images)
    if not config.trains_generator:
        return {"D": D}
    G = pair.generator(config, image_shape).to(dtype)
    if images is not None:
        G.initialize(draw_latents(config, config.batch_size).to(dtype))
    return {"D": D, "G": G}


def _reference_latents(config: Config) -> Tensor | None:
    """Draw the reference batch of virtual batch norm, if G has it."""
    return draw_latents(config, config.reference_rows) if config.generator_norm == "virtual" else None


def _layer_noise(config: Config) -> LayerNoise:
    """Return the configured noise of D."""
    return LayerNoise(config.noise_input_std, config.noise_hidden_std, config.dropout_input, config.dropout_hidden)


def _reference_rows(config: Config) -> int:
    """Return the number of real images that a D stores if it couples rows; with one more row they make a batch."""
    return config.batch_size - 1


def _mlp_discriminator(
    config: Config,
    image_shape: tuple[int, ...],
    classes: int,
    build: Callable[..., Discriminator] = MLPDiscriminator,
) -> Discriminator:
    """Build a multilayer perceptron D."""
    return build(
        math.prod(image_shape),
        classes,
        config.discriminator_widths,
        config.noise_input_std,
        config.noise_hidden_std,
        config.minibatch_kernels,
        config.minibatch_kernel_dim,
        reference_rows=_reference_rows(config),
    )


def _mlp_generator(
    config: Config,
    image_shape: tuple[int, ...],
    build: Callable[..., Generator] = MLPGenerator,
) -> Generator:
    """Build a multilayer perceptron G."""
    reference = _reference_latents(config)
    return build(config.latent_size, image_shape, config.generator_widths, config.generator_norm, reference)


def _pooled_discriminator(
    config: Config,
    image_shape: tuple[int, ...],
    classes: int,
    build: Callable[[int, Sequence[int], LayerNoise], nn.Sequential],
) -> Discriminator:
    """Build a D around a trunk with weight norm whose features are means over the pixels."""
    check_image_shape(config.network, image_shape)
    channels, features, kernels = channels_of(image_shape), config.discriminator_widths[-1], config.minibatch_kernels
    return Discriminator(
        layout=ChannelsFirst(),
        trunk=build(channels, config.discriminator_widths, _layer_noise(config)),
        minibatch=MinibatchDiscrimination(features, kernels, config.minibatch_kernel_dim) if kernels else None,
        output=WeightNormLinear(features + kernels, classes, train_scale=True, std=0.05, init_std=0.1),
        noise_std=config.noise_hidden_std,
        reference=torch.zeros(_reference_rows(config), channels, *image_shape[:2]),
    )


def _deconv_generator(
    config: Config, image_shape: tuple[int, ...], kernel: int = 5, squash: Callable[[Tensor], Tensor] = torch.tanh
) -> Generator:
    """Build a G of transposed convolutions."""
    check_image_shape(config.network, image_shape)
    return DeconvGenerator(
        config.latent_size,
        image_shape,
        config.generator_widths,
        config.generator_norm,
        _reference_latents(config),
        kernel,
        squash,
    )


def _dcgan_discriminator(config: Config, image_shape: tuple[int, ...], classes: int) -> Discriminator:
    """Build the D of a DCGAN."""
    check_image_shape(config.network, image_shape)
    return DCGANDiscriminator(
        image_shape,
        classes,
        config.discriminator_widths[0],
        _layer_noise(config),
        config.minibatch_kernels,
        config.minibatch_kernel_dim,
        reference_rows=_reference_rows(config),
    )


def _dcgan_generator(config: Config, image_shape: tuple[int, ...]) -> Generator:
    """Build the G of a DCGAN."""
    check_image_shape(config.network, image_shape)
    reference = _reference_latents(config)
    return DCGANGenerator(config.latent_size, image_shape, config.generator_widths[0], config.generator_norm, reference)


def _toy_discriminator(config: Config, image_shape: tuple[int, ...], classes: int) -> Discriminator:
    """Build the D of one-dimensional data."""
    check_image_shape(config.network, image_shape)
    return _mlp_discriminator(config, image_shape, classes, partial(PlainDiscriminator, activation=nn.Tanh))


def _toy_generator(config: Config, image_shape: tuple[int, ...]) -> Generator:
    """Build the G of one-dimensional data."""
    check_image_shape(config.network, image_shape)
    return _mlp_generator(config, image_shape, VectorGenerator)


def _feature_discriminator(config: Config, image_shape: tuple[int, ...], classes: int) -> Discriminator:
    """Build the D of feature vectors."""
    check_image_shape(config.network, image_shape)
    return FeatureDiscriminator(
        image_shape[0],
        classes,
        config.discriminator_widths,
        _layer_noise(config),
        config.minibatch_kernels,
        config.minibatch_kernel_dim,
        reference_rows=_reference_rows(config),
    )


def _feature_generator(config: Config, image_shape: tuple[int, ...]) -> Generator:
    """Build the G of feature vectors."""
    check_image_shape(config.network, image_shape)
    return _mlp_generator(config, image_shape, partial(VectorGenerator, gain=True))


NETWORK_PAIRS: dict[str, NetworkPair] = {
    "mlp": NetworkPair(_mlp_discriminator, _mlp_generator, low=0.0, high=1.0),
    "paper-conv": NetworkPair(partial(_pooled_discriminator, build=paper_trunk), _deconv_generator, low=-1.0, high=1.0),
    # From 0, so that zero padding continues the black around a digit.
    "compact-conv": NetworkPair(
        partial(_pooled_discriminator, build=compact_trunk),
        partial(_deconv_generator, kernel=4, squash=torch.sigmoid),
        low=0.0,
        high=1.0,
    ),
    "whitened-conv": NetworkPair(
        partial(_pooled_discriminator, build=whitened_trunk),
        partial(_deconv_generator, kernel=4, squash=torch.sigmoid),
        low=0.0,
        high=1.0,
    ),
    "wide-resnet": NetworkPair(partial(_pooled_discriminator, build=wide_trunk), _deconv_generator, low=-1.0, high=1.0),
    "dcgan": NetworkPair(_dcgan_discriminator, _dcgan_generator, low=-1.0, high=1.0),
    "gan-mlp": NetworkPair(
        partial(_mlp_discriminator, build=PlainDiscriminator),
        partial(_mlp_generator, build=PlainGenerator),
        low=-1.0,
        high=1.0,
    ),
    # With a scale of 1, this range leaves values of any size unchanged.
    "toy": NetworkPair(_toy_discriminator, _toy_generator, low=0.0, high=1.0),
    "features": NetworkPair(_feature_discriminator, _feature_generator, low=0.0, high=1.0),
}
