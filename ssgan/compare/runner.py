"""What a finished training says, seed by seed: rows with all that a report shows.

Methods, numbers of labels and seeds compared on the same labelled images: one row of a file for each training.

What the file holds is not trained again. The seeds of a cell train side by side in a run folder beside the file, from
which they go on where they were stopped; their rows are added at once, when the last of them is done. Classical methods
are fitted seed by seed.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssgan import runs
from ssgan.compare.baselines import Outcome, fit_baseline, row
from ssgan.compare.grid import ENSEMBLE, Grid, GridCell
from ssgan.compare.progress import ComparisonProgress, ProgressTracker, StackTask
from ssgan.data.dataset import Data
from ssgan.data.splits import Split
from ssgan.devices import select
from ssgan.errors import UserError
from ssgan.files import write_atomic
from ssgan.inference.metrics import Diversity, best_temperature, confusion, reliability, softmax, summarize_scores
from ssgan.inference.models import METRICS, Models, finite_mask, score
from ssgan.result_rows import RowFile
from ssgan.settings.config import Config
from ssgan.training.experiment import settings_beyond_preset, train_or_resume
from ssgan.training.monitor import TrainingProgress

__all__ = ["compare", "failed_rows", "folder_of", "plan", "row_of_classical", "rows_of_stack", "summary"]


NOT_FINITE = "The model's logits are not finite, though its weights are."


def rows_of_stack(
    data: Data,
    cell: GridCell,
    splits: Sequence[Split],
    models: Models,
    report: Mapping[str, Any],
    beside: Path,
) -> list[dict[str, Any]]:
    """The rows of a stack: that of its ensemble first, where its models share their labels, then one for each seed.

    Each has the ``confusion`` matrix, the bins of ``reliability`` and the names of the ``classes``; that of a model
    also ``temperature``, which :func:`best_temperature` fits to the labelled images that it was trained
    on, and with it ``ece_scaled`` and ``nll_scaled``; that of the first seed its ``samples``, copied there.

    Parameters
    ----------
    data : Data
    cell : Cell
    splits : sequence of Split
        Of each model.
    models : Models
    report : mapping
        Of the run.
    beside : Path
        The file of rows; paths are relative to its folder.
    """
    averaged = cell.ablation is None or not cell.ablation.last
    logits_SNK = models.logits(data.x_test, averaged)
    p_SNK = softmax(logits_SNK)
    found, run = [], Path(report["run"])
    scores = score(p_SNK, data.y_test)
    for i, (seed, split, fine) in enumerate(zip(models.seeds, splits, finite_mask(p_SNK), strict=True)):
        one = {**report["rows"][i], **{name: values[i] for name, values in scores.items()}, **_label(cell)}
        if fine:
            labeled_NK = models.select([seed]).logits(data.x_train[split.indices], averaged)[0]
            one |= {**_looked_at(p_SNK[i], data), **_scaled(logits_SNK[i], data.y_test, labeled_NK, split.y)}
        elif one["diverged"] is None:
            one["failed"] = NOT_FINITE
        found.append({**one, "run": _relative(run, beside)})
    if averaged and (run / "samples.png").exists():
        found[0]["samples"] = _copied(run / "samples.png", beside)
    if cell.ablation is None and len(models.seeds) > 1 and len(set(models.split_sha256)) == 1:
        p_NK = models.ensemble(p_SNK)
        if p_NK is not None:
            found.insert(0, _of_ensemble(p_NK, found, data))
    return found


def row_of_classical(grid: Grid, cell: GridCell, split: Split, outcome: Outcome, seed: int) -> dict[str, Any]:
    """The row of a classical method, with its confusion matrix, and its reliability where it has probabilities."""
    data = grid.data
    found = row(data, split, outcome, seed, grid.draws[cell.labels, seed])
    matrix = confusion(data.y_test, outcome.predicted, len(data.classes)).tolist()
    found |= {"classes": list(data.classes), "confusion": matrix}
    if outcome.probabilities is not None:
        found["reliability"] = reliability(outcome.probabilities.clip(0, 1), data.y_test)
    return found


def failed_rows(grid: Grid, cell: GridCell, seeds: Sequence[int], why: str) -> list[dict[str, Any]]:
    """Rows of a training that gave nothing, with the reason."""
    config, data = cell.config, grid.data
    given: dict[str, Any] = (
        {} if config is None else {"preset": config.preset, "settings": settings_beyond_preset(config)}
    )
    if config is not None:
        given |= {"config_sha256": config.sha256, "images": config.steps * config.images_per_step}
    return [
        {
            **{"dataset": data.name, "dataset_sha256": data.sha256, "labels": cell.count, "method": cell.method},
            **given,
            "seed": seed,
            "draw_seed": grid.draws[cell.labels, seed],
            "split_sha256": grid.splits[cell.labels, seed].sha256,
            "stack": [*seeds],
            "error": None,
            "failed": why,
            **_label(cell),
            **runs.provenance(),
        }
        for seed in seeds
    ]


def _label(cell: GridCell) -> dict[str, Any]:
    return {} if cell.ablation is None else {"ablation": cell.ablation.name}


def _looked_at(p_NK: np.ndarray, data: Data) -> dict[str, Any]:
    matrix = confusion(data.y_test, p_NK.argmax(axis=1), len(data.classes)).tolist()
    return {"classes": list(data.classes), "confusion": matrix, "reliability": reliability(p_NK, data.y_test)}


def _scaled(test_NK: np.ndarray, y_N: np.ndarray, labeled_NK: np.ndarray, y_labeled: np.ndarray) -> dict[str, float]:
    temperature = best_temperature(labeled_NK, y_labeled)
    p_NK = softmax(test_NK / temperature)
    return {"temperature": temperature, **{f"{name}_scaled": METRICS[name](p_NK, y_N) for name in ("ece", "nll")}}


def _of_ensemble(p_NK: np.ndarray, rows: Sequence[Mapping[str, Any]], data: Data) -> dict[str, Any]:
    """The row of models that share their labels, under the seed of the first; those that diverged are no members."""
    first = rows[0]
    of_one = {"temperature", "ece_scaled", "nll_scaled", *Diversity._fields}
    kept = {key: value for key, value in first.items() if key not in of_one}
    alone = dict.fromkeys(("error_raw", "images_per_second", "seconds", "diverged", "collapsed", "samples", "failed"))
    scores = {name: values[0] for name, values in score(p_NK[None], data.y_test).items()}
    members = [row["seed"] for row in rows if row["diverged"] is None and row.get("failed") is None]
    return {
        **kept,
        **alone,
        "method": first["method"] + ENSEMBLE,
        "members": members,
        **scores,
        **_looked_at(p_NK, data),
    }


def _copied(samples: Path, beside: Path) -> str:
    """Copy a picture of samples into a folder beside the file of rows; its path from there."""
    place = beside.with_name(f"{beside.stem}-samples") / f"{samples.parent.name}.png"
    place.parent.mkdir(exist_ok=True)
    write_atomic(place, samples.read_bytes())
    return _relative(place, beside)


def _relative(path: Path, beside: Path) -> str:
    return path.relative_to(beside.parent).as_posix()


Source = Mapping[str, str | None]


def plan(grid: Grid, rows: Sequence[Mapping[str, Any]]) -> list[StackTask]:
    """What is left to do, in its order; a cell that failed is tried again."""
    return [StackTask(cell, seeds) for cell in grid.cells for seeds in grid.outstanding(cell, rows)]


def compare(
    grid: Grid,
    journal: RowFile,
    on_progress: Callable[[ComparisonProgress], None] = lambda progress: None,
    source: Source | None = None,
) -> None:
    """Train what the journal lacks of the grid, and add its rows.

    A training that fails, because its settings or data do not fit or the memory does not hold it, becomes rows that
    say why, and the others go on.

    Parameters
    ----------
    grid : Grid
    journal : Journal
    on_progress : callable, optional
    source : mapping, optional
        As :func:`ssgan.training.experiment.run_experiment` takes it.
    """
    tasks = plan(grid, journal.rows)
    pace = ProgressTracker(tasks, on_progress)
    for task in tasks:
        pace.begin()
        try:
            rows = _rows(grid, task, journal.path, pace.follow, source)
        except (UserError, MemoryError, RuntimeError) as cause:
            rows = failed_rows(grid, task.cell, task.seeds, _why(cause))
        before = grid.failures(task.cell, journal.rows)
        journal.append([row for row in rows if row.get("failed") is None or before.get(row["seed"]) != row["failed"]])
        pace.end(_said(rows), rows[-1].get("seconds"))


def folder_of(grid: Grid, config: Config, beside: Path) -> Path:
    """The run folder of a stack: it says everything that decides its rows, so that another stack never meets it."""
    draw = "" if config.draw_seed is None else f"-draw{config.draw_seed}"
    seeds = f"{config.seed}x{config.seeds}{draw}-{select(config.device, config.dtype, config.precision).type}"
    hashes = f"{config.sha256[:12]}-{grid.data.sha256[:8]}"
    return beside.with_name(f"{beside.stem}.cells") / f"{config.method}-{config.labels}-{seeds}-{hashes}"


def summary(grid: Grid, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the rows of each cell say: ``method``, ``labels``, ``seeds``, ``n``, and errors in percent.

    ``error_mean``, ``error_std`` (n - 1) and ``errors`` are over the seeds with an error; ``diverged`` and ``failed``
    name the others. The ``ensembles`` of a cell have a line of their own.
    """
    found = []
    for cell in grid.cells:
        done, failures = grid.results(cell, rows), grid.failures(cell, rows)
        ours = [done[seed] for seed in grid.seeds if seed in done]
        line = {"method": cell.name, "labels": cell.count, **_scores(ours)}
        line["diverged"] = [row["seed"] for row in ours if row["error"] is None]
        found.append({**line, "failed": failures, "finished": len(ours), "members": None})
        if ensembles := grid.ensembles(cell, rows):
            members = max(len(row["members"]) for row in ensembles)
            line = {"method": f"{cell.name} (ensemble)", "labels": cell.count, **_scores(ensembles)}
            found.append({**line, "diverged": [], "failed": {}, "finished": len(ensembles), "members": members})
    return found


def _scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    whole = summarize_scores({"error": [row["error"] for row in rows], "error_raw": []})
    errors = [error for error in whole["errors"] if error is not None]
    return {"n": len(errors), **{key: whole[key] for key in ("error_mean", "error_std")}, "errors": errors}


def _rows(
    grid: Grid, task: StackTask, beside: Path, on_report: Callable[[TrainingProgress], None], source: Source | None
) -> list[dict[str, Any]]:
    cell, data = task.cell, grid.data
    if cell.refusal:
        raise UserError(cell.refusal)
    splits = [grid.splits[cell.labels, seed] for seed in task.seeds]
    if cell.classical:
        (seed,), (split,) = task.seeds, splits
        outcome = fit_baseline(cell.method, data.x_train, data.scale, split, data.x_test, len(data.classes), seed)
        return [row_of_classical(grid, cell, split, outcome, seed)]
    config = task.config
    folder = folder_of(grid, config, beside)
    models, report = train_or_resume(data, config, folder, on_report, source, splits)
    return rows_of_stack(data, cell, splits, models, {**report, "run": str(folder)}, beside)


def _why(cause: UserError | MemoryError | RuntimeError) -> str:
    """Why a training failed, where that is no fault of ours."""
    if isinstance(cause, UserError):
        return str(cause)
    if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError" or "allocate memory" in str(cause):
        return "There is not enough memory for this: lower seeds, batch_size, init_images or the widths."
    raise cause


def _said(rows: Sequence[Mapping[str, Any]]) -> str:
    """What came out of a training, in few words."""
    models = [row for row in rows if not row.get("members")]
    if why := next((row["failed"] for row in models if row.get("failed") is not None), None):
        return f"failed: {why}"
    found = _scores(models)
    mean, std, lost = found["error_mean"], found["error_std"], len(models) - found["n"]
    words = "diverged" if mean is None else f"error {mean:.2f}" + ("" if std is None else f" +- {std:.2f}") + " %"
    return words + (f", {lost} diverged" if lost and mean is not None else "")
