"""The seed axis: S copies of a network as one dictionary of tensors [S, ...], whole or seed by seed."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.utils._pytree import tree_map

from ssgan.errors import UserError
from ssgan.nn.weight_norm import with_weights

__all__ = ["Net", "Stack", "State", "choose_strategy"]


# Parameters, buffers and, where it is kept, history of a network, by name.
State = dict[str, dict[str, Tensor]]

# The widest layer of the paper's convolutional network takes 200 MB for so many images of 32x32.
EVALUATION_ROWS = 500


class Net:
    """One seed's network as a method sees it: call it like the module. Its weights are worked out once.

    Parameters
    ----------
    module : Module
    state : State
    rounded : bool
        Whether what it computes is rounded to bfloat16, by torch's autocast; the losses then go on in the type of x.
    """

    def __init__(self, module: nn.Module, state: State, rounded: bool = False) -> None:
        self.module, self.parameters, self.rounded = module, state["parameters"], rounded
        self.history = state.get("history", {})
        self.values = with_weights(module, {**self.parameters, **state["buffers"]})
        self.couples_rows: bool = module.couples_rows  # type: ignore[assignment]

    def __call__(self, x: Tensor) -> Any:
        """What the module returns for one batch."""
        return self._pass(x)

    def features(self, x: Tensor) -> Tensor:
        """The features of one batch [B, F], without the way to the logits."""
        features: Tensor = self._pass(x, features_alone=True)
        return features

    def _pass(self, x: Tensor, **options: bool) -> Any:
        if not self.rounded:
            return functional_call(self.module, self.values, (x,), options)
        # Without its cache of rounded weights, which would outlive the step that they are of.
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            outputs = functional_call(self.module, self.values, (x,), options)
        return tree_map(lambda output: output.to(x.dtype), outputs)


class Stack:
    """S networks of one architecture.

    Attributes
    ----------
    parameters, buffers : dict of str to Tensor [S, ...]
    training, evaluation : Module
        The architecture without values, in either mode; the mode of neither is ever switched.
    """

    def __init__(self, modules: Sequence[nn.Module], device: torch.device | str = "cpu") -> None:
        parameters, buffers = stack_module_state(list(modules))
        self.parameters = {k: v.detach().to(device) for k, v in parameters.items()}
        self.buffers = {k: v.detach().to(device) for k, v in buffers.items()}
        self.training = copy.deepcopy(modules[0]).to("meta").train()
        self.evaluation = copy.deepcopy(self.training).eval()

    @property
    def seeds(self) -> int:
        """S."""
        return len(next(iter(self.parameters.values())))

    def state(self, seed: int | None = None) -> State:
        """Parameters, detached, and buffers of all seeds [S, ...] or of one: views of the stack's own."""
        every = {"parameters": self.parameters, "buffers": self.buffers}
        return {
            kind: {name: (value if seed is None else value[seed]).detach() for name, value in values.items()}
            for kind, values in every.items()
        }

    def fill(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> None:
        """Take over saved values [S, ...].

        Raises
        ------
        UserError
            Where a name or a shape is not this stack's.
        """
        for kind, ours, saved in (("parameters", self.parameters, parameters), ("buffers", self.buffers, buffers)):
            wanted = {k: tuple(v.shape) for k, v in ours.items()}
            found = {k: tuple(v.shape) for k, v in saved.items()}
            if wanted != found:
                odd = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
                raise UserError(f"The checkpoint's {kind} do not fit its network: {', '.join(odd)}.")
            for name, value in saved.items():
                ours[name].data.copy_(value)

    def only(self, places: Sequence[int]) -> "Stack":
        """The networks at these places of the seed axis."""
        chosen = copy.copy(self)
        for kind in ("parameters", "buffers"):
            values = {name: value[list(places)] for name, value in getattr(self, kind).items()}
            setattr(chosen, kind, values)
        return chosen

    def with_evaluation(self, network: nn.Module) -> "Stack":
        """The same values in another form of the architecture, without values of its own, for evaluation."""
        other = copy.copy(self)
        other.evaluation = network
        return other

    @torch.no_grad()
    def evaluate(
        self,
        x: Tensor,
        parameters: dict[str, Tensor] | None = None,
        rows: int = EVALUATION_ROWS,
        pick: Callable[[Any], Any] = lambda outputs: outputs,
    ) -> Any:
        """Outputs of every seed in evaluation mode for the same rows: each output leads with [S, B].

        ``parameters`` [S, ...] stand in for the stack's own, such as their average. The rows go through
        in batches of ``rows``; of the network's outputs for each, only what ``pick`` takes is kept.
        """
        parameters = self.parameters if parameters is None else parameters
        outputs = []
        for seed in range(self.seeds):
            values = {k: v[seed] for k, v in {**parameters, **self.buffers}.items()}
            parts = [pick(functional_call(self.evaluation, values, (part,))) for part in x.split(rows)]
            outputs.append(tree_map(lambda *tensors: torch.cat(tensors), *parts))
        return tree_map(lambda *tensors: torch.stack(tensors), *outputs)


def choose_strategy(seeds: int, device_type: str) -> str:
    """The faster way to train so many seeds.

    On a CPU every seed fits its caches better alone, and the threads take one seed each; `scripts/benchmarks/speed.py`
    times both. On a GPU one kernel for all seeds keeps it busy where theirs are small.
    """
    if seeds == 1:
        return "direct"
    return "loop" if device_type == "cpu" else "vmap"
