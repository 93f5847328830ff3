"""The pair of deep convolutional GANs, in squares of 32x32 and 64x64.

Strided 4x4 convolutions and transposed ones, no pooling, no dense hidden layer, batch norm everywhere
but in D's first layer and G's last, weights from N(0, 0.02) and gains of batch norm from N(1, 0.02). A smaller image
stands in the middle of the square: D sees it in a black frame, and G's is cut off.

Source: Radford, Metz & Chintala, *Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks*, 2016, section 3; the gains as in its published code.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssgan.frames import Discriminator, Generator
from ssgan.layers import BatchStatNorm, MinibatchDiscrimination, VirtualBatchNorm
from ssgan.pieces import SLOPE, ChannelsFirst, ChannelsLast, Framed, Noise, channels_of, draw_weights
from ssgan.traits import square_of

__all__ = ["DCGANDiscriminator", "DCGANGenerator"]

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
        As in :class:`ssgan.frames.Generator`.
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
