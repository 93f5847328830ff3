"""The frames of D and G, which every network fills with layers of its own.

``D(x) -> (logits [B, K], features [B, F])``, ``G(z) -> images [B, *image_shape]``. ``initialize`` runs the
data-dependent initialisation once, before training. ``couples_rows`` says whether an output depends on the
other rows of a batch while training.

What the convolutional networks are built of: places of noise, layouts of images, pooling, drawn weights.

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
    "Framed",
    "Generator",
    "GlobalMeanPool",
    "Noise",
    "channels_of",
    "draw_weights",
]


class Discriminator(nn.Module):
    """From stored layout to features to logits.

    Features are the trunk's output. With minibatch discrimination they are extended on the way to the logits. Where
    rows are coupled while training, a batch of real images is stored, and at evaluation each row is compared with it,
    or normalised by it, so a prediction does not depend on its batch-mates.

    Parameters
    ----------
    layout : Module
        From images [B, ...] to what the trunk takes.
    trunk : Sequential
        To features [B, F].
    output : Module
        From features, extended if so, to logits [B, K].
    noise_std : float
        Gaussian noise on the way to the logits.
    minibatch : MinibatchDiscrimination or None
    reference : Tensor, shape [R, ...]
        A place for the stored rows, in the trunk's layout. R is one less than a training batch, so that
        minibatch discrimination sums over as many others.
    coupling_trunk : bool
        Whether the trunk couples rows. It must then, at evaluation, take the first R rows for the reference.
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
        coupling_trunk: bool = False,
    ) -> None:
        super().__init__()
        self.layout, self.trunk, self.coupling_trunk = layout, trunk, coupling_trunk
        self.couples_rows = coupling_trunk or minibatch is not None
        self.minibatch = minibatch
        if self.couples_rows:
            self.register_buffer("reference", reference)
        self.noise = GaussianNoise(noise_std)
        self.output = output

    def forward(self, x: Tensor, features_alone: bool = False) -> Any:
        """Map images [B, ...] to logits [B, K] and features [B, F], or to the features alone."""
        features = self._features(self.layout(x))
        if features_alone:
            return features
        extended = features
        if self.minibatch is not None:
            extended = self.minibatch(features, None if self.training else self._features(self.reference))
        return self.output(self.noise(extended)), features

    def _features(self, x: Tensor) -> Tensor:
        if self.training or not self.coupling_trunk:
            return self.trunk(x)
        return self.trunk(torch.cat([self.reference, x]))[len(self.reference) :]

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set scales and biases layer by layer from real images ``x`` [N, ...], noise on, and store the reference.

        Without images they stay as they were drawn: scales 1, biases 0.
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

    ``needs_mates`` says whether an image depends on its batch-mates at evaluation too.

    Parameters
    ----------
    hidden : sequence of Module
        Each maps [B, ...] to [B, F, ...]; without a bias where a normalisation follows.
    features : sequence of int
        F of each hidden layer.
    output : Module
    squash : callable
        From the output to the range of the images.
    layout : Module
        From there to images [B, *image_shape].
    activation : callable
    norm : {"batch", "virtual", "none"}
        Normalisation of the hidden layers: by the batch at hand (the paper's), by a reference batch
        of noise that the network keeps and sends through itself, or none.
    gain : bool
        Whether batch norm has a trained gain; virtual batch norm always has.
    reference : Tensor, shape [R, latent_size], optional
        The reference noise of ``"virtual"``.
    norm_last : bool
        Whether a layer is activated first and then normalised.
    kept : float
        Share of the running statistics of batch norm that a batch leaves; 0: there are none.
    eps : float
        Of the normalisation.
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
        kept: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm, self.activation, self.squash, self.layout = norm, activation, squash, layout
        self.norm_last = norm_last
        self.couples_rows = norm == "batch"
        self.needs_mates = self.couples_rows and not kept
        self.hidden = nn.ModuleList(hidden)
        self.norms = nn.ModuleList()
        if norm == "batch":
            self.norms.extend(BatchStatNorm(count, eps, gain, kept=kept) for count in features)
        elif norm == "virtual":
            self.norms.extend(VirtualBatchNorm(count, eps) for count in features)
        self.output = output
        if norm == "virtual":
            if reference is None:
                raise ValueError("norm='virtual' needs reference noise [R, latent_size]")
            self.register_buffer("reference", reference.clone())

    def forward(self, z: Tensor) -> Tensor:
        """Map noise [B, latent_size] to images [B, *image_shape]."""
        return self.layout(self.squash(self.output(self._activations(z))))

    def _activations(self, z: Tensor) -> Tensor:
        """The last hidden layer."""
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
        """Set scales and biases from noise ``z`` [N, latent_size] where a recipe does; most leave them as drawn."""

    def normed_by_first(self, rows: int) -> "Generator":
        """The same network, whose batch norms take, at evaluation, their statistics from the first so many rows."""
        other = copy.deepcopy(self)
        for norm in other.norms:
            if isinstance(norm, BatchStatNorm):
                norm.reference_rows = rows
        return other


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
