"""Settings of ``ssgan train --resume`` and ``--from``."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssgan import runs
from ssgan.cli import terminal
from ssgan.cli.hints import start_command
from ssgan.cli.options import DataLocation, epochs_to_images
from ssgan.errors import CannotResume, UserError, counted
from ssgan.files import path_from_text
from ssgan.settings.config import Config
from ssgan.settings.options import Options
from ssgan.settings.presets import PRESETS, describe, resolve

if TYPE_CHECKING:
    from ssgan.data.dataset import Data
    from ssgan.training.parent import Parent

__all__ = [
    "announce_parent",
    "check_resume",
    "check_start",
    "name_start",
    "open_named_parent",
    "remove_without_steps",
    "resumed_config",
    "settings_of_child",
    "show_settings",
]

# Files of a run folder before its first step.
START_FILES = {"config.json", "split.json", "labeled.png", "log.jsonl", runs.PARENT_NAME, runs.LOCK_NAME}


def check_resume(out: Path | None, config: Path | None) -> None:
    """Check that ``--out`` names the run to resume, and that ``--config`` is not given.

    Raises
    ------
    UserError
        If either is not the case.
    """
    if out is None:
        raise UserError("--resume needs --out, the folder of the run to resume.")
    if config is not None:
        raise UserError(
            f"--config {config} cannot be combined with --resume, which uses the settings of {out}: choose one."
        )


def resumed_config(run: Path, preset: str | None, settings: Mapping[str, Any]) -> Config:
    """Return the settings of a resumed run; ``settings`` may repeat them, and change those that no step depends on.

    Raises
    ------
    CannotResume
        If ``settings`` would change any other setting.
    UserError
        If there is no such run.
    """
    if "preset" in settings:
        raise UserError(f"preset={settings['preset']} cannot be set: choose it with --preset.")
    earlier = runs.read_config(run)
    config = earlier.replace(**settings)
    conflicts = earlier.resume_conflicts(config)
    if preset not in (None, earlier.preset):
        conflicts = [f"preset {earlier.preset}, now {preset}", *conflicts]
    if conflicts:
        raise CannotResume(
            f"{run} was started with other settings, so it cannot be resumed: {', '.join(conflicts)}; leave them as "
            f"they were, or start another run with {shlex.join(['--config', str(run)])}."
        )
    return config


def check_start(run: Path, out: Path | None, resume: bool, config: Path | None) -> None:
    """Check that ``--from`` is compatible with the other options that name runs.

    Raises
    ------
    UserError
        If it is not.
    """
    if config is not None:
        raise UserError(
            f"--config {config} cannot be combined with --from, which uses the settings of {run}: choose one."
        )
    if resume and out is not None and out.exists():
        record = runs.read_parent(out) if runs.is_run(out) else None
        begun = None if record is None else Path(path_from_text(record["run"]))
        if begun is None or begun.resolve() != run.resolve():
            origin = "from scratch" if begun is None else f"from {begun}"
            raise UserError(f"{out} was started {origin}, not from {run}: omit --from or --resume.")
    elif out is not None and out.resolve() == run.resolve():
        raise UserError(
            f"--from and --out are both {out}, but a run that starts from another one is a run of its own: choose "
            f"another --out, or resume it with --resume."
        )


def open_named_parent(
    run: Path | None,
    out: Path | None,
    resume: bool,
    config: Path | None,
    preset: str | None,
    settings: Mapping[str, Any],
) -> "Parent | None":
    """Open the run of ``--from``; None without one, and for a resumed run, which has already started from its weights.

    Raises
    ------
    UserError
        If the options are not compatible, or there is no such run.
    """
    if resume:
        check_resume(out, config)
    if run is None:
        return None
    check_start(run, out, resume, config)
    if resume:
        return None
    from ssgan.training.parent import check_parent, open_parent

    parent = open_parent(run)
    check_parent(parent, settings_of_child(run, preset, settings))
    return parent


def settings_of_child(run: Path, preset: str | None, settings: Mapping[str, Any]) -> Config:
    """Return the settings of a run that starts from ``run``: those of ``run``, updated by ``settings``.

    Its folds are left out, because its weights were trained on all of them.

    Raises
    ------
    UserError
        If the preset is another one, or a setting is out of range or has no effect.
    """
    earlier = runs.read_config(run)
    if preset not in (None, earlier.preset):
        raise UserError(
            f"--preset {preset} cannot be combined with --from {run}, a run of preset {earlier.preset!r}: choose one."
        )
    settings = {"folds": 0, **settings} if earlier.folds else settings
    if earlier.preset not in PRESETS:  # started in Python
        return earlier.replace(**settings)
    return resolve(earlier.preset, settings, earlier.to_dict())


def announce_parent(parent: "Parent", config: Config, data: "Data") -> None:
    """Print the run from whose weights a run starts, and which classes and networks are new."""
    labels = f" and {counted(parent.labels, 'label')}" if parent.labels else ""
    terminal.say(f"from {parent.run}: its weights after {counted(parent.images, 'image')}{labels}")
    if config.unconditional:
        return
    new, lost = parent.new_classes(data.classes), parent.lost_classes(data.classes)
    if new:
        terminal.warn(f"Classes that {parent.run} does not know start from random weights: {', '.join(new)}")
    if lost:
        terminal.warn(f"Classes of {parent.run} that {data.name} does not have are dropped: {', '.join(lost)}")
    if config.trains_generator and parent.models.G is None:
        terminal.warn(f"{parent.run} has no generator, so that of this run starts from random weights.")


def show_settings(config: Config, data: "Data", parent: "Parent | None", as_json: bool) -> None:
    """Print the settings of a run without starting it, and the run it would start from."""
    if as_json:
        origin = {} if parent is None else {"parent": str(parent.run)}
        print(json.dumps({**config.to_dict(), **origin}))
        return
    terminal.show_settings(describe(config))
    if parent is not None:
        announce_parent(parent, config, data)


def name_start(
    mistake: UserError,
    location: DataLocation,
    run: Path,
    preset: str | None,
    settings: Mapping[str, Any],
    epochs: str | None,
) -> UserError:
    """Return an error of ``--resume`` that also names the command that starts from the weights of the run.

    The command is named only if it would work; the data are loaded to check this.
    """
    from ssgan.data.splits import make_splits
    from ssgan.devices import select
    from ssgan.training.parent import check_parent, open_parent

    try:
        parent = open_parent(run)
        config = settings_of_child(run, preset, settings)
        check_parent(parent, config)
        select(config.device, config.dtype, config.precision)
        data = location.load(Options.of(config, location.labels_csv, parent.learned_images), quiet=True)
        if epochs is not None:
            config = config.replace(total_images=epochs_to_images(epochs, len(data.x_train)))
        check_parent(parent, config, data, make_splits(data.y_train, config.labels, config.draw_seeds))
    except UserError:
        return mistake
    command = start_command(location, run, settings, epochs)
    return UserError(f"{mistake} To start another run from its weights, type `{command}`.")


def remove_without_steps(folder: Path) -> None:
    """Remove the folder of a run without a checkpoint, unless it holds other files than a training starts with."""
    names = {path.name for path in folder.iterdir()}
    if names <= START_FILES:
        for name in names:
            (folder / name).unlink()
        folder.rmdir()
