"""Write what a training leaves in its run folder, at the reports of the training loop.

A callback says after which steps it needs a report, acts on each report, and drops what lies after the checkpoint from
which a run is resumed.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.data.splits import Split
from ssgan.errors import Interrupted, counted
from ssgan.figures import curves, image_grid
from ssgan.files import open_atomic, write_atomic
from ssgan.inference.models import Models
from ssgan.settings.catalog import is_picture_shape
from ssgan.settings.config import Config
from ssgan.training import interrupts
from ssgan.training.interrupts import Interrupts
from ssgan.training.monitor import TrainingProgress
from ssgan.training.parts import FailedParts

__all__ = [
    "Callback",
    "Callbacks",
    "Checkpoints",
    "Curves",
    "Densities",
    "EventWriter",
    "Frames",
    "FunctionCallback",
    "Guarded",
    "Log",
    "Paused",
    "log_line",
    "run_callbacks",
]

#: Fractions of training after which the densities of the one-dimensional GAN are kept: most are early, when most
#: changes.
DENSITY_MOMENTS = (0.0, 1 / 64, 1 / 16, 1 / 4, 1 / 2, 1.0)


class Paused(Exception):  # noqa: N818 - not an error
    """Training has stopped at a checkpoint because its time was up; the same call resumes it."""


class Callback:
    """Do nothing at any report: the base class of the others."""

    def after_step(self, step: int) -> bool:
        """Act after every step, and return whether it needs a report, besides those at the report interval."""
        return False

    def rewind(self, steps_done: int) -> None:
        """Drop what lies after this step, because the steps that follow will be repeated."""

    def on_report(self, progress: TrainingProgress) -> None:
        """Act on a report."""


class EventWriter(Callback):
    """Write reports to files that stay open during the training: the base class of ``TensorBoard``."""

    def flush(self) -> None:
        """Write to disk what a checkpoint will cover."""
        raise NotImplementedError

    def open(self) -> AbstractContextManager[None]:
        """Hold the files open during the training, after :meth:`rewind`."""
        raise NotImplementedError


class Callbacks(Callback):
    """Call several callbacks in order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = callbacks

    def after_step(self, step: int) -> bool:
        """Call each of them, and return whether one needs a report."""
        wanted = [callback.after_step(step) for callback in self.callbacks]
        return any(wanted)

    def rewind(self, steps_done: int) -> None:
        """Rewind each of them."""
        for callback in self.callbacks:
            callback.rewind(steps_done)

    def on_report(self, progress: TrainingProgress) -> None:
        """Report to each of them."""
        for callback in self.callbacks:
            callback.on_report(progress)


class Guarded(Callback):
    """Call a callback whose failure must not end the training: it is recorded, and the training continues.

    Parameters
    ----------
    callback : Callback
    name : str
        Name of its output.
    failed_parts : FailedParts
    """

    def __init__(self, callback: Callback, name: str, failed_parts: FailedParts) -> None:
        self.callback, self.name, self.failed_parts = callback, name, failed_parts

    def after_step(self, step: int) -> bool:
        """Call it, and return whether it needs a report."""
        return self.callback.after_step(step)

    def rewind(self, steps_done: int) -> None:
        """Rewind it."""
        with self.failed_parts.attempt(self.name):
            self.callback.rewind(steps_done)

    def on_report(self, progress: TrainingProgress) -> None:
        """Report to it."""
        with self.failed_parts.attempt(self.name):
            self.callback.on_report(progress)


class FunctionCallback(Callback):
    """Call a function at each report, such as the one that a user gave."""

    def __init__(self, function: Callable[[TrainingProgress], None]) -> None:
        self.function = function

    def on_report(self, progress: TrainingProgress) -> None:
        """Call the function."""
        self.function(progress)


def log_line(progress: TrainingProgress) -> dict[str, Any]:
    """Return a report as a line of ``log.jsonl``; a mean that is not finite is null."""
    means = {name: [v if np.isfinite(v) else None for v in values.tolist()] for name, values in progress.means.items()}
    return {
        "step": progress.step,
        "images": progress.images,
        "images_per_second": progress.images_per_second,
        **means,
        "errors": progress.errors,
        "errors_raw": progress.errors_raw,
    }


class Log(Callback):
    """Append each report to ``log.jsonl``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.jsonl"

    def rewind(self, steps_done: int) -> None:
        """Keep the lines up to this step."""
        runs.trim_log(self.path, steps_done)

    def on_report(self, progress: TrainingProgress) -> None:
        """Append a line."""
        runs.append_rows(self.path, [log_line(progress)])


class Frames(Callback):
    """Draw the first model's images of fixed noise at intervals, for the animation. Vectors give none."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.config = folder / image_grid.FRAMES_FOLDER, config

    def after_step(self, step: int) -> bool:
        """Return whether a frame is due."""
        return self.due(step)

    def due(self, step: int) -> bool:
        """Return whether a frame is due: at every interval and at the end, if there is a generator."""
        config = self.config
        if not (config.frames_every_images and config.trains_generator):
            return False
        interval = config.steps_for(config.frames_every_images)
        return step % interval == 0 or step == config.steps

    def rewind(self, steps_done: int) -> None:
        """Remove the frames after this step."""
        for images, path in image_grid.read_frames(self.folder.parent).items():
            if images > steps_done * self.config.images_per_step:
                path.unlink()

    def on_report(self, progress: TrainingProgress) -> None:
        """Draw a frame if one is due."""
        if self.due(progress.step):
            self.write(progress.models(), progress.images)

    def write(self, models: Models, images: int) -> None:
        """Draw the frame after ``images`` images of training; none if a generated image is not finite."""
        side = models.config.grid_side
        samples = models.select(models.seeds[:1]).sample(side**2, seed=models.config.seed)[0]
        if is_picture_shape(models.image_shape) and np.isfinite(samples).all():
            self.folder.mkdir(exist_ok=True)
            with open_atomic(self.folder / f"{images:09d}.png") as stream:
                image_grid.draw_grid(image_grid.to_uint8(samples), side).save(stream, format="png")


class Densities(Callback):
    """Keep the densities of the one-dimensional GAN at fixed fractions of training.

    Parameters
    ----------
    folder : Path
    config : Config
    normal : (float, float)
        Mean and standard deviation of the target.
    """

    def __init__(self, folder: Path, config: Config, normal: curves.Normal) -> None:
        self.folder, self.config, self.normal = folder, config, normal

    def after_step(self, step: int) -> bool:
        """Return whether the densities are due."""
        return self.due(step)

    def due(self, step: int) -> bool:
        """Return whether a step is at one of ``DENSITY_MOMENTS``."""
        steps = {max(1, round(share * self.config.steps)) for share in DENSITY_MOMENTS}
        return self.config.trains_generator and step in steps

    def rewind(self, steps_done: int) -> None:
        """Keep the densities up to this step."""
        path, images = self.folder / curves.DENSITY_FILE, steps_done * self.config.images_per_step
        if path.exists():
            rows = [row for row in curves.read_densities(self.folder) if row["images"] <= images]
            write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def on_report(self, progress: TrainingProgress) -> None:
        """Keep the densities if they are due."""
        if self.due(progress.step):
            self.write(progress.models(), progress.images)

    def write(self, models: Models, images: int) -> None:
        """Append counts of the first model's generated numbers, and the current D(x) over the range."""
        first = models.select(models.seeds[:1])
        low, high = curves.density_range(self.normal)
        x = np.linspace(low, high, curves.DENSITY_POINTS, dtype=np.float32)[:, None]
        p_real = 1.0 - first.generated_probability(x, averaged=False)[0]
        numbers = first.sample_batch(curves.SAMPLES, models.config.seed)[0].ravel()
        if np.isfinite(p_real).all() and np.isfinite(numbers).all():
            counts = np.histogram(numbers, curves.BINS, (low, high))[0]
            row: dict[str, Any] = {"images": images, "low": low, "high": high, "samples": curves.SAMPLES}
            row |= {"counts": counts.tolist(), "p_real": [float(f"{p:.6g}") for p in p_real]}
            runs.append_rows(self.folder / curves.DENSITY_FILE, [row])


class Curves(Callback):
    """Draw ``curves.png`` from the log, at most once a minute."""

    def __init__(self, folder: Path, caption: str) -> None:
        self.folder, self.caption, self.drawn_at = folder, caption, time.monotonic()

    def on_report(self, progress: TrainingProgress) -> None:
        """Draw the curves if the last picture is old."""
        if progress.step < progress.steps and time.monotonic() - self.drawn_at >= curves.REDRAW_SECONDS:
            self.draw()

    def draw(self) -> None:
        """Draw the curves."""
        curves.write_curves(self.folder, self.caption)
        self.drawn_at = time.monotonic()


class Checkpoints(Callback):
    """Write the checkpoint at intervals and at the end, and stop there if the time is up or a signal was received.

    Parameters
    ----------
    folder : Path
    every_seconds, pause_after_seconds : float
    events : EventWriter, optional
        Flushed before each checkpoint: what it covers is not written again.
    interrupts : Interrupts, optional
        Checked after each step.
    """

    def __init__(
        self,
        folder: Path,
        every_seconds: float,
        pause_after_seconds: float,
        events: EventWriter | None,
        interrupts: Interrupts | None = None,
    ) -> None:
        self.folder, self.every_seconds, self.pause_after_seconds = folder, every_seconds, pause_after_seconds
        self.events, self.started_at, self.saved_at = events, time.monotonic(), time.monotonic()
        self.interrupts = interrupts

    def after_step(self, step: int) -> bool:
        """Record signals from the first step on, and return whether one was received."""
        if self.interrupts is None:
            return False
        self.interrupts.watch()
        return self.interrupts.received is not None

    def on_report(self, progress: TrainingProgress) -> None:
        """Write a checkpoint if one is due.

        Raises
        ------
        Paused, Interrupted
            If the time is up before the end; if a signal was received.
        """
        now, last = time.monotonic(), progress.step == progress.steps
        paused = now - self.started_at >= self.pause_after_seconds and not last
        signal_number = None if self.interrupts is None else self.interrupts.received
        if paused or last or signal_number is not None or now - self.saved_at >= self.every_seconds:
            if self.events is not None:
                self.events.flush()
            runs.save_checkpoint(self.folder / "checkpoint", progress.state())
            self.saved_at = time.monotonic()
        words = f"{self.folder} has {progress.step:,} of {progress.steps:,} steps."
        if self.interrupts is not None and last:
            self.interrupts.unwatch()
            signal_number = self.interrupts.received  # one may have arrived while the checkpoint was written
        if signal_number is not None:
            raise Interrupted(words, signal_number)
        if paused:
            raise Paused(words)


@contextmanager
def run_callbacks(
    folder: Path,
    data: Data,
    config: Config,
    split: Split,
    steps_done: int,
    on_report: Callable[[TrainingProgress], None] | None,
    pause_after_seconds: float,
    events: EventWriter | None,
    failed_parts: FailedParts,
) -> Iterator[Callbacks]:
    """Yield the callbacks of a run folder, rewound to a step; draw the curves once more at the end.

    Only a failure to write a checkpoint, or of a function of the caller, ends the training.
    """
    labels = "no classes" if config.unconditional else counted(len(split.y), "label")
    drawing = Curves(folder, caption=f"{data.name}, {labels}, {config.method}")
    log = Log(folder)
    log.rewind(steps_done)
    callbacks: list[Callback] = [
        Guarded(FunctionCallback(log.on_report), "log.jsonl", failed_parts),
        *([events] if events else []),
        Guarded(Frames(folder, config), "frames", failed_parts),
    ]
    if data.normal is not None:
        callbacks.append(Guarded(Densities(folder, config, data.normal), curves.DENSITY_FILE, failed_parts))
    if on_report is not None:
        callbacks.append(FunctionCallback(on_report))
    stop = interrupts.current()
    callbacks += [
        Checkpoints(folder, config.checkpoint_every_seconds, pause_after_seconds, events, stop),
        Guarded(drawing, curves.CURVES_PICTURE, failed_parts),
    ]
    callback_list = Callbacks(callbacks)
    callback_list.rewind(steps_done)
    with ExitStack() as stack:
        if events is not None:
            stack.enter_context(events.open())
        yield callback_list
    with failed_parts.attempt(curves.CURVES_PICTURE):
        drawing.draw()
