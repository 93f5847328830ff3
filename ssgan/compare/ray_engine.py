"""Run a comparison on a Ray cluster: each stack is a task, and its rows are those of the local engine.

Only this process writes the file of rows. A task whose node or process is lost is run again by Ray. If the folder of
the file is the same on its node, as on a shared file system, it resumes from the checkpoint of the run folder.
Otherwise it trains in a folder of its node from the beginning, and returns the files of the run with the rows.
"""

import os
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ssgan
from ssgan import clusters, runs
from ssgan.compare.grid import Grid
from ssgan.compare.progress import ComparisonProgress, ConcurrentTracker, StackTask
from ssgan.compare.runner import Source, add_rows, failed_rows, plan, result_text, run_folder, run_stack
from ssgan.data.dataset import Data
from ssgan.data.splits import Split
from ssgan.errors import Busy, counted, memory_message
from ssgan.files import read_file, write_atomic
from ssgan.result_rows import RowFile
from ssgan.training.interrupts import stop_between_steps
from ssgan.training.monitor import TrainingProgress

__all__ = ["StackJob", "StackResult", "compare_on_ray", "run_job"]

RETRIES = 10  # retries of a task whose node or process is lost
POLL_SECONDS = 1.0
STOP_SECONDS = 30.0  # longest wait for the checkpoints of trainings that are stopped
LOCK_SECONDS = 60.0  # longest wait for the end of a process whose node is lost


class StackJob(NamedTuple):
    """Stacks of one run folder, one after the other, with all that they need besides the data.

    Attributes
    ----------
    tasks : list of StackTask
        More than one if a cell evaluates the training of another.
    splits, draw_seeds
        As in :class:`~ssgan.compare.grid.Grid`, for these tasks.
    row_path : str
        Absolute path of the file of rows.
    token : str
        Name of a file beside it, by which a node knows that it sees the same folder.
    source : mapping or None
    version : str
        Version of ssgan.
    """

    tasks: list[StackTask]
    splits: Mapping[tuple[int | str, int], Split]
    draw_seeds: Mapping[tuple[int | str, int], int | None]
    row_path: str
    token: str
    source: Source | None
    version: str


class StackResult(NamedTuple):
    """The rows of each task of a job, the warnings of its trainings, and the files that the folder of rows lacks."""

    rows: list[list[dict[str, Any]]]
    warnings: list[str]
    files: dict[str, bytes]


def compare_on_ray(
    grid: Grid,
    row_file: RowFile,
    on_progress: Callable[[ComparisonProgress], None] | None = None,
    source: Source | None = None,
    address: str | None = None,
) -> None:
    """Train the missing rows of the grid on a Ray cluster, as :func:`ssgan.compare.runner.compare` does locally.

    Each task takes one processor, and one GPU if the device is ``cuda``, or ``auto`` and the cluster has any.

    Parameters
    ----------
    grid, row_file, on_progress, source
        As for the local engine.
    address : str, optional
        As :func:`ssgan.clusters.connect` takes it.

    Raises
    ------
    UserError
        If the cluster cannot be used, or a node has another version of ssgan.
    """
    tasks = plan(grid, row_file.rows)
    if not tasks:
        return
    with clusters.connect(address) as ray, _token_beside(row_file.path) as token:
        jobs = _make_jobs(grid, tasks, row_file.path, token, source)
        tracker = ConcurrentTracker(tasks, on_progress or (lambda _: None), clusters.count_processors(ray))
        run = ray.remote(run_job)
        data, running = ray.put(grid.data), {}
        for job in jobs:
            gpus = max(_gpus(ray, task) for task in job.tasks)
            options = {"num_cpus": 1, "num_gpus": gpus, "max_retries": RETRIES, "name": job.tasks[0].description}
            running[run.options(**options).remote(data, job)] = job
        tracker.begin()
        try:
            while running:
                for finished in ray.wait([*running], timeout=POLL_SECONDS)[0]:
                    _add_result(ray, grid, running.pop(finished), finished, row_file, tracker)
        except BaseException as error:
            for task in running:
                ray.cancel(task)  # a training ends after its step, at a checkpoint
            stopped = ray.wait([*running], num_returns=len(running), timeout=STOP_SECONDS)[0] if running else []
            if isinstance(error, KeyboardInterrupt):
                _add_finished(ray, grid, running, stopped, row_file, tracker)
            raise


def run_job(data: Data, job: StackJob) -> StackResult:
    """Train the stacks of a job on a node, and return their rows.

    Raises
    ------
    UserError
        If the node has another version of ssgan.
    """
    clusters.prepare_worker(job.version)
    seeds = [seed for task in job.tasks for seed in task.seeds]
    grid = Grid(data, [task.cell for task in job.tasks], seeds, job.splits, job.draw_seeds, [])
    told: list[str] = []

    def on_report(progress: TrainingProgress) -> None:
        told.extend(progress.warnings)

    with _place_of(job) as row_path, stop_between_steps(), warnings.catch_warnings():
        # Data from the object store are read-only; nothing writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        if str(row_path) == job.row_path:
            _wait_for_lost_process(grid, job.tasks[0], row_path)
        rows = [run_stack(grid, task, row_path, job.source, on_report) for task in job.tasks]
        files = {} if str(row_path) == job.row_path else _read_files(row_path.parent)
    return StackResult(rows, told, files)


def _make_jobs(
    grid: Grid, tasks: Sequence[StackTask], row_path: Path, token: str, source: Source | None
) -> list[StackJob]:
    """Make one job of the tasks of each run folder."""
    groups: dict[Any, list[StackTask]] = {}
    for number, task in enumerate(tasks):
        trains = not task.cell.classical and task.cell.config is not None
        groups.setdefault((task.config.sha256, *task.seeds) if trains else number, []).append(task)
    jobs = []
    for group in groups.values():
        keys = [(task.cell.labels, seed) for task in group for seed in task.seeds]
        splits, draws = {key: grid.splits[key] for key in keys}, {key: grid.draw_seeds[key] for key in keys}
        jobs.append(StackJob(group, splits, draws, os.path.abspath(row_path), token, source, ssgan.__version__))
    return jobs


def _gpus(ray: Any, task: StackTask) -> int:
    """Return how many GPUs a task needs; a classical fit needs none."""
    if task.cell.classical or task.cell.config is None:
        return 0
    return clusters.gpus_for(ray, task.cell.config.device)


def _add_result(
    ray: Any, grid: Grid, job: StackJob, finished: Any, row_file: RowFile, tracker: ConcurrentTracker
) -> None:
    """Write the files and rows of a finished job, and report it."""
    try:
        result: StackResult = ray.get(finished)
    except ray.exceptions.RayError as error:
        if (mistake := clusters.user_error(error)) is not None:
            raise mistake from None
        if isinstance(error, ray.exceptions.RayTaskError):
            raise
        reason = f"Its node or process was lost {counted(RETRIES + 1, 'time')} ({type(error).__name__})."
        reason = memory_message(error) or reason
        result = StackResult([failed_rows(grid, task.cell, task.seeds, reason) for task in job.tasks], [], {})
    for name, content in result.files.items():
        path = row_file.path.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    told = result.warnings
    for task, rows in zip(job.tasks, result.rows, strict=True):
        add_rows(grid, task, rows, row_file)
        tracker.finish(task, result_text(rows), rows[-1].get("seconds"), told)
        told = []


def _add_finished(
    ray: Any, grid: Grid, running: Mapping[Any, StackJob], stopped: Sequence[Any], row_file: RowFile, tracker: Any
) -> None:
    """Write the rows of jobs that finished before they were stopped."""
    for finished in stopped:
        try:
            ray.get(finished)
        except ray.exceptions.RayError:
            continue
        _add_result(ray, grid, running[finished], finished, row_file, tracker)


@contextmanager
def _token_beside(row_path: Path) -> Iterator[str]:
    """Keep a file with a new name beside the file of rows while the block runs; yield the name."""
    token = f".{row_path.stem}.{uuid.uuid4().hex}.lock"
    path = row_path.with_name(token)
    path.touch()
    try:
        yield token
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _place_of(job: StackJob) -> Iterator[Path]:
    """Yield the path of the file of rows if the node sees its folder, else one in a temporary folder."""
    row_path = Path(job.row_path)
    if row_path.with_name(job.token).exists():
        yield row_path
        return
    with tempfile.TemporaryDirectory(prefix="ssgan-") as folder:
        yield Path(folder) / row_path.name


def _read_files(folder: Path) -> dict[str, bytes]:
    """Read all files below a folder, by their path in it."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != runs.LOCK_NAME)
    return {path.relative_to(folder).as_posix(): read_file(path) for path in paths}


def _wait_for_lost_process(grid: Grid, task: StackTask, row_path: Path) -> None:
    """Wait while another process trains in the run folder: one of a lost node may take a while to end."""
    if task.cell.classical or task.cell.config is None:
        return
    folder, until = run_folder(grid, task.config, row_path), time.monotonic() + LOCK_SECONDS
    while folder.is_dir() and time.monotonic() < until:
        try:
            with runs.lock_run(folder):
                return
        except Busy:
            time.sleep(0.2)
