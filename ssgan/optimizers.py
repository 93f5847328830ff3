"""Adam with its epsilon where the paper's code has it, and gradient descent by Nesterov, by torch's fused kernels.

Everything is elementwise, so a parameter with a leading seed axis is as good as separate ones, and a NaN in one
seed stays there. The parameters are updated in place.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["SGD", "Adam"]


class Adam:
    """Adam, with epsilon inside or outside the square root.

    Inside, ``m / sqrt(v + epsilon)``, is the form of the paper's published code: with epsilon = 1e-8 a
    gradient much smaller than 1e-4 takes a proportionally smaller step, so D slows down as it wins.
    Outside, ``m / (sqrt(v) + epsilon)``, is the form of torch and of Kingma & Ba, *Adam*, 2015.

    The kernel has epsilon outside. The form inside is the same with ``g^2 + epsilon`` in the place of ``g^2``:
    the running mean of that, debiased, is ``v + epsilon``. So it is the mean that ``second`` holds.

    Parameters
    ----------
    parameters : sequence of Tensor
        Contiguous.
    betas : (float, float)
        Decay rates of the two moments, each debiased.
    epsilon : float
    inside_root : bool
        The second decay rate must then not be 0.
    """

    def __init__(
        self, parameters: Sequence[Tensor], betas: tuple[float, float], epsilon: float, inside_root: bool
    ) -> None:
        self.parameters = list(parameters)
        self.betas, self.epsilon, self.inside_root = betas, epsilon, inside_root
        if not all(p.is_contiguous() for p in self.parameters):
            raise ValueError("the parameters must be contiguous")
        # On the device, so that a captured step counts too.
        self.steps = torch.zeros((), device=self.parameters[0].device)
        self.first = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.second = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]

    def state(self) -> dict[str, Any]:
        """The moments and the number of steps."""
        return {"steps": int(self.steps), "first": self.first, "second": self.second}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved :meth:`state` of the same parameters; ValueError where it is of others."""
        self.steps.fill_(state["steps"])
        _take_over(self.first, state["first"])
        _take_over(self.second, state["second"])

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], learning_rate: float | Tensor) -> None:
        """Take one step; ``gradients`` are in the order of the parameters, the rate is on their device."""
        beta1, beta2 = self.betas
        self.steps.add_(1)
        if self.inside_root:
            torch._foreach_add_(self.second, self.epsilon * (1.0 - beta2) / beta2)
        torch._fused_adam_(
            self.parameters,
            [gradient.contiguous() for gradient in gradients],  # the kernel takes every tensor as it lies in memory
            self.first,
            self.second,
            [],
            [self.steps] * len(self.parameters),
            lr=learning_rate,
            beta1=beta1,
            beta2=beta2,
            weight_decay=0.0,
            eps=0.0 if self.inside_root else self.epsilon,
            amsgrad=False,
            maximize=False,
        )


class SGD:
    """Gradient descent with Nesterov's momentum, as ``torch.optim.SGD(nesterov=True)`` computes it.

    With momentum ``m``: ``v <- m v + g``, then ``p <- p - rate (g + m v)``; without, ``p <- p - rate g``.

    Source: Sutskever et al., *On the importance of initialization and momentum in deep learning*, 2013, section 2, in
    torch's form, where the rate does not enter the velocity.

    Parameters
    ----------
    parameters : sequence of Tensor
        Contiguous.
    momentum : float
    """

    def __init__(self, parameters: Sequence[Tensor], momentum: float) -> None:
        self.parameters, self.momentum = list(parameters), momentum
        if not all(p.is_contiguous() for p in self.parameters):
            raise ValueError("the parameters must be contiguous")
        self.velocity = [torch.zeros_like(p, requires_grad=False) for p in self.parameters] if momentum else []

    def state(self) -> dict[str, Any]:
        """The velocities."""
        return {"velocity": self.velocity}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved :meth:`state` of the same parameters; ValueError where it is of others."""
        _take_over(self.velocity, state["velocity"])

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], learning_rate: float | Tensor) -> None:
        """Take one step; ``gradients`` are in the order of the parameters, the rate is on their device."""
        torch._fused_sgd_(
            self.parameters,
            [gradient.contiguous() for gradient in gradients],  # the kernel takes every tensor as it lies in memory
            self.velocity,
            weight_decay=0.0,
            momentum=self.momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=self.momentum > 0,
            maximize=False,
            is_first_step=False,  # a velocity of 0 before it comes to the same
        )


def _take_over(ours: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    for tensor, value in zip(ours, saved, strict=True):
        if tensor.shape != value.shape:
            raise ValueError(f"a moment has shape {list(value.shape)}, but its parameter {list(tensor.shape)}")
        tensor.copy_(value)
