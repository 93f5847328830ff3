"""What ``ssgan train`` is asked for, and what it says on the way and at the end."""

import json
import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from ssgan import runs
from ssgan.cli import options, output, terminal
from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS, load
from ssgan.data.splits import Split, imbalance_warnings, make_splits
from ssgan.errors import UserError
from ssgan.settings.catalog import check_augmentation, check_image_shape, check_range
from ssgan.settings.config import Config
from ssgan.settings.options import Options
from ssgan.settings.presets import PRESETS, describe

__all__ = ["Asked", "hold"]


LEFT = {
    **{"Generated images": "samples.png", "Curves": "curves.png", "Densities through training": "density.png"},
    "Events for TensorBoard": "tensorboard",
}


class Asked(NamedTuple):
    """The options of the command, as they were typed."""

    data: str
    preset: str | None
    epochs: str | None
    assignments: list[str]
    flags: dict[str, str | None]
    out: Path | None
    resume: bool
    config: Path | None
    labels_csv: Path | None
    data_dir: Path | None
    as_json: bool
    dry_run: bool


def hold(asked: Asked) -> None:
    """Train, or go on with a training, and say what came of it; or show the settings.

    Raises
    ------
    UserError
        For the user's mistakes, before anything is written; and where every model diverged.
    """
    data, settings = _settled(asked)
    where, splits = _checked(data, settings)
    if asked.dry_run:
        if asked.as_json:
            print(json.dumps(settings.to_dict()))
        else:
            terminal.settings(describe(settings))
        return
    folder = _claimed(asked, data, settings)
    with runs.held(folder):
        report = runs.finished(folder, settings, data.name, data.sha256)
        labelled = imbalance_warnings([split.y for split in splits], data.classes)
        for line in [*terminal.lost_files(data.skipped, data.file_counts), *labelled]:
            terminal.warn(line)
        if not asked.as_json:
            _announce(data, settings, f"on {where}, into {folder}", len(splits[0].indices))
            if report is not None:
                terminal.say("This run is finished: nothing was left to train.")
        if report is None:
            try:
                report = _in_stages(data, settings, folder, _source(asked), asked.as_json)
            except KeyboardInterrupt:
                terminal.note(f"ssgan: {folder} is unfinished; go on with it by: {_again(asked, folder)}")
                raise
    if asked.as_json:
        print(json.dumps(report))
    else:
        _sum_up(report, folder, tested=len(data.x_test) > 0)
    if len(report["diverged"]) == len(report["seeds"]):
        raise UserError(
            f"Every model diverged, so {folder} holds none to use: lower learning_rate_d and learning_rate_g."
        )


def _settled(asked: Asked) -> tuple[Data, Config]:
    """The data and the settings; mistakes that can be seen without the data come before they are read."""
    if asked.resume:
        options.check_resume(asked.out, asked.config)
    given = options.parse_settings(asked.assignments, asked.flags)
    if asked.epochs is not None and "total_images" in given:
        raise UserError(f"total_images={given['total_images']} and --epochs set the same length twice: leave one away.")
    wanted = options.Asked(asked.data, asked.preset, asked.out if asked.resume else None, asked.config, given)
    early = wanted.early_settings()
    arrays = asked.data in DATASETS or Path(asked.data).suffix == ".npz"
    if arrays and "image_size" not in given and PRESETS[early.preset].get("image_size"):
        raise UserError(
            f"Preset {early.preset} is for files of pictures, which it brings to {early.image_size} pixels, and "
            f"{asked.data} holds arrays: choose another preset."
        )
    with terminal.reading(quiet=asked.as_json) as progress:
        data = load(asked.data, asked.data_dir, Options.of(early, asked.labels_csv), progress)
    # Only now are the shape of the images and the length of a pass known.
    length = {} if asked.epochs is None else {"total_images": options.epochs_to_images(asked.epochs, len(data.x_train))}
    return data, wanted._replace(given={**given, **length}).settings(data.image_shape)


def _checked(data: Data, settings: Config) -> tuple[str, list[Split]]:
    """In words, where the training will be, and the labelled images of each model."""
    from ssgan.devices import device_name, select

    check_image_shape(settings.network, data.image_shape)
    check_augmentation(settings.augmentation, data.image_shape)
    check_range(settings.network, data.name, data.bounded)
    device = select(settings.device, settings.dtype, settings.precision)
    if settings.tensorboard:
        from ssgan.training import callbacks

        callbacks.check_tensorboard()
    splits = make_splits(data.y_train, settings.labels, settings.draw_seeds)
    if settings.folds:
        from ssgan.training import folds

        folds.cut_folds(data, settings)
    return f"{device_name(device)} ({device})", splits


def _claimed(asked: Asked, data: Data, settings: Config) -> Path:
    """The run folder: a new one, or that of the run to go on with."""
    place = (asked.out or Path("runs")).resolve()
    if asked.data not in DATASETS and Path(asked.data).is_dir() and place.is_relative_to(Path(asked.data).resolve()):
        # Its images would be pictures of the data from then on.
        raise UserError(f"The run would lie in {asked.data}, among the pictures: choose a folder elsewhere with --out.")
    return asked.out if asked.resume and asked.out is not None else runs.claim(asked.out, data.name, settings)


def _source(asked: Asked) -> dict[str, str | None]:
    """Where the data come from, for whoever reads the run later."""
    return {
        "data": asked.data if asked.data in DATASETS else str(Path(asked.data).resolve()),
        "data_dir": None if asked.data_dir is None else os.path.abspath(os.path.expanduser(asked.data_dir)),
        "labels_csv": None if asked.labels_csv is None else str(asked.labels_csv.resolve()),
    }


def _again(asked: Asked, folder: Path) -> str:
    """The command that goes on."""
    places = {"--labels-csv": asked.labels_csv, "--data-dir": asked.data_dir, "--out": folder}
    words = [word for option, path in places.items() if path is not None for word in (option, str(path))]
    return shlex.join(["ssgan", "train", asked.data, *words, "--resume"])


def _announce(data: Data, settings: Config, where: str, labelled: int) -> None:
    apart = data.file_counts.get("tested", {}).get("held out")
    held = f" and {apart:,} held out for testing" if apart else ""
    labels = "no classes, " if settings.unconditional else f"{labelled:,} labelled of "
    terminal.say(
        f"{data.name}: {labels}{len(data.x_train):,} images{held}, "
        f"method {settings.method}, {_models(settings)}, {settings.steps * settings.images_per_step:,} images\n{where}"
    )
    changed = Config(preset=settings.preset).diff(settings)
    words = [f"{name}={value}" for name, value, _ in describe(settings) if name in changed]
    terminal.out.print("settings: " + " ".join(words), style="dim", soft_wrap=False)


def _in_stages(
    data: Data, settings: Config, folder: Path, source: dict[str, str | None], quiet: bool
) -> dict[str, Any]:
    """First the models of the folds, where there are any; then the run's own; the report."""
    from ssgan.training import folds
    from ssgan.training.experiment import run_experiment

    extra = None
    if settings.folds:
        if not quiet:
            terminal.say(f"First {settings.folds} models, each without a fold of the labelled images")
        with terminal.following(quiet=quiet) as on_report:
            inner = folder / folds.FOLDS_FOLDER
            extra = {"folds": folds.cross_validate(data, settings, inner, on_report, source)}
        if not quiet:
            terminal.say(f"Now {_models(settings)}, from every labelled image")
    with terminal.following(quiet=quiet) as on_report:
        return run_experiment(data, settings, folder, on_report, source, extra=extra)


def _models(settings: Config) -> str:
    return "1 model" if settings.seeds == 1 else f"{settings.seeds} models"


def _sum_up(report: dict[str, Any], folder: Path, tested: bool) -> None:
    output.show_report(report)
    for what, name in LEFT.items():
        if (folder / name).exists():
            terminal.say(f"{what}: {folder / name}")
    if tested and len(report["diverged"]) < len(report["seeds"]):
        terminal.say(f"Score again with: ssgan evaluate {folder}")
