"""The pair of multilayer perceptrons: the paper's MNIST networks, of any size.

Source: Salimans et al., *Improved Techniques for Training GANs*, 2016, section 5.1 and its published code.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssgan.frames import Discriminator, Generator
from ssgan.layers import GaussianNoise, MinibatchDiscrimination
from ssgan.weightnorm import WeightNormLinear

__all__ = ["MLPDiscriminator", "MLPGenerator"]


class MLPDiscriminator(Discriminator):
    """Weight norm, ReLU, Gaussian noise before every layer.

    Features are the last hidden layer before its own noise.

    Parameters
    ----------
    in_features, classes : int
    widths : sequence of int
        Hidden layers.
    noise_input_std, noise_hidden_std : float
    minibatch_kernels, minibatch_kernel_dim : int
        0 kernels for none.
    reference_rows : int
        Real images kept for evaluation with minibatch discrimination.
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
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
            trunk.append(GaussianNoise(noise_hidden_std if i else noise_input_std))
            trunk += [WeightNormLinear(size, width), nn.ReLU()]
        minibatch = None
        if minibatch_kernels:
            minibatch = MinibatchDiscrimination(sizes[-1], minibatch_kernels, minibatch_kernel_dim)
        super().__init__(
            layout=nn.Flatten(),
            trunk=nn.Sequential(*trunk),
            output=WeightNormLinear(sizes[-1] + minibatch_kernels, classes, train_scale=True),
            noise_std=noise_hidden_std,
            minibatch=minibatch,
            reference=torch.zeros(reference_rows, in_features),
        )


class MLPGenerator(Generator):
    """Softplus hidden layers, and a sigmoid output in [0, 1] with weight norm.

    Parameters
    ----------
    latent_size : int
    image_shape : tuple of int
        Shape of one image, [H, W], [H, W, C] or [F].
    widths : sequence of int
        Hidden layers.
    norm : {"batch", "virtual", "none"}
        Normalisation of the hidden layers.
    reference : Tensor, shape [R, latent_size], optional
        The reference noise of ``"virtual"``.
    """

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, ...],
        widths: Sequence[int],
        norm: str = "batch",
        reference: Tensor | None = None,
    ) -> None:
        sizes = [latent_size, *widths]
        hidden = []
        for size, width in itertools.pairwise(sizes):
            linear = nn.Linear(size, width, bias=norm == "none")
            nn.init.xavier_uniform_(linear.weight)
            if norm == "none":
                nn.init.zeros_(linear.bias)
            hidden.append(linear)
        super().__init__(
            hidden=hidden,
            features=widths,
            output=WeightNormLinear(sizes[-1], math.prod(image_shape), train_scale=True, std=None),
            squash=torch.sigmoid,
            layout=nn.Unflatten(1, image_shape),
            activation=F.softplus,
            norm=norm,
            reference=reference,
        )
