"""Define the base classes of D and G, and the layers and initialisation that networks share.

``D(x) -> (logits [B, K], features [B, F])``, ``G(z) -> images [B, *image_shape]``. ``initialize`` runs the
data-dependent initialisation once, before training. ``couples_rows`` says whether an output depends on the
other rows of a batch in training mode.

Shapes: B rows, C channels, H and W pixels. Images are stored as [B, H, W] or [B, H, W, C]; layers take [B, C, H, W].
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssgan.nn.layers import BatchStatNorm, Dropout, GaussianNoise, MinibatchDiscrimination, VirtualBatchNorm
from ssgan.nn.weight_norm import init_from

__all__ = [
    "SLOPE",
    "ChannelsFirst",
    "ChannelsLast",
    "Discriminator",
    "Generator",
    "GlobalMeanPool",
    "LayerNoise",
    "PadToSquare",
    "channels_of",
    "draw_normal_weights",
]


class Discriminator(nn.Module):
    """Map stored images to features and logits.

    Features are the output of the trunk. With minibatch discrimination they are extended before the output layer. If
    rows are coupled in training, a batch of real images is stored, and at evaluation each row is compared with it, or
    normalised by it, so a prediction does not depend on the other rows of its batch.

    Parameters
    ----------
    layout : Module
        Maps images [B, ...] to the input of the trunk.
    trunk : Sequential
        Maps that to features [B, F].
    output : Module
        Maps features, extended ones if there are kernels, to logits [B, K].
    noise_std : float
        Gaussian noise before the output layer.
    minibatch : MinibatchDiscrimination or None
    reference : Tensor, shape [R, ...]
        Buffer of the stored rows, in the trunk's layout. R is one less than a training batch, so that minibatch
        discrimination sums over as many other rows as in training.
    trunk_couples_rows : bool
        Whether the trunk couples rows. If so, it must take the first R rows as the reference at evaluation.
    """

    reference: Tensor

    def __init__(
        self,
        layout: nn.Module,
        trunk: nn.Sequential,
        output: nn.Module,
        noise_std: float,
        minibatch: MinibatchDiscrimination | None,
        reference: Tensor,
        trunk_couples_rows: bool = False,
    ) -> None:
        super().__init__()
        self.layout, self.trunk, self.trunk_couples_rows = layout, trunk, trunk_couples_rows
        self.couples_rows = trunk_couples_rows or minibatch is not None
        self.minibatch = minibatch
        if self.couples_rows:
            self.register_buffer("reference", reference)
        self.noise: nn.Module = GaussianNoise(noise_std)
        self.output = output

    def forward(self, x: Tensor, features_only: bool = False) -> Any:
        """Map images [B, ...] to logits [B, K] and features [B, F], or to the features only."""
        features = self._features(self.layout(x))
        if features_only:
            return features
        extended = features
        if self.minibatch is not None:
            extended = self.minibatch(features, None if self.training else self._features(self.reference))
        return self.output(self.noise(extended)), features

    def _features(self, x: Tensor) -> Tensor:
        """Compute features [B, F] of images in the trunk's layout."""
        if self.training or not self.trunk_couples_rows:
            return self.trunk(x)
        return self.trunk(torch.cat([self.reference, x]))[len(self.reference) :]

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set scales and biases layer by layer from real images ``x`` [N, ...], with noise, and store the reference.

        Without images they keep their values: scales 1, biases 0.
        """
        if not len(x):
            return
        x = self.layout(x)
        features = init_from(self.trunk, x)
        if self.couples_rows:
            self.reference.copy_(x[torch.arange(len(self.reference)) % len(x)])
        if self.minibatch is not None:
            # As many rows as a training batch: the sum over the other rows grows with their number.
            features = self.minibatch.init_from(features[: len(self.reference) + 1])
        init_from(nn.Sequential(self.noise, self.output), features)


class Generator(nn.Module):
    """Hidden layers, each normalised and activated, and an output layer.

    ``couples_rows_at_evaluation`` says whether an image depends on the other rows of its batch at evaluation too.

    Parameters
    ----------
    hidden : sequence of Module
        Each maps [B, ...] to [B, F, ...]; without a bias where a normalisation follows.
    features : sequence of int
        F of each hidden layer.
    output : Module
    squash : callable
        Maps the output to the range of the images.
    layout : Module
        Maps that to images [B, *image_shape].
    activation : callable
    norm : {"batch", "virtual", "none"}
        Normalisation of the hidden layers: by the current batch (the paper's), by a reference batch of noise
        that the network stores and sends through itself, or none.
    gain : bool
        Whether batch norm has a trained gain; virtual batch norm always has.
    reference : Tensor, shape [R, latent_size], optional
        The reference noise of ``"virtual"``.
    norm_last : bool
        Whether a layer is normalised after its activation.
    running_decay : float
        Decay of the running statistics of batch norm; 0: there are none.
    eps : float
        Added to the variance by the normalisation.
    """

    reference: Tensor

    def __init__(
        self,
        hidden: Sequence[nn.Module],
        features: Sequence[int],
        output: nn.Module,
        squash: Callable[[Tensor], Tensor],
        layout: nn.Module,
        activation: Callable[[Tensor], Tensor],
        norm: str,
        gain: bool = False,
        reference: Tensor | None = None,
        norm_last: bool = False,
        running_decay: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm, self.activation, self.squash, self.layout = norm, activation, squash, layout
        self.norm_last = norm_last
        self.couples_rows = norm == "batch"
        self.couples_rows_at_evaluation = self.couples_rows and not running_decay
        self.hidden = nn.ModuleList(hidden)
        self.norms = nn.ModuleList()
        if norm == "batch":
            self.norms.extend(BatchStatNorm(count, eps, gain, running_decay=running_decay) for count in features)
        elif norm == "virtual":
            self.norms.extend(VirtualBatchNorm(count, eps) for count in features)
        self.output = output
        if norm == "virtual":
            if reference is None:
                raise ValueError("norm='virtual' needs reference noise [R, latent_size]")
            self.register_buffer("reference", reference.clone())

    def forward(self, z: Tensor) -> Tensor:
        """Map noise [B, latent_size] to images [B, *image_shape]."""
        x = self.output(self._activations(z))
        # In bfloat16 a sigmoid above 0.998 is 1 and has no gradient, so that G could not change white pixels any more.
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        return self.layout(self.squash(x))

    def _activations(self, z: Tensor) -> Tensor:
        """Return the activations of the last hidden layer."""
        h = z
        if self.norm == "virtual":
            ref = self.reference
            for layer, norm in zip(self.hidden, self.norms, strict=True):
                h, ref = layer(h), layer(ref)
                if self.norm_last:
                    h, ref = norm(self.activation(h), self.activation(ref))
                else:
                    h, ref = map(self.activation, norm(h, ref))
            return h
        for layer, norm in zip(self.hidden, self.norms or [nn.Identity()] * len(self.hidden), strict=True):
            h = norm(self.activation(layer(h))) if self.norm_last else self.activation(norm(layer(h)))
        return h

    @torch.no_grad()
    def initialize(self, z: Tensor) -> None:
        """Set scales and biases from noise ``z`` [N, latent_size]; most networks keep their values."""

    def with_reference_rows(self, rows: int) -> "Generator":
        """Copy the network; at evaluation, batch norm of the copy takes its statistics from the first ``rows`` rows."""
        other = copy.deepcopy(self)
        for norm in other.norms:
            if isinstance(norm, BatchStatNorm):
                norm.reference_rows = rows
        return other


WIDTH_AXIS = 2  # of images [N, H, W] or [N, H, W, C]
SLOPE = 0.2  # negative slope of LeakyReLU


class LayerNoise(NamedTuple):
    """Noise on the inputs of D's layers: standard deviations of Gaussian noise, and probabilities of dropout."""

    input: float = 0.0
    hidden: float = 0.0
    dropout_input: float = 0.0
    dropout_hidden: float = 0.0

    def input_layers(self) -> list[nn.Module]:
        """Make the noise layers on the input of the network."""
        return [*_dropout(self.dropout_input), *_gaussian(self.input)]

    def hidden_layers(self) -> list[nn.Module]:
        """Make the noise layers before each other layer."""
        return _gaussian(self.hidden)

    def dropout_layers(self) -> list[nn.Module]:
        """Make the dropout layers inside the network."""
        return _dropout(self.dropout_hidden)


def _gaussian(std: float) -> list[nn.Module]:
    """Make a layer of Gaussian noise, if there is any."""
    return [GaussianNoise(std)] if std else []


def _dropout(share: float) -> list[nn.Module]:
    """Make a dropout layer, if there is any."""
    return [Dropout(share)] if share else []


class ChannelsFirst(nn.Module):
    """Map stored images [B, H, W] or [B, H, W, C] to [B, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        """Permute the axes without a copy; C is 1 for images without channels."""
        return (x.unsqueeze(3) if x.dim() == 3 else x).permute(0, 3, 1, 2)


class ChannelsLast(nn.Module):
    """Crop the centre of [B, C, at least H, at least W] to images [B, *image_shape]."""

    def __init__(self, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.image_shape = image_shape

    def forward(self, x: Tensor) -> Tensor:
        """Crop; an odd margin is one pixel wider at the bottom and on the right."""
        height, width = self.image_shape[:2]
        top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
        x = x[:, :, top : top + height, left : left + width]
        return x.squeeze(1) if len(self.image_shape) == 2 else x.permute(0, 2, 3, 1)


class PadToSquare(nn.Module):
    """Pad [B, C, H, W] evenly to [B, C, size, size]; :class:`ChannelsLast` crops it back.

    Parameters
    ----------
    size : int
        At least H and W.
    value : float
        The value of the padding: black.
    """

    def __init__(self, size: int, value: float) -> None:
        super().__init__()
        self.size, self.value = size, value

    def forward(self, x: Tensor) -> Tensor:
        """Pad; an odd margin is one pixel wider at the bottom and on the right."""
        margins = [self.size - x.shape[3], self.size - x.shape[2]]
        if not any(margins):
            return x
        padding = [width for margin in margins for width in (margin // 2, margin - margin // 2)]
        return F.pad(x, padding, value=self.value)


class GlobalMeanPool(nn.Module):
    """Average [B, C, H, W] over the pixels to [B, C]."""

    def forward(self, x: Tensor) -> Tensor:
        """Take any H and W."""
        return x.mean(dim=(2, 3))


def channels_of(image_shape: Sequence[int]) -> int:
    """Return C of images [H, W] or [H, W, C]."""
    return image_shape[2] if len(image_shape) == 3 else 1


def draw_normal_weights(network: nn.Module, std: float) -> None:
    """Draw the weights of plain layers from N(0, std) and set their biases to 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
