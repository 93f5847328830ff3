"""Show the progress of trainings on standard error: an estimate, then a live bar in a terminal, or lines elsewhere."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ssgan.cli import terminal
from ssgan.errors import counted, visible
from ssgan.runs import LOGGED

if TYPE_CHECKING:
    from ssgan.compare.progress import ComparisonProgress
    from ssgan.training.monitor import TrainingProgress
    from ssgan.training.timing import StepProgress

__all__ = [
    "ComparisonDisplay",
    "Shorten",
    "TrainingDisplay",
    "about",
    "comparison_progress",
    "shorter_training",
    "training_progress",
]

INDENT = 6  # columns before the text of a milestone
MILESTONES = 10
SECONDS_OF_SILENCE = 30.0  # longest time without a line if there is no terminal
REFRESHES_PER_SECOND = 4
BAR_WIDTH = 24
SHORT = 10.0  # seconds; no estimate is printed for shorter trainings
HOUR, DAY = 3600.0, 24 * 3600.0  # seconds

#: Function of a fraction, 0 to 1: returns the option that makes a training take this fraction of its time.
Shorten = Callable[[float], str]


def about(seconds: float) -> str:
    """Return a duration in words: ``about 17 minutes``."""
    for length, unit in ((DAY, "day"), (HOUR, "hour")):
        if seconds >= length:
            number = f"{seconds / length:,.1f}".removesuffix(".0")
            return f"about {number} {unit}{'' if number == '1' else 's'}"
    if seconds < 55:
        return f"about {max(1, round(seconds / 5)) * 5} seconds"
    minutes = max(1, round(seconds / 60))
    return f"about {counted(minutes, 'minute')}"


def shorter_training(total_images: int, epochs: str | None) -> Shorten:
    """Return a function that names the option for a shorter training; ``--epochs`` if the user gave it."""

    def name(share: float) -> str:
        if epochs is not None:
            return f"--epochs {float(f'{share * float(epochs):.2g}'):g}"
        return f"--set total_images={max(1, int(float(f'{share * total_images:.2g}')))}"

    return name


def _warn_of_hours(seconds: float, shorten: Shorten | None) -> str:
    """Return a warning about a training that takes hours, with the option that makes it shorter, if there is one."""
    how = f": {shorten(HOUR / seconds)} takes about an hour" if shorten else ""
    return f"At this speed it takes {about(seconds)}{how}. Ctrl-C keeps what is learned."


class _Display:
    """Display the progress of a training: a live bar, or without a terminal a line after a long time without one.

    Parameters
    ----------
    quiet : bool
        Whether to show only warnings.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.live = quiet, not quiet and terminal.err.is_terminal
        self.began = self.told_at = self.line_at = time.monotonic()
        self.estimated = False

    def words(self) -> str:
        """Return the current progress in words."""
        raise NotImplementedError

    def share(self) -> float:
        """Return the fraction of the training that is done, 0 to 1."""
        raise NotImplementedError

    def details(self) -> str:
        """Return the line below the bar."""
        raise NotImplementedError

    def line(self) -> str:
        """Return a line for output that is not a terminal."""
        raise NotImplementedError

    @property
    def elapsed(self) -> str:
        """Time since the current stage began."""
        return _duration(time.monotonic() - self.began)

    def left(self, seconds: float) -> str:
        """Return the remaining time in words, less the time since the estimate ``seconds`` was received."""
        return f"{_duration(max(0.0, seconds - (time.monotonic() - self.told_at)))} left"

    def note(self, text: str) -> None:
        """Print a line."""
        self.line_at = time.monotonic()
        terminal.note(text)

    def alert(self, sentences: Sequence[str]) -> None:
        """Print warnings."""
        for sentence in sentences:
            terminal.warn(sentence)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the display while the block runs."""
        if self.live:
            draw, rate = self.render, REFRESHES_PER_SECOND
            with Live(console=terminal.err, get_renderable=draw, refresh_per_second=rate, transient=True):
                yield
        elif self.quiet:
            yield
        else:
            with self._beating():
                yield

    def render(self) -> RenderableType:
        """Render the bar with its words, and the line below it."""
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=self.share(), width=BAR_WIDTH)
        row.add_row(f"{100 * self.share():3.0f}%", bar, Text(visible(self.words()), no_wrap=True))
        details = Text(visible(self.details()), "dim", no_wrap=True, overflow="ellipsis")
        return Group(row, details) if details else row

    @contextmanager
    def _beating(self) -> Iterator[None]:
        """While the block runs, print a line whenever none was printed for half a minute."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(max(0.01, self.line_at + SECONDS_OF_SILENCE - time.monotonic())):
                if time.monotonic() - self.line_at >= SECONDS_OF_SILENCE:
                    self.note(self.line())

        thread = threading.Thread(target=beat, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


class TrainingDisplay(_Display):
    """Show the progress of one training.

    Parameters
    ----------
    quiet : bool
    shorten : Shorten, optional
        Returns the option that makes it shorter.
    following : float
        Time of the trainings after this one, as a multiple of the time of this one.
    """

    def __init__(self, quiet: bool = False, shorten: Shorten | None = None, following: float = 0.0) -> None:
        super().__init__(quiet)
        self.shorten, self.following = shorten, following
        self.progress: StepProgress | None = None
        self.losses, self.milestones = "", 0

    def on_step(self, progress: "StepProgress") -> None:
        """Receive the progress between two reports."""
        if self.progress is None or progress.step == progress.steps:
            self.began = time.monotonic()
        self.progress, self.told_at = progress, time.monotonic()
        if progress.seconds_left is not None:
            self._estimate(progress.seconds_left)

    def on_report(self, progress: "TrainingProgress") -> None:
        """Receive a report of the training."""
        self._estimate(progress.seconds_left)
        self.losses = _losses(progress)
        self.alert(progress.warnings)
        share = progress.step * MILESTONES // progress.steps
        if not self.quiet and not self.live and share > self.milestones:
            self.milestones = share
            first, *others = _wrap(f"{_counts(progress)}  {self.losses}", terminal.WIDTH - INDENT)
            self.note(f"{100 * progress.step // progress.steps:3d}%  {first}")
            for line in others:
                self.note(" " * INDENT + line)

    def words(self) -> str:
        """Return in words what is done and how long it takes."""
        progress = self.progress
        if progress is None:
            return f"building the networks, {self.elapsed}"
        if progress.step == progress.steps:
            return f"measuring the result, {self.elapsed}"
        if progress.seconds_left is None or progress.images_per_second is None:
            return f"step {progress.step + 1:,} of {progress.steps:,}, {self.elapsed}"
        return f"{progress.images:,} images, {progress.images_per_second:,.0f}/s, {self.left(progress.seconds_left)}"

    def share(self) -> float:
        """Return the fraction of the steps that are done."""
        return 0.0 if self.progress is None else self.progress.step / self.progress.steps

    def details(self) -> str:
        """Return the losses of the last report."""
        return self.losses

    def line(self) -> str:
        """Return percent and words."""
        return f"{int(100 * self.share()):3d}%  {self.words()}"

    def _estimate(self, seconds_left: float) -> None:
        """Print once how long the training takes; a warning if it is more than an hour."""
        if self.estimated:
            return
        self.estimated = True
        seconds = seconds_left * (1.0 + self.following)
        if seconds > HOUR:
            self.alert([_warn_of_hours(seconds, self.shorten)])
        elif seconds >= SHORT and not self.quiet:
            self.note(f"{about(seconds)}; Ctrl-C keeps what is learned")


class ComparisonDisplay(_Display):
    """Show the progress of a comparison: a line for each training that ends, and a bar.

    Parameters are those of :class:`TrainingDisplay`.
    """

    def __init__(self, quiet: bool = False, shorten: Shorten | None = None) -> None:
        super().__init__(quiet)
        self.shorten = shorten
        self.progress: ComparisonProgress | None = None

    def on_progress(self, progress: "ComparisonProgress") -> None:
        """Receive the progress of the comparison."""
        if self.progress is None or progress.number != self.progress.number:
            self.began = time.monotonic()
        self.progress, self.told_at = progress, time.monotonic()
        self.alert(progress.warnings)
        if progress.seconds_left is not None:
            self._estimate(progress.seconds_left, progress.tasks - progress.number + 1, progress.untimed)
        if progress.result and not self.quiet:
            ended = f"{progress.number}/{progress.tasks}  {progress.description}: {progress.result}"
            self.note(ended if self.live else f"{ended}{self._time_left()}")

    def words(self) -> str:
        """Return in words which training runs and how long all of them take."""
        if self.progress is None:
            return f"timing the first steps of each method, {self.elapsed}"
        return f"{self.progress.number} of {self.progress.tasks}{self._time_left()}"

    def share(self) -> float:
        """Return the fraction of the trainings that are done."""
        progress = self.progress
        return 0.0 if progress is None else (progress.number - 1 + progress.share) / progress.tasks

    def details(self) -> str:
        """Return the description of the current training."""
        return "" if self.progress is None else f"{self.progress.description}, {self.elapsed}"

    def line(self) -> str:
        """Return in words which training runs, for how long, and the remaining time."""
        progress = self.progress
        if progress is None:
            return self.words()
        place = f"{progress.number}/{progress.tasks}  {progress.description}"
        return f"{place}: {progress.share:.0%} after {self.elapsed}{self._time_left()}"

    def _time_left(self) -> str:
        """Return the remaining time of all trainings, and how many it leaves out; empty if unknown."""
        progress = self.progress
        if progress is None or progress.seconds_left is None:
            return ""
        return f", {self.left(progress.seconds_left)}{_untimed(progress.untimed)}"

    def _estimate(self, seconds: float, trainings: int, untimed: int) -> None:
        """Print once how long all trainings take; a warning if it is more than an hour."""
        if self.estimated:
            return
        self.estimated = True
        if seconds > HOUR:
            self.alert([f"{_warn_of_hours(seconds, self.shorten)} Fewer --seeds or --methods are faster too."])
        elif seconds >= SHORT and not self.quiet:
            timed = trainings - untimed
            self.note(
                f"{about(seconds)} for {counted(timed, 'training')}{_untimed(untimed)}; Ctrl-C keeps what is finished"
            )


@contextmanager
def training_progress(
    quiet: bool = False, shorten: Shorten | None = None, following: float = 0.0
) -> Iterator[TrainingDisplay]:
    """Show the progress of a training; parameters are those of :class:`TrainingDisplay`."""
    display = TrainingDisplay(quiet, shorten, following)
    with display.shown():
        yield display


@contextmanager
def comparison_progress(quiet: bool = False, shorten: Shorten | None = None) -> Iterator[ComparisonDisplay]:
    """Show the progress of a comparison; parameters are those of :class:`ComparisonDisplay`."""
    display = ComparisonDisplay(quiet, shorten)
    with display.shown():
        yield display


def _untimed(count: int) -> str:
    return f" and an unknown time for {count}" if count else ""


def _wrap(text: str, most: int) -> list[str]:
    """Break text at double spaces into lines of at most ``most`` columns; a longer part gets its own line."""
    lines: list[str] = []
    for word in text.split("  "):
        if lines and terminal.width(lines[-1]) + 2 + terminal.width(word) <= most:
            lines[-1] += "  " + word
        else:
            lines.append(word)
    return lines


def _duration(seconds: float) -> str:
    """Format a duration: ``2:05``, ``1:02:05`` or ``57.9 days``."""
    if seconds >= DAY:
        return f"{seconds / DAY:,.1f} days"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_rest = divmod(minutes, 60)
    return f"{hours}:{minutes_rest:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _counts(progress: "TrainingProgress") -> str:
    return f"{progress.images:,} images, {progress.images_per_second:,.0f}/s, {_duration(progress.seconds_left)} left"


def _losses(progress: "TrainingProgress") -> str:
    """Format the means of the losses over the seeds."""
    means = {name: float(values.mean()) for name, values in progress.means.items()}
    words = [f"{LOGGED[name]} {value:.2g}" for name, value in means.items() if name in LOGGED]
    if "accuracy_real" in means:
        words.append(
            f"D right: {100 * means['accuracy_real']:.0f} % real, {100 * means['accuracy_fake']:.0f} % generated"
        )
    elif "p_real_unlabeled" in means and "p_real_fake" in means:
        words.append(f"p(real) {means['p_real_unlabeled']:.2f} real, {means['p_real_fake']:.2f} generated")
    if progress.errors and None not in progress.errors:
        words.append(f"test error {sum(e for e in progress.errors if e is not None) / len(progress.errors):.2f} %")
    return "  ".join(words)
