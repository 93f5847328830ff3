"""Optimisers of G and D: Adam, Nesterov's gradient descent, and Muon.

They update parameters in place. A leading seed axis changes nothing, and a NaN of one model stays in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ssgan.settings.config import Config

__all__ = ["SGD", "Adam", "Muon", "build_optimizer", "orthogonalize"]


class Adam:
    """Adam, with epsilon inside or outside the square root.

    Inside, ``m / sqrt(v + epsilon)``, is the form of the paper's published code: with epsilon = 1e-8 a
    gradient much smaller than 1e-4 takes a proportionally smaller step, so D slows down as it wins.
    Outside, ``m / (sqrt(v) + epsilon)``, is the form of torch and of Kingma & Ba, *Adam*, 2015.

    The kernel of torch has epsilon outside. For the form inside, it gets epsilon 0 and ``second`` holds the running
    mean of ``g^2 + epsilon``, which debiased is ``v + epsilon``.

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
        """Return the moments and the number of steps."""
        return {"steps": int(self.steps), **self.tensors}

    @property
    def tensors(self) -> dict[str, list[Tensor]]:
        """Both moments of each parameter."""
        return {"first": self.first, "second": self.second}

    def restore(self, state: dict[str, Any]) -> None:
        """Load a :meth:`state` of the same parameters; ValueError if it is of others."""
        self.steps.fill_(state["steps"])
        _copy_into(self.first, state["first"])
        _copy_into(self.second, state["second"])

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], learning_rate: float | Tensor) -> None:
        """Take one step; ``gradients`` are in the order of the parameters, the rate is on their device."""
        self._step(range(len(self.parameters)), gradients, learning_rate)

    def _step(self, indices: Sequence[int], gradients: Sequence[Tensor], learning_rate: float | Tensor) -> None:
        """Update the parameters of these indices."""
        beta1, beta2 = self.betas
        self.steps.add_(1)
        if not indices:
            return
        second = [self.second[i] for i in indices]
        if self.inside_root:
            torch._foreach_add_(second, self.epsilon * (1.0 - beta2) / beta2)
        torch._fused_adam_(
            [self.parameters[i] for i in indices],
            [gradients[i].contiguous() for i in indices],  # the kernel ignores strides
            [self.first[i] for i in indices],
            second,
            [],
            [self.steps] * len(indices),
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
        """Return the velocities."""
        return {**self.tensors}

    @property
    def tensors(self) -> dict[str, list[Tensor]]:
        """The velocity of each parameter; without momentum there is none."""
        return {"velocity": self.velocity}

    def restore(self, state: dict[str, Any]) -> None:
        """Load a :meth:`state` of the same parameters; ValueError if it is of others."""
        _copy_into(self.velocity, state["velocity"])

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], learning_rate: float | Tensor) -> None:
        """Take one step; ``gradients`` are in the order of the parameters, the rate is on their device."""
        torch._fused_sgd_(
            self.parameters,
            [gradient.contiguous() for gradient in gradients],  # the kernel ignores strides
            self.velocity,
            weight_decay=0.0,
            momentum=self.momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=self.momentum > 0,
            maximize=False,
            is_first_step=False,  # not needed: the velocity starts at 0
        )


# Coefficients of the polynomial of one iteration. Five iterations bring singular values from 0.01 to 1 into the range
# from 0.68 to 1.14.
NEWTON_SCHULZ, ITERATIONS = (3.4445, -4.7750, 2.0315), 5


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return an approximation of the nearest semi-orthogonal matrix of each matrix [..., rows, columns].

    After five Newton-Schulz iterations the singular values that were at least 0.01 of the Frobenius norm lie between
    0.68 and 1.14. A zero matrix stays zero. The iterations multiply square matrices of the shorter side.

    Source: Jordan et al., *Muon: an optimizer for hidden layers in neural networks*, 2024.
    """
    a, b, c = NEWTON_SCHULZ
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    X = matrices.mT if is_tall else matrices
    X = X / torch.linalg.matrix_norm(X, keepdim=True).clamp_min(1e-20)
    # X becomes P X with P a polynomial of X X^T, and so X X^T becomes P X X^T P.
    A = X @ X.mT
    P = identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    for _ in range(ITERATIONS):
        M = a * identity + b * A + c * A @ A
        P, A = M @ P, M @ A @ M
    return (P @ X).mT if is_tall else P @ X


class Muon(Adam):
    """Muon for the directions of weight-normalised units, and Adam for all other parameters.

    The gradient of a layer's directions v [units, ...], with Nesterov's momentum, is made semi-orthogonal, so that all
    of its singular directions are learned equally fast. Then the units of a layer turn by about the learning rate on
    average, in radians, and keep the lengths of their v, which weight normalisation ignores. The learning rate is a
    multiple of Adam's and follows its schedule.

    Source: Jordan et al., *Muon: an optimizer for hidden layers in neural networks*, 2024. There the lengths change.

    Parameters
    ----------
    parameters, betas, epsilon, inside_root
        As :class:`Adam` takes them. The first moment of a direction is its velocity; the second stays 0.
    directions : sequence of bool
        Whether Muon updates the parameter.
    momentum : float
    lr_ratio : float
        The learning rate of Muon divided by that of Adam.
    stacked : bool
        Whether parameters have a leading seed axis.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        betas: tuple[float, float],
        epsilon: float,
        inside_root: bool,
        directions: Sequence[bool],
        momentum: float,
        lr_ratio: float,
        stacked: bool = False,
    ) -> None:
        super().__init__(parameters, betas, epsilon, inside_root)
        self.momentum, self.lr_ratio, self.unit_axis = momentum, lr_ratio, int(stacked)
        self.muon_indices = [i for i, is_direction in enumerate(directions) if is_direction]
        self.adam_indices = [i for i, is_direction in enumerate(directions) if not is_direction]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], learning_rate: float | Tensor) -> None:
        """Take one step; ``gradients`` are in the order of the parameters, the rate of Adam is on their device."""
        self._step(self.adam_indices, gradients, learning_rate)
        for i in self.muon_indices:
            v, velocity = (tensor[i].flatten(self.unit_axis + 1) for tensor in (self.parameters, self.first))
            gradient = gradients[i].flatten(self.unit_axis + 1)
            velocity.mul_(self.momentum).add_(gradient)
            update = orthogonalize(gradient + self.momentum * velocity)
            length = torch.linalg.vector_norm(update, dim=-1, keepdim=True).mean(dim=-2, keepdim=True)
            lengths = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
            rotated = v / lengths - self.lr_ratio * learning_rate * update / length.clamp_min(1e-20)
            v.copy_(rotated * (lengths / torch.linalg.vector_norm(rotated, dim=-1, keepdim=True)))


def _copy_into(tensors: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, saved, strict=True):
        if tensor.shape != value.shape:
            raise ValueError(f"a moment has shape {list(value.shape)}, but its parameter {list(tensor.shape)}")
        tensor.copy_(value)


def build_optimizer(config: Config, net: str, parameters: Mapping[str, Tensor], stacked: bool) -> Adam | SGD:
    """Create the optimiser of a network from its parameters by name, [S, ...] if ``stacked``."""
    name, tensors = getattr(config, f"optimizer_{net.lower()}"), [*parameters.values()]
    if name == "sgd":
        return SGD(tensors, getattr(config, f"momentum_{net.lower()}"))
    adam = tensors, (config.adam_beta1, config.adam_beta2), config.adam_epsilon, config.adam_epsilon_inside_root
    if name == "adam":
        return Adam(*adam)
    # The output layer keeps Adam.
    directions = [key.endswith(".v") and not key.startswith("output.") for key in parameters]
    return Muon(*adam, directions, config.momentum_d, config.learning_rate_muon / config.learning_rate_d, stacked)
