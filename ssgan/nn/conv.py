"""Convolutional networks with weight norm: the paper's pair for 32x32, and a compact one for a CPU.

A trunk maps images [B, C, H, W] to features [B, F].

Source: Salimans et al., *Improved Techniques for Training GANs*, 2016, sections 5.2 and 5.3, and its published code.

A wide residual network with weight norm in place of batch norm, so that a row's output is its own.

Source: Zagoruyko & Komodakis, *Wide Residual Networks*, 2016; the initialisation of the branches: Arpit, Campos &
Bengio, *How to Initialize your Network? Robust Initialization for WeightNorm & ResNets*, 2019.

The pair of deep convolutional GANs, in squares of 32x32 and 64x64.

Strided 4x4 convolutions and transposed ones, no pooling, no dense hidden layer, batch norm everywhere
but in D's first layer and G's last, weights from N(0, 0.02) and gains of batch norm from N(1, 0.02). A smaller image
stands in the middle of the square: D sees it in a black frame, and G's is cut off.

Source: Radford, Metz & Chintala, *Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks*, 2016, section 3; the gains as in its published code.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssgan.nn.base import (
    SLOPE,
    ChannelsFirst,
    ChannelsLast,
    Discriminator,
    Framed,
    Generator,
    GlobalMeanPool,
    Noise,
    channels_of,
    draw_weights,
)
from ssgan.nn.layers import BatchStatNorm, MinibatchDiscrimination, VirtualBatchNorm
from ssgan.nn.weight_norm import WeightNormConv2d, WeightNormConvTranspose2d, doubling, init_from
from ssgan.settings.catalog import square_of

__all__ = [
    "BLOCKS",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DeconvGenerator",
    "ResidualBlock",
    "compact_trunk",
    "paper_trunk",
    "wide_trunk",
]


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
        As in :class:`ssgan.nn.base.Generator`.
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


# In each of three groups, two layers each; with the first layer, the last and the two projections, 28 layers.
BLOCKS = 4


class ResidualBlock(nn.Module):
    """``y = shortcut(x) + branch(x)``, the branch two 3x3 convolutions, each after its activation.

    Where the number of channels or pixels changes, the shortcut is a 1x1 convolution of the activated input. After
    the data-dependent initialisation the branch adds a deviation of ``branch_std``; the scale of its last layer is
    trained.

    Parameters
    ----------
    inputs, outputs, stride : int
    branch_std : float
    noise : Noise
        Dropout inside lies between the two convolutions.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, branch_std: float, noise: Noise) -> None:
        super().__init__()
        self.activation = nn.LeakyReLU(SLOPE)
        self.shortcut = None
        if inputs != outputs or stride > 1:
            self.shortcut = WeightNormConv2d(inputs, outputs, 1, stride)
        self.branch = nn.Sequential(
            *noise.inner(),
            WeightNormConv2d(inputs, outputs, 3, stride, padding=1),
            nn.LeakyReLU(SLOPE),
            *noise.drops(),
            *noise.inner(),
            WeightNormConv2d(outputs, outputs, 3, padding=1, train_scale=True, init_std=branch_std),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        activated = self.activation(x)
        return self.branch(activated) + (x if self.shortcut is None else self.shortcut(activated))

    def init_from(self, x: Tensor) -> Tensor:
        """Initialise both ways from a batch; return the output."""
        activated = self.activation(x)
        return init_from(self.branch, activated) + (x if self.shortcut is None else self.shortcut.init_from(activated))


def wide_trunk(channels: int, widths: Sequence[int], noise: Noise) -> nn.Sequential:
    """A residual discriminator of 28 layers up to its features [B, widths[2]].

    The first layer has half as many channels as the first group. Each branch starts with a variance of 1 over
    the number of blocks in its group, so that a group at most doubles the variance that enters it.

    Parameters
    ----------
    channels : int
        C of the images.
    widths : (int, int, int)
        Channels of the groups; 32, 64 and 128 are WRN-28-2. The second and the third halve the pixels.
    noise : Noise
    """
    stem = max(1, widths[0] // 2)
    layers = [*noise.first(), WeightNormConv2d(channels, stem, 3, padding=1)]
    for group, (inputs, outputs) in enumerate(itertools.pairwise([stem, *widths])):
        for block in range(BLOCKS):
            stride = 2 if group and not block else 1
            layers.append(ResidualBlock(outputs if block else inputs, outputs, stride, BLOCKS**-0.5, noise))
    return nn.Sequential(*layers, nn.LeakyReLU(SLOPE), GlobalMeanPool())


STD = 0.02
# The least image, 4x4 pixels, is that of a kernel.
KERNEL = 4
# The value of a black pixel.
BLACK = -1.0


def channels_by_size(base: int, size: int) -> list[int]:
    """Channels of images from half the size down to 4x4: ``base``, doubled at every halving."""
    return [base << i for i in range((size // KERNEL).bit_length() - 1)]


class DCGANDiscriminator(Discriminator):
    """Strided convolutions down to 4x4, LeakyReLU.

    Features are the activations of the last convolution, flattened (16 x 256 for 32x32 images and 64 channels): the
    output layer sees them so. Batch norm couples the rows of a training batch; at evaluation every row is normalised
    by the moments of a stored batch of real images.

    Parameters
    ----------
    image_shape : tuple of int
        [H, W] or [H, W, C], at most 64 pixels a side.
    classes : int
    base : int
        Channels of the first layer, doubled at every halving.
    noise : Noise
        Dropout inside lies after each convolution.
    minibatch_kernels, minibatch_kernel_dim : int
        0 kernels for none.
    reference_rows : int
        Real images kept for evaluation.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        classes: int,
        base: int,
        noise: Noise,
        minibatch_kernels: int = 0,
        minibatch_kernel_dim: int = 5,
        reference_rows: int = 99,
    ) -> None:
        channels, square, layers = channels_of(image_shape), square_of("dcgan", image_shape), noise.first()
        for i, (inputs, outputs) in enumerate(itertools.pairwise([channels, *channels_by_size(base, square)])):
            layers += noise.inner() if i else []
            layers.append(nn.Conv2d(inputs, outputs, KERNEL, 2, 1, bias=i == 0))
            layers += [BatchStatNorm(outputs, gain=True, reference_rows=reference_rows)] if i else []
            layers += [nn.LeakyReLU(SLOPE), *noise.drops()]
        features = outputs * KERNEL**2
        minibatch = None
        if minibatch_kernels:
            minibatch = MinibatchDiscrimination(features, minibatch_kernels, minibatch_kernel_dim)
        super().__init__(
            layout=nn.Sequential(ChannelsFirst(), Framed(square, BLACK)),
            trunk=nn.Sequential(*layers, nn.Flatten()),
            output=nn.Linear(features + minibatch_kernels, classes),
            noise_std=noise.hidden,
            minibatch=minibatch,
            reference=torch.zeros(reference_rows, channels, square, square),
            coupling_trunk=True,
        )
        _draw(self)


class DCGANGenerator(Generator):
    """Transposed convolutions from 4x4 up, ReLU, tanh.

    Parameters
    ----------
    latent_size : int
    image_shape : tuple of int
        [H, W] or [H, W, C], at most 64 pixels a side.
    base : int
        Channels of the last hidden layer, doubled at every halving.
    norm, reference
        As in :class:`ssgan.nn.base.Generator`.
    """

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, ...],
        base: int,
        norm: str = "batch",
        reference: Tensor | None = None,
    ) -> None:
        bias, widths = norm == "none", channels_by_size(base, square_of("dcgan", image_shape))[::-1]
        first = nn.ConvTranspose2d(latent_size, widths[0], KERNEL, bias=bias)
        hidden: list[nn.Module] = [nn.Sequential(nn.Unflatten(1, (latent_size, 1, 1)), first)]
        hidden += [nn.ConvTranspose2d(a, b, KERNEL, 2, 1, bias=bias) for a, b in itertools.pairwise(widths)]
        super().__init__(
            hidden=hidden,
            features=widths,
            output=nn.ConvTranspose2d(widths[-1], channels_of(image_shape), KERNEL, 2, 1),
            squash=torch.tanh,
            layout=ChannelsLast(image_shape),
            activation=F.relu,
            norm=norm,
            gain=True,
            reference=reference,
        )
        _draw(self)


def _draw(network: nn.Module) -> None:
    """Weights from N(0, 0.02), gains from N(1, 0.02), biases 0."""
    draw_weights(network, STD)
    for layer in network.modules():
        if isinstance(layer, BatchStatNorm | VirtualBatchNorm) and layer.gamma is not None:
            nn.init.normal_(layer.gamma, mean=1.0, std=STD)
