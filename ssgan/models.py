"""The networks: pairs of a generator G and a discriminator D, by name.

``D(x) -> (logits [B, K], features [B, F])`` and ``G(z) -> images`` in D's input range, which the
network owns. ``D.initialize(x)`` runs the data-dependent initialisation on real images.
``couples_rows`` says whether an output depends on the other rows of a batch.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssgan.config import Config
from ssgan.layers import (
    BatchStatNorm,
    GaussianNoise,
    MinibatchDiscrimination,
    VirtualBatchNorm,
)
from ssgan.weightnorm import WeightNormLinear, init_from

__all__ = ["MODELS", "MLPDiscriminator", "MLPGenerator", "Pair", "latent"]


class MLPDiscriminator(nn.Module):
    """The paper's MNIST discriminator, of any size: weight norm, ReLU, Gaussian noise before every layer.

    Features are the last hidden layer before its own noise. With ``minibatch_kernels`` they are
    extended by minibatch discrimination on the way to the logits; at evaluation each row is then
    compared with a stored batch of real images, so a prediction does not depend on its batch-mates.

    Parameters
    ----------
    in_features, classes : int
    widths : sequence of int
        Hidden layers.
    noise_input_std, noise_hidden_std : float
    minibatch_kernels, minibatch_kernel_dim : int
        0 kernels for none.
    reference_rows : int
        Real images kept for evaluation with minibatch discrimination: one less than a training
        batch, so that the sum over the others has as many terms.

    Source: Salimans et al., 2016, section 5.1 and its published code.
    """

    reference: Tensor

    def __init__(
        self,
        in_features: int,
        classes: int,
        widths: Sequence[int],
        noise_input_std: float,
        noise_hidden_std: float,
        minibatch_kernels: int = 0,
        minibatch_kernel_dim: int = 5,
        reference_rows: int = 99,
    ) -> None:
        super().__init__()
        sizes = [in_features, *widths]
        trunk: list[nn.Module] = []
        for i, (size, width) in enumerate(itertools.pairwise(sizes)):
            trunk.append(GaussianNoise(noise_hidden_std if i else noise_input_std))
            trunk += [WeightNormLinear(size, width), nn.ReLU()]
        self.trunk = nn.Sequential(*trunk)
        self.couples_rows = minibatch_kernels > 0
        self.minibatch = None
        if self.couples_rows:
            self.minibatch = MinibatchDiscrimination(sizes[-1], minibatch_kernels, minibatch_kernel_dim)
            self.register_buffer("reference", torch.zeros(reference_rows, in_features))
        self.noise = GaussianNoise(noise_hidden_std)
        self.output = WeightNormLinear(sizes[-1] + minibatch_kernels, classes, train_scale=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images [B, ...] to logits [B, K] and features [B, F]."""
        features = self.trunk(x.flatten(1))
        extended = features
        if self.minibatch is not None:
            extended = self.minibatch(features, None if self.training else self.trunk(self.reference))
        return self.output(self.noise(extended)), features

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set scales and biases so that every unit has mean 0 and deviation 1 on ``x``, noise on."""
        x = x.flatten(1)
        features = init_from(self.trunk, x)
        if self.minibatch is not None:
            rows = torch.arange(len(self.reference)) % len(x)
            self.reference.copy_(x[rows])
            # As many rows as a training batch: the sum over the other rows grows with their number.
            features = self.minibatch.init_from(features[: len(self.reference) + 1])
        self.output.init_from(self.noise(features))


class MLPGenerator(nn.Module):
    """The paper's MNIST generator, of any size: softplus hidden layers, sigmoid output with weight norm.

    Parameters
    ----------
    latent_size : int
    image_shape : tuple of int
        Shape of one image, [H, W], [H, W, C] or [F].
    widths : sequence of int
        Hidden layers.
    norm : {"batch", "virtual", "none"}
        Normalisation of the hidden layers: by the batch at hand (the paper's), by a reference batch
        of noise that the network keeps and sends through itself, or none.
    reference : Tensor, shape [R, latent_size], optional
        The reference noise of ``"virtual"``.

    Source: Salimans et al., 2016, section 5.1 and its published code.
    """

    reference: Tensor

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, ...],
        widths: Sequence[int],
        norm: str = "batch",
        reference: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.image_shape, self.norm = image_shape, norm
        self.couples_rows = norm == "batch"
        sizes = [latent_size, *widths]
        self.hidden = nn.ModuleList()
        self.norms = nn.ModuleList()
        for size, width in itertools.pairwise(sizes):
            linear = nn.Linear(size, width, bias=norm == "none")
            nn.init.xavier_uniform_(linear.weight)
            if norm == "none":
                nn.init.zeros_(linear.bias)
            self.hidden.append(linear)
            if norm != "none":
                self.norms.append(BatchStatNorm(width) if norm == "batch" else VirtualBatchNorm(width))
        self.output = WeightNormLinear(sizes[-1], math.prod(image_shape), train_scale=True, std=None)
        if norm == "virtual":
            if reference is None:
                raise ValueError("norm='virtual' needs reference noise [R, latent_size]")
            self.register_buffer("reference", reference.clone())

    def forward(self, z: Tensor) -> Tensor:
        """Map noise [B, latent_size] to images [B, *image_shape] in [0, 1]."""
        h = z
        if self.norm == "virtual":
            ref = self.reference
            for linear, norm in zip(self.hidden, self.norms, strict=True):
                h, ref = norm(linear(h), linear(ref))
                h, ref = F.softplus(h), F.softplus(ref)
        else:
            for i, linear in enumerate(self.hidden):
                h = linear(h)
                h = F.softplus(self.norms[i](h) if self.norm == "batch" else h)
        return self.output(h).sigmoid().unflatten(1, self.image_shape)


def latent(config: Config, *shape: int, generator: torch.Generator | None = None) -> Tensor:
    """G's noise [*shape, latent_size], by the configured distribution."""
    device = None if generator is None else generator.device
    draw = torch.rand if config.latent_distribution == "uniform" else torch.randn
    return draw(*shape, config.latent_size, generator=generator, device=device)


def _mlp_discriminator(config: Config, image_shape: tuple[int, ...], classes: int) -> MLPDiscriminator:
    return MLPDiscriminator(
        math.prod(image_shape),
        classes,
        config.discriminator_widths,
        config.noise_input_std,
        config.noise_hidden_std,
        config.minibatch_kernels,
        config.minibatch_kernel_dim,
        reference_rows=config.batch_size - 1,
    )


def _mlp_generator(config: Config, image_shape: tuple[int, ...]) -> MLPGenerator:
    reference = latent(config, config.reference_rows) if config.generator_norm == "virtual" else None
    return MLPGenerator(config.latent_size, image_shape, config.generator_widths, config.generator_norm, reference)


class Pair(NamedTuple):
    """How to build a G and a D that fit together, and the range [low, high] of their images."""

    discriminator: Callable[[Config, tuple[int, ...], int], nn.Module]
    generator: Callable[[Config, tuple[int, ...]], nn.Module]
    low: float
    high: float

    def to_input(self, stored: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
        """Stored pixels, 0 to ``scale``, as floats in the range of the networks."""
        return stored.to(dtype) * ((self.high - self.low) / scale) + self.low

    def to_unit(self, images: Tensor) -> Tensor:
        """Images in the range of the networks as floats in [0, 1]."""
        return (images - self.low) / (self.high - self.low)


MODELS: dict[str, Pair] = {"mlp": Pair(_mlp_discriminator, _mlp_generator, low=0.0, high=1.0)}
