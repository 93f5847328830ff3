"""One training, whole: from data and configuration to a run folder, in one session or several.

K-fold cross-validation over the labelled images: an error with an interval where no image can be spared for testing.

Each of K models learns without one fold, which it sees neither with its labels nor without, and is tested on it; then
the run's own models learn from every label. The K models are one stack, trained side by side in a run folder inside the
run's own.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssgan import runs
from ssgan.data import splits
from ssgan.data.dataset import Data, image_hashes
from ssgan.data.splits import Split, fold_splits, make_splits
from ssgan.devices import device_name, select
from ssgan.errors import UserError
from ssgan.figures import curves, image_grid
from ssgan.figures.image_grid import draw_grid, is_drawable, to_uint8
from ssgan.files import open_table, write_json
from ssgan.inference.metrics import binomial_interval, confusion, measure_diversity, summarize_scores
from ssgan.inference.models import METRICS, finite_mask, open_run
from ssgan.settings.config import Config
from ssgan.settings.presets import PRESETS
from ssgan.training import callbacks
from ssgan.training.monitor import Run, TrainingProgress, check_state
from ssgan.training.trainer import train

__all__ = [
    "FOLDS_FOLDER",
    "Paused",
    "cross_validate",
    "cut_folds",
    "run_experiment",
    "settings_beyond_preset",
    "summarize",
]


LABELED_IMAGES_SHOWN = 200
SAME = 0.1  # spread of generated images, from which on they are spoken of as different


class Paused(Exception):  # noqa: N818 - no error
    """Training has stopped at a checkpoint because its time was up; calling :func:`run_experiment` again goes on."""


def run_experiment(
    data: Data,
    config: Config,
    folder: Path,
    on_report: Callable[[TrainingProgress], None] | None = None,
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
        callbacks.check_tensorboard()
    began = saved = drawn_at = time.monotonic()
    labels = "no classes" if config.unconditional else f"{len(found[0].indices):,} labels"
    about = f"{data.name}, {labels}, {config.method}"

    def follow(report: TrainingProgress) -> None:
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
            if not last and saved - drawn_at >= curves.REDRAW_SECONDS:
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
    telling = callbacks.open_events(folder, config.all_seeds, log, told_before) if config.tensorboard else nullcontext()
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
        return list(given or splits.make_splits(data.y_train, config.labels, config.draw_seeds))
    saved = splits.load(folder / "split.json")
    other = f"{folder / 'split.json'} holds other labels than {data.name}: was the run begun on other data?"
    indices, held_out = [split.indices for split in saved], [split.held_out for split in saved]
    try:
        found = splits.make_splits(data.y_train, config.labels, config.draw_seeds, indices, held_out)
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
        "settings": settings_beyond_preset(config),
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
    if models.G is None or not is_drawable(models.image_shape):
        return None
    each = [partial(lambda one, count: models.select([one]).sample(count, seed)[0], one) for one in models.seeds]
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


def settings_beyond_preset(config: Config) -> dict[str, Any]:
    """What a configuration sets beyond its preset, as JSON has it, without what other columns say."""
    preset = Config(**{**PRESETS.get(config.preset, {}), "preset": config.preset}).replace(method=config.method)
    elsewhere = {"labels", "method", "seed", "seeds", "draw_seed", "device"}
    beyond = {name: ours for name, (_, ours) in preset.diff(config).items() if name not in elsewhere}
    settings: dict[str, Any] = json.loads(json.dumps(beyond))
    return settings


def _draw(path: Path, images: np.ndarray, columns: int = 10) -> None:
    """Write images in [0, 1] as a grid; what is no grey or colour picture is left out."""
    if is_drawable(images.shape[1:]):
        part = path.with_name(f".{path.name}")
        draw_grid(to_uint8(images), columns).save(part, format="png")
        part.replace(path)


FOLDS_FOLDER = "folds"
FOLDS_TABLE = "predictions.csv"
COLUMNS = ("file", "fold", "label", "p_label", "class", "probability")
CONFIDENCE = 0.95


def cut_folds(data: Data, config: Config) -> list[Split]:
    """The labelled images of each fold's model, from those of the run's own models; ``config.seed`` says which fold.

    Raises
    ------
    UserError
        Where they cannot be cut into so many folds.
    """
    whole = make_splits(data.y_train, config.labels, config.draw_seeds[:1])[0]
    if len(np.unique(whole.y)) < 2:
        raise UserError("Every labelled image is of one class, so there is no error to measure by folds.")
    every = image_hashes(data.x_train)
    hashes = [every[row] for row in whole.indices]
    for label, name in enumerate(data.classes):
        different = {digest for digest, y in zip(hashes, whole.y, strict=True) if y == label}
        if len(different) == 1:
            raise UserError(
                f"The class {name!r} has one labelled image, copies aside, and a model that never saw it cannot know "
                f"the class: give it another label, or train without --folds."
            )
    parts = fold_splits(whole, config.folds, config.seed, hashes)
    rows_of = _rows_by_hash(every)
    found = []
    for part in parts:
        if lost := set(whole.y.tolist()) - set(part.y.tolist()):
            raise UserError(
                f"A fold would hold every labelled image of the class {data.classes[min(lost)]!r}, because some of "
                f"them lie in another class too: give each picture one label."
            )
        # Their copies without a label go with them.
        away = np.unique(np.concatenate([rows_of[every[row]] for row in part.held_out]))
        found.append(Split(part.indices, part.y, away))
    return found


def _rows_by_hash(hashes: Sequence[bytes]) -> dict[bytes, list[int]]:
    rows: dict[bytes, list[int]] = {}
    for row, digest in enumerate(hashes):
        rows.setdefault(digest, []).append(row)
    return rows


def _tested(parts: Sequence[Split]) -> list[np.ndarray]:
    """The labelled rows that each fold's model is tested on: those that the others learned from and it did not."""
    whole = np.unique(np.concatenate([part.indices for part in parts]))
    return [np.setdiff1d(whole, part.indices) for part in parts]


def cross_validate(
    data: Data,
    config: Config,
    folder: Path,
    on_report: Callable[[TrainingProgress], None] | None = None,
    source: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Train the models of the folds, or go on with them, and test each on the images that were kept from it.

    ``folder`` becomes a run folder like any other; ``predictions.csv`` in it holds what was predicted for every
    labelled image, those whose label is least believed first: the place to look for wrong labels.

    Parameters
    ----------
    data : Data
    config : Config
        Of the run itself, with ``folds`` above 0.
    folder : Path
    on_report, source
        As :func:`ssgan.training.experiment.run_experiment` takes them.

    Returns
    -------
    dict
        Plain types: ``error`` in percent over all ``labels`` images, each predicted by the model that never saw it, of
        which ``wrong`` were wrong; ``interval``, in which the error lies with 95 % confidence as far as the
        number of images goes (Wilson score); ``errors`` of each fold; ``nll`` and ``ece`` over all; ``confusion``
        [K][K]. A fold whose model diverged is named in ``diverged`` and counts nowhere else. None where all did.

    Raises
    ------
    UserError
        Where data, configuration and folder do not fit.
    """
    parts = cut_folds(data, config)
    inner = config.replace(
        folds=0, frames_every_images=0, labels=None, draw_seed=None, seeds=config.folds, test_share=config.test_share
    )
    with _mendable(folder):
        if not any((folder / name).exists() for name in ("config.json", "checkpoint", "report.json")):
            shutil.rmtree(folder, ignore_errors=True)  # half made
            runs.claim(folder, data.name, inner)
        if runs.finished(folder, inner, data.name, data.sha256) is None:
            run_experiment(data, inner, folder, on_report, source, given=parts)
        models, _ = open_run(folder, select(config.device))
        ours = (inner.all_seeds, [part.sha256 for part in parts])
        if (models.seeds, models.split_sha256) != ours or models.config.resume_conflicts(inner):
            raise UserError(f"{folder} holds models of other folds or settings.")
    tested = _tested(parts)
    p_of = [
        models.select([seed]).probabilities(data.x_train[rows])[0]
        for seed, rows in zip(models.seeds, tested, strict=True)
    ]
    fine = finite_mask(p_of)  # type: ignore[arg-type]
    left = [k for k, ok in enumerate(fine) if ok]
    found: dict[str, Any] = {
        "folds": config.folds,
        "labels": sum(map(len, tested)),
        "labels_each": round(float(np.mean([len(part.indices) for part in parts]))),
        "diverged": [k for k, ok in enumerate(fine) if not ok],
        **dict.fromkeys(("wrong", "interval", "confusion", *METRICS)),
        "errors": [METRICS["error"](p, data.y_train[tested[k]]) if fine[k] else None for k, p in enumerate(p_of)],
        "run": str(folder),
    }
    if not left:
        return found
    rows = np.concatenate([tested[k] for k in left])
    p_NK, y_N = np.concatenate([p_of[k] for k in left]), data.y_train[rows]
    predicted_N = p_NK.argmax(axis=1)
    wrong = int((predicted_N != y_N).sum())
    low, high = binomial_interval(wrong, len(y_N), CONFIDENCE)
    folds = np.concatenate([np.full(len(tested[k]), k) for k in left])
    _write(folder / FOLDS_TABLE, data, rows, folds, p_NK)
    return {
        **found,
        "labels": len(y_N),
        "wrong": wrong,
        "interval": [100 * low, 100 * high],
        "confusion": confusion(y_N, predicted_N, len(data.classes)).tolist(),
        **{name: metric(p_NK, y_N) for name, metric in METRICS.items()},
        "predictions": str(folder / FOLDS_TABLE),
    }


@contextmanager
def _mendable(folder: Path) -> Iterator[None]:
    """What is wrong with the folder of the folds can be mended by making it anew."""
    try:
        yield
    except UserError as mistake:
        raise UserError(f"{str(mistake).rstrip('.')} (delete {folder} to train the folds again).") from None


def _write(path: Path, data: Data, rows: np.ndarray, folds: np.ndarray, p_NK: np.ndarray) -> None:
    """One line for each labelled image, the least believed label first; row numbers where there are no files."""
    y_N = data.y_train[rows]
    p_label = p_NK[np.arange(len(rows)), y_N]
    names: Sequence[Any] = data.files_train or range(len(data.x_train))
    with open_table(str(path), COLUMNS) as write:
        for i in np.lexsort((rows, p_label)):
            best = int(p_NK[i].argmax())
            shown = [float(f"{p:.6g}") for p in (p_label[i], p_NK[i, best])]
            label, predicted = data.classes[y_N[i]], data.classes[best]
            write([names[rows[i]], int(folds[i]), label, shown[0], predicted, shown[1]])
