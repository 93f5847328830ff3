"""Ways between latents, and sums of them: pure functions.

Shapes: L numbers of a latent, N latents, T places on a way.

Source of the spherical way: White, *Sampling Generative Networks*, 2016; of the sums: Radford et al., *Unsupervised
Representation Learning with Deep Convolutional Generative Adversarial Networks*, 2016, section 6.3.2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["PATHS", "combine", "default_path", "nearby", "slerp", "way"]


PATHS = ("straight", "spherical")
# Standard deviation of a number of a latent.
SPREAD = {"uniform": 12**-0.5, "normal": 1.0}
SMALLEST_SINE = 1e-6


def default_path(distribution: str) -> str:
    """Spherical for N(0, 1), whose latents lie near a sphere; straight for U(0, 1), whose cube it cannot leave."""
    return "spherical" if distribution == "normal" else "straight"


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Points [T, L] on the great circle from ``a`` [L] to ``b`` [L] at the shares ``t`` [T] of the angle.

    The norm goes evenly from that of ``a`` to that of ``b``, so between equal ones it stays. Where the two point the
    same way or opposite ways, or one is zero, there is no one circle: then straight.
    """
    norms = torch.linalg.vector_norm(torch.stack([a, b]), dim=1)
    u, v = a / norms[0], b / norms[1]
    angle = torch.arccos((u @ v).clamp(-1.0, 1.0))
    t = t[:, None]
    if not angle.sin() > SMALLEST_SINE:  # nor where it is not a number
        return (1.0 - t) * a + t * b
    direction = (((1.0 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin()
    return ((1.0 - t) * norms[0] + t * norms[1]) * direction


def way(a: Tensor, b: Tensor, steps: int, path: str, distribution: str) -> Tensor:
    """Latents [steps, L] at even steps from ``a`` [L] to ``b`` [L], which are the first and the last.

    Parameters
    ----------
    path : {"straight", "spherical"}
        Spherical is :func:`slerp` for normal latents. A cube has no sphere around 0, so uniform latents are
        brought to normal ones number by number, by the quantiles of the two distributions, and back after the
        slerp: so they stay in the cube, and spread in it as noise does. In the middle of a straight way they are
        nearer to the centre than noise is.
    distribution : {"uniform", "normal"}
        That of the latents.
    """
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
    """The sum of the means of chosen latents, each with its sign.

    Parameters
    ----------
    z : Tensor, shape [N, L]
    terms : sequence of (sign, rows)
        ``sign`` is 1 or -1, ``rows`` are indices into ``z``.
    distribution : {"uniform", "normal"}
        Of uniform latents, what leaves [0, 1] is cut off there.

    Returns
    -------
    Tensor, shape [L]
        The sum.
    list of Tensor, shape [L]
        The mean of each term, without its sign.
    float
        The share of the sum's numbers that were cut off.
    """
    means = [z[list(rows)].double().mean(dim=0) for _, rows in terms]
    total = torch.stack([sign * mean for (sign, _), mean in zip(terms, means, strict=True)]).sum(dim=0)
    inside = total.clamp(0.0, 1.0) if distribution == "uniform" else total
    return inside.to(z), [mean.to(z) for mean in means], float((inside != total).double().mean())


def nearby(z: Tensor, count: int, distribution: str, reach: float, seed: int) -> Tensor:
    """Latents [count, L] around ``z`` [L]: moved by normal noise of ``reach`` times the spread of the latents.

    The noise is a function of ``seed``; uniform latents stay in [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    moved = z + reach * SPREAD[distribution] * torch.randn(count, len(z), generator=generator).to(z)
    return moved.clamp(0.0, 1.0) if distribution == "uniform" else moved
