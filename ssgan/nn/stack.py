"""Stack S networks of one architecture as tensors [S, ...], and run them together or seed by seed."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.utils._pytree import tree_map

from ssgan.errors import UserError
from ssgan.nn.weight_norm import with_weights

__all__ = ["Net", "Stack", "State", "choose_strategy", "finite_seeds"]


# Parameters, buffers and, with historical averaging, history of a network, by name.
State = dict[str, dict[str, Tensor]]

# Images in one pass at evaluation: the widest layer of the paper's convolutional network then takes 200 MB at 32x32.
EVALUATION_ROWS = 500


class Net:
    """The network of one seed, called like a module; its normalised weights are computed once.

    Parameters
    ----------
    module : Module
    state : State
    rounded : bool
        Whether to compute in bfloat16 with torch's autocast; the outputs are converted back to the dtype of x.
    """

    def __init__(self, module: nn.Module, state: State, rounded: bool = False) -> None:
        self.module, self.parameters, self.rounded = module, state["parameters"], rounded
        self.history = state.get("history", {})
        self.values = with_weights(module, {**self.parameters, **state["buffers"]})
        self.couples_rows: bool = module.couples_rows  # type: ignore[assignment]

    def __call__(self, x: Tensor) -> Any:
        """Return the outputs of the module for one batch."""
        return self._pass(x)

    def features(self, x: Tensor) -> Tensor:
        """Return the features of one batch [B, F] without computing logits."""
        features: Tensor = self._pass(x, features_only=True)
        return features

    def _pass(self, x: Tensor, **options: bool) -> Any:
        """Run one batch through the module, in bfloat16 if ``rounded``."""
        if not self.rounded:
            return functional_call(self.module, self.values, (x,), options)
        # Without autocast's cache of rounded weights, which would outlive this step.
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            outputs = functional_call(self.module, self.values, (x,), options)
        return tree_map(lambda output: output.to(x.dtype), outputs)


class Stack:
    """S networks of one architecture.

    Attributes
    ----------
    parameters, buffers : dict of str to Tensor [S, ...]
    training, evaluation : Module
        The architecture without values in each mode; the modes are never switched.
    """

    def __init__(self, modules: Sequence[nn.Module], device: torch.device | str = "cpu") -> None:
        parameters, buffers = stack_module_state(list(modules))
        self.parameters = {k: v.detach().to(device) for k, v in parameters.items()}
        self.buffers = {k: v.detach().to(device) for k, v in buffers.items()}
        self.training = copy.deepcopy(modules[0]).to("meta").train()
        self.evaluation = copy.deepcopy(self.training).eval()

    @property
    def seed_count(self) -> int:
        """Number S of seeds."""
        return len(next(iter(self.parameters.values())))

    def state(self, seed: int | None = None) -> State:
        """Return the detached parameters and the buffers of all seeds [S, ...] or of one, as views."""
        tensors = {"parameters": self.parameters, "buffers": self.buffers}
        return {
            kind: {name: (value if seed is None else value[seed]).detach() for name, value in values.items()}
            for kind, values in tensors.items()
        }

    def fill(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> None:
        """Copy saved values [S, ...] into the stack.

        Raises
        ------
        UserError
            If a name or a shape differs from this stack's.
        """
        for kind, values, saved in (("parameters", self.parameters, parameters), ("buffers", self.buffers, buffers)):
            shapes = {k: tuple(v.shape) for k, v in values.items()}
            saved_shapes = {k: tuple(v.shape) for k, v in saved.items()}
            if shapes != saved_shapes:
                names = shapes.keys() | saved_shapes.keys()
                different = sorted(k for k in names if shapes.get(k) != saved_shapes.get(k))
                raise UserError(f"The checkpoint's {kind} do not fit its network: {', '.join(different)}.")
            for name, value in saved.items():
                values[name].data.copy_(value)

    def with_values(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], device: torch.device | str
    ) -> "Stack":
        """Return a stack of the same architecture with copies of other values [S, ...] of the same names and shapes."""
        other = copy.copy(self)
        for kind, saved in (("parameters", parameters), ("buffers", buffers)):
            values = {name: saved[name].detach() for name in getattr(self, kind)}
            copies = {name: v.clone(memory_format=torch.contiguous_format).to(device) for name, v in values.items()}
            setattr(other, kind, copies)
        return other

    def select(self, indices: Sequence[int]) -> "Stack":
        """Return the networks at these indices of the seed axis."""
        selection = copy.copy(self)
        for kind in ("parameters", "buffers"):
            values = {name: value[list(indices)] for name, value in getattr(self, kind).items()}
            setattr(selection, kind, values)
        return selection

    def network(self, index: int, parameters: dict[str, Tensor] | None = None) -> nn.Module:
        """Return the network at one index of the seed axis, in evaluation mode on the CPU, with copies of its values.

        ``parameters`` [S, ...], such as averages, replace those of the stack.
        """
        values = {**(self.parameters if parameters is None else parameters), **self.buffers}
        network = copy.deepcopy(self.evaluation).to_empty(device="cpu")
        network.load_state_dict({name: v[index].detach().cpu().clone() for name, v in values.items()}, assign=True)
        return network.requires_grad_(False)

    def with_evaluation(self, network: nn.Module) -> "Stack":
        """Return a stack of the same values that evaluates them by ``network``, a module without values."""
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
        """Return the outputs of every seed in evaluation mode for the same rows, each of shape [S, B, ...].

        ``parameters`` [S, ...], such as averages, replace those of the stack. The rows go through in batches of
        ``rows``; ``pick`` selects the part of the outputs that is stored.
        """
        parameters = self.parameters if parameters is None else parameters
        outputs = []
        for seed in range(self.seed_count):
            values = {k: v[seed] for k, v in {**parameters, **self.buffers}.items()}
            parts = [pick(functional_call(self.evaluation, values, (part,))) for part in x.split(rows)]
            outputs.append(tree_map(lambda *tensors: torch.cat(tensors), *parts))
        return tree_map(lambda *tensors: torch.stack(tensors), *outputs)


def finite_seeds(values: Iterable[Tensor]) -> Tensor:
    """Return whether all values of each seed are finite, bool [S], from tensors [S, ...]."""
    return torch.stack([value.isfinite().flatten(1).all(dim=1) for value in values]).all(dim=0)


def choose_strategy(seed_count: int, device_type: str) -> str:
    """Return the fastest ``seed_strategy`` for this number of seeds.

    On a CPU each seed alone fits the caches better, and each thread takes one seed:
    `scripts/benchmarks/speed.py` times both.
    On a GPU one kernel for all seeds keeps it busier than a small one for each.
    """
    if seed_count == 1:
        return "direct"
    return "loop" if device_type == "cpu" else "vmap"
