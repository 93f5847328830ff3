"""How fast training goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["Clock"]

WARM_UP_STEPS = 10


class Clock:
    """Times steps on the device, without the first ones and without pauses.

    Steps are counted from its making: those of a run that goes on do not count again.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.born = self.started = time.perf_counter()
        self.steps = self.warm_steps = 0
        self.left_out = 0.0

    def tick(self) -> None:
        """One step more; the measurement starts once the first ones are done."""
        self.steps += 1
        if self.steps == WARM_UP_STEPS:
            self.started, self.warm_steps, self.left_out = self._now(), self.steps, 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time spent inside."""
        paused_at = self._now()
        yield
        self.left_out += self._now() - paused_at

    def steps_per_second(self) -> float:
        """Since the first steps; while there are no others, since the beginning."""
        if self.steps == self.warm_steps:
            return self.steps / (self._now() - self.born)
        return (self.steps - self.warm_steps) / (self._now() - self.started - self.left_out)

    def seconds(self) -> float:
        """Since the beginning, everything included."""
        return self._now() - self.born

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
