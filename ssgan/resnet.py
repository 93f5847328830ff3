"""A wide residual network with weight norm in place of batch norm, so that a row's output is its own.

Source: Zagoruyko & Komodakis, *Wide Residual Networks*, 2016; the initialisation of the branches: Arpit, Campos &
Bengio, *How to Initialize your Network? Robust Initialization for WeightNorm & ResNets*, 2019.
"""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from ssgan.pieces import SLOPE, GlobalMeanPool, Noise
from ssgan.weightnorm import WeightNormConv2d, init_from

__all__ = ["BLOCKS", "ResidualBlock", "wide_trunk"]

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
