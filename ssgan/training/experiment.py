"""Train a run: from data and a configuration to a run folder, in one training or several resumed ones.

``config.json`` is written first, with ``parent.json`` if the run starts from the weights of another one: its first
checkpoint is then written before its first step. Training adds ``split.json`` and ``labeled.png`` (if images are
labelled), then ``log.jsonl``, ``checkpoint``, ``curves.png``, ``frames/`` and ``tensorboard/``, then ``samples.png``
(if a generator was trained; ``density.png`` for one-dimensional data), the model card ``README.md`` and, last,
``report.json``. A folder with a checkpoint is resumed from there, on the labelled images of its ``split.json``: nothing
is drawn twice.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssgan import distributed, runs
from ssgan.data.dataset import Data, image_ids
from ssgan.data.splits import Split
from ssgan.data.splits import save as save_splits
from ssgan.devices import device_name, select
from ssgan.errors import Busy, UserError
from ssgan.figures import curves
from ssgan.figures.image_grid import draw_classes, draw_grid, to_uint8
from ssgan.files import open_atomic, write_atomic, write_json
from ssgan.inference.confidence import POOL_IMAGES, Confidence, flagged_share, no_calibration
from ssgan.inference.metrics import measure_diversity, summarize_scores
from ssgan.inference.models import Models, open_run
from ssgan.inference.scores import score
from ssgan.settings.catalog import for_method, is_picture_shape
from ssgan.settings.config import FIELDS, Config
from ssgan.settings.presets import PRESETS
from ssgan.training.callbacks import Paused, run_callbacks
from ssgan.training.model_card import CARD_NAME, model_card
from ssgan.training.monitor import Run, TrainingProgress
from ssgan.training.parent import Parent
from ssgan.training.parts import FailedParts
from ssgan.training.setup import set_up
from ssgan.training.tensorboard import TensorBoard
from ssgan.training.timing import StepProgress
from ssgan.training.trainer import train

__all__ = ["Paused", "make_report", "run_experiment", "save_run", "settings_beyond_preset", "train_or_resume"]

LABELED_IMAGES_SHOWN = 200
UNKNOWN_LABELS = (
    "The run whose weights this one started from did not record which images it learned from: test images may be among "
    "them, and the accuracy too high."
)

SAME_SPREAD = 0.1  # smallest spread of generated images, as a fraction of that of real ones, without a warning


def run_experiment(
    data: Data,
    config: Config,
    folder: Path,
    on_report: Callable[[TrainingProgress], None] | None = None,
    source: Mapping[str, str | None] | None = None,
    pause_after_seconds: float = float("inf"),
    splits: Sequence[Split] | None = None,
    extra: Mapping[str, Any] | None = None,
    failed_parts: FailedParts | None = None,
    parent: Parent | None = None,
    on_step: Callable[[StepProgress], None] | None = None,
) -> dict[str, Any]:
    """Train, evaluate, write the files of the run folder, and return the report.

    Parameters
    ----------
    data, config, folder, on_report, on_step
    source : mapping, optional
        ``data``, ``data_dir`` and ``labels_csv`` from which the data were loaded.
    pause_after_seconds : float
        Stop at the first report after this time.
    splits : sequence of Split, optional
        The labelled images of each model, instead of a draw.
    extra, failed_parts, parent : optional
        Further entries of the report, what failed before, and the run of ``parent.json`` if it is already open.

    Raises
    ------
    UserError, Paused, Interrupted
        If data, settings and folder do not fit; if the time was up, or a signal was received, before the end.
    """
    with distributed.main_first():  # the others read what this process writes
        data, start, splits, state = set_up(data, config, folder, parent, splits)
        failed_parts = failed_parts or FailedParts()
        events = _tensorboard(folder, config, failed_parts)
        # Nothing is written before here: a folder that cannot be resumed is unchanged.
        runs.update_config(folder, config)
        save_splits(folder / "split.json", splits, config.recorded_draw_seeds)
        _begin_session(folder, data, splits[0], failed_parts)
    steps_done, save = 0 if state is None else state["steps_done"], partial(runs.save_checkpoint, folder / "checkpoint")
    arguments = (folder, data, config, splits[0], steps_done, on_report, pause_after_seconds, events, failed_parts)
    with run_callbacks(*arguments) as callbacks:
        reported = (callbacks.on_report, state, callbacks.after_step, failed_parts)
        run = train(data, config, splits, *reported, start=start, on_start=save, on_step=on_step)
    return _write_report(run, folder, source, extra or {})


def _write_report(
    run: Run, folder: Path, source: Mapping[str, str | None] | None, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Draw the samples of a run, write its model card and its report, and return the report."""
    with run.failed_parts.attempt("samples.png"):
        _draw_samples(folder, run)
    report = make_report(run, folder, source, extra)
    with run.failed_parts.attempt(CARD_NAME):
        sizes = len(run.data.x_train), len(run.data.x_test)
        card = model_card(report, *sizes, run.data.source.image_shape, run.config.flips_at_test)
        write_atomic(folder / CARD_NAME, card.encode())
    report = run.failed_parts.added_to(report)
    write_json(folder / "report.json", report)
    return report


def make_report(
    run: Run, folder: Path, source: Mapping[str, str | None] | None, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what ``report.json`` of a run in ``folder`` holds; parameters are those of :func:`run_experiment`."""
    entries = _with_confidence(run, extra or {})
    return {**summarize(run, folder, entries), "source": None if source is None else dict(source)}


def save_run(run: Run, folder: Path, source: Mapping[str, str | None] | None, log: Sequence[dict[str, Any]]) -> None:
    """Write the files of a run folder for a training that did not run in one.

    Parameters
    ----------
    run : Run
    folder : Path
        New or empty.
    source
        As for :func:`run_experiment`.
    log : sequence of dict
        The lines of ``log.jsonl``, as :func:`ssgan.training.callbacks.log_line` makes them.
    """
    runs.create_run_folder(folder, run.data.name, run.config)
    splits = [replace(split, ids=image_ids(run.data.source.x_train[split.indices])) for split in run.splits]
    save_splits(folder / "split.json", splits, run.config.recorded_draw_seeds)
    runs.append_rows(folder / "log.jsonl", log)
    runs.save_checkpoint(folder / "checkpoint", run.state())
    with run.failed_parts.attempt("labeled.png"):
        _draw_labeled(folder / "labeled.png", run.data, run.splits[0])
    _write_report(run, folder, source, {})


def train_or_resume(
    data: Data,
    config: Config,
    folder: Path,
    on_report: Callable[[TrainingProgress], None] | None,
    source: Mapping[str, str | None] | None,
    splits: Sequence[Split],
    on_step: Callable[[StepProgress], None] | None = None,
) -> tuple[Models, dict[str, Any]]:
    """Return the models and the report of a run folder, which is created, resumed or read as needed.

    Parameters are those of :func:`run_experiment`.

    Raises
    ------
    UserError
        If the run cannot be trained, or the folder holds a run of other splits or settings.
    """
    started = any((folder / name).exists() for name in ("config.json", "checkpoint", "report.json"))
    try:
        if not started:
            shutil.rmtree(folder, ignore_errors=True)  # stopped before config.json was written
            runs.create_run_folder(folder, data.name, config)
        with runs.lock_run(folder):
            report = runs.read_finished_report(folder, config, data.name, data.sha256)
            if report is None:
                report = run_experiment(data, config, folder, on_report, source, splits=splits, on_step=on_step)
        models, _ = open_run(folder, select(config.device))
        expected = (config.all_seeds, [split.sha256 for split in splits])
        if (models.seeds, models.split_sha256) != expected or models.config.resume_conflicts(config):
            raise UserError(f"{folder} holds models of other labelled images or settings.")
    except UserError as mistake:
        if not started or isinstance(mistake, Busy):
            raise
        raise UserError(f"{str(mistake).rstrip('.')} (delete {folder} to train it from the beginning).") from None
    return models, report


def _begin_session(folder: Path, data: Data, split: Split, failed_parts: FailedParts) -> None:
    """Draw the labelled images, and remove the results of a shorter training."""
    with failed_parts.attempt("labeled.png"):
        _draw_labeled(folder / "labeled.png", data, split)
    for name in ("report.json", "samples.png", CARD_NAME):
        (folder / name).unlink(missing_ok=True)


def _tensorboard(folder: Path, config: Config, failed_parts: FailedParts) -> TensorBoard | None:
    """Return the callback that writes events, if they are requested."""
    if not config.tensorboard:
        return None
    return TensorBoard(folder, config.all_seeds, runs.read_config(folder).tensorboard, failed_parts)


def _draw_labeled(path: Path, data: Data, split: Split) -> None:
    """Draw the labelled images of a split after the names of their classes."""
    if len(split.y) and is_picture_shape(data.source.image_shape):
        count = max(1, LABELED_IMAGES_SHOWN // len(data.classes))
        x, scale = data.source.x_train, data.source.scale
        images = [x[split.indices[split.y == label][:count]] for label in range(len(data.classes))]
        with open_atomic(path) as stream:
            draw_classes([to_uint8(tiles / scale) for tiles in images], data.classes).save(stream, format="png")


def _draw_samples(folder: Path, run: Run) -> None:
    """Draw the first model's samples, and the densities of the one-dimensional GAN."""
    config, normal = run.config, run.data.normal
    if run.models.G is not None:
        samples = run.models.sample(config.grid_side**2, seed=config.seed)[0]
        if np.isfinite(samples).all():
            _draw(folder / "samples.png", samples, config.grid_side)
    if normal is not None:
        curves.draw_densities(folder, normal, f"Normal({normal[0]:g}, {normal[1]:g}), seed {config.seed}")


def _with_confidence(run: Run, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return further entries of the report: the calibration, and the fraction of images flagged as generated.

    ``calibration`` is that of the folds, if there are any; ``foreign`` has the fraction of the run's own images that
    look generated to each model, ``pool``, and that of labelled images that look generated to the models of the folds
    that never saw them, ``held_out``. Both are None if there are no classes, the second also without a generator.
    """
    entries: dict[str, Any] = {**extra, "calibration": None, "foreign": None}
    if run.config.unconditional:
        return entries
    folds = dict(extra.get("folds") or {})
    entries["calibration"] = folds.pop("calibration", None) or no_calibration(failed=bool(run.config.folds))
    if "folds" in extra:
        entries["folds"] = folds or None
    if run.models.G is not None:
        pool: list[float | None] = [None] * len(run.seeds)
        with run.failed_parts.attempt("images of the pool that look generated"):
            pool = [_flagged_pool(run, seed, split) for seed, split in zip(run.seeds, run.splits, strict=True)]
        flagged = folds.get("flagged")
        images = 0 if flagged is None else folds["labels"]
        entries["foreign"] = {"pool": pool, "held_out": flagged, "held_out_images": images}
    return entries


def _flagged_pool(run: Run, seed: int, split: Split) -> float | None:
    """Return the fraction of a fixed sample of the pool that looks generated to one model."""
    seen = np.setdiff1d(np.arange(len(run.data.x_train)), split.held_out)
    rows = np.sort(np.random.RandomState(0).permutation(seen)[:POOL_IMAGES])
    return flagged_share(run.models.select([seed]).logits(run.data.x_train[rows])[0])


def _scaled_scores(run: Run, temperature: float | None) -> dict[str, list[float | None]]:
    """Return NLL and ECE of the test images at the temperature, for each seed; nothing without one."""
    if temperature is None or not len(run.data.x_test):
        return {}
    p_SNK = Confidence(temperature).probabilities(run.models.logits(run.data.x_test))
    return {f"{name}_scaled": values for name, values in score(p_SNK, run.data.y_test, ["nll", "ece"]).items()}


def summarize(run: Run, folder: Path, entries: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what ``report.json`` holds: the run in numbers, further entries, and one result row for each seed.

    What cannot be measured is None, with the reason in ``failed_parts`` and among the ``warnings``.
    """
    config, data, failed_parts = run.config, run.data, run.failed_parts
    parent = runs.read_parent(folder)
    origin = {} if parent is None else {"parent": parent["weights_sha256"][:12]}
    shared = {
        "dataset": data.name,
        "dataset_sha256": data.sha256,
        "labels": len(run.splits[0].indices),
        "method": config.method,
        "preset": config.preset,
        "settings": {**settings_beyond_preset(config), **origin},
        "config_sha256": config.sha256,
        **data.backbone_entries,
        "device": str(run.device),
        "device_name": device_name(run.device),
        "images": config.steps * config.images_per_step,
        "images_per_second": run.images_per_second,
        "seconds": run.seconds,
        **runs.provenance(),
    }
    diversity = None
    with failed_parts.attempt("diversity of generated images"):
        diversity = _diversity(run)
    entries = dict(entries or {})
    temperature = (entries.get("calibration") or {}).get("temperature")
    scaled: dict[str, list[float | None]] = {}
    with failed_parts.attempt("test scores at the temperature"):
        scaled = _scaled_scores(run, temperature)
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
            **({"temperature": temperature} if scaled else {}),
            **{name: values[i] for name, values in scaled.items()},
            "diverged": run.diverged.get(seed),
            "collapsed": run.collapsed.get(seed),
            **({} if diversity is None else diversity["models"][i]),
        }
        for i, (seed, draw, split) in enumerate(zip(run.seeds, config.recorded_draw_seeds, run.splits, strict=True))
    ]
    report = {
        **shared,
        "classes": list(run.models.classes),
        "seeds": run.seeds,
        **summarize_scores({"error": run.errors, "error_raw": run.errors_raw}),
        **run.judgements,
        "diverged": sorted(run.diverged),
        "collapsed": sorted(run.collapsed),
        "diversity": None if diversity is None else {k: v for k, v in diversity.items() if k != "models"},
        "warnings": [],
        "run": str(folder),
        **({} if parent is None else {"parent": runs.parent_entry(parent)}),
        "rows": rows,
        **entries,
    }
    report = failed_parts.replace_nonfinite(report)
    unknown = parent is not None and parent["labeled"] is None
    warnings = [
        *([UNKNOWN_LABELS] if unknown else []),
        *run.warnings,
        *_warn_of_collapse(diversity, run.seeds),
    ]
    return failed_parts.added_to({**report, "warnings": warnings})


def _diversity(run: Run) -> dict[str, Any] | None:
    """Measure the diversity of each model's generated images; None if there are none."""
    models, seed = run.models, run.config.seed
    if models.G is None or not is_picture_shape(models.image_shape):
        return None
    each = [partial(lambda one, count: models.select([one]).sample(count, seed)[0], one) for one in models.seeds]
    return measure_diversity(each, run.data.x_train, run.data.scale)


def _warn_of_collapse(diversity: Mapping[str, Any] | None, seeds: Sequence[int]) -> list[str]:
    """Return a warning for each generator whose images are nearly the same."""
    if diversity is None:
        return []
    return [
        f"Seed {seed}: the generated images are nearly identical ({model['spread']:.2f} times as far from each other "
        f"as real ones): train longer, or with a lower learning_rate_g."
        for seed, model in zip(seeds, diversity["models"], strict=True)
        if model["spread"] is not None and model["spread"] < SAME_SPREAD
    ]


def settings_beyond_preset(config: Config) -> dict[str, Any]:
    """Return the settings that differ from the preset, in JSON types, without those that have their own columns."""
    # A preset with another method need not be valid by itself, such as fixmatch without views.
    settings = {"method": FIELDS["method"].default, **PRESETS.get(config.preset, {}), "preset": config.preset}
    preset = Config.values_of(for_method(settings, config.method))
    columns = {"labels", "method", "seed", "seeds", "draw_seed", "device"}
    values = {name: getattr(config, name) for name in FIELDS}
    changed = {name: value for name, value in values.items() if value != preset[name] and name not in columns}
    beyond: dict[str, Any] = json.loads(json.dumps(changed))
    return beyond


def _draw(path: Path, images: np.ndarray, columns: int = 10) -> None:
    """Write images in [0, 1] as a grid; nothing if they are not grey or colour images."""
    if is_picture_shape(images.shape[1:]):
        with open_atomic(path) as stream:
            draw_grid(to_uint8(images), columns).save(stream, format="png")
