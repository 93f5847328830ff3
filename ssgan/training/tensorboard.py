"""Write the log of a training as events for TensorBoard."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ssgan import runs
from ssgan.errors import UserError
from ssgan.figures import curves
from ssgan.training.callbacks import EventWriter, log_line
from ssgan.training.monitor import TrainingProgress
from ssgan.training.parts import FailedParts

__all__ = ["TENSORBOARD_FOLDER", "TensorBoard", "check_tensorboard"]

TENSORBOARD_FOLDER = "tensorboard"
EVENTS = "events for TensorBoard"
ERROR_TAGS = {"errors": "error/averaged", "errors_raw": "error/last_step"}  # in percent


def check_tensorboard() -> None:
    """Check that TensorBoard is installed.

    Raises
    ------
    UserError
        If it is not.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UserError(
            "tensorboard is true, but TensorBoard is not installed: pip install 'ssgan[tensorboard]', or omit the "
            "setting."
        ) from None


class TensorBoard(EventWriter):
    """Write the log as TensorBoard events, a folder for each seed. A failure is recorded and does not end the training.

    Parameters
    ----------
    folder : Path
        The run folder.
    seeds : sequence of int
    up_to_date : bool
        Whether the previous session wrote events too; otherwise the whole log is written first.
    failed_parts : FailedParts, optional
    """

    def __init__(
        self, folder: Path, seeds: Sequence[int], up_to_date: bool, failed_parts: FailedParts | None = None
    ) -> None:
        check_tensorboard()
        self.folder, self.seeds, self.up_to_date = folder, seeds, up_to_date
        self.attempt = partial((failed_parts or FailedParts()).attempt, EVENTS)
        self.writers: list[Any] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Open the files, after the log was rewound; close them at the end."""
        with self.attempt():
            self._open()
        try:
            yield
        finally:
            for writer in self.writers:
                with self.attempt():
                    writer.close()

    def _open(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        log = runs.read_log(self.folder)
        up_to_date = self.up_to_date and (self.folder / TENSORBOARD_FOLDER).exists()
        # Events after the checkpoint are written again; readers drop the first ones from the purge step on.
        purge_step = (log[-1]["images"] if up_to_date and log else 0) + 1
        folders = [self.folder / TENSORBOARD_FOLDER / f"seed-{seed}" for seed in self.seeds]
        self.writers = [SummaryWriter(folder, purge_step=purge_step) for folder in folders]
        for line in [] if up_to_date else log:
            self.add(line)

    def on_report(self, progress: TrainingProgress) -> None:
        """Add the report."""
        with self.attempt():
            self.add(log_line(progress))

    def add(self, line: Mapping[str, Any]) -> None:
        """Add a line of the log: each quantity of each seed, and its images per second, at the images seen so far."""
        for i, writer in enumerate(self.writers):
            writer.add_scalar("images_per_second", line["images_per_second"], line["images"])
            for name in curves.quantities(line):
                if line[name]:
                    value = math.nan if line[name][i] is None else line[name][i]
                    writer.add_scalar(ERROR_TAGS.get(name, f"train/{name}"), value, line["images"])

    def flush(self) -> None:
        """Write to disk what was added."""
        for writer in self.writers:
            with self.attempt():
                writer.flush()
