"""The log of a training as TensorBoard events, a folder for each seed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssgan.errors import UserError
from ssgan.figures.curves import quantities

__all__ = ["TENSORBOARD_FOLDER", "Events", "check_tensorboard", "open_events"]


TENSORBOARD_FOLDER = "tensorboard"
ERROR_TAGS = {"errors": "error/averaged", "errors_raw": "error/last_step"}  # %


def check_tensorboard() -> None:
    """Whether events can be written.

    Raises
    ------
    UserError
        Where TensorBoard is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UserError(
            "tensorboard is true, but TensorBoard is not installed: pip install 'ssgan[tensorboard]', or leave the "
            "setting away."
        ) from None


class Events:
    """Files of events that are open: see :func:`opened`."""

    def __init__(self, run: Path, seeds: Sequence[int], images: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What lies after the checkpoint that a training goes on from is written again: readers drop the first time.
        self._writers = [
            SummaryWriter(run / TENSORBOARD_FOLDER / f"seed-{seed}", purge_step=images + 1) for seed in seeds
        ]

    def add(self, line: Mapping[str, Any]) -> None:
        """Add a line of the log: each quantity of each seed, and its images per second, at the images seen so far."""
        for i, writer in enumerate(self._writers):
            writer.add_scalar("images_per_second", line["images_per_second"], line["images"])
            for name in quantities(line):
                if line[name]:
                    value = math.nan if line[name][i] is None else line[name][i]
                    writer.add_scalar(ERROR_TAGS.get(name, f"train/{name}"), value, line["images"])

    def flush(self) -> None:
        """Bring to disk what was added."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """End the files."""
        for writer in self._writers:
            writer.close()


@contextmanager
def open_events(run: Path, seeds: Sequence[int], log: Sequence[Mapping[str, Any]], begun: bool) -> Iterator[Events]:
    """Give events that go on after what the run has logged.

    Parameters
    ----------
    run : Path
    seeds : sequence of int
    log : sequence of mapping
        The lines that stay: those up to the checkpoint.
    begun : bool
        Whether the last session wrote events too; otherwise all of the log comes first.
    """
    begun = begun and (run / TENSORBOARD_FOLDER).exists()
    events = Events(run, seeds, log[-1]["images"] if begun and log else 0)
    try:
        for line in [] if begun else log:
            events.add(line)
        yield events
    finally:
        events.close()
