"""Define the convolutional networks. A trunk maps images [B, C, H, W] to features [B, F].

**With weight norm**: the paper's pair for 32x32 images, and a compact one for a CPU. Source: Salimans et al.,
*Improved Techniques for Training GANs*, 2016, sections 5.2 and 5.3, and its published code.

**Whitened**: a first layer of fixed filters that whiten the pixels, then pairs of convolutions with max pooling between
them. Source: Jordan, *94% on CIFAR-10 in 3.29 Seconds on a Single GPU*, 2024 (arXiv 2404.00498), sections 3.1 and 3.2;
with weight norm instead of batch norm, LeakyReLU instead of GELU, and the mean over the pixels instead of the maximum.

**Wide residual network**: with weight norm instead of batch norm, so that a row does not depend on the other rows.
Source: Zagoruyko & Komodakis, *Wide Residual Networks*, 2016; the initialisation of the branches: Arpit, Campos &
Bengio, *How to Initialize your Network? Robust Initialization for WeightNorm & ResNets*, 2019.

**DCGAN**: for squares of 32x32 and 64x64. Strided 4x4 convolutions and transposed ones, no pooling, no dense hidden
layer, batch norm everywhere except in D's first layer and G's last, weights from N(0, 0.02) and gains of batch norm
from N(1, 0.02). A smaller image is padded with black to the square for D, and cropped from the output of G. Source:
Radford, Metz & Chintala, *Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks*, 2016, section 3; the gains as in its published code.
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
    Generator,
    GlobalMeanPool,
    LayerNoise,
    PadToSquare,
    channels_of,
    draw_normal_weights,
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
    "Whitening",
    "compact_trunk",
    "paper_trunk",
    "whitened_trunk",
    "wide_trunk",
]


WHITENED = 2  # side in pixels of the patches that are whitened


class ConvSpec(NamedTuple):
    """One convolution with LeakyReLU, and whether dropout follows. The defaults keep height and width."""

    outputs: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    dropout: bool = False


def paper_trunk(channels: int, widths: Sequence[int], noise: LayerNoise) -> nn.Sequential:
    """Build the paper's CIFAR-10 and SVHN discriminator up to its features [B, widths[1]].

    Parameters
    ----------
    channels : int
        C of the images.
    widths : (int, int)
        Channels before and after the first stride: 96 and 192 for CIFAR-10, 64 and 128 for SVHN.
    noise : LayerNoise
    """
    first, second = widths
    specs = [ConvSpec(first), ConvSpec(first), ConvSpec(first, stride=2, dropout=True)]
    specs += [ConvSpec(second), ConvSpec(second), ConvSpec(second, stride=2, dropout=True)]
    specs += [ConvSpec(second, padding=0), ConvSpec(second, 1, padding=0), ConvSpec(second, 1, padding=0)]
    return _trunk(channels, specs, noise)


def compact_trunk(channels: int, widths: Sequence[int], noise: LayerNoise) -> nn.Sequential:
    """Build a discriminator for a CPU up to its features [B, widths[2]].

    The last convolution enlarges the receptive field to 33 pixels; three strides alone have 17.

    Parameters
    ----------
    channels : int
        C of the images.
    widths : (int, int, int)
        Channels after each of the three strides.
    noise : LayerNoise
    """
    first, second, third = widths
    specs = [ConvSpec(first, 5, 2, 2, True)]
    specs += [ConvSpec(second, stride=2, dropout=True), ConvSpec(third, stride=2, dropout=True)]
    return _trunk(channels, [*specs, ConvSpec(third, padding=0)], noise)


class Whitening(nn.Module):
    """A convolution [B, C, H, W] to [B, 8 C, H - 1, W - 1] by fixed 2x2 filters.

    They are the eigenvectors of the covariance of the 2x2 patches of the images of the initialisation, each divided by
    the root of its eigenvalue plus ``epsilon``, and their negatives. Outputs of two eigenvectors are uncorrelated; the
    variance of one is ``eigenvalue / (eigenvalue + epsilon)``. Before the initialisation the filters are random.

    Parameters
    ----------
    channels : int
        C.
    epsilon : float
        Added to the eigenvalues, so that directions of little variance are not amplified.
    """

    weight: Tensor

    def __init__(self, channels: int, epsilon: float = 5e-4) -> None:
        super().__init__()
        inputs, self.epsilon = channels * WHITENED**2, epsilon
        half = nn.init.normal_(torch.empty(inputs, channels, WHITENED, WHITENED))
        self.register_buffer("weight", torch.cat([half, -half]))

    def forward(self, x: Tensor) -> Tensor:
        """Filter [B, C, H, W]."""
        return F.conv2d(x, self.weight)

    @torch.no_grad()
    def init_from(self, x: Tensor) -> Tensor:
        """Set the filters from images, and return their output."""
        patches = F.unfold(x.double(), WHITENED).movedim(1, 2).flatten(0, 1)
        variances, vectors = torch.linalg.eigh(patches.T.cov(correction=0))
        half = (vectors / (variances.clamp_min(0.0) + self.epsilon).sqrt()).T.reshape(-1, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([half, -half]))
        return self.forward(x)


def whitened_trunk(channels: int, widths: Sequence[int], noise: LayerNoise) -> nn.Sequential:
    """Build a discriminator for small photographs on a CPU up to its features [B, widths[2]].

    Parameters
    ----------
    channels : int
        C of the images.
    widths : (int, int, int)
        Channels after each of the three poolings, which halve height and width.
    noise : LayerNoise
    """
    layers = [*noise.input_layers(), Whitening(channels), nn.LeakyReLU(SLOPE)]
    inputs = 2 * channels * WHITENED**2
    for i, outputs in enumerate(widths):
        layers += [*noise.hidden_layers(), WeightNormConv2d(inputs, outputs, 3, padding=1)]
        layers += [nn.MaxPool2d(2), nn.LeakyReLU(SLOPE)]
        if i:
            layers += [*noise.hidden_layers(), WeightNormConv2d(outputs, outputs, 3, padding=1), nn.LeakyReLU(SLOPE)]
        layers += noise.dropout_layers()
        inputs = outputs
    return nn.Sequential(*layers, GlobalMeanPool())


def _trunk(channels: int, specs: Sequence[ConvSpec], noise: LayerNoise) -> nn.Sequential:
    """Build convolutions with weight norm and LeakyReLU, then the mean over the pixels."""
    layers = noise.input_layers()
    for i, (outputs, kernel, stride, padding, dropout) in enumerate(specs):
        layers += noise.hidden_layers() if i else []
        layers += [WeightNormConv2d(channels, outputs, kernel, stride, padding), nn.LeakyReLU(SLOPE)]
        layers += noise.dropout_layers() if dropout else []
        channels = outputs
    return nn.Sequential(*layers, GlobalMeanPool())


class DeconvGenerator(Generator):
    """A dense layer and transposed convolutions, each of which doubles height and width.

    With n widths the dense layer outputs ceil(H / 2^n) times ceil(W / 2^n) pixels of ``widths[0]``
    channels, and the margins of the last image are cut off. The output layer has weight norm with a trained
    scale and starts with a standard deviation of 0.1. With widths 512, 256, 128, kernels of 5 and tanh it is the
    paper's CIFAR-10 and SVHN generator; in both, batch norm of the dense layer is by unit.

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
        Maps the output to the range of the images.
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
        draw_normal_weights(self.hidden, std=0.05)

    @torch.no_grad()
    def initialize(self, z: Tensor) -> None:
        """Set the output layer's scale and bias from noise ``z`` [N, latent_size]."""
        init_from(self.output, self._activations(z))


# Residual blocks in each of three groups: 28 layers with the first convolution and three projections.
BLOCKS = 4


class ResidualBlock(nn.Module):
    """``y = shortcut(x) + branch(x)``, the branch two 3x3 convolutions, each after its activation.

    If the number of channels or pixels changes, the shortcut is a 1x1 convolution of the activated input. After
    the data-dependent initialisation the output of the branch has a standard deviation of ``branch_std``; the scale of
    its last layer is trained.

    Parameters
    ----------
    inputs, outputs, stride : int
    branch_std : float
    noise : LayerNoise
        Dropout is applied between the two convolutions.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, branch_std: float, noise: LayerNoise) -> None:
        super().__init__()
        self.activation = nn.LeakyReLU(SLOPE)
        self.shortcut = None
        if inputs != outputs or stride > 1:
            self.shortcut = WeightNormConv2d(inputs, outputs, 1, stride)
        self.branch = nn.Sequential(
            *noise.hidden_layers(),
            WeightNormConv2d(inputs, outputs, 3, stride, padding=1),
            nn.LeakyReLU(SLOPE),
            *noise.dropout_layers(),
            *noise.hidden_layers(),
            WeightNormConv2d(outputs, outputs, 3, padding=1, train_scale=True, init_std=branch_std),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        activated = self.activation(x)
        return self.branch(activated) + (x if self.shortcut is None else self.shortcut(activated))

    def init_from(self, x: Tensor) -> Tensor:
        """Initialise branch and shortcut from a batch and return the output."""
        activated = self.activation(x)
        return init_from(self.branch, activated) + (x if self.shortcut is None else self.shortcut.init_from(activated))


def wide_trunk(channels: int, widths: Sequence[int], noise: LayerNoise) -> nn.Sequential:
    """Build a residual discriminator of 28 layers up to its features [B, widths[2]].

    The first layer has half as many channels as the first group. Each branch starts with a variance of 1 over
    the number of blocks in its group, so that a group at most doubles the variance that enters it.

    Parameters
    ----------
    channels : int
        C of the images.
    widths : (int, int, int)
        Channels of the groups; 32, 64 and 128 are WRN-28-2. The second and the third halve the pixels.
    noise : LayerNoise
    """
    stem = max(1, widths[0] // 2)
    layers = [*noise.input_layers(), WeightNormConv2d(channels, stem, 3, padding=1)]
    for group, (inputs, outputs) in enumerate(itertools.pairwise([stem, *widths])):
        for block in range(BLOCKS):
            stride = 2 if group and not block else 1
            layers.append(ResidualBlock(outputs if block else inputs, outputs, stride, BLOCKS**-0.5, noise))
    return nn.Sequential(*layers, nn.LeakyReLU(SLOPE), GlobalMeanPool())


STD = 0.02  # standard deviation of the initial weights and gains of a DCGAN
KERNEL = 4  # also the side of the smallest feature map
BLACK = -1.0  # the value of a black pixel


def channels_by_size(base: int, size: int) -> list[int]:
    """Return the channels of feature maps from half the size down to 4x4: ``base``, doubled at every halving."""
    return [base << i for i in range((size // KERNEL).bit_length() - 1)]


class DCGANDiscriminator(Discriminator):
    """Strided convolutions down to 4x4 with LeakyReLU.

    Features are the activations of the last convolution, flattened (16 x 256 for 32x32 images and 64 channels), as
    the output layer takes them. Batch norm couples the rows of a training batch; at evaluation every row is normalised
    by the moments of a stored batch of real images.

    Parameters
    ----------
    image_shape : tuple of int
        [H, W] or [H, W, C], at most 64 pixels a side.
    classes : int
    base : int
        Channels of the first layer, doubled at every halving.
    noise : LayerNoise
        Dropout is applied after each convolution.
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
        noise: LayerNoise,
        minibatch_kernels: int = 0,
        minibatch_kernel_dim: int = 5,
        reference_rows: int = 99,
    ) -> None:
        channels, square, layers = channels_of(image_shape), square_of("dcgan", image_shape), noise.input_layers()
        for i, (inputs, outputs) in enumerate(itertools.pairwise([channels, *channels_by_size(base, square)])):
            layers += noise.hidden_layers() if i else []
            layers.append(nn.Conv2d(inputs, outputs, KERNEL, 2, 1, bias=i == 0))
            layers += [BatchStatNorm(outputs, gain=True, reference_rows=reference_rows)] if i else []
            layers += [nn.LeakyReLU(SLOPE), *noise.dropout_layers()]
        features = outputs * KERNEL**2
        minibatch = None
        if minibatch_kernels:
            minibatch = MinibatchDiscrimination(features, minibatch_kernels, minibatch_kernel_dim)
        super().__init__(
            layout=nn.Sequential(ChannelsFirst(), PadToSquare(square, BLACK)),
            trunk=nn.Sequential(*layers, nn.Flatten()),
            output=nn.Linear(features + minibatch_kernels, classes),
            noise_std=noise.hidden,
            minibatch=minibatch,
            reference=torch.zeros(reference_rows, channels, square, square),
            trunk_couples_rows=True,
        )
        _draw_dcgan_weights(self)


class DCGANGenerator(Generator):
    """Transposed convolutions from 4x4 up with ReLU, and a tanh output.

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
        _draw_dcgan_weights(self)


def _draw_dcgan_weights(network: nn.Module) -> None:
    """Draw weights from N(0, 0.02) and gains from N(1, 0.02), and set biases to 0."""
    draw_normal_weights(network, STD)
    for layer in network.modules():
        if isinstance(layer, BatchStatNorm | VirtualBatchNorm) and layer.gamma is not None:
            nn.init.normal_(layer.gamma, mean=1.0, std=STD)
