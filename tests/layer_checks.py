"""Random inputs and numeric gradients of layers."""

import torch
from torch import Tensor, nn
from torch.func import functional_call


def normal(*shape: int, mean: float = 0.0, std: float = 1.0) -> Tensor:
    return mean + std * torch.randn(*shape, dtype=torch.float64)


@torch.no_grad()
def randomized(layer: nn.Module) -> nn.Module:
    """The layer in float64 with random parameters and buffers, so that none is 0 or 1."""
    layer.double()
    for values in [*layer.parameters(), *layer.buffers()]:
        values.copy_(normal(*values.shape))
    return layer


def gradcheck_with_parameters(layer: nn.Module, *inputs: Tensor) -> bool:
    names = [name for name, _ in layer.named_parameters()]

    def function(*tensors: Tensor) -> Tensor:
        values = dict(zip(names, tensors[len(inputs) :], strict=True))
        return functional_call(layer, values, tensors[: len(inputs)])

    leaves = [tensor.detach().clone().requires_grad_() for tensor in [*inputs, *layer.parameters()]]
    return torch.autograd.gradcheck(function, leaves)
