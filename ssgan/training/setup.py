"""Set up the training of a run, new or resumed from its checkpoint; train in processes that write nothing."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssgan import distributed, runs
from ssgan.data.dataset import Data, image_ids
from ssgan.data.splits import Split, check_splits, make_splits
from ssgan.data.splits import load as load_splits
from ssgan.errors import CannotResume, Interrupted, UserError, counted
from ssgan.inference.features import apply_backbone
from ssgan.settings.config import Config
from ssgan.training import interrupts
from ssgan.training.monitor import TrainingProgress
from ssgan.training.parent import Parent, find_parent, inherited_map
from ssgan.training.state import check_state
from ssgan.training.trainer import train

__all__ = ["TrainingSetup", "check_processes", "follow", "set_up"]


class TrainingSetup(NamedTuple):
    """What a training starts from, new or resumed.

    Attributes
    ----------
    data : Data
        Features of a backbone if one is set.
    start : Parent or None
        The run whose weights this one has yet to start from.
    splits : list of Split
        The labelled images of each model.
    state : dict or None
        State of the checkpoint, if there is one.
    """

    data: Data
    start: Parent | None
    splits: list[Split]
    state: dict[str, Any] | None


def set_up(
    data: Data, config: Config, folder: Path, parent: Parent | None = None, splits: Sequence[Split] | None = None
) -> TrainingSetup:
    """Set up a training; parameters and errors are those of :func:`ssgan.training.experiment.run_experiment`."""
    start = find_parent(folder, parent)
    data = apply_backbone(data, config, feature_map=inherited_map(folder, config, start))
    splits = _splits_of_run(data, config, folder, splits)
    return TrainingSetup(data, start, splits, _saved_state(folder, data, config, splits))


def follow(data: Data, config: Config, folder: Path, parent: Parent | None = None) -> None:
    """Train in a process other than the main one, which runs the experiment: only compute, and write nothing.

    Raises
    ------
    UserError
        If the run folder cannot be reached, for example on another machine.
    """
    with distributed.main_first():
        if not (folder / "split.json").exists():
            raise UserError(
                f"A process cannot see {folder}: every machine must reach the same run folder, set with --out."
            )
        data, start, splits, state = set_up(data, config, folder, parent)
    stop = interrupts.current()

    def after_step(_: int) -> bool:
        if stop is not None:
            stop.watch()
        return stop is not None and stop.received is not None

    def on_report(progress: TrainingProgress) -> None:
        if stop is not None and progress.step == progress.steps:
            stop.unwatch()
        if stop is not None and stop.received is not None:
            raise Interrupted(number=stop.received)

    train(data, config, splits, on_report, state, after_step, start=start)


def check_processes(config: Config) -> None:
    """Check that several processes can train this configuration, with the same result as one.

    Raises
    ------
    UserError
        If they cannot.
    """
    count = distributed.count()
    if count == 1:
        return
    models = {"seeds": config.seeds > 1, "folds": config.folds > 0}
    for name in (name for name, several in models.items() if several):
        raise UserError(
            f"{name} is {getattr(config, name)}, but torchrun trains one model with {count} processes: omit "
            f"{name}, or train without torchrun."
        )
    if config.minibatch_kernels:
        raise UserError(
            f"minibatch_kernels is {config.minibatch_kernels}, but minibatch discrimination compares every row of a "
            f"batch with every other, and {count} processes have a part of the rows each: set minibatch_kernels=0, or "
            f"train without torchrun."
        )
    if config.batch_size % count:
        low = config.batch_size // count * count
        sizes = " or ".join(f"{size}" for size in (low, low + count) if size)
        raise UserError(
            f"batch_size is {config.batch_size}, which {count} processes cannot share evenly: set batch_size to "
            f"{sizes}, or start another number of processes."
        )
    if config.seed_strategy == "vmap":
        raise UserError("seed_strategy is vmap, which is for several models: under torchrun set seed_strategy=auto.")
    if config.compile_losses:
        raise UserError(
            f"compile_losses is true, but {counted(count, 'process')} exchange statistics within a loss, which cannot "
            f"be compiled: set compile_losses=false."
        )


def _saved_state(folder: Path, data: Data, config: Config, splits: Sequence[Split]) -> dict[str, Any] | None:
    """Read the checkpoint of a run, if there is one, and check that it belongs to the run."""
    if not (folder / "checkpoint").exists():
        return None
    state = runs.load_checkpoint(folder / "checkpoint")
    check_state(state, data, config, splits)
    record = runs.read_parent(folder)
    if state.get("parent", {}).get("weights_sha256") != (record and record["weights_sha256"]):
        raise UserError(f"The checkpoint and parent.json of {folder} are not of the same run.")
    return state


def _splits_of_run(data: Data, config: Config, folder: Path, splits: Sequence[Split] | None = None) -> list[Split]:
    """Return the splits of a new run, given or drawn; those of a run that is resumed, as they were saved."""
    path = folder / "split.json"
    if not path.exists():
        splits = splits or make_splits(data.y_train, config.labels, config.draw_seeds)
        return [replace(split, ids=image_ids(data.source.x_train[split.indices])) for split in splits]
    saved = load_splits(path)
    other = f"{path} holds other labels than {data.name}: was the run started on other data?"
    try:
        check_splits(saved, data.y_train, config.labels, config.seeds)
    except UserError:
        raise CannotResume(other) from None
    for split, expected in zip(saved, splits or saved, strict=True):
        if split.sha256 != expected.sha256 or not np.array_equal(split.held_out, expected.held_out):
            raise CannotResume(other)
    return saved
