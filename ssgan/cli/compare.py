"""``ssgan compare``: train methods on the same labelled images, one row of a file for each training."""

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssgan import result_rows
from ssgan.cli import terminal
from ssgan.cli.completion import complete_list
from ssgan.cli.options import (
    AnySetting,
    Backbone,
    DataArgument,
    DataDir,
    DataLocation,
    Engine,
    EngineChoice,
    Epochs,
    ImageSize,
    Json,
    LabelsCsv,
    NamedDevice,
    Preset,
    RayAddress,
    check_epochs,
    choose_backbone,
    choose_views,
    epochs_to_images,
    parse_settings,
    say_without_generator,
)
from ssgan.cli.progress import Shorten, comparison_progress, shorter_training
from ssgan.errors import Interrupted, UserError, counted, signal_number
from ssgan.settings.catalog import BASELINE_NAMES, METHOD_NAMES
from ssgan.settings.config import Config
from ssgan.settings.options import FEATURE_SETTINGS, Options
from ssgan.settings.presets import PRESETS, default_preset, resolve

if TYPE_CHECKING:
    from ssgan.compare.grid import Grid

__all__ = ["CompareOptions", "compare", "run_comparison", "show_comparison", "show_plan"]

DEFAULT_SEED_COUNT = "5"
CELL_WIDTH = 44


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The options of ``ssgan compare``.

    Attributes
    ----------
    location : DataLocation
    out : Path
        The file of rows.
    settings : mapping
        Values of the settings that were named, for every network.
    seed_settings : mapping
        Values of ``seed``, ``seeds`` and ``draw_seed``, if given.
    labels, methods, preset, epochs : str or None
        The options as typed.
    engine : EngineChoice
    ablate, as_json, dry_run : bool
    """

    location: DataLocation
    out: Path
    settings: Mapping[str, Any]
    seed_settings: Mapping[str, Any]
    labels: str | None = None
    methods: str | None = None
    preset: str | None = None
    epochs: str | None = None
    engine: EngineChoice = field(default_factory=EngineChoice)
    ablate: bool = False
    as_json: bool = False
    dry_run: bool = False


def compare(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .jsonl file of rows; existing rows are kept.")],
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help="Numbers of labelled images, or 'all'. [default: the preset's, else every label]"
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help=f"Comma-separated. Networks: {', '.join(METHOD_NAMES)}; classical: {', '.join(BASELINE_NAMES)}. "
            "[default: gan,supervised and the classical]",
            autocompletion=complete_list((*METHOD_NAMES, *BASELINE_NAMES)),
        ),
    ] = None,
    preset: Preset = None,
    backbone: Backbone = None,
    epochs: Epochs = None,
    seed: Annotated[str | None, typer.Option(metavar="S", help="First seed. [default: 0]")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N", help="Models in each cell. [default: 5]")] = None,
    draw_seed: Annotated[
        str | None, typer.Option(metavar="D", help="One draw of labels for all; adds ensembles.")
    ] = None,
    ablate: Annotated[bool, typer.Option("--ablate", help="Also train the GAN without each of its parts.")] = False,
    device: NamedDevice = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    set_: AnySetting = None,
    image_size: ImageSize = None,
    labels_csv: LabelsCsv = None,
    data_dir: DataDir = None,
    as_json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells, and what is finished.")] = False,
) -> None:
    """Compare methods on the same labelled images: one row in FILE for each training, none trained twice."""
    run_comparison(
        CompareOptions(
            location=DataLocation(data=data, labels_csv=labels_csv, data_dir=data_dir),
            out=out,
            settings=parse_settings(set_, device=device, backbone=backbone, image_size=image_size),
            seed_settings=parse_settings(None, seed=seed, seeds=seeds or DEFAULT_SEED_COUNT, draw_seed=draw_seed),
            labels=labels,
            methods=methods,
            preset=preset,
            epochs=epochs,
            engine=EngineChoice(engine, ray_address),
            ablate=ablate,
            as_json=as_json,
            dry_run=dry_run,
        )
    )


def run_comparison(options: CompareOptions) -> None:
    """Train the missing models of a comparison and print a summary; or print which are missing.

    Raises
    ------
    UserError
        For the user's mistakes, before anything is written; or if no training gave a result.
    """
    grid, preset = _build_grid(options)
    if options.dry_run:
        _show_plan(grid, preset, result_rows.read_row_file(options.out), options)
        return
    from ssgan.compare import runner

    with result_rows.open_row_file(options.out) as row_file:
        if row_file.repaired:
            terminal.warn(row_file.repaired)
        for line in [
            *grid.notes,
            *_describe_others(grid, row_file.rows, options.out),
            *terminal.lost_files(grid.data.skipped, grid.data.file_counts),
            *grid.data.source.notes,
        ]:
            terminal.warn(line)
        tasks = runner.plan(grid, row_file.rows)
        if not options.as_json:
            terminal.say(f"{_describe_grid(grid)}, into {options.out}: {_describe_tasks(tasks)}")
            say_without_generator(cell.config for cell in grid.cells)
        try:
            with comparison_progress(options.as_json, _shorter_trainings(grid, options.epochs)) as shown:
                arguments = (grid, row_file, shown.on_progress, options.location.source())
                if options.engine.is_ray:
                    from ssgan.compare.ray_engine import compare_on_ray

                    compare_on_ray(*arguments, options.engine.address)
                else:
                    runner.compare(*arguments)
        except KeyboardInterrupt as stop:
            words = f"{options.out} holds what is finished; the same command continues from there."
            raise Interrupted(words, signal_number(stop)) from None
        cells = runner.summary(grid, row_file.rows)
    folder = options.out.with_name(f"{options.out.stem}-report")
    report_command = shlex.join(["ssgan", "report", str(options.out), "--out", str(folder)])
    if options.as_json:
        answer = {"dataset": grid.data.name, "preset": preset, "seeds": grid.seeds, "out": str(options.out)}
        print(json.dumps({**answer, "trained": _model_count(tasks), "cells": cells, "report": report_command}))
    else:
        show_comparison(cells, grid.data.name)
        terminal.say(f"Report: {report_command}")
    if not any(cell["n"] for cell in cells):
        raise UserError(f"No training gave a result: {options.out} says why.")


def _build_grid(options: CompareOptions) -> tuple["Grid", str]:
    """Load the data; return the grid and the preset. Mistakes that can be found without the data are reported first."""
    from ssgan.compare import grid as grids

    location, settings = options.location, dict(options.settings)
    methods = grids.parse_methods(options.methods)
    labels = None if options.labels is None else grids.parse_labels(options.labels)
    seeds = Config(**options.seed_settings).all_seeds
    _check_options(options, methods)
    if options.preset is None:
        settings = choose_backbone(location, settings, quiet=options.as_json)
        options = dataclasses.replace(options, settings=settings)
    data_config = _data_config(options)
    data = location.load(Options.of(data_config, location.labels_csv), quiet=options.as_json)
    preset = options.preset or default_preset(location.data, data.image_shape, data_config.backbone)
    _check_classes(preset)
    if labels is None:
        labels = [PRESETS[preset].get("labels") or "all"]
    if options.epochs is not None:
        settings["total_images"] = epochs_to_images(options.epochs, len(data.x_train))
    if {*methods} & {*METHOD_NAMES}:
        settings = choose_views(data, preset, settings, {}, quiet=options.as_json)
    draw_seed = options.seed_settings.get("draw_seed")
    grid = grids.build_grid(data, preset, methods, labels, seeds, draw_seed, settings, options.ablate)
    if data_config.backbone is not None:
        from ssgan.inference import features

        features.check_pictures(data, data_config.backbone)
        with terminal.reading_progress(quiet=options.as_json) as progress:
            data = features.apply_backbone(data, data_config, progress, engine=options.engine.for_features())
        grid = dataclasses.replace(grid, data=data)
    if settings.get("device") is not None and not options.engine.is_ray:  # a node may have other devices
        from ssgan.devices import select

        select(settings["device"])
    if settings.get("tensorboard"):
        from ssgan.training import tensorboard

        tensorboard.check_tensorboard()
    return grid, preset


def _check_options(options: CompareOptions, methods: Sequence[str]) -> None:
    """Check everything that can be checked before the data are read."""
    if options.preset is not None:
        resolve(options.preset, {})
        _check_classes(options.preset)
    if options.epochs is not None:
        check_epochs(options.epochs, options.settings)
        epochs_to_images(options.epochs, 1)
        if not {*methods} & {*METHOD_NAMES}:
            raise UserError(f"--epochs {options.epochs} has no effect: --methods names no network.")
    result_rows.check_row_file(options.out)
    if options.location.holds(options.out):
        raise UserError(
            f"--out is {options.out}, among the pictures of {options.location.data}: choose a file elsewhere."
        )


def _check_classes(preset: str) -> None:
    if PRESETS[preset].get("labels") == 0:
        raise UserError(
            f"Preset {preset} is a GAN without classes, which has no error to compare: choose another with --preset."
        )


def _data_config(options: CompareOptions) -> Config:
    """Return a configuration with the settings of the data, and of the features of a backbone and their views."""
    named = {*Options.settings(), *FEATURE_SETTINGS, "augmentation", "device"}
    settings = {name: value for name, value in options.settings.items() if name in named}
    preset = options.preset or ("features" if settings.get("backbone") else None)
    if preset is None or (PRESETS[preset].get("backbone") is None and settings.get("backbone") is None):
        return Config(**{name: value for name, value in settings.items() if name in Options.settings()})
    return resolve(preset, settings)


def _shorter_trainings(grid: "Grid", epochs: str | None) -> Shorten | None:
    """Return a function that names a shorter training; None without networks, or if their lengths differ."""
    lengths = {cell.config.total_images for cell in grid.cells if cell.config is not None}
    return shorter_training(lengths.pop(), epochs) if len(lengths) == 1 else None


def _describe_others(grid: "Grid", rows: Sequence[Mapping[str, Any]], path: Path) -> list[str]:
    """Describe how many rows of the file do not belong to this comparison."""
    foreign, changed = grid.count_other_rows(rows)
    parts = [f"{n:,} of {what}" for n, what in ((foreign, "other data"), (changed, "other settings or draws")) if n]
    if not parts:
        return []
    return [f"{path} also holds rows that stay as they are and are not counted here: {' and '.join(parts)}."]


def _describe_grid(grid: "Grid") -> str:
    return f"{grid.data.name}: {counted(len(grid.cells), 'cell')} of {counted(len(grid.seeds), 'seed')}"


def _describe_tasks(tasks: Sequence[Any]) -> str:
    models = _model_count(tasks)
    return f"{counted(models, 'model')} to train" if models else "nothing left to train"


def _model_count(tasks: Sequence[Any]) -> int:
    return sum(len(task.seeds) for task in tasks)


def _show_plan(grid: "Grid", preset: str, rows: Sequence[Mapping[str, Any]], options: CompareOptions) -> None:
    cells = []
    for cell in grid.cells:
        reasons = [cell.refusal] if cell.refusal else [*grid.failures(cell, rows).values()]
        cells.append(
            {
                "method": cell.name,
                "labels": cell.count,
                "models": len(grid.seeds),
                "finished": len(grid.results(cell, rows)),
                "refused": reasons[0] if reasons else None,
            }
        )
    for line in [*grid.notes, *_describe_others(grid, rows, options.out)]:
        terminal.warn(line)
    if options.as_json:
        print(json.dumps({"dataset": grid.data.name, "preset": preset, "seeds": grid.seeds, "cells": cells}))
    else:
        terminal.say(f"{_describe_grid(grid)}, preset {preset}, into {options.out}")
        show_plan(cells)


def show_comparison(cells: Sequence[Mapping[str, Any]], dataset: str) -> None:
    """Print the result of :func:`ssgan.compare.runner.summary`: a line for each cell of the grid.

    The lowest error of each number of labels is marked, except those of ensembles, which are several models.
    """
    rows, remarks = [], []
    for labels in dict.fromkeys(cell["labels"] for cell in cells):
        same_labels = [cell for cell in cells if cell["labels"] == labels]
        means = [cell["error_mean"] for cell in same_labels if cell["n"] and not cell["members"]]
        for cell in same_labels:
            best = means and cell["error_mean"] == min(means) and not cell["members"] and len(means) > 1
            error = terminal.plus_minus(cell["error_mean"], cell["error_std"])
            rows.append(
                [f"{labels:,}", terminal.cut(cell["method"], CELL_WIDTH), error, "*" if best else "", cell["n"]]
            )
            name = f"{cell['method']}, {counted(labels, 'label')}"
            if cell["diverged"]:
                remarks.append(f"{name}: diverged with seed {', '.join(map(str, cell['diverged']))}")
            for reason in dict.fromkeys(cell["failed"].values()):
                seeds = [str(seed) for seed, text in cell["failed"].items() if text == reason]
                remarks.append(f"{name}, seed {', '.join(seeds)}: {reason}")
    terminal.say(f"Test error on {dataset} in %")
    terminal.say("mean +- standard deviation over n trainings; * marks the lowest mean")
    terminal.table(["labels", "method", "error %", "", "n"], rows, left=2, gap=2)
    for line in remarks:
        terminal.say(line, style="yellow")


def show_plan(cells: Sequence[Mapping[str, Any]]) -> None:
    """Print the cells of a grid, their models, and how many of them are finished."""
    rows = [[f"{c['labels']:,}", terminal.cut(c["method"], CELL_WIDTH), c["models"], c["finished"]] for c in cells]
    terminal.table(["labels", "method", "models", "finished"], rows, left=2)
    for cell in cells:
        if cell["refused"]:
            terminal.say(f"{cell['method']}, {counted(cell['labels'], 'label')}: {cell['refused']}", style="yellow")
