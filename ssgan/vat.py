"""Virtual adversarial training: predictions should not change in the direction in which they change most.

Shapes: B rows, K classes. Every pass over a batch is given the numbers that its first pass drew, so noise and dropout
are the same in all of them: only the perturbation tells them apart, and without one the term is 0. The direction is
found by ``torch.func``, which can be lifted over a seed axis, and carries no gradient; neither does the clean pass.

Source: Miyato et al., *Virtual Adversarial Training: A Regularization Method for Supervised and Semi-Supervised
Learning*, 2018, sections 3.2 and 3.3. What differs: the noise, which there is drawn anew for every pass; and lengths,
which are given per number of an image (a root mean square), so that they suit images of any size.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ssgan import losses
from ssgan.nn import noise

__all__ = ["of_length", "perturbation", "virtual_adversarial"]


def virtual_adversarial(net: Callable[[Tensor], Any], x: Tensor, epsilon: float, xi: float, iterations: int) -> Tensor:
    """Mean divergence of the class probabilities at ``x`` plus the worst perturbation from those at ``x``.

    Parameters
    ----------
    net : callable
        From images to logits [B, K] and features. A network that couples rows sees each batch by itself.
    x : Tensor, shape [B, ...]
    epsilon, xi, iterations
        As for :func:`perturbation`.
    """
    with torch.no_grad(), noise.kept() as draws:
        clean_BK = net(x)[0]

    def logits(x: Tensor) -> Tensor:
        with noise.given(draws):
            logits_BK: Tensor = net(x)[0]
        return logits_BK

    return losses.divergence(clean_BK, logits(x + perturbation(logits, clean_BK, x, epsilon, xi, iterations)))


def perturbation(
    logits: Callable[[Tensor], Tensor], clean_BK: Tensor, x: Tensor, epsilon: float, xi: float, iterations: int
) -> Tensor:
    """The change of ``x`` of length ``epsilon`` to which the class probabilities are most sensitive, one for each row.

    The divergence has its minimum at no change, so its gradient a little beside, at length ``xi``, is that of its
    curvature: the power method, from a random direction. Lengths are root mean squares over the numbers of a row. A row
    whose probabilities do not change at all has none.
    """
    direction = noise.normal_like(x)
    with torch.no_grad():  # of the parameters; torch.func goes on for the direction
        for _ in range(iterations):
            direction = torch.func.grad(lambda r: losses.divergence(clean_BK, logits(x + r)))(of_length(xi, direction))
    return of_length(epsilon, direction)


def of_length(length: float, rows: Tensor) -> Tensor:
    """Each row [B, ...] brought to this root mean square; a row of zeros stays one."""
    tiny, axes = torch.finfo(rows.dtype).tiny, list(range(1, rows.dim()))
    scaled = rows / rows.abs().amax(dim=axes, keepdim=True).clamp_min(tiny)  # squares of small numbers would be 0
    return scaled * (length / scaled.square().mean(dim=axes, keepdim=True).clamp_min(tiny).sqrt())
