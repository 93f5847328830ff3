"""Run a comparison and write one row for each training, with all that a report shows.

Trainings whose rows are in the file are not repeated. The seeds of a cell train together in a run folder beside the
file, from which an interrupted training is resumed; their rows are added together at the end. Classical methods are
fitted seed by seed.

:func:`compare` is the local engine, one stack after the other; ``ray_engine`` runs :func:`run_stack` on a Ray cluster.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssgan import runs
from ssgan.compare.baselines import BaselineResult, baseline_row, fit_baseline
from ssgan.compare.grid import ENSEMBLE, Grid, GridCell
from ssgan.compare.progress import ComparisonProgress, ProgressTracker, StackTask
from ssgan.data.dataset import Data
from ssgan.data.splits import Split
from ssgan.devices import select
from ssgan.errors import UserError, counted, memory_message
from ssgan.files import read_file, write_atomic
from ssgan.inference.metrics import Diversity, confusion, reliability, softmax, summarize_scores
from ssgan.inference.models import Models
from ssgan.inference.scores import finite_mask, score
from ssgan.result_rows import RowFile
from ssgan.settings.config import Config
from ssgan.training.experiment import settings_beyond_preset, train_or_resume
from ssgan.training.monitor import TrainingProgress
from ssgan.training.parts import FailedParts
from ssgan.training.timing import StepProgress
from ssgan.training.trainer import time_training

__all__ = [
    "Source",
    "add_rows",
    "classical_row",
    "compare",
    "failed_rows",
    "plan",
    "result_text",
    "run_folder",
    "run_stack",
    "stack_rows",
    "summary",
]


Source = Mapping[str, str | None]
NOT_FINITE = "The model's logits are not finite, though its weights are."


def stack_rows(
    data: Data, cell: GridCell, models: Models, report: Mapping[str, Any], row_path: Path
) -> list[dict[str, Any]]:
    """Return the rows of a stack: one for each seed, after that of the ensemble if the models share their labels.

    Each row has the ``confusion`` matrix, the bins of ``reliability`` and the names of the ``classes``. The row of the
    first seed has the path of its ``samples``; if they fail, it has the reason under ``warnings``. No row has a
    temperature: every label of a draw is trained on, and one fitted to those makes models overconfident.

    Parameters
    ----------
    data : Data
    cell : GridCell
    models : Models
    report : mapping
        Report of the run.
    row_path : Path
        The file of rows; paths in the rows are relative to its folder.
    """
    averaged = cell.ablation is None or not cell.ablation.last
    logits_SNK = models.logits(data.x_test, averaged)
    p_SNK = softmax(logits_SNK)
    rows, run, failed_parts = [], Path(report["run"]), FailedParts()
    scores = score(p_SNK, data.y_test)
    for i, finite in enumerate(finite_mask(p_SNK)):
        row = {**report["rows"][i], **{name: values[i] for name, values in scores.items()}, **_ablation_key(cell)}
        if finite:
            row |= _test_results(p_SNK[i], data)
        elif row["diverged"] is None:
            row["failed"] = NOT_FINITE
        rows.append({**row, "run": _relative(run, row_path)})
    if averaged and (run / "samples.png").exists():
        with failed_parts.attempt("samples"):
            rows[0]["samples"] = _copy_samples(run / "samples.png", row_path)
    if cell.ablation is None and len(models.seeds) > 1 and len(set(models.split_sha256)) == 1:
        p_NK = models.ensemble(p_SNK)
        if p_NK is not None:
            rows.insert(0, _ensemble_row(p_NK, rows, data))
    return [{**row, "warnings": failed_parts.warnings} for row in rows] if failed_parts.reasons else rows


def classical_row(grid: Grid, cell: GridCell, split: Split, result: BaselineResult, seed: int) -> dict[str, Any]:
    """Return the row of a classical method with its confusion matrix, and with reliability if it has probabilities."""
    data = grid.data
    row = baseline_row(data, split, result, seed, grid.draw_seeds[cell.labels, seed])
    matrix = confusion(data.y_test, result.predicted, len(data.classes)).tolist()
    row |= {"classes": list(data.classes), "confusion": matrix}
    if result.probabilities is not None:
        row["reliability"] = reliability(result.probabilities.clip(0, 1), data.y_test)
    return row


def failed_rows(grid: Grid, cell: GridCell, seeds: Sequence[int], reason: str) -> list[dict[str, Any]]:
    """Return the rows of a training without a result, with the reason."""
    config, data = cell.config, grid.data
    config_keys: dict[str, Any] = {}
    if config is not None:
        config_keys |= {"preset": config.preset, "settings": settings_beyond_preset(config)}
        config_keys |= {"config_sha256": config.sha256, "images": config.steps * config.images_per_step}
    return [
        {
            **{"dataset": data.name, "dataset_sha256": data.sha256, "labels": cell.count, "method": cell.method},
            **config_keys,
            **data.backbone_entries,
            "seed": seed,
            "draw_seed": grid.draw_seeds[cell.labels, seed],
            "split_sha256": grid.splits[cell.labels, seed].sha256,
            "stack": [*seeds],
            "error": None,
            "failed": reason,
            **_ablation_key(cell),
            **runs.provenance(),
        }
        for seed in seeds
    ]


def _ablation_key(cell: GridCell) -> dict[str, Any]:
    """Return the key of a row that names its ablation, if any."""
    return {} if cell.ablation is None else {"ablation": cell.ablation.name}


def _test_results(p_NK: np.ndarray, data: Data) -> dict[str, Any]:
    """Return confusion matrix, reliability and classes of the test images."""
    matrix = confusion(data.y_test, p_NK.argmax(axis=1), len(data.classes)).tolist()
    return {"classes": list(data.classes), "confusion": matrix, "reliability": reliability(p_NK, data.y_test)}


def _ensemble_row(p_NK: np.ndarray, rows: Sequence[Mapping[str, Any]], data: Data) -> dict[str, Any]:
    """Return the row of an ensemble under the seed of its first model; diverged models are not members."""
    first = rows[0]
    shared = {key: value for key, value in first.items() if key not in Diversity._fields}
    empty = dict.fromkeys(("error_raw", "images_per_second", "seconds", "diverged", "collapsed", "samples", "failed"))
    scores = {name: values[0] for name, values in score(p_NK[None], data.y_test).items()}
    members = [row["seed"] for row in rows if row["diverged"] is None and row.get("failed") is None]
    return {
        **shared,
        **empty,
        "method": first["method"] + ENSEMBLE,
        "members": members,
        **scores,
        **_test_results(p_NK, data),
    }


def _copy_samples(samples: Path, row_path: Path) -> str:
    """Copy a picture of samples into a folder beside the file of rows; return its relative path."""
    copy = row_path.with_name(f"{row_path.stem}-samples") / f"{samples.parent.name}.png"
    copy.parent.mkdir(exist_ok=True)
    write_atomic(copy, read_file(samples))
    return _relative(copy, row_path)


def _relative(path: Path, row_path: Path) -> str:
    """Return a path relative to the folder of the file of rows."""
    return path.relative_to(row_path.parent).as_posix()


def plan(grid: Grid, rows: Sequence[Mapping[str, Any]]) -> list[StackTask]:
    """List the trainings still to do, in order; failed ones are retried."""
    return [StackTask(cell, seeds) for cell in grid.cells for seeds in grid.outstanding(cell, rows)]


def compare(
    grid: Grid,
    row_file: RowFile,
    on_progress: Callable[[ComparisonProgress], None] | None = None,
    source: Source | None = None,
) -> None:
    """Train the missing rows of the grid, and add them to the file.

    A training that fails, because its settings or data do not fit or memory is too small, is written as rows with the
    reason, and the others continue.

    Parameters
    ----------
    grid : Grid
    row_file : RowFile
    on_progress : callable, optional
        Called with the progress. Each method whose time is unknown is timed first, by steps that are discarded.
    source : mapping, optional
        As in :func:`ssgan.training.experiment.run_experiment`.
    """
    tasks = plan(grid, row_file.rows)
    tracker = ProgressTracker(tasks, on_progress or _ignore)
    if on_progress is not None:
        tracker.measure(lambda task: _time_task(grid, task))
    for task in tasks:
        tracker.begin()
        rows = run_stack(grid, task, row_file.path, source, tracker.follow, tracker.follow_step)
        add_rows(grid, task, rows, row_file)
        tracker.end(result_text(rows), rows[-1].get("seconds"))


def run_stack(
    grid: Grid,
    task: StackTask,
    row_path: Path,
    source: Source | None = None,
    on_report: Callable[[TrainingProgress], None] | None = None,
    on_step: Callable[[StepProgress], None] | None = None,
) -> list[dict[str, Any]]:
    """Fit or train one stack, or resume it, and return its rows; if it fails, rows with the reason.

    Every engine runs this function: it can be pickled, and writes to the run folder of the stack and to the folder of
    samples, never to the file of rows.

    Parameters
    ----------
    grid : Grid
        One with only the splits of this stack is enough.
    task : StackTask
    row_path : Path
        The file of rows, beside which the run folder is.
    source, on_report, on_step
        As in :func:`ssgan.training.experiment.run_experiment`.
    """
    try:
        return _train_stack(grid, task, row_path, source, on_report, on_step)
    except (UserError, MemoryError, RuntimeError) as cause:
        return failed_rows(grid, task.cell, task.seeds, _failure_reason(cause))


def add_rows(grid: Grid, task: StackTask, rows: Sequence[dict[str, Any]], row_file: RowFile) -> None:
    """Add the rows of a stack to the file, without failures that it holds already."""
    before = grid.failures(task.cell, row_file.rows)
    row_file.append([row for row in rows if row.get("failed") is None or before.get(row["seed"]) != row["failed"]])


def _ignore(progress: ComparisonProgress) -> None:
    """Ignore the progress."""


def _time_task(grid: Grid, task: StackTask) -> float | None:
    """Estimate the seconds of a training of networks; None if that is not known."""
    try:
        return time_training(grid.data, task.config, _splits(grid, task))
    except (UserError, MemoryError, RuntimeError):  # it will be reported when the training fails
        return None


def _splits(grid: Grid, task: StackTask) -> list[Split]:
    """Return the labelled images of each model of a training."""
    return [grid.splits[task.cell.labels, seed] for seed in task.seeds]


def run_folder(grid: Grid, config: Config, row_path: Path) -> Path:
    """Return the run folder of a stack; its name holds all that the rows depend on, so no two stacks share it."""
    draw = "" if config.draw_seed is None else f"-draw{config.draw_seed}"
    seeds = f"{config.seed}x{config.seeds}{draw}-{select(config.device, config.dtype, config.precision).type}"
    hashes = f"{config.sha256[:12]}-{grid.data.sha256[:8]}"
    return row_path.with_name(f"{row_path.stem}.cells") / f"{config.method}-{config.labels}-{seeds}-{hashes}"


def summary(grid: Grid, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Summarise the rows of each cell: ``method``, ``labels``, ``n``, and errors in percent.

    ``error_mean``, ``error_std`` (n - 1) and ``errors`` are over the seeds with an error; ``diverged`` and ``failed``
    list the other seeds. The ensembles of a cell have a line of their own, with their number of ``members``.
    """
    lines = []
    for cell in grid.cells:
        results, failures = grid.results(cell, rows), grid.failures(cell, rows)
        finished = [results[seed] for seed in grid.seeds if seed in results]
        line = {"method": cell.name, "labels": cell.count, **_error_summary(finished)}
        line["diverged"] = [row["seed"] for row in finished if row["error"] is None]
        lines.append({**line, "failed": failures, "finished": len(finished), "members": None})
        if ensembles := grid.ensembles(cell, rows):
            members = max(len(row["members"]) for row in ensembles)
            line = {"method": f"{cell.name} (ensemble)", "labels": cell.count, **_error_summary(ensembles)}
            lines.append({**line, "diverged": [], "failed": {}, "finished": len(ensembles), "members": members})
    return lines


def _error_summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return number, mean, standard deviation and list of the errors of rows."""
    scores = summarize_scores({"error": [row["error"] for row in rows], "error_raw": []})
    errors = [error for error in scores["errors"] if error is not None]
    return {"n": len(errors), **{key: scores[key] for key in ("error_mean", "error_std")}, "errors": errors}


def _train_stack(
    grid: Grid,
    task: StackTask,
    row_path: Path,
    source: Source | None,
    on_report: Callable[[TrainingProgress], None] | None,
    on_step: Callable[[StepProgress], None] | None,
) -> list[dict[str, Any]]:
    """Fit or train one stack, or resume it, and return its rows; raise the error of one that fails."""
    cell, data = task.cell, grid.data
    if cell.refusal:
        raise UserError(cell.refusal)
    splits = _splits(grid, task)
    if cell.classical:
        (seed,), (split,) = task.seeds, splits
        of_backbone = data.feature_map is not None
        arrays = (data.x_train, data.scale, split, data.x_test, len(data.classes))
        result = fit_baseline(cell.method, *arrays, seed, of_backbone=of_backbone)
        return [classical_row(grid, cell, split, result, seed)]
    config = task.config
    folder = run_folder(grid, config, row_path)
    models, report = train_or_resume(data, config, folder, on_report, source, splits, on_step)
    return stack_rows(data, cell, models, {**report, "run": str(folder)}, row_path)


def _failure_reason(cause: UserError | MemoryError | RuntimeError) -> str:
    """Return why a training failed; raise an error that is a bug of the program."""
    if isinstance(cause, UserError):
        return str(cause)
    if message := memory_message(cause):
        return message
    raise cause


def result_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Describe the result of a training in a few words."""
    models = [row for row in rows if not row.get("members")]
    if reason := next((row["failed"] for row in models if row.get("failed") is not None), None):
        return f"failed: {reason}"
    errors = _error_summary(models)
    mean, std, diverged = errors["error_mean"], errors["error_std"], len(models) - errors["n"]
    text = "diverged" if mean is None else f"error {mean:.2f}" + ("" if std is None else f" +- {std:.2f}") + " %"
    text += f", {diverged} diverged" if diverged and mean is not None else ""
    unreached = max((row.get("estimator", {}).get("unreached_tests", 0) for row in models), default=0)
    return text + (f", no label reaches {counted(unreached, 'test image')}" if unreached else "")
