"""Interpolate between latents, add them and perturb them: pure functions.

Shapes: L components of a latent, N latents, T points of a path.

Source of spherical interpolation: White, *Sampling Generative Networks*, 2016; of sums: Radford et al., *Unsupervised
Representation Learning with Deep Convolutional Generative Adversarial Networks*, 2016, section 6.3.2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ssgan.errors import UserError
from ssgan.nn.registry import SPREAD

__all__ = ["PATHS", "combine", "default_path", "interpolate", "perturb", "slerp"]


PATHS = ("straight", "spherical")
# Standard deviation of one component of a latent, by distribution.
LATENT_STD = {"uniform": 12**-0.5, "normal": 1.0, "spread": SPREAD / 3**0.5}
SMALLEST_SINE = 1e-6


def default_path(distribution: str) -> str:
    """Return the default path: spherical for normal latents, which lie near a sphere, straight for others."""
    return "spherical" if distribution == "normal" else "straight"


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return points [T, L] on the great circle from ``a`` [L] to ``b`` [L] at fractions ``t`` [T] of the angle.

    The norm changes linearly from that of ``a`` to that of ``b``. If the two are parallel or one is zero, the circle
    is undefined and the path is straight.
    """
    norms = torch.linalg.vector_norm(torch.stack([a, b]), dim=1)
    u, v = a / norms[0], b / norms[1]
    angle = torch.arccos((u @ v).clamp(-1.0, 1.0))
    t = t[:, None]
    if not angle.sin() > SMALLEST_SINE:  # also false for NaN
        return (1.0 - t) * a + t * b
    direction = (((1.0 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin()
    return ((1.0 - t) * norms[0] + t * norms[1]) * direction


def interpolate(a: Tensor, b: Tensor, steps: int, path: str, distribution: str) -> Tensor:
    """Return latents [steps, L] in even steps from ``a`` [L] to ``b`` [L], both included.

    Parameters
    ----------
    steps : int
        At least 2.
    path : {"straight", "spherical"}
        Spherical is :func:`slerp` for normal latents. Uniform latents are mapped to normal ones component by component,
        by the quantiles of the two distributions, and back after the slerp, so that they stay in the cube and have the
        distribution of noise. On a straight path the middle is nearer to the centre than noise.
    distribution : {"uniform", "normal", "spread"}
        Distribution of the latents.

    Raises
    ------
    UserError
        For a spherical path between spread latents, which are single numbers.
    """
    if path == "spherical" and distribution == "spread":
        raise UserError("A spherical path is for uniform and normal latents, but these are spread: use a straight one.")
    t = torch.linspace(0.0, 1.0, steps, dtype=torch.float64)
    first, last = a.double(), b.double()
    if path == "straight":
        points = (1.0 - t[:, None]) * first + t[:, None] * last
    elif distribution == "normal":
        points = slerp(first, last, t)
    else:
        least = torch.finfo(torch.float32).eps  # the quantile of 0 is not finite
        start, end = (torch.special.ndtri(uniform.clamp(least, 1.0 - least)) for uniform in (first, last))
        points = torch.special.ndtr(slerp(start, end, t))
    return torch.cat([a[None], points[1:-1].to(a), b[None]])


def combine(
    z: Tensor, terms: Sequence[tuple[int, Sequence[int]]], distribution: str
) -> tuple[Tensor, list[Tensor], float]:
    """Add the means of chosen latents, each with its sign.

    Parameters
    ----------
    z : Tensor, shape [N, L]
    terms : sequence of (sign, rows)
        ``sign`` is 1 or -1, ``rows`` are indices into ``z``.
    distribution : {"uniform", "normal", "spread"}
        Sums of uniform latents are clipped to [0, 1].

    Returns
    -------
    Tensor, shape [L]
        The sum.
    list of Tensor, shape [L]
        The mean of each term, without its sign.
    float
        The fraction of the sum's components that were clipped.
    """
    means = [z[list(rows)].double().mean(dim=0) for _, rows in terms]
    total = torch.stack([sign * mean for (sign, _), mean in zip(terms, means, strict=True)]).sum(dim=0)
    inside = total.clamp(0.0, 1.0) if distribution == "uniform" else total
    return inside.to(z), [mean.to(z) for mean in means], float((inside != total).double().mean())


def perturb(z: Tensor, count: int, distribution: str, scale: float, seed: int) -> Tensor:
    """Return latents [count, L] around ``z`` [L], by normal noise of ``scale`` standard deviations of the latents.

    The noise depends only on ``seed``; uniform latents are clipped to [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    moved = z + scale * LATENT_STD[distribution] * torch.randn(count, len(z), generator=generator).to(z)
    return moved.clamp(0.0, 1.0) if distribution == "uniform" else moved
