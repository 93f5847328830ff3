"""The frames of D and G, which every network fills with layers of its own.

``D(x) -> (logits [B, K], features [B, F])``, ``G(z) -> images [B, *image_shape]``. ``initialize`` runs the
data-dependent initialisation once, before training. ``couples_rows`` says whether an output depends on the
other rows of a batch while training.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssgan.layers import BatchStatNorm, GaussianNoise, MinibatchDiscrimination, VirtualBatchNorm
from ssgan.weightnorm import init_from

__all__ = ["Discriminator", "Generator"]


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
