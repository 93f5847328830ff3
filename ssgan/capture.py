"""A step as one CUDA graph: recorded once, then replayed without Python and as one launch."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ssgan.methods import Batch
from ssgan.step import Part

__all__ = ["Captured"]

# Steps taken eagerly before, so that every buffer is there: real ones, on a stream of their own as CUDA asks.
WARM_UP_STEPS = 3

# Runs a function once, without executing it, and gives what replays it.
Recorder = Callable[[Callable[[], None]], Callable[[], None]]


class Captured:
    """The step of a part, for tensors that keep their place: batches and step sizes are copied to where they were.

    A recording in which nothing can be read back needs nothing that changes from step to step in Python: the counter
    of the optimiser is on the device, its noise comes from torch's generator, which CUDA advances at every replay.

    Parameters
    ----------
    part : Part
    device : torch.device
    record : callable, optional
        Otherwise by ``torch.cuda.graph``.

    Attributes
    ----------
    refusal : str or None
        Why the step could not be recorded, and is taken eagerly.
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
        """As :meth:`Part.step`."""
        if self.refusal is not None:
            self.part.step(batches, numbers)
            return
        self._take(batches, numbers)
        self.steps_taken += 1
        if self.steps_taken <= WARM_UP_STEPS:
            self._aside()
            return
        if self._replay is None:
            try:
                self._replay = self.record(self._run)
            except RuntimeError as failure:
                self.refusal = _reason(failure)
        (self._replay or self._run)()

    def _take(self, batches: Sequence[Batch], numbers: Mapping[str, float]) -> None:
        if not self._batches:
            self._batches = [Batch(*(tensor.clone() for tensor in batch)) for batch in batches]
            self._numbers = {name: torch.zeros((), device=self.device) for name in numbers}
        for kept, batch in zip(self._batches, batches, strict=True):
            for place, tensor in zip(kept, batch, strict=True):
                place.copy_(tensor, non_blocking=True)
        for name, number in numbers.items():
            self._numbers[name].fill_(number)

    def _run(self) -> None:
        self.part.step(self._batches, self._numbers)

    def _aside(self) -> None:
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
    """Record on that device; where it fails, its generator draws on as if nothing had been recorded."""
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
    """The first line of what went wrong first: leaving a broken recording fails once more."""
    while failure.__context__ is not None:
        failure = failure.__context__
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0]
