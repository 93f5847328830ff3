"""Time the steps and evaluations of a training, and estimate the time left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

__all__ = ["Clock", "StepProgress", "StepTimer"]

WARM_UP_STEPS = 10
#: First steps that an estimate does not count: on a GPU some compile, allocate and record.
UNTIMED_STEPS = {"cpu": 1}
UNTIMED_STEPS_OF_A_GPU = 5
SECONDS_TO_MEASURE = 2.0  # seconds of steps to measure before the first estimate
SLOW_STEP_SECONDS = 10.0  # a first step at least this long is included in the estimate
SECONDS_BETWEEN_STEPS = 0.25  # shortest time between two progress reports; each synchronises the device


class StepProgress(NamedTuple):
    """The progress of a training between two reports.

    Attributes
    ----------
    step, steps : int
        Steps done and to do. The first one that is reported is the step from which the training starts or is resumed.
    images : int
        Unlabelled images seen per model.
    images_per_second : float or None
        None as long as too few steps are measured.
    seconds_left : float or None
        Time for the remaining steps, evaluations and pictures; None as long as too few steps are measured.
    """

    step: int
    steps: int
    images: int
    images_per_second: float | None = None
    seconds_left: float | None = None


class Clock:
    """Time the steps on the device, without warm-up and pauses.

    Steps are counted from its creation: those before a resume do not count.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.created_at = self.started = self.measured_from = time.perf_counter()
        self.steps = self.warm_steps = self.unmeasured_steps = 0
        self.excluded = self.excluded_warm = self.excluded_unmeasured = 0.0

    def start(self) -> None:
        """Mark the beginning of the first step."""
        self.measured_from = self._now()

    def tick(self) -> None:
        """Count one step; the measurement starts after the warm-up."""
        self.steps += 1
        if self.steps == WARM_UP_STEPS:
            self.started, self.warm_steps, self.excluded_warm = self._now(), self.steps, self.excluded
        if self.steps == UNTIMED_STEPS.get(self.device.type, UNTIMED_STEPS_OF_A_GPU):
            now = self._now()
            if self.device.type != "cpu" or now - self.measured_from < SLOW_STEP_SECONDS:
                self.measured_from, self.unmeasured_steps, self.excluded_unmeasured = now, self.steps, self.excluded

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time spent inside."""
        paused_at = self._now()
        yield
        self.excluded += self._now() - paused_at

    def steps_per_second(self) -> float:
        """Return the speed since the warm-up; before its end, since the beginning."""
        if self.steps == self.warm_steps:
            return self.steps / (self._now() - self.created_at - self.excluded)
        return (self.steps - self.warm_steps) / (self._now() - self.started - (self.excluded - self.excluded_warm))

    def seconds_per_step(self) -> float | None:
        """Return the time of a step for an estimate, which does not wait for the end of the warm-up.

        None as long as less than 2 seconds of steps are measured.
        """
        if self.steps >= 2 * WARM_UP_STEPS:
            return 1.0 / self.steps_per_second()
        measured = self.steps - self.unmeasured_steps
        seconds = self._now() - self.measured_from - (self.excluded - self.excluded_unmeasured)
        return seconds / measured if measured and seconds >= SECONDS_TO_MEASURE else None

    def seconds(self) -> float:
        """Return the time since the beginning, everything included."""
        return self._now() - self.created_at

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class StepTimer:
    """Estimate the remaining time of a training from its steps, its evaluations and its other pauses.

    Parameters
    ----------
    clock : Clock
    steps : int
        Steps of the whole training.
    evaluation_interval : int
        Steps between two evaluations in the log; 0 without them.
    """

    def __init__(self, clock: Clock, steps: int, evaluation_interval: int) -> None:
        self.clock, self.steps, self.evaluation_interval = clock, steps, evaluation_interval
        #: Seconds of one evaluation of the averaged and the last models on the whole test set; None if unknown.
        self.evaluation_seconds: float | None = None
        self.seconds_of_evaluations = 0.0
        self._told_at = float("-inf")

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Time an evaluation, which is spent in a pause of the clock."""
        began = time.perf_counter()
        yield
        self.evaluation_seconds = time.perf_counter() - began
        self.seconds_of_evaluations += self.evaluation_seconds

    def restart_if_due(self) -> bool:
        """Return whether a step is to be reported, a few times per second; if so, start the next interval."""
        now = time.perf_counter()
        if now - self._told_at < SECONDS_BETWEEN_STEPS:
            return False
        self._told_at = now
        return True

    def estimate(self, steps_done: int, seconds_per_step: float) -> float:
        """Estimate the remaining seconds after ``steps_done`` steps from the time of one step."""
        left, interval = self.steps - steps_done, self.evaluation_interval
        evaluations = 1 + (self.steps // interval - steps_done // interval if interval else 0)
        other_pauses = max(0.0, self.clock.excluded - self.seconds_of_evaluations) / max(1, self.clock.steps)
        return left * (seconds_per_step + other_pauses) + evaluations * (self.evaluation_seconds or 0.0)
