"""Report the progress of a list of trainings and estimate the time left."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ssgan.compare.grid import GridCell
from ssgan.settings.config import Config

if TYPE_CHECKING:
    from ssgan.training.monitor import TrainingProgress

__all__ = ["ComparisonProgress", "ProgressTracker", "StackTask"]


class StackTask(NamedTuple):
    """Seeds of a cell that are trained together, as one stack."""

    cell: GridCell
    seeds: list[int]

    @property
    def description(self) -> str:
        """Method, labels and seeds, for a line of progress."""
        seeds = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"seeds {self.seeds[0]} to {self.seeds[-1]}"
        return f"{self.cell.name}, {self.cell.count:,} labels, {seeds}"

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
        Of the current training.
    share : float
        Finished share of it, 0 to 1.
    seconds_left : float or None
        Of all trainings; None if unknown.
    result : str
        Its result, at its end; empty before.
    warnings : sequence of str
        New warnings.
    """

    number: int
    tasks: int
    description: str
    share: float
    seconds_left: float | None
    result: str = ""
    warnings: Sequence[str] = ()


class ProgressTracker:
    """Reports the progress of a list of trainings, and estimates the time left from those that are finished.

    The estimate uses trainings of the same method; if there are none, those of any network, or any classical method.

    Parameters
    ----------
    tasks : sequence of StackTask
    on_progress : callable
        Called with each :class:`ComparisonProgress`.
    """

    def __init__(self, tasks: Sequence[StackTask], on_progress: Callable[[ComparisonProgress], None]) -> None:
        self.tasks, self.on_progress, self.index = tasks, on_progress, 0
        self.spent: dict[str, tuple[float, int]] = {}  # seconds and work, by method

    def begin(self) -> None:
        """Report that the next training begins."""
        self._report(0.0, self._seconds_left(self.index, None))

    def follow(self, progress: "TrainingProgress") -> None:
        """Report the progress of the current training."""
        left, steps, work = progress.seconds_left, progress.steps, max(1, self.tasks[self.index].work)
        seconds_per_work = left * steps / (steps - progress.step) / work if progress.step < steps else None
        others = self._seconds_left(self.index + 1, seconds_per_work)
        total = None if others is None else left + others
        speed = f", {progress.images_per_second:,.0f} images/s"
        self._report(progress.step / steps, total, speed, warnings=progress.warnings)

    def end(self, result: str, seconds: float | None) -> None:
        """Report the result of the current training and its time; None if the time is no guide for others."""
        task = self.tasks[self.index]
        if seconds is not None and task.work:
            before = self.spent.get(task.cell.method, (0.0, 0))
            self.spent[task.cell.method] = (before[0] + seconds, before[1] + task.work)
        self._report(1.0, self._seconds_left(self.index + 1, None), result=result)
        self.index += 1

    def _report(
        self, share: float, seconds_left: float | None, speed: str = "", result: str = "", warnings: Sequence[str] = ()
    ) -> None:
        """Call the callback for the current training."""
        number, description = self.index + 1, self.tasks[self.index].description + speed
        self.on_progress(
            ComparisonProgress(number, len(self.tasks), description, share, seconds_left, result, warnings)
        )

    def _seconds_left(self, first: int, default: float | None) -> float | None:
        """Estimate the seconds of the tasks from ``first`` on; None if unknown.

        ``default`` is the time for one image, which is used as long as no network is finished.
        """
        total = 0.0
        for task in self.tasks[first:]:
            seconds = self._seconds_per_work(task, default)
            if seconds is None and task.work:
                return None
            total += (seconds or 0.0) * task.work
        return total

    def _seconds_per_work(self, task: StackTask, default: float | None) -> float | None:
        """Estimate the seconds for one unit of work of a task."""
        if task.cell.method in self.spent:
            seconds, work = self.spent[task.cell.method]
            return seconds / work
        similar = {other.cell.method for other in self.tasks if other.cell.classical == task.cell.classical}
        spent = [self.spent[method] for method in similar if method in self.spent]
        if spent:
            return sum(seconds for seconds, _ in spent) / sum(work for _, work in spent)
        return 0.0 if task.cell.classical else default
