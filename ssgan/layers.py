"""Layers of the paper that torch does not have, or has with other semantics.

Shapes: B rows, R rows of a reference batch, F features. Layers with data-dependent initialisation
have ``init_from(batch) -> output``: it sets their scale and bias from the batch and returns what the
next layer should see. It runs once per seed, before the seeds are stacked, without gradients.

Source: Salimans et al., *Improved Techniques for Training GANs*, 2016, and its published code.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "BatchStatNorm",
    "GaussianNoise",
    "MinibatchDiscrimination",
    "VirtualBatchNorm",
    "WeightNormLinear",
    "init_from",
]


class WeightNormLinear(nn.Module):
    """``y = x W^T + b`` with ``W = v * g / ||v||``, the norm taken over each unit's inputs.

    The published recipes freeze ``g`` after the data-dependent initialisation and train it in the
    last layer only: ``train_scale=False`` keeps ``g`` as a buffer. (``torch.nn.utils`` trains it
    everywhere.)

    Parameters
    ----------
    in_features, out_features : int
    train_scale : bool
        Whether ``g`` is a parameter.
    std : float or None
        ``v`` starts as N(0, std); ``None`` is Glorot's uniform distribution.
    bias : bool
        Off where a normalisation follows that would remove it.

    Source: Salimans & Kingma, *Weight Normalization*, 2016, section 3.
    """

    v: Tensor
    g: Tensor
    b: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        train_scale: bool = False,
        std: float | None = 0.1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.empty(out_features, in_features))
        if std is None:
            nn.init.xavier_uniform_(self.v)
        else:
            nn.init.normal_(self.v, std=std)
        g = torch.ones(out_features)
        if train_scale:
            self.g = nn.Parameter(g)
        else:
            self.register_buffer("g", g)
        self.b = nn.Parameter(torch.zeros(out_features)) if bias else None

    def weight(self) -> Tensor:
        """W, shape [out_features, in_features]."""
        return self.v * (self.g * torch.rsqrt(self.v.square().sum(dim=1)))[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_features] to [B, out_features]."""
        return F.linear(x, self.weight(), self.b)

    @torch.no_grad()
    def init_from(self, x: Tensor) -> Tensor:
        """Set g and b so that every unit has mean 0 and standard deviation 1 on ``x``; return the output.

        A unit that does not vary on ``x`` keeps its scale.
        """
        activation = self.forward(x) if self.b is None else self.forward(x) - self.b
        mean, std = activation.mean(dim=0), activation.std(dim=0, correction=0)
        # A deviation below the rounding of an activation is none.
        rounding = 8 * torch.finfo(x.dtype).eps * self.g.abs() * x.square().sum(dim=1).mean().sqrt()
        scale = torch.where(std > rounding, 1.0 / std, torch.ones_like(std))
        self.g.mul_(scale)
        if self.b is not None:
            self.b.copy_(-mean * scale)
        return self.forward(x)


class GaussianNoise(nn.Module):
    """Adds N(0, std) to every entry while training, nothing at evaluation.

    ``std`` = 0 draws no random number.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        if not self.training or self.std == 0.0:
            return x
        return x + self.std * torch.randn_like(x)

    def extra_repr(self) -> str:
        """What ``print(network)`` shows."""
        return f"std={self.std}"


class BatchStatNorm(nn.Module):
    """Batch normalisation by the statistics of the batch at hand, always, with a bias and no gain.

    The paper's MNIST generator uses it so; it keeps no running statistics, so a sample depends on
    its batch-mates. :class:`VirtualBatchNorm` removes that dependence.
    """

    def __init__(self, num_features: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.beta = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """[B, F] or [B, F, H, W] to the same shape, each feature normalised over the rest."""
        axes = [0, *range(2, x.dim())]
        mean = x.mean(dim=axes, keepdim=True)
        variance = (x - mean).square().mean(dim=axes, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + self.eps) + _per_feature(self.beta, x)


class VirtualBatchNorm(nn.Module):
    """Batch normalisation of each row by a fixed reference batch and the row itself (section 3.5).

    With per-row moments m_i, v_i (mean and variance over the pixels; v_i = 0 for dense layers),
    moments m_ref, v_ref of the reference batch of R rows and c = 1 / (R + 1)::

        mean_i = c * m_i + (1 - c) * m_ref
        var_i  = c * v_i + (1 - c) * v_ref + c * (1 - c) * (m_i - m_ref)^2
        y_i    = gamma * (x_i - mean_i) / sqrt(eps + var_i) + beta

    Reference rows are normalised by m_ref and v_ref alone, and gradients flow through them. The layer
    holds no state: the caller sends the reference batch through the same layers, so a row's output
    does not depend on its batch-mates and a second call gives the same answer. The moments are
    combined in this form because the mean of squares less the square of the mean cancels in float32.

    Parameters
    ----------
    num_features : int
        F, the size of axis 1.
    eps : float
    """

    def __init__(self, num_features: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(num_features))
        self.beta = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor, ref: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise both batches.

        Parameters
        ----------
        x : Tensor, shape [B, F] or [B, F, H, W]
        ref : Tensor, shape [R, F] or [R, F, H, W]
            The reference batch at this layer.

        Returns
        -------
        (y, y_ref) : the shapes of ``x`` and ``ref``
        """
        dtype = x.dtype
        if dtype in (torch.float16, torch.bfloat16):
            x, ref = x.float(), ref.float()
        pixels, all_rows = list(range(2, x.dim())), [0, *range(2, x.dim())]
        m_ref = ref.mean(dim=all_rows, keepdim=True)
        v_ref = (ref - m_ref).square().mean(dim=all_rows, keepdim=True)
        if pixels:
            m = x.mean(dim=pixels, keepdim=True)
            v = (x - m).square().mean(dim=pixels, keepdim=True)
        else:
            m, v = x, torch.zeros_like(x)
        c = 1.0 / (ref.shape[0] + 1.0)
        mean = c * m + (1.0 - c) * m_ref
        variance = c * v + (1.0 - c) * v_ref + c * (1.0 - c) * (m - m_ref).square()
        gamma, beta = _per_feature(self.gamma, x), _per_feature(self.beta, x)
        y = gamma * (x - mean) * torch.rsqrt(self.eps + variance) + beta
        y_ref = gamma * (ref - m_ref) * torch.rsqrt(self.eps + v_ref) + beta
        return y.to(dtype), y_ref.to(dtype)


class MinibatchDiscrimination(nn.Module):
    """Appends to each row how close it lies to the other rows of its batch (section 3.2).

    ``M_i = f_i T`` with T in R^[A, B, C] (A = ``in_features``, B = ``num_kernels``, C = ``kernel_dim``)
    and ``o(x_i)_b = sum_{j != i} exp(-||M_i,b - M_j,b||_1) + bias_b``. As in the paper's code the
    self term is left out, the columns of T have unit length times exp(s), and s and the bias are set
    from the first batch by :meth:`init_from`.

    Real and generated batches go through separately. At evaluation, pass ``reference``: each row is
    then compared with those rows instead of its batch-mates, so a prediction is the row's own.

    Parameters
    ----------
    in_features, num_kernels, kernel_dim : int
        A, B and C.
    """

    def __init__(self, in_features: int, num_kernels: int, kernel_dim: int = 5) -> None:
        super().__init__()
        self.theta = nn.Parameter(0.05 * torch.randn(in_features, num_kernels, kernel_dim))
        self.log_scale = nn.Parameter(torch.zeros(num_kernels, kernel_dim))
        self.bias = nn.Parameter(torch.zeros(num_kernels))

    def weight(self) -> Tensor:
        """T, shape [A, B, C]."""
        return self.theta * (self.log_scale.exp() * torch.rsqrt(self.theta.square().sum(dim=0)))

    def _distances(self, f: Tensor, reference: Tensor) -> Tensor:
        """L1 distances [B, R, num_kernels] of the rows of ``f`` to those of ``reference``."""
        kernels = self.theta.shape[1]
        m = (f @ self.weight().flatten(1)).unflatten(1, (kernels, -1))
        m_ref = m if reference is f else (reference @ self.weight().flatten(1)).unflatten(1, (kernels, -1))
        return (m[:, None] - m_ref[None, :]).abs().sum(dim=-1)

    def forward(self, f: Tensor, reference: Tensor | None = None) -> Tensor:
        """Map [B, A] to [B, A + num_kernels].

        Parameters
        ----------
        f : Tensor, shape [B, A]
        reference : Tensor, shape [R, A], optional
            Rows to compare with in place of the batch itself.
        """
        if reference is None:
            # exp(-0) = 1 is each row's term with itself.
            closeness = torch.exp(-self._distances(f, f)).sum(dim=1) - 1.0
        else:
            closeness = torch.exp(-self._distances(f, reference)).sum(dim=1)
        return torch.cat([f, closeness + self.bias], dim=1)

    @torch.no_grad()
    def init_from(self, f: Tensor) -> Tensor:
        """Set s so that half the mean distance to the nearest other row is 1, and the bias so that the mean is 0.

        Needs two rows. A kernel in which no two rows differ keeps its scale.
        """
        itself = torch.eye(f.shape[0], dtype=torch.bool, device=f.device)[:, :, None]
        nearest = self._distances(f, f).masked_fill(itself, torch.inf).amin(dim=1).mean(dim=0)
        scale = torch.where((nearest > 0) & nearest.isfinite(), 0.5 * nearest, torch.ones_like(nearest))
        self.log_scale.sub_(scale.log()[:, None])
        self.bias.zero_()
        self.bias.copy_(-self.forward(f)[:, f.shape[1] :].mean(dim=0))
        return self.forward(f)


def init_from(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Run ``x`` through ``layers``, initialising each that can be; return the output."""
    for layer in layers:
        x = getattr(layer, "init_from", layer)(x)
    return x


def _per_feature(values_F: Tensor, x: Tensor) -> Tensor:
    """[F] shaped to broadcast along axis 1 of ``x``."""
    return values_F.view(1, -1, *[1] * (x.dim() - 2))
