"""Report the progress of a list of trainings and estimate the time that is left."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ssgan.compare.grid import GridCell
from ssgan.errors import counted
from ssgan.settings.config import Config

if TYPE_CHECKING:
    from ssgan.training.monitor import TrainingProgress
    from ssgan.training.timing import StepProgress

__all__ = ["ComparisonProgress", "ConcurrentTracker", "ProgressTracker", "StackTask"]


class StackTask(NamedTuple):
    """Seeds of a cell that are trained together, as one stack."""

    cell: GridCell
    seeds: list[int]

    @property
    def description(self) -> str:
        """Method, labels and seeds, for a line of progress."""
        seeds = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"seeds {self.seeds[0]} to {self.seeds[-1]}"
        return f"{self.cell.name}, {counted(self.cell.count, 'label')}, {seeds}"

    @property
    def config(self) -> Config:
        """Configuration of these seeds."""
        assert self.cell.config is not None
        return self.cell.config.replace(seed=self.seeds[0], seeds=len(self.seeds))

    @property
    def work(self) -> int:
        """Amount of work: 1 for a classical fit, else the images that all models see; 0 if another cell trains them."""
        if self.cell.classical:
            return 1
        trains = self.cell.config is not None and not (self.cell.ablation and self.cell.ablation.last)
        return self.config.steps * self.config.images_per_step * len(self.seeds) if trains else 0


class ComparisonProgress(NamedTuple):
    """Progress of a list of trainings.

    Attributes
    ----------
    number, tasks : int
        Number of the current training, from 1, and how many there are.
    description : str
        Description of the current training.
    share : float
        Finished fraction of it, 0 to 1.
    seconds_left : float or None
        Time left for all trainings except those that are ``untimed``; None if no time is known.
    result : str
        Its result, at its end; empty before.
    warnings : sequence of str
        New warnings.
    untimed : int
        Number of remaining trainings whose time is not known, such as classical fits before the first one.
    """

    number: int
    tasks: int
    description: str
    share: float
    seconds_left: float | None
    result: str = ""
    warnings: Sequence[str] = ()
    untimed: int = 0


class ProgressTracker:
    """Reports the progress of a list of trainings, and estimates the time that is left.

    The estimate uses finished trainings of the same method, then its first steps, then the current training of the same
    method, then those of any network. The time of a classical method is known only from its own fits.

    Parameters
    ----------
    tasks : sequence of StackTask
    on_progress : callable
        Called with each :class:`ComparisonProgress`.
    """

    def __init__(self, tasks: Sequence[StackTask], on_progress: Callable[[ComparisonProgress], None]) -> None:
        self.tasks, self.on_progress, self.index = tasks, on_progress, 0
        self.spent: dict[str, tuple[float, int]] = {}  # seconds and work, by method and ablation
        self.expected: dict[str, float] = {}  # seconds for one unit of work, by method and ablation

    def measure(self, time_task: Callable[[StackTask], float | None]) -> None:
        """Time one training of each method by its first steps, if there is more than one training of networks."""
        tasks = [task for task in self.tasks if task.work and not task.cell.classical and not task.cell.refusal]
        for task in tasks if len(tasks) > 1 else []:
            if task.cell.name not in self.expected and (seconds := time_task(task)) is not None:
                self.expected[task.cell.name] = seconds / task.work

    def begin(self) -> None:
        """Report that the next training begins."""
        self._report(0.0, self._left(self.tasks[self.index :]))

    def follow(self, progress: "TrainingProgress") -> None:
        """Report the progress of the current training."""
        speed = f", {progress.images_per_second:,.0f} images/s"
        left = self._follow(progress.step, progress.steps, progress.seconds_left)
        self._report(progress.step / progress.steps, left, speed, warnings=progress.warnings)

    def follow_step(self, progress: "StepProgress") -> None:
        """Report the progress of the current training between two reports."""
        speed = f", {progress.images_per_second:,.0f} images/s" if progress.images_per_second else ""
        left = self._follow(progress.step, progress.steps, progress.seconds_left)
        self._report(progress.step / progress.steps, left, speed)

    def end(self, result: str, seconds: float | None) -> None:
        """Report the result of the current training and its time; None if the time does not predict that of others."""
        task = self.tasks[self.index]
        self._note_time(task, seconds)
        self._report(1.0, self._left(self.tasks[self.index + 1 :]), result=result)
        self.index += 1

    def _follow(self, step: int, steps: int, seconds_left: float | None) -> tuple[float | None, int]:
        """Return the seconds that are left, and the number of trainings not in them, from those of the current one."""
        if seconds_left is None:
            return self._left(self.tasks[self.index :])
        task = self.tasks[self.index]
        if task.work and step < steps:
            self.expected[task.cell.name] = seconds_left * steps / (steps - step) / task.work
        others, untimed = self._left(self.tasks[self.index + 1 :])
        return seconds_left + (others or 0.0), untimed

    def _report(
        self,
        share: float,
        left: tuple[float | None, int],
        speed: str = "",
        result: str = "",
        warnings: Sequence[str] = (),
    ) -> None:
        """Call the callback for the current training."""
        number, description = self.index + 1, self.tasks[self.index].description + speed
        self.on_progress(
            ComparisonProgress(number, len(self.tasks), description, share, left[0], result, warnings, left[1])
        )

    def _note_time(self, task: StackTask, seconds: float | None) -> None:
        """Record the time of a finished training."""
        if seconds is not None and task.work:
            before = self.spent.get(task.cell.name, (0.0, 0))
            self.spent[task.cell.name] = (before[0] + seconds, before[1] + task.work)

    def _left(self, tasks: Sequence[StackTask]) -> tuple[float | None, int]:
        """Estimate the seconds of tasks, one after the other; return also the number of tasks whose time is not known.

        The seconds are None if none is known.
        """
        works = [(self._seconds_per_work(task), task.work) for task in tasks if task.work]
        known = [seconds * work for seconds, work in works if seconds is not None]
        return (None if works and not known else sum(known)), len(works) - len(known)

    def _seconds_per_work(self, task: StackTask) -> float | None:
        """Estimate the seconds for one unit of work of a task."""
        name = task.cell.name
        if name in self.spent:
            seconds, work = self.spent[name]
            return seconds / work
        if name in self.expected or task.cell.classical:
            return self.expected.get(name)
        networks = {other.cell.name for other in self.tasks if not other.cell.classical}
        spent = [self.spent[name] for name in networks if name in self.spent]
        if spent:
            return sum(seconds for seconds, _ in spent) / sum(work for _, work in spent)
        return next(iter(self.expected.values()), None)


class ConcurrentTracker(ProgressTracker):
    """Reports the progress of trainings that run side by side and end in any order.

    Parameters
    ----------
    tasks, on_progress
        As for :class:`ProgressTracker`.
    places : int
        Number of trainings that run at once.
    """

    def __init__(
        self, tasks: Sequence[StackTask], on_progress: Callable[[ComparisonProgress], None], places: int
    ) -> None:
        super().__init__(tasks, on_progress)
        self.places, self.unfinished = places, list(tasks)

    def begin(self) -> None:
        """Report that the trainings begin."""
        self._report_running()

    def finish(self, task: StackTask, result: str, seconds: float | None, warnings: Sequence[str] = ()) -> None:
        """Report the result of a training, its time (None if it does not predict that of others) and its warnings."""
        self._note_time(task, seconds)
        self.unfinished.remove(task)
        number = len(self.tasks) - len(self.unfinished)
        left, untimed = self._left(self.unfinished)
        left = None if left is None else left / min(self.places, max(1, len(self.unfinished)))
        arguments = (number, len(self.tasks), task.description, 1.0, left, result, warnings, untimed)
        self.on_progress(ComparisonProgress(*arguments))
        if self.unfinished:
            self._report_running()

    def _report_running(self) -> None:
        """Report how many trainings run now."""
        left, untimed = self._left(self.unfinished)
        at_once = min(self.places, len(self.unfinished))
        left = None if left is None else left / at_once
        number = len(self.tasks) - len(self.unfinished) + 1
        description = f"{counted(at_once, 'training')} at once"
        self.on_progress(ComparisonProgress(number, len(self.tasks), description, 0.0, left, untimed=untimed))
