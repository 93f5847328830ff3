"""``ssgan train``: train a classifier into a run folder, or go on with a training."""

import dataclasses
import json
import shlex
import signal
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssgan import runs
from ssgan.cli import output, terminal
from ssgan.cli.options import (
    AnySetting,
    Backbone,
    DataArgument,
    DataDir,
    DataLocation,
    Epochs,
    ImageSize,
    Json,
    LabelsCsv,
    NamedDevice,
    Preset,
    Verbose,
    check_epochs,
    choose_backbone,
    choose_views,
    default_preset,
    epochs_to_images,
    parse_settings,
    say_without_generator,
)
from ssgan.errors import Interrupted, UserError
from ssgan.settings.catalog import METHOD_NAMES, check_augmentation, check_image_shape, check_range
from ssgan.settings.config import Config
from ssgan.settings.options import Options
from ssgan.settings.presets import PRESETS, describe, resolve

if TYPE_CHECKING:
    from ssgan.data.dataset import Data
    from ssgan.data.splits import Split

__all__ = ["TrainOptions", "run_training", "train"]

LABELS_HELP = "Labelled images in total, drawn class-balanced, or 'all'; 0: a GAN without classes."
PICTURE_SHAPE = (32, 32)  # of an image that every network takes
RESULT_FILES = {
    "Generated images": "samples.png",
    "Curves": "curves.png",
    "Densities through training": "density.png",
    "Events for TensorBoard": "tensorboard",
}


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of ``ssgan train``.

    Attributes
    ----------
    location : DataLocation
    settings : mapping
        Values of the settings that were named, by ``--set`` or by options of their own.
    preset, epochs : str or None
        As they were typed.
    out : Path or None
        The run folder; None for a new one under ``runs/``.
    resume : bool
        Whether to go on with the run in ``out``.
    config : Path or None
        An earlier run, or its ``config.json``, whose settings are taken.
    verbose, as_json, dry_run : bool
    """

    location: DataLocation
    settings: Mapping[str, Any]
    preset: str | None = None
    epochs: str | None = None
    out: Path | None = None
    resume: bool = False
    config: Path | None = None
    verbose: bool = False
    as_json: bool = False
    dry_run: bool = False


def train(
    data: DataArgument,
    labels: Annotated[str | None, typer.Option(metavar="N|all", help=LABELS_HELP)] = None,
    method: Annotated[str | None, typer.Option(help=f"One of {', '.join(METHOD_NAMES)}.")] = None,
    preset: Preset = None,
    backbone: Backbone = None,
    epochs: Epochs = None,
    seed: Annotated[str | None, typer.Option(metavar="S", help="First seed: initialisation, order, noise.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N", help="Models trained at once, each with its draw.")] = None,
    draw_seed: Annotated[str | None, typer.Option(metavar="D", help="One draw of labels for all models.")] = None,
    device: NamedDevice = None,
    out: Annotated[Path | None, typer.Option(help="Run folder, new or empty. [default: runs/<n>-...]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings of an earlier run: its folder or config.json.")
    ] = None,
    set_: AnySetting = None,
    folds: Annotated[str | None, typer.Option(metavar="K", help="Measure the error by K folds of the labels.")] = None,
    image_size: ImageSize = None,
    labels_csv: LabelsCsv = None,
    data_dir: DataDir = None,
    verbose: Verbose = False,
    as_json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show every setting and stop.")] = False,
) -> None:
    """Train a classifier from few labels and many images, and report its accuracy."""
    settings = parse_settings(
        set_,
        labels=labels,
        method=method,
        seed=seed,
        seeds=seeds,
        draw_seed=draw_seed,
        device=device,
        folds=folds,
        backbone=backbone,
        image_size=image_size,
    )
    run_training(
        TrainOptions(
            location=DataLocation(data=data, labels_csv=labels_csv, data_dir=data_dir),
            settings=settings,
            preset=preset,
            epochs=epochs,
            out=out,
            resume=resume,
            config=config,
            verbose=verbose,
            as_json=as_json,
            dry_run=dry_run,
        )
    )


def run_training(options: TrainOptions) -> None:
    """Train, or go on with a training, and print the result; or print the settings.

    Raises
    ------
    UserError
        For the user's mistakes, before anything is written; and where every model diverged.
    """
    data, config = _load_data(options)
    device, splits = _check_data(data, config)
    if options.dry_run:
        if options.as_json:
            print(json.dumps(config.to_dict()))
        else:
            terminal.show_settings(describe(config))
        return
    folder = _run_folder(options, data, config)
    with ExitStack() as stack:
        report = runs.read_finished_report(folder, config, data.name, data.sha256)
        if report is None:  # a finished run is only read, so it may lie in a read-only place
            stack.enter_context(runs.lock_run(folder))
            report = runs.read_finished_report(folder, config, data.name, data.sha256)
        _warn_of_data(data, splits, not options.location.is_named, has_folds=bool(config.folds))
        if not options.as_json:
            _announce(data, config, f"on {device}, into {folder}", len(splits[0].indices))
            if report is not None:
                terminal.say("This run is finished: nothing was left to train.")
        if report is None:
            try:
                report = _train(data, config, folder, options.location.source(), options.as_json)
            except KeyboardInterrupt as stop:
                number = stop.number if isinstance(stop, Interrupted) else signal.SIGINT
                raise Interrupted(_how_to_go_on(options, folder, data, config), number) from None
    if options.as_json:
        print(json.dumps(report))
    else:
        _show_result(report, folder, data, options.verbose)
    if len(report["diverged"]) == len(report["seeds"]):
        raise UserError(
            f"Every model diverged, so {folder} holds none to use: lower learning_rate_d and learning_rate_g."
        )


def _load_data(options: TrainOptions) -> tuple["Data", Config]:
    """Load the data and resolve the configuration; mistakes that need no data are found before they are read."""
    if options.resume:
        _check_resume(options)
    check_epochs(options.epochs, options.settings)
    location = options.location
    if not options.resume and options.preset is None and options.config is None:
        settings = choose_backbone(location, options.settings, quiet=options.as_json)
        options = dataclasses.replace(options, settings=settings)
    early = _resolve_without_data(options)
    is_array = location.is_named or Path(location.data).suffix == ".npz"
    # A run that was begun by another program need not have a preset.
    resizes = PRESETS.get(early.preset, {}).get("image_size") and early.backbone is None
    if is_array and "image_size" not in options.settings and resizes:
        raise UserError(
            f"Preset {early.preset} is for files of pictures, which it brings to {early.image_size} pixels, and "
            f"{location.data} holds arrays: choose another preset."
        )
    data = location.load(Options.of(early, location.labels_csv), quiet=options.as_json)
    # Only now are the shape of the images and the length of a pass known.
    settings = dict(options.settings)
    if options.epochs is not None:
        settings["total_images"] = epochs_to_images(options.epochs, len(data.x_train))
    if not options.resume:
        preset, earlier = _preset(options, settings, data.image_shape)
        settings = choose_views(data, preset, settings, earlier, quiet=options.as_json)
    config = _resolve(options, settings, data.image_shape)
    # The depth that was found is a setting of the run, so that all that use the run read files of 16 bits alike.
    return data, config if data.image_depth is None else config.replace(image_depth=data.image_depth)


def _resolve(options: TrainOptions, settings: Mapping[str, Any], image_shape: Sequence[int] = ()) -> Config:
    """Resolve the configuration; where nothing names a preset, the data and the shape of their images do."""
    if options.resume and options.out is not None:
        return _resumed_config(options.out, options.preset, settings)
    preset, earlier = _preset(options, settings, image_shape)
    return resolve(preset, settings, earlier)


def _preset(options: TrainOptions, settings: Mapping[str, Any], shape: Sequence[int]) -> tuple[str, dict[str, Any]]:
    """Return the preset of a new run, and the settings of the earlier run that is named."""
    earlier = {} if options.config is None else runs.read_settings(options.config)
    earlier_preset = earlier.get("preset")
    if options.preset is not None and earlier_preset not in (None, options.preset):
        raise UserError(
            f"--preset {options.preset} does not go with --config {options.config}, a run of preset "
            f"{earlier_preset!r}: choose one."
        )
    named = options.preset or earlier_preset
    return str(named or default_preset(options.location.data, shape, settings.get("backbone"))), earlier


def _resolve_without_data(options: TrainOptions) -> Config:
    """Resolve the configuration as far as that goes before the data are read.

    The shape of a user's own images is not known yet: settings that suit one of the presets for them are accepted.
    """
    try:
        return _resolve(options, options.settings, PICTURE_SHAPE)
    except UserError as mistake:
        try:
            return _resolve(options, options.settings)
        except UserError:
            raise mistake from None


def _check_resume(options: TrainOptions) -> None:
    """Check that ``--out`` names the run to go on with, and that nothing else names settings."""
    if options.out is None:
        raise UserError("--resume needs --out, the folder of the run to go on with.")
    if options.config is not None:
        raise UserError(
            f"--config {options.config} does not go with --resume, which has the settings of {options.out}: choose one."
        )


def _resumed_config(run: Path, preset: str | None, settings: Mapping[str, Any]) -> Config:
    """Read the configuration of a run; settings may repeat it, and change what has no part in a step."""
    if "preset" in settings:
        raise UserError(f"preset={settings['preset']} cannot be set: choose it with --preset.")
    earlier = runs.read_config(run)
    config = earlier.replace(**settings)
    conflicts = earlier.resume_conflicts(config)
    if preset not in (None, earlier.preset):
        conflicts = [f"preset {earlier.preset}, now {preset}", *conflicts]
    if conflicts:
        raise UserError(
            f"{run} was begun with other settings, so it cannot go on: {', '.join(conflicts)}; leave them as they "
            f"were, or begin another run with --config {run}."
        )
    return config


def _check_data(data: "Data", config: Config) -> tuple[str, list["Split"]]:
    """Check that the data suit the configuration; return the device in words, and the labelled images of each model."""
    from ssgan.data.splits import make_splits
    from ssgan.devices import device_name, select

    if config.backbone is not None:
        from ssgan.inference import features

        features.check_pictures(data, config.backbone)
        features.open_backbone(config.backbone, config.image_size, config.device)
    else:
        check_image_shape(config.network, data.image_shape)
        check_augmentation(config.augmentation, data.image_shape)
        check_range(config.network, data.name, data.bounded)
    device = select(config.device, config.dtype, config.precision)
    if config.tensorboard:
        from ssgan.training import tensorboard

        tensorboard.check_tensorboard()
    splits = make_splits(data.y_train, config.labels, config.draw_seeds)
    if config.folds:
        from ssgan.training import folds

        folds.cut_folds(data, config)
    return f"{device_name(device)} ({device})", splits


def _run_folder(options: TrainOptions, data: "Data", config: Config) -> Path:
    """Make a new run folder, or return that of the run to go on with."""
    location = options.location
    if Path(location.data).is_dir() and location.holds(options.out or Path("runs")):
        raise UserError(
            f"The run would lie in {location.data}, among the pictures: choose a folder elsewhere with --out."
        )
    if options.resume and options.out is not None:
        return options.out
    return runs.create_run_folder(options.out, data.name, config)


def _how_to_go_on(options: TrainOptions, folder: Path, data: "Data", config: Config) -> str:
    """Return a sentence about a run that was interrupted: how to go on with it, and how to see what it has made."""
    from ssgan.figures.image_grid import is_drawable

    words = f"{folder} is unfinished; go on with it by: {_resume_command(options, folder)}"
    is_sampled = config.trains_generator and config.backbone is None and is_drawable(data.image_shape)
    if is_sampled and (folder / "checkpoint").exists():
        words += f"; see what it generates by: {shlex.join(['ssgan', 'sample', str(folder)])}"
    if (folder / "checkpoint").exists():
        words += f"; use what it has learned by: {_predict_command(folder, data)}"
        if len(data.x_test):
            score = ["ssgan", "evaluate", str(folder), "--data", options.location.data]
            words += f"; score that by: {shlex.join([*score, *options.location.words()])}"
    return words


def _predict_command(folder: Path, data: "Data") -> str:
    """Return the command that classifies other images by a run; PICTURES stands for them."""
    images = "PICTURES" if len(data.source.image_shape) > 1 else "FILE.npz"
    return shlex.join(["ssgan", "predict", str(folder), images, "--out", "predictions.csv"])


def _resume_command(options: TrainOptions, folder: Path) -> str:
    """Return the command that goes on with a run."""
    location = options.location
    return shlex.join(["ssgan", "train", location.data, *location.words(), "--out", str(folder), "--resume"])


def _warn_of_data(data: "Data", splits: Sequence["Split"], is_own: bool, has_folds: bool) -> None:
    from ssgan.data.checks import data_warnings, warn_of_tests
    from ssgan.data.splits import imbalance_warnings

    for line in [
        *terminal.lost_files(data.skipped, data.file_counts),
        *data.notes,
        *imbalance_warnings([split.y for split in splits], data.classes),
        *(data_warnings(data, len(splits[0].y)) if is_own else []),
        *([] if has_folds else warn_of_tests(data)),
    ]:
        terminal.warn(line)


def _announce(data: "Data", config: Config, place: str, labeled_count: int) -> None:
    """Print what is trained, and the settings that differ from the preset."""
    test_count = data.file_counts.get("tested", {}).get("held out")
    held_out = f" and {test_count:,} held out for testing" if test_count else ""
    labels = "no classes, " if config.unconditional else f"{labeled_count:,} labelled of "
    terminal.say(
        f"{data.name}: {labels}{len(data.x_train):,} images{held_out}, "
        f"method {config.method}, {_model_count(config)}, {config.steps * config.images_per_step:,} images"
    )
    terminal.say(place)
    say_without_generator([config])
    changed = Config(preset=config.preset).diff(config)
    words = [f"{name}={value}" for name, value, _ in describe(config) if name in changed]
    text = "settings: " + " ".join(words)
    for line in textwrap.wrap(text, terminal.WIDTH, break_long_words=False, break_on_hyphens=False):
        terminal.say(line, style="dim")


def _train(data: "Data", config: Config, folder: Path, source: dict[str, str | None], quiet: bool) -> dict[str, Any]:
    """Train the models of the folds, where there are any, and then the run's own; return the report."""
    from ssgan.inference import features
    from ssgan.training import experiment, folds
    from ssgan.training.parts import FailedParts

    with terminal.reading_progress(quiet=quiet) as progress:
        data = features.apply_backbone(data, config, progress)
    extra, failed_parts = None, FailedParts()
    if config.folds:
        if not quiet:
            terminal.say(f"First {config.folds} models, each without a fold of the labelled images")
        with terminal.training_progress(quiet=quiet) as on_report:
            inner = folder / folds.FOLDS_FOLDER
            extra = {"folds": folds.cross_validate(data, config, inner, on_report, source, failed_parts)}
        if not quiet:
            terminal.say(f"Now {_model_count(config)}, from every labelled image")
    with terminal.training_progress(quiet=quiet) as on_report:
        return experiment.run_experiment(
            data, config, folder, on_report, source, extra=extra, failed_parts=failed_parts
        )


def _model_count(config: Config) -> str:
    return "1 model" if config.seeds == 1 else f"{config.seeds} models"


def _show_result(report: Mapping[str, Any], folder: Path, data: "Data", verbose: bool) -> None:
    output.show_report(report, len(data.x_test), verbose)
    for title, name in RESULT_FILES.items():
        if (folder / name).exists():
            terminal.say(f"{title}: {folder / name}")
    if len(report["diverged"]) == len(report["seeds"]):
        return
    if len(data.x_test):
        terminal.say(f"Score again with: {shlex.join(['ssgan', 'evaluate', str(folder)])}")
    terminal.say(f"Classify other images with: {_predict_command(folder, data)}")
