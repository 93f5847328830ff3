"""What the convolutional networks are built of: places of noise, layouts of images, pooling, drawn weights.

Shapes: B rows, C channels, H and W pixels. Images are stored as [B, H, W] or [B, H, W, C]; layers take [B, C, H, W].
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from ssgan.layers import Dropout, GaussianNoise

__all__ = [
    *("SLOPE", "ChannelsFirst", "ChannelsLast", "Framed", "GlobalMeanPool", "Noise"),
    *("channels_of", "draw_weights"),
]

# Of LeakyReLU in every discriminator.
SLOPE = 0.2


class Noise(NamedTuple):
    """What disturbs D while training: deviations of Gaussian noise, and shares that dropout sets to zero."""

    input: float = 0.0
    hidden: float = 0.0
    dropout_input: float = 0.0
    dropout_hidden: float = 0.0

    def first(self) -> list[nn.Module]:
        """The layers on the input."""
        return [*_dropout(self.dropout_input), *_gaussian(self.input)]

    def inner(self) -> list[nn.Module]:
        """The layers before each of the others."""
        return _gaussian(self.hidden)

    def drops(self) -> list[nn.Module]:
        """The layers where a network has dropout inside."""
        return _dropout(self.dropout_hidden)


def _gaussian(std: float) -> list[nn.Module]:
    return [GaussianNoise(std)] if std else []


def _dropout(share: float) -> list[nn.Module]:
    return [Dropout(share)] if share else []


class ChannelsFirst(nn.Module):
    """From stored images [B, H, W] or [B, H, W, C] to [B, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        """C is 1 where the images have none. No pixel moves: convolutions find the channels last, as they lie."""
        return (x.unsqueeze(3) if x.dim() == 3 else x).permute(0, 3, 1, 2)


class ChannelsLast(nn.Module):
    """From [B, C, at least H, at least W] to images [B, *image_shape], the margins cut off evenly."""

    def __init__(self, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.image_shape = image_shape

    def forward(self, x: Tensor) -> Tensor:
        """An odd margin is one pixel wider below and on the right."""
        height, width = self.image_shape[:2]
        top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
        x = x[:, :, top : top + height, left : left + width]
        return x.squeeze(1) if len(self.image_shape) == 2 else x.permute(0, 2, 3, 1)


class Framed(nn.Module):
    """From [B, C, H, W] to [B, C, size, size]: the image in the middle, as :class:`ChannelsLast` cuts it out.

    Parameters
    ----------
    size : int
        At least H and W.
    ground : float
        The value around the image: that of its darkest pixels.
    """

    def __init__(self, size: int, ground: float) -> None:
        super().__init__()
        self.size, self.ground = size, ground

    def forward(self, x: Tensor) -> Tensor:
        """An odd margin is one pixel wider below and on the right."""
        margins = [self.size - x.shape[3], self.size - x.shape[2]]
        if not any(margins):
            return x
        return F.pad(x, [part for margin in margins for part in (margin // 2, margin - margin // 2)], value=self.ground)


class GlobalMeanPool(nn.Module):
    """From [B, C, H, W] to the mean over the pixels, [B, C]."""

    def forward(self, x: Tensor) -> Tensor:
        """Any H and W."""
        return x.mean(dim=(2, 3))


def channels_of(image_shape: Sequence[int]) -> int:
    """C of images [H, W] or [H, W, C]."""
    return image_shape[2] if len(image_shape) == 3 else 1


def draw_weights(network: nn.Module, std: float) -> None:
    """Draw the weights of plain layers from N(0, std); their biases start at 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
