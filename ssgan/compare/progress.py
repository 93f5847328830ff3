"""A list of trainings under way: which one, how much of it, and how long all that are left will take."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ssgan.compare.grid import GridCell
from ssgan.settings.config import Config

if TYPE_CHECKING:
    from ssgan.training.monitor import TrainingProgress

__all__ = ["ComparisonProgress", "ProgressTracker", "StackTask"]


class StackTask(NamedTuple):
    """Seeds of a cell that are trained together."""

    cell: GridCell
    seeds: list[int]

    @property
    def words(self) -> str:
        """For a line of progress."""
        seeds = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"seeds {self.seeds[0]} to {self.seeds[-1]}"
        return f"{self.cell.name}, {self.cell.count:,} labels, {seeds}"

    @property
    def config(self) -> Config:
        """Of these seeds."""
        assert self.cell.config is not None
        return self.cell.config.replace(seed=self.seeds[0], seeds=len(self.seeds))

    @property
    def work(self) -> int:
        """One fit, or the images that the models of a network see together; 0 where another cell trains them."""
        if self.cell.classical:
            return 1
        trains = self.cell.config is not None and not (self.cell.ablation and self.cell.ablation.last)
        return self.config.steps * self.config.images_per_step * len(self.seeds) if trains else 0


class ComparisonProgress(NamedTuple):
    """Where a list of trainings stands.

    Attributes
    ----------
    number, tasks : int
        Which one is under way, from 1, and how many there are.
    words : str
        What it is.
    share : float
        How much of it is done, 0 to 1.
    seconds_left : float or None
        Of all; None while nothing is known.
    said : str
        At its end, what came out; empty before.
    warnings : sequence of str
        What is newly wrong.
    """

    number: int
    tasks: int
    words: str
    share: float
    seconds_left: float | None
    said: str = ""
    warnings: Sequence[str] = ()


class ProgressTracker:
    """Tells where a list of trainings stands, and reckons the time left by what those like them took.

    Like one is first what has the same method, then any network, or any classical method.

    Parameters
    ----------
    tasks : sequence of Task
    tell : callable
        Called with each :class:`Progress`.
    """

    def __init__(self, tasks: Sequence[StackTask], tell: Callable[[ComparisonProgress], None]) -> None:
        self.tasks, self.tell, self.at = tasks, tell, 0
        self.spent: dict[str, tuple[float, int]] = {}  # seconds and work, by method

    def begin(self) -> None:
        """The next training has begun."""
        self._tell(0.0, self._left(self.at, None))

    def follow(self, report: "TrainingProgress") -> None:
        """A network tells how far it is."""
        left, steps = report.seconds_left, report.steps
        rate = left * steps / (steps - report.step) / max(1, self.tasks[self.at].work) if report.step < steps else None
        others = self._left(self.at + 1, rate)
        speed = f", {report.images_per_second:,.0f} images/s"
        self._tell(report.step / steps, None if others is None else left + others, speed, warnings=report.warnings)

    def end(self, said: str, seconds: float | None) -> None:
        """It is over, after so long; None where its time says nothing of others."""
        task = self.tasks[self.at]
        if seconds is not None and task.work:
            before = self.spent.get(task.cell.method, (0.0, 0))
            self.spent[task.cell.method] = (before[0] + seconds, before[1] + task.work)
        self._tell(1.0, self._left(self.at + 1, None), said=said)
        self.at += 1

    def _tell(
        self, share: float, left: float | None, speed: str = "", said: str = "", warnings: Sequence[str] = ()
    ) -> None:
        words = self.tasks[self.at].words + speed
        self.tell(ComparisonProgress(self.at + 1, len(self.tasks), words, share, left, said, warnings))

    def _left(self, first: int, rate: float | None) -> float | None:
        """Seconds of the tasks from ``first`` on; ``rate`` is those for an image where no network is done yet."""
        total = 0.0
        for task in self.tasks[first:]:
            each = self._each(task, rate)
            if each is None and task.work:
                return None
            total += (each or 0.0) * task.work
        return total

    def _each(self, task: StackTask, rate: float | None) -> float | None:
        if task.cell.method in self.spent:
            seconds, work = self.spent[task.cell.method]
            return seconds / work
        alike = {other.cell.method for other in self.tasks if other.cell.classical == task.cell.classical}
        known = [self.spent[method] for method in alike if method in self.spent]
        if known:
            return sum(seconds for seconds, _ in known) / sum(work for _, work in known)
        return 0.0 if task.cell.classical else rate
