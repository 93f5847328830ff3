"""The generator of the one-dimensional GAN: small enough to watch.

ReLU and a linear output, so that its numbers may be of any size, and batch norm only where ``generator_norm`` asks for
it. Weights are drawn by Glorot's rule, biases are 0: of the initialisations tried, the one from which most seeds learn
(results/NOTES.md). The discriminator is the plain one of :mod:`ssgan.ganmlp` with tanh.
"""

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ssgan.frames import Generator
from ssgan.ganmlp import draw_weights

__all__ = ["ToyGenerator"]


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
        draw_weights(self)
