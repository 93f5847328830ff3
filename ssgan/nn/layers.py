"""Define the layers of the paper that torch lacks or implements differently.

Shapes: B rows, R rows of a reference batch, F features. Layers with data-dependent initialisation
(here and in :mod:`ssgan.nn.weight_norm`) have ``init_from(batch) -> output``: it sets their scale and bias
from the batch and returns the input of the next layer. It runs once per seed, before the seeds are stacked,
without gradients.

Source: Salimans et al., *Improved Techniques for Training GANs*, 2016, and its published code.
"""

import torch
from torch import Tensor, nn

from ssgan.distributed import mean as joined_mean
from ssgan.nn import noise

__all__ = ["BatchStatNorm", "Dropout", "GaussianNoise", "MinibatchDiscrimination", "VirtualBatchNorm"]


class GaussianNoise(nn.Module):
    """Add N(0, std) to every entry in training mode, nothing at evaluation.

    ``std`` = 0 draws no random number.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of any shape to one of the same shape."""
        if not self.training or self.std == 0.0:
            return x
        return x.add(noise.normal_like(x), alpha=self.std)

    def extra_repr(self) -> str:
        """Return what ``print(network)`` shows."""
        return f"std={self.std}"


class Dropout(nn.Module):
    """Set each entry to zero with probability ``p`` in training mode and scale up the rest.

    The same as ``torch.nn.Dropout``, but by a uniform draw, which takes a third of the time on a CPU.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of any shape to one of the same shape."""
        if not self.training or self.p == 0.0:
            return x
        mask = noise.uniform_like(x) >= self.p
        return x * (mask.to(x.dtype) / (1.0 - self.p))

    def extra_repr(self) -> str:
        """Return what ``print(network)`` shows."""
        return f"p={self.p}"


class BatchStatNorm(nn.Module):
    """Batch normalisation by the statistics of the current batch.

    The paper's generators use it in this form, with a bias, no gain and no running statistics. A row then depends on
    the other rows; :class:`VirtualBatchNorm` removes that dependence, and so do running statistics at evaluation. The
    batch is the joined one if several processes share it.

    Parameters
    ----------
    num_features : int
        F, the size of axis 1.
    eps : float
    gain : bool
        Whether a trained gain follows.
    reference_rows : int
        At evaluation, take the statistics of only this many leading rows, which the caller puts before the batch;
        a row then does not depend on the other rows. 0: always those of the whole batch.
    running_decay : float
        Above 0 the layer has running statistics, mean 0 and variance 1 at first. Every batch in training multiplies
        them by the decay and adds (1 - decay) times its own; torch calls 1 - decay the momentum. At evaluation they
        replace those of the batch. Unlike torch's, the running variance is the biased one.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-6,
        gain: bool = False,
        reference_rows: int = 0,
        running_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.eps, self.reference_rows, self.running_decay = eps, reference_rows, running_decay
        self.gamma = nn.Parameter(torch.ones(num_features)) if gain else None
        self.beta = nn.Parameter(torch.zeros(num_features))
        if running_decay:
            self.register_buffer("running_mean", torch.zeros(num_features))
            self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each feature of [B, F] or [B, F, H, W] over the other axes; half precision in float32."""
        dtype = x.dtype
        x = x.float() if dtype in (torch.float16, torch.bfloat16) else x
        if self.running_decay and not self.training:
            mean, variance = _per_feature(self.running_mean, x), _per_feature(self.running_var, x)
        else:
            axes = [0, *range(2, x.dim())]
            rows = x[: self.reference_rows] if self.reference_rows and not self.training else x
            mean = joined_mean(rows.mean(dim=axes, keepdim=True))
            variance = joined_mean((rows - mean).square().mean(dim=axes, keepdim=True))
            if self.running_decay:
                self._update_running(mean, variance)
        y = (x - mean) * torch.rsqrt(variance + self.eps)
        if self.gamma is not None:
            y = _per_feature(self.gamma, x) * y
        return (y + _per_feature(self.beta, x)).to(dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics in place, because they are views of a stack, or addresses of a CUDA graph."""
        decay = self.running_decay
        for running, current in ((self.running_mean, mean), (self.running_var, variance)):
            running.mul_(decay).add_(current.detach().flatten().to(running.dtype), alpha=1.0 - decay)


class VirtualBatchNorm(nn.Module):
    """Batch normalisation of each row by a fixed reference batch and the row itself (section 3.5).

    With per-row moments m_i, v_i (mean and variance over the pixels; v_i = 0 for dense layers),
    moments m_ref, v_ref of the reference batch of R rows and c = 1 / (R + 1)::

        mean_i = c * m_i + (1 - c) * m_ref
        var_i  = c * v_i + (1 - c) * v_ref + c * (1 - c) * (m_i - m_ref)^2
        y_i    = gamma * (x_i - mean_i) / sqrt(eps + var_i) + beta

    Reference rows are normalised by m_ref and v_ref only, and gradients flow through them. The layer
    holds no state: the caller sends the reference batch through the same layers, so a row's output
    does not depend on the other rows and a second call gives the same result. The moments are
    combined in this form because the mean of squares minus the square of the mean cancels in float32.

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
    """Append to each row its closeness to the other rows of its batch (section 3.2).

    ``M_i = f_i T`` with T in R^[A, B, C] (A = ``in_features``, B = ``num_kernels``, C = ``kernel_dim``)
    and ``o(x_i)_b = sum_{j != i} exp(-||M_i,b - M_j,b||_1) + bias_b``. As in the paper's code the
    self term is left out, the columns of T have unit length times exp(s), and s and the bias are set
    from the first batch by :meth:`init_from`.

    Real and generated batches go through separately. At evaluation, pass ``reference``: each row is
    then compared with those rows, so a prediction does not depend on the other rows of its batch.

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
        """Return T, shape [A, B, C]."""
        return self.theta * (self.log_scale.exp() * torch.rsqrt(self.theta.square().sum(dim=0)))

    def _distances(self, f: Tensor, reference: Tensor) -> Tensor:
        """Return the L1 distances [B, R, num_kernels] of the rows of ``f`` to those of ``reference``."""
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
            Rows to compare with instead of the batch itself.
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

        This needs two rows. A kernel in which no two rows differ keeps its scale.
        """
        diagonal = torch.eye(f.shape[0], dtype=torch.bool, device=f.device)[:, :, None]
        nearest = self._distances(f, f).masked_fill(diagonal, torch.inf).amin(dim=1).mean(dim=0)
        scale = torch.where((nearest > 0) & nearest.isfinite(), 0.5 * nearest, torch.ones_like(nearest))
        self.log_scale.sub_(scale.log()[:, None])
        self.bias.zero_()
        self.bias.copy_(-self.forward(f)[:, f.shape[1] :].mean(dim=0))
        return self.forward(f)


def _per_feature(values_F: Tensor, x: Tensor) -> Tensor:
    """Reshape values [F] to broadcast along axis 1 of ``x``."""
    return values_F.view(1, -1, *[1] * (x.dim() - 2))
