"""Methods, numbers of labels and seeds compared on the same labelled images: one row of a file for each training.

What the file holds is not trained again. The seeds of a cell train side by side in a run folder beside the file, from
which they go on where they were stopped; their rows are added at once, when the last of them is done. Classical methods
are fitted seed by seed.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssgan import runs
from ssgan.classical import classify
from ssgan.devices import select
from ssgan.errors import Busy, UserError
from ssgan.grids import Grid
from ssgan.inference.metrics import summarize_scores
from ssgan.inference.models import open_run
from ssgan.outcomes import failed_rows, row_of_classical, rows_of_stack
from ssgan.pace import Pace, Progress, Task
from ssgan.result_rows import RowFile
from ssgan.settings.config import Config
from ssgan.training.experiment import run_experiment
from ssgan.training.monitor import TrainingProgress

__all__ = ["compare", "folder_of", "plan", "summary"]

Source = Mapping[str, str | None]


def plan(grid: Grid, rows: Sequence[Mapping[str, Any]]) -> list[Task]:
    """What is left to do, in its order; a cell that failed is tried again."""
    return [Task(cell, seeds) for cell in grid.cells for seeds in grid.outstanding(cell, rows)]


def compare(
    grid: Grid,
    journal: RowFile,
    on_progress: Callable[[Progress], None] = lambda progress: None,
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
    pace = Pace(tasks, on_progress)
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
    grid: Grid, task: Task, beside: Path, on_report: Callable[[TrainingProgress], None], source: Source | None
) -> list[dict[str, Any]]:
    cell, data = task.cell, grid.data
    if cell.refusal:
        raise UserError(cell.refusal)
    splits = [grid.splits[cell.labels, seed] for seed in task.seeds]
    if cell.classical:
        (seed,), (split,) = task.seeds, splits
        outcome = classify(cell.method, data.x_train, data.scale, split, data.x_test, len(data.classes), seed)
        return [row_of_classical(grid, cell, split, outcome, seed)]
    config = task.config
    folder = folder_of(grid, config, beside)
    begun = any((folder / name).exists() for name in ("config.json", "checkpoint", "report.json"))
    try:
        if not begun:
            shutil.rmtree(folder, ignore_errors=True)  # half made
            runs.claim(folder, data.name, config)
        with runs.held(folder):
            report = runs.finished(folder, config, data.name, data.sha256)
            if report is None:
                report = run_experiment(data, config, folder, on_report, source, given=splits)
        models, _ = open_run(folder, select(config.device))
        return rows_of_stack(data, cell, splits, models, {**report, "run": str(folder)}, beside)
    except UserError as mistake:
        if not begun or isinstance(mistake, Busy):
            raise
        raise UserError(f"{str(mistake).rstrip('.')} (delete {folder} to train it from the beginning).") from None


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
