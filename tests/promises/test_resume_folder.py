"""A run folder that is trained in several sessions: pauses, checkpoints and labels."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from resumed_runs import UNFINISHED_RUN_FILES, differences, left_by, read_log, without_clock
from running import contents
from small_configs import tiny
from small_trainings import labeled_splits

from ssgan import runs
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.errors import UserError
from ssgan.training import callbacks
from ssgan.training.experiment import Paused, run_experiment
from ssgan.training.monitor import TrainingProgress
from ssgan.training.trainer import train


def test_run_paused_at_every_report_equals_an_uninterrupted_run(few_digits: Data, tmp_path: Path) -> None:
    config = tiny(seeds=2, evaluate_every_images=200)
    whole, paused = (runs.create_run_folder(tmp_path / name, "digits", config) for name in ("whole", "paused"))
    given = run_experiment(few_digits, config, whole)
    sessions = []
    for step in (5, 10, 15):
        with pytest.raises(Paused, match=f"^{paused} has {step} of 20 steps.$"):
            run_experiment(few_digits, config, paused, pause_after_seconds=0)
        assert {path.name for path in paused.iterdir()} == UNFINISHED_RUN_FILES
        state = runs.load_checkpoint(paused / "checkpoint")
        assert (state["steps_done"], [line["step"] for line in read_log(paused)][-1]) == (step, step)
        sessions.append(state["seconds"])
    assert 0 < sessions[0] < sessions[1] < sessions[2]
    report = run_experiment(few_digits, config, paused, pause_after_seconds=0)
    assert report == runs.read_report(paused)
    assert report["seconds"] > sessions[2]
    assert report["errors"] == given["errors"]
    assert differences(left_by(paused), left_by(whole)) == []


@pytest.fixture
def ten_seconds_each(monkeypatch: pytest.MonkeyPatch) -> Callable[[TrainingProgress], None]:
    """A report callback with a fake clock: ten seconds pass between reports, and nothing else takes time."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def on_report(report: TrainingProgress) -> None:
        clock.now += 10.0

    return on_report


def test_pause_comes_after_the_given_seconds_in_each_session(
    few_digits: Data, tmp_path: Path, ten_seconds_each: Callable[[TrainingProgress], None]
) -> None:
    config = tiny(report_every_images=40, checkpoint_every_seconds=0.0)
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    for step in (6, 12, 18):
        with pytest.raises(Paused):
            run_experiment(few_digits, config, folder, ten_seconds_each, pause_after_seconds=25)
        assert runs.load_checkpoint(folder / "checkpoint")["steps_done"] == step
    run_experiment(few_digits, config, folder, ten_seconds_each, pause_after_seconds=25)
    assert runs.load_checkpoint(folder / "checkpoint")["steps_done"] == 20


@pytest.mark.parametrize(
    ("every", "steps"),
    [(0.0, list(range(2, 21, 2))), (1000.0, [20]), (25.0, [6, 12, 18, 20]), (30.0, [6, 12, 18, 20])],
    ids=["at every report", "only at the end", "every 25 s", "every 30 s"],
)
def test_checkpoints_keep_the_configured_interval(
    few_digits: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ten_seconds_each: Callable[[TrainingProgress], None],
    every: float,
    steps: list[int],
) -> None:
    written, save = [], runs.save_checkpoint

    def saving(path: Path, state: dict[str, Any]) -> None:
        # A run killed here may have an extra line, which is cut off, but never a missing one.
        assert read_log(path.parent)[-1]["step"] == state["steps_done"]
        written.append(state["steps_done"])
        save(path, state)

    monkeypatch.setattr(runs, "save_checkpoint", saving)
    config = tiny(report_every_images=40, checkpoint_every_seconds=every)
    run_experiment(few_digits, config, runs.create_run_folder(tmp_path / "run", "digits", config), ten_seconds_each)
    assert written == steps


def test_labels_are_not_drawn_again_on_resume(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(seeds=2)
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    with pytest.raises(Paused):
        run_experiment(few_digits, config, folder, pause_after_seconds=0)
    before = (folder / "split.json").read_bytes()

    def draw(*_: Any) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(splits, "draw", draw)
    report = run_experiment(few_digits, config, folder)
    assert (folder / "split.json").read_bytes() == before
    assert [row["split_sha256"] for row in report["rows"]] == [s.sha256 for s in splits.load(folder / "split.json")]
    with pytest.raises(AssertionError, match="drawn again"):
        run_experiment(few_digits, config, runs.create_run_folder(tmp_path / "new", "digits", config))


def test_training_uses_the_saved_labels(few_digits: Data, tmp_path: Path) -> None:
    """A run killed before its first checkpoint starts again with the labelled images that its folder names."""
    config = tiny()
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    rows = splits.draw(few_digits.y_train, 20, 99)
    splits.save(folder / "split.json", [splits.Split(rows, few_digits.y_train[rows])], [0])
    run_experiment(few_digits, config, folder)
    theirs = train(few_digits, config, labeled_splits(few_digits, config, rows)).state()
    assert (
        differences(
            without_clock(runs.load_checkpoint(folder / "checkpoint")), {"format_version": 2, **without_clock(theirs)}
        )
        == []
    )


# A folder without a run


LEFT = {
    "nothing": [],
    "a lock": [".lock"],
    "a partial configuration": [".config.json.part"],
    "both": [".lock", ".config.json.part"],
}


@pytest.mark.parametrize("names", LEFT.values(), ids=LEFT)
def test_create_run_folder_accepts_a_folder_without_a_run(tmp_path: Path, names: list[str]) -> None:
    """Made by the user, or by a process that was killed before it had written the configuration."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in names:
        (folder / name).write_text('{"labels"')
    assert runs.create_run_folder(folder, "digits", tiny()) == folder
    assert runs.read_config(folder) == tiny()
    assert [path.name for path in folder.iterdir() if path.suffix != ".lock"] in (
        ["config.json"],
        ["config.json", ".lock"],
    )
    with pytest.raises(UserError, match="exists already"):
        runs.create_run_folder(folder, "digits", tiny())


@pytest.mark.parametrize("name", ["config.json", "notes", ".hidden", "labels.csv", "deeper/"])
def test_create_run_folder_refuses_a_folder_with_other_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "run" / name).mkdir(parents=True) if name.endswith("/") else (tmp_path / "run").mkdir()
    if not name.endswith("/"):
        (tmp_path / "run" / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(UserError, match="exists already: choose another folder with --out, or resume"):
        runs.create_run_folder(tmp_path / "run", "digits", tiny())
    assert contents(tmp_path) == before


def test_two_processes_do_not_take_the_same_free_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process finds the folder free, but the first one creates its run before the second does."""
    (tmp_path / "run").mkdir()
    look, answers = runs._is_free, iter([True])
    monkeypatch.setattr(runs, "_is_free", lambda folder: next(answers, None) or look(folder))
    (tmp_path / "run" / "config.json").write_text("of the first")
    with pytest.raises(UserError, match="exists already"):
        runs.create_run_folder(tmp_path / "run", "digits", tiny())
    assert (tmp_path / "run" / "config.json").read_text() == "of the first"
