"""What ``ssgan compare`` is asked for, and what it says on the way and at the end."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssgan import result_rows
from ssgan.cli import options, output, terminal
from ssgan.compare import grid as grids
from ssgan.compare.grid import Grid
from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS, load
from ssgan.errors import UserError
from ssgan.settings.catalog import METHOD_NAMES
from ssgan.settings.config import Config
from ssgan.settings.options import Options
from ssgan.settings.presets import PRESETS, resolve

__all__ = ["Asked", "hold"]


SEEDS = "5"


class Asked(NamedTuple):
    """The options of the command, as they were typed."""

    data: str
    labels: str | None
    methods: str | None
    preset: str | None
    epochs: str | None
    seed: str | None
    seeds: str | None
    draw_seed: str | None
    ablate: bool
    assignments: Sequence[str]
    flags: dict[str, str | None]
    labels_csv: Path | None
    data_dir: Path | None
    out: Path
    as_json: bool
    dry_run: bool


def hold(asked: Asked) -> None:
    """Train what is missing of a comparison and sum it up, or show what is missing.

    Raises
    ------
    UserError
        For the user's mistakes, before anything is written; and where no training has a result.
    """
    grid, preset = _grid(asked)
    if asked.dry_run:
        _show_plan(grid, preset, result_rows.read_row_file(asked.out), asked)
        return
    from ssgan.compare.runner import compare, plan, summary

    with result_rows.open_row_file(asked.out) as held:
        if held.repaired:
            terminal.warn(held.repaired)
        for line in [*grid.notes, *_others(grid, held.rows, asked.out)]:
            terminal.warn(line)
        for line in terminal.lost_files(grid.data.skipped, grid.data.file_counts):
            terminal.warn(line)
        tasks = plan(grid, held.rows)
        if not asked.as_json:
            terminal.say(f"{_what(grid)}, into {asked.out}: {_left(tasks)}")
        try:
            with terminal.watching(quiet=asked.as_json) as on_progress:
                compare(grid, held, on_progress, _source(asked))
        except KeyboardInterrupt:
            terminal.note(f"ssgan: {asked.out} holds what is finished; the same command goes on from there.")
            raise
        found = summary(grid, held.rows)
    page = asked.out.with_name(f"{asked.out.stem}-report")
    report = shlex.join(["ssgan", "report", str(asked.out), "--out", str(page)])
    if asked.as_json:
        named = {"dataset": grid.data.name, "preset": preset, "seeds": grid.seeds, "out": str(asked.out)}
        print(json.dumps({**named, "trained": len(tasks), "cells": found, "report": report}))
    else:
        output.show_comparison(found, grid.data.name)
        terminal.say(f"Report: {report}")
    if not any(cell["n"] for cell in found):
        raise UserError(f"No training gave a result: {asked.out} says why.")


def _grid(asked: Asked) -> tuple[Grid, str]:
    """The cells and the preset; mistakes that can be seen without the data come before they are read."""
    methods = grids.parse_methods(asked.methods)
    numbers = None if asked.labels is None else grids.parse_labels(asked.labels)
    given = options.parse_settings([*asked.assignments], asked.flags)
    seeds = options.parse_settings(
        [], {"seed": asked.seed, "seeds": asked.seeds or SEEDS, "draw_seed": asked.draw_seed}
    )
    every = Config(**seeds).all_seeds
    if asked.preset is not None:
        resolve(asked.preset, {})
        _check_classes(asked.preset)
    if asked.epochs is not None:
        if "total_images" in given:
            raise UserError(
                f"total_images={given['total_images']} and --epochs set the same length twice: leave one away."
            )
        options.epochs_to_images(asked.epochs, 1)
        if not {*methods} & {*METHOD_NAMES}:
            raise UserError(f"--epochs {asked.epochs} would do nothing: --methods names no network.")
    result_rows.check_row_file(asked.out)
    if asked.data not in DATASETS and asked.out.resolve().is_relative_to(Path(asked.data).resolve()):
        raise UserError(f"--out is {asked.out}, among the pictures of {asked.data}: choose a file elsewhere.")
    data = _load(asked, given)
    preset = asked.preset or options.default_preset(asked.data, data.image_shape)
    _check_classes(preset)
    if numbers is None:
        numbers = [PRESETS[preset].get("labels") or "all"]
    if asked.epochs is not None:
        given["total_images"] = options.epochs_to_images(asked.epochs, len(data.x_train))
    grid = grids.build_grid(data, preset, methods, numbers, every, seeds.get("draw_seed"), given, asked.ablate)
    if given.get("device") is not None:
        from ssgan.devices import select

        select(given["device"])
    if given.get("tensorboard"):
        from ssgan.training import callbacks

        callbacks.check_tensorboard()
    return grid, preset


def _check_classes(preset: str) -> None:
    if PRESETS[preset].get("labels") == 0:
        raise UserError(
            f"Preset {preset} is a GAN without classes, which has no error to compare: choose another with --preset."
        )


def _load(asked: Asked, given: Mapping[str, Any]) -> Data:
    of_files = {name: value for name, value in given.items() if name in Options.settings()}
    with terminal.reading(quiet=asked.as_json) as progress:
        return load(asked.data, asked.data_dir, Options.of(Config(**of_files), asked.labels_csv), progress)


def _source(asked: Asked) -> dict[str, str | None]:
    return {
        "data": asked.data if asked.data in DATASETS else str(Path(asked.data).resolve()),
        "data_dir": None if asked.data_dir is None else os.path.abspath(os.path.expanduser(asked.data_dir)),
        "labels_csv": None if asked.labels_csv is None else str(asked.labels_csv.resolve()),
    }


def _others(grid: Grid, rows: Sequence[Mapping[str, Any]], path: Path) -> list[str]:
    foreign, changed = grid.count_other_rows(rows)
    parts = [f"{n:,} of {what}" for n, what in ((foreign, "other data"), (changed, "other settings or draws")) if n]
    if not parts:
        return []
    return [f"{path} also holds rows that stay as they are and are not counted here: {' and '.join(parts)}."]


def _what(grid: Grid) -> str:
    cells = "1 cell" if len(grid.cells) == 1 else f"{len(grid.cells)} cells"
    return f"{grid.data.name}: {cells} of {len(grid.seeds)} seed{'s' if len(grid.seeds) > 1 else ''}"


def _left(tasks: Sequence[Any]) -> str:
    models = sum(len(task.seeds) for task in tasks)
    return f"{models:,} model{'' if models == 1 else 's'} to train" if models else "nothing left to train"


def _show_plan(grid: Grid, preset: str, rows: Sequence[Mapping[str, Any]], asked: Asked) -> None:
    cells = []
    for cell in grid.cells:
        line = {"method": cell.name, "labels": cell.count, "models": len(grid.seeds)}
        failures = list(dict.fromkeys([cell.refusal] if cell.refusal else grid.failures(cell, rows).values()))
        cells.append({**line, "finished": len(grid.results(cell, rows)), "refused": failures[0] if failures else None})
    for words in [*grid.notes, *_others(grid, rows, asked.out)]:
        terminal.warn(words)
    if asked.as_json:
        print(json.dumps({"dataset": grid.data.name, "preset": preset, "seeds": grid.seeds, "cells": cells}))
    else:
        terminal.say(f"{_what(grid)}, preset {preset}, into {asked.out}")
        output.show_plan(cells)
