"""``ssgan train``: train a classifier into a run folder, resume a training, or start from another run."""

import dataclasses
import json
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssgan import files, runs
from ssgan.cli import output, processes, start, terminal
from ssgan.cli.hints import how_to_go_on, predict_command
from ssgan.cli.options import (
    AnySetting,
    Backbone,
    DataArgument,
    DataDir,
    DataLocation,
    EarlierRun,
    Engine,
    EngineChoice,
    Epochs,
    ImageSize,
    Json,
    LabelsCsv,
    Method,
    NamedDevice,
    ParentRun,
    Preset,
    RayAddress,
    Verbose,
    check_epochs,
    choose_backbone,
    choose_views,
    epochs_to_images,
    parse_settings,
    say_without_generator,
)
from ssgan.cli.progress import Shorten, shorter_training, training_progress
from ssgan.errors import CannotResume, Interrupted, UserError, counted, memory_message, signal_number
from ssgan.settings.catalog import check_augmentation, check_image_shape, check_range
from ssgan.settings.config import Config
from ssgan.settings.options import Options
from ssgan.settings.presets import PRESETS, default_preset, describe, resolve, resolve_early, resolve_for_unknown_shape

if TYPE_CHECKING:
    from ssgan.data.dataset import Data
    from ssgan.data.splits import Split
    from ssgan.training.parent import Parent

__all__ = ["TrainOptions", "run_training", "train"]

LABELS_HELP = (
    "Labelled images in total, drawn class-balanced, or 'all'; 0: a GAN without classes. [default: the preset's "
    "number, else every label]"
)
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
        Values of the settings that were given, by ``--set`` or by their own options.
    preset, epochs : str or None
        The options as typed.
    out : Path or None
        The run folder; None for a new one under ``runs/``.
    resume : bool
        Whether to resume the run in ``out``.
    config : Path or None
        An earlier run, or its ``config.json``, whose settings are used.
    parent : Path or None
        A run from whose weights and settings to start.
    engine : EngineChoice
    verbose, as_json, dry_run : bool
    """

    location: DataLocation
    settings: Mapping[str, Any]
    preset: str | None = None
    epochs: str | None = None
    out: Path | None = None
    resume: bool = False
    config: Path | None = None
    parent: Path | None = None
    engine: EngineChoice = field(default_factory=EngineChoice)
    verbose: bool = False
    as_json: bool = False
    dry_run: bool = False


def train(
    data: DataArgument,
    labels: Annotated[str | None, typer.Option(metavar="N|all", help=LABELS_HELP)] = None,
    method: Method = None,
    preset: Preset = None,
    backbone: Backbone = None,
    epochs: Epochs = None,
    seed: Annotated[str | None, typer.Option(metavar="S", help="First seed: initialisation, order, noise.")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N", help="Models trained side by side, each with its own draw of labels.")
    ] = None,
    draw_seed: Annotated[str | None, typer.Option(metavar="D", help="One draw of labels for all models.")] = None,
    device: NamedDevice = None,
    out: Annotated[Path | None, typer.Option(help="Run folder, new or empty. [default: runs/<n>-...]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out.")] = False,
    config: EarlierRun = None,
    from_: ParentRun = None,
    set_: AnySetting = None,
    folds: Annotated[
        str | None, typer.Option(metavar="K", help="Measure the error by cross-validation over K folds of the labels.")
    ] = None,
    image_size: ImageSize = None,
    labels_csv: LabelsCsv = None,
    data_dir: DataDir = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    verbose: Verbose = False,
    as_json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show every setting and stop.")] = False,
) -> None:
    """Train a classifier from few labels and many images, and report its accuracy."""
    named = {"labels": labels, "method": method, "seed": seed, "seeds": seeds, "draw_seed": draw_seed, "device": device}
    settings = parse_settings(set_, **named, folds=folds, backbone=backbone, image_size=image_size)
    run_training(
        TrainOptions(
            location=DataLocation(data=data, labels_csv=labels_csv, data_dir=data_dir),
            settings=settings,
            preset=preset,
            epochs=epochs,
            out=out,
            resume=resume,
            config=config,
            parent=from_,
            engine=EngineChoice(engine, ray_address),
            verbose=verbose,
            as_json=as_json,
            dry_run=dry_run,
        )
    )


def run_training(options: TrainOptions) -> None:
    """Train, or resume a training, and print the result; or print the settings.

    Raises
    ------
    UserError
        For the user's mistakes, before anything is written; or if every model diverged.
    """
    try:
        _run_training(options)
    except CannotResume as mistake:
        if not options.resume or options.out is None:
            raise
        asked = (options.preset, options.settings, options.epochs)
        raise start.name_start(mistake, options.location, options.out, *asked) from None


def _run_training(options: TrainOptions) -> None:
    """Train, or resume a training, and print the result; or print the settings."""
    if not options.dry_run and processes.is_restart(options.out):
        options = dataclasses.replace(options, resume=True, config=None)
    parent = start.open_named_parent(
        options.parent, options.out, options.resume, options.config, options.preset, options.settings
    )
    with processes.in_turn():
        data, config = _load_data(options, parent)
        device, splits = _check_data(data, config, parent)
    processes.check_same(data, config)
    options.engine.check_backbone(config.backbone)
    if options.dry_run:
        start.show_settings(config, data, parent, options.as_json)
        return
    if options.out is not None and not processes.is_main():
        processes.follow(data, config, options.out, parent)
        return
    folder = _run_folder(options, data, config, parent)
    with ExitStack() as stack:
        report = runs.read_finished_report(folder, config, data.name, data.sha256)
        if report is None:  # a finished run is only read, so its folder may be read-only
            stack.enter_context(runs.lock_run(folder))
            report = runs.read_finished_report(folder, config, data.name, data.sha256)
        processes.begin(folder, trains=report is None)
        _warn(data, splits, config, not options.location.is_named)
        if not options.as_json:
            _announce(data, config, f"on {device}, into {folder}", len(splits[0].indices))
            if parent is not None:
                start.announce_parent(parent, config, data)
            if report is not None:
                terminal.say("This run is finished: nothing was left to train.")
        if report is None:
            try:
                report = _train(options, data, config, folder, parent)
            except KeyboardInterrupt as stop:
                raise Interrupted(how_to_go_on(options.location, folder, data, config), signal_number(stop)) from None
            except Exception as error:
                if memory_message(error) is not None and not options.resume:
                    start.remove_without_steps(folder)  # so that the corrected command may name it
                raise
            processes.end(folder)
    if options.as_json:
        print(json.dumps(report))
    else:
        _show_result(report, folder, data, options.verbose)
    if len(report["diverged"]) == len(report["seeds"]):
        raise UserError(
            f"Every model diverged, so {folder} holds no model to use: lower learning_rate_d and learning_rate_g."
        )


def _load_data(options: TrainOptions, parent: "Parent | None") -> tuple["Data", Config]:
    """Load the data and resolve the configuration; mistakes that can be found without the data are reported first."""
    check_epochs(options.epochs, options.settings)
    location = options.location
    if not options.resume and options.preset is None and options.config is None and parent is None:
        settings = choose_backbone(location, options.settings, quiet=options.as_json)
        options = dataclasses.replace(options, settings=settings)
    early = _resolve_without_data(options)
    processes.check_config(early)
    is_array = location.is_named or files.is_npz(location.data)
    run = options.parent or options.config
    # A run that another program started need not have a preset.
    resizes = early.image_size if run else PRESETS.get(early.preset, {}).get("image_size")
    if is_array and "image_size" not in options.settings and resizes and early.backbone is None:
        raise UserError(
            f"{run or f'Preset {early.preset}'} is for files of pictures, which it resizes to {early.image_size} "
            f"pixels, and {location.data} holds arrays: choose {'other data' if run else 'another preset'}."
        )
    learned = frozenset() if parent is None else parent.learned_images
    if options.resume and options.out is not None:
        learned = runs.learned_images(options.out)
    data = location.load(Options.of(early, location.labels_csv, learned), quiet=options.as_json)
    # Only now are the shape of the images and the length of an epoch known.
    settings = dict(options.settings)
    if options.epochs is not None:
        settings["total_images"] = epochs_to_images(options.epochs, len(data.x_train))
    if not options.resume and options.parent is None:
        preset, earlier = _preset(options, settings, data.image_shape)
        settings = choose_views(data, preset, settings, earlier, quiet=options.as_json)
    config = _resolve(options, settings, data.image_shape)
    # The depth that was found becomes a setting of the run, so that every command reads 16-bit files in the same way.
    return data, config if data.image_depth is None else config.replace(image_depth=data.image_depth)


def _resolve(options: TrainOptions, settings: Mapping[str, Any], shape: Sequence[int], early: bool = False) -> Config:
    """Resolve the configuration; if no preset is named, the data and the shape of their images determine it."""
    if options.resume and options.out is not None:
        return start.resumed_config(options.out, options.preset, settings)
    if options.parent is not None:
        return start.settings_of_child(options.parent, options.preset, settings)
    preset, earlier = _preset(options, settings, shape)
    return (resolve_early if early else resolve)(preset, settings, earlier)


def _preset(options: TrainOptions, settings: Mapping[str, Any], shape: Sequence[int]) -> tuple[str, dict[str, Any]]:
    """Return the preset of a new run, and the settings of the earlier run, if one is named."""
    earlier = {} if options.config is None else runs.read_settings(options.config)
    earlier_preset = earlier.get("preset")
    if options.preset is not None and earlier_preset not in (None, options.preset):
        raise UserError(
            f"--preset {options.preset} cannot be combined with --config {options.config}, a run of preset "
            f"{earlier_preset!r}: choose one."
        )
    named = options.preset or earlier_preset
    return str(named or default_preset(options.location.data, shape, settings.get("backbone"))), earlier


def _resolve_without_data(options: TrainOptions) -> Config:
    """Resolve the configuration as far as possible before the data are read."""
    return resolve_for_unknown_shape(lambda shape: _resolve(options, options.settings, shape, early=True))


def _check_data(data: "Data", config: Config, parent: "Parent | None") -> tuple[str, list["Split"]]:
    """Check that the data suit the configuration; return the name of the device, and each model's labelled images."""
    from ssgan.data.splits import make_splits
    from ssgan.devices import device_name, select

    processes.check_config(config)
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
    if parent is not None:
        from ssgan.training.parent import check_parent

        check_parent(parent, config, data, splits)
    return f"{device_name(device)} ({device})", splits


def _run_folder(options: TrainOptions, data: "Data", config: Config, parent: "Parent | None") -> Path:
    """Create a new run folder, or return that of the run to resume."""
    location = options.location
    if Path(location.data).is_dir() and location.holds(options.out or Path("runs")):
        raise UserError(
            f"The run would lie in {location.data}, among the pictures: choose a folder elsewhere with --out."
        )
    if options.resume and options.out is not None:
        return options.out
    record = None if parent is None else parent.record(config)
    return runs.create_run_folder(options.out, data.name, config, record)


def _warn(data: "Data", splits: Sequence["Split"], config: Config, is_own: bool) -> None:
    from ssgan.data.checks import data_warnings, warn_of_tests
    from ssgan.data.splits import imbalance_warnings
    from ssgan.devices import precision_warnings, select

    for line in [
        *terminal.lost_files(data.skipped, data.file_counts),
        *data.notes,
        *imbalance_warnings([split.y for split in splits], data.classes),
        *precision_warnings(select(config.device), config.precision, config.convolutional),
        *(data_warnings(data, len(splits[0].y)) if is_own else []),
        *([] if config.folds else warn_of_tests(data)),
    ]:
        terminal.warn(line)


def _announce(data: "Data", config: Config, place: str, labeled_count: int) -> None:
    """Print what is trained, and the settings that differ from those of the preset."""
    test_count = data.file_counts.get("tested", {}).get("held out")
    held_out = f" and {test_count:,} held out for testing" if test_count else ""
    labels = "no classes, " if config.unconditional else f"{labeled_count:,} labelled of "
    terminal.say(
        f"{data.name}: {labels}{counted(len(data.x_train), output.example_noun(data.image_shape))}{held_out}, "
        f"method {config.method}, {_model_count(config)}, {config.steps * config.images_per_step:,} images"
    )
    terminal.say(place)
    say_without_generator([config])
    changed = Config(preset=config.preset).diff(config)
    words = [f"{name}={value}" for name, value, _ in describe(config) if name in changed]
    text = "settings: " + " ".join(words)
    for line in textwrap.wrap(text, terminal.WIDTH, break_long_words=False, break_on_hyphens=False):
        terminal.say(line, style="dim")


def _train(
    options: TrainOptions, data: "Data", config: Config, folder: Path, parent: "Parent | None"
) -> dict[str, Any]:
    """Train the models of the folds, if any, and then the models of the run; return the report."""
    from ssgan.inference import features
    from ssgan.training import experiment, folds
    from ssgan.training.parent import find_parent, inherited_map
    from ssgan.training.parts import FailedParts

    source, quiet = options.location.source(), options.as_json
    parent = find_parent(folder, parent)
    with terminal.reading_progress(quiet=quiet) as progress:
        inherited, engine = inherited_map(folder, config, parent), options.engine.for_features()
        data = features.apply_backbone(data, config, progress, inherited, engine)
    shorten: Shorten | None = None if options.resume else shorter_training(config.total_images, options.epochs)
    extra, failed_parts = None, FailedParts()
    if config.folds:
        if not quiet:
            terminal.say(f"First {config.folds} models, each without a fold of the labelled images")
        inner, rest = folder / folds.FOLDS_FOLDER, config.seeds / config.folds
        with training_progress(quiet, shorten, following=rest) as shown:
            result = folds.cross_validate(data, config, inner, shown.on_report, source, failed_parts, shown.on_step)
            extra = {"folds": result}
        if not quiet:
            terminal.say(f"Now {_model_count(config)}, from every labelled image")
    with training_progress(quiet, shorten) as shown:
        return experiment.run_experiment(
            *(data, config, folder, shown.on_report, source),
            extra=extra,
            failed_parts=failed_parts,
            parent=parent,
            on_step=shown.on_step,
        )


def _model_count(config: Config) -> str:
    return counted(config.seeds, "model")


def _show_result(report: Mapping[str, Any], folder: Path, data: "Data", verbose: bool) -> None:
    output.show_report(report, len(data.x_test), verbose)
    for title, name in RESULT_FILES.items():
        if (folder / name).exists():
            terminal.say(f"{title}: {folder / name}")
    if len(report["diverged"]) == len(report["seeds"]):
        return
    if len(data.x_test):
        terminal.say(f"Score again with: {shlex.join(['ssgan', 'evaluate', str(folder)])}")
    terminal.say(f"Classify other images with: {predict_command(folder, data)}")
