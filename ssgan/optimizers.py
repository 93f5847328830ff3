"""Adam with its epsilon where the paper's code has it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Adam"]


class Adam:
    """Adam, with epsilon inside or outside the square root.

    Inside, ``m / sqrt(v + epsilon)``, is the form of the paper's published code: with epsilon = 1e-8 a
    gradient much smaller than 1e-4 takes a proportionally smaller step, so D slows down as it wins.
    Outside, ``m / (sqrt(v) + epsilon)``, is the form of torch and of Kingma & Ba, *Adam*, 2015.

    Everything is elementwise, so a parameter with a leading seed axis is as good as separate ones, and
    a NaN in one seed stays there. The parameters are updated in place.

    Parameters
    ----------
    parameters : sequence of Tensor
    betas : (float, float)
        Decay rates of the two moments, each debiased.
    epsilon : float
    inside_root : bool
    """

    def __init__(
        self, parameters: Sequence[Tensor], betas: tuple[float, float], epsilon: float, inside_root: bool
    ) -> None:
        self.parameters = list(parameters)
        self.betas, self.epsilon, self.inside_root = betas, epsilon, inside_root
        self.steps = 0
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]

    def state(self) -> dict[str, Any]:
        """The moments and the number of steps."""
        return {"steps": self.steps, "first": self.first, "second": self.second}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved :meth:`state` of the same parameters; ValueError where it is of others."""
        self.steps = state["steps"]
        for ours, saved in ((self.first, state["first"]), (self.second, state["second"])):
            for tensor, value in zip(ours, saved, strict=True):
                if tensor.shape != value.shape:
                    raise ValueError(f"a moment has shape {list(value.shape)}, but its parameter {list(tensor.shape)}")
                tensor.copy_(value)

    @torch.no_grad()
    def step(self, gradients: list[Tensor] | tuple[Tensor, ...], learning_rate: float) -> None:
        """Take one step; ``gradients`` are in the order of the parameters."""
        self.steps += 1
        beta1, beta2 = self.betas
        torch._foreach_lerp_(self.first, gradients, 1.0 - beta1)
        torch._foreach_mul_(self.second, beta2)
        torch._foreach_addcmul_(self.second, gradients, gradients, 1.0 - beta2)
        # Both debiasing factors are moved out of the root: sqrt(v / c + e) = sqrt(v + e * c) / sqrt(c).
        correction1, correction2 = 1.0 - beta1**self.steps, 1.0 - beta2**self.steps
        if self.inside_root:
            root = torch._foreach_add(self.second, self.epsilon * correction2)
            torch._foreach_sqrt_(root)
        else:
            root = torch._foreach_sqrt(self.second)
            torch._foreach_add_(root, self.epsilon * correction2**0.5)
        step_size = learning_rate * correction2**0.5 / correction1
        torch._foreach_addcdiv_(self.parameters, self.first, root, -step_size)
