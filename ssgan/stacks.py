"""The seed axis: S copies of a network as one dictionary of tensors [S, ...].

:func:`over_seeds` lifts a function written for one seed; nobody else knows how.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from ssgan.errors import UserError

__all__ = ["Net", "Stack", "choose_strategy", "over_seeds"]

# The widest layer of the paper's convolutional network takes 200 MB for so many images of 32x32.
EVALUATION_ROWS = 500


class Net:
    """One seed's network as a method sees it: call it like the module."""

    def __init__(self, module: nn.Module, state: dict[str, dict[str, Tensor]]) -> None:
        self.module = module
        self.parameters, self.buffers = state["parameters"], state["buffers"]
        self.history = state.get("history", {})
        self.couples_rows: bool = module.couples_rows  # type: ignore[assignment]

    def __call__(self, x: Tensor) -> Any:
        """What the module returns for one batch."""
        return functional_call(self.module, {**self.parameters, **self.buffers}, (x,))


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
        self.parameters = {k: v.detach().to(device).requires_grad_() for k, v in parameters.items()}
        self.buffers = {k: v.detach().to(device) for k, v in buffers.items()}
        self.training = copy.deepcopy(modules[0]).to("meta").train()
        self.evaluation = copy.deepcopy(self.training).eval()

    @property
    def seeds(self) -> int:
        """S."""
        return len(next(iter(self.parameters.values())))

    def state(self, trained: bool) -> dict[str, dict[str, Tensor]]:
        """Parameters and buffers for a phase; the parameters are detached unless the phase trains them."""
        parameters = self.parameters if trained else {k: v.detach() for k, v in self.parameters.items()}
        return {"parameters": parameters, "buffers": self.buffers}

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
            values = {name: value.detach()[list(places)] for name, value in getattr(self, kind).items()}
            setattr(chosen, kind, values)
        return chosen

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


def choose_strategy(seeds: int, convolutional: bool, device_type: str) -> str:
    """The faster way to lift a loss over so many seeds.

    Measured for the digits networks on two CPU threads, ten seeds: vmap 80 ms a step, loop 113 ms. For
    convolutional networks on one, in processor time: compact-conv, four seeds, vmap 690 ms, loop 598 ms; with small
    batches and two seeds, paper-conv 1471 and 1279 ms, wide-resnet 1007 and 947 ms, dcgan 444 and 415 ms.
    """
    if seeds == 1:
        return "direct"
    return "loop" if convolutional and device_type == "cpu" else "vmap"


def over_seeds(function: Callable[..., Any], strategy: str) -> Callable[..., Any]:
    """Lift a function of one seed to the seed axis.

    Parameters
    ----------
    function : callable
        From any nesting of tensors to any nesting of tensors.
    strategy : {"direct", "vmap", "loop"}
        ``direct`` needs S = 1 and costs nothing; ``vmap`` runs one batched kernel for all seeds; ``loop``
        runs seed after seed. All compute the same; where the function draws random numbers, each
        seed gets its own, and which ones depends on the strategy.

    Returns
    -------
    callable
        The same function with [S, ...] for every tensor in its arguments and results.
    """
    if strategy == "vmap":
        return vmap(function, randomness="different")

    def lifted(*arguments: Any) -> Any:
        tensors, structure = tree_flatten(arguments)
        if strategy == "direct":
            result = function(*tree_unflatten([t.squeeze(0) for t in tensors], structure))
            return tree_map(lambda t: t.unsqueeze(0), result)
        seeds = zip(*(t.unbind(0) for t in tensors), strict=True)
        results = [function(*tree_unflatten(list(one), structure)) for one in seeds]
        return tree_map(lambda *parts: torch.stack(parts), *results)

    return lifted
