"""Define the multilayer perceptrons: the paper's pair, a plain pair, and the generator of one-dimensional data.

**The paper's pair**: the MNIST networks, of any size. Source: Salimans et al., *Improved Techniques for Training
GANs*, 2016, section 5.1 and its published code.

**The plain pair**: G has LeakyReLU, then batch norm with running statistics, and a tanh output; D has LeakyReLU and no
normalisation. Weights are drawn from Glorot's uniform distribution. Source: Goodfellow et al., *Generative Adversarial
Nets*, 2014, in the form of many Keras tutorials, where the momentum of batch norm is 0.8 and its epsilon 1e-3.

**The generator of one-dimensional data**: ReLU and a linear output, so that its values may be of any size, and batch
norm only if ``generator_norm`` asks for it. Weights are drawn by Glorot's rule and biases are 0; of the initialisations
tried, most seeds learn from this one (docs/notes/gaussian.md). Its discriminator is the plain one with tanh.

**The pair for features**: vectors with values of any size, with a standard deviation of about 1, such as the features
of a pretrained network. D has weight norm, LeakyReLU, Gaussian noise and dropout; G has ReLU and a linear output.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssgan.nn.base import SLOPE, Discriminator, Generator, LayerNoise
from ssgan.nn.layers import GaussianNoise, MinibatchDiscrimination
from ssgan.nn.weight_norm import WeightNormLinear

__all__ = [
    "FeatureDiscriminator",
    "MLPDiscriminator",
    "MLPGenerator",
    "PlainDiscriminator",
    "PlainGenerator",
    "VectorGenerator",
    "draw_glorot_weights",
]


class _DenseDiscriminator(Discriminator):
    """A discriminator of vectors: flattened images, a trunk of dense layers and a dense output layer.

    Parameters
    ----------
    sizes : sequence of int
        Number of inputs, and of units of each hidden layer.
    trunk : list of Module
    output : callable
        Makes the output layer from the number of its inputs.
    noise_std, minibatch_kernels, minibatch_kernel_dim, reference_rows
        As in :class:`MLPDiscriminator`; the noise is that before the output layer.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        trunk: list[nn.Module],
        output: Callable[[int], nn.Module],
        noise_std: float,
        minibatch_kernels: int,
        minibatch_kernel_dim: int,
        reference_rows: int,
    ) -> None:
        minibatch = None
        if minibatch_kernels:
            minibatch = MinibatchDiscrimination(sizes[-1], minibatch_kernels, minibatch_kernel_dim)
        super().__init__(
            layout=nn.Flatten(),
            trunk=nn.Sequential(*trunk),
            output=output(sizes[-1] + minibatch_kernels),
            noise_std=noise_std,
            minibatch=minibatch,
            reference=torch.zeros(reference_rows, sizes[0]),
        )


class MLPDiscriminator(_DenseDiscriminator):
    """Dense layers with weight norm, ReLU, and Gaussian noise before every layer.

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
        super().__init__(
            sizes,
            trunk,
            output=partial(WeightNormLinear, out_features=classes, train_scale=True),
            noise_std=noise_hidden_std,
            minibatch_kernels=minibatch_kernels,
            minibatch_kernel_dim=minibatch_kernel_dim,
            reference_rows=reference_rows,
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


RUNNING_DECAY = 0.8  # decay of the running statistics of batch norm per batch
EPSILON = 1e-3
LEAKY = partial(nn.LeakyReLU, SLOPE)


class PlainDiscriminator(_DenseDiscriminator):
    """Dense layers, each with an activation.

    Features are the last hidden layer.

    Parameters
    ----------
    in_features, classes : int
    widths : sequence of int
        Hidden layers.
    noise_input_std, noise_hidden_std : float
        Gaussian noise before the first layer and before every other one.
    minibatch_kernels, minibatch_kernel_dim : int
        0 kernels for none.
    reference_rows : int
        Real images kept for evaluation with minibatch discrimination.
    activation : callable
        Makes the module of an activation; LeakyReLU by default.
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        widths: Sequence[int],
        noise_input_std: float = 0.0,
        noise_hidden_std: float = 0.0,
        minibatch_kernels: int = 0,
        minibatch_kernel_dim: int = 5,
        reference_rows: int = 99,
        activation: Callable[[], nn.Module] = LEAKY,
    ) -> None:
        sizes = [in_features, *widths]
        trunk: list[nn.Module] = []
        for i, (size, width) in enumerate(itertools.pairwise(sizes)):
            trunk.append(GaussianNoise(noise_hidden_std if i else noise_input_std))
            trunk += [nn.Linear(size, width), activation()]
        super().__init__(
            sizes,
            trunk,
            output=partial(nn.Linear, out_features=classes),
            noise_std=noise_hidden_std,
            minibatch_kernels=minibatch_kernels,
            minibatch_kernel_dim=minibatch_kernel_dim,
            reference_rows=reference_rows,
        )
        draw_glorot_weights(self)


class PlainGenerator(Generator):
    """Dense layers, each with LeakyReLU and then the normalisation, and a tanh output.

    Parameters
    ----------
    latent_size : int
    image_shape : tuple of int
        Shape of one image, [H, W], [H, W, C] or [F].
    widths : sequence of int
        Hidden layers.
    norm : {"batch", "virtual", "none"}
        Normalisation of the hidden layers; ``"batch"`` keeps running statistics for evaluation.
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
        super().__init__(
            hidden=[nn.Linear(size, width) for size, width in itertools.pairwise(sizes)],
            features=widths,
            output=nn.Linear(sizes[-1], math.prod(image_shape)),
            squash=torch.tanh,
            layout=nn.Unflatten(1, image_shape),
            activation=partial(F.leaky_relu, negative_slope=SLOPE),
            norm=norm,
            gain=True,
            reference=reference,
            norm_last=True,
            running_decay=RUNNING_DECAY,
            eps=EPSILON,
        )
        draw_glorot_weights(self)


def draw_glorot_weights(network: nn.Module) -> None:
    """Draw the weights of dense layers from Glorot's uniform distribution and set their biases to 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class VectorGenerator(Generator):
    """Dense layers with ReLU and a linear output, for vectors whose values may be of any size.

    Parameters
    ----------
    latent_size : int
    image_shape : tuple of int
        Shape of one vector, [F].
    widths : sequence of int
        Hidden layers.
    norm, reference, gain
        As in :class:`ssgan.nn.base.Generator`.
    """

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, ...],
        widths: Sequence[int],
        norm: str = "none",
        reference: Tensor | None = None,
        gain: bool = False,
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
            gain=gain,
            reference=reference,
        )
        draw_glorot_weights(self)


class FeatureDiscriminator(_DenseDiscriminator):
    """Dense layers with weight norm and LeakyReLU, with noise and dropout.

    Gaussian noise and dropout of the input come before the first layer, hidden noise before every other layer, and
    hidden dropout before the output layer. Features are the last hidden layer before its own noise and dropout.

    Parameters
    ----------
    in_features, classes : int
    widths : sequence of int
        Hidden layers.
    noise : LayerNoise
    minibatch_kernels, minibatch_kernel_dim : int
        0 kernels for none.
    reference_rows : int
        Real vectors kept for evaluation with minibatch discrimination.
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        widths: Sequence[int],
        noise: LayerNoise,
        minibatch_kernels: int = 0,
        minibatch_kernel_dim: int = 5,
        reference_rows: int = 99,
    ) -> None:
        sizes = [in_features, *widths]
        trunk: list[nn.Module] = []
        for i, (size, width) in enumerate(itertools.pairwise(sizes)):
            trunk += noise.hidden_layers() if i else noise.input_layers()
            trunk += [WeightNormLinear(size, width), nn.LeakyReLU(SLOPE)]
        super().__init__(
            sizes,
            trunk,
            output=partial(WeightNormLinear, out_features=classes, train_scale=True),
            noise_std=noise.hidden,
            minibatch_kernels=minibatch_kernels,
            minibatch_kernel_dim=minibatch_kernel_dim,
            reference_rows=reference_rows,
        )
        self.noise = nn.Sequential(self.noise, *noise.dropout_layers())
