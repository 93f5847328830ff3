"""One training, whole: from data and configuration to a run folder, in one session or several."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssgan import events, runs
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.devices import device_name
from ssgan.errors import UserError
from ssgan.figures import curves, image_grid
from ssgan.figures.image_grid import drawable, grid, pixels
from ssgan.files import write_json
from ssgan.inference.metrics import measure_diversity, summarize_scores
from ssgan.records import Report, Run
from ssgan.settings.config import Config
from ssgan.settings.presets import PRESETS
from ssgan.states import check_state
from ssgan.trainer import train

__all__ = ["Paused", "chosen", "run_experiment", "summarize"]

LABELED_IMAGES_SHOWN = 200
SAME = 0.1  # spread of generated images, from which on they are spoken of as different


class Paused(Exception):  # noqa: N818 - no error
    """Training has stopped at a checkpoint because its time was up; calling :func:`run_experiment` again goes on."""


def run_experiment(
    data: Data,
    config: Config,
    folder: Path,
    on_report: Callable[[Report], None] | None = None,
    source: Mapping[str, str | None] | None = None,
    pause_after_seconds: float = float("inf"),
    given: Sequence[splits.Split] | None = None,
    beside: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train, evaluate and write everything about it into a run folder; return the report.

    ``config.json`` is there already; it is written anew where a run goes on under other settings. This adds
    ``split.json`` and ``labeled.png`` (where images are labelled), then ``log.jsonl``, ``checkpoint``, ``curves.png``,
    ``frames/`` and ``tensorboard/`` while it trains, then ``samples.png`` (where a generator was trained; of numbers
    in one dimension ``density.png``) and, last, ``report.json``. A folder with a checkpoint is gone on with from
    there, on the labelled images of its ``split.json``: nothing is drawn twice.

    Parameters
    ----------
    data : Data
    config : Config
    folder : Path
        Made by :func:`ssgan.runs.claim`.
    on_report : callable, optional
    source : mapping, optional
        ``data``, ``data_dir`` and ``labels_csv`` from which the data were loaded, for the report: a later
        evaluation loads them from there.
    pause_after_seconds : float
        Stop at the first report after so long.
    given : sequence of Split, optional
        The labelled images of each model, in place of a draw; with a number of ``labels``, that of its draw seed.
    beside : mapping, optional
        What else the report holds.

    Raises
    ------
    UserError
        Where data, configuration and folder do not fit.
    Paused
        Where the time was up before the end.
    """
    found = _splits(data, config, folder, given)
    by_draw = isinstance(config.labels, int) and not config.unconditional
    drawn: list[int | None] = [*config.draw_seeds] if by_draw else [None] * config.seeds
    state = runs.load_checkpoint(folder / "checkpoint") if (folder / "checkpoint").exists() else None
    if state is not None:
        check_state(state, data, config, found)
    if config.tensorboard:
        events.check()
    began = saved = drawn_at = time.monotonic()
    labels = "no classes" if config.unconditional else f"{len(found[0].indices):,} labels"
    about = f"{data.name}, {labels}, {config.method}"

    def follow(report: Report) -> None:
        nonlocal saved, drawn_at
        place = {"step": report.step, "images": report.images, "images_per_second": report.images_per_second}
        means = {k: [v if np.isfinite(v) else None for v in values.tolist()] for k, values in report.means.items()}
        errors = {"errors": report.errors, "errors_raw": report.errors_raw}
        line = {**place, **means, **errors}
        runs.append_rows(folder / "log.jsonl", [line])
        if told is not None:
            told.add(line)
        if image_grid.frame_due(config, report.step):
            image_grid.write_frame(folder, report.models(), report.images)
        if data.normal is not None and curves.density_due(data.normal, config, report.step):
            curves.write_density(folder, report.models(), data.normal, report.images)
        if on_report is not None:
            on_report(report)
        now, last = time.monotonic(), report.step == report.steps
        paused = now - began >= pause_after_seconds and not last
        if paused or last or now - saved >= config.checkpoint_every_seconds:
            if told is not None:
                told.flush()  # what a checkpoint is beyond is not told again
            runs.save_checkpoint(folder / "checkpoint", report.state())
            saved = time.monotonic()
            if not last and saved - drawn_at >= curves.SECONDS_BETWEEN:
                curves.write_curves(folder, about)
                drawn_at = time.monotonic()
        if paused:
            raise Paused(f"{folder} has {report.step:,} of {report.steps:,} steps.")

    # Nothing is written before here: a folder that cannot go on stays as it was.
    told_before = runs.read_config(folder).tensorboard
    runs.reopen(folder, config)
    splits.save(folder / "split.json", found, drawn)
    if len(found[0].y):
        each = max(1, LABELED_IMAGES_SHOWN // len(data.classes))
        shown = [found[0].indices[found[0].y == label][:each] for label in range(len(data.classes))]
        _draw(folder / "labeled.png", data.x_train[np.concatenate(shown)] / data.scale)
    steps_done = 0 if state is None else state["steps_done"]
    runs.trim_log(folder / "log.jsonl", steps_done)
    image_grid.trim_frames(folder, steps_done * config.images_per_step)
    curves.trim_densities(folder, steps_done * config.images_per_step)
    for name in ("report.json", "samples.png"):  # of a shorter training: what is there is of this one
        (folder / name).unlink(missing_ok=True)
    indices, held_out = [split.indices for split in found], [split.held_out for split in found]
    log = runs.read_log(folder) if config.tensorboard else []
    telling = events.opened(folder, config.all_seeds, log, told_before) if config.tensorboard else nullcontext()
    with telling as told:
        run = train(data, config, indices, follow, state, held_out)
    curves.write_curves(folder, about)
    if run.models.G is not None:
        samples = run.models.sample(config.grid_side**2, seed=config.seed)[0]
        if np.isfinite(samples).all():
            _draw(folder / "samples.png", samples, config.grid_side)
    if data.normal is not None:
        curves.draw_densities(
            folder, data.normal, f"Normal({data.normal[0]:g}, {data.normal[1]:g}), seed {config.seed}"
        )
    report = {**summarize(run, folder, drawn), "source": None if source is None else dict(source), **(beside or {})}
    write_json(folder / "report.json", report)
    return report


def _splits(
    data: Data, config: Config, folder: Path, given: Sequence[splits.Split] | None = None
) -> list[splits.Split]:
    """The labelled images of a new run, given or drawn; those of a run that goes on, as they were saved."""
    if not (folder / "split.json").exists():
        return list(given or splits.for_seeds(data.y_train, config.labels, config.draw_seeds))
    saved = splits.load(folder / "split.json")
    other = f"{folder / 'split.json'} holds other labels than {data.name}: was the run begun on other data?"
    indices, held_out = [split.indices for split in saved], [split.held_out for split in saved]
    try:
        found = splits.for_seeds(data.y_train, config.labels, config.draw_seeds, indices, held_out)
    except UserError:  # rows that these data do not have
        raise UserError(other) from None
    for ours, theirs in zip(given or found, saved, strict=True):
        if ours.sha256 != theirs.sha256 or not np.array_equal(ours.held_out, theirs.held_out):
            raise UserError(other)
    return list(given or found)


def summarize(run: Run, folder: Path, drawn: Sequence[int | None]) -> dict[str, Any]:
    """What ``report.json`` holds: the run in numbers, and one row for each seed for ``results/``."""
    config, data = run.config, run.data
    shared = {
        "dataset": data.name,
        "dataset_sha256": data.sha256,
        "labels": len(run.splits[0].indices),
        "method": config.method,
        "preset": config.preset,
        "settings": chosen(config),
        "config_sha256": config.sha256,
        "device": str(run.device),
        "device_name": device_name(run.device),
        "images": config.steps * config.images_per_step,
        "images_per_second": run.images_per_second,
        "seconds": run.seconds,
        **runs.provenance(),
    }
    diversity = _diversity(run)
    rows = [
        {
            **shared,
            "seed": seed,
            "draw_seed": draw,
            "split_sha256": split.sha256,
            "stack": run.seeds,
            "error": run.errors[i],
            "error_raw": run.errors_raw[i],
            "ece": run.ece[i],
            "nll": run.nll[i],
            **{name: values[i] for name, values in run.judgements.items()},
            "diverged": run.diverged.get(seed),
            "collapsed": run.collapsed.get(seed),
            **({} if diversity is None else diversity["models"][i]),
        }
        for i, (seed, draw, split) in enumerate(zip(run.seeds, drawn, run.splits, strict=True))
    ]
    return {
        **shared,
        "classes": list(run.models.classes),
        "seeds": run.seeds,
        **summarize_scores({"error": run.errors, "error_raw": run.errors_raw}),
        **run.judgements,
        "diverged": sorted(run.diverged),
        "collapsed": sorted(run.collapsed),
        "diversity": None if diversity is None else {k: v for k, v in diversity.items() if k != "models"},
        "warnings": [*run.warnings, *_alike(diversity, run.seeds)],
        "run": str(folder),
        "rows": rows,
    }


def _diversity(run: Run) -> dict[str, Any] | None:
    """Measure the diversity of each model's generated images; None where there are none."""
    models, seed = run.models, run.config.seed
    if models.G is None or not drawable(models.image_shape):
        return None
    each = [partial(lambda one, count: models.only([one]).sample(count, seed)[0], one) for one in models.seeds]
    return measure_diversity(each, run.data.x_train, run.data.scale)


def _alike(diversity: Mapping[str, Any] | None, seeds: Sequence[int]) -> list[str]:
    """A sentence for each generator that draws one image again and again."""
    if diversity is None:
        return []
    return [
        f"Seed {seed}: the generated images are all but the same ({found['spread']:.2f} times as far from each other "
        f"as real ones): train longer, or with a lower learning_rate_g."
        for seed, found in zip(seeds, diversity["models"], strict=True)
        if found["spread"] is not None and found["spread"] < SAME
    ]


def chosen(config: Config) -> dict[str, Any]:
    """What a configuration sets beyond its preset, as JSON has it, without what other columns say."""
    preset = Config(**{**PRESETS.get(config.preset, {}), "preset": config.preset}).replace(method=config.method)
    elsewhere = {"labels", "method", "seed", "seeds", "draw_seed", "device"}
    beyond = {name: ours for name, (_, ours) in preset.diff(config).items() if name not in elsewhere}
    settings: dict[str, Any] = json.loads(json.dumps(beyond))
    return settings


def _draw(path: Path, images: np.ndarray, columns: int = 10) -> None:
    """Write images in [0, 1] as a grid; what is no grey or colour picture is left out."""
    if drawable(images.shape[1:]):
        part = path.with_name(f".{path.name}")
        grid(pixels(images), columns).save(part, format="png")
        part.replace(path)
