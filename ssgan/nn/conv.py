"""Convolutional networks with weight norm: the paper's pair for 32x32, and a compact one for a CPU.

A trunk maps images [B, C, H, W] to features [B, F].

Source: Salimans et al., *Improved Techniques for Training GANs*, 2016, sections 5.2 and 5.3, and its published code.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssgan.frames import Generator
from ssgan.pieces import SLOPE, ChannelsLast, GlobalMeanPool, Noise, channels_of, draw_weights
from ssgan.weightnorm import WeightNormConv2d, WeightNormConvTranspose2d, doubling, init_from

__all__ = ["DeconvGenerator", "compact_trunk", "paper_trunk"]


class Step(NamedTuple):
    """One convolution with LeakyReLU, and whether dropout follows. As it stands, it keeps the size."""

    outputs: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    drops: bool = False


def paper_trunk(channels: int, widths: Sequence[int], noise: Noise) -> nn.Sequential:
    """The paper's CIFAR-10 and SVHN discriminator up to its features [B, widths[1]].

    Parameters
    ----------
    channels : int
        C of the images.
    widths : (int, int)
        Channels before and after the first stride: 96 and 192 for CIFAR-10, 64 and 128 for SVHN.
    noise : Noise
    """
    few, many = widths
    steps = [Step(few), Step(few), Step(few, stride=2, drops=True)]
    steps += [Step(many), Step(many), Step(many, stride=2, drops=True)]
    steps += [Step(many, padding=0), Step(many, 1, padding=0), Step(many, 1, padding=0)]
    return _trunk(channels, steps, noise)


def compact_trunk(channels: int, widths: Sequence[int], noise: Noise) -> nn.Sequential:
    """A discriminator for a CPU up to its features [B, widths[2]].

    The last convolution is there for its reach: with it a feature sees 33 pixels across, where three
    strides alone see 17.

    Parameters
    ----------
    channels : int
        C of the images.
    widths : (int, int, int)
        Channels after each of the three strides.
    noise : Noise
    """
    few, more, many = widths
    steps = [Step(few, 5, 2, 2, True), Step(more, stride=2, drops=True), Step(many, stride=2, drops=True)]
    return _trunk(channels, [*steps, Step(many, padding=0)], noise)


def _trunk(channels: int, steps: Sequence[Step], noise: Noise) -> nn.Sequential:
    layers = noise.first()
    for i, (outputs, kernel, stride, padding, drops) in enumerate(steps):
        layers += noise.inner() if i else []
        layers += [WeightNormConv2d(channels, outputs, kernel, stride, padding), nn.LeakyReLU(SLOPE)]
        layers += noise.drops() if drops else []
        channels = outputs
    return nn.Sequential(*layers, GlobalMeanPool())


class DeconvGenerator(Generator):
    """A dense layer and transposed convolutions, each of which doubles height and width.

    With n widths the dense layer makes ceil(H / 2^n) times ceil(W / 2^n) pixels of ``widths[0]``
    channels, and the margins of the last image are cut off. The output layer has weight norm with a trained
    scale and starts with a deviation of 0.1. With widths 512, 256, 128, kernels of 5 and tanh it is the
    paper's CIFAR-10 and SVHN generator; there as here batch norm of the dense layer is by unit.

    Parameters
    ----------
    latent_size : int
    image_shape : tuple of int
        [H, W] or [H, W, C].
    widths : sequence of int
        Channels of the hidden layers.
    norm, reference
        As in :class:`ssgan.frames.Generator`.
    kernel : int
    squash : callable
        From the output to the range of the images.
    """

    output: nn.Sequential

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, ...],
        widths: Sequence[int],
        norm: str = "batch",
        reference: Tensor | None = None,
        kernel: int = 5,
        squash: Callable[[Tensor], Tensor] = torch.tanh,
    ) -> None:
        bias, doublings = norm == "none", len(widths)
        height, width = (-(-side // 2**doublings) for side in image_shape[:2])
        units = widths[0] * height * width
        hidden: list[nn.Module] = [nn.Linear(latent_size, units, bias=bias)]
        unfold: list[nn.Module] = [nn.Unflatten(1, (widths[0], height, width))]
        for inputs, outputs in itertools.pairwise(widths):
            deconvolution = nn.ConvTranspose2d(inputs, outputs, kernel, *doubling(kernel), bias=bias)
            hidden.append(nn.Sequential(*unfold, deconvolution))
            unfold = []
        output = WeightNormConvTranspose2d(widths[-1], channels_of(image_shape), kernel, train_scale=True, init_std=0.1)
        super().__init__(
            hidden=hidden,
            features=[units, *widths[1:]],
            output=nn.Sequential(*unfold, output),
            squash=squash,
            layout=ChannelsLast(image_shape),
            activation=F.relu,
            norm=norm,
            reference=reference,
        )
        draw_weights(self.hidden, std=0.05)

    @torch.no_grad()
    def initialize(self, z: Tensor) -> None:
        """Set the output layer's scale and bias from noise ``z`` [N, latent_size]."""
        init_from(self.output, self._activations(z))
