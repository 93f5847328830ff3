"""`ssgan compare`: dry runs, output, and user errors."""

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import grid_of, rows, run
from running import contents, last_object, status_of

from ssgan import result_rows
from ssgan.cli import progress, terminal
from ssgan.compare import grid as grids
from ssgan.compare import runner
from ssgan.compare.progress import ConcurrentTracker, ProgressTracker, StackTask
from ssgan.data.dataset import Data
from ssgan.errors import Busy
from ssgan.training import experiment, timing
from ssgan.training.timing import StepProgress

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


# Dry runs and output


def test_a_dry_run_shows_what_is_finished_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trainings: list[Any]
) -> None:
    options = ["--labels", "20,30", "--methods", "gan,knn", "--dry-run"]
    assert run(*options) == 0
    assert contents(tmp_path) == {}
    assert run("--labels", "20", "--methods", "gan", "--seeds", "2") == 0
    before = contents(tmp_path)
    capsys.readouterr()
    count = len(trainings)
    assert run(*options, "--json") == 0
    answer = last_object(capsys.readouterr().out)
    assert [(c["labels"], c["method"], c["models"], c["finished"]) for c in answer["cells"]] == [
        (20, "gan", 5, 2),
        (20, "knn", 5, 0),
        (30, "gan", 5, 0),
        (30, "knn", 5, 0),
    ]
    assert run(*options) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "digits: 4 cells of 5 seeds, preset digits-fast, into rows.jsonl"
    assert said[2].split() == ["20", "gan", "5", "2"]
    assert contents(tmp_path) == before
    assert len(trainings) == count


def test_json_output_is_one_line_that_summarises_the_cells(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--labels", "20", "--methods", "gan,knn", "--seeds", "2", "--draw-seed", "1", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    answer = json.loads(line)
    assert (answer["dataset"], answer["preset"], answer["seeds"]) == ("digits", "digits-fast", [0, 1])
    assert answer["trained"] == 4  # models, two of each method
    assert shlex.split(answer["report"])[:3] == ["ssgan", "report", "rows.jsonl"]
    found = {cell["method"]: cell for cell in answer["cells"]}
    assert found.keys() == {"gan", "gan (ensemble)", "knn"}
    errors = [row["error"] for row in rows() if row["method"] == "gan"]
    assert found["gan"]["errors"] == errors
    assert found["gan"]["error_mean"] == pytest.approx(np.mean(errors))
    assert found["gan"]["error_std"] == pytest.approx(np.std(errors, ddof=1))
    assert found["gan (ensemble)"]["members"] == 2


def test_models_that_were_trained_in_parts_have_no_ensemble(capsys: pytest.CaptureFixture[str]) -> None:
    """An ensemble of some models would be shown next to the mean of all."""
    options = ["--labels", "20", "--methods", "gan", "--draw-seed", "1", "--json"]
    for seeds, members in ((2, 2), (3, None), (2, 2)):
        assert run(*options, "--seeds", str(seeds)) == 0
        found = {cell["method"]: cell for cell in json.loads(capsys.readouterr().out)["cells"]}
        assert found["gan"]["n"] == seeds
        assert found.get("gan (ensemble)", {"members": None})["members"] == members


def test_a_link_to_the_rows_has_the_same_lock(tmp_path: Path) -> None:
    path, link = tmp_path / "rows.jsonl", tmp_path / "link.jsonl"
    path.touch()
    link.symlink_to(path)
    with result_rows.open_row_file(path), pytest.raises(Busy, match="is writing"), result_rows.open_row_file(link):
        pass


def test_the_summary_fits_into_80_columns(
    shared: tuple[grids.Grid, Path, list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    from ssgan.cli import compare

    grid, _, found = shared
    compare.show_comparison(runner.summary(grid, found), "digits")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + 9
    assert max(map(len, lines)) <= 80


def test_time_left_covers_the_whole_grid(few_digits: Data) -> None:
    """From measured times: 2 models of 400 images in 10 s, then 3 s for a fit; unmeasured tasks are counted."""
    grid = grid_of(few_digits, "gan,supervised,knn", labels=[20, 30])
    tasks = runner.plan(grid, [])
    reported: list[Any] = []
    tracker = ProgressTracker(tasks, reported.append)
    assert [task.work for task in tasks] == [800, 800, 1, 1] * 2
    tracker.begin()
    assert (reported[-1].seconds_left, reported[-1].untimed) == (None, 8)
    report = type("Report", (), {"step": 5, "steps": 20, "seconds_left": 6.0, "images_per_second": 1, "warnings": []})
    tracker.follow(report)  # type: ignore[arg-type]
    assert reported[-1].seconds_left == pytest.approx(6 + 3 * 8)
    assert reported[-1].untimed == 4  # the fits
    report.step, report.seconds_left = 20, 0.0  # type: ignore[attr-defined]
    tracker.follow(report)  # type: ignore[arg-type]
    assert reported[-1].seconds_left == pytest.approx(3 * 8)
    tracker.end("done", 10.0)
    assert reported[-1].seconds_left == pytest.approx(30)
    tracker.begin()
    tracker.end("done", 20.0)
    assert reported[-1].seconds_left == pytest.approx(10 + 20)
    tracker.begin()
    tracker.end("done", 3.0)
    assert reported[-1].seconds_left == pytest.approx(3 + 30 + 6)
    assert reported[-1].untimed == 0


def test_time_left_of_concurrent_trainings(few_digits: Data) -> None:
    """They end in any order; the remaining time is divided by the number of concurrent trainings."""
    tasks = runner.plan(grid_of(few_digits, "gan,supervised", labels=[20, 30]), [])
    reported: list[Any] = []
    tracker = ConcurrentTracker(tasks, reported.append, places=2)
    tracker.begin()
    assert reported[-1][:5] == (1, 4, "2 trainings at once", 0.0, None)
    tracker.finish(tasks[1], "done", 10.0, ["a warning"])
    assert reported[-2][:2] == (1, 4)
    assert reported[-2].description == tasks[1].description
    assert (reported[-2].result, reported[-2].warnings, reported[-2].seconds_left) == (
        "done",
        ["a warning"],
        pytest.approx(15),
    )
    assert reported[-1][:5] == (2, 4, "2 trainings at once", 0.0, pytest.approx(15))
    for task in (tasks[3], tasks[0], tasks[2]):
        tracker.finish(task, "done", 10.0)
    assert [progress.number for progress in reported if progress.result] == [1, 2, 3, 4]
    assert (reported[-1].seconds_left, reported[-1].share) == (0, 1.0)
    assert [p.description for p in reported if "at once" in p.description][-1] == "1 training at once"


def test_each_method_is_timed_before_the_grid(few_digits: Data) -> None:
    """Once for all numbers of labels; 2 models take 8 s with the GAN, 4 s supervised, and fits have no known time."""
    tasks = runner.plan(grid_of(few_digits, "gan,supervised,knn", labels=[20, 30]), [])
    reported: list[Any] = []
    tracker = ProgressTracker(tasks, reported.append)
    timed: list[str] = []

    def time_task(task: StackTask) -> float:
        timed.append(task.cell.name)
        return {"gan": 8.0, "supervised": 4.0}[task.cell.name]

    tracker.measure(time_task)
    assert timed == ["gan", "supervised"]
    tracker.begin()
    assert reported[-1].seconds_left == pytest.approx(2 * 8 + 2 * 4)
    assert reported[-1].untimed == 4
    step = StepProgress(5, 20, 100, 10.0, 9.0)
    tracker.follow_step(step)  # the current training gives a better estimate: 12 s in total
    assert reported[-1].seconds_left == pytest.approx(9 + 12 + 2 * 4)
    tracker.follow_step(step._replace(images_per_second=None, seconds_left=None))
    assert reported[-1].share == 0.25


def test_single_training_is_not_timed_in_advance(few_digits: Data) -> None:
    tasks = runner.plan(grid_of(few_digits, "gan,knn", labels=[20]), [])
    tracker = ProgressTracker(tasks, lambda _: None)
    tracker.measure(lambda _: pytest.fail("its own first steps tell"))
    assert tracker.expected == {}


def test_timing_does_not_change_the_rows(few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = grid_of(few_digits, "gan,supervised", labels=[20])
    measured = ("seconds", "images_per_second")
    found = []
    for name, on_progress in (("alone", None), ("timed", lambda _: None)):
        monkeypatch.setattr(timing, "SECONDS_TO_MEASURE", 0.0)
        with result_rows.open_row_file(tmp_path / f"{name}.jsonl") as row_file:
            runner.compare(grid, row_file, on_progress)
            found.append([{k: v for k, v in row.items() if k not in measured} for row in row_file.rows])
    for row in [row for each in found for row in each]:
        row.pop("run", None)
        row.pop("samples", None)
    assert found[0] == found[1]


def test_progress_is_shown_with_and_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    from rich.console import Console

    from ssgan.compare.progress import ComparisonProgress

    for is_terminal in (False, True):
        text = StringIO()
        console = Console(file=text, force_terminal=is_terminal, width=80)
        monkeypatch.setattr(terminal, "err", console)
        with progress.comparison_progress() as shown:
            shown.on_progress(ComparisonProgress(1, 3, "gan, 20 labels", 0.5, 3725.0))
            shown.on_progress(ComparisonProgress(1, 3, "gan, 20 labels", 1.0, 60.0, "error 5.00 %"))
        assert "1/3  gan, 20 labels: error 5.00 %" in text.getvalue()
        assert ("1 of 3, 1:00 left" in text.getvalue()) == is_terminal
        assert ("error 5.00 %, 1:00 left" in text.getvalue()) != is_terminal


def test_interrupt_message_explains_how_to_continue(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "train", interrupt)
    assert run("--labels", "20", "--methods", "gan", "--seeds", "1") == 130
    assert "rows.jsonl holds what is finished; the same command continues from there." in capsys.readouterr().err


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--methods", "gan,knnn"], "Did you mean 'knn'?"),
        (["--methods", "superviced"], "Unknown method 'superviced': choose from gan, supervised"),
        (["--methods", "gan,gan"], "--methods names gan twice: name each once."),
        (["--methods", "gan,"], "Unknown method ''"),
        (
            ["--labels", "20,many"],
            "--labels is 20,many, but must be comma-separated numbers above 0, or 'all': 20,50,100.",
        ),
        (["--labels", "20,al"], "Did you mean 'all'?"),
        (["--labels", "20,"], "--labels is 20,, but must be comma-separated numbers"),
        (
            ["--labels", "0"],
            "--labels is 0, but 0 is a GAN without classes, which has no error to compare: omit 0.",
        ),
        (["--labels", "-20"], "--labels is -20, but must be comma-separated numbers above 0"),
        (["--labels", "20,20"], "--labels names 20 twice: name each once."),
        (["--labels", "1257,all"], "--labels names 1257 twice, once as 'all'"),
        (
            ["--labels", "20,1258"],
            "The number of labels is 1258, but must lie between 10 (one for each class) and 1257",
        ),
        (["--labels", "9"], "The number of labels is 9, but must lie between 10"),
        (["--seeds", "0"], "seeds is 0, but must be an integer at least 1 and at most 4096."),
        (["--seeds", "x"], "seeds is 'x', but must be an integer"),
        (["--seed", "-1"], "seed is -1, but must be an integer at least 0"),
        (["--draw-seed", "x"], "draw_seed is 'x', but must be an integer"),
        (["--preset", "digit"], "Unknown preset 'digit'"),
        (["--epochs", "0"], "--epochs is 0, but must be a number above 0."),
        (["--epochs", "1", "--set", "total_images=100"], "total_images=100 and --epochs set the same length twice"),
        (["--set", "bach_size=3"], "Unknown setting 'bach_size'. Did you mean 'batch_size'?"),
        (["--set", "batch_size=1"], "batch_size is 1, but must be an integer at least 2."),
        (["--set", "labels=30"], "labels=30 cannot be set for a comparison: use --labels."),
        (["--set", "method=gan"], "method=gan cannot be set for a comparison: use --methods."),
        (["--set", "folds=3"], "folds=3 cannot be set for a comparison: its error is"),
        (["--set", "image_size=8"], "image_size=8 has no effect"),
        (["--set", "network=dcgan"], "Network dcgan accepts images of 17x17 to 64x64 pixels"),
        (["--methods", "supervised", "--set", "latent_size=3"], "latent_size=3 has no effect: it needs a method"),
        (["--methods", "knn", "--set", "batch_size=3"], "batch_size=3 has no effect: --methods names no network."),
        (["--methods", "knn", "--epochs", "3"], "--epochs 3 has no effect: --methods names no network."),
        (["--methods", "supervised", "--ablate"], "--ablate removes parts from gan, which --methods does not name."),
        (["--device", "cuda:77"], "There is no device 'cuda:77' here"),
        (["--out", "rows.json"], "--out is rows.json, but must end in .jsonl"),
        (
            ["--out", "none/rows.jsonl"],
            "--out is none/rows.jsonl, which lies in none, which is not a folder: choose another file.",
        ),
        (["--out", "folder.jsonl"], "--out is folder.jsonl, which is a folder: choose another file."),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], sentence: str, mistake: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    out = [] if "--out" in arguments else ["--out", "rows.jsonl"]
    labels = [] if "--labels" in arguments else ["--labels", "20"]
    assert sentence in mistake("compare", "digits", *out, *labels, *arguments)


def test_setting_without_effect_is_noted_beside_a_refused_method(capsys: pytest.CaptureFixture[str]) -> None:
    """It may have been meant for the method that is refused."""
    options = ["--preset", "digits", "--labels", "50", "--methods", "supervised,fixmatch", "--set", "latent_size=50"]
    assert status_of("compare", "digits", *options, "--out", "rows.jsonl", "--dry-run") == 0
    captured = capsys.readouterr()
    words = "latent_size=50 has no effect on the methods that can be trained."
    assert words in " ".join((captured.out + captured.err).split())


def test_a_file_that_cannot_be_written_is_refused(
    mistake: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert mistake("compare", "digits", "--out", "rows.jsonl") == (
        "--out is rows.jsonl, which lies in ., which cannot be written to: choose another file."
    )


def test_data_without_a_test_share_are_refused(few_digits: Data, tmp_path: Path, mistake: Callable[..., str]) -> None:
    np.savez(tmp_path / "few.npz", x_train=few_digits.x_train, y_train=few_digits.y_train)
    assert mistake("compare", "few.npz", "--out", "rows.jsonl", "--labels", "20") == (
        "few has no test images, so there is no error to compare."
    )


def test_refuses_row_file_in_the_picture_folder(tmp_path: Path, mistake: Callable[..., str]) -> None:
    (tmp_path / "photos").mkdir()
    assert mistake("compare", "photos", "--out", "photos/rows.jsonl").startswith("--out is photos/rows.jsonl, among")


def test_exits_with_status_2_if_no_training_gives_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--labels", "20", "--methods", "gan", "--seeds", "1", "--set=learning_rate_d=1e30") == 2
    said = capsys.readouterr()
    assert "gan, 20 labels: diverged with seed 0" in said.out
    assert said.err.splitlines()[-1] == "ssgan: No training gave a result: rows.jsonl says why."


def test_a_task_names_its_seeds(few_digits: Data) -> None:
    cell = grid_of(few_digits, "gan").cells[0]
    assert StackTask(cell, [3]).description == "gan, 20 labels, seed 3"
    assert StackTask(cell, [3, 4, 5]).description == "gan, 20 labels, seeds 3 to 5"
