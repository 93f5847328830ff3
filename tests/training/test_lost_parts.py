"""A training that reached its last step writes its report, even if other outputs fail."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import RUN_FILES, status_of
from small_configs import tiny

from ssgan import files, runs
from ssgan.cli import output
from ssgan.data.dataset import Data
from ssgan.figures import curves
from ssgan.inference.models import Models
from ssgan.training import callbacks, experiment, folds
from ssgan.training.experiment import run_experiment
from ssgan.training.parts import FailedParts

pytestmark = pytest.mark.failing_parts


def fail(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("division by zero")


def full(*_: Any, **__: Any) -> Any:
    raise OSError(28, os.strerror(28), "a disk")


CONFIG = {"total_images": 60, "frames_every_images": 20, "evaluate_every_images": 20, "report_every_images": 20}
# The failing function, the name of the part, and the entries of the report that are then null.
PARTS: dict[str, tuple[Any, str, str, list[str], Callable[..., Any]]] = {
    "curves": (curves, "curves_png", "curves.png", [], full),
    "labeled images": (experiment, "_draw_labeled", "labeled.png", [], full),
    "samples": (experiment, "_draw_samples", "samples.png", [], fail),
    "model card": (experiment, "model_card", "README.md", [], fail),
    "diversity": (experiment, "measure_diversity", "diversity of generated images", ["diversity"], fail),
    "frames": (callbacks.Frames, "write", "frames", [], full),
    "old frames": (callbacks.Frames, "rewind", "frames", [], fail),
    "log": (callbacks.Log, "on_report", "log.jsonl", [], full),
    "test scores": (Models, "scores", "test scores", ["error_mean", "accuracy_mean"], fail),
}


@pytest.mark.parametrize(("owner", "name", "part", "empty", "failure"), PARTS.values(), ids=PARTS)
def test_failed_part_is_reported_and_its_entries_are_null(
    few_digits: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    owner: Any,
    name: str,
    part: str,
    empty: list[str],
    failure: Callable[..., Any],
) -> None:
    folder = runs.create_run_folder(tmp_path / "run", "digits", tiny(**CONFIG))
    monkeypatch.setattr(owner, name, failure)
    report = run_experiment(few_digits, tiny(**CONFIG), folder)
    reason = {fail: "ZeroDivisionError: division by zero", full: "No space left on device: a disk"}[failure]
    assert report["failed_parts"][part] == reason
    assert f"Failed, and left out: {part} ({reason})." in report["warnings"]
    assert [report[place] for place in empty] == [None] * len(empty)
    assert runs.read_report(folder) == report
    assert runs.load_checkpoint(folder / "checkpoint")["steps_done"] == 3
    output.show_report(report)
    assert part in capsys.readouterr().out


def test_failed_part_is_a_warning_in_the_next_report(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs.create_run_folder(tmp_path / "run", "digits", tiny(**CONFIG))
    monkeypatch.setattr(callbacks.Frames, "write", fail)
    warnings: list[list[str]] = []
    run_experiment(few_digits, tiny(**CONFIG), folder, lambda progress: warnings.append(progress.warnings))
    line = "Failed, and left out: frames (ZeroDivisionError: division by zero)."
    assert warnings == [[], [line], []]


def test_successful_run_has_no_failed_parts(few_digits: Data, tmp_path: Path) -> None:
    folder = runs.create_run_folder(tmp_path / "run", "digits", tiny(**CONFIG))
    report = run_experiment(few_digits, tiny(**CONFIG), folder)
    assert "failed_parts" not in report
    assert {path.name for path in folder.iterdir()} >= RUN_FILES


def test_a_checkpoint_that_cannot_be_written_ends_the_training(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs.create_run_folder(tmp_path / "run", "digits", tiny(**CONFIG))
    monkeypatch.setattr(runs, "save_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        run_experiment(few_digits, tiny(**CONFIG), folder)


def test_nonfinite_numbers_become_null_and_are_reported() -> None:
    parts = FailedParts()
    content = {"a": [1.0, float("nan")], "b": {"c": float("inf"), "d": None}, "e": ("x", 2)}
    assert parts.replace_nonfinite(content) == {"a": [1.0, None], "b": {"c": None, "d": None}, "e": ["x", 2]}
    assert parts.reasons == {"a[1]": "nan is not a finite number", "b.c": "inf is not a finite number"}


@pytest.mark.parametrize("failing", ["_write", "confusion"])
def test_training_continues_if_folds_cannot_be_scored(
    monkeypatch: pytest.MonkeyPatch, in_an_empty_folder: None, capsys: pytest.CaptureFixture[str], failing: str
) -> None:
    monkeypatch.setattr(folds, failing, full)
    options = ["--labels", "20", "--folds", "2", "--device", "cpu", "--out", "run", "--set", "total_images=400"]
    assert status_of("train", "digits", *options) == 0
    report = json.loads(Path("run/report.json").read_text())
    part = {"_write": "folds/predictions.csv", "confusion": "scores of the folds"}[failing]
    assert report["failed_parts"] == {part: "No space left on device: a disk"}
    assert (report["folds"] is None) == (failing == "confusion")
    assert part in capsys.readouterr().out


def test_log_keeps_its_whole_lines_if_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.append_rows(tmp_path / "log.jsonl", [{"step": 1, "images": 1}])
    before = (tmp_path / "log.jsonl").read_bytes()
    write = files.open_file

    class Short:
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __enter__(self) -> "Short":
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

        def write(self, content: bytes) -> None:
            self.stream.write(content[: len(content) // 2])
            full()

    with monkeypatch.context() as patch:
        patch.setattr(files, "open_file", lambda path, *how, **more: Short(write(path, *how, **more)))
        with pytest.raises(OSError, match="No space left"):
            runs.append_rows(tmp_path / "log.jsonl", [{"step": 2, "images": 2}])
    assert (tmp_path / "log.jsonl").read_bytes() == before


# Constant images


@pytest.mark.parametrize(
    ("method", "levels"), [("gan", (100, 100)), ("gan", (0, 255)), ("vat", (0, 0)), ("fixmatch", (100, 100))]
)
def test_training_on_constant_images_reaches_the_report(
    in_an_empty_folder: None, method: str, levels: tuple[int, int]
) -> None:
    """Two classes of constant images: their spread, which is a divisor, is 0."""
    y = np.arange(12) % 2
    x = np.full((12, 8, 8), 0, np.uint8) + np.array(levels, np.uint8)[y][:, None, None]
    np.savez("same.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    settings = ["total_images=40", "batch_size=4", "init_images=4", "augmentation=digits"]
    options = [word for setting in settings for word in ("--set", setting)]
    options += ["--preset", "vectors", "--method", method, "--labels", "4", "--device", "cpu", "--out", "run"]
    for more in ([], ["--resume"]):
        assert status_of("train", "same.npz", *options, *more) == 0
    report = runs.read_report(Path("run"))
    assert "failed_parts" not in report
    if method == "gan" and levels[0] == levels[1]:
        assert report["diversity"]["spread"] is None
        assert report["diversity"]["real"]["spread"] is None
    for command in (["evaluate", "run"], ["predict", "run", "same.npz"], ["data", "run"]):
        assert status_of(*command) == 0
    if method == "gan":
        assert status_of("sample", "run", "--nearest") == 0
