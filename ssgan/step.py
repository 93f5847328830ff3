"""The step: every phase once, for some of a stack's seeds.

A :class:`Part` is one seed, or all of them lifted by ``vmap``; its parameters, average and history are views of
the stack's. Parts do not meet, so a CPU's threads take one each.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from ssgan.methods import Batch, Nets, Phase
from ssgan.nn import noise
from ssgan.nn.stack import Net, Stack, State
from ssgan.optimizers import SGD, Adam
from ssgan.settings.config import Config

__all__ = ["Part"]


class Part:
    """Some seeds of a stack, and the step that moves them.

    Parameters
    ----------
    config : Config
    phases : sequence of Phase
    stacks : dict of str to Stack
    average : dict of str to Tensor [S, ...]
        The running mean of D's parameters, not debiased.
    history : dict of str to dict of str to Tensor [S, ...]
        The mean of each network's parameters over all steps, where it is kept.
    seed : int or None
        Which of the stack; None for all.
    generator : Generator, optional
        What its noise is drawn from; otherwise torch's own, as a compiled loss needs it.
    compiled : bool
        Whether the losses are compiled by torch, which takes a while at the first step.

    Attributes
    ----------
    sums : dict of str to Tensor
        What was logged, added up over the steps; a scalar, or one number for each seed.
    """

    def __init__(
        self,
        config: Config,
        phases: Sequence[Phase],
        stacks: dict[str, Stack],
        average: dict[str, Tensor],
        history: dict[str, dict[str, Tensor]],
        seed: int | None = None,
        generator: torch.Generator | None = None,
        compiled: bool = False,
    ) -> None:
        self.config, self.phases, self.seed, self.generator = config, phases, seed, generator
        self.compiled = compiled
        # A copy of its own: a module holds the values of a call while it lasts, so two threads must not share one.
        self.modules = {name: copy.deepcopy(stack.training) for name, stack in stacks.items()}
        self.frozen: dict[str, State] = {name: stack.state(seed) for name, stack in stacks.items()}
        for name, values in history.items():
            self.frozen[name]["history"] = self._own(values)
        self.trained: dict[str, State] = {
            name: {**state, "parameters": {k: v.detach().requires_grad_() for k, v in state["parameters"].items()}}
            for name, state in self.frozen.items()
        }
        self.optimizers = {
            name: _optimizer(config, name, list(state["parameters"].values())) for name, state in self.trained.items()
        }
        self.average = list(self._own(average).values())
        self.losses = [self._lifted(phase) for phase in phases]
        self.sums: dict[str, Tensor] = {}

    def step(self, batches: Sequence[Batch], numbers: Mapping[str, float | Tensor]) -> None:
        """Run every phase once, each on as many of the batches as it repeats, and update the averages.

        ``numbers`` are what changes from step to step: ``rate_D`` and ``rate_G``, the step sizes of the networks;
        ``history_share``, what this step counts in the history; ``average_mass``, how much of the average the steps
        so far make up; ``ramp``, the share of their weights that the terms on unlabelled images have by now.
        """
        own = batches if self.seed is None else [Batch(*(tensor[self.seed] for tensor in batch)) for batch in batches]
        teacher = self._teacher(numbers["average_mass"])
        with noise.drawing(self.generator):
            for phase, loss in zip(self.phases, self.losses, strict=True):
                optimizer = self.optimizers[phase.net]
                states = {**self.frozen, phase.net: self.trained[phase.net], **(teacher if phase.net == "D" else {})}
                for batch in own[: phase.repeat]:
                    value, logs = loss(states, batch, numbers["ramp"])
                    optimizer.step(torch.autograd.grad(value.sum(), optimizer.parameters), numbers[f"rate_{phase.net}"])
                    self._log(logs, phase.repeat)
        self._update_averages(numbers["history_share"])

    def _own(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value if self.seed is None else value[self.seed] for name, value in values.items()}

    @torch.no_grad()
    def _teacher(self, mass: float | Tensor) -> dict[str, State]:
        """D with its averaged parameters, where a term asks for it; before there is an average, D itself."""
        if not self.config.has_teacher:
            return {}
        now = self.frozen["D"]["parameters"]
        mass = torch.as_tensor(mass, dtype=self.average[0].dtype, device=self.average[0].device)
        averaged = {
            name: torch.where(mass > 0, mean / mass, value)
            for mean, (name, value) in zip(self.average, now.items(), strict=True)
        }
        return {"teacher": {"parameters": averaged, "buffers": self.frozen["D"]["buffers"]}}

    def _lifted(self, phase: Phase) -> Callable[[dict[str, State], Batch, float | Tensor], Any]:
        rounded = self.config.precision == "bfloat16"
        modules = {**self.modules, "teacher": self.modules["D"]}

        def loss(states: dict[str, State], batch: Batch, ramp: float | Tensor = 1.0) -> Any:
            nets = {name: Net(modules[name], state, rounded) for name, state in states.items()}
            return phase.loss(Nets(nets["D"], nets.get("G"), nets.get("teacher")), batch, self.config, ramp)

        lifted = vmap(loss, in_dims=(0, 0, None), randomness="different") if self.seed is None else loss
        return torch.compile(lifted, dynamic=False) if self.compiled else lifted

    def _log(self, logs: dict[str, Tensor], repeat: int) -> None:
        for name, value in logs.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros_like(value)
            self.sums[name].add_(value, alpha=1.0 / repeat)

    @torch.no_grad()
    def _update_averages(self, history_share: float | Tensor) -> None:
        torch._foreach_lerp_(self.average, list(self.frozen["D"]["parameters"].values()), 1.0 - self.config.ema_decay)
        for state in self.frozen.values():
            for name, mean in state.get("history", {}).items():
                mean.add_((state["parameters"][name] - mean) * history_share)


def _optimizer(config: Config, net: str, parameters: list[Tensor]) -> Adam | SGD:
    """What moves a network, as the settings of its own ask."""
    if getattr(config, f"optimizer_{net.lower()}") == "sgd":
        return SGD(parameters, getattr(config, f"momentum_{net.lower()}"))
    betas = (config.adam_beta1, config.adam_beta2)
    return Adam(parameters, betas, config.adam_epsilon, config.adam_epsilon_inside_root)
