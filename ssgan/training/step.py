"""Take one step: every phase once, with some of the models of a stack.

A :class:`Part` is one model, or all of them lifted by ``vmap``; its parameters, average and history are views of the
stack's. Parts share nothing, so each CPU thread can take one. :class:`CapturedPart` records the step as a CUDA graph.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from ssgan import distributed
from ssgan.nn import noise
from ssgan.nn.stack import Net, Stack, State
from ssgan.settings.config import Config
from ssgan.training.methods import Batch, Nets, Phase
from ssgan.training.optimizers import build_optimizer

__all__ = ["CapturedPart", "Part"]


class Part:
    """Take the steps of some models of a stack.

    Parameters
    ----------
    config : Config
    phases : sequence of Phase
    stacks : dict of str to Stack
    average : dict of str to Tensor [S, ...]
        Running mean of D's parameters, not debiased.
    history : dict of str to dict of str to Tensor [S, ...]
        Mean of each network's parameters over all steps, for historical averaging.
    seed : int or None
        Index of the model in the stack; None for all.
    generator : Generator, optional
        Source of noise; by default torch's global generator, which compiled losses need.
    compiled : bool
        Whether the losses are compiled by torch, which takes a while in the first step.

    Attributes
    ----------
    sums : dict of str to Tensor
        Sums of the logged values over the steps: scalars, or one number for each model.
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
        # A module holds the parameters of a call while it lasts, so threads must not share it.
        self.modules = {name: copy.deepcopy(stack.training) for name, stack in stacks.items()}
        self.frozen: dict[str, State] = {name: stack.state(seed) for name, stack in stacks.items()}
        for name, values in history.items():
            self.frozen[name]["history"] = self._select(values)
        self.trained: dict[str, State] = {
            name: {**state, "parameters": {k: v.detach().requires_grad_() for k, v in state["parameters"].items()}}
            for name, state in self.frozen.items()
        }
        self.optimizers = {
            name: build_optimizer(config, name, state["parameters"], stacked=seed is None)
            for name, state in self.trained.items()
        }
        self.average = list(self._select(average).values())
        self.losses = [self._seed_loss(phase) for phase in phases]
        self.sums: dict[str, Tensor] = {}

    def step(self, batches: Sequence[Batch], numbers: Mapping[str, float | Tensor]) -> None:
        """Run every phase on ``repeat`` batches from its ``first`` one on, and update the averages.

        ``numbers`` change from step to step: ``rate_D`` and ``rate_G``, the learning rates; ``history_share``, the
        weight of this step in the history; ``average_mass``, the weight of the steps so far in the average; ``ramp``,
        the factor of the weights of the ramped terms.
        """
        batches = (
            batches if self.seed is None else [Batch(*(tensor[self.seed] for tensor in batch)) for batch in batches]
        )
        teacher = self._teacher(numbers["average_mass"])
        values: dict[str, list[Tensor]] = {}
        rows = self.config.batch_size // distributed.count()
        with noise.use_generator(self.generator), distributed.shares_of_batches(rows):
            for phase, loss in zip(self.phases, self.losses, strict=True):
                optimizer = self.optimizers[phase.net]
                states = {**self.frozen, phase.net: self.trained[phase.net], **(teacher if phase.net == "D" else {})}
                for batch in batches[phase.first : phase.first + phase.repeat]:
                    value, logs = loss(states, batch, numbers["ramp"])
                    gradients = distributed.average(torch.autograd.grad(value.sum(), optimizer.parameters))
                    optimizer.step(gradients, numbers[f"rate_{phase.net}"])
                    for name, logged in logs.items():
                        values.setdefault(name, []).append(logged)
        self._log(values)
        self._update_averages(numbers["history_share"])

    def _select(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value if self.seed is None else value[self.seed] for name, value in values.items()}

    @torch.no_grad()
    def _teacher(self, mass: float | Tensor) -> dict[str, State]:
        """Return D with its averaged parameters, if a term needs it; D itself before there is an average."""
        if not self.config.has_teacher:
            return {}
        now = self.frozen["D"]["parameters"]
        mass = torch.as_tensor(mass, dtype=self.average[0].dtype, device=self.average[0].device)
        averaged = {
            name: torch.where(mass > 0, mean / mass, value)
            for mean, (name, value) in zip(self.average, now.items(), strict=True)
        }
        return {"teacher": {"parameters": averaged, "buffers": self.frozen["D"]["buffers"]}}

    def _seed_loss(self, phase: Phase) -> Callable[[dict[str, State], Batch, float | Tensor], Any]:
        rounded = self.config.precision == "bfloat16"
        modules = {**self.modules, "teacher": self.modules["D"]}

        def loss(states: dict[str, State], batch: Batch, ramp: float | Tensor = 1.0) -> Any:
            nets = {name: Net(modules[name], state, rounded) for name, state in states.items()}
            return phase.loss(Nets(nets["D"], nets.get("G"), nets.get("teacher")), batch, self.config, ramp)

        lifted = vmap(loss, in_dims=(0, 0, None), randomness="different") if self.seed is None else loss
        return torch.compile(lifted, dynamic=False) if self.compiled else lifted

    def _log(self, values: dict[str, list[Tensor]]) -> None:
        """Add the mean of each logged value over the batches of this step that have it."""
        for name, of_batches in values.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros_like(of_batches[0])
            for value in of_batches:
                self.sums[name].add_(value, alpha=1.0 / len(of_batches))

    @torch.no_grad()
    def _update_averages(self, history_share: float | Tensor) -> None:
        torch._foreach_lerp_(self.average, list(self.frozen["D"]["parameters"].values()), 1.0 - self.config.ema_decay)
        for state in self.frozen.values():
            for name, mean in state.get("history", {}).items():
                mean.add_((state["parameters"][name] - mean) * history_share)


# Eager steps before the recording, which allocate every buffer; on a side stream, as CUDA graphs require.
EAGER_STEPS = 3

# Records a function without executing it, and returns a function that replays it.
Recorder = Callable[[Callable[[], None]], Callable[[], None]]


class CapturedPart:
    """Record the step of a part as a CUDA graph, and replay it on batches copied into fixed tensors.

    Nothing may change from step to step in Python: the counter of the optimiser is on the device, and noise comes from
    torch's generator, which CUDA advances at every replay.

    Parameters
    ----------
    part : Part
    device : torch.device
    record : callable, optional
        By default with ``torch.cuda.graph``.

    Attributes
    ----------
    refusal : str or None
        Why the step could not be recorded and is run eagerly.
    """

    def __init__(self, part: Part, device: torch.device, record: Recorder | None = None) -> None:
        self.part, self.device, self.record = part, device, record or partial(_cuda_graph, device)
        self.steps_taken = 0
        self.refusal: str | None = None
        self._replay: Callable[[], None] | None = None
        self._batches: list[Batch] = []
        self._numbers: dict[str, Tensor] = {}
        self._side: torch.cuda.Stream | None = None

    def step(self, batches: Sequence[Batch], numbers: Mapping[str, float]) -> None:
        """Take a step, as :meth:`Part.step` does."""
        if self.refusal is not None:
            self.part.step(batches, numbers)
            return
        self._copy_inputs(batches, numbers)
        self.steps_taken += 1
        if self.steps_taken <= EAGER_STEPS:
            self._run_on_side_stream()
            return
        if self._replay is None:
            try:
                self._replay = self.record(self._run)
            except RuntimeError as failure:
                self.refusal = _reason(failure)
        (self._replay or self._run)()

    def _copy_inputs(self, batches: Sequence[Batch], numbers: Mapping[str, float]) -> None:
        if not self._batches:
            self._batches = [Batch(*(tensor.clone() for tensor in batch)) for batch in batches]
            self._numbers = {name: torch.zeros((), device=self.device) for name in numbers}
        for fixed, batch in zip(self._batches, batches, strict=True):
            for destination, tensor in zip(fixed, batch, strict=True):
                destination.copy_(tensor, non_blocking=True)
        for name, number in numbers.items():
            self._numbers[name].fill_(number)

    def _run(self) -> None:
        self.part.step(self._batches, self._numbers)

    def _run_on_side_stream(self) -> None:
        if self.device.type != "cuda":
            self._run()
            return
        self._side = self._side or torch.cuda.Stream(self.device)
        current = torch.cuda.current_stream(self.device)
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            self._run()
        current.wait_stream(self._side)


def _cuda_graph(device: torch.device, function: Callable[[], None]) -> Callable[[], None]:
    """Record a function on a device; if that fails, its generator continues as if nothing had been recorded."""
    with torch.cuda.device(device):
        torch.cuda.synchronize()
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        clean, graph = generator.clone_state(), torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=torch.cuda.Stream(device)):
                function()
        except RuntimeError:
            generator.graphsafe_set_state(clean)
            raise

    def replay() -> None:
        with torch.cuda.device(device):
            graph.replay()

    return replay


def _reason(failure: BaseException) -> str:
    """Return the first line of the first error: leaving a broken recording raises another one."""
    while failure.__context__ is not None:
        failure = failure.__context__
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0]
