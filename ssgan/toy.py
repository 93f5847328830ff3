"""The pair of the one-dimensional GAN: plain multilayer perceptrons, small enough to watch.

D has tanh, G ReLU and a linear output, so that its numbers may be of any size; no weight norm, and batch norm only
where ``generator_norm`` asks for it. Weights are drawn by Glorot's rule, biases are 0: of the initialisations tried,
the one from which most seeds learn (results/NOTES.md).
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssgan.frames import Discriminator, Generator
from ssgan.layers import GaussianNoise, MinibatchDiscrimination

__all__ = ["ToyDiscriminator", "ToyGenerator"]


class ToyDiscriminator(Discriminator):
    """Dense layers with tanh; features are the last hidden layer.

    Parameters
    ----------
    in_features, outputs : int
    widths : sequence of int
        Hidden layers.
    noise_input_std, noise_hidden_std : float
    minibatch_kernels, minibatch_kernel_dim : int
        0 kernels for none.
    reference_rows : int
        Real vectors kept for evaluation with minibatch discrimination.
    """

    def __init__(
        self,
        in_features: int,
        outputs: int,
        widths: Sequence[int],
        noise_input_std: float,
        noise_hidden_std: float,
        minibatch_kernels: int = 0,
        minibatch_kernel_dim: int = 5,
        reference_rows: int = 99,
    ) -> None:
        sizes = [in_features, *widths]
        trunk: list[nn.Module] = []
        for i, (size, width) in enumerate(itertools.pairwise(sizes)):
            trunk += [GaussianNoise(noise_hidden_std if i else noise_input_std), nn.Linear(size, width), nn.Tanh()]
        minibatch = None
        if minibatch_kernels:
            minibatch = MinibatchDiscrimination(sizes[-1], minibatch_kernels, minibatch_kernel_dim)
        super().__init__(
            layout=nn.Flatten(),
            trunk=nn.Sequential(*trunk),
            output=nn.Linear(sizes[-1] + minibatch_kernels, outputs),
            noise_std=noise_hidden_std,
            minibatch=minibatch,
            reference=torch.zeros(reference_rows, in_features),
        )
        _draw_weights(self)


class ToyGenerator(Generator):
    """Dense layers with ReLU and a linear output.

    Parameters
    ----------
    latent_size : int
    image_shape : tuple of int
        [F].
    widths : sequence of int
        Hidden layers.
    norm, reference
        As in :class:`ssgan.frames.Generator`.
    """

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, ...],
        widths: Sequence[int],
        norm: str = "none",
        reference: Tensor | None = None,
    ) -> None:
        sizes = [latent_size, *widths]
        super().__init__(
            hidden=[nn.Linear(a, b, bias=norm == "none") for a, b in itertools.pairwise(sizes)],
            features=widths,
            output=nn.Linear(sizes[-1], math.prod(image_shape)),
            squash=nn.Identity(),
            layout=nn.Unflatten(1, image_shape),
            activation=F.relu,
            norm=norm,
            reference=reference,
        )
        _draw_weights(self)


def _draw_weights(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
