"""Define layers with weight normalisation and data-dependent initialisation.

``W = v * g / ||v||``, the norm taken over each unit's inputs: those of an output feature, or of an
output channel. The published recipes freeze ``g`` after the initialisation and train it in the last
layer only: ``train_scale=False`` keeps ``g`` as a buffer. (``torch.nn.utils`` trains it everywhere.)

Shapes: B rows, F features, C channels, H and W pixels.

Source: Salimans & Kingma, *Weight Normalization*, 2016, section 3; Salimans et al., *Improved Techniques
for Training GANs*, 2016, and its published code.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "WeightNormConv2d",
    "WeightNormConvTranspose2d",
    "WeightNormLinear",
    "fold_weights",
    "init_from",
    "with_weights",
]


class WeightNormFunction(torch.autograd.Function):
    """``W = v * g / ||v||``, v [units, ...] and g [units], by torch's fused kernels; differentiable once.

    The kernels have no rule for ``vmap``; there one call computes the units of all seeds.
    """

    @staticmethod
    def forward(v: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Return W and ||v||, which the backward pass needs.

        Kernels of convolutions are made channels-last here, because torch does not infer this format from images of
        one channel. A kernel of one unit stays contiguous: torch cannot differentiate it otherwise.
        """
        W, norms = torch._weight_norm_interface(v, _column(g, v), 0)
        return W.contiguous(memory_format=torch.channels_last) if v.dim() == 4 and len(v) > 1 else W, norms

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        """Save the tensors that the backward pass needs."""
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    def backward(ctx: Any, dW: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of v and g."""
        v, g, norms = ctx.saved_tensors
        dv, dg = torch.ops.aten._weight_norm_interface_backward(dW.contiguous(), v, _column(g, v), norms, 0)
        return dv, dg.view_as(g)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], v: Tensor, g: Tensor) -> tuple[Any, Any]:
        """Compute all seeds in one call."""
        v, g = (
            tensor.expand(info.batch_size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
            for tensor, axis in zip((v, g), in_dims, strict=True)
        )
        W, norms = WeightNormFunction.apply(v.flatten(0, 1), g.flatten())
        return (W.unflatten(0, v.shape[:2]), norms.unflatten(0, v.shape[:2])), (0, 0)


def _column(g: Tensor, v: Tensor) -> Tensor:
    """Reshape values [units] to broadcast along axis 0 of ``v``."""
    return g.view(-1, *[1] * (v.dim() - 1))


class _WeightNorm(nn.Module):
    """Base class of the layers: the parameters, and the initialisation from a batch.

    W is computed from v and g at every pass, unless :func:`with_weights` computed it before.

    Parameters
    ----------
    shape : tuple of int
        Shape of v.
    out_axis : int
        The axis of v that indexes the units.
    train_scale : bool
        Whether ``g`` is a parameter.
    std : float or None
        ``v`` starts as N(0, std); ``None`` is Glorot's uniform distribution.
    bias : bool
        Whether to add a bias; off if a normalisation follows that would remove it.
    init_std : float
        The standard deviation that :meth:`init_from` gives to every unit.
    """

    v: Tensor
    g: Tensor
    b: Tensor | None
    W: Tensor | None

    def __init__(
        self, shape: tuple[int, ...], out_axis: int, train_scale: bool, std: float | None, bias: bool, init_std: float
    ) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.empty(shape))
        if std is None:
            nn.init.xavier_uniform_(self.v)
        else:
            nn.init.normal_(self.v, std=std)
        units = shape[out_axis]
        g = torch.ones(units)
        if train_scale:
            self.g = nn.Parameter(g)
        else:
            self.register_buffer("g", g)
        self.b = nn.Parameter(torch.zeros(units)) if bias else None
        self.register_buffer("W", None, persistent=False)
        self.init_std, self.out_axis = init_std, out_axis

    def weight(self) -> Tensor:
        """Return W, in the shape of v."""
        return self.normalized(self.v, self.g) if self.W is None else self.W

    def normalized(self, v: Tensor, g: Tensor) -> Tensor:
        """Return W of this v and g."""
        if torch.compiler.is_compiling():  # the compiler fuses plain arithmetic, also under `vmap`
            units = v.movedim(self.out_axis, 0)
            norms = units.flatten(1).norm(dim=1)
            return (units * _column(g / norms, units)).movedim(0, self.out_axis)
        W: Tensor = WeightNormFunction.apply(v.movedim(self.out_axis, 0).contiguous(), g)[0]
        return W.movedim(0, self.out_axis)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, F] or [B, C, H, W] by W and b."""
        return self._map(x, self.b)

    def _map(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Apply W and a bias."""
        raise NotImplementedError

    def plain(self) -> nn.Module:
        """Return torch's plain layer with the same W and b."""
        layer = self._empty_plain()
        layer.register_parameter("weight", nn.Parameter(self.weight().detach().contiguous()))
        layer.register_parameter("bias", None if self.b is None else nn.Parameter(self.b.detach()))
        return layer

    def _empty_plain(self) -> nn.Module:
        """Return such a layer without values, on the meta device."""
        raise NotImplementedError

    @torch.no_grad()
    def init_from(self, x: Tensor) -> Tensor:
        """Set g and b so that every unit has mean 0 and standard deviation ``init_std`` on ``x``; return the output.

        Both are taken over rows and pixels. A unit that does not vary on ``x`` keeps its scale.
        """
        activation = self._map(x, None)
        axes = [0, *range(2, activation.dim())]
        mean, std = activation.mean(dim=axes), activation.std(dim=axes, correction=0)
        # A standard deviation below the rounding error of an activation counts as 0.
        fan_in = self.v.numel() // self.v.shape[self.out_axis]
        rounding = 8 * torch.finfo(x.dtype).eps * self.g.abs() * (fan_in * x.square().mean()).sqrt()
        scale = torch.where(std > rounding, self.init_std / std, torch.ones_like(std))
        self.g.mul_(scale)
        if self.b is not None:
            self.b.copy_(-mean * scale)
        return self.forward(x)


class WeightNormLinear(_WeightNorm):
    """``y = x W^T + b``, v of shape [out_features, in_features].

    Parameters
    ----------
    in_features, out_features : int
    train_scale, std, bias, init_std
        As in the base class.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        train_scale: bool = False,
        std: float | None = 0.1,
        bias: bool = True,
        init_std: float = 1.0,
    ) -> None:
        super().__init__((out_features, in_features), 0, train_scale, std, bias, init_std)

    def _map(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, self.weight(), bias)

    def _empty_plain(self) -> nn.Module:
        outputs, inputs = self.v.shape
        return nn.Linear(inputs, outputs, device="meta")


class WeightNormConv2d(_WeightNorm):
    """A convolution, v of shape [out_channels, in_channels, kernel_size, kernel_size].

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding : int
    train_scale, std, bias, init_std
        As in the base class.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        train_scale: bool = False,
        std: float | None = 0.05,
        bias: bool = True,
        init_std: float = 1.0,
    ) -> None:
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        super().__init__(shape, 0, train_scale, std, bias, init_std)
        self.stride, self.padding = stride, padding

    def _map(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, self.weight(), bias, self.stride, self.padding)

    def _empty_plain(self) -> nn.Module:
        outputs, inputs, *kernel = self.v.shape
        return nn.Conv2d(inputs, outputs, kernel, self.stride, self.padding, device="meta")  # type: ignore[arg-type]


class WeightNormConvTranspose2d(_WeightNorm):
    """A transposed convolution of stride 2 that doubles height and width.

    v has shape [in_channels, out_channels, kernel_size, kernel_size]; the norm is over each output
    channel's inputs.

    Parameters
    ----------
    in_channels, out_channels, kernel_size : int
    train_scale, std, bias, init_std
        As in the base class.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        train_scale: bool = False,
        std: float | None = 0.05,
        bias: bool = True,
        init_std: float = 1.0,
    ) -> None:
        shape = (in_channels, out_channels, kernel_size, kernel_size)
        super().__init__(shape, 1, train_scale, std, bias, init_std)

    def _map(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv_transpose2d(x, self.weight(), bias, *doubling(self.v.shape[-1]))

    def _empty_plain(self) -> nn.Module:
        inputs, outputs, *kernel = self.v.shape
        return nn.ConvTranspose2d(inputs, outputs, kernel, *doubling(kernel[0]), device="meta")  # type: ignore[arg-type]


def with_weights(network: nn.Module, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the values of a network with every W, so that several passes compute it only once."""
    layers = ((name, layer) for name, layer in network.named_modules() if isinstance(layer, _WeightNorm))
    weights = {f"{name}.W": layer.normalized(values[f"{name}.v"], values[f"{name}.g"]) for name, layer in layers}
    return {**values, **weights}


def fold_weights(network: nn.Module) -> nn.Module:
    """Replace the layers of a network, in place, by torch's plain ones that compute the same; return the network."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, _WeightNorm):
            network.set_submodule(name, layer.plain())
    return network


def doubling(kernel_size: int) -> tuple[int, int, int]:
    """Return stride, padding and output padding of a transposed convolution that doubles height and width exactly."""
    return 2, (kernel_size - 1) // 2, kernel_size % 2


def init_from(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Run ``x`` through ``layers``, initialise each one that has ``init_from``, and return the output."""
    for layer in layers:
        x = getattr(layer, "init_from", layer)(x)
    return x
